"""The hypernet's own layers: fan-in init keeps E[h^2] at Var(e)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from hyperverify import moments, nets
from hyperverify.catalogue import common
from hyperverify.catalogue.claims import CONDITIONAL, CONSERVATIVE, EXACT, MEAN, Claim, Part, single
from hyperverify.catalogue.conditions import oracle
from hyperverify.engine import Observation
from hyperverify.linear_algebra import per_replicate
from hyperverify.pivots import Pivot, double, scaled_squares
from hyperverify.plan import bias_embedding_name, embedding_name
from hyperverify.specs import EmbeddingSpec, HypernetSpec


def _hidden(o: Observation, depth: int, *, bias: bool) -> Tensor:
    """Features after ``depth`` trunk layers, shape (R, width)."""
    spec = o.spec
    if bias:
        short = replace(spec, bias_trunk=spec.bias_trunk[:depth])
        first = next(t for t, layer in enumerate(spec.layers) if layer.bias)
        tensors = o.tensors("bias_embeddings.", "bias_trunk.")
        return double(per_replicate(partial(_bias_features, short, first), tensors))
    short = replace(spec, trunk=spec.trunk[:depth])
    tensors = o.tensors("embeddings.", "trunk.")
    return double(per_replicate(partial(_features, short), tensors))


def _features(spec: HypernetSpec, tensors: nets.Tensors) -> Tensor:
    return nets.features(spec, tensors, 0)


def _bias_features(spec: HypernetSpec, t: int, tensors: nets.Tensors) -> Tensor:
    return nets.bias_features(spec, tensors, t)


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
                formula=kept if bias else common.formula(spec, first, "trunk"),
                parts=(
                    Part(lambda o, n=depth, b=bias: measure_trunk(o, n, bias=b), kept, layer=None),
                ),
                combine=single,
                promise=(spec.method, "trunk"),
                gradients=frozenset(),
                assumptions=("given the hidden layer below",)
                + ((common.HALF_ACTIVE,) if layer.relu else ()),
            )
        # M4's constant goes by the fan-in of the layer, so each layer has its own
        for t in range(len(spec.layers)) if spec.method == "M4" else (first,):
            yield _embedding_claim(spec, t, bias=bias)


def _embedding_claim(spec: HypernetSpec, t: int, *, bias: bool) -> Claim:
    embedding = _embedding(spec, bias=bias)
    second = embedding_variance(spec, t, bias=bias)
    exact = embedding.distribution == "normal" or embedding.fixed_norm
    about = f" about their mean {float(embedding.mean):.6g}" if embedding.mean else ""
    formula = second
    if spec.method == "M4":
        formula = common.formula(spec, t, "trunk")
    return Claim(
        spec=spec,
        quantity="embedding",
        layer=t if spec.method == "M4" else None,
        site="g" if bias else "",
        rules=common.bias_rules(spec) if bias else common.weight_rules(spec, t),
        claim=MEAN,
        law=EXACT if exact else CONSERVATIVE,
        statement=f"The embedding's entries have second moment {second:.6g}{about}.",
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
