"""The oracle: against the formulas, against loops, and against expectations counted one by one."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray

from hyperverify import formulas, moments
from hyperverify.closed_forms import closed_form, second_moments
from hyperverify.errors import BadArgument
from hyperverify.plan import bias_embedding_name, embedding_name, plan
from hyperverify.specs import (
    METHODS,
    ChunkSpec,
    EmbeddingSpec,
    HypernetSpec,
    LayerSpec,
    TrunkLayerSpec,
)

Array = NDArray[Any]
UNBIASED = ("M4", "orthogonal")


# --- Two algebras that share no code --------------------------------------------------------------


def same(a: Any, b: Any) -> bool:
    """Equal as Fractions; roots of non-squares agree up to rounding."""
    if isinstance(a, float) or isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-14)
    return Fraction(a) == Fraction(b)


def some_layer(dice: random.Random, in_channels: int, kind: int, biased: bool) -> LayerSpec:
    """A random layer: ``kind`` counts its spatial dimensions."""
    groups = dice.choice([g for g in (1, 2, 3) if in_channels % g == 0]) if kind else 1
    return LayerSpec(
        in_channels,
        groups * dice.randint(1, 7),
        tuple(dice.randint(1, 3) for _ in range(kind)),
        tuple(dice.randint(1, 2) for _ in range(kind)),
        tuple(dice.randint(0, 2) for _ in range(kind)),
        tuple(dice.randint(1, 2) for _ in range(kind)),
        groups,
        dice.choice(["zeros", "circular"]),
        relu=dice.random() < 0.5,
        bias=biased and dice.random() < 0.6,
    )


def some_embedding(dice: random.Random) -> EmbeddingSpec:
    second = Fraction(dice.randint(1, 9), dice.randint(1, 9))
    return EmbeddingSpec(dice.randint(1, 9), "normal", second)


def some_trunk(dice: random.Random) -> tuple[TrunkLayerSpec, ...]:
    return tuple(
        TrunkLayerSpec(dice.randint(1, 9), relu=dice.random() < 0.5)
        for _ in range(dice.randint(0, 2))
    )


def some_spec(method: str, seed: int) -> HypernetSpec:
    """A random spec under ``method``: linear, 1-d or 2-d, two layers."""
    dice = random.Random(f"{method} {seed}")  # noqa: S311
    kind, biased = seed % 3, method not in UNBIASED
    first = some_layer(dice, dice.randint(1, 6), kind, biased)
    layers = (first, some_layer(dice, first.out_channels, kind, biased))
    spec: dict[str, Any] = {"embedding": some_embedding(dice), "trunk": some_trunk(dice)}
    if method == "M4":
        spec = {"embedding": EmbeddingSpec(dice.randint(1, 9), "constant")}
    if method == "orthogonal":  # no more columns than the least W has entries
        spec = {"embedding": EmbeddingSpec(min(layer.n_weights for layer in layers), "normal")}
        spec |= {"distribution": "normal"}
    if any(layer.bias for layer in layers) and dice.random() < 0.7:
        spec |= {"bias_embedding": some_embedding(dice), "bias_trunk": some_trunk(dice)}
    if method == "small":
        spec["sigma2"] = Fraction(dice.randint(1, 9), dice.randint(1, 99))
    return HypernetSpec(layers, method=method, input_size=(23,) * kind, **spec)


def dims(spec: HypernetSpec, t: int) -> dict[str, Any]:
    """Layer ``t`` in the words of the formulas."""
    layer = spec.layers[t]
    found = {
        "d_i": layer.out_channels // layer.groups,
        "d_j": layer.in_channels // layer.groups,
        "groups": layer.groups,
        "r": math.prod(layer.kernel),
        "d_k": spec.feature_dim,
        "var_e": spec.embedding.second_moment,
        "relu": layer.relu,
        "bias": layer.bias,
    }
    if layer.bias:
        other = spec.bias_embedding or spec.embedding
        found |= {"d_l": spec.bias_feature_dim, "var_e2": other.second_moment}
    if spec.sigma2 is not None:
        found["sigma2"] = spec.sigma2
    if spec.chunk is not None:
        found |= {"d_l": spec.embedding.dim, "chunked": True, "K": spec.chunk.size}
    return found


@pytest.mark.parametrize("method", METHODS)
def test_they_agree_although_they_share_no_code(method: str) -> None:
    seen: set[tuple[object, ...]] = set()
    for seed in range(60):
        spec = some_spec(method, seed)
        for t, layer in enumerate(spec.layers):
            m, d = moments.layer_moments(spec, t), dims(spec, t)
            seen |= {("relu", layer.relu), ("bias", layer.bias), ("kind", len(layer.kernel))}
            seen |= {("groups", layer.groups > 1), ("wide", d["d_j"] > d["d_i"])}

            def formula(quantity: str, d: dict[str, Any] = d, **more: Any) -> Any:
                return closed_form(method, quantity, **d, **more)

            assert same(m.weight, formula("weights"))
            assert same(m.bias, formula("biases"))
            assert same(m.feature, formula("trunk"))
            assert same(moments.forward_gain(layer, m), formula("forward"))
            assert same(moments.forward_offset(layer, m), formula("forward_offset"))
            assert same(moments.backward_gain(layer, m), formula("backward"))
            n, g2 = layer.n_weights, Fraction(5, 7)
            into_h = moments.feature_gradient(m.var_output, n * g2)
            assert same(into_h, formula("hypergradient", weight_gradient=g2))
            into_H = moments.output_layer_gradient(g2, m.feature)
            assert same(into_H, formula("output_gradient", weight_gradient=g2))
            named = {k: v for k, v in d.items() if k != "groups"}
            named |= {"n_W": n, "out_channels": layer.out_channels}
            assert same(m.var_output, formulas.METHODS[method].variance("H", **named))
            if not layer.bias:
                assert m.var_bias_output == m.bias == m.bias_feature == 0
                continue
            assert same(m.var_bias_output, formulas.METHODS[method].variance("G", **named))
            into_g = moments.feature_gradient(m.var_bias_output, layer.out_channels * g2)
            assert same(into_g, formula("bias_hypergradient", bias_gradient=g2))
            into_G = moments.output_layer_gradient(g2, m.bias_feature)
            assert same(into_G, formula("bias_output_gradient", bias_gradient=g2))
    both = [("relu", True), ("relu", False), ("groups", True), ("wide", True), ("wide", False)]
    both += [("bias", method not in UNBIASED), ("kind", 0), ("kind", 1), ("kind", 2)]
    assert seen.issuperset(both)


@pytest.mark.parametrize("method", ["hyperfan-in", "hyperfan-out"])
def test_they_agree_on_chunks(method: str) -> None:
    branches: set[str] = set()
    for seed in range(40):
        dice = random.Random(f"chunks {method} {seed}")  # noqa: S311
        size, kernel = dice.randint(1, 4), tuple(dice.randint(1, 3) for _ in range(seed % 3))
        whole, free = size * dice.randint(1, 3), dice.randint(1, 9)
        widths = (whole, free) if dice.random() < 0.5 else (free, whole)
        layer = LayerSpec(*widths, kernel, relu=dice.random() < 0.5)
        chunk = ChunkSpec(size, dice.randint(1, 9))
        spec = HypernetSpec(
            (layer,),
            some_embedding(dice),
            method,
            output="chunked",
            chunk=chunk,
            input_size=(5,) * len(kernel),
        )
        branches.add(chunk.branch(layer))
        m, d = moments.layer_moments(spec, 0), dims(spec, 0)
        assert m.weight == closed_form(method, "weights", **d)
        assert m.feature == closed_form(method, "trunk", **d)
        assert moments.forward_gain(layer, m) == closed_form(method, "forward", **d)
        assert moments.backward_gain(layer, m) == closed_form(method, "backward", **d)
        assert m.var_output == formulas.variance("A2.H", d_k=chunk.hidden)
        rule = "A2.in.G" if method == "hyperfan-in" else "A2.out.G"
        known = {"d_l": spec.embedding.dim, "var_e": spec.embedding.second_moment, "r": d["r"]}
        fan = {"d_j": d["d_j"]} if method == "hyperfan-in" else {"d_i": d["d_i"]}
        assert m.var_chunk_input == formulas.variance(rule, relu=layer.relu, **known, **fan)
        # what it is for: d_k Var(H) E[alpha^2] = E[W^2], E[alpha^2] = d_l Var(G) E[e^2]
        assert m.weight == chunk.hidden * m.var_output * m.feature
        assert m.feature == d["d_l"] * m.var_chunk_input * spec.embedding.second_moment
    assert branches == {"i", "j"}


@pytest.mark.parametrize("method", METHODS)
def test_recursion_through_depth_agrees(method: str) -> None:
    """Dense layers: one number a layer, forward with biases and backward."""
    for seed in range(0, 30, 3):  # the linear ones
        spec = some_spec(method, seed)
        assert spec.kind == "linear"
        d = [dims(spec, t) for t in range(2)]
        q = second_moments(method, Fraction(2, 3), d)
        for got, expected in zip(moments.forward_maps(spec, Fraction(2, 3)), q, strict=True):
            assert all(same(value, expected) for value in got.flat)
        p: Any = Fraction(3, 5)
        for t, got in zip((2, 1, 0), moments.backward_maps(spec, p)[::-1], strict=True):
            assert all(same(value, p) for value in got.flat)
            p = p * closed_form(method, "backward", **d[t - 1]) if t else p
        if not spec.has_biases:
            depth = closed_form(method, "depth", layers=d)
            assert same(moments.forward_maps(spec)[-1].flat[0], depth)


@pytest.mark.parametrize("method", ["hyperfan-in", "hyperfan-out", "fan-in"])
def test_strided_circular_layers_keep_the_formula_on_average(method: str) -> None:
    layer = LayerSpec(4, 6, (3, 3), (2, 3), (1, 1), (1, 1), 2, "circular", relu=True)
    spec = HypernetSpec((layer,), EmbeddingSpec(5), method, input_size=(6, 6))
    d = dims(spec, 0)
    assert all(q == closed_form(method, "forward", **d) for q in moments.forward_maps(spec)[1].flat)
    p = moments.backward_maps(spec)[0]
    assert sum(p.flat) / p.size == closed_form(method, "backward", stride=6, **d)
    assert len(set(p.flat)) > 1  # not at each position


def test_borders_under_zero_padding_by_hand() -> None:
    """Kernel 3, padding 1: 4 of 9 taps in a corner, 6 at an edge, 9 inside."""
    spec = HypernetSpec(
        (LayerSpec(2, 5, (3, 3), padding=(1, 1)),),
        EmbeddingSpec(4),
        "hyperfan-in",
        input_size=(3, 4),
    )
    grid = moments.forward_maps(spec)[1].reshape(5, 3, 4)
    expected = [[4, 6, 6, 4], [6, 9, 9, 6], [4, 6, 6, 4]]
    for channel in grid:
        assert (channel * 9).tolist() == expected
    back = moments.backward_maps(spec)[0].reshape(2, 3, 4)
    for channel in back:
        assert (channel * 9 * Fraction(2, 5)).tolist() == expected


def test_torch_default_small_and_m4_in_numbers() -> None:
    """Plain arithmetic, apart from both algebras."""
    layer = LayerSpec(6, 4, relu=True)

    def of(method: str, **more: Any) -> moments.LayerMoments:
        embedding = more.pop("embedding", EmbeddingSpec(3, "normal", Fraction(5)))
        return moments.layer_moments(HypernetSpec((layer,), embedding, method, **more), 0)

    assert of("torch-default").var_output == Fraction(1, 9)
    assert of("torch-default").weight == Fraction(5, 3)
    assert of("small", sigma2="1/100").weight == Fraction(15, 100)
    assert of("M3").var_output == Fraction(2, 300)
    m4 = of("M4", embedding=EmbeddingSpec(3, "constant"))
    assert (m4.feature, m4.var_output, m4.weight) == (
        Fraction(1, 6),
        Fraction(2, 3),
        Fraction(1, 3),
    )
    assert of("orthogonal", distribution="normal").var_output == Fraction(2, 24)
    assert of("harmonic").var_output == Fraction(2 * 2, 3 + 24)
    assert of("geometric").var_output == pytest.approx(2 / math.sqrt(72), rel=1e-15)
    assert of("hyperfan-in").var_output == Fraction(2, 6 * 3 * 5)
    assert of("hyperfan-out").var_output == Fraction(2, 4 * 3 * 5)


def test_a_generated_bias_takes_half_under_hyperfan_in_and_the_rest_under_hyperfan_out() -> None:
    for d_j, d_i, rest in ((4, 8, Fraction(1, 2)), (8, 4, Fraction(0)), (5, 5, Fraction(0))):
        for relu in (False, True):
            s = 2 if relu else 1
            layer = LayerSpec(d_j, d_i, relu=relu, bias=True)
            spec = HypernetSpec((layer,), EmbeddingSpec(3, "normal", Fraction(7)), "hyperfan-in")
            m = moments.layer_moments(spec, 0)
            assert (m.weight, m.bias) == (Fraction(s, 2 * d_j), Fraction(s, 2))
            m = moments.layer_moments(replace(spec, method="hyperfan-out"), 0)
            assert (m.weight, m.bias) == (Fraction(s, d_i), s * rest)


# --- Maps, against loops --------------------------------------------------------------------------

LAYERS: dict[str, tuple[LayerSpec, tuple[int, ...]]] = {
    "dense": (LayerSpec(4, 3), ()),
    "1d": (LayerSpec(2, 3, (3,)), (5,)),
    "1d zeros": (LayerSpec(2, 4, (3,), (2,), (2,), (2,), 2), (7,)),
    "1d zeros, taps that only read padding": (LayerSpec(1, 2, (2,), (1,), (5,), (3,)), (2,)),
    "1d circular": (LayerSpec(2, 3, (3,), (1,), (1,), (1,), 1, "circular"), (4,)),
    "1d circular, strided, dilated, grouped": (
        LayerSpec(2, 4, (2,), (3,), (4,), (2,), 2, "circular"),
        (5,),
    ),
    "2d": (LayerSpec(2, 3, (3, 2)), (4, 4)),
    "2d zeros": (LayerSpec(4, 2, (2, 3), (2, 1), (1, 2), (1, 2), 2), (4, 5)),
    "2d circular": (LayerSpec(2, 3, (2, 2), (1, 2), (1, 2), (2, 1), 1, "circular"), (4, 3)),
    "depthwise": (LayerSpec(3, 6, (3, 3), (1, 1), (1, 1), (1, 1), 3), (3, 4)),
    "1x1, strided": (LayerSpec(4, 4, (1, 1), (2, 2)), (3, 4)),
}
each_layer = pytest.mark.parametrize(("layer", "size"), LAYERS.values(), ids=LAYERS.keys())


def readings(layer: LayerSpec, size: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """(output position, tap, input position) of every product that is formed, in loops."""
    out = layer.output_size(size)
    for n, pos in enumerate(itertools.product(*map(range, out))):
        for k, tap in enumerate(itertools.product(*map(range, layer.kernel))):
            at = [
                pos[a] * layer.stride[a] + tap[a] * layer.dilation[a] - layer.padding[a]
                for a in range(len(size))
            ]
            if layer.padding_mode == "circular":
                at = [x % extent for x, extent in zip(at, size, strict=True)]
            if all(0 <= x < extent for x, extent in zip(at, size, strict=True)):
                index = 0
                for x, extent in zip(at, size, strict=True):
                    index = index * extent + x
                yield n, k, index


def connections(layer: LayerSpec) -> Iterator[tuple[int, int, int]]:
    """(output channel, input channel, its place in W) of every pair that is connected."""
    d_i, d_j = layer.out_channels // layer.groups, layer.in_channels // layer.groups
    for o in range(layer.out_channels):
        for c in range(d_j):
            yield o, (o // d_i) * d_j + c, c


def naive_forward(layer: LayerSpec, size: tuple[int, ...], v: Any, u: Any, x2: Array) -> Array:
    z2 = np.full((layer.out_channels, math.prod(layer.output_size(size))), u, dtype=object)
    for n, _, at in readings(layer, size):
        for o, c, _ in connections(layer):
            z2[o, n] = z2[o, n] + v * x2[c, at]
    return z2


def naive_backward(layer: LayerSpec, size: tuple[int, ...], v: Any, d2: Array) -> Array:
    p = np.full((layer.in_channels, math.prod(size)), Fraction(0), dtype=object)
    for n, _, at in readings(layer, size):
        for o, c, _ in connections(layer):
            p[c, at] = p[c, at] + v * d2[o, n]
    return p


def naive_weight_gradient(layer: LayerSpec, size: tuple[int, ...], d2: Array, x2: Array) -> Array:
    shape = (layer.out_channels, layer.in_channels // layer.groups, math.prod(layer.kernel))
    g2 = np.full(shape, Fraction(0), dtype=object)
    for n, k, at in readings(layer, size):
        for o, c, place in connections(layer):
            g2[o, place, k] = g2[o, place, k] + d2[o, n] * x2[c, at]
    return g2


def some_map(seed: str, *shape: int) -> Array:
    dice = random.Random(seed)  # noqa: S311
    flat = [Fraction(dice.randint(0, 30), dice.randint(1, 9)) for _ in range(math.prod(shape))]
    return np.array(flat, dtype=object).reshape(shape)


def maps(layer: LayerSpec, size: tuple[int, ...]) -> tuple[Array, Array]:
    """Random x^2 and (dL/dz)^2 of a layer, exact."""
    x2 = some_map("x", layer.in_channels, math.prod(size))
    return x2, some_map("d", layer.out_channels, math.prod(layer.output_size(size)))


def whole_forward(layer: LayerSpec, size: tuple[int, ...], v: Any, u: Any, x2: Any) -> Any:
    """forward_at at every position, by output channel."""
    positions = range(math.prod(layer.output_size(size)))
    z2 = np.stack([moments.forward_at(layer, size, n, v, u, x2) for n in positions], axis=-1)
    return z2.repeat(layer.out_channels // layer.groups, axis=-2)


def whole_backward(layer: LayerSpec, size: tuple[int, ...], v: Any, d2: Any) -> Any:
    positions = range(math.prod(size))
    p = np.stack([moments.backward_at(layer, size, n, v, d2) for n in positions], axis=-1)
    return p.repeat(layer.in_channels // layer.groups, axis=-2)


@each_layer
def test_forward_is_its_definition(layer: LayerSpec, size: tuple[int, ...]) -> None:
    x2, _ = maps(layer, size)
    v, u = Fraction(3, 7), Fraction(2, 5)
    expected = naive_forward(layer, size, v, u, x2)
    assert (whole_forward(layer, size, v, u, x2) == expected).all()


@each_layer
def test_backward_is_its_definition(layer: LayerSpec, size: tuple[int, ...]) -> None:
    _, d2 = maps(layer, size)
    v = Fraction(3, 7)
    assert (whole_backward(layer, size, v, d2) == naive_backward(layer, size, v, d2)).all()


@each_layer
def test_weight_gradient_is_its_definition(layer: LayerSpec, size: tuple[int, ...]) -> None:
    x2, d2 = maps(layer, size)
    expected = naive_weight_gradient(layer, size, d2, x2)
    for k in range(expected.shape[-1]):
        found = moments.weight_gradient_at(layer, size, k, d2, x2)
        d_i, d_j = layer.out_channels // layer.groups, layer.in_channels // layer.groups
        assert found.shape == (layer.groups, d_i, d_j)
        assert (found.reshape(-1, d_j) == expected[..., k]).all()
    assert (moments.bias_gradient(d2) == d2.sum(1)).all()


@each_layer
def test_backward_is_the_transpose_of_forward(layer: LayerSpec, size: tuple[int, ...]) -> None:
    """<forward(v) x2, d2> = <x2, backward(v) d2> = v sum of all weight gradients, exactly."""
    x2, d2 = maps(layer, size)
    v = Fraction(5, 3)
    up = (whole_forward(layer, size, v, 0, x2) * d2).sum()
    down = (x2 * whole_backward(layer, size, v, d2)).sum()
    taps = range(math.prod(layer.kernel))
    weights = sum(moments.weight_gradient_at(layer, size, k, d2, x2).sum() for k in taps)
    assert up == down == v * weights
    assert up > 0


@each_layer
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_maps_take_leading_dimensions(
    layer: LayerSpec, size: tuple[int, ...], library: str
) -> None:
    """Realised maps of (R, B) draws, each with its own v and u, give what each gives alone."""
    generator = np.random.default_rng(0)
    x2 = generator.random((2, 3, layer.in_channels, math.prod(size)))
    d2 = generator.random((2, 3, layer.out_channels, math.prod(layer.output_size(size))))
    v, u = generator.random((2, 1, 1)), generator.random((2, 1, 1))
    as_given: Any = torch.as_tensor if library == "torch" else np.asarray
    last = math.prod(layer.output_size(size)) - 1
    up = moments.forward_at(layer, size, last, as_given(v), as_given(u), as_given(x2))
    down = moments.backward_at(layer, size, 0, as_given(v), as_given(d2))
    tap = math.prod(layer.kernel) - 1
    g2 = moments.weight_gradient_at(layer, size, tap, as_given(d2), as_given(x2))
    assert isinstance(up, torch.Tensor if library == "torch" else np.ndarray)
    assert tuple(up.shape) == tuple(down.shape) == (2, 3, layer.groups)
    for r, b in itertools.product(range(2), range(3)):
        d_i, d_j = layer.out_channels // layer.groups, layer.in_channels // layer.groups
        alone = naive_forward(layer, size, v[r, 0, 0], u[r, 0, 0], x2[r, b])
        assert up[r, b].tolist() == pytest.approx(alone[::d_i, last].tolist(), rel=1e-12)
        alone = naive_backward(layer, size, v[r, 0, 0], d2[r, b])
        assert down[r, b].tolist() == pytest.approx([float(a) for a in alone[::d_j, 0]], rel=1e-12)
        alone = naive_weight_gradient(layer, size, d2[r, b], x2[r, b])[..., tap]
        assert g2[r, b].flatten().tolist() == pytest.approx(
            [float(a) for a in alone.flat], rel=1e-12
        )


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("layer", "size"), list(LAYERS.values())[:9], ids=list(LAYERS)[:9])
def test_maps_through_two_layers(layer: LayerSpec, size: tuple[int, ...], relu: bool) -> None:
    first = replace(layer, relu=relu, bias=True)
    middle = layer.output_size(size)
    kernel = (1,) * len(size)
    second = LayerSpec(layer.out_channels, 3, kernel, relu=not relu)
    spec = HypernetSpec(
        (first, second), EmbeddingSpec(4, "normal", Fraction(2)), "fan-out", input_size=size
    )
    s = (2, 1) if relu else (1, 2)
    m = [moments.layer_moments(spec, t) for t in range(2)]
    x2 = [np.full((layer.in_channels, math.prod(size)), Fraction(3, 2), dtype=object)]
    x2.append(naive_forward(first, size, m[0].weight, m[0].bias, x2[0]) / s[0])
    x2.append(naive_forward(second, middle, m[1].weight, m[1].bias, x2[1]) / s[1])
    for got, expected in zip(moments.forward_maps(spec, Fraction(3, 2)), x2, strict=True):
        assert got.shape == expected.shape
        assert (got == expected).all()
    p = [np.full(x2[2].shape, Fraction(1), dtype=object)]
    p.append(naive_backward(second, middle, m[1].weight, p[0] / s[1]))
    p.append(naive_backward(first, size, m[0].weight, p[1] / s[0]))
    for got, expected in zip(moments.backward_maps(spec), p[::-1], strict=True):
        assert got.shape == expected.shape
        assert (got == expected).all()


@each_layer
def test_taps_are_those_of_torch_unfold(layer: LayerSpec, size: tuple[int, ...]) -> None:
    """torch's unfold of an image that holds the number of each position, from 1."""
    taps = moments.taps(layer, size)
    count = math.prod(size)
    if not size:
        assert taps.tolist() == [[0]]
        return
    image = torch.arange(1.0, count + 1, dtype=torch.float64).reshape(1, 1, *size)
    padding = layer.padding
    if layer.padding_mode == "circular":
        image = F.pad(image, [p for p in padding[::-1] for _ in range(2)], mode="circular")
        padding = (0,) * len(size)
    lead = (1,) * (2 - len(size))  # one dimension as a row of an image
    seen = F.unfold(
        image.reshape(1, 1, *lead, *image.shape[2:]),
        lead + layer.kernel,
        lead + layer.dilation,
        (0,) * len(lead) + padding,
        lead + layer.stride,
    )
    assert taps.tolist() == (seen[0].T.to(torch.int64) - 1).tolist()


# --- Chunks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("d_i", "d_j", "size"), [(8, 3, 4), (8, 8, 4), (4, 4, 4), (6, 8, 4), (3, 4, 2), (5, 5, 1)]
)
def test_chunk_table_is_equation_6(d_i: int, d_j: int, size: int) -> None:
    row, number = moments.chunk_table(d_i, d_j, size)
    used: set[tuple[int, int]] = set()
    for i, j in itertools.product(range(d_i), range(d_j)):
        if d_i % size == 0:
            expected = (i % size, j + (i // size) * d_j)
        else:
            expected = (j % size, i + (j // size) * d_i)
        assert (row[i, j], number[i, j]) == expected
        used.add(expected)
    assert used == set(itertools.product(range(size), range(d_i * d_j // size)))


def test_chunk_table_refuses_what_does_not_tile() -> None:
    with pytest.raises(BadArgument) as caught:
        moments.chunk_table(9, 6, 4)
    assert str(caught.value) == "chunk size is 4; allowed: a divisor of 9 or of 6"


# --- Every sign pattern of tiny networks ----------------------------------------------------------
#
# With every entry of H, G, e, x and of the cotangent a fair sign times the root of its second moment
# there are finitely many networks, and the mean over all of them IS the expectation. Nothing of the
# oracle is used to get it. A ReLU layer reads an odd number of equal magnitudes, or ones that cannot
# cancel, so that z is never 0.


class AllSigns:
    """Every sign pattern of all that is drawn, patterns along the last dimension."""

    def __init__(self, bits: int) -> None:
        assert bits <= 20
        self.patterns = np.arange(2**bits, dtype=np.int64)
        self.bits, self.used = bits, 0

    def draw(self, second_moment: float, *shape: int) -> Array:
        if second_moment == 0:
            return np.zeros((*shape, 1))
        count = math.prod(shape)
        columns = [(self.patterns >> (self.used + n)) & 1 for n in range(count)]
        self.used += count
        signs = np.stack(columns).reshape(*shape, -1) * 2 - 1
        return signs * math.sqrt(second_moment)


def drawn_bits(spec: HypernetSpec) -> int:
    """Signs that one network needs: of its plan, its input and its cotangent."""
    random_entries = [math.prod(d.shape) for d in plan(spec).values() if d.variance]
    first, last = spec.layers[0], spec.layers[-1]
    ends = first.in_channels * math.prod(spec.sizes[0]) + last.out_channels * math.prod(
        spec.sizes[-1]
    )
    return sum(random_entries) + ends


def product_of(matrix: Array, vector: Array) -> Array:
    """Matrix times vector, pattern by pattern."""
    return np.einsum("ab...,b...->a...", matrix, vector)


def through(signs: AllSigns, spec: HypernetSpec, name: str, e: Array) -> Array:
    for n, layer in enumerate(spec.trunk if name == "trunk" else spec.bias_trunk):
        draw = plan(spec)[f"{name}.{n}.weight"]
        e = product_of(signs.draw(draw.variance, *draw.shape), e)
        e = np.maximum(e, 0) if layer.relu else e
    return e


def generated(signs: AllSigns, spec: HypernetSpec, t: int) -> dict[str, Array]:
    """h, H, W, and g, G, b, of layer ``t``; W of shape (out, in / groups, taps, patterns)."""
    draws, layer = plan(spec), spec.layers[t]
    e = draws[embedding_name(spec, t)]
    second = e.variance + e.mean**2
    if spec.chunk is not None:
        inner = draws[f"input_layers.{t}.weight"]
        G, e_m = signs.draw(inner.variance, *inner.shape), signs.draw(second, *e.shape)
        alpha = np.einsum("mkl...,ml...->mk...", G, e_m)
        H = signs.draw(draws["output_layers.0.weight"].variance, spec.chunk.size, spec.chunk.hidden)
        W = np.zeros((layer.out_channels, layer.in_channels, 1, len(signs.patterns)))
        size, d_i, d_j = spec.chunk.size, layer.out_channels, layer.in_channels
        for i, j in itertools.product(range(d_i), range(d_j)):
            row, m = (
                (i % size, j + i // size * d_j)
                if d_i % size == 0
                else (j % size, i + j // size * d_i)
            )
            W[i, j, 0] = (H[row] * alpha[m]).sum(0)
        return {"alpha": alpha, "W": W}
    h = signs.draw(second, *e.shape) if e.variance else np.full((*e.shape, 1), e.mean)
    h = through(signs, spec, "trunk", h)
    draw = draws[f"output_layers.{t}.weight"]
    H = signs.draw(draw.variance, *draw.shape)
    W = product_of(H, h).reshape(*layer.weight_shape[:2], math.prod(layer.kernel), -1)
    made = {"h": h, "H": H, "W": W}
    if not layer.bias:
        return made
    g = h
    if spec.bias_embedding is not None:
        e2 = draws[bias_embedding_name(spec, t)]
        g = through(signs, spec, "bias_trunk", signs.draw(e2.variance + e2.mean**2, *e2.shape))
    draw = draws[f"bias_layers.{t}.weight"]
    G = signs.draw(draw.variance, *draw.shape)
    return made | {"g": g, "G": G, "b": product_of(G, g)}


ONE = EmbeddingSpec(1, "rademacher", Fraction(2, 3))
TWO = EmbeddingSpec(2, "rademacher", Fraction(3, 2))


def tiny(*layers: LayerSpec, method: str = "hyperfan-in", **more: Any) -> HypernetSpec:
    return HypernetSpec(layers, more.pop("embedding", ONE), method, **more)


TINY: dict[str, HypernetSpec] = {
    "linear": tiny(LayerSpec(2, 2), embedding=TWO),
    "linear, wide to narrow, hyperfan-out": tiny(LayerSpec(3, 2), embedding=TWO, method="hyperfan-out"),
    "bias from its own embedding": tiny(
        LayerSpec(2, 2, bias=True), embedding=TWO, bias_embedding=EmbeddingSpec(1, "rademacher", Fraction(5))
    ),
    "bias, hyperfan-out": tiny(
        LayerSpec(2, 4, bias=True), bias_embedding=EmbeddingSpec(1, "rademacher"), method="hyperfan-out"
    ),
    "ReLU": tiny(LayerSpec(3, 2, relu=True)),
    "ReLU, several features": tiny(LayerSpec(1, 2, relu=True), embedding=EmbeddingSpec(3, "rademacher")),
    "ReLU and bias": tiny(
        LayerSpec(2, 2, relu=True, bias=True), bias_embedding=EmbeddingSpec(1, "rademacher")
    ),
    "two layers": tiny(LayerSpec(2, 2), LayerSpec(2, 2)),
    "two layers, ReLU below": tiny(LayerSpec(3, 2, relu=True), LayerSpec(2, 2)),
    "two layers, ReLU and bias below, hyperfan-out": tiny(
        LayerSpec(1, 3, relu=True, bias=True),
        LayerSpec(3, 1, bias=True),
        bias_embedding=EmbeddingSpec(1, "rademacher"),
        method="hyperfan-out",
    ),
    "two layers, biases": tiny(
        LayerSpec(2, 2, bias=True), LayerSpec(2, 1, bias=True), bias_embedding=ONE
    ),
    "three layers": tiny(LayerSpec(1, 2), LayerSpec(2, 1), LayerSpec(1, 3), method="fan-out"),
    "trunk": tiny(LayerSpec(2, 2), trunk=(TrunkLayerSpec(2),), method="arithmetic"),
    "trunk with ReLU": tiny(
        LayerSpec(2, 2), trunk=(TrunkLayerSpec(2, relu=True), TrunkLayerSpec(1)), method="hyperfan-arithmetic"
    ),
    "M4": tiny(LayerSpec(3, 2), embedding=EmbeddingSpec(2, "constant"), method="M4"),
    "small": tiny(LayerSpec(2, 2), embedding=TWO, method="small", sigma2=Fraction(1, 50)),
    "convolution, borders": tiny(LayerSpec(1, 2, (3,), padding=(1,)), input_size=(3,)),
    "convolution, ReLU": tiny(LayerSpec(1, 2, (3,), relu=True), input_size=(4,)),
    "convolution, circular, strided": tiny(
        LayerSpec(1, 2, (2,), (2,), (1,), (1,), 1, "circular"), input_size=(4,), method="hyperfan-out"
    ),
    "convolution, grouped, dilated": tiny(
        LayerSpec(2, 2, (2,), (1,), (0,), (2,), 2), input_size=(3,), method="hyperfan-out"
    ),
    "two convolutions": tiny(
        LayerSpec(1, 2, (2,), padding=(1,)), LayerSpec(2, 1, (2,)), input_size=(2,)
    ),
    "chunks, branch i": tiny(LayerSpec(2, 4), output="chunked", chunk=ChunkSpec(2, 1)),
    "chunks, branch j": tiny(
        LayerSpec(2, 3, relu=False), output="chunked", chunk=ChunkSpec(2, 1), method="hyperfan-out"
    ),
}  # fmt: skip


@pytest.mark.parametrize("spec", TINY.values(), ids=TINY.keys())
def test_expectations_counted_one_by_one(spec: HypernetSpec) -> None:
    signs = AllSigns(drawn_bits(spec))
    layers, sizes = spec.layers, spec.sizes
    x = [signs.draw(1, layers[0].in_channels, math.prod(sizes[0]))]
    made, fires = [], []
    for t, layer in enumerate(layers):
        made.append(generated(signs, spec, t))
        W, b = made[t]["W"], made[t].get("b")
        z = np.zeros((layer.out_channels, math.prod(sizes[t + 1]), len(signs.patterns)))
        z = z if b is None else z + b[:, None]
        for n, k, at in readings(layer, sizes[t]):
            for o, c, place in connections(layer):
                z[o, n] += W[o, place, k] * x[t][c, at]
        assert not layer.relu or np.abs(z).min() > 1e-9
        fires.append(z > 0 if layer.relu else np.ones_like(z))
        x.append(z * fires[t])
    delta = signs.draw(1, *x[-1].shape[:2])
    assert signs.used == signs.bits  # every sign, once

    def agree(values: Array, expected: Any) -> None:
        found = np.square(values).mean(-1)
        np.testing.assert_allclose(found, np.broadcast_to(np.asarray(expected, float), found.shape),
                                   rtol=1e-11, atol=1e-13)  # fmt: skip

    q, p = moments.forward_maps(spec), moments.backward_maps(spec)
    agree(delta, p[-1])
    for t in reversed(range(len(layers))):
        layer, own, m = layers[t], made[t], moments.layer_moments(spec, t)
        W = own["W"]
        agree(x[t + 1], q[t + 1])
        agree(W, m.weight)
        agree(own["h" if "h" in own else "alpha"], m.feature)
        dz = delta * fires[t]
        delta, dW = np.zeros_like(x[t]), np.zeros((*W.shape[:3], len(signs.patterns)))
        for n, k, at in readings(layer, sizes[t]):
            for o, c, place in connections(layer):
                delta[c, at] += W[o, place, k] * dz[o, n]
                dW[o, place, k] += dz[o, n] * x[t][c, at]
        agree(delta, p[t])
        d2 = p[t + 1] / moments.halving(layer)
        taps = range(W.shape[2])
        g2 = [moments.weight_gradient_at(layer, sizes[t], k, d2, q[t]) for k in taps]
        for k in taps:
            agree(dW[:, :, k], g2[k].reshape(W.shape[:2]))
        if "H" in own:
            dW = dW.reshape(-1, dW.shape[-1])
            by_entry = np.stack([g.flatten() for g in g2], axis=-1).reshape(-1, 1)
            into_h = (own["H"] * dW[:, None]).sum(0)
            agree(into_h, moments.feature_gradient(m.var_output, by_entry.sum()))
            agree(dW[:, None] * own["h"], moments.output_layer_gradient(by_entry, m.feature))
        if "b" in own:
            agree(own["b"], m.bias)
            agree(own["g"], m.bias_feature)
            db, db2 = dz.sum(1), moments.bias_gradient(d2)
            agree(db, db2)
            agree(
                (own["G"] * db[:, None]).sum(0),
                moments.feature_gradient(m.var_bias_output, db2.sum()),
            )
            agree(
                db[:, None] * own["g"], moments.output_layer_gradient(db2[:, None], m.bias_feature)
            )
