r"""How far rounding may move a measured second moment: between backends, and between dtypes.

Two computations of one block that differ only by rounding (eager and compiled, or float32 and
float64 from the same draws) are compared here; nothing is known of either but its dtype.

**One sum of n products.** Stored with the unit roundoff u and accumulated with the unit roundoff a
(bfloat16 is accumulated in float32), in any order and with or without fused multiply-adds, it is off
by the rounding of the result and by n roundings of partial sums. The worst case grows like n a; as
independent errors of mean zero they add up like a random walk (Higham and Mary, 2019), so that in root
mean square, relative to the sum,

    e_n^2 <= u^2 + n a^2.

**A whole net.** Random weights pass a relative error on as large as it came. Sums one after the
other, in the hypernet, up the mainnet and down again, therefore give epsilon^2 = sum of e_n^2 at
most, and two computations differ by epsilon times the square root of 2.

**Whitening.** Observations that are made independent of earlier ones are divided by the root of the
share s of their variance that is left. s has a density of at most 1/(2 sqrt(s)), and nothing below
the rank tolerance is looked at: the mean of 1/s is at most tolerance^(-1/2).

**Masks.** A pre-activation with a relative error epsilon has the other sign with probability
epsilon/pi. Behind a ReLU this replaces a share 2 epsilon/pi of what a gradient is made of, unit by
unit; a unit touches at most as many squares as the net is wide. Of df squares N are replaced, at most:
a Poisson tail.

**The measured value.** theta = S/df is a mean of df squares. Errors that know nothing of the values
move it by 2 epsilon/sqrt(df), one standard deviation, and by epsilon^2 for certain; N replaced
squares move it by (4 sqrt(N L) + 2 L)/df (Laurent and Massart, 2000). Each tail is cut at a chance of
exp(-L), one in 10^9.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from hyperverify.layer_specs import TrunkLayerSpec
from hyperverify.pivots import rank_tolerance
from hyperverify.specs import HypernetSpec

LOG_CHANCE = math.log(1e9)
"""L: each part of the allowance is exceeded with a chance of exp(-L), at most."""


def unit_roundoff(dtype: torch.dtype) -> float:
    """Largest relative error of rounding to ``dtype``: half its eps."""
    return torch.finfo(dtype).eps / 2


def sums(spec: HypernetSpec) -> Iterator[int]:
    """Lengths of the sums of products that a block of ``spec`` goes through, one after another."""
    yield from _through(spec.embedding.dim, spec.trunk)
    if spec.bias_embedding is not None and spec.has_biases:
        yield from _through(spec.bias_embedding.dim, spec.bias_trunk)
    for t, layer in enumerate(spec.layers):
        taps = math.prod(layer.kernel)
        if spec.chunk is not None:
            yield spec.embedding.dim  # alpha
        yield spec.feature_dim  # W
        if layer.bias:
            yield spec.bias_feature_dim  # b
        yield layer.in_channels // layer.groups * taps + layer.bias  # z
        yield layer.out_channels // layer.groups * taps  # dL/dx
        yield spec.batch * math.prod(spec.sizes[t + 1])  # dL/dW
        yield layer.n_weights + layer.bias * layer.out_channels  # dL/dh, and dL/dg
        yield len(spec.layers)  # what tied layers add to one gradient


def _through(entries: int, trunk: tuple[TrunkLayerSpec, ...]) -> Iterator[int]:
    for layer in trunk:
        yield entries
        entries = layer.width


def rounding_error(spec: HypernetSpec, dtype: torch.dtype) -> float:
    """Relative error, in root mean square, of any tensor that a block of ``spec`` shows."""
    stored = unit_roundoff(dtype)
    accumulated = min(stored, unit_roundoff(torch.float32))
    return math.sqrt(sum(stored**2 + n * accumulated**2 for n in sums(spec)))


def _most_replaced(spec: HypernetSpec, apart: float, df: float) -> float:
    """N: squares behind a mask that may be others, for tensors that lie ``apart``."""
    relus = sum(layer.relu for layer in (*spec.layers, *spec.trunk, *spec.bias_trunk))
    if not relus:
        return 0.0
    width = max(spec.feature_dim, spec.bias_feature_dim, *_widths(spec))
    expected = relus * 2 * apart / math.pi * df / width
    units = 0
    # Chernoff's bound on a Poisson tail
    while units + 1 <= expected or _exponent(units + 1, expected) < LOG_CHANCE:
        units += 1
    return float(units * width)


def _widths(spec: HypernetSpec) -> Iterator[int]:
    for layer in spec.layers:
        yield layer.in_channels
        yield layer.out_channels


def _exponent(units: int, expected: float) -> float:
    """Minus log of a bound on the chance that a Poisson count of mean ``expected`` reaches ``units``."""
    return units * math.log(units / expected) - units + expected


def rounding_allowance(
    spec: HypernetSpec, dtype: torch.dtype, df: float, *, gradients: bool = True
) -> float:
    """How far apart two measurements from the same draws may lie, relative to either.

    Args:
        spec: what was measured.
        dtype: of the nets; the coarser one, where the two dtypes differ.
        df: degrees of freedom of the measurement: it is of about ``df`` squares.
        gradients: whether masks decide what is measured: gradients, and counts of active units.

    Returns:
        The allowance for ``|theta_1/theta_2 - 1|``, theta = S/df. It is no tolerance for a rule:
        both measurements have the same draws.
    """
    apart = math.sqrt(2) * rounding_error(spec, dtype)
    whitened = apart * rank_tolerance(dtype) ** -0.25
    allowance = 2 * whitened * math.sqrt(2 * LOG_CHANCE / df) + whitened**2
    replaced = _most_replaced(spec, apart, df) if gradients else 0.0
    if replaced:
        allowance += (4 * math.sqrt(replaced * LOG_CHANCE) + 2 * LOG_CHANCE) / df
    return allowance
