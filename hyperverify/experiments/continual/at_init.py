"""The checks of an initialization before its first step, on the points of the first task."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hyperverify import moments
from hyperverify.experiments import init_checks
from hyperverify.experiments.continual.hypernets import ACTIVATIONS, drawn, spec_of
from hyperverify.experiments.continual.tasks import points
from hyperverify.experiments.init_checks import Fresh, Levels, Place
from hyperverify.experiments.records import InitCheck
from hyperverify.nets import through_trunk
from hyperverify.pivots import double
from hyperverify.specs import HypernetSpec

LAYERS = 3
EXACT_CHECKS = 3 * LAYERS + LAYERS - 1
"""A method's: weights, biases and sums of each layer, flows below all but the first."""


@dataclass
class _Drawer:
    """Draws whole hypernets, which are tiny, and hands out one layer's weights or biases."""

    spec: HypernetSpec
    root_seed: int
    chosen: int
    runs: int
    hypernet: str

    def draw(self, t: int, batch: int, count: int, *, biases: bool) -> Fresh:
        """Batch 0 is run ``chosen`` of those that are trained.

        Hypernets whose features are all dead make nothing and tell nothing: they are left out, and
        others are drawn in their place.
        """
        if batch == 0:
            tensors = drawn(self.spec, self.runs, self.root_seed, torch.float32, "start")
            fresh = self._made(tensors, t, biases=biases)
            one = slice(self.chosen, self.chosen + 1)
            return Fresh(fresh.values[one], fresh.variance[one])
        kind = "biases" if biases else "weights"
        path = ("fresh", t, kind, batch)
        spare = count + count // 4 + 16
        head = f"{'bias' if biases else 'output'}_layers.{t}."
        tensors = drawn(self.spec, spare, self.root_seed, torch.float32, *path, heads=(head,))
        fresh = self._made(tensors, t, biases=biases)
        alive = (fresh.variance > 0).nonzero()[:count, 0]
        return Fresh(fresh.values[alive], fresh.variance[alive])

    def _made(self, tensors: dict[str, Tensor], t: int, *, biases: bool) -> Fresh:
        h = features(self.spec, tensors, self.hypernet)
        name = f"{'bias' if biases else 'output'}_layers.{t}"
        values = torch.einsum("rnk,rk->rn", tensors[f"{name}.weight"], h)
        layer = self.spec.layers[t]
        found = moments.layer_moments(self.spec, t)
        variance = float(found.var_bias_output if biases else found.var_output)
        shape = (layer.out_channels,) if biases else layer.weight_shape
        length = double(h).square().sum(1)
        # the oracle may say that the biases are exactly 0: then only dead features have no length
        scale = length if variance == 0 else variance * length
        return Fresh(values.view(-1, *shape), scale)


def features(spec: HypernetSpec, tensors: dict[str, Tensor], hypernet: str) -> Tensor:
    """The features h of the first task's embedding, shape (R, 10)."""
    if hypernet != "relu":  # specs know no such trunk
        h = tensors["embeddings.0"][:, 0]
        for n in range(len(spec.trunk)):
            made = torch.einsum("rik,rk->ri", tensors[f"trunk.{n}.weight"], h)
            h = ACTIVATIONS[hypernet](made + tensors[f"trunk.{n}.bias"])
        return h
    trunk = {name: value for name, value in tensors.items() if name.startswith("trunk.")}

    def one(tensors: dict[str, Tensor], e: Tensor) -> Tensor:
        return through_trunk(tensors, "trunk", spec.trunk, e)

    return torch.func.vmap(one)(trunk, tensors["embeddings.0"][:, 0])


def check_method(
    method: str, runs: int, root_seed: int, levels: Levels, hypernet: str = "relu"
) -> list[InitCheck]:
    """All checks of one initialization.

    The oracle knows no hypernet with tanh or sigmoid: there the features' second moment, which it would
    predict, is that of the net that is looked at.

    Args:
        method: its name.
        runs: how many are trained.
        root_seed: of the run.
        levels: error rates of each check.
        hypernet: the activation of its layers.
    """
    spec = spec_of(method, hypernet)
    data = points(runs, root_seed, torch.float32)
    tensors = drawn(spec, runs, root_seed, torch.float32, "start")
    h = features(spec, tensors, hypernet)
    chosen, net = _alive(spec, tensors, h, data.x[:, 0], data.y[:, 0])
    drawer = _Drawer(spec, root_seed, chosen, runs, hypernet)
    length = float(double(h[chosen]).square().sum())
    found: list[InitCheck] = []
    for t in range(LAYERS):
        place = Place(method, t)
        expected = moments.layer_moments(spec, t)
        v, u = float(expected.weight), float(expected.bias)
        if hypernet != "relu":
            v, u = float(expected.var_output) * length, float(expected.var_bias_output) * length
        x, delta, z = net.inputs[t], net.deltas[t], net.sums[t]

        def draw_w(batch: int, count: int, t: int = t) -> Fresh:
            return drawer.draw(t, batch, count, biases=False)

        def draw_b(batch: int, count: int, t: int = t) -> Fresh:
            return drawer.draw(t, batch, count, biases=True)

        found.append(init_checks.entries(place, "weights", v, draw_w, levels, own=False))
        found.append(init_checks.entries(place, "biases", u, draw_b, levels, own=False))
        predicted = v * float(x.square().sum(1).mean())
        seen = float(z.square().mean())
        found.append(init_checks.sums(place, predicted, seen, x, draw_w, levels, own=False))
        if t:
            predicted = v * float(delta.square().sum(1).mean())
            seen = float(net.flows[t - 1].square().mean())
            found.append(init_checks.flows(place, predicted, seen, delta, draw_w, levels))
        if t < LAYERS - 1:
            seen = float(net.inputs[t + 1].square().mean())
            bias = draw_b(0, 1)
            given = float(bias.variance[0]) if u else 0.0
            own = draw_w(0, 1)
            found.append(init_checks.activations(place, "relu", seen, x, own, draw_w, given))
        found.append(init_checks.weight_gradients(place, x, delta))
    return found


@dataclass(frozen=True)
class _Net:
    """One net's passes over the first task's points, float64, all of shape (100, units)."""

    inputs: list[Tensor]
    sums: list[Tensor]
    flows: list[Tensor]
    deltas: list[Tensor]


def _alive(
    spec: HypernetSpec, tensors: dict[str, Tensor], h: Tensor, x: Tensor, y: Tensor
) -> tuple[int, _Net]:
    """The first run whose layers all pass something on (the first of all, if there is none)."""
    first: _Net | None = None
    for run in range(len(x)):
        made = [
            (
                double(tensors[f"output_layers.{t}.weight"][run] @ h[run]).view(layer.weight_shape),
                double(tensors[f"bias_layers.{t}.weight"][run] @ h[run]),
            )
            for t, layer in enumerate(spec.layers)
        ]
        net = _passes(made, double(x[run])[:, None], double(y[run])[:, None])
        if first is None:
            first = net
        if all(bool((layer != 0).any()) for layer in net.inputs) and bool((h[run] != 0).any()):
            return run, net
    assert first is not None
    return 0, first


def _passes(made: list[tuple[Tensor, Tensor]], x: Tensor, y: Tensor) -> _Net:
    inputs, sums = [x], list[Tensor]()
    for t, (weight, bias) in enumerate(made):
        sums.append(inputs[t] @ weight.T)
        z = sums[t] + bias
        inputs.append(torch.relu(z) if t < len(made) - 1 else z)
    delta = 2 * (inputs[-1] - y) / len(x)  # of the mean squared error
    flows, deltas = list[Tensor](), [delta]
    for t in range(len(made) - 1, 0, -1):
        flow = deltas[0] @ made[t][0]
        flows.insert(0, flow)
        deltas.insert(0, flow * (inputs[t] > 0))
    return _Net(inputs[:-1], sums, flows, deltas)
