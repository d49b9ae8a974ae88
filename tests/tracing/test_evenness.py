"""Parts of a weight that are not like the rest, whatever shape the weight is used in."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from small_nets import Net, uniform
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from hyperverify import check
from hyperverify.confidence import Verdict
from hyperverify.tracing.evenness import Evenness
from hyperverify.tracing.replicates import Replicates

WIDE = 40


class Members(nn.Module):
    """Four matrices 6 x 5 from four embeddings and one output layer, in one batched product."""

    def __init__(self, change: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.e, self.H = uniform(4, WIDE), uniform(4, 30, WIDE, variance=1 / (5 * WIDE))
        with torch.no_grad():
            change(self.H)

    def forward(self, x: Tensor) -> Tensor:
        w = torch.bmm(self.H, self.e[..., None]).view(4, 6, 5)
        return torch.bmm(x.expand(4, -1, -1), w.transpose(1, 2)).mean(0)


def dead_member(H: Tensor) -> None:
    H[2] = 0
    H *= (4 / 3) ** 0.5


def dead_unit_of_one(H: Tensor) -> None:
    H[1, 5:10] = 0
    H *= (24 / 23) ** 0.5


def loud_input_of_one(H: Tensor) -> None:
    H.view(4, 6, 5, WIDE)[3, :, 4] *= 2
    H *= (20 / 23) ** 0.5


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (dead_member, "in layer 1, matrix 3 has 0 times the layer's mean E[W^2]"),
        (dead_unit_of_one, "in layer 1, of all matrices' output units, number 8 has 0 times"),
        (loud_input_of_one, "in layer 1, of all matrices' input units, number 20 has 3."),
    ],
)
def test_each_matrix_of_a_batch_is_looked_at(change: Callable[[Tensor], object], told: str) -> None:
    result = check(lambda: Members(change), input=5, expect="hyperfan-in", tolerance=0.2)
    assert result.verdict is not Verdict.VERIFIED
    assert any(told in flag for flag in result.flags), (result.flags, result.reason)


def test_even_members_raise_no_flag() -> None:
    result = check(lambda: Members(lambda H: H), input=5, expect="hyperfan-in", tolerance=0.2)
    assert (result.verdict, result.flags) == (Verdict.VERIFIED, ())
    assert result.layers[0].copies == 4


def units(factory: Callable[[], nn.Module], shape: tuple[int, ...]) -> dict[str, int]:
    """How many units of what the weight of the only layer has."""
    (layer,) = Replicates(factory, shape, None, 0, None).first.analysis.layers
    seen = Evenness()
    seen.add(layer, layer.weight.value())
    return {name: rows[0].size for name, rows in seen.ratios.items()}


class PerSample(nn.Module):
    """Every sample has a kernel of its own."""

    def __init__(self, transposed: bool) -> None:
        super().__init__()
        self.e, self.H = uniform(8, 6), uniform(2 * 4 * 3, 6)
        self.transposed = transposed

    def forward(self, x: Tensor) -> Tensor:
        n = len(x)
        kernels = (self.e[:n] @ self.H.T).view(n * 4, 2, 3)
        run = F.conv_transpose1d if self.transposed else F.conv1d
        return run(x.reshape(1, -1, 9), kernels, groups=n).view(n, -1, 11 if self.transposed else 7)


def test_units_are_those_of_one_sample_and_of_the_layer() -> None:
    linear = lambda: Net(lambda h, x: F.linear(x, h.W(0)), (7, 5))  # noqa: E731
    assert units(linear, (5,)) == {"output unit": 7, "input unit": 5}
    conv = lambda: Net(lambda h, x: F.conv2d(x, h.W(0)), (6, 4, 3, 2))  # noqa: E731
    assert units(conv, (4, 5, 5)) == {"output unit": 6, "input unit": 4, "place in the kernel": 6}
    transposed = lambda: Net(lambda h, x: F.conv_transpose1d(x, h.W(0)), (6, 4, 3))  # noqa: E731
    assert units(transposed, (6, 9)) == {
        "output unit": 4,
        "input unit": 6,
        "place in the kernel": 3,
    }
    one = {"output unit": 4, "input unit": 2, "place in the kernel": 3}
    assert units(lambda: PerSample(False), (2, 9)) == one
    other = {"output unit": 2, "input unit": 4, "place in the kernel": 3}
    assert units(lambda: PerSample(True), (4, 9)) == other
    assert units(lambda: Members(lambda H: H), (5,)) == {
        "matrix": 4,
        "of all matrices' output units, number": 24,
        "of all matrices' input units, number": 20,
    }
