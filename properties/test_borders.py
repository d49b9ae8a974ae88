"""At a border a kernel reads less, and second moments are smaller by exactly what it does not read.

Table 1 divides by d_j r, as if every output read a whole receptive field. Zero padding feeds zeros to
the border: of a 3 x 3 kernel a corner reads 4 of 9 taps, so hyperfan-in gives it E[z^2] = 4/9. Circular
padding makes Table 1 exact everywhere. With a stride, gradients differ from position to position by how
many taps reach back. The oracle's maps (`hyperverify.moments.forward_maps`, `backward_maps`) say so in
fractions; here every single position is measured. With inputs, cotangents and embeddings of fair signs
the variance given all of them is the map itself, and the channels at a position are independent normals
of just that variance: an exact law with one verdict a position. Beyond the paper; docs/theory.md,
"Borders see less than a fan, strides less than a kernel".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given

from hyperverify import init_hypernet_, moments
from hyperverify.foreign import Initializer
from hyperverify.pytest_session import Session
from hyperverify.specs import EmbeddingSpec, HypernetSpec, LayerSpec
from hyperverify.strategies import hypernets
from hyperverify.testing import RefutedError, assert_second_moment
from properties.initializers import chosen, filled
from properties.profiles import BOUNDS

CHANNELS = 64  # independent entries at a position, of one net


def convolution(method: str, size: tuple[int, ...], **shape: Any) -> HypernetSpec:
    """One layer of many channels; embeddings of fair signs, so that |h|^2 is a constant."""
    layer = LayerSpec(CHANNELS, CHANNELS, **shape)
    return HypernetSpec((layer,), EmbeddingSpec(2, "rademacher"), method, "normal", input_size=size)


SAME = {"kernel": (3, 3), "padding": (1, 1)}
NETS = {
    "corner, edge and middle": convolution("hyperfan-in", (3, 3), **SAME),
    "circular": convolution(
        "hyperfan-in", (4,), kernel=(3,), padding=(1,), padding_mode="circular"
    ),
    "strided": convolution(
        "hyperfan-out", (6,), kernel=(3,), stride=(2,), padding=(1,), padding_mode="circular"
    ),
    "dilated": convolution("hyperfan-in", (5,), kernel=(3,), padding=(2,), dilation=(2,)),
    "no padding": convolution("hyperfan-out", (5,), kernel=(3,)),
}
FORWARD = {
    "corner, edge and middle": "4/9 2/3 4/9 2/3 1 2/3 4/9 2/3 4/9",
    "circular": "1 1 1 1",
    "strided": "1 1 1",
    "dilated": "2/3 2/3 1 2/3 2/3",
    "no padding": "1 1 1",
}
BACKWARD = {
    **FORWARD,
    "strided": "1/3 2/3 1/3 2/3 1/3 2/3",
    "no padding": "1/3 2/3 1 2/3 1/3",
}
POSITIONS = [
    (name, way, position)
    for way, table in (("forward", FORWARD), ("backward", BACKWARD))
    for name in table
    for position in range(len(table[name].split()))
]


def fractions(row: str) -> list[Fraction]:
    return [Fraction(entry) for entry in row.split()]


def signs(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randint(0, 2, shape, generator=generator).double() * 2 - 1


def drawn(
    spec: HypernetSpec, way: str, position: int, initializer: Initializer = init_hypernet_
) -> Callable[[int], tuple[float, int]]:
    """draw(seed): the sum of squares over the channels at one position, of z or of dL/dx."""

    def draw(seed: int) -> tuple[float, int]:
        generator = torch.Generator().manual_seed(seed)
        model = filled(spec, initializer, generator)
        x = signs(generator, 1, CHANNELS, *spec.input_size).requires_grad_(way == "backward")
        with torch.set_grad_enabled(way == "backward"):
            found = z = model(x)
        if way == "backward":
            (found,) = torch.autograd.grad(z, x, signs(generator, *z.shape))
        at = found[0].flatten(1)[:, position]
        return float(at.square().sum()), CHANNELS

    return draw


@pytest.mark.parametrize("name", NETS)
def test_the_maps_of_the_oracle_are_these_fractions(name: str) -> None:
    spec = NETS[name]
    assert list(moments.forward_maps(spec)[1][0]) == fractions(FORWARD[name])
    assert list(moments.backward_maps(spec)[0][0]) == fractions(BACKWARD[name])


@pytest.mark.parametrize(("name", "way", "position"), POSITIONS)
@pytest.mark.hyperverify(checks=1)
def test_every_position_has_the_second_moment_of_the_map(
    hyperverify: Session, name: str, way: str, position: int
) -> None:
    table = FORWARD if way == "forward" else BACKWARD
    hyperverify.assert_second_moment(
        drawn(NETS[name], way, position, chosen(hyperverify)),
        float(fractions(table[name])[position]),
        law="exact",
        tolerance=0.2,
        what=f"{name}, {way}, position {position}",
    )


@pytest.mark.parametrize("name", ["corner, edge and middle", "strided"])
@pytest.mark.hyperverify(checks=20)
def test_the_checks_of_a_spec_look_inside_and_at_the_border(
    hyperverify: Session, name: str
) -> None:
    spec, sites = NETS[name], {"/inside": max, "/border": min}
    checks = hyperverify.verify(spec, quantities=("forward", "backward"), tolerance=0.1)
    for check in checks:
        table = FORWARD if check.quantity == "forward" else BACKWARD
        choose = next((chosen for site, chosen in sites.items() if check.id.endswith(site)), max)
        assert math.isclose(check.predicted, choose(fractions(table[name])))
    assert any(check.id.endswith("/border") for check in checks)


@given(hypernets(kinds=["conv"], methods=["hyperfan-in"], outputs=["own"], bias=False, **BOUNDS))
def test_no_position_is_above_table_1_and_circular_ones_are_all_on_it(spec: HypernetSpec) -> None:
    circular = all(layer.padding_mode == "circular" for layer in spec.layers)
    for map_ in moments.forward_maps(spec):
        assert all(0 <= entry <= 1 for entry in map_.flat)
        assert not circular or all(entry == 1 for entry in map_.flat)


# --- What is wrong is found. ----------------------------------------------------------------------

WRONG = [
    ("corner, edge and middle", "forward", 0, Fraction(1)),  # Table 1 at a corner
    ("corner, edge and middle", "forward", 0, Fraction(2, 3)),  # an edge's value
    ("corner, edge and middle", "backward", 1, Fraction(1)),
    ("circular", "forward", 0, Fraction(2, 3)),
    ("strided", "backward", 0, Fraction(1, 2)),  # the mean over positions
    ("strided", "backward", 1, Fraction(1, 2)),
    ("dilated", "forward", 2, Fraction(2, 3)),
]


@pytest.mark.parametrize(("name", "way", "position", "wrong"), WRONG)
def test_another_position_s_moment_is_refuted(
    name: str, way: str, position: int, wrong: Fraction
) -> None:
    with pytest.raises(RefutedError):
        assert_second_moment(
            drawn(NETS[name], way, position), float(wrong), law="exact", tolerance=0.2
        )
