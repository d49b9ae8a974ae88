"""Which images: ImageNet, or another folder a class, or CIFAR-10's batches, which stand in for it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from hyperverify.errors import HyperverifyError
from hyperverify.experiments.data.cifar import CLASSES, cifar10, has_batches
from hyperverify.experiments.data.files import SourceFile, require_folder
from hyperverify.experiments.data.folder import ImageFolder, image_folder

MEAN: Final = (0.485, 0.456, 0.406)
SPREAD: Final = (0.229, 0.224, 0.225)
"""Of ImageNet's pixels, channel by channel; all images are standardized by them."""

_IMAGENET: Final = 1_281_167, 50_000
"""Images to train on and to validate."""

_WHAT: Final = (
    "ImageNet, with train and val in it and a folder a class in each; or, to stand in for it, CIFAR-10's "
    "batches (data_batch_1.bin and so on)"
)
_READERS: Final = 8  # threads that unpack images

Pixels = NDArray[np.uint8]


class Source(Protocol):
    """Images that can be had by number."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Of all of them, shape (n,)."""
        ...

    def pixels(self, rows: Sequence[int], side: int) -> Tensor:
        """Bytes, shape (n, 3, side, side) or, if they are smaller, of their own size."""
        ...


@dataclass(frozen=True)
class Stored:
    """Images in memory: shape (n, 3, 32, 32)."""

    images: Pixels
    labels: NDArray[np.int64]

    def pixels(self, rows: Sequence[int], side: int) -> Tensor:
        del side
        return torch.as_tensor(self.images[np.asarray(rows)])


class Listed:
    """Images of a folder, unpacked when they are asked for, by several threads.

    Args:
        folder: which.
        places: numbers in it.
    """

    def __init__(self, folder: ImageFolder, places: NDArray[np.int64]) -> None:
        self.folder, self.places = folder, places
        self._pool: ThreadPoolExecutor | None = None
        self._kept: dict[tuple[int, int], Pixels] = {}

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.folder.labels[self.places]

    def pixels(self, rows: Sequence[int], side: int) -> Tensor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_READERS)
        found = self._pool.map(self._one, rows, [side] * len(rows))
        return torch.as_tensor(np.stack(list(found)))

    def _one(self, row: int, side: int) -> Pixels:
        if (row, side) in self._kept:
            return self._kept[row, side]
        image = self.folder.image(int(self.places[row]), side)[0]
        if side <= 64 and len(self._kept) < 20_000:  # at most a quarter of a gigabyte
            self._kept[row, side] = image
        return image

    def listing(self, name: str) -> SourceFile:
        """Known by the names and sizes of its files: a million contents are not read for that."""
        paths = [self.folder.paths[int(place)] for place in self.places]
        sizes = [path.stat().st_size for path in paths]
        lines = [
            f"{path.parent.name}/{path.name} {size}\n"
            for path, size in zip(paths, sizes, strict=True)
        ]
        digest = hashlib.sha256("".join(lines).encode()).hexdigest()
        title = f"{name}: names and sizes of {len(lines):,} images"
        return SourceFile(title, digest, sum(sizes), None)


@dataclass(frozen=True)
class Images:
    """What a run reads.

    Attributes:
        train, test: images and labels.
        classes: how many there are.
        imagenet: whether it is ImageNet.
        stand_in: whether it is CIFAR-10.
        files: what was read.
        description: in words; it says so where these are not ImageNet's images.
    """

    train: Source
    test: Source
    classes: int
    imagenet: bool
    stand_in: bool
    files: tuple[SourceFile, ...]
    description: str


def images_of(data: Path | None) -> Images:
    """The images of a folder.

    Raises:
        HyperverifyError: no folder is given, or it has none of the layouts, or a file is damaged.
    """
    if data is None:
        raise HyperverifyError(
            f"imagenet brings no images; allowed: --data DIR, the folder of {_WHAT}"
        )
    folder = require_folder(data, _WHAT)
    if has_batches(folder):
        return _cifar(folder)
    if not any(path.is_dir() for path in folder.iterdir()):
        raise HyperverifyError(f"--data {folder} has no images; allowed: the folder of {_WHAT}")
    return _folders(folder)


def _cifar(folder: Path) -> Images:
    found = cifar10(folder)
    train, labels = found.train_images, found.train_labels.astype(np.int64)
    test, test_labels = found.test_images, found.test_labels.astype(np.int64)
    kept = "the test batch to test"
    if not len(test):
        cut = len(train) - len(train) // 4
        train, test = train[:cut], train[cut:]
        labels, test_labels = labels[:cut], labels[cut:]
        kept = "the last quarter of the training images kept to test"
    description = (
        f"CIFAR-10's images, not ImageNet's: they stand in where ImageNet is not at hand. "
        f"{len(labels):,} to train, {kept} ({len(test_labels):,})"
    )
    return Images(
        Stored(train, labels),
        Stored(test, test_labels),
        CLASSES,
        imagenet=False,
        stand_in=True,
        files=found.files,
        description=description,
    )


def _folders(folder: Path) -> Images:
    train_folder, test_folder = folder / "train", folder / "val"
    if train_folder.is_dir() and test_folder.is_dir():
        train, test = image_folder(train_folder), image_folder(test_folder)
        if train.classes != test.classes:
            raise HyperverifyError(f"{test_folder} has other classes than {train_folder}")
        every = np.arange(len(train.paths)), np.arange(len(test.paths))
        how = "val to test"
    else:
        train = test = image_folder(folder)
        places = np.arange(len(train.paths))
        every = places[places % 5 != 4], places[places % 5 == 4]
        how = "every fifth image to test"
    known = len(train.classes) == 1000 and all(re.fullmatch(r"n\d{8}", c) for c in train.classes)
    imagenet = known and (len(every[0]), len(every[1])) == _IMAGENET
    name = "ImageNet" if imagenet else "a folder of images, not the whole of ImageNet"
    shown = (
        f"{name}: {len(train.classes):,} classes, {len(every[0]):,} images to train, {how} "
        f"({len(every[1]):,})"
    )
    parts = Listed(train, every[0]), Listed(test, every[1])
    return Images(
        *parts,
        classes=len(train.classes),
        imagenet=imagenet,
        stand_in=False,
        files=(parts[0].listing("train"), parts[1].listing("test")),
        description=shown,
    )


def standardized(pixels: Tensor, side: int, device: torch.device) -> Tensor:
    """Bytes as the net reads them: scaled to ``side`` if they have another, standardized.

    Args:
        pixels: shape (n, 3, height, width).
        side: of the result.
        device: where it goes.

    Returns:
        Shape (n, 3, side, side), float32, channels last in memory.
    """
    x = pixels.to(device, torch.float32).div_(255)
    if x.shape[2:] != (side, side):
        x = functional.interpolate(x, (side, side), mode="bilinear", align_corners=False)
    mean, spread = (x.new_tensor(v)[:, None, None] for v in (MEAN, SPREAD))
    return x.sub_(mean).div_(spread).contiguous(memory_format=torch.channels_last)


@contextmanager
def ahead(
    source: Source, side: int, batches: Sequence[Sequence[int]]
) -> Generator[Iterator[Tensor]]:
    """The batches' pixels in turn, each read while the one before is worked on."""
    if isinstance(source, Stored):
        yield (source.pixels(rows, side) for rows in batches)
        return
    with ThreadPoolExecutor(1) as pool:

        def all_of_them() -> Iterator[Tensor]:
            waiting = None
            for rows in batches:
                following = pool.submit(source.pixels, rows, side)
                if waiting is not None:
                    yield waiting.result()
                waiting = following
            if waiting is not None:
                yield waiting.result()

        yield all_of_them()
