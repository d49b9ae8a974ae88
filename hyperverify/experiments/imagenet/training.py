"""One arm from its first step to its last: every batch's loss, tests by Monte Carlo, checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final, cast

import numpy as np
import torch
from torch import Tensor

from hyperverify.experiments.arrays import Arrays
from hyperverify.experiments.checkpoint import Checkpoint
from hyperverify.experiments.imagenet.arms import EMBEDDING, SAMPLES, Arm
from hyperverify.experiments.imagenet.hypernet import Hypernet
from hyperverify.experiments.imagenet.images import Images, ahead, standardized
from hyperverify.experiments.imagenet.net import mobilenet
from hyperverify.experiments.imagenet.start import Drawer, batch_noise, generator_of

LARGE: Final = 64
"""Side of images from which on a training is one for a GPU, and checkpoints are rare."""

_SELDOM: Final = 900.0  # seconds between two checkpoints of half a gigabyte
_OFTEN: Final = 5  # iterations between two words on how far it is


@dataclass(frozen=True)
class Scale:
    """How large a training is.

    Attributes:
        width: multiplier of MobileNet's channels.
        side: of the images.
        batch: images in a batch.
        iterations: batches in all; None for ``epochs``.
        epochs: passes over the training images.
        every: batches between two tests; None for an epoch.
        train, test: at most so many images; None for all.
        samples: nets drawn at a test.
    """

    width: float = 1.0
    side: int = 224
    batch: int = 256
    iterations: int | None = None
    epochs: int = 25
    every: int | None = None
    train: int | None = None
    test: int | None = None
    samples: int = SAMPLES

    def per_epoch(self, images: int) -> int:
        """Batches in an epoch, whole ones."""
        return _most(images, self.train) // self.batch

    def total(self, images: int) -> int:
        """Batches in all."""
        if self.iterations is not None:
            return self.iterations
        return self.epochs * self.per_epoch(images)

    def tests(self, images: int) -> list[int]:
        """Batches trained on before each test, the first and the last among them."""
        total = self.total(images)
        step = self.every or max(1, self.per_epoch(images))
        return sorted({*range(0, total + 1, step), total})


def _most(count: int, limit: int | None) -> int:
    return count if limit is None else min(count, limit)


@dataclass(frozen=True)
class Trained:
    """An arm's training.

    Attributes:
        arrays: ``train_loss`` (iterations,), each batch's mean cross entropy; ``tested`` (tests,), batches
            before each test; ``test_loss``, ``test_accuracy`` (tests,). NaN where it does not come to.
        diverged: the batch whose loss was not finite; None if there was none.
    """

    arrays: Arrays
    diverged: int | None


def device_of(scale: Scale) -> torch.device:
    """A GPU for large images, where torch sees one."""
    large = scale.side >= LARGE and torch.cuda.is_available()
    return torch.device("cuda" if large else "cpu")


@contextmanager
def _reproducible() -> Generator[None]:
    """CuDNN with the same sums in the same order each time."""
    cudnn = torch.backends.cudnn
    with cudnn.flags(enabled=cudnn.enabled, benchmark=False, deterministic=True):
        yield


class _Session:
    """A training in progress."""

    def __init__(self, arm: Arm, images: Images, scale: Scale, root_seed: int) -> None:
        self.images, self.scale, self.root_seed = images, scale, root_seed
        self.device = device_of(scale)
        self.count = _most(len(images.train.labels), scale.train)
        self.tested = _most(len(images.test.labels), scale.test) // scale.batch * scale.batch
        self.total = scale.total(self.count)
        layers = mobilenet(scale.width, images.classes)
        self.net = Hypernet(Drawer(arm, layers, scale.side, root_seed), self.device)
        points = np.array(scale.tests(self.count), dtype=np.int64)
        self.places = {int(step): n for n, step in enumerate(points)}
        self.history: Arrays = {
            "train_loss": np.full(self.total, np.nan, dtype=np.float32),
            "tested": points,
            "test_loss": np.full(len(points), np.nan),
            "test_accuracy": np.full(len(points), np.nan),
        }
        self.step = 0
        self.diverged: int | None = None

    def _noise(self, *path: str | int) -> Tensor:
        layers = len(self.net.layers)
        return batch_noise(self.root_seed, layers, EMBEDDING, *path)[: self.net.count]

    def order(self, epoch: int) -> list[list[int]]:
        """The epoch's images, batch by batch; the same for all arms."""
        generator = generator_of(self.root_seed, "imagenet", "order", epoch)
        per_epoch = self.scale.per_epoch(self.count)
        batch = self.scale.batch
        chosen = torch.randperm(self.count, generator=generator)[: per_epoch * batch]
        return [[int(row) for row in rows] for rows in chosen.view(per_epoch, batch).numpy()]

    def test(self, place: int) -> None:
        """Loss and accuracy of the averaged probabilities, over whole batches of test images.

        Each Monte Carlo sample is one net, noise and all, for all the batches.
        """
        side, batch = self.scale.side, self.scale.batch
        drawn = [
            self.net.generate(self.net.features(self._noise("test", int(self.step), sample)))
            for sample in range(self.scale.samples)
        ]
        rows = [list(range(at, at + batch)) for at in range(0, self.tested, batch)]
        loss, right = 0.0, 0
        with ahead(self.images.test, side, rows) as pixels:
            for chosen, found in zip(rows, pixels, strict=True):
                x = standardized(found, side, self.device)
                wanted = torch.as_tensor(self.images.test.labels[chosen]).to(self.device)
                logs = [torch.log_softmax(self.net.logits(w, x), 1) for w in drawn]
                mean = torch.stack(logs).logsumexp(0) - math.log(len(drawn))
                loss -= float(mean.gather(1, wanted[:, None]).sum(dtype=torch.float64))
                right += int((mean.argmax(1) == wanted).sum())
        self.history["test_loss"][place] = loss / self.tested
        self.history["test_accuracy"][place] = right / self.tested

    def state(self) -> tuple[dict[str, Any], Arrays]:
        head = {"step": self.step, "diverged": self.diverged}
        arrays: Arrays = {f"net/{k}": v.cpu().numpy() for k, v in self.net.parameters.items()}
        return head, arrays | {f"history/{k}": v for k, v in self.history.items()}

    def restore(self, head: dict[str, Any], arrays: Arrays) -> None:
        self.step, self.diverged = cast(int, head["step"]), head["diverged"]
        for name, parameter in self.net.parameters.items():
            parameter.copy_(torch.as_tensor(arrays[f"net/{name}"]))
        for name in self.history:
            self.history[name] = arrays[f"history/{name}"]

    def run(self, save: Callable[[], None], tick: Callable[[int], None]) -> None:
        """To the last step. ``save`` may be called after any of them."""
        if self.step == 0:
            self.test(0)
        per_epoch = self.scale.per_epoch(self.count)
        while self.step < self.total:
            epoch, place = divmod(self.step, per_epoch)
            rows = self.order(epoch)[place : place + self.total - self.step]
            with ahead(self.images.train, self.scale.side, rows) as pixels:
                for chosen, found in zip(rows, pixels, strict=True):
                    x = standardized(found, self.scale.side, self.device)
                    labels = torch.as_tensor(self.images.train.labels[chosen]).to(self.device)
                    loss = float(self.net.step(x, labels, self._noise("train", self.step)))
                    self.history["train_loss"][self.step] = loss
                    self.step += 1
                    if not math.isfinite(loss):
                        self.diverged = self.step
                        return
                    if self.step in self.places:
                        self.test(self.places[self.step])
                    if self.step % _OFTEN == 0:
                        tick(self.step)
                    save()


def key_of(arm: Arm, scale: Scale, root_seed: int, images: Images) -> dict[str, Any]:
    """All that an arm's numbers depend on, but for the machine."""
    files = [source.sha256 for source in images.files]
    return {"arm": asdict(arm), "scale": asdict(scale), "seed": root_seed, "files": files}


def train(
    arm: Arm,
    images: Images,
    scale: Scale,
    root_seed: int,
    checkpoint: Checkpoint,
    tick: Callable[[int], None],
) -> Trained:
    """Train an arm, from its checkpoint on if there is one.

    Args:
        arm: who.
        images: what to train on and to test.
        scale: how long.
        root_seed: of the run.
        checkpoint: where it stands; the last one holds the finished training.
        tick: told the number of batches done, now and then.
    """
    session = _Session(arm, images, scale, root_seed)
    saved = checkpoint.load()
    if saved is not None:
        session.restore(*saved)
    tick(session.step)
    if session.device.type == "cuda":
        checkpoint.every = max(checkpoint.every, _SELDOM)

    def save() -> None:
        if checkpoint.due():
            checkpoint.save(*session.state())

    if saved is None or (session.step < session.total and session.diverged is None):
        with _reproducible():
            session.run(save, tick)
        checkpoint.save(*session.state())
    tick(session.total)
    return Trained(session.history, session.diverged)
