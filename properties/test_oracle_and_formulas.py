"""The two witnesses that need no draw agree: ``moments`` and ``closed_forms``, which share no code.

``closed_forms`` composes the paper's rules. ``moments`` counts the entries of W, solves for the
variance that a method asks for, and carries maps of second moments through the layers. Over random
hypernets of every method they give the same Fraction for every quantity (a float where a geometric
mean is no fraction, equal to 1e-12), and torch's own convolutions give the same maps.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyperverify import moments
from hyperverify.closed_forms import QUANTITIES, closed_form, second_moments
from hyperverify.formulas import METHODS
from hyperverify.moments import LayerMoments
from hyperverify.plan import plan
from hyperverify.specs import METHODS as NAMES
from hyperverify.specs import EmbeddingSpec, HypernetSpec, LayerSpec
from hyperverify.strategies import hypernets
from hyperverify.strategies import second_moments as scales
from properties.profiles import BOUNDS


def same(a: Any, b: Any) -> bool:
    """Equal as fractions; where a root made one of them a float, equal to 1e-12."""
    if isinstance(a, float) or isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-12)
    return Fraction(a) == Fraction(b)


def dims(spec: HypernetSpec, t: int) -> dict[str, Any]:
    """Layer ``t`` in the symbols of the paper."""
    layer = spec.layers[t]
    biases = spec.bias_embedding or spec.embedding
    found: dict[str, Any] = {
        "d_i": layer.out_channels // layer.groups,
        "d_j": layer.in_channels // layer.groups,
        "d_k": spec.feature_dim,
        "d_l": spec.bias_feature_dim,
        "r": math.prod(layer.kernel),
        "groups": layer.groups,
        "var_e": spec.embedding.second_moment,
        "var_e2": biases.second_moment,
        "relu": layer.relu,
        "bias": layer.bias,
    }
    if spec.sigma2 is not None:
        found["sigma2"] = spec.sigma2
    if spec.chunk is not None:
        found |= {"d_l": spec.embedding.dim, "chunked": True, "K": spec.chunk.size}
    return found


# Second moments of dL/dW, dL/db, x and dL/dy that some promises depend on.
GRADIENT, BIAS_GRADIENT, Q, P = Fraction(3, 7), Fraction(5, 11), Fraction(2, 3), Fraction(13, 17)


def oracle(layer: LayerSpec, m: LayerMoments) -> dict[str, Any]:
    """What ``moments`` says of one layer, by the names of ``closed_forms.QUANTITIES``."""
    return {
        "weights": m.weight,
        "biases": m.bias,
        "trunk": m.feature,
        "forward": moments.forward_gain(layer, m),
        "forward_offset": moments.forward_offset(layer, m),
        "backward": moments.backward_gain(layer, m),
        "weight_gradient": dense_weight_gradient(layer),
        "hypergradient": moments.feature_gradient(m.var_output, layer.n_weights * GRADIENT),
        "output_gradient": moments.output_layer_gradient(GRADIENT, m.feature),
        "bias_hypergradient": moments.feature_gradient(
            m.var_bias_output, layer.out_channels * BIAS_GRADIENT
        ),
        "bias_output_gradient": moments.output_layer_gradient(BIAS_GRADIENT, m.bias_feature),
    }


def dense_weight_gradient(layer: LayerSpec) -> Any:
    """E[(dL/dW)^2] of one sample where every tap reads one position: a kernel that just fits."""
    alone = replace(
        layer,
        stride=(1,) * len(layer.kernel),
        padding=(0,) * len(layer.kernel),
        dilation=(1,) * len(layer.kernel),
        padding_mode="zeros",
    )
    d2 = np.full((layer.out_channels, 1), P / moments.halving(layer), dtype=object)
    x2 = np.full((layer.in_channels, math.prod(layer.kernel)), Q, dtype=object)
    found = {
        moments.weight_gradient_at(alone, layer.kernel, tap, d2, x2).flat[0]
        for tap in range(math.prod(layer.kernel))
    }
    assert len(found) == 1
    return found.pop()


def test_every_quantity_and_every_method_has_both_witnesses() -> None:
    spec = HypernetSpec((LayerSpec(2, 2),), EmbeddingSpec(2), "hyperfan-in")
    witnessed = oracle(spec.layers[0], moments.layer_moments(spec, 0))
    assert {*witnessed, "depth"} == set(QUANTITIES)
    assert set(METHODS) == set(NAMES)


@pytest.mark.parametrize("method", METHODS)
@given(data=st.data())
def test_oracle_and_formulas_agree_on_every_quantity(method: str, data: st.DataObject) -> None:
    spec = data.draw(hypernets(methods=[method], **BOUNDS))
    for t, layer in enumerate(spec.layers):
        m = moments.layer_moments(spec, t)
        given_ = dims(spec, t)
        for quantity, expected in oracle(layer, m).items():
            if "bias_" in quantity and not layer.bias:
                continue  # nothing to have a gradient
            if spec.chunk is not None and quantity in ("hypergradient", "output_gradient"):
                continue  # one H for all chunks: no closed form
            extra = {"weight_gradient": GRADIENT, "bias_gradient": BIAS_GRADIENT, "q": Q, "p": P}
            formula = closed_form(method, quantity, **given_, **extra)
            assert same(expected, formula), (t, quantity)


@given(hypernets(**BOUNDS))
def test_what_is_drawn_has_the_variance_that_the_oracle_asks_for(spec: HypernetSpec) -> None:
    draws = plan(spec)
    for t, layer in enumerate(spec.layers):
        m, group = moments.layer_moments(spec, t), spec.output_group(t)
        drawn = {f"output_layers.{group}.weight": m.var_output}
        if layer.bias:
            drawn[f"bias_layers.{group}.weight"] = m.var_bias_output
        if spec.chunk is not None:
            drawn[f"input_layers.{t}.weight"] = m.var_chunk_input
        for name, asked in drawn.items():
            assert math.isclose(draws[name].variance, asked, rel_tol=1e-12), name


@given(hypernets(kinds=["linear"], **BOUNDS), scales())
def test_depth_is_the_same_product_by_recursion_and_by_maps(
    spec: HypernetSpec, q: Fraction
) -> None:
    layers = [dims(spec, t) for t in range(len(spec.layers))]
    maps = moments.forward_maps(spec, q)
    formula = second_moments(spec.method, q, layers)
    assert len(maps) == len(formula)
    for map_, number in zip(maps, formula, strict=True):
        assert all(same(entry, number) for entry in map_.flat)
    if not spec.has_biases:
        depth = closed_form(spec.method, "depth", layers=layers)
        assert same(maps[-1].flat[0], depth * q)


@given(hypernets(kinds=["linear"], **BOUNDS), scales())
def test_gradients_are_multiplied_by_every_layer_above(spec: HypernetSpec, p: Fraction) -> None:
    maps = moments.backward_maps(spec, p)
    for t in reversed(range(len(spec.layers))):
        p = p * closed_form(spec.method, "backward", **dims(spec, t))
        assert all(same(entry, p) for entry in maps[t].flat)


@st.composite
def strided(draw: st.DrawFn) -> HypernetSpec:
    """One circular convolution whose stride divides its input, and that has size / stride outputs."""
    groups, kernel, dilation, stride = (draw(st.integers(1, n)) for n in (3, 2, 2, 3))
    kernel = 2 * kernel - 1
    reach = dilation * (kernel - 1)
    size = stride * draw(st.integers(-(-(reach + 1) // stride), 4 + reach))
    layer = LayerSpec(
        groups * draw(st.integers(1, 4)),
        groups * draw(st.integers(1, 4)),
        (kernel,),
        (stride,),
        (reach // 2,),
        (dilation,),
        groups,
        "circular",
        relu=draw(st.booleans()),
    )
    method = draw(st.sampled_from(["hyperfan-in", "hyperfan-out", "hyperfan-harmonic", "fan-in"]))
    return HypernetSpec((layer,), EmbeddingSpec(3), method, input_size=(size,))


@given(strided())
def test_averaged_over_positions_gradients_are_the_formula_over_the_stride(
    spec: HypernetSpec,
) -> None:
    (stride,) = spec.layers[0].stride
    (size,), (left,) = spec.sizes
    assert left * stride == size
    gradients = moments.backward_maps(spec)[0]
    formula = closed_form(spec.method, "backward", **dims(spec, 0), stride=stride)
    assert same(gradients.sum() / gradients.size, formula)


@given(hypernets(kinds=["conv"], outputs=["own"], **BOUNDS))
def test_torch_carries_second_moments_to_the_same_maps(spec: HypernetSpec) -> None:
    x = torch.full((1, spec.layers[0].in_channels, *spec.input_size), float(Q), dtype=torch.float64)
    x.requires_grad_()
    y = x
    for t, layer in enumerate(spec.layers):
        m = moments.layer_moments(spec, t)
        y = convolution(layer, float(m.weight), float(m.bias))(y) / (2 if layer.relu else 1)
    (gradient,) = torch.autograd.grad(y, x, torch.full_like(y, float(P)))
    forward, backward = moments.forward_maps(spec, Q)[-1], moments.backward_maps(spec, P)[0]
    for found, map_ in ((y, forward), (gradient, backward)):
        expected = torch.tensor(map_.astype(float)).reshape(found.shape[1:])
        assert torch.allclose(found[0], expected, rtol=1e-12, atol=0)


def convolution(layer: LayerSpec, v: float, u: float) -> torch.nn.Module:
    """torch's own layer of this shape: every weight its second moment, every bias too."""
    kind = torch.nn.Conv1d if len(layer.kernel) == 1 else torch.nn.Conv2d
    found: Any = kind(
        layer.in_channels,
        layer.out_channels,
        layer.kernel,  # pyright: ignore[reportArgumentType]
        layer.stride,  # pyright: ignore[reportArgumentType]
        layer.padding,  # pyright: ignore[reportArgumentType]
        layer.dilation,  # pyright: ignore[reportArgumentType]
        layer.groups,
        padding_mode=layer.padding_mode,
        dtype=torch.float64,
    )
    torch.nn.init.constant_(found.weight, v)
    torch.nn.init.constant_(found.bias, u)
    return found
