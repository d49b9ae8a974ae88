"""The hypernet's own layers: fan-in init keeps E[h^2] at Var(e)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hyperverify import moments, nets
from hyperverify.catalogue import common
from hyperverify.catalogue.claims import CONDITIONAL, CONSERVATIVE, EXACT, MEAN, Claim, Part, single
from hyperverify.catalogue.conditions import oracle
from hyperverify.engine import Observation
from hyperverify.pivots import Pivot, double, scaled_squares
from hyperverify.plan import bias_embedding_name, embedding_name
from hyperverify.specs import EmbeddingSpec, HypernetSpec, TrunkLayerSpec


def _through(
    room: str, trunk: tuple[TrunkLayerSpec, ...], embedding: str, tensors: nets.Tensors
) -> Tensor:
    return nets.through_trunk(tensors, room, trunk, tensors[embedding])


def _hidden(o: Observation, depth: int, *, bias: bool) -> Tensor:
    """Features after ``depth`` trunk layers, shape (R, width)."""
    spec = o.spec
    room, trunk = ("bias_trunk", spec.bias_trunk) if bias else ("trunk", spec.trunk)
    first = next(t for t, layer in enumerate(spec.layers) if layer.bias or not bias)
    embedding = bias_embedding_name(spec, first) if bias else embedding_name(spec, first)
    tensors = o.tensors(embedding, f"{room}.")
    return double(o.per_replicate(_through, (room, trunk[:depth], embedding), tensors))


def measure_trunk(o: Observation, depth: int, *, bias: bool) -> Pivot:
    """|h'|^2 given h; behind ReLU, of the units that fire, whose signs say nothing of their size."""
    spec = o.spec
    trunk = spec.bias_trunk if bias else spec.trunk
    embedding = spec.bias_embedding if bias else spec.embedding
    assert embedding is not None
    below, above = _hidden(o, depth, bias=bias), _hidden(o, depth + 1, bias=bias)
    variance = float(moments.trunk_variances(embedding.dim, trunk)[depth])
    scale = (variance * below.square().sum(-1))[:, None].expand_as(above)
    return scaled_squares(above, scale * (above > 0) if trunk[depth].relu else scale)


def measure_active(o: Observation, depth: int, *, bias: bool) -> Pivot:
    """Units of a hidden layer that fire, of those whose input is not zero: fair coins."""
    below, above = _hidden(o, depth, bias=bias), _hidden(o, depth + 1, bias=bias)
    live = (below != 0).any(-1)
    fired = torch.where(live, (above > 0).sum(-1), 0).to(torch.float64)
    return fired, torch.where(live, above.shape[-1], 0)


def _active_claim(spec: HypernetSpec, depth: int, rules: tuple[str, ...], *, bias: bool) -> Claim:
    return Claim(
        spec=spec,
        quantity="active",
        layer=None,
        site=f"{'g' if bias else 'h'}{depth + 1}",
        rules=rules,
        claim=CONDITIONAL,
        law=EXACT,
        statement=f"Half of the units of hidden layer {depth + 1} of the hypernet pass its ReLU.",
        predicted=0.5,
        formula=0.5,
        parts=(Part(lambda o: measure_active(o, depth, bias=bias), 0.5, "proportion", None),),
        combine=single,
        promise=None,
        gradients=frozenset(),
        assumptions=("given the hidden layer below, which is not zero",),
    )


def _embedding(spec: HypernetSpec, *, bias: bool) -> EmbeddingSpec:
    embedding = spec.bias_embedding if bias else spec.embedding
    assert embedding is not None
    return embedding


def embedding_variance(spec: HypernetSpec, t: int, *, bias: bool) -> float:
    """E[e^2] of the embedding of layer ``t``, about its mean."""
    embedding = _embedding(spec, bias=bias)
    second = embedding.second_moment if bias else moments.embedding_moment(spec, t)
    return float(second - embedding.mean**2)


def measure_embedding(o: Observation, t: int, *, bias: bool) -> Pivot:
    """|e|^2 over E[e^2]; entries of known size are made normal by an independent factor."""
    embedding = _embedding(o.spec, bias=bias)
    name = bias_embedding_name(o.spec, t) if bias else embedding_name(o.spec, t)
    e = double(o.tensors(name)[name]) - float(embedding.mean)
    if embedding.fixed_norm:
        e = e * double(o.block.standard(f"factor.{name}", "normal", *e.shape[1:]))
    variance = embedding_variance(o.spec, t, bias=bias)
    return scaled_squares(e, torch.tensor(variance, dtype=torch.float64, device=e.device))


def claims(spec: HypernetSpec) -> Iterator[Claim]:
    """The embedding and the hidden layers that make h, and those that make g."""
    law = EXACT if spec.distribution == "normal" else CONSERVATIVE
    for bias in (False, True):
        trunk, embedding = (
            (spec.bias_trunk, spec.bias_embedding) if bias else (spec.trunk, spec.embedding)
        )
        if embedding is None:
            continue
        prefix = "g" if bias else "h"
        first = next(t for t, layer in enumerate(spec.layers) if layer.bias or not bias)
        m = oracle(spec, first)
        rules = common.bias_rules(spec) if bias else common.weight_rules(spec, first)
        kept = float(m.bias_feature if bias else m.feature)
        for depth, layer in enumerate(trunk):
            yield Claim(
                spec=spec,
                quantity="trunk",
                layer=None,
                site=f"{prefix}{depth + 1}",
                rules=rules,
                claim=CONDITIONAL,
                law=law,
                statement=f"Hidden layer {depth + 1} of the hypernet ({layer.width} units"
                f"{', ReLU' if layer.relu else ''}) keeps the second moment of the embedding, "
                f"{kept:.6g}.",
                predicted=kept,
                formula=float(embedding.second_moment)
                if bias
                else common.formula(spec, first, "trunk"),
                parts=(
                    Part(lambda o, n=depth, b=bias: measure_trunk(o, n, bias=b), kept, layer=None),
                ),
                combine=single,
                promise=(spec.method, "trunk"),
                gradients=frozenset(),
                assumptions=("given the hidden layer below",)
                + ((common.HALF_ACTIVE,) if layer.relu else ()),
            )
            if layer.relu:
                yield _active_claim(spec, depth, rules, bias=bias)
        reading = [t for t, layer in enumerate(spec.layers) if layer.bias or not bias]
        for t in reading if spec.embeddings == "own" else reading[:1]:
            yield _embedding_claim(spec, t, bias=bias)


def _embedding_claim(spec: HypernetSpec, t: int, *, bias: bool) -> Claim:
    embedding = _embedding(spec, bias=bias)
    second = embedding_variance(spec, t, bias=bias)
    exact = embedding.distribution == "normal" or embedding.fixed_norm
    about = f" about their mean {float(embedding.mean):.6g}" if embedding.mean else ""
    if spec.method == "M4":
        formula = common.formula(spec, t, "trunk")
    else:
        formula = float(embedding.second_moment - embedding.mean**2)
    return Claim(
        spec=spec,
        quantity="embedding",
        layer=t,
        site="g" if bias else "",
        rules=common.bias_rules(spec) if bias else common.weight_rules(spec, t),
        claim=MEAN,
        law=EXACT if exact else CONSERVATIVE,
        statement=f"The entries of the embedding of layer {t + 1} have second moment "
        f"{second:.6g}{about}.",
        predicted=second,
        formula=formula,
        parts=(Part(lambda o: measure_embedding(o, t, bias=bias), second, layer=None),),
        combine=single,
        promise=None,
        gradients=frozenset(),
        assumptions=("an entry's size is the same at every draw",)
        if embedding.fixed_norm
        else ("the embedding's entries are independent",),
    )
