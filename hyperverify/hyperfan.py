"""Initializers of Table 1, in the manner of ``torch.nn.init``: hyperfan-in, hyperfan-out, their means.

Each fills ``tensor`` in place, without gradients, and returns it. ``tensor`` is the weight of the
hypernet's output layer: H, of shape (n_W, d_k), generates the n_W mainnet weights from d_k
features; G, of shape (out_channels, d_l), generates the biases. ``weight_shape`` is the shape of
the GENERATED weight as torch's layers keep it, (out_channels, in_channels / groups, *kernel).
``_uniform_`` draws from U(-sqrt(3 Var), sqrt(3 Var)), ``_normal_`` from N(0, Var).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import cast

import torch
from torch import Tensor

from hyperverify.errors import BadArgument
from hyperverify.plan import check_tensor, rule_

MEANS = ("harmonic", "geometric", "arithmetic")


@dataclass(frozen=True)
class Fans:
    """The sizes of a generated weight."""

    out_channels: int
    d_i: int
    d_j: int
    r: int
    n_weights: int


def whole(value: object, least: int) -> int | None:
    """``value`` as an int, or None if it is no integer of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        return None
    return int(value)


def fans_of(weight_shape: object, groups: object) -> Fans:
    """The sizes of a weight of shape (out_channels, in_channels / groups, *kernel).

    Raises:
        BadArgument: for another shape, or groups that do not divide the out_channels.
    """
    given = cast(
        "tuple[object, ...]", weight_shape if isinstance(weight_shape, (tuple, list)) else ()
    )
    sizes = [size for item in given if (size := whole(item, 1)) is not None]
    if len(sizes) < 2 or len(sizes) != len(given):
        allowed = "(out_channels, in_channels / groups, *kernel), integers of at least 1"
        raise BadArgument("weight_shape", cast(object, weight_shape), allowed)
    out, parts = sizes[0], whole(groups, 1)
    if parts is None or out % parts:
        raise BadArgument("groups", groups, f"a divisor of out_channels = {out}")
    return Fans(out, out // parts, sizes[1], math.prod(sizes[2:]), math.prod(sizes))


def columns(tensor: Tensor, what: str, rows: int | None = None) -> int:
    """The columns d_k (or d_l) of an output layer's weight, once its rows are right."""
    check_tensor(tensor)
    shape = tuple(tensor.shape)
    if len(shape) != 2 or 0 in shape or (rows is not None and shape[0] != rows):
        allowed = f"({what}, features)" + ("" if rows is None else f" with {what} = {rows}")
        raise BadArgument("tensor.shape", shape, allowed)
    return shape[1]


def check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Refuses a ``value`` that is not among the ``allowed``, by BadArgument."""
    if value not in allowed:
        raise BadArgument(name, value, "one of " + ", ".join(allowed))


def _weights_(
    rule_id: str,
    distribution: str,
    tensor: Tensor,
    weight_shape: Sequence[int],
    var_e: float,
    relu: bool,
    bias: bool,
    groups: int,
    generator: torch.Generator | None,
) -> Tensor:
    fans = fans_of(weight_shape, groups)
    d_k = columns(tensor, "n_W", fans.n_weights)
    facts = {"d_i": fans.d_i, "d_j": fans.d_j, "d_k": d_k, "r": fans.r}
    facts |= {"var_e": var_e, "relu": relu, "bias": bias}
    return rule_(tensor, rule_id, facts, distribution, generator)


def _biases_(
    rule_id: str,
    distribution: str,
    tensor: Tensor,
    weight_shape: Sequence[int],
    var_e: float,
    relu: bool,
    groups: int,
    generator: torch.Generator | None,
) -> Tensor:
    fans = fans_of(weight_shape, groups)
    d_l = columns(tensor, "out_channels", fans.out_channels)
    facts = {"d_i": fans.d_i, "d_j": fans.d_j, "d_l": d_l, "var_e": var_e, "relu": relu}
    return rule_(tensor, rule_id, facts, distribution, generator)


def hyperfan_in_uniform_(
    tensor: Tensor,
    weight_shape: Sequence[int],
    *,
    var_e: float = 1.0,
    relu: bool = False,
    bias: bool = False,
    groups: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Hyperfan-in init of H, uniform: Var(H) = s / (2^bias d_j d_k Var(e) r) (Table 1).

    Args:
        tensor: shape (n_W, d_k).
        weight_shape: of the generated weight.
        var_e: E[e^2] of the embedding that the hypernet reads.
        relu: whether the mainnet layer's output goes through a ReLU (s = 2, else 1).
        bias: whether the hypernet generates the layer's biases too.
        groups: of the mainnet layer.
        generator: of the tensor's device; None for torch's default generator.

    Returns:
        ``tensor``.

    Raises:
        BadArgument: for a value or a shape that is not allowed.
    """
    return _weights_(
        "T1.in.H", "uniform", tensor, weight_shape, var_e, relu, bias, groups, generator
    )


def hyperfan_in_normal_(
    tensor: Tensor,
    weight_shape: Sequence[int],
    *,
    var_e: float = 1.0,
    relu: bool = False,
    bias: bool = False,
    groups: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Hyperfan-in init of H, normal; see :func:`hyperfan_in_uniform_`."""
    return _weights_(
        "T1.in.H", "normal", tensor, weight_shape, var_e, relu, bias, groups, generator
    )


def hyperfan_out_uniform_(
    tensor: Tensor,
    weight_shape: Sequence[int],
    *,
    var_e: float = 1.0,
    relu: bool = False,
    bias: bool = False,
    groups: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Hyperfan-out init of H, uniform: Var(H) = s / (d_i d_k Var(e) r) (Table 1).

    The variance is the same with and without generated biases: ``bias`` is accepted so that one
    call serves both methods. Arguments as in :func:`hyperfan_in_uniform_`.
    """
    return _weights_(
        "T1.out.H", "uniform", tensor, weight_shape, var_e, relu, bias, groups, generator
    )


def hyperfan_out_normal_(
    tensor: Tensor,
    weight_shape: Sequence[int],
    *,
    var_e: float = 1.0,
    relu: bool = False,
    bias: bool = False,
    groups: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Hyperfan-out init of H, normal; see :func:`hyperfan_out_uniform_`."""
    return _weights_(
        "T1.out.H", "normal", tensor, weight_shape, var_e, relu, bias, groups, generator
    )


def hyperfan_mean_uniform_(
    tensor: Tensor,
    weight_shape: Sequence[int],
    *,
    mean: str = "harmonic",
    var_e: float = 1.0,
    relu: bool = False,
    bias: bool = False,
    groups: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """H by a mean of the hyperfan-in and hyperfan-out variances, uniform (Appendix B.1.3).

    Args as in :func:`hyperfan_in_uniform_`; ``mean`` is ``harmonic``, ``geometric`` or
    ``arithmetic``.
    """
    check_choice("mean", mean, MEANS)
    return _weights_(
        f"T1.{mean}.H", "uniform", tensor, weight_shape, var_e, relu, bias, groups, generator
    )


def hyperfan_mean_normal_(
    tensor: Tensor,
    weight_shape: Sequence[int],
    *,
    mean: str = "harmonic",
    var_e: float = 1.0,
    relu: bool = False,
    bias: bool = False,
    groups: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """H by a mean of the two variances, normal; see :func:`hyperfan_mean_uniform_`."""
    check_choice("mean", mean, MEANS)
    return _weights_(
        f"T1.{mean}.H", "normal", tensor, weight_shape, var_e, relu, bias, groups, generator
    )


def _bias_in_(
    distribution: str,
    tensor: Tensor,
    var_e: float,
    relu: bool,
    generator: torch.Generator | None,
) -> Tensor:
    d_l = columns(tensor, "out_channels")
    facts = {"d_l": d_l, "var_e": var_e, "relu": relu}
    return rule_(tensor, "T1.in.G", facts, distribution, generator)


def hyperfan_in_bias_uniform_(
    tensor: Tensor,
    *,
    var_e: float = 1.0,
    relu: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Hyperfan-in init of G, uniform: Var(G) = s / (2 d_l Var(e[2])) (Table 1).

    Args:
        tensor: shape (out_channels, d_l).
        var_e: E[e^2] of the embedding that the biases are generated from.
        relu: whether the mainnet layer's output goes through a ReLU (s = 2, else 1).
        generator: of the tensor's device; None for torch's default generator.

    Returns:
        ``tensor``.

    Raises:
        BadArgument: for a value or a shape that is not allowed.
    """
    return _bias_in_("uniform", tensor, var_e, relu, generator)


def hyperfan_in_bias_normal_(
    tensor: Tensor,
    *,
    var_e: float = 1.0,
    relu: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Hyperfan-in init of G, normal; see :func:`hyperfan_in_bias_uniform_`."""
    return _bias_in_("normal", tensor, var_e, relu, generator)


def hyperfan_out_bias_uniform_(
    tensor: Tensor,
    weight_shape: Sequence[int],
    *,
    var_e: float = 1.0,
    relu: bool = False,
    groups: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Hyperfan-out init of G, uniform: Var(G) = s max(1 - d_j/d_i, 0) / (d_l Var(e[2])) (Table 1).

    Zeros where d_j >= d_i. Arguments as in :func:`hyperfan_in_bias_uniform_`, and ``weight_shape``
    and ``groups`` of the mainnet layer.
    """
    return _biases_("T1.out.G", "uniform", tensor, weight_shape, var_e, relu, groups, generator)


def hyperfan_out_bias_normal_(
    tensor: Tensor,
    weight_shape: Sequence[int],
    *,
    var_e: float = 1.0,
    relu: bool = False,
    groups: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Hyperfan-out init of G, normal; see :func:`hyperfan_out_bias_uniform_`."""
    return _biases_("T1.out.G", "normal", tensor, weight_shape, var_e, relu, groups, generator)


def hyperfan_mean_bias_uniform_(
    tensor: Tensor,
    weight_shape: Sequence[int],
    *,
    mean: str = "harmonic",
    var_e: float = 1.0,
    relu: bool = False,
    groups: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """G by a mean of the hyperfan-in and hyperfan-out variances, uniform (Appendix B.1.3).

    Zeros under the harmonic and geometric means where d_j >= d_i. Arguments as in
    :func:`hyperfan_out_bias_uniform_`; ``mean`` as in :func:`hyperfan_mean_uniform_`.
    """
    check_choice("mean", mean, MEANS)
    rule_id = f"T1.{mean}.G"
    return _biases_(rule_id, "uniform", tensor, weight_shape, var_e, relu, groups, generator)


def hyperfan_mean_bias_normal_(
    tensor: Tensor,
    weight_shape: Sequence[int],
    *,
    mean: str = "harmonic",
    var_e: float = 1.0,
    relu: bool = False,
    groups: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """G by a mean of the two variances, normal; see :func:`hyperfan_mean_bias_uniform_`."""
    check_choice("mean", mean, MEANS)
    rule_id = f"T1.{mean}.G"
    return _biases_(rule_id, "normal", tensor, weight_shape, var_e, relu, groups, generator)
