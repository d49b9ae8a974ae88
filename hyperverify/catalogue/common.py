"""What all topics of the catalogue share: rule ids, the formula's answer, laws and assumptions."""

from __future__ import annotations

from typing import Any

from hyperverify.catalogue.claims import CALIBRATED, CONDITIONAL, CONSERVATIVE, EXACT, MEAN
from hyperverify.catalogue.conditions import readers
from hyperverify.closed_forms import DEPARTURES, closed_form
from hyperverify.formulas import METHODS, RULES
from hyperverify.specs import HypernetSpec

GIVEN_H = "given the features h(e) that generate the layer"
GIVEN_X = "given the layer's input x, which does not depend on its own output layer H"
ZERO_BETA = "beta and gamma are zero, as at initialization"
COTANGENT = "the cotangent is drawn independently of the network, normal, of second moment 1"
ALIASES = ("M1", "A1.H")
"""Rules that are another rule under the name of another section."""
HALF_ACTIVE = "half of a ReLU layer's units are active (quantity 'active' checks it)"
SCALE_FREE = "no scale of H or G enters: what is tested is how the gradient is made of its factors"
SIGNS = "the cotangent's signs are independent and fair, so ReLU masks do not bend its law"


def dims(spec: HypernetSpec, t: int) -> dict[str, Any]:
    """Layer ``t`` in the arguments of :func:`hyperverify.closed_forms.closed_form`."""
    layer = spec.layers[t]
    bias_embedding = spec.bias_embedding or spec.embedding
    found: dict[str, Any] = {
        "d_i": layer.out_channels // layer.groups,
        "d_j": layer.in_channels // layer.groups,
        "d_k": spec.feature_dim,
        "r": layer.n_weights // (layer.out_channels * (layer.in_channels // layer.groups)),
        "groups": layer.groups,
        "var_e": spec.embedding.second_moment,
        "relu": layer.relu,
        "bias": layer.bias,
    }
    if layer.bias:
        found |= {"d_l": spec.bias_feature_dim, "var_e2": bias_embedding.second_moment}
    if spec.sigma2 is not None:
        found["sigma2"] = spec.sigma2
    if spec.chunk is not None:
        found |= {"d_l": spec.embedding.dim, "chunked": True}
    return found


def formula(spec: HypernetSpec, t: int, quantity: str, **extra: Any) -> float:
    """The paper's algebra for a quantity of layer ``t``."""
    given: dict[str, Any] = dims(spec, t) | extra
    return float(closed_form(spec.method, quantity, **given))


def weights_formula(spec: HypernetSpec, t: int, oracle: float) -> float:
    """E[W^2] by the method's rule and by every other name that it goes by (M1, A1.H).

    Should they differ, it is the one farthest from the oracle, so that one wrong rule is enough.
    """
    found = [formula(spec, t, "weights")]
    given = dims(spec, t) | {"variant": spec.method, "n_W": spec.layers[t].n_weights}
    for rule in (RULES[name] for name in weight_rules(spec, t) if name in ALIASES):
        if spec.method in rule.variants:
            known = {a.name: given[a.name] for a in rule.arguments}
            feature = formula(spec, t, "trunk")
            found.append(float(spec.feature_dim * feature * rule(**known)))
    return max(found, key=lambda value: abs(value - oracle))


def gradient_formula(spec: HypernetSpec, t: int, tap: int | None = None) -> float:
    """E[(dL/dW)^2] at one tap for inputs and cotangents of second moment 1 (None: mean over taps).

    Each output position where a cotangent enters and the tap reads inside adds p' q / s.
    """
    positions = (readers(spec, t) >= 0).sum(0)
    one = formula(spec, t, "weight_gradient", p=1, q=1, batch=spec.batch)
    return one * float(positions.mean() if tap is None else positions[tap])


def weight_rules(spec: HypernetSpec, t: int, *, gradient: bool = False) -> tuple[str, ...]:
    """Ids of the rules that set the scale of layer ``t``'s W."""
    method = METHODS[spec.method]
    if spec.chunk is not None:
        return ("A2.H", str(method.chunked))
    ids = [str(method.H)]
    if spec.method in ("fan-in", "fan-out", "harmonic"):
        ids.append("M1")
    if shared(spec, t):
        ids.append("A1.grad" if gradient else "A1.H")
    return tuple(ids)


def bias_rules(spec: HypernetSpec) -> tuple[str, ...]:
    """Ids of the rules that set the scale of the generated biases."""
    ids = [str(METHODS[spec.method].G)]
    if spec.method in ("fan-in", "fan-out", "harmonic"):
        ids.append("M1")
    return tuple(ids)


def shared(spec: HypernetSpec, t: int) -> bool:
    """Whether layer ``t`` has its output layer in common with another (Appendix A.1)."""
    if spec.output != "shared":
        return False
    groups = [spec.output_group(n) for n in range(len(spec.layers))]
    return groups.count(groups[t]) > 1


def law(spec: HypernetSpec, t: int) -> str:
    """What the pivots of layer ``t``'s generated weights follow."""
    if spec.distribution == "normal":
        return EXACT
    return CALIBRATED if spec.chunk is not None or shared(spec, t) else CONSERVATIVE


def claim_kind(spec: HypernetSpec) -> str:
    """A conditional gain, or the mean gain where |h| is the same at every draw."""
    fixed = spec.embedding.fixed_norm and not spec.trunk and spec.chunk is None
    if spec.bias_embedding is not None:
        fixed = fixed and spec.bias_embedding.fixed_norm and not spec.bias_trunk
    return MEAN if fixed else CONDITIONAL


def given(spec: HypernetSpec, t: int, *more: str) -> tuple[str, ...]:
    """Assumptions of a claim on layer ``t``."""
    found = [GIVEN_H, ZERO_BETA, *more]
    if claim_kind(spec) == MEAN:
        found[0] = "every embedding has the same norm, so the gain given h is the mean gain"
    if law(spec, t) == CALIBRATED:
        found.append(
            "the exact law is proven for normal draws only; for uniform draws behind a shared "
            "output layer it is calibrated by simulation"
        )
    elif law(spec, t) == CONSERVATIVE:
        found.append("uniform draws: the normal law's error rates hold conservatively")
    return tuple(found)


def departure(*keys: str | tuple[str, str] | None) -> str | None:
    """The first departure that applies, one sentence."""
    return next((DEPARTURES[key] for key in keys if key is not None and key in DEPARTURES), None)


def name(spec: HypernetSpec, t: int) -> str:
    """Layer ``t`` in words."""
    layer = spec.layers[t]
    kernel = "x".join(map(str, layer.kernel))
    shape = f"{layer.in_channels} to {layer.out_channels}"
    kind = f"{kernel} convolution" if kernel else "linear layer"
    return f"layer {t + 1} ({kind}, {shape})"
