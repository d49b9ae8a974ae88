"""How the hypernet is drawn: by the library's plan, a layer at a time, since all of H is large."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from hyperverify import moments
from hyperverify.experiments.imagenet.arms import NOISE, Arm
from hyperverify.experiments.init_checks import Fresh
from hyperverify.pivots import double
from hyperverify.plan import Draw, embedding_name, fill_, plan, rule_variance
from hyperverify.sampling import seed_of
from hyperverify.specs import LayerSpec

NOISE_MOMENT = NOISE**2 / 3
"""Second moment of U(-0.1, 0.1), which comes on top of E[e^2] = 1."""


def generator_of(root_seed: int, digest: str, *path: str | int) -> torch.Generator:
    """A generator of its own for each thing that is drawn."""
    return torch.Generator().manual_seed(seed_of(root_seed, digest, *path))


def noise(layers: int, dim: int, generator: torch.Generator) -> Tensor:
    """What a batch adds to the embeddings: one draw a layer, shape (layers, dim)."""
    draw = Draw((layers, dim), "uniform", float(NOISE_MOMENT))
    return fill_(torch.empty(draw.shape), draw, generator)


def batch_noise(root_seed: int, layers: int, dim: int, *path: str | int) -> Tensor:
    """The noise of a batch or of a Monte Carlo sample, the same for all arms."""
    return noise(layers, dim, generator_of(root_seed, "imagenet", "noise", *path))


class Drawer:
    """Draws the layers of one arm.

    Args:
        arm: who.
        layers: of the mainnet.
        side: of the images.
        root_seed: of the run.
        draw: number of the hypernet; 0 for the one that is looked at and trained.

    Attributes:
        spec: of the hypernet.
    """

    def __init__(
        self, arm: Arm, layers: tuple[LayerSpec, ...], side: int, root_seed: int, draw: int = 0
    ) -> None:
        self.arm, self.layers, self.root_seed, self.draw = arm, layers, root_seed, draw
        self.spec = arm.spec(layers, side)
        self._draws = plan(self.spec)

    def _filled(self, draw: Draw, *path: str | int, count: int | None = None) -> Tensor:
        digest = self.spec.digest
        generator = generator_of(self.root_seed, digest, *path)
        shape = draw.shape if count is None else (count, *draw.shape)
        return fill_(torch.empty(shape), draw, generator)

    @cached_property
    def embeddings(self) -> Tensor:
        """Of all generated layers, shape (layers, 32)."""
        names = [embedding_name(self.spec, t) for t in range(len(self.spec.layers))]
        return torch.stack([self._filled(self._draws[n], "start", self.draw, n) for n in names])

    def matrix(self, t: int) -> Tensor:
        """H of layer ``t``, shape (entries of W, 32)."""
        name = f"output_layers.{t}.weight"
        return self._filled(self._draws[name], "start", self.draw, name)

    def ordinary(self) -> Tensor | None:
        """The last layer's own weights, fan-in, where it is not generated."""
        if self.arm.last:
            return None
        layer = self.layers[-1]
        facts = {"d_k": layer.in_channels, "n_W": layer.out_channels, "relu": layer.relu}
        draw = Draw(layer.weight_shape, "uniform", rule_variance("C.fan_in", facts))
        return self._filled(draw, "start", self.draw, "last")

    def weights(self, added: Tensor) -> list[Tensor]:
        """All of the mainnet's weights; each H is dropped as soon as its W is made.

        Args:
            added: noise on the embeddings, shape (generated layers, 32).
        """
        features = self.embeddings + added
        made = [
            (self.matrix(t) @ features[t]).view(layer.weight_shape)
            for t, layer in enumerate(self.spec.layers)
        ]
        own = self.ordinary()
        return made if own is None else [*made, own]

    def moment(self, t: int) -> float:
        """The oracle's E[W^2] of layer ``t``, with the noise: the embedding's moment is 1 + 0.01/3."""
        found = moments.layer_moments(self.spec, t)
        return float(found.weight * (found.feature + NOISE_MOMENT) / found.feature)

    def given(self, t: int, features: Tensor) -> Tensor:
        """The oracle's variance of an entry of W given the noisy embeddings, (R, 32) to (R,)."""
        variance = float(moments.layer_moments(self.spec, t).var_output)
        return variance * double(features).square().sum(-1)

    def fresh(self, t: int, batch: int, count: int) -> Fresh:
        """Independent draws of layer ``t``: H, embedding and noise, none of them of the net at hand."""
        path = ("fresh", t, batch)
        dim = self.spec.embedding.dim
        e = self._filled(self._draws[embedding_name(self.spec, t)], *path, "embedding", count=count)
        e += noise(count, dim, generator_of(self.root_seed, self.spec.digest, *path, "noise"))
        head = self._filled(self._draws[f"output_layers.{t}.weight"], *path, "head", count=count)
        made = torch.bmm(head, e[:, :, None])[:, :, 0]
        return Fresh(made.view(count, *self.spec.layers[t].weight_shape), self.given(t, e))
