"""Generated biases have the second moment that the rule promises, and are zero where it says so.

E[b^2] = d_l Var(G) E[g^2] (Section 4.1, Case 2, and Section 4.2, Case 2, Eq. 5). Under hyperfan-in the
biases bring half of a layer's second moment and the weights the other half. Under hyperfan-out they bring
what the weights leave, 1 - d_j/d_i, and nothing at all where a layer does not widen. They may be generated
from the features of the weights, or from an embedding and a trunk of their own.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperverify.pytest_session import Session
from hyperverify.specs import METHODS, HypernetSpec
from properties.profiles import TOLERANCE, most, per_method, specs

WITH_BIASES = [method for method in METHODS if method not in ("M4", "orthogonal")]


@pytest.mark.hyperverify(checks=most(2))
@pytest.mark.parametrize("method", WITH_BIASES)
@per_method
@given(data=st.data())
def test_biases_have_the_second_moment_of_the_rule(
    hyperverify: Session, method: str, data: st.DataObject
) -> None:
    spec = data.draw(specs("biases", methods=[method], bias=True), label="spec")
    hyperverify.verify(spec, quantities=("biases",), tolerance=TOLERANCE)


@pytest.mark.hyperverify(checks=most(1))
@per_method
@given(specs("biases", methods=["hyperfan-out"], outputs=["shared"], bias=True, max_depth=2))
def test_hyperfan_out_generates_zero_biases_where_a_layer_keeps_its_width(
    hyperverify: Session, spec: HypernetSpec
) -> None:
    for check in hyperverify.verify(spec, quantities=("biases",), tolerance=TOLERANCE):
        assert check.predicted == check.measured == 0
