"""One arm from its first step to its last: epochs, measurements, checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from hyperverify.experiments.arrays import Arrays
from hyperverify.experiments.checkpoint import Checkpoint
from hyperverify.experiments.data.digits import HELD_OUT, Digits
from hyperverify.experiments.mnist.arms import BATCH, EMBEDDING, WIDTHS, Arm
from hyperverify.experiments.mnist.mainnet import Passes
from hyperverify.experiments.mnist.start import generator_of, start
from hyperverify.experiments.mnist.statistics import QUANTITIES, Observer, histograms, summaries
from hyperverify.experiments.mnist.weight_space import WeightSpace

MEAN, SPREAD = 0.1307, 0.3081
"""Of MNIST's pixels, which are standardized by them."""

_TEST_BATCH = 1000
STANDARDIZED, UNIT = "standardized", "unit"


@dataclass(frozen=True)
class Scale:
    """How large a training is.

    Attributes:
        epochs: passes over the training images.
        steps: at most so many batches in an epoch; None for all.
        every: batches between two measurements.
        widths: of the mainnet.
        embedding: size of the embeddings.
        batch: images in a batch.
        pixels: ``standardized``, or ``unit``: from 0 to 1.
    """

    epochs: int = 30
    steps: int | None = None
    every: int = 1000
    widths: tuple[int, ...] = WIDTHS
    embedding: int = EMBEDDING
    batch: int = BATCH
    pixels: str = STANDARDIZED

    def batches(self, images: int) -> int:
        """Batches in an epoch; what is left over by whole batches waits for the next."""
        whole = images // self.batch
        return whole if self.steps is None else min(whole, self.steps)


@dataclass(frozen=True)
class Trained:
    """An arm's training.

    Attributes:
        arrays: see :func:`empty_history`; ``before/...`` and ``after/...`` are histograms.
        diverged: the batch after which the net was first seen to be no longer finite; None if never.
    """

    arrays: Arrays
    diverged: int | None


def scaled(x: Tensor, pixels: str) -> Tensor:
    """Pixels 0 to 255 in place as (x/255 - 0.1307)/0.3081 (``standardized``) or as x/255 (``unit``)."""
    if pixels == UNIT:
        return x.mul_(1 / 255)
    return x.mul_(1 / (255 * SPREAD)).sub_(MEAN / SPREAD)


def _pixels(images: np.ndarray[Any, Any], dtype: torch.dtype, pixels: str) -> Tensor:
    """Images as floats, scaled; shape (n, 784)."""
    return scaled(torch.as_tensor(images.copy()).to(dtype), pixels)


def held_out(
    digits: Digits, root_seed: int, dtype: torch.dtype, pixels: str = STANDARDIZED
) -> tuple[Tensor, Tensor]:
    """300 test images drawn at random once and for all arms, scaled, and their labels."""
    generator = generator_of(root_seed, "mnist", "held out")
    chosen = torch.randperm(len(digits.test_labels), generator=generator)[:HELD_OUT].numpy()
    labels = torch.as_tensor(digits.test_labels[chosen].astype(np.int64))
    return _pixels(digits.test_images[chosen], dtype, pixels), labels[:, None]


def empty_history(scale: Scale, images: int) -> Arrays:
    """What training fills in; NaN where it does not come to.

    ``steps`` (points,): batches before each measurement; ``evolution/{quantity}`` (points, 3, layers):
    mean, standard deviation, second moment; ``train_loss`` (epochs,): mean cross entropy over the
    epoch's batches; ``test_loss``, ``test_accuracy`` (epochs + 1,): the sum of the cross entropy over the
    test images, and the share of them that is right, before training and after each epoch.
    """
    total = scale.epochs * scale.batches(images)
    points = np.arange(0, total + 1, scale.every)
    if points[-1] != total:
        points = np.append(points, total)
    layers = len(scale.widths) - 1
    found: Arrays = {"steps": points.astype(np.int64)}
    for name in QUANTITIES:
        count = layers - 1 if name in {"activations", "gradients"} else layers
        found[f"evolution/{name}"] = np.full((len(points), 3, count), np.nan)
    found["train_loss"] = np.full(scale.epochs, np.nan)
    found["test_loss"] = np.full(scale.epochs + 1, np.nan)
    found["test_accuracy"] = np.full(scale.epochs + 1, np.nan)
    return found


class _Session:
    """A training in progress."""

    def __init__(self, arm: Arm, digits: Digits, scale: Scale, root_seed: int) -> None:
        dtype = torch.float32
        self.arm, self.digits, self.scale, self.root_seed = arm, digits, scale, root_seed
        self.per_epoch = scale.batches(len(digits.train_labels))
        self.total = scale.epochs * self.per_epoch
        begin = start(arm, scale.widths, root_seed, dtype, scale.embedding)
        passes = Passes(scale.widths, arm.activation, scale.batch, dtype)
        self.net = WeightSpace(begin, passes, arm.rate)
        x, labels = held_out(digits, root_seed, dtype, scale.pixels)
        self.observer = Observer(scale.widths, arm.activation, x, labels)
        self.tester = Passes(scale.widths, arm.activation, _TEST_BATCH, dtype)
        self.history = empty_history(scale, len(digits.train_labels))
        self.places = {int(step): n for n, step in enumerate(self.history["steps"])}
        self.images = torch.as_tensor(digits.train_images.copy())
        self.labels = torch.as_tensor(digits.train_labels.astype(np.int64))[:, None]
        self.step, self.loss = 0, torch.zeros((), dtype=torch.float64)
        self.diverged: int | None = None

    def measure(self) -> None:
        """The statistics at this step, if it is one of theirs; a net that is not finite ends here."""
        place = self.places[self.step]
        self.observer.look(self.net.weights, self.net.biases)
        for name, rows in summaries(self.observer, self.net.weights).items():
            self.history[f"evolution/{name}"][place] = rows
        if self.step in {0, self.total}:
            when = "after" if self.step else "before"
            for name, array in histograms(self.observer, self.net.weights).items():
                self.history[f"{when}/{name}"] = array
        if not all(bool(store.isfinite().all()) for store in self.net.stores):
            self.diverged = self.step

    def test(self, epoch: int) -> None:
        """Loss and accuracy on all test images."""
        loss, right = 0.0, 0
        images, labels = self.digits.test_images, self.digits.test_labels
        for at in range(0, len(labels), _TEST_BATCH):
            x = _pixels(images[at : at + _TEST_BATCH], torch.float32, self.scale.pixels)
            wanted = torch.as_tensor(labels[at : at + _TEST_BATCH].astype(np.int64))
            count = len(wanted)
            if count < _TEST_BATCH:  # the buffers are for whole batches
                x = torch.cat([x, x.new_zeros(_TEST_BATCH - count, x.shape[1])])
            logits = self.tester.forward(self.net.weights, self.net.biases, x)[:count]
            loss += float(torch.nn.functional.cross_entropy(logits, wanted, reduction="sum"))
            right += int((logits.argmax(1) == wanted).sum())
        self.history["test_loss"][epoch] = loss
        self.history["test_accuracy"][epoch] = right / len(labels)

    def order(self, epoch: int) -> Tensor:
        """The epoch's images, batch by batch; the same for all arms."""
        generator = generator_of(self.root_seed, "mnist", "order", epoch)
        chosen = torch.randperm(len(self.labels), generator=generator)
        return chosen[: self.per_epoch * self.scale.batch].view(self.per_epoch, self.scale.batch)

    def state(self) -> tuple[dict[str, Any], Arrays]:
        head = {"step": self.step, "loss": float(self.loss), "diverged": self.diverged}
        stores = {f"store.{n}": store.numpy() for n, store in enumerate(self.net.stores)}
        return head, {**stores, **{f"history/{k}": v for k, v in self.history.items()}}

    def restore(self, head: dict[str, Any], arrays: Arrays) -> None:
        self.step, self.diverged = cast(int, head["step"]), head["diverged"]
        self.loss.fill_(head["loss"])
        for n, store in enumerate(self.net.stores):
            store.copy_(torch.as_tensor(arrays[f"store.{n}"]))
        for name, array in arrays.items():
            if name.startswith("history/"):
                self.history[name.removeprefix("history/")] = array

    def run(self, save: Callable[[], None], tick: Callable[[int], None]) -> None:
        """To the last step. ``save`` may be called after any measurement."""
        if self.step == 0:
            self.measure()
            self.test(0)
        for epoch in range(self.step // self.per_epoch, self.scale.epochs):
            order = self.order(epoch)
            for place in range(self.step % self.per_epoch, self.per_epoch):
                rows = order[place]
                x = self.images.index_select(0, rows).to(torch.float32)
                scaled(x, self.scale.pixels)
                self.loss += self.net.step(x, self.labels.index_select(0, rows))
                self.step += 1
                if place == self.per_epoch - 1:
                    self.history["train_loss"][epoch] = float(self.loss) / self.per_epoch
                    self.loss.zero_()
                    self.test(epoch + 1)
                if self.step in self.places:
                    self.measure()
                    tick(self.step)
                    save()
                    if self.diverged is not None:
                        return


def key_of(arm: Arm, scale: Scale, root_seed: int, digits: Digits) -> dict[str, Any]:
    """All that an arm's numbers depend on, but for the machine."""
    files = [source.sha256 for source in digits.files]
    who, large = asdict(arm), asdict(scale)
    if not arm.hidden:  # the keys of default readings do not name them
        del who["hidden"]
    if scale.pixels == STANDARDIZED:
        del large["pixels"]
    return {"arm": who, "scale": large, "seed": root_seed, "files": files}


def train(
    arm: Arm,
    digits: Digits,
    scale: Scale,
    root_seed: int,
    checkpoint: Checkpoint,
    tick: Callable[[int], None],
) -> Trained:
    """Train an arm, from its checkpoint on if there is one.

    Args:
        arm: who.
        digits: the images.
        scale: how long.
        root_seed: of the run.
        checkpoint: where it stands; the last one holds the finished training.
        tick: told the number of batches done, now and then.
    """
    session = _Session(arm, digits, scale, root_seed)
    saved = checkpoint.load()
    if saved is not None:
        session.restore(*saved)
    tick(session.step)

    def save() -> None:
        if checkpoint.due():
            checkpoint.save(*session.state())

    if saved is None or (session.step < session.total and session.diverged is None):
        session.run(save, tick)
        checkpoint.save(*session.state())
    tick(session.total)
    return Trained(session.history, session.diverged)


def worst(trained: Trained) -> float:
    """The largest second moment of the generated weights that was seen; NaN if none was finite."""
    seen = trained.arrays["evolution/weights"][:, 2]
    finite = seen[np.isfinite(seen)]
    return float(finite.max()) if finite.size else math.nan
