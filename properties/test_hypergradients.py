"""Every gradient on its way from the mainnet into the hypernet has the second moment that is predicted.

dL/dW is a cotangent times an input. From there the hypernet sends it on: dL/dh = Var(H) sum (dL/dW)^2 into
the features, dL/dH = dL/dW (x) h into the output layer, and dL/db likewise into g and G. Where layers
share an output layer, their gradients add up in it: dL/dH = sum over t of dL/dW[t] (x) h(e[t]) (Appendix A.1).
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyperverify.catalogue import claims_of
from hyperverify.nets import features
from hyperverify.pytest_session import Session
from hyperverify.specs import METHODS
from hyperverify.strategies import dense_hypernets
from properties.initializers import chosen, filled
from properties.profiles import BOUNDS, TOLERANCE, measured, most, per_method, specs

WITH_BIASES = [method for method in METHODS if method not in ("M4", "orthogonal")]


@pytest.mark.hyperverify(checks=most(2))
@pytest.mark.parametrize("method", METHODS)
@per_method
@given(data=st.data())
def test_gradients_of_generated_weights(
    hyperverify: Session, method: str, data: st.DataObject
) -> None:
    """dL/dW."""
    spec = data.draw(specs("dL/dW", methods=[method]), label="spec")
    hyperverify.verify(spec, quantities=("dL/dW",), tolerance=TOLERANCE)


@pytest.mark.hyperverify(checks=most(4, besides=1))
@pytest.mark.parametrize("method", [method for method in METHODS if method != "orthogonal"])
@per_method
@given(data=st.data())
def test_gradients_of_features_and_output_layers(
    hyperverify: Session, method: str, data: st.DataObject
) -> None:
    """dL/dh and dL/dH."""
    outputs = ["own", "shared"]  # behind chunks no exact law is known of them
    spec = data.draw(specs("dL/dh", "dL/dH", methods=[method], outputs=outputs), label="spec")
    quantities = measured(spec, "dL/dh", "dL/dH")
    hyperverify.verify(spec, quantities=quantities, tolerance=TOLERANCE)


@pytest.mark.hyperverify(checks=most(2))
@pytest.mark.parametrize("method", WITH_BIASES)
@per_method
@given(data=st.data())
def test_gradients_of_bias_features_and_bias_output_layers(
    hyperverify: Session, method: str, data: st.DataObject
) -> None:
    """dL/dg and dL/dG."""
    own = specs("dL/dg", "dL/dG", methods=[method], outputs=["own"], bias=True)
    spec = data.draw(own, label="spec")
    quantities = measured(spec, "dL/dg", "dL/dG")
    hyperverify.verify(spec, quantities=quantities, tolerance=TOLERANCE)


PAIRS = {"min_depth": 2, "max_depth": 2, "min_width": 8}


@pytest.mark.hyperverify
@pytest.mark.parametrize("method", ["hyperfan-in", "hyperfan-out", "fan-in"])
@per_method
@given(data=st.data())
def test_gradients_of_generated_biases(
    hyperverify: Session, method: str, data: st.DataObject
) -> None:
    """dL/db, by autograd through the module itself: what the layer above sends to the units alive.

    gamma is added to b, so its gradient is dL/db. Given dL/dz and h of the layer above, its entries
    have the variance E[W^2] |dL/dz|^2 |h|^2 / (d_k E[h^2]).
    """
    pairs = dense_hypernets(methods=[method], flows=["chain"], bias=True, **{**BOUNDS, **PAIRS})
    spec = data.draw(pairs, label="spec")
    init_ = chosen(hyperverify)
    expected = next(c for c in claims_of(spec) if (c.quantity, c.layer) == ("weights", 1)).predicted

    def bias_gradients(seed: int) -> tuple[float, float, int]:
        generator = torch.Generator().manual_seed(seed)
        net = filled(spec, init_, generator)
        x, cotangent = (
            torch.randn(1, n, generator=generator, dtype=torch.float64)
            for n in (spec.layers[0].in_channels, spec.layers[1].out_channels)
        )
        y = net(x)
        y.backward(cotangent)
        db = net.get_parameter("bias_layers.0.bias").grad
        dz = cotangent * (y > 0) if spec.layers[1].relu else cotangent
        h = features(spec, net.tensors(), 1).detach()
        kept = float(spec.feature_dim * spec.embedding.second_moment)
        assert db is not None
        before = float(dz.square().sum() * h.square().sum()) / kept
        return float(db.square().sum()), before, int((db != 0).sum())

    law = "exact" if spec.distribution == "normal" else "conservative"
    hyperverify.assert_gain(
        bias_gradients, expected, law=law, tolerance=0.25, what=f"dL/db of {spec}"
    )
