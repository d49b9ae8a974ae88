"""Backward is forward, read from the other end: hyperfan-out is hyperfan-in of the transposed mainnet.

dL/dx = W^T dL/dz. So transpose every layer (its inputs become its outputs) and reverse their order:
what hyperfan-in does to activations (Section 4.1), hyperfan-out does to gradients (Section 4.2), at
every layer, and the other way about. The means of the two, and classical rules, are their own mirror
images: n_W and d_k know no direction. Without generated biases, which only act forward.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperverify import init_hypernet_, verify
from hyperverify.closed_forms import closed_form
from hyperverify.moments import (
    backward_gain,
    backward_maps,
    forward_gain,
    forward_maps,
    layer_moments,
)
from hyperverify.pytest_session import Session
from hyperverify.specs import METHODS, EmbeddingSpec, HypernetSpec, LayerSpec
from hyperverify.strategies import hypernets, second_moments
from properties.initializers import scaled
from properties.profiles import BOUNDS

MIRROR = {method: method for method in METHODS if method != "M4"}  # M4 has a fan-in form only
MIRROR |= {"hyperfan-in": "hyperfan-out", "hyperfan-out": "hyperfan-in"}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, float) or isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-12)
    return a == b


def flipped(layer: LayerSpec) -> LayerSpec:
    return replace(layer, in_channels=layer.out_channels, out_channels=layer.in_channels)


def transposed(spec: HypernetSpec) -> HypernetSpec:
    """The same hypernet for the transposed mainnet, initialized by the mirror image of its method."""
    layers = tuple(flipped(layer) for layer in reversed(spec.layers))
    return replace(spec, layers=layers, method=MIRROR[spec.method], batch=1)


@given(
    hypernets(kinds=["linear"], outputs=["own"], methods=list(MIRROR), bias=False, **BOUNDS),
    second_moments(),
)
def test_maps_of_activations_are_maps_of_gradients_of_the_transposed(
    spec: HypernetSpec, q: Fraction
) -> None:
    there, back = transposed(spec), spec
    for one, other in ((there, back), (back, there)):
        gradients = reversed(backward_maps(one, q))
        for activation, gradient in zip(forward_maps(other, q), gradients, strict=True):
            assert activation.shape == gradient.shape
            assert all(same(a, g) for a, g in zip(activation.flat, gradient.flat, strict=True))


@given(hypernets(methods=list(MIRROR), outputs=["own", "chunked"], bias=False, **BOUNDS))
def test_the_gains_of_convolutions_and_chunks_change_places_too(spec: HypernetSpec) -> None:
    for t, layer in enumerate(spec.layers):
        alone = replace(spec, layers=(layer,), input_size=spec.sizes[t], embeddings="own")
        mirrored = flipped(layer)
        other = replace(alone, layers=(mirrored,), method=MIRROR[spec.method], batch=1)
        m, n = layer_moments(alone, 0), layer_moments(other, 0)
        assert same(forward_gain(layer, m), backward_gain(mirrored, n))
        assert same(backward_gain(layer, m), forward_gain(mirrored, n))


@pytest.mark.parametrize("method", MIRROR)
@given(*[st.integers(1, 30)] * 4, second_moments(), st.booleans())
def test_formulas_change_places_under_d_i_and_d_j(
    method: str, d_i: int, d_j: int, d_k: int, r: int, e: Fraction, relu: bool
) -> None:
    given_ = {"d_k": d_k, "r": r, "var_e": e, "relu": relu, "sigma2": e}
    d_j *= d_k  # orthonormal columns ask for n_W >= d_k
    forward = closed_form(method, "forward", d_i=d_i, d_j=d_j, **given_)
    assert same(forward, closed_form(MIRROR[method], "backward", d_i=d_j, d_j=d_i, **given_))


def net(method: str, distribution: str = "uniform") -> HypernetSpec:
    layers = (LayerSpec(8, 16, relu=True), LayerSpec(16, 12), LayerSpec(12, 12, relu=True))
    return HypernetSpec(layers, EmbeddingSpec(6), method, distribution)


@pytest.mark.parametrize("method", ["hyperfan-in", "hyperfan-out", "hyperfan-harmonic", "fan-in"])
@pytest.mark.hyperverify(checks=12)
def test_measured_activations_are_the_gradients_of_the_transposed(
    hyperverify: Session, method: str
) -> None:
    spec, mirror = net(method), transposed(net(method))
    for one, other in ((spec, mirror), (mirror, spec)):
        forward = hyperverify.verify(one, quantities=("forward",), tolerance=0.1)
        backward = hyperverify.verify(other, quantities=("backward",), tolerance=0.1)
        assert [check.predicted for check in forward] == pytest.approx(
            [check.predicted for check in reversed(backward)], rel=1e-12
        )


# --- What is wrong stays wrong. -------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_wrong_initializer_is_refuted_both_ways(factor: float) -> None:
    wrong = scaled(init_hypernet_, factor)
    for spec in (net("hyperfan-in"), transposed(net("hyperfan-in"))):
        checks = verify(spec, quantities=("forward", "backward"), tolerance=0.1, initializer=wrong)
        assert {check.verdict for check in checks} == {"REFUTED"}


def test_hyperfan_in_is_not_its_own_mirror_image() -> None:
    spec = HypernetSpec((LayerSpec(4, 8),), EmbeddingSpec(3), "hyperfan-in")
    backward = backward_maps(spec)[0][0, 0]
    mirror = forward_maps(replace(transposed(spec), method="hyperfan-in"))[1][0, 0]
    assert (backward, mirror) == (2, 1)
