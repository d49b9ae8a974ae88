"""The oracle where a slip would be easy to miss: exact roots, what is not there, odd maps, misuse."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from hyperverify import moments
from hyperverify.errors import BadArgument
from hyperverify.specs import METHODS, ChunkSpec, EmbeddingSpec, HypernetSpec, LayerSpec

ZERO = Fraction(0)


def a_spec(method: str, *layers: LayerSpec, **more: Any) -> HypernetSpec:
    return HypernetSpec(layers, EmbeddingSpec(3, "normal", Fraction(2)), method, **more)


# --- Exact numbers ---


def test_a_geometric_mean_is_exact_where_it_is_rational() -> None:
    """2 / sqrt(3 x 3) with 3 features and 3 weights; 2 / sqrt(3 x 12); and 2 / sqrt(3 x 6), no fraction."""
    for outputs, expected in ((3, Fraction(2, 3)), (12, Fraction(1, 3))):
        m = moments.layer_moments(a_spec("geometric", LayerSpec(1, outputs, relu=True)), 0)
        assert m.var_output == expected
        assert type(m.var_output) is Fraction
    m = moments.layer_moments(a_spec("geometric", LayerSpec(1, 6, relu=True)), 0)
    assert m.var_output == pytest.approx(2 / math.sqrt(18), rel=1e-15)


@pytest.mark.parametrize("huge", [2**62, 10**30])
def test_whole_numbers_stay_exact_however_large(huge: int) -> None:
    spec = a_spec("hyperfan-in", LayerSpec(6, 3, relu=True), LayerSpec(3, 5))
    for maps in (moments.forward_maps, moments.backward_maps):
        for whole, one in zip(maps(spec, huge), maps(spec), strict=True):
            assert (whole == huge * one).all()


# --- What is not there is zero ---


@pytest.mark.parametrize("method", METHODS)
def test_without_a_generated_bias_there_is_nothing_of_it(method: str) -> None:
    embedding = EmbeddingSpec(3, "constant") if method == "M4" else EmbeddingSpec(3, "normal")
    more: dict[str, Any] = {"sigma2": 1} if method == "small" else {}
    spec = HypernetSpec((LayerSpec(4, 2),), embedding, method, distribution="normal", **more)
    m = moments.layer_moments(spec, 0)
    assert (m.var_bias_output, m.bias_feature, m.bias, m.var_chunk_input) == (ZERO,) * 4
    assert moments.forward_offset(spec.layers[0], m) == 0


@pytest.mark.parametrize("method", ["hyperfan-in", "hyperfan-out"])
def test_chunks_generate_no_bias(method: str) -> None:
    spec = a_spec(method, LayerSpec(4, 6), output="chunked", chunk=ChunkSpec(2, 5))
    m = moments.layer_moments(spec, 0)
    assert (m.var_bias_output, m.bias_feature, m.bias) == (ZERO,) * 3
    assert moments.forward_offset(spec.layers[0], m) == 0
    # alone, each unit of input comes through as the method promises
    gain = Fraction(1) if method == "hyperfan-in" else Fraction(4, 6)
    assert set(moments.forward_maps(spec)[1].flat) == {gain}


def test_where_no_bias_is_needed_the_means_of_hyperfan_give_it_nothing_or_half() -> None:
    """A layer that widens has more than enough under hyperfan-out: of 1/2 and 0 the means are 0, 0 and 1/4."""
    layer = LayerSpec(8, 4, bias=True)
    shares = {"harmonic": ZERO, "geometric": ZERO, "arithmetic": Fraction(1, 4)}
    for mean, share in shares.items():
        m = moments.layer_moments(a_spec(f"hyperfan-{mean}", layer), 0)
        assert m.bias == share
        assert type(m.bias) is Fraction


# --- Maps ---

GROUPED = LayerSpec(4, 6, (3,), padding=(1,), groups=2)


@pytest.mark.parametrize("chosen", [[0], [1, 3], [4, 0, 2], [0, 1, 2, 3, 4]])
@pytest.mark.parametrize("tap", [0, 1, 2])
def test_a_weight_gradient_sums_over_the_positions_given(chosen: list[int], tap: int) -> None:
    """Taps 0 and 2 read padding at one end, so that a position may have nothing to give."""
    generator = np.random.default_rng(1)
    d2, x2 = generator.integers(1, 99, (6, 5)), generator.integers(1, 99, (4, 5))
    only = np.zeros_like(d2)
    only[:, chosen] = d2[:, chosen]
    found = moments.weight_gradient_at(GROUPED, (5,), tap, d2, x2, chosen)
    assert (found == moments.weight_gradient_at(GROUPED, (5,), tap, only, x2)).all()
    assert found.shape == (2, 3, 2)


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_a_bias_gradient_sums_over_positions_only(library: str) -> None:
    d2 = np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    given: Any = torch.as_tensor(d2) if library == "torch" else d2
    found = moments.bias_gradient(given)
    assert tuple(found.shape) == (2, 3, 4)
    assert found.tolist() == [
        [[sum(row) for row in image] for image in batch] for batch in d2.tolist()
    ]


def test_maps_have_the_shape_of_their_layer() -> None:
    layers = (LayerSpec(2, 4, (2,)), LayerSpec(4, 6, (3,), groups=2), LayerSpec(6, 3, (2,), (2,)))
    spec = a_spec("fan-in", *layers, input_size=(9,))
    shapes = [(2, 9), (4, 8), (6, 6), (3, 3)]
    assert [q.shape for q in moments.forward_maps(spec)] == shapes
    back = moments.backward_maps(spec, Fraction(7))
    assert [p.shape for p in back] == shapes
    assert set(back[-1].flat) == {7}
    # nothing overlaps at stride 2 and kernel 2: each input has three readers, one an output channel
    weight = moments.layer_moments(spec, 2).weight
    assert set(back[2].flat) == {7 * 3 * weight}


# --- What specs cannot say, but for a slip in the library ---


def bent(spec: HypernetSpec, name: str, value: object) -> HypernetSpec:
    """A copy with a field that a spec would refuse."""
    copy = replace(spec)
    object.__setattr__(copy, name, value)
    return copy


@pytest.mark.parametrize(
    ("method", "named"), [("xavier", "xavier"), ("hyperfan-median", "median"), ("", "")]
)
def test_a_method_that_the_oracle_does_not_know_is_not_taken_for_another(
    method: str, named: str
) -> None:
    spec = bent(a_spec("fan-in", LayerSpec(4, 2)), "method", method)
    with pytest.raises(BadArgument) as refusal:
        moments.layer_moments(spec, 0)
    assert str(refusal.value) == f"method is {named!r}; allowed: a method that the oracle knows"


def test_method_small_needs_its_variance() -> None:
    spec = bent(a_spec("small", LayerSpec(4, 2), sigma2=1), "sigma2", None)
    with pytest.raises(BadArgument) as refusal:
        moments.layer_moments(spec, 0)
    assert str(refusal.value) == "sigma2 is None; allowed: a positive number under method small"
