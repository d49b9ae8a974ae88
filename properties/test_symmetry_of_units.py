"""Units have no names: permuting them, or flipping their signs, leaves every verdict what it is.

The rules know sizes only. The entries of H are independent, alike and symmetric about 0, so that an
initializer that goes on to permute the rows of H that make the units of a layer, or the weights that
make its inputs, or to flip the signs of whole units, is as right as before, and a wrong one as wrong.
Normal H may even be rotated. What is no symmetry does not pass: units that are copies of each other.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyperverify import init_hypernet_, verify
from hyperverify.catalogue import claims_of
from hyperverify.pytest_session import Session
from hyperverify.specs import METHODS, EmbeddingSpec, HypernetSpec, LayerSpec
from hyperverify.strategies import hypernets
from hyperverify.strategies.bounds import BoundArguments
from properties.initializers import chosen, scaled, transformed
from properties.profiles import BOUNDS, PROFILE

FEW = max(1, settings.get_profile(PROFILE).max_examples // 10)
# An initializer is called once a net, and the wider the net the fewer it takes.
WIDE: BoundArguments = {
    **BOUNDS, "min_width": 12, "max_width": 24, "min_features": 6, "max_features": 8,
    "max_entries": 8192,
}  # fmt: skip
SCALES = ("weights", "forward", "backward")


def order(n: int) -> Tensor:
    """A permutation of n units that is no power of a shift."""
    return torch.arange(n).roll(1).flip(0)


def units_permuted(H: Tensor) -> Tensor:
    return H[order(H.shape[0])]


def weights_permuted(H: Tensor) -> Tensor:
    return H[:, order(H.shape[1])]


def signs_flipped(H: Tensor) -> Tensor:
    signs = torch.ones(H.shape[0], dtype=H.dtype)
    signs[::2] = -1
    return H * signs[:, None, None]


def rotated(H: Tensor) -> Tensor:
    """Householder's reflection of the units in the direction (1, ..., 1)."""
    return H - 2 * H.mean(0, keepdim=True)


def copied(H: Tensor) -> Tensor:
    """Every unit the first: no symmetry."""
    return H[:1].expand_as(H)


SYMMETRIES = {
    "units permuted": units_permuted,
    "weights permuted": weights_permuted,
    "signs flipped": signs_flipped,
}


def scales_of(spec: HypernetSpec) -> tuple[str, ...]:
    known = {claim.quantity for claim in claims_of(spec)}
    return tuple(quantity for quantity in SCALES if quantity in known)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=FEW)
@given(data=st.data())
@pytest.mark.hyperverify(checks=40)
def test_permuted_or_reflected_units_are_as_right_as_before(
    hyperverify: Session, method: str, data: st.DataObject
) -> None:
    spec = data.draw(hypernets(methods=[method], **WIDE))
    name = data.draw(st.sampled_from(sorted(SYMMETRIES)))
    hyperverify.verify(
        spec,
        quantities=scales_of(spec),
        tolerance=0.1,
        initializer=transformed(chosen(hyperverify), SYMMETRIES[name]),
    )


def net(method: str, distribution: str = "normal", output: str = "own") -> HypernetSpec:
    return HypernetSpec(
        (LayerSpec(16, 16, relu=True), LayerSpec(16, 16, relu=True)),
        EmbeddingSpec(8),
        method,
        distribution,
        output=output,
    )


@pytest.mark.hyperverify(checks=10)
@pytest.mark.parametrize("method", ["hyperfan-in", "hyperfan-out"])
def test_normal_units_may_be_rotated(hyperverify: Session, method: str) -> None:
    init_ = transformed(chosen(hyperverify), rotated)
    hyperverify.verify(net(method), quantities=SCALES, tolerance=0.1, initializer=init_)


# --- What is wrong stays wrong. -------------------------------------------------------------------


@pytest.mark.parametrize("name", SYMMETRIES)
@pytest.mark.parametrize(("output", "factor"), [("own", 0.5), ("shared", 2.0)])
def test_a_wrong_initializer_is_refuted_whatever_becomes_of_its_units(
    name: str, output: str, factor: float
) -> None:
    spec = net("hyperfan-in", "uniform", output)
    wrong = transformed(scaled(init_hypernet_, factor), SYMMETRIES[name])
    checks = verify(spec, quantities=SCALES, tolerance=0.1, initializer=wrong)
    assert len(checks) >= 5
    assert {check.verdict for check in checks} == {"REFUTED"}


def test_units_that_are_copies_of_each_other_are_refuted() -> None:
    spec = net("hyperfan-in")
    quantities = ("column sums", "row sums")
    init_ = transformed(init_hypernet_, copied)
    columns, rows = sorted(
        verify(spec, quantities=quantities, tolerance=0.1, initializer=init_),
        key=lambda check: check.quantity,
    )
    assert (columns.quantity, columns.verdict) == ("column sums", "REFUTED")
    assert rows.quantity == "row sums"  # a row holds one unit: its mean square is right
    assert columns.measured > 10 * columns.predicted
