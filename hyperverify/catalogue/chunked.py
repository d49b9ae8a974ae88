"""Appendix A.2: chunks of one output layer H tile every mainnet layer (Ha et al.).

alpha[m] = G[m] e[m] is tested given e, and all that H makes is tested given every alpha: W, the
pre-activations and the gradients are linear functionals of H with known coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from hyperverify import moments
from hyperverify.catalogue import backward, common, forward
from hyperverify.catalogue.claims import CONDITIONAL, CONSERVATIVE, EXACT, Claim, Part, single
from hyperverify.catalogue.conditions import flat, oracle, patches
from hyperverify.engine import Observation, centre
from hyperverify.pivots import Pivot, double, least_squares, scaled_squares, whitened_squares
from hyperverify.specs import ChunkSpec, HypernetSpec


def _chunk(spec: HypernetSpec) -> ChunkSpec:
    assert spec.chunk is not None
    return spec.chunk


def measure_alpha(o: Observation, t: int) -> Pivot:
    """|alpha[m]|^2 over Var(G[m]) |e[m]|^2, nu = d_k a chunk."""
    e = double(o.tensors(f"embeddings.{t}")[f"embeddings.{t}"])
    variance = float(oracle(o.spec, t).var_chunk_input) * e.square().sum(-1, keepdim=True)
    return scaled_squares(o.layers[t].h, variance)


def measure_weights(o: Observation, t: int) -> Pivot:
    """The H that explains the tiles of W, |H|^2 over Var(H), nu = K r rank(alpha)."""
    layer, size = o.spec.layers[t], _chunk(o.spec).size
    table = moments.chunk_table(layer.out_channels, layer.in_channels, size)
    row, number = torch.as_tensor(table[0]), torch.as_tensor(table[1])
    W = o.double(o.layers[t].W).reshape(*o.layers[t].W.shape[:3], -1)
    chunks = W.new_zeros(W.shape[0], _chunk(o.spec).count(layer), size, W.shape[-1])
    chunks[:, number, row] = W
    var = float(oracle(o.spec, t).var_output)
    return least_squares(o.layers[t].h, chunks.flatten(2), var, o.rank_tolerance)


def _tiled(o: Observation, t: int, position: int) -> tuple[Tensor, Tensor]:
    """Features alpha by (i or j, tile, channel) and the input read at ``position``, (R, d_j, entries)."""
    layer, chunk = o.spec.layers[t], _chunk(o.spec)
    alpha = o.double(o.layers[t].h)
    tiles = (layer.out_channels if chunk.branch(layer) == "i" else layer.in_channels) // chunk.size
    alpha = alpha.reshape(alpha.shape[0], tiles, -1, alpha.shape[-1])
    read = patches(o, t, position)[:, 0, 0]
    return alpha, read.reshape(read.shape[0], layer.in_channels, -1)


def measure_forward(o: Observation, t: int) -> Pivot:
    """Pre-activations at the middle position given alpha and x; batch of one."""
    spec = o.spec
    position = centre(spec.sizes[t + 1])
    z = flat(o, o.layers[t].z)[:, 0, :, position]
    layer, chunk = spec.layers[t], _chunk(spec)
    alpha, x = _tiled(o, t, position)
    var = float(oracle(spec, t).var_output)
    if chunk.branch(layer) == "i":  # a tile of K outputs reads sum_j alpha[tile, j] x[j, tap]
        features = torch.einsum("rbjk,rjp->rbpk", alpha, x).flatten(2)
        targets = z.reshape(z.shape[0], -1, chunk.size)
    else:  # output i reads, in row kappa of H, sum over tiles of alpha[tile, i] x[tile K + kappa]
        x = x.reshape(x.shape[0], alpha.shape[1], chunk.size, -1)
        features = torch.einsum("rbik,rbcp->ricpk", alpha, x).flatten(2)
        targets = z[..., None]
    gram = var * features @ features.transpose(1, 2)
    return whitened_squares(gram, targets, o.rank_tolerance)


def measure_backward(o: Observation, t: int) -> Pivot:
    """dL/dx of one output position given alpha and the cotangent; no ReLU, or one tile of outputs."""
    spec = o.spec
    layer, chunk = spec.layers[t], _chunk(spec)
    position = centre(spec.sizes[t + 1])
    read = moments.taps(layer, spec.sizes[t])[position]
    dx = flat(o, o.layers[t].grad["x"])[:, 0][..., read[read >= 0]]  # (R, in_channels, entries)
    dz = flat(o, o.layers[t].grad["z"])[:, 0, :, position]
    alpha, _ = _tiled(o, t, position)
    var = float(oracle(spec, t).var_output)
    if chunk.branch(layer) == "i":  # input j reads, in row kappa, sum over tiles alpha[tile, j] dz
        d = dz.reshape(dz.shape[0], alpha.shape[1], chunk.size)
        features = torch.einsum("rbjk,rbc->rjck", alpha, d).flatten(2)
        gram = var * features @ features.transpose(1, 2)
        return whitened_squares(gram, dx, o.rank_tolerance)
    features = torch.einsum("rbik,ri->rbk", alpha, dz)
    targets = dx.reshape(dx.shape[0], alpha.shape[1], -1)
    gram = var * features @ features.transpose(1, 2)
    return whitened_squares(gram, targets, o.rank_tolerance)


def claims(spec: HypernetSpec, t: int) -> Iterator[Claim]:
    """All that Appendix A.2 says of layer ``t``, one layer at a time."""
    layer, chunk, m, where = spec.layers[t], _chunk(spec), oracle(spec, t), common.name(spec, t)
    plain = EXACT if spec.distribution == "normal" else CONSERVATIVE
    branch = chunk.branch(layer)
    rules = common.weight_rules(spec, t)
    base: dict[str, Any] = {
        "spec": spec,
        "layer": t,
        "site": "",
        "claim": CONDITIONAL,
        "combine": single,
    }
    alpha, v = float(m.feature), float(m.weight)
    yield Claim(
        quantity="trunk",
        rules=rules[1:],
        law=plain,
        statement=f"The chunks' inputs alpha of {where} have second moment {alpha:.6g}.",
        predicted=alpha,
        formula=common.formula(spec, t, "trunk"),
        parts=(Part(lambda o: measure_alpha(o, t), alpha, layer=t),),
        promise=(spec.method, "trunk"),
        gradients=frozenset(),
        assumptions=("given the chunks' embeddings", common.ZERO_BETA),
        **base,
    )
    given = (f"given every chunk's alpha (branch {branch} of Eq. 6)", common.ZERO_BETA)
    yield Claim(
        quantity="weights",
        rules=rules[:1],
        law=plain,
        statement=f"With alpha at its predicted scale, the tiles of W of {where} have second "
        f"moment E[W^2] = {v:.6g}.",
        predicted=v,
        formula=common.formula(spec, t, "weights"),
        parts=(Part(lambda o: measure_weights(o, t), v, layer=t),),
        promise=(spec.method, "weights"),
        gradients=frozenset(),
        assumptions=given,
        **base,
    )
    position = centre(spec.sizes[t + 1])
    gain = forward.gain_at(spec, t, position)
    whole = bool((moments.taps(layer, spec.sizes[t])[position] >= 0).all())
    law = common.law(spec, t)
    if spec.flow == "chain":
        return  # along a chain, every position of every layer tells of the same H
    yield Claim(
        quantity="forward",
        rules=rules[:1],
        law=law,
        statement=f"With inputs of second moment 1, the outputs of {where} have second moment "
        f"{gain:.6g}.",
        predicted=gain,
        formula=common.formula(spec, t, "forward") if whole else None,
        parts=(Part(lambda o: measure_forward(o, t), gain, layer=t),),
        promise=(spec.method, "forward"),
        gradients=frozenset(),
        assumptions=(*given, common.GIVEN_X) + ((common.HALF_ACTIVE,) if layer.relu else ()),
        departure=common.departure("chunked"),
        **base,
    )
    if not layer.relu or (branch == "i" and layer.out_channels == chunk.size):
        share = float(m.weight) * layer.out_channels / moments.halving(layer)
        dense = math.prod(layer.kernel) == 1
        yield Claim(
            quantity="backward",
            rules=rules[:1],
            law=law,
            statement=f"Cotangents of second moment 1 at one output position of {where} reach each "
            f"input that it reads with second moment {share:.6g}.",
            predicted=share,
            formula=common.formula(spec, t, "backward") if dense else None,
            parts=(Part(lambda o: measure_backward(o, t), share, layer=t),),
            promise=(spec.method, "backward"),
            gradients=frozenset({"x", "z"}),
            assumptions=(*given, common.COTANGENT),
            **base,
        )
    yield from (c for c in backward.claims(spec, t) if c.quantity == "dL/dW")
