"""The initializer around the rules made wrong: what it reads, what it draws."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import torch
from planted import (
    REFUSAL,
    Defect,
    Patch,
    chunked,
    conv,
    dense,
    embedded,
    m4,
    orthogonal,
    pair,
)

from hyperverify import formulas, plan
from hyperverify.plan import Draw
from hyperverify.specs import (
    EmbeddingSpec,
    HypernetSpec,
    LayerSpec,
)


def _wrong_dims(
    change: Callable[[HypernetSpec, int, dict[str, Any]], dict[str, Any]],
) -> list[Patch]:
    """The initializer reads the wrong numbers off the spec."""
    right = plan._dims

    def wrong(spec: HypernetSpec, t: int) -> dict[str, Any]:
        known = right(spec, t)
        return {**known, **change(spec, t, known)}

    return [(plan, "_dims", wrong)]


def _wrong_draw(distribution: str, spoil: Callable[[Draw], tuple[str, float]]) -> list[Patch]:
    """Tensors of one distribution are drawn as another: its name and its variance."""
    right = plan._draw_

    def wrong(work: torch.Tensor, draw: Draw, generator: torch.Generator | None) -> None:
        if draw.distribution == distribution:
            name, variance = spoil(draw)
            draw = replace(draw, distribution=name, variance=variance)
        right(work, draw, generator)

    return [(plan, "_draw_", wrong)]


def _wrong_embedding(spoil: Callable[[Draw, EmbeddingSpec], Draw]) -> list[Patch]:
    right = plan._embedding_draw

    def wrong(embedding: EmbeddingSpec, lead: tuple[int, ...]) -> Draw:
        return spoil(right(embedding, lead), embedding)

    return [(plan, "_embedding_draw", wrong)]


def _drawn_offsets() -> list[Patch]:
    """beta and gamma are drawn as the weights are, instead of being zero."""
    right = plan._plan_linear

    def wrong(draws: dict[str, Draw], name: str, weight: Draw, t: int) -> None:
        right(draws, name, weight, t)
        shape = weight.shape[:-1]
        draws[f"{name}.bias"] = Draw(shape, "normal", draws[f"{name}.weight"].variance)

    return [(plan, "_plan_linear", wrong)]


def _wrong_m4(entry: Callable[[int, int], float]) -> list[Patch]:
    return [(formulas, "m4_embedding", entry)]


def _reading() -> list[Defect]:
    square_kernel = LayerSpec(4, 6, (3, 2), relu=True)
    two_dimensional = conv(layer=square_kernel, bias=False, size=4)
    slips: list[tuple[str, HypernetSpec, Any, tuple[str, ...], tuple[str, ...]]] = [
        (
            "d_i and d_j swapped", conv("hyperfan-out"),
            lambda spec, t, d: {"d_i": d["d_j"], "d_j": d["d_i"]}, ("weights/L1", "biases/L1"), (),
        ),
        (
            "groups forgotten in d_j", conv("hyperfan-in"),
            lambda spec, t, d: {"d_j": spec.layers[t].in_channels}, ("weights/L1",), ("biases/L1",),
        ),
        (
            "groups forgotten in d_i", conv("hyperfan-out"),
            lambda spec, t, d: {"d_i": d["out_channels"]}, ("weights/L1",), ("embedding/L1",),
        ),
        (
            "one side of the kernel for r", two_dimensional,
            lambda spec, t, d: {"r": spec.layers[t].kernel[0]}, ("weights/L1",), ("embedding/L1",),
        ),
        (
            "d_l for d_k", dense(), lambda spec, t, d: {"d_k": d["d_l"]},
            ("weights/L1", "backward/L1"), ("biases/L1",),
        ),
        (
            "d_k for d_l", dense(), lambda spec, t, d: {"d_l": d["d_k"]}, ("biases/L1",),
            ("weights/L1",),
        ),
        (
            "the embedding's size for d_k", dense(),
            lambda spec, t, d: {"d_k": spec.embedding.dim}, ("weights/L1",), ("trunk/h1",),
        ),
        (
            "Var(e[2]) for Var(e[1])", dense(), lambda spec, t, d: {"var_e": d["var_e2"]},
            ("weights/L1",), ("biases/L1",),
        ),
        (
            "Var(e[1]) for Var(e[2])", dense(), lambda spec, t, d: {"var_e2": d["var_e"]},
            ("biases/L1",), ("weights/L1",),
        ),
        (
            "the ReLU before instead of the ReLU after", pair(),
            lambda spec, t, d: {"relu": t > 0 and spec.layers[t - 1].relu},
            ("weights/L1", "weights/L2"), ("dL-dW/L1",),
        ),
        (
            "out_channels without groups", dense("fan-out", trunk=()),
            lambda spec, t, d: {"out_channels": 1}, ("biases/L1",), ("weights/L1",),
        ),
        (
            "n_W without the receptive field", conv("fan-out", bias=False),
            lambda spec, t, d: {"n_W": d["n_W"] // d["r"]}, ("weights/L1",), ("embedding/L1",),
        ),
        (
            "sigma for sigma^2", dense("small", bias=False, trunk=()),
            lambda spec, t, d: {"sigma2": math.sqrt(spec.sigma2)}, ("weights/L1",), ("embedding/L1",),
        ),
    ]  # fmt: skip
    found = [
        Defect("plan._dims", name, spec, partial(_wrong_dims, change), refuted, verified)
        for name, spec, change, refuted, verified in slips
    ]
    unbiased = partial(_wrong_dims, lambda spec, t, d: {"bias": False})
    found.append(Defect("plan._dims", "the bias forgotten", dense(), unbiased, (), by=REFUSAL))
    return found


def _drawing() -> list[Defect]:
    uniform = dense(distribution="uniform")
    named: list[tuple[str, str, HypernetSpec, Any, tuple[str, ...], tuple[str, ...]]] = [
        (
            "sqrt 3 dropped in the bound", "uniform", uniform,
            lambda d: ("uniform", d.variance / 3), ("weights/L1", "biases/L1", "embedding/L1"),
            ("embedding/L1/g",),
        ),
        (
            "3 for sqrt 3 in the bound", "uniform", uniform,
            lambda d: ("uniform", d.variance * 3), ("weights/L1", "biases/L1"), ("embedding/L1/g",),
        ),
        (
            "variance for standard deviation", "normal", dense(),
            lambda d: ("normal", d.variance**2), ("weights/L1", "biases/L1", "trunk/h1"),
            ("embedding/L1", "dL-dW/L1"),
        ),
        (
            "standard deviation for variance", "normal", dense(),
            lambda d: ("normal", math.sqrt(d.variance)), ("weights/L1", "biases/L1", "trunk/h1"),
            ("embedding/L1", "dL-dW/L1"),
        ),
        (
            "a fair sign times the variance", "rademacher", embedded("rademacher"),
            lambda d: ("rademacher", d.variance**2), ("embedding/L1",), ("weights/L1",),
        ),
        (
            "orthonormal columns times the root of the variance", "orthogonal", orthogonal(),
            lambda d: ("orthogonal", d.variance / d.shape[0]), ("weights/L1", "forward/L1"),
            ("dL-dW/L1",),
        ),
        (
            "orthonormal columns as they come", "orthogonal", orthogonal(),
            lambda d: ("orthogonal", 1 / d.shape[0]), ("weights/L1", "forward/L1"), ("dL-dW/L1",),
        ),
        (
            "a normal matrix, its columns never made orthonormal", "orthogonal", orthogonal(),
            lambda d: ("normal", 1.0), ("weights/L1", "forward/L1"), ("dL-dW/L1",),
        ),
        (
            "a normal matrix of the right variance, its columns not orthonormal", "orthogonal",
            orthogonal(), lambda d: ("normal", d.variance), ("weights/L1/norm",), ("weights/L1",),
        ),
    ]  # fmt: skip
    found = [
        Defect("plan._draw_", name, spec, partial(_wrong_draw, kind, spoil), refuted, verified)
        for name, kind, spec, spoil, refuted, verified in named
    ]
    embeddings: list[tuple[str, HypernetSpec, Any, str, tuple[str, ...]]] = [
        (
            "Var(e) left at 1", dense(trunk=()), lambda draw, e: replace(draw, variance=1.0),
            "embedding/L1", ("weights/L1",),
        ),
        (
            "Var(e) left at 1, of the biases' embedding", dense(),
            lambda draw, e: replace(draw, variance=1.0), "embedding/L1/g", ("weights/L1", "biases/L1"),
        ),
        (
            "Var(e) left at 1, of a fixed norm", embedded("rademacher"),
            lambda draw, e: replace(draw, variance=1.0), "embedding/L1", ("weights/L1",),
        ),
        (
            "Var(e) left at 1, of the chunks' embeddings", chunked("hyperfan-in"),
            lambda draw, e: replace(draw, variance=1.0), "embedding/L1", ("trunk/L1", "weights/L1"),
        ),
        (
            "the mean's square not taken off", embedded("normal", Fraction(1)),
            lambda draw, e: replace(draw, variance=float(e.second_moment)), "embedding/L1",
            ("weights/L1",),
        ),
        (
            "the mean dropped", embedded("uniform", Fraction(1)),
            lambda draw, e: replace(draw, mean=0.0), "embedding/L1", ("weights/L1",),
        ),
    ]  # fmt: skip
    found += [
        Defect("plan._embedding_draw", name, spec, partial(_wrong_embedding, spoil), (owner,), kept)
        for name, spec, spoil, owner, kept in embeddings
    ]
    found += [
        Defect("plan._plan_linear", "beta and gamma drawn", spec, _drawn_offsets, owners, kept)
        for spec, owners, kept in (
            (dense(), ("weights/L1", "biases/L1", "trunk/h1"), ("embedding/L1", "dL-dW/L1")),
            (chunked("hyperfan-in"), ("trunk/L1", "weights/L1"), ("embedding/L1",)),
        )
    ]
    entries: dict[str, Callable[[int, int], float]] = {
        "the root forgotten": lambda d_j, r: 1 / (d_j * r),
        "the receptive field dropped": lambda d_j, r: d_j**-0.5,
        "the printed d_i": lambda d_j, r: (2 * r) ** -0.5,  # m4() has d_i = 2
        "the constant left at 1": lambda d_j, r: 1.0,
        "the root of the fan-in, not turned over": lambda d_j, r: (d_j * r) ** 0.5,
    }
    found += [
        Defect("formulas.m4_embedding", name, m4(), partial(_wrong_m4, entry), ("embedding/L1",),
               ("weights/L1", "forward/L1"))
        for name, entry in entries.items()
    ]  # fmt: skip
    return found


PLAN_DEFECTS: tuple[Defect, ...] = (*_reading(), *_drawing())
