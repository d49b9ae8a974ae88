"""Whether the entries of a weight are alike: a mean can be right while its parts are not.

For each output unit, input unit and place in the kernel the mean square is taken relative to the whole
weight's, replicate by replicate. Within one replicate all share h, so that these ratios are sharp.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hyperverify.bounded import log_e_above, log_e_below
from hyperverify.tracing.layers import TracedLayer

MOST_UNITS = 4096
"""Of more units than that along one dimension no account is kept."""
LEAST_REPLICATES = 32
"""Their spread is estimated from the replicates: it takes some."""


@dataclass
class Evenness:
    """Mean squares of parts of one weight over its own mean square.

    Attributes:
        ratios: by the name of the dimension, one array (units,) a replicate.
    """

    ratios: dict[str, list[NDArray[np.float32]]] = field(
        default_factory=dict[str, list[NDArray[np.float32]]]
    )

    def add(self, layer: TracedLayer, weight: Tensor) -> None:
        """One replicate's weight, shaped as it is used."""
        square = weight.detach().to("cpu").double().square()
        mean = float(square.mean())
        if not 0.0 < mean < math.inf:
            return
        for name, units in _parts(layer, square).items():
            if 1 < units.numel() <= MOST_UNITS:
                self.ratios.setdefault(name, []).append((units / mean).float().numpy())

    def uneven(self, tolerance: float, alpha: float) -> str | None:
        """The part that is furthest off beyond the tolerance, in words, if it surely is.

        Args:
            tolerance: relative difference from the whole that is let pass.
            alpha: probability allowed of naming a part of an even weight.
        """
        units = sum(rows[0].size for rows in self.ratios.values())
        worst: tuple[float, str] | None = None
        for name, rows in self.ratios.items():
            if len(rows) < LEAST_REPLICATES:
                continue
            table = np.stack(rows).astype(np.float64)
            means = table.mean(0)
            off = np.abs(np.log(np.maximum(means, 1e-300)))
            for unit in np.flatnonzero(off > math.log1p(tolerance)):
                if worst is not None and off[unit] <= worst[0]:
                    continue
                values = table[:, unit]
                mean = float(means[unit])
                spread = 2.0 * float(values.var()) / mean**2 if mean > 1e-100 else 0.0
                enough = math.log(2.0 * units / alpha)
                above = log_e_above(values, 1.0 + tolerance, spread)
                below = log_e_below(values, 1.0 / (1.0 + tolerance), spread)
                if max(above, below) >= enough:
                    text = f"{name} {unit + 1} has {mean:.3g} times the layer's mean E[W^2]"
                    worst = (float(off[unit]), text)
        return None if worst is None else worst[1]


def _parts(layer: TracedLayer, square: Tensor) -> dict[str, Tensor]:
    """Mean squares of a weight's parts, by what they are, each (units,).

    Args:
        layer: whose weight it is.
        square: the squared entries: (d_i, d_j), (matrices, d_i, d_j), or a convolution's.
    """
    if not layer.kernel:
        table = square.reshape(
            -1, *square.shape[-2:]
        )  # samples and copies first, where there are any
        if layer.per_sample:
            table = table.mean(0, keepdim=True)
        if table.shape[0] == 1:
            return {"output unit": table[0].mean(1), "input unit": table[0].mean(0)}
        return {
            "matrix": table.mean((1, 2)),
            "of all matrices' output units, number": table.mean(2).reshape(-1),
            "of all matrices' input units, number": table.mean(1).reshape(-1),
        }
    table = square.flatten(2)
    first, second = table.mean((1, 2)), table.mean((0, 2))
    if layer.per_sample:  # the samples' kernels stand one after another
        channels = layer.d_j if layer.kind.startswith("transposed") else layer.d_i
        first = first.reshape(-1, channels * layer.groups).mean(0)
    if layer.kind.startswith("transposed"):
        first, second = second, first
    places = table.mean((0, 1))
    return {"output unit": first, "input unit": second, "place in the kernel": places}
