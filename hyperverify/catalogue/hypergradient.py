"""Gradients that leave the mainnet for the hypernet: dL/dh, dL/dH, dL/dg, dL/dG."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hyperverify import moments
from hyperverify.catalogue import backward, common
from hyperverify.catalogue.claims import EXACT, Claim, Part, single, total
from hyperverify.catalogue.conditions import (
    entering_variance,
    entry_positions,
    feature_rank,
    oracle,
    tap_sites,
)
from hyperverify.engine import Observation
from hyperverify.formulas import RULES
from hyperverify.linear_algebra import norm, pinv, products, smallest_eigenvalue, square_sums
from hyperverify.pivots import (
    RANK_TOLERANCE,
    Pivot,
    double,
    off_directions,
    scaled_squares,
)
from hyperverify.specs import HypernetSpec

# --- dL/dh -------------------------------------------------------------------------------------


def needs_projection(spec: HypernetSpec, t: int) -> bool:
    """Whether dL/dW depends on H through more than one sample's masks, or through other layers.

    It depends on H along h only, so off h the exact law holds (for normal draws).
    """
    several = len(spec.layers) > 1 and spec.embeddings == "one"
    return several or (spec.layers[t].relu and spec.batch > 1)


def measure_features(o: Observation, ts: tuple[int, ...]) -> Pivot:
    """dL/dh over Var(H) sum (dL/dW)^2, for one h and the layers ``ts`` that it generates."""
    layer = o.layers[ts[0]]
    variance = torch.zeros(layer.h.shape[0], dtype=torch.float64, device=layer.h.device)
    for t in ts:
        dW = o.double(o.layers[t].grad["W"])
        dW2 = dW.square().sum(tuple(range(1, dW.dim())))
        variance = variance + moments.feature_gradient(float(oracle(o.spec, t).var_output), dW2)
    if needs_projection(o.spec, ts[0]):
        return off_directions(layer.grad["h"], layer.h[:, None], variance)
    return scaled_squares(layer.grad["h"], variance[:, None])


def weight_gradient_sum(spec: HypernetSpec, t: int) -> float:
    """Sum of E[(dL/dW)^2] over all n_W entries, for inputs and cotangents of second moment 1."""
    layer = spec.layers[t]
    d2 = np.tile(entry_positions(spec, t), (layer.out_channels, 1))
    x2 = np.ones((layer.in_channels, math.prod(spec.sizes[t])))
    taps = range(math.prod(layer.kernel))
    size = spec.sizes[t]
    found = sum(float(moments.weight_gradient_at(layer, size, k, d2, x2).sum()) for k in taps)
    return spec.batch * found / moments.halving(layer)


def _features_claim(spec: HypernetSpec, ts: tuple[int, ...]) -> Claim:
    t, method = ts[0], spec.method
    value = sum(
        float(moments.feature_gradient(oracle(spec, n).var_output, weight_gradient_sum(spec, n)))
        for n in ts
    )
    formula = sum(
        common.formula(
            spec,
            n,
            "hypergradient",
            weight_gradient=common.gradient_formula(spec, n),
        )
        for n in ts
    )
    together = f"the {len(ts)} layers that it generates" if len(ts) > 1 else common.name(spec, t)
    assumptions = common.given(spec, t, common.GIVEN_X, common.COTANGENT)
    if needs_projection(spec, t):
        assumptions += ("the part along h is left out: there dL/dW depends on H",)
    rules = common.weight_rules(spec, t, gradient=True)
    return Claim(
        spec=spec,
        quantity="dL/dh",
        layer=t if len(ts) == 1 else None,
        site="",
        rules=rules if len(ts) == 1 else tuple(dict.fromkeys((*rules, "A1.grad"))),
        claim=common.claim_kind(spec),
        law=common.law(spec, t),
        statement=f"Were inputs and cotangents of second moment 1 at {together}, their weights "
        f"would send E[(dL/dh)^2] = {value:.6g} into the features h; what is measured is the ratio "
        "to the gradients that did arrive.",
        predicted=value,
        formula=formula,
        parts=(Part(lambda o: measure_features(o, ts), value, layer=t),),
        combine=single,
        promise=(method, "hypergradient"),
        gradients=frozenset({"W", "h"}),
        assumptions=assumptions,
        departure=_shrinking(spec, t),
    )


def _shrinking(spec: HypernetSpec, t: int) -> str | None:
    layer = spec.layers[t]
    if layer.relu or layer.groups > 1:
        return common.departure((spec.method, "hypergradient"))
    return None


# --- dL/dH -------------------------------------------------------------------------------------


def measure_output_layer(o: Observation, t: int, tap: int) -> Pivot:
    """dL/dH at one tap, row by row: E[(dL/dW)^2] |h|^2 summed over the features."""
    h, dH = o.double(o.layers[t].h), o.layers[t].grad["H"]
    h2 = h.square().sum(-1)
    if o.spec.batch > 1:  # along h, dL/dH is dL/dW times |h|
        live = h2 > 0
        along = products(dH, (h / torch.where(live, h2, 1.0)[:, None]).to(dH))
        dW = along.reshape(along.shape[0], *o.spec.layers[t].weight_shape)
        return kept(live, backward.measure_gradient(o, t, tap, dW))
    taps = backward.taps_of(o.spec, t, tap)
    variance = moments.output_layer_gradient(
        backward.gradient_variance(o, t, taps), h2[:, None, None, None]
    )
    layer = o.spec.layers[t]
    each = layer.n_weights // layer.out_channels
    squares = square_sums(dH if backward.rank_one(o.spec, t) else dH[:, tap::each])
    squares = squares.reshape(len(squares), layer.out_channels, -1).sum(-1)
    return scaled_squares(squares.sqrt(), backward.row_variance(o, t, variance))


def kept(which: Tensor, pivot: Pivot) -> Pivot:
    """The pivots of some replicates only, bool of shape (R,)."""
    return torch.where(which, pivot[0], 0.0), torch.where(which, pivot[1], 0)


def split_by_features(o: Observation, t: int) -> tuple[Tensor, Tensor, Tensor]:
    """Layer ``t``'s part of a shared dL/dH = sum_t dL/dW[t] (x) h(e[t]) (Appendix A.1).

    The features' dual basis picks it out: contracted with it, the gradient of the shared output
    layer is dL/dW[t].

    Returns:
        dL/dW[t], shape (R, *weight_shape); which replicates' features are independent, far enough
        for the rounding of the gradient's dtype, bool of shape (R,); and the squared length of the
        dual vector, by which rounding of dL/dH is multiplied, shape (R,).
    """
    group = o.spec.output_group(t)
    ts = [n for n in range(len(o.layers)) if o.spec.output_group(n) == group]
    hs = torch.stack([o.double(o.layers[n].h) for n in ts], dim=1)  # (R, T, d_k)
    at = ts.index(t)
    sizes = norm(hs)
    units = hs / torch.where(sizes > 0, sizes, 1.0)[..., None]
    gram = units @ units.transpose(1, 2)
    smallest = smallest_eigenvalue(gram)
    clear = smallest > RANK_TOLERANCE
    eye = torch.eye(len(ts), dtype=torch.float64, device=gram.device)
    inverse = pinv(torch.where(clear[:, None, None], gram, eye))[:, at]  # (R, T)
    dual = (
        torch.einsum("rt,rtk->rk", inverse, units) / torch.where(clear, sizes[:, at], 1.0)[:, None]
    )
    clear &= inverse[:, at] * o.rank_tolerance < 1
    dH = o.layers[t].grad["H"]
    found = products(double(dH), dual).reshape(dH.shape[0], *o.layers[t].W.shape[1:])
    # Rows of dead units are zero where every mask is, but cancel only up to rounding: the dtype's
    # own, and that of a dual basis of nearly dependent features.
    eps = torch.finfo(dH.dtype).eps + torch.finfo(torch.float64).eps / smallest.clamp_min(
        RANK_TOLERANCE
    )
    bound = 64 * eps * double(dH.abs().amax((1, 2))) * dual.abs().sum(-1)
    dead = ~(entering_variance(o, t) > 0).any(-1).any(1)  # (R, out_channels)
    shape = (-1, *[1] * (found.dim() - 1))
    rounding = found.abs() <= bound.reshape(shape)
    found = torch.where(dead.reshape(*dead.shape, *shape[2:]) & rounding, 0.0, found)
    return found, clear, dual.square().sum(-1)


def rounding_of_sum(o: Observation, t: int, tap: int) -> Tensor:
    """What rounding of a shared dL/dH adds to E[(dL/dH)^2], in the shape of layer ``t``'s variance.

    Entries are rounded relative to the sum of all layers' parts: where another layer's part is the
    larger by far, little is left of a small one.
    """
    group, taps = o.spec.output_group(t), backward.taps_of(o.spec, t, tap)
    unit = torch.finfo(o.layers[t].grad["H"].dtype).eps / 2
    parts = [
        moments.output_layer_gradient(
            backward.gradient_variance(o, n, taps),
            o.double(o.layers[n].h).square().sum(-1)[:, None, None, None],
        )
        for n in range(len(o.layers))
        if o.spec.output_group(n) == group
    ]
    return unit**2 * torch.stack(parts).sum(0)


def _output_claim(spec: HypernetSpec, t: int, site: str, tap: int) -> Claim:
    m, method = oracle(spec, t), spec.method
    gradient2 = backward.gradient_at(spec, t, tap)
    value = float(moments.output_layer_gradient(gradient2, float(m.feature)))
    return Claim(
        spec=spec,
        quantity="dL/dH",
        layer=t,
        site=site,
        rules=common.weight_rules(spec, t),
        claim=common.claim_kind(spec),
        law=common.law(spec, t),
        statement=f"Inputs and cotangents of second moment 1 give the output layer of "
        f"{common.name(spec, t)} gradients with E[(dL/dH)^2] = {value:.6g}.",
        predicted=value,
        formula=common.formula(
            spec,
            t,
            "output_gradient",
            weight_gradient=common.gradient_formula(spec, t, tap),
        ),
        parts=(Part(lambda o: measure_output_layer(o, t, tap), value, layer=t),),
        combine=single,
        promise=(method, "output_gradient"),
        gradients=frozenset({"W", "z", "H"}),
        assumptions=common.given(spec, t, common.GIVEN_X, common.COTANGENT, *_scale_free(spec, t)),
    )


def _scale_free(spec: HypernetSpec, t: int) -> tuple[str, ...]:
    """Said where the cotangent is the layer's own, not one that came through a generated layer."""
    own = spec.flow == "layerwise" or t == len(spec.layers) - 1
    return (common.SCALE_FREE,) if own else ()


def shared_output_claim(spec: HypernetSpec, group: int) -> Claim:
    """dL/dH of an output layer that several mainnet layers share: the sum of what each sends."""
    ts = tuple(n for n in range(len(spec.layers)) if spec.output_group(n) == group)
    parts: list[Part] = []
    entering: list[tuple[float, float]] = []  # E[(dL/dW[t])^2] and E[h(e[t])^2] by the formulas
    for t in ts:
        tap = next(iter(tap_sites(spec, t).values()))
        gradient2 = backward.gradient_at(spec, t, tap)
        value = float(moments.output_layer_gradient(gradient2, float(oracle(spec, t).feature)))
        feature2 = common.formula(spec, t, "trunk")
        entering.append((common.gradient_formula(spec, t, tap), feature2))

        def measure(o: Observation, t: int = t, tap: int = tap) -> Pivot:
            dW, clear, dual2 = split_by_features(o, t)
            rounding = rounding_of_sum(o, t, tap) * dual2[:, None, None, None]
            return kept(clear, backward.measure_gradient(o, t, tap, dW, rounding))

        parts.append(Part(measure, value, layer=t))
    predicted = sum(part.value for part in parts)
    return Claim(
        spec=spec,
        quantity="dL/dH",
        layer=None,
        site=f"shared{group + 1}" if group else "",
        rules=common.weight_rules(spec, ts[0], gradient=True),
        claim=common.claim_kind(spec),
        law=common.law(spec, ts[0]),
        statement=f"The output layer that {len(ts)} mainnet layers share gathers "
        f"dL/dH = sum over the layers of dL/dW (x) h, with leading second moment {predicted:.6g}.",
        predicted=predicted,
        formula=float(
            RULES["A1.grad"](
                weight_gradient_second_moments=[gradient2 for gradient2, _ in entering],
                feature_second_moments=[feature2 for _, feature2 in entering],
            )
        ),
        parts=tuple(parts),
        combine=total,
        promise=(spec.method, "output_gradient"),
        gradients=frozenset({"W", "z", "H"}),
        assumptions=(
            *common.given(spec, ts[0], common.GIVEN_X, common.COTANGENT),
            "the layers' parts are told apart by the dual basis of their features",
        ),
        departure=common.departure("shared output layer"),
    )


# --- dL/dg and dL/dG ---------------------------------------------------------------------------


def measure_bias_features(o: Observation, t: int) -> Pivot:
    """dL/dg over Var(G) sum (dL/db)^2."""
    db2 = double(o.layers[t].grad["b"]).square().sum(-1)
    variance = moments.feature_gradient(float(oracle(o.spec, t).var_bias_output), db2)
    return scaled_squares(o.layers[t].grad["g"], variance[:, None])


def measure_zero_bias_features(o: Observation, t: int) -> Pivot:
    """dL/dg where G is predicted to be zero: its squares, and how many were looked at."""
    squares = double(o.layers[t].grad["g"]).square().sum(-1)
    return squares, torch.full_like(squares, o.layers[t].grad["g"].shape[1], dtype=torch.int64)


def measure_bias_output_layer(o: Observation, t: int) -> Pivot:
    """dL/dG, row by row: E[(dL/db)^2 | masks] |g|^2."""
    g, gradient = o.layers[t].g, o.layers[t].grad["G"]
    assert g is not None
    variance = moments.bias_gradient(entering_variance(o, t)).sum(1)  # over samples
    variance = moments.output_layer_gradient(variance, double(g).square().sum(-1)[:, None])
    return scaled_squares(norm(double(gradient)), variance)


def _bias_features_claim(
    spec: HypernetSpec, t: int, into_g: float, db2: float, shared: dict[str, Any]
) -> Claim:
    m, method = oracle(spec, t), spec.method
    measure = measure_bias_features if m.var_bias_output else measure_zero_bias_features
    return Claim(
        quantity="dL/dg",
        law=common.law(spec, t),
        statement=f"Cotangents of second moment 1 reach the features g of {common.name(spec, t)} "
        f"with E[(dL/dg)^2] = {into_g:.6g}.",
        predicted=into_g,
        formula=common.formula(spec, t, "bias_hypergradient", bias_gradient=db2),
        parts=(Part(lambda o: measure(o, t), into_g, "chi2" if m.var_bias_output else "zero", t),),
        promise=(method, "bias_hypergradient"),
        gradients=frozenset({"b", "g"}),
        **shared,
    )


def _bias_claims(spec: HypernetSpec, t: int) -> Iterator[Claim]:
    layer, m, method = spec.layers[t], oracle(spec, t), spec.method
    db2 = spec.batch * float(entry_positions(spec, t).sum()) / moments.halving(layer)
    into_g = float(moments.feature_gradient(float(m.var_bias_output), layer.out_channels * db2))
    into_G = float(moments.output_layer_gradient(db2, float(m.bias_feature)))
    shared: dict[str, Any] = {
        "spec": spec,
        "layer": t,
        "site": "",
        "rules": common.bias_rules(spec),
        "claim": common.claim_kind(spec),
        "combine": single,
        "assumptions": ("given the features g(e)", common.ZERO_BETA, common.COTANGENT),
    }
    if spec.embeddings == "own":  # else one g gathers the gradients of all layers
        yield _bias_features_claim(spec, t, into_g, db2, shared)
    yield Claim(
        quantity="dL/dG",
        law=common.law(spec, t) if spec.flow == "chain" and t < len(spec.layers) - 1 else EXACT,
        statement=f"Cotangents of second moment 1 give the bias output layer of "
        f"{common.name(spec, t)} gradients with E[(dL/dG)^2] = {into_G:.6g}.",
        predicted=into_G,
        formula=common.formula(spec, t, "bias_output_gradient", bias_gradient=db2),
        parts=(Part(lambda o: measure_bias_output_layer(o, t), into_G, layer=t),),
        promise=(method, "bias_output_gradient"),
        gradients=frozenset({"z", "G"}),
        **shared,
    )


def claims(spec: HypernetSpec, t: int) -> Iterator[Claim]:
    """Gradients that layer ``t`` sends into the hypernet."""
    layer = spec.layers[t]
    if spec.flow == "chain" and spec.kind == "conv" and (layer.relu or t < len(spec.layers) - 1):
        return
    if spec.method == "orthogonal":
        return  # no chi-square law behind orthonormal columns
    off = spec.distribution == "normal" and spec.feature_dim > 1  # something is left off h
    if spec.embeddings == "own" and (off or not needs_projection(spec, t)):
        yield _features_claim(spec, (t,))
    if not common.shared(spec, t):
        for site, tap in tap_sites(spec, t).items():
            yield _output_claim(spec, t, site, tap)
    if layer.bias and spec.bias_embedding is not None and not common.shared(spec, t):
        yield from _bias_claims(spec, t)


def joint_claims(spec: HypernetSpec) -> Iterator[Claim]:
    """Gradients that several layers send together: into one h, or into a shared H."""
    ts = tuple(range(len(spec.layers)))
    together = spec.embeddings == "one" and len(ts) > 1 and spec.feature_dim > 1
    if together and spec.distribution == "normal":
        yield _features_claim(spec, ts)
    if spec.embeddings == "one" or spec.method == "M4":
        return  # equal features cannot be told apart
    for group in sorted({spec.output_group(t) for t in ts if common.shared(spec, t)}):
        if sum(spec.output_group(t) == group for t in ts) <= feature_rank(spec):
            yield shared_output_claim(spec, group)
