"""An arm before its first step: second moments layer by layer, and their checks, on one batch of real images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from hyperverify import moments
from hyperverify.experiments import init_checks
from hyperverify.experiments.arrays import Arrays
from hyperverify.experiments.imagenet import patches
from hyperverify.experiments.imagenet.arms import Arm
from hyperverify.experiments.imagenet.net import Trace, batch_normalized, forward, mobilenet
from hyperverify.experiments.imagenet.readings import QUANTITIES
from hyperverify.experiments.imagenet.start import Drawer, batch_noise, generator_of
from hyperverify.experiments.init_checks import Fresh, Levels, Place
from hyperverify.experiments.parallel import Tick
from hyperverify.experiments.records import InitCheck
from hyperverify.layer_specs import LayerSpec
from hyperverify.nets import apply_layer
from hyperverify.pivots import double, whitened_squares

_ROWS: Final = 64  # positions whose sums are looked at, for each batch
_GROUPED_ROWS: Final = 12  # likewise of each channel of a depthwise layer, which reads nine numbers
_UNITS: Final = 128  # at least so many units whose outputs are looked at
_SPREADS: Final = 6.0
_ALLOWED: Final = 0.01


@dataclass(frozen=True)
class Shape:
    """A net as it is looked at before its first step.

    Attributes:
        width: multiplier of the channels.
        side: of the images.
        batch: images.
        classes: outputs; None for as many as the images have classes.
        draws: hypernets whose first loss is computed.
    """

    width: float
    side: int
    batch: int
    classes: int | None = None
    draws: int = 4


def generated(arm: Arm, layers: int) -> int:
    """How many of the mainnet's layers are generated."""
    return layers if arm.last else layers - 1


def exact_checks(arm: Arm, layers: int) -> int:
    """How many checks of an arm have an exact law: weights and sums, and flows below all but the first."""
    return 3 * generated(arm, layers) - 1


@dataclass(frozen=True)
class Look:
    """An arm before its first step.

    Attributes:
        arrays: ``init/{quantity}``, shape (layers,), and ``init/loss``, shape (draws,).
        checks: of the second moments.
    """

    arrays: Arrays
    checks: list[InitCheck]


def look(
    arm: Arm,
    shape: Shape,
    x: Tensor,
    labels: Tensor,
    classes: int,
    root_seed: int,
    levels: Levels,
    tick: Tick,
) -> Look:
    """All of an arm's statistics and checks.

    Args:
        arm: who.
        shape: of the net.
        x: images, shape (batch, 3, side, side).
        labels: shape (batch,).
        classes: outputs of the last layer.
        root_seed: of the run.
        levels: error rates of each check.
        tick: told how many of the net's layers are done.
    """
    layers = mobilenet(shape.width, classes)
    drawer = Drawer(arm, layers, shape.side, root_seed)
    count, dim = generated(arm, len(layers)), drawer.spec.embedding.dim
    added = batch_noise(root_seed, len(layers), dim, "look")[:count]
    weights = drawer.weights(added)
    losses = [_loss(layers, weights, x, labels)]
    for draw in range(1, shape.draws):
        other = Drawer(arm, layers, shape.side, root_seed, draw)
        losses.append(_loss(layers, other.weights(added), x, labels))
    seen = _Passes(layers, weights, x, labels)
    arrays: Arrays = {"init/loss": np.array(losses)}
    arrays |= {f"init/{name}": values for name, values in seen.second_moments().items()}
    found: list[InitCheck] = []
    for t in range(count):
        own = Fresh(weights[t][None], drawer.given(t, (drawer.embeddings[t] + added[t])[None]))
        found += _Checks(arm, t, seen, drawer, own, levels).all()
        tick(t + 1)
    return Look(arrays, found)


def _loss(layers: tuple[LayerSpec, ...], weights: list[Tensor], x: Tensor, labels: Tensor) -> float:
    scales, shifts = _norms(layers)
    with torch.no_grad():
        found = forward(layers, weights, scales, shifts, x)
    return float(functional.cross_entropy(found, labels))


def _norms(layers: tuple[LayerSpec, ...]) -> tuple[list[Tensor], list[Tensor]]:
    widths = [layer.out_channels for layer in layers[:-1]]
    return [torch.ones(n) for n in widths], [torch.zeros(n) for n in widths]


class _Passes:
    """Both passes of one batch, with all that they went through.

    Attributes:
        inputs, sums: see :class:`Trace`.
        deltas: dL/dz of the mean loss, of each layer.
        flows: dL/dx of what each layer but the first reads, in the place of the first a zero.
        weight_gradients: dL/dW.
    """

    def __init__(
        self, layers: tuple[LayerSpec, ...], weights: list[Tensor], x: Tensor, labels: Tensor
    ) -> None:
        self.layers, self.weights = layers, weights
        leaves = [w.detach().requires_grad_() for w in weights]
        trace = Trace()
        logits = forward(layers, leaves, *_norms(layers), x, trace)
        loss = functional.cross_entropy(logits, labels)
        wanted = [*trace.sums, *leaves, *trace.inputs[1:]]
        gradients = torch.autograd.grad(loss, wanted)
        count = len(layers)
        self.inputs = [v.detach() for v in trace.inputs]
        self.sums = [v.detach() for v in trace.sums]
        self.deltas = list(gradients[:count])
        self.weight_gradients = list(gradients[count : 2 * count])
        self.flows = [torch.zeros(1), *gradients[2 * count :]]

    def output(self, t: int) -> Tensor:
        """What layer ``t`` passes on: behind batch norm and ReLU, or the logits."""
        z = self.sums[t]
        return z if t == len(self.layers) - 1 else batch_normalized(z)

    def second_moments(self) -> dict[str, NDArray[np.float64]]:
        """By quantity, shape (layers,)."""
        count = range(len(self.layers))
        found = {
            "pre-activations": self.sums,
            "activations": [self.output(t) for t in count],
            "gradients": self.deltas,
            "weights": self.weights,
            "weight-gradients": self.weight_gradients,
        }
        return {name: np.array([mean_square(v) for v in found[name]]) for name in QUANTITIES}


def mean_square(values: Tensor) -> float:
    """The second moment, as float64, of values that may be tiny."""
    scale = float(values.abs().max())
    if scale == 0 or not math.isfinite(scale):
        return scale**2
    return float((values / scale).square().mean(dtype=torch.float64)) * scale**2


class _Checks:
    """The checks of one generated layer."""

    def __init__(
        self, arm: Arm, t: int, seen: _Passes, drawer: Drawer, own: Fresh, levels: Levels
    ) -> None:
        self.place, self.layer = Place(arm.name, t), drawer.layers[t]
        self.t, self.seen, self.drawer, self.own, self.levels = t, seen, drawer, own, levels
        self.v = drawer.moment(t)
        self.root_seed = drawer.root_seed
        self.size = tuple(seen.inputs[t].shape[2:])
        self.kept: Fresh | None = None

    def draw(self, batch: int, count: int) -> Fresh:
        """Batch 0 is the net at hand; the first fresh draw serves two checks."""
        if batch == 0:
            return self.own
        if batch == 1 and count == 1:
            if self.kept is None:
                self.kept = self.drawer.fresh(self.t, 1, 1)
            return self.kept
        return self.drawer.fresh(self.t, batch, count)

    def all(self) -> list[InitCheck]:
        found = [
            init_checks.entries(self.place, "weights", self.v, self.draw, self.levels, own=True),
            self.sums(),
        ]
        if self.t:
            found.append(self.flows())
        if self.layer.relu:
            found.append(self.activations())
        found.append(self.weight_gradients())
        return found

    def _places(self, what: str, images: int, size: tuple[int, ...]) -> list[patches.Position]:
        most = _ROWS if self.layer.groups == 1 else _GROUPED_ROWS
        generator = generator_of(self.root_seed, self.drawer.spec.digest, what, self.t)
        return patches.chosen(images, math.prod(size), most, generator)

    def sums(self) -> InitCheck:
        """W x before batch norm, at positions drawn from the batch's maps, given what is read there."""
        x, z = self.seen.inputs[self.t], self.seen.sums[self.t]
        places = self._places("sums", len(x), tuple(z.shape[2:]))
        flat = double(x).flatten(2).square()
        predicted = _mean_over(
            [moments.forward_at(self.layer, self.size, p, self.v, 0.0, flat[n]) for n, p in places]
        )
        observed = mean_square(torch.stack([z[n].flatten(1)[:, p] for n, p in places]))
        rows = patches.read(self.layer, x, places)
        words = f"sums W x of layer {self.t + 1} over {len(places)} real patches"
        return self._whitened("sums", words, predicted, observed, rows, patches.by_output, 0)

    def flows(self) -> InitCheck:
        """W^T dL/dz at positions of the layer's input, under the real loss, with W drawn afresh."""
        delta, flow = self.seen.deltas[self.t], self.seen.flows[self.t]
        scale = math.sqrt(mean_square(delta)) or 1.0
        delta = double(delta) / scale
        places = self._places("flows", len(flow), self.size)
        flat = delta.flatten(2).square()
        predicted = scale**2 * _mean_over(
            [moments.backward_at(self.layer, self.size, p, self.v, flat[n]) for n, p in places]
        )
        observed = mean_square(torch.stack([flow[n].flatten(1)[:, p] for n, p in places]))
        rows = patches.fed(self.layer, delta, self.size, places)
        words = f"gradients Wᵀ dL/dz below layer {self.t + 1}, under the real loss,"
        return self._whitened("flows", words, predicted, observed, rows, patches.by_input, 1)

    def _whitened(
        self,
        quantity: str,
        words: str,
        predicted: float,
        observed: float,
        rows: Tensor,
        arranged: Callable[[LayerSpec, Tensor], Tensor],
        first: int,
    ) -> InitCheck:
        """A check of linear images of W, whitened group by group by the Gram matrix of the rows."""
        gram = rows @ rows.transpose(1, 2)

        def measure(fresh: Fresh) -> tuple[float, int]:
            scaled = arranged(self.layer, double(fresh.values))
            scaled = scaled / double(fresh.variance).sqrt()[:, None, None, None]
            images = torch.einsum("gnj,rgij->gnri", rows, scaled).flatten(2)
            S, nu = whitened_squares(gram, images)
            return float(S.sum()), int(nu.sum())

        width = arranged(self.layer, self.own.values).shape[2]
        stream = self.levels.stream(rows.shape[0] * rows.shape[1] * width)
        draws = init_checks.fed(stream, self.draw, measure, first)
        statement = f"The {words} have second moment {predicted:.6g}."
        return init_checks.decided(
            self.place, quantity, statement, predicted, observed, stream, draws
        )

    def activations(self) -> InitCheck:
        """E[y^2] behind batch norm and ReLU: 1/2, whatever the variance of W.

        Batch norm makes the mean square of each unit 1 over the batch, up to its epsilon, and W and -W are
        equally likely: ReLU takes half of it in the mean over W.
        """
        x = self.seen.inputs[self.t]
        draws = max(1, math.ceil(_UNITS / self.layer.out_channels))
        values = self.own.values if draws == 1 else self.drawer.fresh(self.t, 1, draws).values
        found: list[Tensor] = []
        for weight in values:
            y = batch_normalized(apply_layer(self.layer, weight, None, x))
            found.append(y.square().mean((0, 2, 3), dtype=torch.float64))
        units = torch.cat(found)
        measured = float(units.mean())
        error = _SPREADS * float(units.std()) / math.sqrt(len(units))
        low, high = measured - error, measured + error
        predicted = 1 / moments.halving(self.layer)
        slack = _ALLOWED * predicted
        return InitCheck(
            id=f"{self.place.arm}/activations/{self.t + 1}",
            arm=self.place.arm,
            layer=self.t,
            quantity="activations",
            statement=f"The outputs of layer {self.t + 1} behind batch norm and ReLU have second moment "
            f"{predicted:g}, whatever the variance of W.",
            predicted=predicted,
            observed=mean_square(self.seen.output(self.t)),
            measured=measured,
            interval=(low, high),
            df=len(units),
            draws=draws,
            law=init_checks.APPROXIMATION,
            approximation="exact in the mean over W but for batch norm's epsilon (a relative error of at most "
            f"{_ALLOWED:g} is granted); the interval is {_SPREADS:g} standard errors over {len(units)} units, "
            "as if their mean were normal",
            verdict="AGREES" if low - slack <= predicted <= high + slack else "DIFFERS",
        )

    def weight_gradients(self) -> InitCheck:
        """E[(dL/dW)^2] as if all images and positions had independent, zero-mean gradients.

        Batch norm makes the gradients of a unit sum to zero, so what is measured has Var(x) for E[x^2].
        """
        delta = self.seen.deltas[self.t]
        scale = math.sqrt(mean_square(delta)) or 1.0
        d2 = (delta / scale).flatten(2).square()
        x2 = self.seen.inputs[self.t].flatten(2).square()
        count = math.prod(self.layer.kernel)
        found = [
            moments.weight_gradient_at(self.layer, self.size, tap, d2, x2) for tap in range(count)
        ]
        sums = [float(values.sum(0).mean(dtype=torch.float64)) for values in found]
        predicted = scale**2 * sum(sums) / count
        gradient = self.seen.weight_gradients[self.t]
        observed = mean_square(gradient)
        near = abs(observed - predicted) <= init_checks.TOLERANCE * predicted
        return InitCheck(
            id=f"{self.place.arm}/weight-gradients/{self.t + 1}",
            arm=self.place.arm,
            layer=self.t,
            quantity="weight-gradients",
            statement=f"dL/dW of layer {self.t + 1} has second moment {predicted:.6g}, as if all images' "
            "and positions' gradients were independent.",
            predicted=predicted,
            observed=observed,
            measured=observed,
            interval=(observed, observed),
            df=gradient.numel(),
            draws=1,
            law=init_checks.APPROXIMATION,
            approximation="the gradients of images and positions are taken as independent and zero-mean; "
            "under batch norm a unit's sum to zero over the batch, which takes the mean of x out (1 - 1/π is left "
            "where x is half of a normal variable), and a real loss makes images alike",
            verdict="AGREES" if near else "DIFFERS",
        )


def _mean_over(found: list[Tensor]) -> float:
    return float(torch.stack(found).mean())
