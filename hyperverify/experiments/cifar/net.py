"""The net under training: a hypernet with fixed embeddings, and the layers that it does not make.

An embedding e that stays as it is enters through alpha = G e + gamma alone, and one step of SGD on
(G, gamma) moves alpha by -lr (|e|^2 + 1) dL/dalpha. So alpha is kept in place of G, fifty times larger,
and learns at that rate; the same steps, up to rounding. All else is autograd.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from hyperverify.experiments.cifar.arms import (
    GENERATED,
    Arm,
    Form,
    draws_of,
    layers,
    ordinary_draw,
    spec_of,
)
from hyperverify.nets import activate, alpha, apply_layer, tile
from hyperverify.plan import Draw, fill_
from hyperverify.sampling import seed_of
from hyperverify.specs import HypernetSpec, LayerSpec


def generator_of(root_seed: int, *path: str | int) -> torch.Generator:
    """A generator of its own for each thing that is drawn, of the CPU on every device."""
    return torch.Generator().manual_seed(seed_of(root_seed, "cifar", *path))


def filled(draw: Draw, generator: torch.Generator, dtype: torch.dtype, *lead: int) -> Tensor:
    """A fresh tensor, shape (*lead, *draw.shape)."""
    return fill_(torch.empty(*lead, *draw.shape, dtype=dtype), draw, generator)


def drawn(arm: Arm, form: Form, root_seed: int, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """The tensors of the hypernet that is trained, by the plan's names.

    What does not depend on the arm but in scale is drawn from the same numbers for all arms.
    """
    for name, draw in draws_of(arm, form).items():
        yield name, filled(draw, generator_of(root_seed, "start", form.width, name), dtype)


@dataclass(frozen=True)
class Start:
    """Where a training begins.

    Attributes:
        embeddings: shape (chunks, 50), a generated layer each.
        alphas: shape (chunks, 50), likewise: what the output layer reads.
        output: H, shape (K r, 50).
        offset: beta, shape (K r,).
        ordinary: weights of the layers that are not generated.
    """

    embeddings: tuple[Tensor, ...]
    alphas: tuple[Tensor, ...]
    output: Tensor
    offset: Tensor
    ordinary: tuple[Tensor, ...]


def start(arm: Arm, form: Form, root_seed: int, dtype: torch.dtype) -> Start:
    """Draw an arm's net; the input layers are dropped as soon as alpha is made."""
    spec = spec_of(form)
    kept: dict[str, Tensor] = {}
    alphas: list[Tensor] = []
    for name, tensor in drawn(arm, form, root_seed, dtype):
        kept[name] = tensor
        if name.startswith("input_layers.") and name.endswith(".bias"):
            t = len(alphas)
            alphas.append(alpha(spec, kept, t))
            del kept[f"input_layers.{t}.weight"], kept[name]
    own = enumerate(layers(form)[GENERATED:], start=GENERATED)
    return Start(
        tuple(kept[f"embeddings.{t}"] for t in range(GENERATED)),
        tuple(alphas),
        kept["output_layers.0.weight"],
        kept["output_layers.0.bias"],
        tuple(
            filled(ordinary_draw(layer), generator_of(root_seed, "ordinary", form.width, t), dtype)
            for t, layer in own
        ),
    )


def mainnet(mainnet_layers: tuple[LayerSpec, ...], weights: list[Tensor], x: Tensor) -> Tensor:
    """Logits: the last layer's outputs, averaged over the positions.

    Args:
        mainnet_layers: what each layer is.
        weights: of each.
        x: shape (B, 3, 32, 32).

    Returns:
        Shape (B, 10).
    """
    for layer, weight in zip(mainnet_layers, weights, strict=True):
        x = activate(layer, apply_layer(layer, weight, None, x))
    return x.mean((2, 3))


class Net:
    """A hypernet and its mainnet, moved by SGD.

    Args:
        form: what it is like.
        begin: where it starts; it stays as it is.
        device: to train on.

    Attributes:
        spec: of the layers that are generated.
        layers: all of the mainnet's.
        parameters: all that learns: alphas, H, beta, the ordinary weights.
    """

    def __init__(self, form: Form, begin: Start, device: torch.device) -> None:
        self.spec: HypernetSpec = spec_of(form)
        self.layers = layers(form)
        learned = (*begin.alphas, begin.output, begin.offset, *begin.ordinary)
        self.parameters = [p.to(device, copy=True).requires_grad_() for p in learned]
        # how much faster alpha moves than G and gamma would: |e|^2 + 1, a chunk
        self._factors = [(e.square().sum(1, keepdim=True) + 1).to(device) for e in begin.embeddings]

    def weights(self) -> list[Tensor]:
        """Of all layers, those of the generated ones made from the parameters as they are."""
        alphas, (output, offset) = self.parameters[:GENERATED], self.parameters[GENERATED:][:2]
        # one product for all chunks of all layers
        chunks = F.linear(torch.cat(alphas), output, offset)
        made: list[Tensor] = []
        at = 0
        for t, mine in enumerate(alphas):
            made.append(tile(self.spec, t, chunks[at : at + len(mine)]))
            at += len(mine)
        return made + self.parameters[GENERATED + 2 :]

    def logits(self, x: Tensor) -> Tensor:
        """Shape (B, 10), for x of shape (B, 3, 32, 32)."""
        return mainnet(self.layers, self.weights(), x)

    def step(self, x: Tensor, labels: Tensor, rate: float) -> tuple[Tensor, Tensor]:
        """One step of SGD on the mean cross entropy of a batch.

        Args:
            x: shape (B, 3, 32, 32).
            labels: shape (B,).
            rate: learning rate.

        Returns:
            The loss before the step, and how many images were right.
        """
        logits = self.logits(x)
        loss = F.cross_entropy(logits, labels)
        gradients = torch.autograd.grad(loss, self.parameters)
        with torch.no_grad():
            for n, (parameter, gradient) in enumerate(zip(self.parameters, gradients, strict=True)):
                if n < GENERATED:
                    parameter.addcmul_(self._factors[n], gradient, value=-rate)
                else:
                    parameter.sub_(gradient, alpha=rate)
        return loss.detach(), (logits.detach().argmax(1) == labels).sum()

    def finite(self) -> bool:
        """Whether all that learns still is."""
        return all(bool(p.detach().isfinite().all()) for p in self.parameters)
