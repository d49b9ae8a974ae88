"""Each layer multiplies the second moment of what it reads as predicted, and half of its ReLU units fire.

q' = (d_j r E[W^2] q + E[b^2]) / s, with s = 2 behind a ReLU and 1 otherwise (Section 4.1). At the border of
a zero-padded convolution fewer taps read inside, and less comes out: the prediction says how much. The
promise of hyperfan-in is the fixed point q' = q = 1.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperverify.pytest_session import Session
from hyperverify.specs import METHODS, HypernetSpec
from properties.profiles import TOLERANCE, most, per_method, specs


@pytest.mark.hyperverify(checks=most(2))
@pytest.mark.parametrize("method", METHODS)
@per_method
@given(data=st.data())
def test_layers_multiply_second_moments_as_predicted(
    hyperverify: Session, method: str, data: st.DataObject
) -> None:
    spec = data.draw(specs("forward", methods=[method]), label="spec")
    hyperverify.verify(spec, quantities=("forward",), tolerance=TOLERANCE)


@pytest.mark.hyperverify(checks=most(2))
@per_method
@given(specs("forward", methods=["hyperfan-in"], kinds=["linear"], outputs=["own"]))
def test_hyperfan_in_keeps_activations(hyperverify: Session, spec: HypernetSpec) -> None:
    for check in hyperverify.verify(spec, quantities=("forward",), tolerance=TOLERANCE):
        assert check.predicted == pytest.approx(1)


@pytest.mark.hyperverify(checks=most(1, besides=8))
@pytest.mark.parametrize("method", METHODS)
@per_method
@given(data=st.data())
def test_half_of_the_relu_units_fire(
    hyperverify: Session, method: str, data: st.DataObject
) -> None:
    spec = data.draw(specs("active", methods=[method], relu=True), label="spec")
    hyperverify.verify(spec, quantities=("active",), tolerance=TOLERANCE)
