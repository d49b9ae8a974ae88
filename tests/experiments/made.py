"""Data that the tests make: images that can be learned, in the official formats."""

from __future__ import annotations

import gzip
import struct
from importlib import import_module
from pathlib import Path

import numpy as np


def idx(array: np.ndarray) -> bytes:
    head = b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def digits(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images with a bright bar whose place tells the label, and noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count)
    images = rng.integers(0, 60, (count, 28, 28))
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 4] += 150
    return images.astype(np.uint8), labels.astype(np.uint8)


def write_mnist(
    folder: Path, train: int = 400, test: int = 320, *, packed: bool = False, seed: int = 1
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, count, at in (("train", train, seed), ("t10k", test, seed + 1)):
        images, labels = digits(count, at)
        for what, array in ((f"{stem}-images-idx3", images), (f"{stem}-labels-idx1", labels)):
            contents = idx(array)
            name = f"{what}-ubyte"
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(contents))
            else:
                (folder / name).write_bytes(contents)
    return folder


def pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Colour images with a bright bar whose place tells the label, and noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count)
    images = rng.integers(0, 90, (count, 3, 32, 32))
    for image, label in zip(images, labels, strict=True):
        image[label % 3, 3 * label : 3 * label + 4] += 150
    return images.astype(np.uint8), labels.astype(np.uint8)


def write_cifar(folder: Path, train: int = 160, test: int = 64, *, seed: int = 1) -> Path:
    """CIFAR-10's binary batches; without a test batch for ``test=0``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count, at in (("data_batch_1", train, seed), ("test_batch", test, seed + 1)):
        if count:
            images, labels = pictures(count, at)
            rows = np.concatenate([labels[:, None], images.reshape(count, -1)], axis=1)
            (folder / f"{name}.bin").write_bytes(rows.tobytes())
    return folder


def write_folders(folder: Path, train: int = 48, test: int = 16, size: int = 40) -> Path:
    """Images of two classes, light and dark, in ImageNet's layout."""
    image = import_module("PIL.Image")
    rng = np.random.default_rng(7)
    for part, count in (("train", train), ("val", test)):
        for label, name in enumerate(("n00000001", "n00000002")):
            place = folder / part / name
            place.mkdir(parents=True)
            for n in range(count // 2):
                pixels = rng.integers(0, 120, (size, size + 10, 3)) + 120 * label
                image.fromarray(pixels.astype(np.uint8)).save(place / f"{n:03}.png")
    return folder
