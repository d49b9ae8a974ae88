"""The formulas themselves: one pure function each, nothing checked, no units but second moments.

Arguments are ``Fraction``, ``float`` or sympy expressions (ints would divide inexactly); flags are
bools or indicator symbols. ``2**relu`` is s: 2 if the mainnet layer's output goes through a ReLU,
else 1. :mod:`hyperverify.formulas` gives each its id, source, assumptions and argument checks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from hyperverify.latex import symbol, sympy_module
from hyperverify.rule_arguments import Scalar, positive_part, square_root

Mean: TypeAlias = Callable[[Scalar, Scalar], Scalar]


# Table 1.


def hyperfan_in_h(
    d_j: Scalar, d_k: Scalar, var_e: Scalar, r: Scalar, relu: Scalar, bias: Scalar
) -> Scalar:
    return 2**relu / (2**bias * d_j * d_k * var_e * r)


def hyperfan_in_g(d_l: Scalar, var_e: Scalar, relu: Scalar) -> Scalar:
    return 2**relu / (2 * d_l * var_e)


def hyperfan_out_h(d_i: Scalar, d_k: Scalar, var_e: Scalar, r: Scalar, relu: Scalar) -> Scalar:
    return 2**relu / (d_i * d_k * var_e * r)


def hyperfan_out_g(d_i: Scalar, d_j: Scalar, d_l: Scalar, var_e: Scalar, relu: Scalar) -> Scalar:
    # s / (d_l Var(e)) is positive, so it may stand outside the maximum.
    return 2**relu * positive_part(1 - d_j / d_i) / (d_l * var_e)


# Means of a fan-in and a fan-out variance (Appendix B.1.3). The first of the two is never zero.


def harmonic(a: Scalar, b: Scalar) -> Scalar:
    return 2 * a * b / (a + b)


def geometric(a: Scalar, b: Scalar) -> Scalar:
    return square_root(a * b)


def arithmetic(a: Scalar, b: Scalar) -> Scalar:
    return (a + b) / 2


def mean_of_hyperfan_h(mean: Mean) -> Callable[..., Scalar]:
    """The rule for H that takes a mean of hyperfan-in and hyperfan-out."""

    def rule(
        d_i: Scalar, d_j: Scalar, d_k: Scalar, var_e: Scalar, r: Scalar, relu: Scalar, bias: Scalar
    ) -> Scalar:
        return mean(
            hyperfan_in_h(d_j, d_k, var_e, r, relu, bias), hyperfan_out_h(d_i, d_k, var_e, r, relu)
        )

    return rule


def mean_of_hyperfan_g(mean: Mean) -> Callable[..., Scalar]:
    """The rule for G that takes a mean of hyperfan-in and hyperfan-out."""

    def rule(d_i: Scalar, d_j: Scalar, d_l: Scalar, var_e: Scalar, relu: Scalar) -> Scalar:
        return mean(hyperfan_in_g(d_l, var_e, relu), hyperfan_out_g(d_i, d_j, d_l, var_e, relu))

    return rule


# Appendix A.1: one output layer for several mainnet layers.


def reused_h(
    variant: str,
    d_i: Scalar,
    d_j: Scalar,
    d_k: Scalar,
    var_e: Scalar,
    r: Scalar,
    relu: Scalar,
    bias: Scalar,
) -> Scalar:
    if variant == "hyperfan-in":
        return hyperfan_in_h(d_j, d_k, var_e, r, relu, bias)
    return hyperfan_out_h(d_i, d_k, var_e, r, relu)


def outer_product(gradient: Scalar, feature: Scalar) -> Scalar:
    """Second moment of an entry of dL/dW[t] (x) h(e[t])."""
    return gradient * feature


def reused_gradient(
    weight_gradient_second_moments: Sequence[Scalar], feature_second_moments: Sequence[Scalar]
) -> Scalar:
    return sum(map(outer_product, weight_gradient_second_moments, feature_second_moments))


def reused_gradient_of_any_layers() -> Scalar:
    """:func:`reused_gradient` for a symbolic number of layers T."""
    sympy = sympy_module()
    t, gradient, feature = symbol("t"), sympy.IndexedBase("D"), sympy.IndexedBase("E")
    return sympy.Sum(outer_product(gradient[t], feature[t]), (t, 1, symbol("T")))


# Appendix A.2: chunks. H is fan-in initialized in both variants.


def chunked_h(d_k: Scalar) -> Scalar:
    return 1 / d_k


def chunked_in_g(d_j: Scalar, d_l: Scalar, var_e: Scalar, r: Scalar, relu: Scalar) -> Scalar:
    return 2**relu / (d_j * d_l * var_e * r)


def chunked_out_g(d_i: Scalar, d_l: Scalar, var_e: Scalar, r: Scalar, relu: Scalar) -> Scalar:
    return 2**relu / (d_i * d_l * var_e * r)


# Classical rules and Section 3. The output layer is n_W x d_k; s is the mainnet's.


def fan_in(d_k: Scalar, relu: Scalar) -> Scalar:
    return 2**relu / d_k


def fan_out(n_W: Scalar, relu: Scalar) -> Scalar:
    return 2**relu / n_W


def mean_of_classical(mean: Mean) -> Callable[..., Scalar]:
    """The rule that takes a mean of fan-in and fan-out."""

    def rule(d_k: Scalar, n_W: Scalar, relu: Scalar) -> Scalar:
        return mean(fan_in(d_k, relu), fan_out(n_W, relu))

    return rule


def torch_default(d_k: Scalar) -> Scalar:
    return 1 / (3 * d_k)


def xavier_or_kaiming(variant: str, d_k: Scalar, n_W: Scalar, relu: Scalar) -> Scalar:
    if variant == "fan-in":
        return fan_in(d_k, relu)
    if variant == "fan-out":
        return fan_out(n_W, relu)
    return harmonic(fan_in(d_k, relu), fan_out(n_W, relu))


def small_random(sigma2: Scalar) -> Scalar:
    return sigma2


def kaiming_tenth(d_k: Scalar, relu: Scalar) -> Scalar:
    return fan_in(d_k, relu) / 10**2  # the weights are multiplied by 1/10


def orthogonal(d_k: Scalar, n_W: Scalar, relu: Scalar) -> Scalar:
    return 2**relu * d_k / (n_W * d_k)  # d_k columns of squared norm s, spread over all entries
