"""Generated weights have the second moment that the rule promises, however they are generated.

E[W^2] = d_k Var(H) E[h^2], and Var(H) is what a rule sets: Table 1 for the hyperfan inits, the fans of H
for Xavier and Kaiming put on a hypernet (Section 3, M1), s/(100 d_k) for M3, and so on. The features h keep
the second moment of the embedding through every hidden layer of the hypernet (fan-in init).

One draw's weights share the features h, and are no independent sample: they are measured given h. That they
are centred and uncorrelated is a promise too, which the sums of rows and columns keep or break.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperverify.pytest_session import Session
from hyperverify.specs import METHODS
from properties.profiles import TOLERANCE, measured, most, per_method, specs


@pytest.mark.hyperverify(checks=most(2, besides=8))
@pytest.mark.parametrize("method", METHODS)
@per_method
@given(data=st.data())
def test_features_keep_the_second_moment_of_the_embedding(
    hyperverify: Session, method: str, data: st.DataObject
) -> None:
    spec = data.draw(specs("embedding", "trunk", methods=[method]), label="spec")
    quantities = measured(spec, "embedding", "trunk")
    hyperverify.verify(spec, quantities=quantities, tolerance=TOLERANCE)


@pytest.mark.hyperverify(checks=most(2, besides=2))
@pytest.mark.parametrize("method", METHODS)
@per_method
@given(data=st.data())
def test_weights_have_the_second_moment_of_the_rule(
    hyperverify: Session, method: str, data: st.DataObject
) -> None:
    spec = data.draw(specs("weights", methods=[method]), label="spec")
    quantities = measured(spec, "weights", "row sums", "column sums")
    hyperverify.verify(spec, quantities=quantities, tolerance=TOLERANCE)
