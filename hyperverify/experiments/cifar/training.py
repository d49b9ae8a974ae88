"""One initialization at one learning rate, from its first step to its last: batches, tests, checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from hyperverify.experiments.arrays import Arrays
from hyperverify.experiments.checkpoint import Checkpoint
from hyperverify.experiments.cifar.arms import Arm, Form
from hyperverify.experiments.cifar.images import Split, standardized
from hyperverify.experiments.cifar.net import Net, generator_of, start

_TEST_BATCH: Final = 250
_FEWER: Final = 0.1  # what the rate is multiplied by


@dataclass(frozen=True)
class Scale:
    """How large a training is.

    Attributes:
        form: of the nets.
        epochs: passes over the training images.
        images: training images at most; None for all.
        tests: test images at most; None for all.
        batch: images in a batch.
        every: batches between two measurements.
        decays: epochs before which the learning rate is multiplied by 0.1.
    """

    form: Form = field(default_factory=Form)
    epochs: int = 500
    images: int | None = None
    tests: int | None = None
    batch: int = 100
    every: int = 500
    decays: tuple[int, ...] = (350, 450)

    def batches(self, images: int) -> int:
        """Batches in an epoch; what is left over by whole batches waits for the next."""
        return images // self.batch


@dataclass(frozen=True)
class Trained:
    """What came of a training.

    Attributes:
        history: see ``empty_history``.
        diverged: the batch after which the net was no longer finite; None if it stayed so.
    """

    history: Arrays
    diverged: int | None


def empty_history(scale: Scale, images: int) -> Arrays:
    """What training fills in, NaN where it does not come to; each of shape (points,).

    ``steps``: batches before the measurement; ``train_loss``, ``train_accuracy``: mean cross entropy and
    share that is right, over the batches since the last measurement (before training: over the
    training images); ``test_loss``: cross entropy summed over the test images; ``test_accuracy``.
    """
    total = scale.epochs * scale.batches(images)
    points = np.arange(0, total + 1, scale.every)
    if points[-1] != total:
        points = np.append(points, total)
    names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    empty = {name: np.full(len(points), np.nan) for name in names}
    return {"steps": points.astype(np.int64), **empty}


class Session:
    """A training in progress."""

    def __init__(
        self, arm: Arm, rate: float, split: Split, scale: Scale, root_seed: int, device: str
    ) -> None:
        self.rate, self.scale, self.root_seed = rate, scale, root_seed
        self.device = torch.device(device)
        if self.device.type == "cuda":  # the same numbers twice
            torch.backends.cudnn.deterministic = True
        self.split = Split(
            split.images.to(self.device),
            split.labels.to(self.device),
            split.tests.to(self.device),
            split.test_labels.to(self.device),
            split.described,
        )
        begin = start(arm, scale.form, root_seed, torch.float32)
        self.net = Net(scale.form, begin, self.device)
        self.per_epoch = scale.batches(len(split.labels))
        self.total = scale.epochs * self.per_epoch
        self.history = empty_history(scale, len(split.labels))
        self.places = {int(step): n for n, step in enumerate(self.history["steps"])}
        self.step, self.loss, self.right, self.seen = 0, 0.0, 0, 0
        self.diverged: int | None = None

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.step == self.total or self.diverged is not None

    def evaluate(self, images: Tensor, labels: Tensor) -> tuple[float, float]:
        """Summed cross entropy, and the share that is right."""
        loss, right = 0.0, 0
        with torch.no_grad():
            for at in range(0, len(labels), _TEST_BATCH):
                wanted = labels[at : at + _TEST_BATCH]
                logits = self.net.logits(standardized(images[at : at + _TEST_BATCH]))
                loss += float(F.cross_entropy(logits, wanted, reduction="sum"))
                right += int((logits.argmax(1) == wanted).sum())
        return loss, right / len(labels)

    def measure(self) -> None:
        """Losses and accuracies at this step."""
        place, split, history = self.places[self.step], self.split, self.history
        if self.step == 0:
            summed, share = self.evaluate(split.images, split.labels)
            loss = summed / len(split.labels)
        else:
            loss, share = self.loss / max(1, self.seen), self.right / max(1, self.seen)
        history["train_loss"][place], history["train_accuracy"][place] = loss, share
        summed, share = self.evaluate(split.tests, split.test_labels)
        history["test_loss"][place], history["test_accuracy"][place] = summed, share
        self.loss, self.right, self.seen = 0.0, 0, 0

    def order(self, epoch: int) -> Tensor:
        """The epoch's images, batch by batch; the same for all initializations and rates."""
        generator = generator_of(self.root_seed, "order", epoch)
        chosen = torch.randperm(len(self.split.labels), generator=generator)
        whole = chosen[: self.per_epoch * self.scale.batch]
        return whole.view(self.per_epoch, self.scale.batch).to(self.device)

    def run(self, save: Callable[[], None], tick: Callable[[int], None]) -> None:
        """To the last step, or to where the loss is no number. ``save`` is called after measurements."""
        if self.step == 0:
            self.measure()
            save()
        split, size = self.split, self.scale.batch
        for epoch in range(self.step // self.per_epoch, self.scale.epochs):
            order = self.order(epoch)
            rate = self.rate * _FEWER ** sum(epoch >= at for at in self.scale.decays)
            for place in range(self.step % self.per_epoch, self.per_epoch):
                rows = order[place]
                x = standardized(split.images.index_select(0, rows))
                loss, right = self.net.step(x, split.labels.index_select(0, rows), rate)
                if not bool(loss.isfinite()):
                    self.diverged = self.step
                    return
                self.loss += size * float(loss)
                self.right += int(right)
                self.seen += size
                self.step += 1
                if self.step in self.places:
                    if not self.net.finite():
                        self.diverged = self.step
                        return
                    self.measure()
                    save()
                tick(self.step)

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """For a checkpoint."""
        names = ("step", "loss", "right", "seen", "diverged")
        head = {name: getattr(self, name) for name in names}
        parameters = {
            f"parameter.{n}": p.detach().cpu().numpy() for n, p in enumerate(self.net.parameters)
        }
        return head, {**parameters, **{f"history/{k}": v for k, v in self.history.items()}}

    def restore(self, head: dict[str, Any], arrays: Arrays) -> None:
        """Go back to where a checkpoint was made."""
        for name, value in head.items():
            setattr(self, name, value)
        with torch.no_grad():
            for n, parameter in enumerate(self.net.parameters):
                parameter.copy_(torch.as_tensor(arrays[f"parameter.{n}"]))
        for name in self.history:
            self.history[name] = arrays[f"history/{name}"]


def key_of(
    arm: Arm, rate: float, scale: Scale, root_seed: int, device: str, files: list[str]
) -> dict[str, Any]:
    """All that a training's numbers depend on, but for the machine."""
    found = {"arm": asdict(arm), "rate": rate, "scale": asdict(scale), "seed": root_seed}
    return {**found, "device": device, "files": files}


def train(
    arm: Arm,
    rate: float,
    split: Split,
    scale: Scale,
    root_seed: int,
    device: str,
    checkpoint: Checkpoint,
    tick: Callable[[int], None],
) -> Trained:
    """Train an initialization, from its checkpoint on if there is one.

    Args:
        arm: who.
        rate: learning rate.
        split: the images.
        scale: how long.
        root_seed: of the run.
        device: to train on, as torch names it.
        checkpoint: where it stands; the last one holds the finished training.
        tick: told the number of batches done.
    """
    saved = checkpoint.load()
    session = Session(arm, rate, split, scale, root_seed, device)
    if saved is not None:
        session.restore(*saved)
    tick(session.step)

    def save() -> None:
        if checkpoint.due():
            checkpoint.save(*session.state())

    if saved is None or not session.finished:
        session.run(save, tick)
        checkpoint.save(*session.state())
    tick(session.total)
    return Trained(session.history, session.diverged)
