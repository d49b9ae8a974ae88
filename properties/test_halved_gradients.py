"""Generated biases halve the gradients of hyperfan-in at every layer; the paper prints no such figure.

Hyperfan-in leaves E[y^2] = 1 by giving the bias half of it (Table 1, Case 2), and so gives the weights
half of what they have without. The bias adds nothing to dL/dx: p = p' (d_i/d_j)/2, a second moment
that halves at every square layer (Section 4.2 only notes an asymmetry). Hyperfan-out keeps p whatever
the biases do. Beyond the paper; derived in docs/theory.md, "Generated biases halve the gradients".
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyperverify import Hypernet, init_hypernet_, moments, verify
from hyperverify.closed_forms import closed_form
from hyperverify.foreign import Initializer
from hyperverify.pytest_session import Session
from hyperverify.specs import EmbeddingSpec, HypernetSpec, LayerSpec
from hyperverify.testing import RefutedError, assert_gain
from properties.initializers import chosen, filled

DISTRIBUTIONS = ("uniform", "normal")


def net(
    *widths: int,
    method: str = "hyperfan-in",
    bias: bool = True,
    relu: bool = False,
    distribution: str = "normal",
) -> HypernetSpec:
    layers = tuple(LayerSpec(a, b, relu=relu, bias=bias) for a, b in itertools.pairwise(widths))
    return HypernetSpec(layers, EmbeddingSpec(6, distribution), method, distribution)


@given(st.lists(st.integers(1, 30), min_size=2, max_size=6), st.booleans())
def test_formula_and_oracle_print_the_half(widths: list[int], relu: bool) -> None:
    spec = net(*widths, relu=relu)
    gradients = [p[0, 0] for p in moments.backward_maps(spec)]
    for (a, b), below, above in zip(
        itertools.pairwise(widths), gradients, gradients[1:], strict=False
    ):
        assert below == above * Fraction(b, a) / 2
        sizes: dict[str, Any] = {"d_i": b, "d_j": a, "d_k": 6, "d_l": 6, "var_e": 1, "var_e2": 1}
        assert closed_form("hyperfan-in", "backward", **sizes, bias=True) == Fraction(b, 2 * a)
    assert gradients[0] == Fraction(widths[-1], widths[0]) / 2 ** (len(widths) - 1)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.hyperverify(checks=10)
def test_gradients_halve_at_every_square_layer(
    hyperverify: Session, relu: bool, distribution: str
) -> None:
    spec = net(12, 12, 12, 12, relu=relu, distribution=distribution)
    checks = hyperverify.verify(spec, quantities=("backward", "depth"), tolerance=0.1)
    layers = [check for check in checks if check.quantity == "backward"]
    assert [check.predicted for check in layers] == [0.5, 0.5, 0.5]
    assert all(check.measured < 0.6 for check in layers)
    (slope,) = (check for check in checks if check.id.endswith("depth/backward"))
    assert math.isclose(slope.predicted, math.log(0.5))


@pytest.mark.hyperverify(checks=10)
def test_where_widths_differ_the_half_comes_on_top_of_their_ratio(hyperverify: Session) -> None:
    checks = hyperverify.verify(net(8, 12, 6), quantities=("backward",), tolerance=0.1)
    assert [check.predicted for check in checks] == [12 / 8 / 2, 6 / 12 / 2]


@pytest.mark.parametrize(("method", "bias"), [("hyperfan-in", False), ("hyperfan-out", True)])
@pytest.mark.hyperverify(checks=10)
def test_without_biases_or_under_hyperfan_out_gradients_are_kept(
    hyperverify: Session, method: str, bias: bool
) -> None:
    spec = net(12, 12, 12, method=method, bias=bias, relu=True)
    checks = hyperverify.verify(spec, quantities=("backward",), tolerance=0.1)
    assert [check.predicted for check in checks] == [1.0, 1.0]


# --- From the outside: the module, its gradient, and no formula of the library. -------------------


def drawn(spec: HypernetSpec, initializer: Initializer) -> Any:
    """draw(seed): |dL/dx|^2 of the bottom layer and E[(dL/dx)^2] before it, given what it shares."""

    def draw(seed: int) -> tuple[float, float, int]:
        generator = torch.Generator().manual_seed(seed)
        model = filled(spec, initializer, generator)
        (layer,) = spec.layers
        x = torch.randn(1, layer.in_channels, generator=generator, dtype=torch.float64)
        cotangent = torch.randn(1, layer.out_channels, generator=generator, dtype=torch.float64)
        (gradient,) = torch.autograd.grad(model(x.requires_grad_()), x, cotangent)
        shared = model.embeddings["0"].detach().square().mean()  # pyright: ignore[reportIndexIssue]
        before = float(shared * cotangent.square().mean())
        return float(gradient.square().sum()), before, layer.in_channels

    return draw


@pytest.mark.parametrize(("d_j", "d_i"), [(32, 32), (24, 48)])
@pytest.mark.hyperverify(checks=1)
def test_the_half_is_seen_by_autograd_alone(hyperverify: Session, d_j: int, d_i: int) -> None:
    draw = drawn(net(d_j, d_i), chosen(hyperverify))
    hyperverify.assert_gain(
        draw, d_i / d_j / 2, law="exact", tolerance=0.1, what=f"backward, {d_j} to {d_i}"
    )


# --- What is wrong is found. ----------------------------------------------------------------------


def test_gradients_that_are_kept_as_the_paper_hopes_are_refuted() -> None:
    with pytest.raises(RefutedError):
        assert_gain(drawn(net(32, 32), init_hypernet_), 1.0, law="exact", tolerance=0.1)


def repaired(model: Hypernet, *, generator: torch.Generator) -> None:
    """H of twice its variance: gradients are kept, and activations are not."""
    init_hypernet_(model, generator=generator)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("output_layers.") and name.endswith("weight"):
                parameter.mul_(2**0.5)


def test_mending_the_gradients_breaks_what_hyperfan_in_promises() -> None:
    checks = verify(
        net(12, 12, 12), quantities=("forward", "backward"), tolerance=0.1, initializer=repaired
    )
    assert {check.verdict for check in checks} == {"REFUTED"}
    # The intervals hold the truth but for a chance of 1e-6: gradients are kept, activations grow.
    for check in checks:
        low, high = check.interval
        assert low < 1 < high if check.quantity == "backward" else low > 1
