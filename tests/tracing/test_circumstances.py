"""What a claim on activations or gradients means beside a plain layer, and that it is said."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from small_nets import Net
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from hyperverify import check
from hyperverify.tracing.layers import TracedLayer
from hyperverify.tracing.replicates import Replicates

SUMS = "with its stride, sums over positions are kept, and not means"
MEANS = "with its stride, means over positions are kept, and not sums"


@pytest.mark.parametrize(
    ("run", "shape", "fan_in", "fan_out", "size", "forward", "backward"),
    [
        (F.linear, (6, 4), 4, 6, (4,), "mean", "mean"),
        (F.conv1d, (6, 4, 3), 12, 18, (4, 60), "mean", "mean"),
        (lambda x, w: F.conv1d(x, w, stride=3), (6, 4, 3), 12, 18, (4, 60), "mean", "sum"),
        (lambda x, w: F.conv1d(x, w, groups=2), (6, 2, 3), 6, 9, (4, 60), "mean", "mean"),
        (F.conv_transpose1d, (4, 6, 3), 12, 18, (4, 60), "mean", "mean"),
        (lambda x, w: F.conv_transpose1d(x, w, stride=3), (4, 6, 3), 12, 18, (4, 60), "sum", "mean"),
    ],
    ids=["linear", "conv", "strided", "grouped", "transposed", "strided transposed"],
)  # fmt: skip
def test_what_is_kept_is_what_is_said(
    run: Callable[[Tensor, Tensor], Tensor],
    shape: tuple[int, ...],
    fan_in: int,
    fan_out: int,
    size: tuple[int, ...],
    forward: str,
    backward: str,
) -> None:
    """E[W^2] = 1/(d_j r) keeps E[x^2], and 1/(d_i r) keeps the gradients', by means or by sums.

    Over 1000 draws of the weights with one x and one gradient of ones; borders (two positions of 60) aside.
    """
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(1000, *shape, generator=generator) / fan_in**0.5
    x, many = torch.randn(1, *size, generator=generator).sign(), range(len(W))
    y = torch.stack([run(x, W[n]) for n in many])
    kept = {
        "mean": y.square().mean() / x.square().mean(),
        "sum": y.square().sum() / len(W) / y.shape[2] / (x.square().sum() / x.shape[1]),
    }
    assert float(kept[forward]) == pytest.approx(1.0, abs=0.06)

    W *= (fan_in / fan_out) ** 0.5
    squares = torch.zeros_like(x)
    for n in many:
        v = x.clone().requires_grad_()
        z = run(v, W[n])
        noise = torch.randn(z.shape, generator=generator)
        squares += torch.autograd.grad((z * noise).sum(), v)[0].square() / len(W)
    per_channel = squares.sum() / x.shape[1] / math.prod(z.shape[2:])
    means = {"mean": squares.mean(), "sum": per_channel}
    assert float(means[backward]) == pytest.approx(1.0, abs=0.06)


def layer_of(
    run: Callable[..., Tensor], *shapes: tuple[int, ...], size: tuple[int, ...]
) -> TracedLayer:
    first = Replicates(lambda: Net(run, *shapes), size, None, 0, None).first
    return first.analysis.layers[0]


def test_sums_normalizations_and_forks_are_seen() -> None:
    plain = lambda h, x: F.relu(F.linear(x, h.W(0)))  # noqa: E731
    assert layer_of(plain, (5, 5), size=(5,)).beside == ()
    residual = lambda h, x: x + F.relu(F.linear(x, h.W(0)))  # noqa: E731
    assert layer_of(residual, (5, 5), size=(5,)).beside == ("fork", "sum")
    normed = lambda h, x: F.layer_norm(F.linear(x, h.W(0)), (5,)).relu()  # noqa: E731
    assert layer_of(normed, (5, 5), size=(5,)).beside == ("normalization",)
    biased = lambda h, x: F.linear(x, h.W(0)) + h.W(1)[0]  # noqa: E731
    assert layer_of(biased, (5, 5), (1, 5), size=(5,)).beside == ()


@pytest.mark.parametrize(
    ("expect", "run", "shapes", "size", "said", "unsaid"),
    [
        ("forward", lambda h, x: F.conv1d(x, h.W(0), stride=2, padding=1), [(6, 4, 3)], (4, 9),
         "what zero padding takes away at the borders is not counted", SUMS),
        ("backward", lambda h, x: F.conv1d(x, h.W(0), stride=2), [(6, 4, 3)], (4, 9), SUMS, MEANS),
        ("forward", lambda h, x: F.conv_transpose1d(x, h.W(0), stride=2), [(4, 6, 3)], (4, 9), SUMS, MEANS),
        ("backward", lambda h, x: F.conv_transpose1d(x, h.W(0), stride=2), [(4, 6, 3)], (4, 9), MEANS, SUMS),
        ("forward", lambda h, x: torch.tanh(x @ h.W(0).T), [(5, 5)], (5,),
         "what tanh does to second moments is not counted", "gradients add up"),
        ("forward", lambda h, x: x + x @ h.W(0).T, [(5, 5)], (5,),
         "its output is added to other data: what the sum does is not counted", "gradients add up"),
        ("backward", lambda h, x: x + x @ h.W(0).T, [(5, 5)], (5,),
         "its input is read elsewhere too: that gradients add up there is not counted", SUMS),
        ("backward", lambda h, x: x @ h.W(0).T, [(5, 5)], (5,), "judged by the weights alone", "used"),
        ("forward", lambda h, x: F.relu(x @ h.W(0).T) @ h.W(0).T, [(5, 5)], (5,), "used 2 times", SUMS),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_what_a_claim_leaves_out_is_among_its_assumptions(
    expect: str,
    run: Callable[..., Tensor],
    shapes: list[tuple[int, ...]],
    size: tuple[int, ...],
    said: str,
    unsaid: str,
) -> None:
    result = check(lambda: Net(run, *shapes), input=size, expect=expect, tolerance=0.9, beta=0.2)
    text = "\n".join(result.layers[0].quantities[0].assumptions)
    assert said in text
    assert unsaid not in text


def test_claims_on_the_rules_scale_need_none_of_that() -> None:
    net = lambda: Net(lambda h, x: x + torch.tanh(x @ h.W(0).T), (5, 5))  # noqa: E731
    result = check(net, input=5, expect="hyperfan-in", tolerance=0.9, beta=0.2)
    (claim,) = result.layers[0].quantities
    assert not any("not counted" in text for text in claim.assumptions)
    assert claim.claim == "E[W^2], mean over the weights, is hyperfan-in's"
