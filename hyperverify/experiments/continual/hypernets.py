"""Many small hypernets as one computation: every initialization, learning rate and run side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from hyperverify.experiments.continual.tasks import TASKS
from hyperverify.plan import Draw, fill_, plan
from hyperverify.sampling import seed_of
from hyperverify.specs import EmbeddingSpec, HypernetSpec, LayerSpec, TrunkLayerSpec

METHODS: Final = {
    "fan-in": "Kaiming (fan-in)",
    "fan-out": "Kaiming (fan-out)",
    "hyperfan-in": "Hyperfan-in",
    "hyperfan-out": "Hyperfan-out",
}
HIDDEN: Final = 10
_SIZES: Final = ((HIDDEN, 1), (HIDDEN, HIDDEN), (1, HIDDEN))
"""Of the mainnet's weights."""

STRENGTH: Final = 0.005
"""beta_output of the regularizer."""


ACTIVATIONS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}
"""Of the hypernet's two layers."""

ADAM: Final = (0.9, 0.999, 1e-8)
"""beta_1, beta_2 and epsilon of Adam: its defaults."""


@dataclass(frozen=True)
class Variant:
    """How two of the paper's open questions are read.

    Attributes:
        optimizer: ``sgd`` or ``adam``, begun anew with each task.
        hypernet: ``relu``, ``tanh`` or ``sigmoid``: the activation of its layers.
    """

    optimizer: str = "sgd"
    hypernet: str = "relu"


def spec_of(method: str, hypernet: str = "relu") -> HypernetSpec:
    """A mainnet of two hidden ReLU layers, weights and biases from one embedding of size 2.

    A trunk of tanh or sigmoid layers is drawn as a linear one: s = 1.
    """
    relu = hypernet == "relu"
    last = len(_SIZES) - 1
    return HypernetSpec(
        layers=tuple(
            LayerSpec(inputs, outputs, relu=t < last, bias=True)
            for t, (outputs, inputs) in enumerate(_SIZES)
        ),
        embedding=EmbeddingSpec(2),
        method=method,
        trunk=(TrunkLayerSpec(HIDDEN, relu=relu), TrunkLayerSpec(HIDDEN, relu=relu)),
        embeddings="one",
    )


def drawn(
    spec: HypernetSpec,
    count: int,
    root_seed: int,
    dtype: torch.dtype,
    *path: str | int,
    heads: tuple[str, ...] = ("output_layers.", "bias_layers."),
) -> dict[str, Tensor]:
    """``count`` hypernets by the plan's names; ``embeddings.0`` has one row a task, (count, 3, 2).

    Of the output layers only those are drawn whose names begin with one of ``heads``.
    """

    def filled(draw: Draw, *name: str | int) -> Tensor:
        seed = seed_of(root_seed, spec.digest, *path, *name)
        generator = torch.Generator().manual_seed(seed)
        return fill_(torch.empty(count, *draw.shape, dtype=dtype), draw, generator)

    draws = plan(spec)
    wanted = ("trunk.", *heads)
    tensors = {name: filled(d, name) for name, d in draws.items() if name.startswith(wanted)}
    rows = [filled(draws["embeddings.0"], "embeddings.0", task) for task in range(TASKS)]
    tensors["embeddings.0"] = torch.stack(rows, dim=1)
    return tensors


class Nets:
    """N hypernets under training, all of one shape.

    Args:
        tensors: by the plan's names, each with a leading dimension N.
        rates: learning rates, shape (N,).
        variant: optimizer and activation.

    Attributes:
        parameters: ``embeddings`` (N, 3, 2), ``trunk.N.weight``, ``trunk.N.bias``, and the heads, which all
            read the same features, as one: ``head.weight`` (N, 141, 10), ``head.bias`` (N, 141).
        averages: Adam's two of each gradient, since the task began; empty for SGD.
        steps: taken since then.
    """

    def __init__(
        self, tensors: dict[str, Tensor], rates: Tensor, variant: Variant | None = None
    ) -> None:
        variant = variant or Variant()
        count = range(len(_SIZES))
        heads = [f"{kind}_layers.{t}" for t in count for kind in ("output", "bias")]
        self.parameters = {
            "embeddings": tensors["embeddings.0"].clone(),
            **{name: v.clone() for name, v in tensors.items() if name.startswith("trunk.")},
            "head.weight": torch.cat([tensors[f"{name}.weight"] for name in heads], 1),
            "head.bias": torch.cat([tensors[f"{name}.bias"] for name in heads], 1),
        }
        self.rates = rates
        self.targets: Tensor | None = None
        self.averages: dict[str, Tensor] = {}
        self.steps = 0
        self._activate = ACTIVATIONS[variant.hypernet]
        self._adam = variant.optimizer == "adam"
        for parameter in self.parameters.values():
            parameter.requires_grad_()

    def features(self, first: int, last: int) -> Tensor:
        """The features h of the tasks from ``first`` to before ``last``: shape (N, tasks, 10)."""
        p = self.parameters
        h = p["embeddings"][:, first:last]
        for n in range(2):
            bias = p[f"trunk.{n}.bias"][:, None]
            h = self._activate(torch.baddbmm(bias, h, p[f"trunk.{n}.weight"].transpose(1, 2)))
        return h

    def generate(self, first: int, last: int) -> Tensor:
        """All weights and biases of the mainnet for these tasks: shape (N, tasks, 141)."""
        p = self.parameters
        h = self.features(first, last)
        return torch.baddbmm(p["head.bias"][:, None], h, p["head.weight"].transpose(1, 2))

    def remember(self, tasks: int) -> None:
        """Keep what is generated for the first ``tasks`` tasks, which the regularizer holds on to.

        The next task begins with an optimizer that knows of no step.
        """
        with torch.no_grad():
            self.targets = self.generate(0, tasks).clone() if tasks else None
        self.averages.clear()
        self.steps = 0

    def step(self, task: int, x: Tensor, y: Tensor) -> None:
        """One step of every net on its batch; x and y of shape (N, 32).

        The embeddings of earlier tasks stay as they are.
        """
        made = self.generate(0, task + 1)
        loss = (mainnet(made[:, task], x) - y).square().mean(1).sum()
        if self.targets is not None:
            drift = (made[:, :task] - self.targets).square().sum((1, 2))
            loss = loss + STRENGTH / task * drift.sum()
        gradients = torch.autograd.grad(loss, list(self.parameters.values()))
        self.steps += 1
        with torch.no_grad():
            for (name, parameter), found in zip(self.parameters.items(), gradients, strict=True):
                gradient = self._direction(name, found) if self._adam else found
                rates = self.rates.view(-1, *([1] * (parameter.dim() - 1)))
                if name == "embeddings":
                    parameter[:, task].sub_(rates[:, 0] * gradient[:, task])
                else:
                    parameter.sub_(rates * gradient)

    def _direction(self, name: str, gradient: Tensor) -> Tensor:
        """Adam's step for a rate of 1: the bias-corrected mean over the root of the mean square."""
        first, second, epsilon = ADAM
        for order in ("mean", "square"):
            self.averages.setdefault(f"{order}/{name}", torch.zeros_like(gradient))
        mean, square = self.averages[f"mean/{name}"], self.averages[f"square/{name}"]
        mean.mul_(first).add_(gradient, alpha=1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        root = (square / (1 - second**self.steps)).sqrt_().add_(epsilon)
        return mean / (1 - first**self.steps) / root


def mainnet(made: Tensor, x: Tensor) -> Tensor:
    """The mainnets' outputs.

    Args:
        made: generated weights and biases, shape (N, 141).
        x: shape (N, points).

    Returns:
        Shape (N, points).
    """
    y = x[..., None]
    at = 0
    for t, (outputs, inputs) in enumerate(_SIZES):
        weight = made[:, at : at + outputs * inputs].view(-1, outputs, inputs)
        at += outputs * inputs
        bias = made[:, None, at : at + outputs]
        at += outputs
        y = torch.baddbmm(bias, y, weight.transpose(1, 2))
        if t < len(_SIZES) - 1:
            y = torch.relu(y)
    return y[..., 0]
