"""Generated weights and biases: E[W^2] = v and E[b^2] = u."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from hyperverify import moments
from hyperverify.catalogue import common
from hyperverify.catalogue.claims import CONSERVATIVE, EXACT, Claim, Part, single
from hyperverify.catalogue.conditions import bias_variance, oracle, weight_variance
from hyperverify.engine import Observation
from hyperverify.pivots import Pivot, double, scaled_squares
from hyperverify.specs import HypernetSpec


def measure_weights(o: Observation, t: int) -> Pivot:
    """|W|^2 over v |h|^2/(d_k E h^2), nu = n_W."""
    W = o.double(o.layers[t].W).flatten(1)
    if o.spec.method == "orthogonal":
        return _on_the_sphere(o, t, W)
    return scaled_squares(W, weight_variance(o, t)[:, None])


def _on_the_sphere(o: Observation, t: int, W: torch.Tensor) -> Pivot:
    """Half of the entries of W = H h, uniform on a sphere, made normal by an independent radius."""
    radius2 = sphere_radius2(o, t)
    half = W[:, : max(1, W.shape[1] // 2)]
    return scaled_squares(half * radius2.sqrt()[:, None], weight_variance(o, t)[:, None])


def measure_sums(o: Observation, t: int, *, columns: bool) -> Pivot:
    """Sums over rows or columns of W: what a mean of H, or a dependence in it, would inflate."""
    W = o.double(o.layers[t].W)
    sums = W.sum(1).flatten(1) if columns else W.flatten(2).sum(-1)
    if o.spec.method == "orthogonal":
        sums = sums * sphere_radius2(o, t).sqrt()[:, None]
    count = W[0].numel() // sums.shape[1]
    return scaled_squares(sums, count * weight_variance(o, t)[:, None])


# |W|^2 of orthonormal columns is right up to the rounding of H, h and their product.
NORM_ROUNDING = 64


def measure_norm(o: Observation, t: int) -> Pivot:
    """How far |W|^2 departs from s |h|^2, squared, where it is more than rounding."""
    W = o.layers[t].W.flatten(1)
    expected = W.shape[1] * weight_variance(o, t)
    live = expected > 0
    off = torch.where(live, double(W).square().sum(-1) / torch.where(live, expected, 1.0) - 1, 0.0)
    off = torch.where(off.abs() <= NORM_ROUNDING * torch.finfo(W.dtype).eps, 0.0, off)
    return off.square(), live.to(torch.int64)


def sphere_radius2(o: Observation, t: int) -> torch.Tensor:
    """chi2 with n_W degrees of freedom over n_W, shape (R,): turns a uniform direction normal."""
    n = o.spec.layers[t].n_weights
    return double(o.block.standard(f"radius.{t}", "normal", n)).square().mean(-1)


def measure_biases(o: Observation, t: int) -> Pivot:
    """|b|^2 over u |g|^2/(d_l E g^2), nu = out_channels."""
    b = o.layers[t].b
    assert b is not None
    return scaled_squares(b, bias_variance(o, t)[:, None])


def measure_zero_biases(o: Observation, t: int) -> Pivot:
    """Biases predicted to be exactly zero: their squares, and how many were looked at."""
    b = o.layers[t].b
    assert b is not None
    squares = double(b).square().sum(-1)
    return squares, torch.full_like(squares, b.shape[1], dtype=torch.int64)


def bias_part(spec: HypernetSpec, t: int, value: float) -> Part:
    """Evidence on the generated biases, for ``value`` in the claim's own unit."""
    if oracle(spec, t).bias == 0:
        return Part(lambda o: measure_zero_biases(o, t), 0.0, "zero", t)
    return Part(lambda o: measure_biases(o, t), value, "chi2", t)


def claims(spec: HypernetSpec, t: int) -> Iterator[Claim]:
    """Second moments of what is generated for layer ``t`` (own or shared output layer)."""
    m, where = oracle(spec, t), common.name(spec, t)
    v = float(m.weight)
    yield Claim(
        spec=spec,
        quantity="weights",
        layer=t,
        site="",
        rules=common.weight_rules(spec, t),
        claim=common.claim_kind(spec),
        law=common.law(spec, t) if not common.shared(spec, t) else _alone(spec),
        statement=f"With features at their predicted scale, the weights generated for {where} have "
        f"second moment E[W^2] = {v:.6g}.",
        predicted=v,
        formula=common.weights_formula(spec, t, v),
        parts=(Part(lambda o: measure_weights(o, t), v, layer=t),),
        combine=single,
        promise=(spec.method, "weights"),
        gradients=frozenset(),
        assumptions=common.given(spec, t),
        departure=common.departure((spec.method, "weights")),
    )
    if t == 0:
        yield from _sums_claims(spec, t)
    if spec.method == "orthogonal":
        yield _norm_claim(spec, t)
    if not spec.layers[t].bias:
        return
    u = float(m.bias)
    yield Claim(
        spec=spec,
        quantity="biases",
        layer=t,
        site="",
        rules=common.bias_rules(spec),
        claim=common.claim_kind(spec),
        law=_alone(spec),
        statement=f"With features at their predicted scale, the biases generated for {where} have "
        f"second moment E[b^2] = {u:.6g}.",
        predicted=u,
        formula=common.formula(spec, t, "biases"),
        parts=(bias_part(spec, t, u),),
        combine=single,
        promise=(spec.method, "biases"),
        gradients=frozenset(),
        assumptions=("given the features g(e) that generate the biases", common.ZERO_BETA),
    )


def _sums_claims(spec: HypernetSpec, t: int) -> Iterator[Claim]:
    layer = spec.layers[t]
    row = moments.weights_per_output(layer)
    for quantity, entries, feed in (
        ("row sums", row, "that feed one output"),
        ("column sums", layer.out_channels, "at one place of every row"),
    ):
        value = entries * float(oracle(spec, t).weight)
        columns = quantity == "column sums"
        yield Claim(
            spec=spec,
            quantity=quantity,
            layer=t,
            site="",
            rules=common.weight_rules(spec, t),
            claim=common.claim_kind(spec),
            law=_alone(spec),
            statement=f"With features at their predicted scale, the {entries} weights {feed} of {common.name(spec, t)} are centred and "
            f"uncorrelated: their sum has second moment {value:.6g}.",
            predicted=value,
            formula=entries * common.weights_formula(spec, t, value / entries),
            parts=(Part(lambda o, c=columns: measure_sums(o, t, columns=c), value, layer=t),),
            combine=single,
            promise=(spec.method, "weights"),
            gradients=frozenset(),
            assumptions=common.given(spec, t),
        )


def _norm_claim(spec: HypernetSpec, t: int) -> Claim:
    return Claim(
        spec=spec,
        quantity="weights",
        layer=t,
        site="norm",
        rules=common.weight_rules(spec, t),
        claim=common.claim_kind(spec),
        law=EXACT,
        statement=f"The weights generated for {common.name(spec, t)} have |W|^2 = s |h|^2 at every "
        f"draw: their relative departure from it is 0, up to rounding.",
        predicted=0.0,
        formula=None,
        parts=(Part(lambda o: measure_norm(o, t), 0.0, "zero", t),),
        combine=single,
        promise=None,
        gradients=frozenset(),
        assumptions=common.given(spec, t),
        departure=common.departure((spec.method, "weights")),
    )


def _alone(spec: HypernetSpec) -> str:
    """One layer's weights are a plain linear image of H, shared or not."""
    return EXACT if spec.distribution == "normal" else CONSERVATIVE
