"""The checks of an initialization before its first step, on real images.

One output layer H makes all layers, so what a layer reads depends on the W that reads it. H is therefore
drawn afresh for all that is said of W, given the alphas of the net that is trained and what its layers
read; then W, the sums W x and the gradients W^T dL/dz are linear in H with known coefficients, and their
laws are exact (conservative for uniform draws). alpha is judged given its embeddings.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from hyperverify import moments
from hyperverify.experiments import init_checks
from hyperverify.experiments.cifar import expected as oracle
from hyperverify.experiments.cifar.arms import GENERATED, Arm, Form, draws_of, spec_of
from hyperverify.experiments.cifar.expected import Map
from hyperverify.experiments.cifar.net import Start, filled, generator_of
from hyperverify.experiments.cifar.statistics import Look, mean_square
from hyperverify.experiments.init_checks import Levels, Place
from hyperverify.experiments.records import InitCheck
from hyperverify.nets import tile
from hyperverify.pivots import double, least_squares, whitened_squares

EXACT_CHECKS: Final = 4 * GENERATED - 1
"""An arm's: features, weights and sums of each layer, flows below all but the first."""

_ROWS: Final = 48  # places of the images where W x is looked at
_PLACES: Final = 12  # and W^T dL/dz, in each of so many channels:
_CHANNELS: Final = 32
_DRAWS: Final = 40  # of H, for what has no exact law
_SPREADS: Final = 6.0
_ALLOWED: Final = 0.01


@dataclass(frozen=True)
class Heads:
    """Output layers.

    Attributes:
        H: shape (R, K r, 50), float64.
        own: whether it is that of the net that is trained.
    """

    H: Tensor
    own: bool


class Checker:
    """The checks of an arm, one generated layer after another.

    Args:
        arm: who.
        form: of the nets.
        begin: the net that is trained.
        seen: it, on the images.
        root_seed: of the run.
        levels: error rates of each check.
    """

    def __init__(
        self, arm: Arm, form: Form, begin: Start, seen: Look, root_seed: int, levels: Levels
    ) -> None:
        self.arm, self.form, self.begin, self.seen = arm, form, begin, seen
        self.root_seed, self.levels = root_seed, levels
        self.spec = spec_of(form)
        self.draws = draws_of(arm, form)
        self.sizes = oracle.sizes(form)

    def _generator(self, *path: str | int) -> torch.Generator:
        return generator_of(self.root_seed, self.arm.method, "fresh", *path)

    def heads(self, t: int, what: str) -> Callable[[int, int], Heads]:
        """``draw(batch, count)`` of H; batch 0 is the net's own."""

        def draw(batch: int, count: int) -> Heads:
            if batch == 0:
                return Heads(double(self.begin.output)[None], own=True)
            generator = self._generator(what, t, batch)
            return Heads(
                filled(self.draws["output_layers.0.weight"], generator, torch.float64, count),
                own=False,
            )

        return draw

    def made(self, t: int, H: Tensor) -> Tensor:
        """W of layer ``t`` as these output layers make it: shape (R, d_i, d_j, r)."""
        alphas = double(self.begin.alphas[t])
        tiles = [tile(self.spec, t, alphas @ one.T) for one in H]
        return torch.stack(tiles).flatten(3)

    def features(self, t: int) -> InitCheck:
        """alpha[m] = G[m] e[m], given the embeddings."""
        of = oracle.expected(self.arm, self.form, t)
        names = f"embeddings.{t}", f"input_layers.{t}.weight"

        def draw(batch: int, count: int) -> tuple[Tensor, Tensor]:
            if batch == 0:
                return double(self.begin.alphas[t]), double(self.begin.embeddings[t])
            e, G = (
                filled(self.draws[name], self._generator(name, batch), torch.float32, count)
                for name in names
            )
            return (double(G) @ double(e)[..., None]).flatten(0, 1)[..., 0], double(e).flatten(0, 1)

        def measure(drawn: tuple[Tensor, Tensor]) -> tuple[float, int]:
            alphas, e = drawn
            squares = alphas.square().sum(1) / (of.input * e.square().sum(1))
            return float(squares.sum()), alphas.numel()

        stream = self.levels.stream(self.begin.alphas[t].numel())
        draws = init_checks.fed(stream, draw, measure, 0)
        statement = (
            f"What the output layer reads to make the chunks of layer {t + 1} has second moment "
            f"{of.feature:.6g}."
        )
        observed = mean_square(self.begin.alphas[t])
        return self._decided(t, "features", statement, of.feature, observed, stream, draws)

    def weights(self, t: int) -> InitCheck:
        """W, given every alpha: through it the H that made it is seen."""
        of = oracle.expected(self.arm, self.form, t)
        layer = self.spec.layers[t]
        table = moments.chunk_table(layer.out_channels, layer.in_channels, self.form.width)
        row, number = torch.as_tensor(table[0]), torch.as_tensor(table[1])
        alphas = double(self.begin.alphas[t])[None]
        own = double(self.seen.weights[t].cpu()).flatten(2)[None]

        def measure(heads: Heads) -> tuple[float, int]:
            total, nu = 0.0, 0
            for W in own if heads.own else self.made(t, heads.H):
                chunks = W.new_zeros(alphas.shape[1], self.form.width, W.shape[-1])
                chunks[number, row] = W
                found, df = least_squares(alphas, chunks.flatten(1)[None], of.output)
                total, nu = total + float(found), nu + int(df)
            return total, nu

        entries = self.begin.output.numel()
        stream = self.levels.stream(entries)
        draws = init_checks.fed(stream, self.heads(t, "weights"), measure, 0)
        statement = (
            f"The weights of layer {t + 1} have second moment {of.weight:.6g}, given what the output layer "
            "reads at its predicted scale."
        )
        observed = mean_square(self.seen.weights[t])
        return self._decided(t, "weights", statement, of.weight, observed, stream, draws)

    def sums(self, t: int) -> tuple[InitCheck, InitCheck]:
        """W x at some places of the real images, and what ReLU leaves of it."""
        of = oracle.expected(self.arm, self.form, t)
        layer, size = self.spec.layers[t], self.sizes[t]
        x = self.seen.inputs[t].cpu()
        read = self._patches(t, x)
        alphas = double(self.begin.alphas[t])
        alphas = alphas.view(-1, layer.in_channels, alphas.shape[1])  # (tile, j, k)
        features = torch.einsum("bjk,njp->nbpk", alphas, read).flatten(2).flatten(0, 1)
        gram = of.output * features @ features.T
        tiles = len(alphas)

        def targets(H: Tensor) -> Tensor:
            """Shape (n tiles, R K): the rows of ``features``, a column a row of H and draw."""
            z = torch.einsum("rijp,njp->rni", self.made(t, H), read)
            z = z.reshape(len(H), len(read), tiles, -1)
            return z.permute(1, 2, 0, 3).reshape(len(read) * tiles, -1)

        def measure(heads: Heads) -> tuple[float, int]:
            S, nu = whitened_squares(gram[None], targets(heads.H)[None])
            return float(S), int(nu)

        total = _by_position(x, layer.in_channels)
        predicted = float(oracle.forward(layer, size, of.weight, total).mean())
        observed = mean_square(self.seen.sums[t])
        stream = self.levels.stream(len(gram) * self.form.width)
        draw = self.heads(t, "sums")
        # the first layer reads images, which know nothing of H
        draws = init_checks.fed(stream, draw, measure, 0 if t == 0 else 1)
        statement = f"The sums W x of layer {t + 1} over the real inputs have second moment {predicted:.6g}."
        sums = self._decided(t, "sums", statement, predicted, observed, stream, draws)
        some = targets(self.heads(t, "activations")(1, _DRAWS).H)
        units = torch.relu(some).square().sum(0) / (gram.diagonal().sum() / 2)
        return sums, self._activations(t, units, predicted / 2)

    def _patches(self, t: int, x: Tensor) -> Tensor:
        """What some places read, scaled to a mean square of 1: shape (n, d_j, r), float64."""
        layer, size = self.spec.layers[t], self.sizes[t]
        taps = moments.taps(layer, size)
        generator = self._generator("places", t)
        images = torch.randint(len(x), (_ROWS,), generator=generator)
        places = torch.randint(len(taps), (_ROWS,), generator=generator)
        read = torch.as_tensor(taps)[places]
        flat = torch.nn.functional.pad(double(x[images]).flatten(2), (0, 1))  # -1 reads a zero
        found = flat.gather(2, (read % flat.shape[2])[:, None].expand(-1, flat.shape[1], -1))
        return found / found.square().mean().sqrt()

    def _activations(self, t: int, units: Tensor, predicted: float) -> InitCheck:
        """E[ReLU(W x)^2] against half of E[(W x)^2], by the mean of independent rows of H."""
        measured = float(units.mean())
        error = _SPREADS * float(units.std()) / math.sqrt(len(units))
        low, high = measured - error, measured + error
        return InitCheck(
            id=f"{self.arm.method}/activations/{t + 1}",
            arm=self.arm.method,
            layer=t,
            quantity="activations",
            statement=f"The outputs of layer {t + 1} behind ReLU have second moment {predicted:.6g}, given "
            "its real inputs.",
            predicted=predicted,
            observed=mean_square(self.seen.outputs[t]),
            measured=measured * predicted,
            interval=(low * predicted, high * predicted),
            df=len(units),
            draws=_DRAWS,
            law=init_checks.APPROXIMATION,
            approximation=f"the interval is {_SPREADS:g} standard errors over {len(units)} rows of H; a "
            f"relative error of {_ALLOWED:g} is granted",
            verdict="AGREES" if low - _ALLOWED <= 1 <= high + _ALLOWED else "DIFFERS",
        )

    def flows(self, t: int) -> InitCheck:
        """W^T dL/dz at some places under the real loss."""
        of = oracle.expected(self.arm, self.form, t)
        layer, size = self.spec.layers[t], self.sizes[t]
        delta = self.seen.deltas[t].cpu()
        reach = self._reaching(t, delta)
        channels = min(_CHANNELS, layer.in_channels)
        alphas = double(self.begin.alphas[t])
        alphas = alphas.view(-1, layer.in_channels, alphas.shape[1])[:, :channels]
        above = reach.view(len(reach), len(alphas), -1)  # (n, tile, rows of H)
        gram = torch.einsum("ajk,bJk,nac,Nbc->njNJ", alphas, alphas, above, above)
        gram = of.output * gram.reshape(len(reach) * channels, -1)

        def measure(heads: Heads) -> tuple[float, int]:
            W = self.made(t, heads.H)[:, :, :channels]
            flow = torch.einsum("rijp,nip->njr", W, reach).flatten(0, 1)
            S, nu = whitened_squares(gram[None], flow[None])
            return float(S), int(nu)

        total = _by_position(delta, layer.out_channels)
        predicted = float(oracle.backward(layer, size, of.weight, total).mean())
        stream = self.levels.stream(len(gram))
        draws = init_checks.fed(stream, self.heads(t, "flows"), measure, 1)
        statement = (
            f"The gradients W^T dL/dz below layer {t + 1}, under the real loss, have second moment "
            f"{predicted:.6g}."
        )
        observed = mean_square(self.seen.gradients[t - 1])
        return self._decided(t, "flows", statement, predicted, observed, stream, draws)

    def _reaching(self, t: int, delta: Tensor) -> Tensor:
        """dL/dz that reaches some input positions through each tap: shape (n, d_i, r), float64."""
        taps = moments.taps(self.spec.layers[t], self.sizes[t])
        generator = self._generator("reached", t)
        images = torch.randint(len(delta), (_PLACES,), generator=generator)
        places = torch.randint(math.prod(self.sizes[t]), (_PLACES,), generator=generator).numpy()
        found = torch.zeros(_PLACES, delta.shape[1], taps.shape[1], dtype=torch.float64)
        flat = double(delta[images]).flatten(2)
        for n in range(_PLACES):
            for output, tap in zip(*np.nonzero(taps == places[n]), strict=True):
                found[n, :, tap] = flat[n, :, output]
        return found / found.square().mean().sqrt()

    def weight_gradients(self, t: int) -> InitCheck:
        """E[(dL/dW)^2] as if images and positions had independent, zero-mean gradients."""
        layer, size = self.spec.layers[t], self.sizes[t]
        taps = moments.taps(layer, size)
        x2 = double(self.seen.inputs[t].cpu()).square().mean(1).flatten(1).numpy()
        d2 = double(self.seen.deltas[t].cpu()).square().mean(1).flatten(1).numpy()
        read = np.where(taps[None] < 0, 0.0, x2[:, taps])  # (B, positions, r)
        predicted = float((d2[:, :, None] * read).sum((0, 1)).mean())
        observed = mean_square(self.seen.weight_gradients[t])
        near = abs(observed - predicted) <= init_checks.TOLERANCE * predicted
        return InitCheck(
            id=f"{self.arm.method}/weight-gradients/{t + 1}",
            arm=self.arm.method,
            layer=t,
            quantity="weight-gradients",
            statement=f"dL/dW of layer {t + 1} has second moment {predicted:.6g}, as if the gradients of "
            "all images and positions were independent.",
            predicted=predicted,
            observed=observed,
            measured=observed,
            interval=(observed, observed),
            df=layer.n_weights,
            draws=1,
            law=init_checks.APPROXIMATION,
            approximation="the gradients of images and positions are taken as independent and zero-mean; "
            "real images and a real loss make them alike",
            verdict="AGREES" if near else "DIFFERS",
        )

    def _decided(
        self,
        t: int,
        quantity: str,
        statement: str,
        predicted: float,
        observed: float,
        stream: init_checks.EvidenceStream,
        draws: int,
    ) -> InitCheck:
        place = Place(self.arm.method, t)
        return init_checks.decided(place, quantity, statement, predicted, observed, stream, draws)


def _by_position(values: Tensor, channels: int) -> Map:
    """Squares, averaged over the images and summed over the channels: shape (1, positions)."""
    mean = double(values).square().mean((0, 1)).flatten()
    return (channels * mean).numpy()[None]


def check_arm(
    arm: Arm, form: Form, begin: Start, seen: Look, root_seed: int, levels: Levels
) -> list[InitCheck]:
    """All checks of one initialization; see :class:`Checker`."""
    checker = Checker(arm, form, begin, seen, root_seed, levels)
    found: list[InitCheck] = []
    for t in range(GENERATED):
        found += [checker.features(t), checker.weights(t), *checker.sums(t)]
        if t:
            found.append(checker.flows(t))
        found.append(checker.weight_gradients(t))
    return found


def chained(arm: Arm, form: Form, seen: Look) -> tuple[Map, Map]:
    """The oracle's E[y^2] and E[(dL/dy)^2] of all layers, see :func:`expected.chain`."""
    images = _by_position(seen.inputs[0].cpu(), 3)
    top = seen.gradients[-1].cpu()
    return oracle.chain(arm, form, images, _by_position(top, top.shape[1]))
