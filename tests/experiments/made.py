"""Data that the tests make: digits that can be learned, in the official formats."""

from __future__ import annotations

import gzip
import struct
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
