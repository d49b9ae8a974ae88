"""What a rule does not ask for does not change what it gives.

A second moment is promised, not a distribution: uniform and normal draws, normal inputs and inputs of
fair signs, one input or a batch, thick chunks or thin ones (Appendix A.2) have the same predictions and
the same verdicts. Gains are free of scale: without biases a net carries 2^k x to 2^k y, to the last
bit. And whatever is chosen, an initializer of the wrong scale is refuted.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyperverify import Hypernet, init_hypernet_, verify
from hyperverify.moments import backward_maps, forward_maps, layer_moments
from hyperverify.plan import plan
from hyperverify.pytest_session import Session
from hyperverify.specs import ChunkSpec, EmbeddingSpec, HypernetSpec, LayerSpec
from hyperverify.store import Check
from hyperverify.strategies import hypernets, second_moments
from properties.initializers import scaled
from properties.profiles import BOUNDS

SCALES = ("weights", "forward", "backward")
TWO_LAYERS = (LayerSpec(12, 18, relu=True), LayerSpec(18, 12))
PLAIN = HypernetSpec(TWO_LAYERS, EmbeddingSpec(6), "hyperfan-in", flow="layerwise")
CHUNKED = replace(PLAIN, output="chunked", chunk=ChunkSpec(1, 6))

VARIANTS = {
    "uniform draws": PLAIN,
    "normal draws": replace(PLAIN, distribution="normal"),
    "normal embeddings": replace(PLAIN, embedding=EmbeddingSpec(6, "normal")),
    "inputs of fair signs": replace(PLAIN, input="rademacher"),
    "one after the other": replace(PLAIN, flow="chain"),
    "two inputs": replace(PLAIN, batch=2, distribution="normal"),
    "five inputs": replace(PLAIN, batch=5, distribution="normal"),
    "chunks of 1": CHUNKED,
    "chunks of 2": replace(CHUNKED, chunk=ChunkSpec(2, 6)),
    "chunks of 6": replace(CHUNKED, chunk=ChunkSpec(6, 6)),
    "chunks of 6, of 3 features": replace(CHUNKED, chunk=ChunkSpec(6, 3)),
    "chunks along the inputs": replace(CHUNKED, chunk=ChunkSpec(9, 6)),
}


def predictions(checks: tuple[Check, ...]) -> dict[tuple[str, int | None], float]:
    return {(check.quantity, check.layer): check.predicted for check in checks}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.hyperverify(checks=10)
def test_no_setting_but_the_sizes_changes_prediction_or_verdict(
    hyperverify: Session, name: str
) -> None:
    spec = VARIANTS[name]
    found = predictions(hyperverify.verify(spec, quantities=SCALES, tolerance=0.1))
    expected = {
        ("weights", 0): 2 / 12, ("forward", 0): 1.0, ("backward", 0): 18 / 12,
        ("weights", 1): 1 / 18, ("forward", 1): 1.0, ("backward", 1): 12 / 18,
    }  # fmt: skip
    if spec.output == "chunked":  # no law is known for gradients of chunks behind a ReLU: no check
        del expected["backward", 0]
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", VARIANTS)
def test_no_setting_hides_a_wrong_scale(name: str) -> None:
    wrong = scaled(init_hypernet_, 1.5)
    checks = verify(VARIANTS[name], quantities=SCALES, tolerance=0.1, initializer=wrong)
    assert {check.verdict for check in checks} == {"REFUTED"}


# --- The same, exactly. ---------------------------------------------------------------------------


@given(hypernets(methods=["hyperfan-in", "hyperfan-out", "fan-in", "M3"], **BOUNDS))
def test_uniform_and_normal_draws_have_the_same_plan(spec: HypernetSpec) -> None:
    variances = [
        {name: draw.variance for name, draw in plan(replace(spec, distribution=kind)).items()}
        for kind in ("uniform", "normal")
    ]
    assert variances[0] == variances[1]


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 12), st.booleans(), st.data())
def test_however_a_weight_is_cut_into_chunks_it_has_the_same_second_moment(
    a: int, b: int, d_k: int, relu: bool, data: st.DataObject
) -> None:
    layer = LayerSpec(6 * a, 6 * b, relu=relu)
    method = data.draw(st.sampled_from(["hyperfan-in", "hyperfan-out"]))
    whole = layer_moments(HypernetSpec((layer,), EmbeddingSpec(4), method), 0).weight
    for K in (1, 2, 3, 6):
        chunk = ChunkSpec(K, d_k)
        spec = HypernetSpec((layer,), EmbeddingSpec(4), method, output="chunked", chunk=chunk)
        assert layer_moments(spec, 0).weight == whole
        draws = plan(spec)
        H, G = draws["output_layers.0.weight"], draws["input_layers.0.weight"]
        assert H.shape[0] * G.shape[0] == layer.n_weights  # K entries from each of n_W / K chunks
        assert d_k * H.variance * 4 * G.variance == pytest.approx(float(whole), rel=1e-12)


@given(hypernets(bias=False, outputs=["own", "shared"], **BOUNDS), second_moments())
def test_second_moments_are_proportional_to_those_that_enter(
    spec: HypernetSpec, scale: Fraction
) -> None:
    for maps in (forward_maps, backward_maps):
        for one, many in zip(maps(spec), maps(spec, scale), strict=True):
            assert (one * scale - many == 0).all() or abs(one * scale - many).max() < 1e-12


@given(hypernets(bias=False, **BOUNDS), st.integers(-8, 8))
def test_without_biases_a_net_carries_a_power_of_two_to_the_last_bit(
    spec: HypernetSpec, exponent: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    model = Hypernet(spec, generator=generator)
    x = torch.randn(2, spec.layers[0].in_channels, *spec.input_size, generator=generator)
    with torch.no_grad():
        assert torch.equal(model(x * 2.0**exponent), model(x) * 2.0**exponent)


@given(hypernets(bias=True, methods=["hyperfan-in"], **BOUNDS), second_moments("2", 9))
def test_with_biases_it_does_not(spec: HypernetSpec, scale: Fraction) -> None:
    one, many = forward_maps(spec)[-1], forward_maps(spec, scale)[-1]
    assert all(b < scale * a for a, b in zip(one.flat, many.flat, strict=True))
