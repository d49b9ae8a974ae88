"""CIFAR-10: the binary batches, or those for Python, whose pickles are read but never run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from hyperverify.errors import HyperverifyError
from hyperverify.experiments.data.files import SourceFile, find, read, require_folder
from hyperverify.experiments.data.opcodes import data_of

SHAPE: Final = (3, 32, 32)
RECORD: Final = 1 + 3 * 32 * 32
CLASSES: Final = 10
_TRAIN: Final = tuple(f"data_batch_{n}" for n in range(1, 6))
_TEST: Final = "test_batch"
_INSIDE: Final = ("cifar-10-batches-bin", "cifar-10-batches-py")
_FILES: Final = (
    "data_batch_1.bin to data_batch_5.bin and test_batch.bin, or data_batch_1 to data_batch_5 and "
    "test_batch (those for Python), each with or without .gz"
)


@dataclass(frozen=True)
class Pictures:
    """Images and labels.

    Attributes:
        train_images, test_images: shape (n, 3, 32, 32), bytes; no test images where the folder has
            no test batch.
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


def has_batches(folder: Path) -> bool:
    """Whether a folder has one of CIFAR-10's training batches."""
    return any(_find(folder, name) is not None for name in _TRAIN)


def cifar10(folder: str | Path) -> Pictures:
    """The images of a folder with CIFAR-10's batches, one training batch at least.

    Raises:
        HyperverifyError: no batch is there, or one is cut off or another file.
    """
    place = require_folder(Path(folder), f"CIFAR-10's batches, {_FILES}")
    train = [path for name in _TRAIN if (path := _find(place, name)) is not None]
    if not train:
        raise HyperverifyError(f"{place} has no data_batch_1.bin; allowed: {_FILES}")
    test = _find(place, _TEST)
    train_parts = [_batch(path) for path in train]
    test_parts = [] if test is None else [_batch(test)]
    files = tuple(source for *_, source in [*train_parts, *test_parts])
    images, labels = _joined(train_parts)
    test_images, test_labels = _joined(test_parts)
    return Pictures(
        images,
        labels,
        test_images,
        test_labels,
        files,
        f"CIFAR-10, {len(train)} of 5 training batches: {len(labels):,} training and "
        f"{len(test_labels):,} test images",
    )


_Batch = tuple[NDArray[np.uint8], NDArray[np.uint8], SourceFile]


def _find(folder: Path, name: str) -> Path | None:
    return find(folder, (f"{name}.bin", name), _INSIDE)


def _joined(parts: Sequence[_Batch]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    if not parts:
        return np.zeros((0, *SHAPE), np.uint8), np.zeros(0, np.uint8)
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _batch(path: Path) -> _Batch:
    contents, source = read(path)
    if ".bin" in path.suffixes:
        images, labels = _binary(contents, path)
    else:
        images, labels = _python(contents, path)
    if int(labels.max()) >= CLASSES:
        raise HyperverifyError(f"{path} holds the label {labels.max()}; allowed: 0 to 9")
    return images, labels, source


def _binary(contents: bytes, path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Records of one byte of label and 3072 of pixels, channel by channel."""
    if len(contents) % RECORD:
        allowed = f"a multiple of {RECORD}: a label and 3072 pixels an image"
        raise HyperverifyError(
            f"{path} has {len(contents)} bytes, cut off or another file; allowed: {allowed}"
        )
    table = np.frombuffer(contents, np.uint8).reshape(-1, RECORD)
    return table[:, 1:].reshape(-1, *SHAPE), table[:, 0]


def _python(contents: bytes, path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    value = data_of(contents, str(path))
    entries = cast("dict[Any, Any]", value) if isinstance(value, dict) else {}
    found = {_text(key): item for key, item in entries.items()}
    images, labels = found.get("data"), found.get("labels")
    if not isinstance(images, np.ndarray) or not isinstance(labels, list):
        raise HyperverifyError(f"{path} has no data and labels; allowed: a batch of CIFAR-10")
    pixels = cast("NDArray[np.uint8]", images)
    numbers = cast("Iterable[Any]", labels)
    if not all(type(label) is int and 0 <= label < CLASSES for label in numbers):
        raise HyperverifyError(f"{path} holds labels of another kind; allowed: 0 to 9")
    digits = np.array(labels, dtype=np.uint8)
    if pixels.shape != (len(digits), RECORD - 1) or not len(digits):
        allowed = f"({len(digits)}, 3072), an image a label"
        raise HyperverifyError(f"{path} holds data of shape {pixels.shape}; allowed: {allowed}")
    return pixels.reshape(-1, *SHAPE), digits


def _text(key: str | bytes) -> str:
    return key.decode("latin-1") if isinstance(key, bytes) else key
