"""Each layer multiplies the second moment of the gradient as predicted, on its way down.

p = d_i r E[W^2] p' / s (Section 4.2), for a cotangent that knows nothing of the net. Hyperfan-out is made
to keep it. What hyperfan-in does to it follows: with generated biases the weights carry half of the
activations, and half of the gradient is lost at every layer.
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
def test_layers_multiply_gradients_as_predicted(
    hyperverify: Session, method: str, data: st.DataObject
) -> None:
    spec = data.draw(specs("backward", methods=[method]), label="spec")
    hyperverify.verify(spec, quantities=("backward",), tolerance=TOLERANCE)


@pytest.mark.hyperverify(checks=most(2))
@per_method
@given(specs("backward", methods=["hyperfan-out"], kinds=["linear"], outputs=["own"]))
def test_hyperfan_out_keeps_gradients(hyperverify: Session, spec: HypernetSpec) -> None:
    for check in hyperverify.verify(spec, quantities=("backward",), tolerance=TOLERANCE):
        assert check.predicted == pytest.approx(1)
