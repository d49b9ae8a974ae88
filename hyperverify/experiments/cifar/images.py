"""CIFAR-10's images as they are trained and tested on: split, and standardized a batch at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperverify.errors import HyperverifyError
from hyperverify.experiments.cifar.net import generator_of
from hyperverify.experiments.data.cifar import Pictures, cifar10

MEAN: Final = (0.4914, 0.4822, 0.4465)
SPREAD: Final = (0.2470, 0.2435, 0.2616)
"""Of the channels of CIFAR-10's 50,000 training images, as shares of 255."""

_HELD_OUT: Final = (
    5  # every fifth training image is a test image where the folder has no test batch
)


@dataclass(frozen=True)
class Split:
    """Images and labels on a device.

    Attributes:
        images, tests: shape (n, 3, 32, 32), bytes.
        labels, test_labels: shape (n,).
        described: how they were chosen, in words.
    """

    images: Tensor
    labels: Tensor
    tests: Tensor
    test_labels: Tensor
    described: str


def read(folder: Path | None) -> Pictures:
    """The pictures of a folder.

    Raises:
        HyperverifyError: none is named, or it has no batches of CIFAR-10.
    """
    if folder is None:
        raise HyperverifyError(
            "cifar needs --data DIR, the folder of CIFAR-10's official files: data_batch_1.bin to "
            "data_batch_5.bin and test_batch.bin, or those for Python, plain or gzipped "
            "(https://www.cs.toronto.edu/~kriz/cifar.html)"
        )
    return cifar10(folder)


def split(
    pictures: Pictures, most: int | None, tests: int | None, least: int, root_seed: int
) -> Split:
    """Which images are trained on, and which are tested on.

    Args:
        pictures: all that the folder has.
        most: training images, at most; None for all.
        tests: test images, at most; None for all.
        least: training images that are needed.
        root_seed: of the run. The images are drawn at random, the same for all initializations.

    Raises:
        HyperverifyError: there are too few.
    """
    order = _shuffled(len(pictures.train_labels), root_seed, "training images")
    if len(pictures.test_labels):
        held = _shuffled(len(pictures.test_labels), root_seed, "test images")
        images, labels = pictures.test_images, pictures.test_labels
        whence = "of the test batch"
    else:
        count = len(order) // _HELD_OUT
        held, order = order[:count], order[count:]
        images, labels = pictures.train_images, pictures.train_labels
        whence = "held out, since the folder has no test batch"
    order, held = order[:most], held[:tests]
    if len(order) < least or not len(held):
        raise HyperverifyError(
            f"the folder has {len(order)} images to train on and {len(held)} to test on; allowed: at "
            f"least {least} and 1"
        )
    return Split(
        torch.as_tensor(pictures.train_images[order]),
        torch.as_tensor(pictures.train_labels[order].astype(np.int64)),
        torch.as_tensor(images[held]),
        torch.as_tensor(labels[held].astype(np.int64)),
        f"{len(order):,} images to train on, {len(held):,} to test on ({whence})",
    )


def _shuffled(count: int, root_seed: int, what: str) -> NDArray[np.int64]:
    return torch.randperm(count, generator=generator_of(root_seed, what)).numpy()


def standardized(images: Tensor) -> Tensor:
    """Bytes as float32 of mean 0 and deviation 1 a channel, over CIFAR-10; shape as it was."""
    mean = torch.tensor(MEAN, device=images.device).view(3, 1, 1)
    spread = torch.tensor(SPREAD, device=images.device).view(3, 1, 1)
    return images.to(torch.float32).div_(255).sub_(mean).div_(spread)
