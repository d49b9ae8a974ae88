"""What `hyperverify check --expect` asks of a traced layer, from the rules in `formulas`."""

from __future__ import annotations

from dataclasses import dataclass

from hyperverify.errors import BadArgument
from hyperverify.formulas import variance

EXPECTATIONS = ("hyperfan-in", "hyperfan-out", "forward", "backward", "either")
LAST_LAYER = ("paper", "relu", "skip")

_RULES = {"hyperfan-in": "T1.in", "hyperfan-out": "T1.out"}


@dataclass(frozen=True)
class Demand:
    """One claim that an expectation makes of a layer.

    Attributes:
        name: ``weights``, ``biases``, ``forward`` or ``backward``.
        measure: which estimate it is about: ``weights`` E[W^2], ``biases`` E[b^2], ``activations``
            the gain (d_j r E[W^2] + E[b^2] / E[x^2]) / s.
        expected: the second moment asked; for activations 1.
        claim: the sentence.
    """

    name: str
    measure: str
    expected: float
    claim: str


def check_expectation(expect: object, last_layer: object) -> tuple[str, str]:
    """The two options, or BadArgument."""
    if not isinstance(expect, str) or expect not in EXPECTATIONS:
        raise BadArgument("expect", expect, "one of " + ", ".join(EXPECTATIONS))
    if not isinstance(last_layer, str) or last_layer not in LAST_LAYER:
        raise BadArgument("last_layer", last_layer, "one of " + ", ".join(LAST_LAYER))
    return expect, last_layer


def demands(
    expect: str,
    *,
    d_i: int,
    d_j: int,
    r: int,
    relu: bool,
    generates_bias: bool,
    live_bias: bool,
) -> tuple[Demand, ...]:
    """The claims of an expectation about one layer.

    Args:
        expect: as `EXPECTATIONS`.
        d_i: out_channels / groups.
        d_j: in_channels / groups.
        r: receptive field size.
        relu: whether a factor of 2 is due for a ReLU behind the layer.
        generates_bias: whether the hypernet makes its bias (I_HBias).
        live_bias: whether a bias that is not all zero is added, generated or not.
    """
    if expect == "either":
        both = ("forward", "backward")
        return tuple(
            demand
            for one in both
            for demand in demands(one, d_i=d_i, d_j=d_j, r=r, relu=relu,
                                  generates_bias=generates_bias, live_bias=live_bias)
        )  # fmt: skip
    s = 2 if relu else 1
    if expect == "backward":
        claim = (
            "gradients keep their second moment: E[W^2] = s/(d_i r), "
            "so that the squared gradients at the layer's input and output sum to the same per channel"
        )
        return (Demand("backward", "weights", s / (d_i * r), claim),)
    if expect == "forward":
        if live_bias:
            claim = (
                "activations keep their second moment, bias included: "
                "d_j r E[W^2] + E[b^2] / E[x^2] = s"
            )
            return (Demand("forward", "activations", 1.0, claim),)
        claim = "activations keep their second moment: E[W^2] = s/(d_j r)"
        return (Demand("forward", "weights", s / (d_j * r), claim),)
    rule = _RULES[expect]
    # One feature of second moment 1 turns Var(H) into E[W^2], Var(G) into E[b^2].
    v = float(
        variance(f"{rule}.H", d_i=d_i, d_j=d_j, d_k=1, r=r, var_e=1, relu=relu, bias=generates_bias)
        if rule == "T1.in"
        else variance(f"{rule}.H", d_i=d_i, d_k=1, r=r, var_e=1, relu=relu)
    )
    found = [Demand("weights", "weights", v, f"E[W^2], mean over the weights, is {expect}'s")]
    if generates_bias:
        u = float(
            variance(f"{rule}.G", d_l=1, var_e=1, relu=relu)
            if rule == "T1.in"
            else variance(f"{rule}.G", d_i=d_i, d_j=d_j, d_l=1, var_e=1, relu=relu)
        )
        found.append(Demand("biases", "biases", u, f"E[b^2], mean over the biases, is {expect}'s"))
    return tuple(found)
