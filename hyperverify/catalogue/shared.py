"""Appendix A.1 along a chain: what each layer adds that the layers before it do not tell.

With one H for several layers, z[t] depends on x[t], which earlier layers made with the same H. Each
observed number is a linear functional of H whose coefficients are known before it is looked at, so
a causal Cholesky step (:func:`hyperverify.pivots.innovations`) makes the sequence independent.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from hyperverify.catalogue import backward, common, forward
from hyperverify.catalogue.claims import Claim, Part, single
from hyperverify.catalogue.conditions import feature_rank, flat, oracle
from hyperverify.engine import Observation
from hyperverify.pivots import Pivot, innovations
from hyperverify.specs import HypernetSpec


def _members(spec: HypernetSpec, t: int) -> list[int]:
    group = spec.output_group(t)
    return [n for n in range(len(spec.layers)) if spec.output_group(n) == group]


def _var_output(spec: HypernetSpec, t: int) -> float:
    """Var(H) as E[W^2] says it: v / (d_k E[h^2])."""
    m = oracle(spec, t)
    return float(m.weight) / (spec.feature_dim * float(m.feature))


def _stacked(o: Observation, ts: list[int]) -> tuple[Tensor, Tensor]:
    """Inputs x and features h of the layers ``ts``: (R, T, d_j) and (R, T, d_k)."""
    x = torch.stack([flat(o, o.layers[t].x)[:, 0, :, 0] for t in ts], dim=1)
    h = torch.stack([o.double(o.layers[t].h) for t in ts], dim=1)
    return x, h


def measure_forward(o: Observation, t: int) -> Pivot:
    """Layer ``t``'s pre-activations given those of the layers before that share H."""
    ts = _members(o.spec, t)
    key = ("shared forward", ts[0])
    if key not in o.cache:
        x, h = _stacked(o, ts)
        gram = (x @ x.transpose(1, 2)) * (h @ h.transpose(1, 2)) * _var_output(o.spec, t)
        z = torch.stack([forward.weighted_sum(o, n, 0)[:, 0] for n in ts], dim=1)
        o.cache[key] = innovations(gram, z, o.rank_tolerance)
    squares, fresh = o.cache[key]
    row = ts.index(t)
    return squares[:, row], fresh[:, row] * o.spec.layers[t].out_channels


def measure_backward(o: Observation, t: int) -> Pivot:
    """Layer ``t``'s dL/dx given all pre-activations and the gradients above, entry by entry."""
    ts = _members(o.spec, t)
    key = ("shared backward", ts[0])
    if key not in o.cache:
        o.cache[key] = _all_entries(o, ts)
    squares, fresh = o.cache[key]
    layer = o.spec.layers[t]
    # rows: z of every layer upwards, then dL/dx of every layer downwards
    start = len(ts) * layer.out_channels + (len(ts) - 1 - ts.index(t)) * layer.in_channels
    rows = slice(start, start + layer.in_channels)
    return squares[:, rows].sum(-1), fresh[:, rows].sum(-1)


def _all_entries(o: Observation, ts: list[int]) -> tuple[Tensor, Tensor]:
    x, h = _stacked(o, ts)
    delta = torch.stack([flat(o, o.layers[t].grad["z"])[:, 0, :, 0] for t in ts], dim=1).flip(1)
    z = torch.stack([forward.weighted_sum(o, t, 0)[:, 0] for t in ts], dim=1)
    dx = torch.stack([flat(o, o.layers[t].grad["x"])[:, 0, :, 0] for t in ts], dim=1).flip(1)
    gram = _gram(x, h, delta) * _var_output(o.spec, ts[0])
    observed = torch.cat([z.flatten(1), dx.flatten(1)], dim=1)[..., None]
    return innovations(gram, observed, o.rank_tolerance)


def _gram(x: Tensor, h: Tensor, delta: Tensor) -> Tensor:
    """Covariance, over Var(H), of the entries of z layer by layer upwards, then dL/dx downwards.

    Args:
        x: inputs, shape (R, T, d_j), first layer first.
        h: features, shape (R, T, d_k), likewise.
        delta: dL/dz, shape (R, T, d_i), last layer first.
    """
    down = h.flip(1)
    R, T = x.shape[:2]
    n_out, n_in = delta.shape[-1], x.shape[-1]

    n_up = T * n_out
    gram = x.new_zeros(R, n_up + T * n_in, n_up + T * n_in)

    def fill(at: slice, small: Tensor, n: int) -> None:
        """Entries of two layers have a covariance only where they are of one unit."""
        blocks = gram[:, at, at].view(R, T, n, T, n)
        blocks.diagonal(dim1=2, dim2=4).copy_(small[..., None])

    fill(slice(n_up), (x @ x.transpose(1, 2)) * (h @ h.transpose(1, 2)), n_out)
    between = (delta @ delta.transpose(1, 2)) * (down @ down.transpose(1, 2))
    fill(slice(n_up, None), between, n_in)
    up_down = torch.einsum("rai,rbo,rab->raobi", x, delta, h @ down.transpose(1, 2))
    gram[:, :n_up, n_up:] = up_down.reshape(R, n_up, T * n_in)
    gram[:, n_up:, :n_up] = gram[:, :n_up, n_up:].transpose(1, 2)
    return gram


def new_of(spec: HypernetSpec, t: int) -> tuple[bool, bool]:
    """Whether layer ``t``'s pre-activations, and its gradients, can show anything new of H.

    Its forward pass tells of H along x (x) h, its backward pass along dL/dz (x) h. In a narrow
    chain the layers looked at before may have shown all of that.
    """
    layer, ts = spec.layers[t], _members(spec, t)
    at = ts.index(t)
    rank = feature_rank(spec)
    if len(ts) <= rank:  # features of its own: all is new but what its own forward pass has shown
        return True, layer.in_channels > 1
    # Directions beyond one more than there are layers are all alike.
    most = len(ts) + 1
    forward, backward = _new(
        min(layer.out_channels, most), min(layer.in_channels, most), rank, len(ts)
    )
    return forward[at], backward[len(ts) - 1 - at]


@lru_cache(maxsize=256)
def _new(d_i: int, d_j: int, rank: int, layers: int) -> tuple[list[bool], list[bool]]:
    """The same for ``layers`` of one H, upwards and downwards, where nothing is aligned by chance.

    Args:
        d_i: outputs of each.
        d_j: inputs of each.
        rank: of their features.
        layers: T.
    """
    generator = torch.Generator().manual_seed(0)

    def generic(d: int) -> Tensor:
        return torch.randn(9, layers, d, generator=generator, dtype=torch.float64)

    gram = _gram(generic(d_j), generic(rank), generic(d_i))
    _, fresh = innovations(gram, gram.new_zeros(*gram.shape[:2], 1))
    usual = fresh.sum(0) > 4  # of nine draws most: some may be aligned up to rounding
    up = usual[: layers * d_i].reshape(layers, d_i).any(1)
    down = usual[layers * d_i :].reshape(layers, d_j).any(1)
    return [bool(new) for new in up], [bool(new) for new in down]


def claims(spec: HypernetSpec, t: int) -> Iterator[Claim]:
    """Forward and backward gains of a layer in a chain that shares H (dense layers)."""
    gain, down = forward.gain_at(spec, t, 0), backward.gain_at(spec, t, 0)
    where = common.name(spec, t)
    assumptions = (
        *common.given(spec, t),
        "given what the earlier layers with the same H have shown",
    )
    ahead, back = new_of(spec, t)
    if ahead:
        yield Claim(
            spec=spec,
            quantity="forward",
            layer=t,
            site="",
            rules=common.weight_rules(spec, t),
            claim=common.claim_kind(spec),
            law=common.law(spec, t),
            statement=f"What {where} adds to the pre-activations, given the layers before that share "
            f"its output layer, has the scale of a gain {gain:.6g}.",
            predicted=gain,
            formula=common.formula(spec, t, "forward"),
            parts=(Part(lambda o: measure_forward(o, t), gain, layer=t),),
            combine=single,
            promise=(spec.method, "forward"),
            gradients=frozenset(),
            assumptions=assumptions,
            departure=common.departure("shared output layer"),
        )
    if not back:
        return  # what was looked at before has shown all of it
    yield Claim(
        spec=spec,
        quantity="backward",
        layer=t,
        site="",
        rules=common.weight_rules(spec, t),
        claim=common.claim_kind(spec),
        law=common.law(spec, t),
        statement=f"What {where} adds to the gradients, given the forward pass and the layers "
        f"above that share its output layer, has the scale of a gain {down:.6g}.",
        predicted=down,
        formula=common.formula(spec, t, "backward"),
        parts=(Part(lambda o: measure_backward(o, t), down, layer=t),),
        combine=single,
        promise=(spec.method, "backward"),
        gradients=frozenset({"x", "z"}),
        assumptions=(*assumptions, common.COTANGENT),
        departure=common.departure("shared output layer"),
    )
