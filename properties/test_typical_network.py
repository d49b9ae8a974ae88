"""The mean net is kept, and the net that you get is not: most nets fall below the mean, by a known drift.

q_T/q_0 of a chain is a product of independent factors. Given a layer's input and features, normal H
makes |z|^2 / (Var(H) |h|^2 |x|^2) chi-square with d_i degrees of freedom (behind a ReLU: with as many as
units fire), and normal embeddings make |h|^2/E[h^2] chi-square with d_k. So

    log(q_T/q_0) = sum over layers of  log gain + log(chi2_{d_i}/d_i) + log(chi2_{d_k}/d_k),

whose mean is that of log gain plus psi(d/2) - log(d/2) for either: below log E[q_T/q_0], by about 1/d
each, and 5/(2 d_i) with ReLU. The promise of hyperfan-in, E[q_T] = q_0, stays true, kept by few large
nets. Beyond the paper; derived in docs/theory.md, "The mean net is not the typical net".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from hyperverify import Hypernet, init_hypernet_
from hyperverify.plan import Draw, plan
from hyperverify.pytest_session import Session
from hyperverify.specs import EmbeddingSpec, HypernetSpec, LayerSpec
from properties.measured import LogGain, LogGrowth, Source, half_below, mean_log


def chain(
    widths: tuple[int, ...],
    features: int,
    *,
    method: str = "hyperfan-in",
    relu: bool = False,
    embedding: str = "normal",
) -> HypernetSpec:
    layers = tuple(LayerSpec(a, b, relu=relu) for a, b in itertools.pairwise(widths))
    return HypernetSpec(layers, EmbeddingSpec(features, embedding), method, "normal")


def law_of(spec: HypernetSpec) -> LogGrowth:
    """The law of log(q_T/q_0): the gains of hyperfan-in are 1, and those of hyperfan-out d_j/d_i."""
    gains = [LogGain(layer.out_channels, layer.relu) for layer in spec.layers]
    if spec.embedding.distribution == "normal":
        gains += [LogGain(spec.embedding.dim) for _ in spec.layers]
    kept = spec.method == "hyperfan-in"
    ends = spec.layers[0].in_channels / spec.layers[-1].out_channels
    # A dead net is left out: E[gain] of those that live is larger, and B counts from 1.
    return LogGrowth(tuple(gains), 0.0 if kept else math.log(ends))


CHAINS = {
    "linear": chain((8,) * 5, 4),
    "linear, |h| fixed": chain((6,) * 4, 3, embedding="rademacher"),
    "ReLU": chain((6,) * 4, 4, relu=True),
    "ReLU, |h| fixed": chain((8,) * 4, 2, relu=True, embedding="rademacher"),
    "widening, hyperfan-out": chain((4, 6, 9), 4, method="hyperfan-out"),
}


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.hyperverify(checks=1)
def test_half_of_the_nets_lie_below_the_predicted_median(hyperverify: Session, name: str) -> None:
    spec = CHAINS[name]
    check = half_below(spec, law_of(spec), source=Source.of(hyperverify), what=f"median, {name}")
    hyperverify.record(check)


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.hyperverify(checks=1)
def test_the_mean_logarithm_drifts_by_the_digamma_of_the_widths(
    hyperverify: Session, name: str
) -> None:
    spec, law = CHAINS[name], law_of(CHAINS[name])
    check = mean_log(spec, law, source=Source.of(hyperverify), what=f"mean log, {name}")
    hyperverify.record(check)
    # and this is drift: the logarithm of the mean, 0 under hyperfan-in, is far outside the interval
    assert check.interval[1] < law.constant - 0.1


@pytest.mark.hyperverify(checks=4)
def test_all_the_while_the_mean_is_kept(hyperverify: Session) -> None:
    (forward, _) = hyperverify.verify(CHAINS["linear"], quantities=("depth",), tolerance=0.1)
    assert forward.predicted == 0
    (forward, _) = hyperverify.verify(CHAINS["ReLU"], quantities=("depth",), tolerance=0.1)
    assert forward.predicted == 0


# --- What the law says, without a draw. -----------------------------------------------------------


@given(st.integers(1, 2000))
def test_the_drift_of_a_linear_layer_is_one_over_its_width(d: int) -> None:
    # -1/(2x) - 1/(12 x^2) < psi(x) - log x < -1/(2x), x = d/2
    assert -1 / d - 1 / (3 * d**2) < LogGain(d).mean() < -1 / d


@given(st.integers(40, 400))
def test_the_drift_of_a_relu_layer_is_five_halves_over_its_width(d: int) -> None:
    assert math.isclose(LogGain(d, relu=True).mean(), -5 / (2 * d), rel_tol=4 / d)


@given(st.integers(1, 64))
def test_one_layer_has_the_median_of_its_chi_square(d: int) -> None:
    median = math.log(chi2.median(d) / d)
    assert math.isclose(LogGrowth((LogGain(d),)).median(), median, abs_tol=1e-9)


@given(
    st.lists(st.tuples(st.integers(2, 20), st.booleans()), min_size=1, max_size=3),
    st.integers(1, 20),
)
def test_most_nets_lie_below_the_mean_and_deep_ones_all_do(
    gains: list[tuple[int, bool]], repeat: int
) -> None:
    law = LogGrowth(tuple(LogGain(d, relu) for d, relu in gains))
    alive = sum(relu * -math.log1p(-(0.5**d)) for d, relu in gains)
    assert law.below(alive) > 0.5
    assert law.mean() < law.median() < alive
    deeper = LogGrowth(law.gains * (repeat + 1))
    assert deeper.below((repeat + 1) * alive) > law.below(alive) - 1e-9


@given(st.integers(2, 60), st.booleans())
def test_the_mean_of_the_gain_itself_is_one(d: int, relu: bool) -> None:
    alive = 1 - 0.5**d if relu else 1.0  # the nets that die count with a gain of 0
    assert math.isclose(math.exp(LogGain(d, relu).log_mgf(1)) * alive, 1.0, rel_tol=1e-9)


# --- What is wrong is found. ----------------------------------------------------------------------


def scaled(spec: HypernetSpec, factor: float) -> Mapping[str, Draw]:
    return {
        name: replace(draw, variance=draw.variance * factor)
        if name.startswith("output_layers.")
        else draw
        for name, draw in plan(spec).items()
    }


@pytest.mark.parametrize(
    ("name", "factor"), list(zip(CHAINS, itertools.cycle([0.8, 1.25]), strict=False))
)
def test_an_initialization_of_another_scale_is_refuted(name: str, factor: float) -> None:
    spec, law = CHAINS[name], law_of(CHAINS[name])
    source = Source(draws=scaled(spec, factor))
    assert half_below(spec, law, source=source, what="wrong", tolerance=0.2).verdict == "REFUTED"
    assert mean_log(spec, law, source=source, what="wrong", nets=2048).verdict == "REFUTED"


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["linear", "ReLU"])
def test_a_few_nets_that_are_not_finite_are_not_passed_over(name: str, value: float) -> None:
    def sometimes(model: Hypernet, *, generator: torch.Generator) -> None:
        init_hypernet_(model, generator=generator)
        if torch.rand((), generator=generator) < 0.01:
            torch.nn.init.constant_(model.get_parameter("output_layers.0.weight"), value)

    spec, source = CHAINS[name], Source(initializer=sometimes)
    law = law_of(spec)
    assert half_below(spec, law, source=source, what="wrong", tolerance=0.2).verdict == "REFUTED"
    assert mean_log(spec, law, source=source, what="wrong").verdict == "REFUTED"


@pytest.mark.parametrize("name", CHAINS)
def test_a_law_without_the_drift_is_refuted(name: str) -> None:
    spec, law = CHAINS[name], law_of(CHAINS[name])
    drift = law.mean() - law.constant
    naive = replace(law, constant=law.constant - drift)  # as if the typical net were the mean net
    assert (
        half_below(spec, naive, source=Source(), what="naive", tolerance=0.2).verdict == "REFUTED"
    )
    assert mean_log(spec, naive, source=Source(), what="naive", nets=2048).verdict == "REFUTED"


def test_a_law_of_the_wrong_widths_is_refuted() -> None:
    spec = CHAINS["linear"]
    wide = LogGrowth(tuple(LogGain(16) for _ in spec.layers))  # and h forgotten
    assert mean_log(spec, wide, source=Source(), what="wide", nets=2048).verdict == "REFUTED"
