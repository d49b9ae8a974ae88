"""The checks of an arm before its first step, on 300 real images."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

import torch
from torch import Tensor

from hyperverify import moments
from hyperverify.experiments import init_checks
from hyperverify.experiments.init_checks import Fresh, Levels, Place
from hyperverify.experiments.mnist.arms import Arm
from hyperverify.experiments.mnist.start import Start, classical_variance, generator_of, own_rule
from hyperverify.experiments.mnist.statistics import Observer
from hyperverify.experiments.records import InitCheck
from hyperverify.pivots import double
from hyperverify.plan import Draw, bias_embedding_name, embedding_name, fill_, plan
from hyperverify.specs import LayerSpec


def exact_checks(arm: Arm, layers: int) -> int:
    """How many checks of the arm have an exact law: counted before anything is drawn."""
    biases = len(arm.generated(layers)) if arm.biases else 0
    return layers + biases + layers + (layers - 1)  # weights, biases, sums, flows


def counted_variance(arm: Arm, layer: LayerSpec) -> float:
    """The oracle's variance of a classical net's own weights: solved for, from the layer's shape."""
    s = moments.halving(layer)
    forward = Fraction(s, moments.weights_per_output(layer))  # keeps activations
    backward = Fraction(s, moments.weights_per_input(layer))  # keeps gradients
    rule = own_rule(arm)
    if rule == "fan-in":
        return float(forward)
    if rule == "arithmetic":
        return float((forward + backward) / 2)
    if rule == "geometric":
        return math.sqrt(forward * backward)
    return float(2 * forward * backward / (forward + backward))


@dataclass
class Drawer:
    """Draws layers of an arm afresh.

    Attributes:
        arm: who.
        layers: its mainnet.
        begin: the net that is trained.
        root_seed: of the run.
        dim: size of the embeddings.
    """

    arm: Arm
    layers: tuple[LayerSpec, ...]
    begin: Start
    root_seed: int
    dim: int
    _kept: dict[tuple[int, bool], Fresh] = field(default_factory=dict[tuple[int, bool], Fresh])

    def __post_init__(self) -> None:
        widths = (self.layers[0].in_channels, *(layer.out_channels for layer in self.layers))
        self._spec = None if self.arm.classical else self.arm.spec(widths, self.dim)
        self._made = self.arm.generated(len(self.layers))

    def forget(self) -> None:
        """Drop what was kept of the layers seen so far."""
        self._kept.clear()

    def makes(self, t: int) -> bool:
        """Whether the hypernet makes layer ``t``."""
        return t in self._made

    def predicted(self, t: int) -> tuple[float, float]:
        """The oracle's (v, u) of layer ``t``."""
        if self._spec is None or not self.makes(t):
            return counted_variance(self.arm, self.layers[t]), 0.0
        found = moments.layer_moments(self._spec, t - self._made.start)
        return float(found.weight), float(found.bias)

    def weights(self, t: int, batch: int, count: int) -> Fresh:
        """W of layer ``t``, and its variance given the embedding."""
        return self._draw(t, batch, count, biases=False)

    def biases(self, t: int, batch: int, count: int) -> Fresh:
        """The bias b of layer ``t``, likewise."""
        return self._draw(t, batch, count, biases=True)

    def _draw(self, t: int, batch: int, count: int, *, biases: bool) -> Fresh:
        if batch == 0:
            return self._own(t, biases=biases)
        if batch == 1 and count == 1 and (t, biases) in self._kept:
            return self._kept[t, biases]
        fresh = self._fresh(t, batch, count, biases=biases)
        if batch == 1 and count == 1:
            self._kept[t, biases] = fresh
        return fresh

    def _own(self, t: int, *, biases: bool) -> Fresh:
        begin = self.begin
        values = begin.weights[t] if not biases else (begin.biases or ())[t]
        if not self.makes(t):
            variance = torch.tensor([counted_variance(self.arm, self.layers[t])])
        else:
            e = (begin.bias_embeddings if biases else begin.embeddings)[t - self._made.start]
            variance = self._variance(t, e[None], biases=biases)
        return Fresh(values[None], variance.to(torch.float64))

    def _variance(self, t: int, embedding: Tensor, *, biases: bool) -> Tensor:
        assert self._spec is not None
        found = moments.layer_moments(self._spec, t - self._made.start)
        variance = found.var_bias_output if biases else found.var_output
        return float(variance) * double(embedding).square().sum(1)

    def _fresh(self, t: int, batch: int, count: int, *, biases: bool) -> Fresh:
        layer, spec = self.layers[t], self._spec
        path = ("fresh", t, batch, "biases" if biases else "weights")

        def filled(draw: Draw, name: str) -> Tensor:
            digest = self.arm.name if spec is None else spec.digest
            generator = generator_of(self.root_seed, digest, *path, name)
            return fill_(torch.empty(count, *draw.shape), draw, generator)

        if spec is None or not self.makes(t):
            variance = classical_variance(
                self.arm, layer.in_channels, layer.out_channels, relu=layer.relu
            )
            values = filled(Draw(layer.weight_shape, "uniform", variance), "W")
            return Fresh(values, torch.full((count,), counted_variance(self.arm, layer)))
        made, draws = t - self._made.start, plan(spec)
        group = spec.output_group(made)
        name = bias_embedding_name(spec, made) if biases else embedding_name(spec, made)
        head = f"{'bias' if biases else 'output'}_layers.{group}.weight"
        e = filled(draws[name], "embedding")
        values = torch.bmm(filled(draws[head], "head"), e[:, :, None])[:, :, 0]
        shape = (layer.out_channels,) if biases else layer.weight_shape
        return Fresh(values.view(count, *shape), self._variance(t, e, biases=biases))


def check_arm(
    arm: Arm,
    widths: tuple[int, ...],
    dim: int,
    begin: Start,
    observer: Observer,
    root_seed: int,
    levels: Levels,
) -> list[InitCheck]:
    """All checks of one arm.

    Args:
        arm: who.
        widths: of the mainnet.
        dim: size of the embeddings.
        begin: the net that is trained.
        observer: has the images.
        root_seed: of the run.
        levels: error rates of each check.
    """
    drawer = Drawer(arm, arm.layers(widths), begin, root_seed, dim)
    observer.look(begin.weights, begin.biases)
    passes = observer.passes
    first = {group.members[0] for group in begin.groups}
    found: list[InitCheck] = []
    for t in range(len(drawer.layers)):
        place = Place(arm.name, t)
        v, u = drawer.predicted(t)
        x, delta = double(passes.inputs[t]), double(passes.deltas[t])
        weights, biases = begin.weights[t], begin.biases

        def draw_w(batch: int, count: int, t: int = t) -> Fresh:
            return drawer.weights(t, batch, count)

        def draw_b(batch: int, count: int, t: int = t) -> Fresh:
            return drawer.biases(t, batch, count)

        found.append(init_checks.entries(place, "weights", v, draw_w, levels, own=True))
        given = 0.0
        if biases is not None and drawer.makes(t):
            found.append(init_checks.entries(place, "biases", u, draw_b, levels, own=True))
            given = float(draw_b(0, 1).variance[0])
        z = x @ double(weights).T
        predicted = v * float(x.square().sum(1).mean())
        seen = float(z.square().mean())
        found.append(init_checks.sums(place, predicted, seen, x, draw_w, levels, own=t in first))
        if t:
            predicted = v * float(delta.square().sum(1).mean())
            seen = float(double(passes.flows[t - 1]).square().mean())
            found.append(init_checks.flows(place, predicted, seen, delta, draw_w, levels))
        if t < len(drawer.layers) - 1:
            seen = float(double(passes.outputs[t]).square().mean())
            own = draw_w(0, 1)
            found.append(
                init_checks.activations(place, arm.activation, seen, x, own, draw_w, given)
            )
        found.append(init_checks.weight_gradients(place, x, delta))
        drawer.forget()
    return found
