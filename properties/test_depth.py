"""Classical inits explode or vanish with depth, at the slope that is predicted; principled ones do not.

What a layer multiplies second moments by, T layers multiply to the power T. Xavier fan-in on a hypernet
gives E[W^2] = Var(e) instead of 1/d_j, so a square net of width d explodes by d Var(e) a layer (Section 3,
M1); fan-out on a hypernet divides by n_W what d_k features add up to. The logarithm of the second moment
is a straight line over depth, and its slope is checked: gain by gain, since the product itself is
heavy-tailed and its average never settles.
"""

from __future__ import annotations

from fractions import Fraction
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperverify.pytest_session import Session
from hyperverify.specs import (
    DISTRIBUTIONS,
    METHODS,
    EmbeddingSpec,
    HypernetSpec,
    LayerSpec,
)
from hyperverify.strategies import conv_hypernets, dense_hypernets, embeddings
from hyperverify.strategies.bounds import BoundArguments
from properties.profiles import BOUNDS, PROFILE, TOLERANCE, per_method, specs

DEPTH = {"ci": 12, "nightly": 30}.get(PROFILE, 6)
DEEP: BoundArguments = {**BOUNDS, "min_depth": 3, "max_depth": DEPTH}


@pytest.mark.hyperverify(checks=2)
@pytest.mark.parametrize("method", METHODS)
@per_method
@given(data=st.data())
def test_second_moments_have_the_predicted_slope_over_any_depth(
    hyperverify: Session, method: str, data: st.DataObject
) -> None:
    """Widths, ReLUs and biases differ from layer to layer."""
    bias = None if method in ("hyperfan-in", "hyperfan-out") else False
    chains = dense_hypernets(methods=[method], flows=["chain"], bias=bias, **DEEP)
    spec = data.draw(specs("depth", of=chains), label="spec")
    hyperverify.verify(spec, quantities=("depth",), tolerance=TOLERANCE)


@pytest.mark.hyperverify(checks=2)
@per_method
@given(
    specs(
        "depth",
        of=conv_hypernets(
            methods=["hyperfan-in", "hyperfan-out", "fan-in", "fan-out"],
            flows=["chain"], bias=False, **{**DEEP, "padding_modes": ["circular"]},
        ),
    )
)  # fmt: skip
def test_so_they_do_through_convolutions_without_borders(
    hyperverify: Session, spec: HypernetSpec
) -> None:
    hyperverify.verify(spec, quantities=("depth",), tolerance=TOLERANCE)


@st.composite
def square_chains(draw: st.DrawFn, method: str) -> HypernetSpec:
    """Dense layers of one width; all of them with ReLU, or none."""
    layer = draw(st.integers(3, 10))
    depth, relu = draw(st.integers(3, DEPTH)), draw(st.booleans())
    constant = method == "M4"
    embedding = EmbeddingSpec(draw(st.integers(3, 8)), "constant") if constant else None
    return HypernetSpec(
        layers=(LayerSpec(layer, layer, relu=relu),) * depth,
        embedding=embedding or draw(embeddings(min_dim=3)),
        method=method,
        distribution=draw(st.sampled_from(DISTRIBUTIONS)),
        sigma2=Fraction(1, draw(st.integers(1, 8))) if method == "small" else None,
    )


def classical_gain(spec: HypernetSpec) -> Fraction:
    """What a layer of width d multiplies by, worked out by hand: d E[W^2] / s."""
    d, k = spec.layers[0].in_channels, spec.embedding.dim
    s = 2 if spec.layers[0].relu else 1
    of_h = {
        "fan-in": Fraction(s, k),
        "fan-out": Fraction(s, d * d),
        "harmonic": Fraction(2 * s, k + d * d),
        "arithmetic": (Fraction(s, k) + Fraction(s, d * d)) / 2,
        "torch-default": Fraction(1, 3 * k),
        "M3": Fraction(s, 100 * k),
        "small": spec.sigma2,
    }[spec.method]
    assert of_h is not None
    return d * k * of_h * spec.embedding.second_moment / s


@pytest.mark.hyperverify(checks=2)
@pytest.mark.parametrize(
    "method", ["fan-in", "fan-out", "harmonic", "arithmetic", "torch-default", "M3", "small"]
)
@per_method
@given(data=st.data())
def test_classical_inits_explode_or_vanish(
    hyperverify: Session, method: str, data: st.DataObject
) -> None:
    """Activations and gradients alike, in a square net; its gain is 1 by coincidence only."""
    spec = data.draw(square_chains(method), label="spec")
    slope = log(classical_gain(spec))
    for check in hyperverify.verify(spec, quantities=("depth",), tolerance=TOLERANCE):
        assert check.predicted == pytest.approx(slope, abs=1e-9)
        # The interval for a layer's gain is the tolerance wide at most: a slope beyond it is shown.
        assert check.measured == pytest.approx(slope, abs=2 * TOLERANCE)


@pytest.mark.hyperverify(checks=2)
@pytest.mark.parametrize(
    "method",
    ["hyperfan-in", "hyperfan-out", "hyperfan-harmonic", "hyperfan-geometric", "M4"],
)
@per_method
@given(data=st.data())
def test_principled_inits_keep_a_square_net_at_its_scale(
    hyperverify: Session, method: str, data: st.DataObject
) -> None:
    """M4 by constant embeddings, whose entries stand in for the fan that its Var(H) forgets."""
    spec = data.draw(square_chains(method), label="spec")
    for check in hyperverify.verify(spec, quantities=("depth",), tolerance=TOLERANCE):
        assert check.predicted == pytest.approx(0, abs=1e-9)


@pytest.mark.hyperverify(checks=2)
@per_method
@given(specs("depth", of=dense_hypernets(methods=["hyperfan-in"], flows=["chain"], **DEEP)))
def test_hyperfan_in_keeps_activations_through_any_widths(
    hyperverify: Session, spec: HypernetSpec
) -> None:
    forward = next(
        check
        for check in hyperverify.verify(spec, quantities=("depth",), tolerance=TOLERANCE)
        if check.id.endswith("/forward")
    )
    assert forward.predicted == pytest.approx(0, abs=1e-9)


@pytest.mark.hyperverify(checks=2)
@per_method
@given(specs("depth", of=dense_hypernets(methods=["hyperfan-out"], flows=["chain"], **DEEP)))
def test_hyperfan_out_keeps_gradients_through_any_widths(
    hyperverify: Session, spec: HypernetSpec
) -> None:
    backward = next(
        check
        for check in hyperverify.verify(spec, quantities=("depth",), tolerance=TOLERANCE)
        if check.id.endswith("/backward")
    )
    assert backward.predicted == pytest.approx(0, abs=1e-9)
