"""One output layer may serve many layers: the rules hold for each, and what they share is accounted for.

Appendix A.1: mainnet layers of one size re-use one H. Each layer's second moments are as if it had an H of
its own, and H gathers the gradients of all. Along a chain the layers depend on each other through H, so
each is measured by what it adds to the layers before it.

Appendix A.2: chunks of K channels, from one H that a small G and e of each chunk feed, tile every W. How
they tile it is for K to say, and the promise is that of Table 1 (Eq. 6).
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperverify.formulas import METHODS as RULES_OF
from hyperverify.pytest_session import Session
from hyperverify.specs import METHODS, HypernetSpec
from hyperverify.strategies import chunked_hypernets, shared_hypernets
from properties.profiles import BOUNDS, TOLERANCE, most, per_method, specs

EVERYTHING = most(18, besides=12)


@pytest.mark.hyperverify(checks=EVERYTHING)
@pytest.mark.parametrize("method", METHODS)
@per_method
@given(data=st.data())
def test_layers_that_share_an_output_layer_fed_apart(
    hyperverify: Session, method: str, data: st.DataObject
) -> None:
    fed_apart = shared_hypernets(methods=[method], flows=["layerwise"], **BOUNDS)
    hyperverify.verify(data.draw(fed_apart, label="spec"), tolerance=TOLERANCE)


@pytest.mark.hyperverify(checks=EVERYTHING)
@pytest.mark.parametrize("method", METHODS)
@per_method
@given(data=st.data())
def test_layers_that_share_an_output_layer_along_a_chain(
    hyperverify: Session, method: str, data: st.DataObject
) -> None:
    """Dense, without generated biases: what is known there goes beyond the weights."""
    chains = shared_hypernets(
        methods=[method], kinds=["linear"], flows=["chain"], bias=False, **BOUNDS
    )
    spec = data.draw(specs("forward", of=chains), label="spec")
    checks = hyperverify.verify(spec, tolerance=TOLERANCE)
    assert any(RULES_OF[method].H in check.rules and "A1.H" in check.rules for check in checks)


@pytest.mark.hyperverify(checks=EVERYTHING)
@per_method
@given(
    specs(
        "dL/dH",
        of=shared_hypernets(methods=["hyperfan-in", "hyperfan-out"], flows=["layerwise"], **BOUNDS),
    )
)
def test_a_shared_output_layer_gathers_the_gradients_of_its_layers(
    hyperverify: Session, spec: HypernetSpec
) -> None:
    """dL/dH = sum over t of dL/dW[t] (x) h(e[t]); the dual basis of the features tells them apart."""
    hyperverify.verify(spec, quantities=("dL/dH",), tolerance=TOLERANCE)


@pytest.mark.hyperverify(checks=EVERYTHING)
@pytest.mark.parametrize("method", ["hyperfan-in", "hyperfan-out"])
@per_method
@given(data=st.data())
def test_chunks_tile_a_layer(hyperverify: Session, method: str, data: st.DataObject) -> None:
    spec = data.draw(chunked_hypernets(methods=[method], **BOUNDS), label="spec")
    hyperverify.verify(spec, tolerance=TOLERANCE)
