"""Training in weight space is training of the hypernet: float64, small widths, hundreds of steps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hyperverify import nets
from hyperverify.errors import BadArgument
from hyperverify.experiments.mnist import arms
from hyperverify.experiments.mnist.direct import Direct
from hyperverify.experiments.mnist.mainnet import Passes
from hyperverify.experiments.mnist.start import drawn, start
from hyperverify.experiments.mnist.weight_space import WeightSpace
from hyperverify.plan import plan

WIDTHS = (12, 9, 9, 9, 9, 9, 4)
DIM, BATCH, STEPS, SEED = 5, 6, 300, 3
# Rounding, amplified by training: the fan-in nets of exploding weights amplify it most.
AGREE = 1e-9
HYPERNETS = [arm for arm in arms.ALL if not arm.classical]
CLASSICAL = [arm for arm in arms.ALL if arm.classical]


def batches() -> list[tuple[Tensor, Tensor]]:
    g = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(BATCH, WIDTHS[0], generator=g, dtype=torch.float64),
            torch.randint(WIDTHS[-1], (BATCH, 1), generator=g),
        )
        for _ in range(STEPS)
    ]


def passes(arm: arms.Arm) -> Passes:
    return Passes(WIDTHS, arm.activation, BATCH, torch.float64)


def logits_of(
    arm: arms.Arm, weights: list[Tensor], biases: list[Tensor] | None, x: Tensor
) -> Tensor:
    for t, weight in enumerate(weights):
        x = torch.nn.functional.linear(x, weight, None if biases is None else biases[t])
        if t < len(weights) - 1:
            x = torch.tanh(x) if arm.activation == "tanh" else torch.relu(x)
    return x


@pytest.mark.parametrize("arm", HYPERNETS, ids=lambda arm: arm.name)
def test_weight_space_direct_form_and_autograd_agree(arm: arms.Arm) -> None:
    spec = arm.spec(WIDTHS, DIM)
    short = WeightSpace(start(arm, WIDTHS, SEED, torch.float64, DIM), passes(arm), arm.rate)
    tensors = drawn(spec, plan(spec), SEED, torch.float64)
    direct = Direct(spec, {k: v.clone() for k, v in tensors.items()}, passes(arm), arm.rate)
    first = [weight.clone() for weight in short.weights]
    learned = [name for name in tensors if "embeddings." not in name]
    for name in learned:
        tensors[name].requires_grad_()
    for x, labels in batches():
        generated = [nets.generate_weight(spec, tensors, t) for t in range(6)]
        biases = [nets.generate_bias(spec, tensors, t) for t in range(6)] if arm.biases else None
        logits = logits_of(arm, generated, biases, x)
        loss = torch.nn.functional.cross_entropy(logits, labels[:, 0])
        gradients = torch.autograd.grad(loss, [tensors[name] for name in learned])
        with torch.no_grad():
            for name, gradient in zip(learned, gradients, strict=True):
                tensors[name] -= arm.rate * gradient
        found = [float(short.step(x, labels)), float(direct.step(x, labels))]
        assert found == pytest.approx([float(loss.detach())] * 2, rel=AGREE)
    direct.generate()
    with torch.no_grad():
        for t in range(6):
            wanted = nets.generate_weight(spec, tensors, t)
            scale = float(wanted.abs().max())
            assert float((short.weights[t] - wanted).abs().max()) < AGREE * scale
            assert float((direct.weights[t] - wanted).abs().max()) < AGREE * scale
            moved = float((short.weights[t] - first[t]).abs().max())
            assert moved > 1e4 * AGREE * scale, "nothing was learned: agreement would mean little"
            if arm.biases:
                assert short.biases is not None
                bias = nets.generate_bias(spec, tensors, t)
                assert bias is not None
                assert float((short.biases[t] - bias).abs().max()) < AGREE * max(1, scale)


@pytest.mark.parametrize("arm", CLASSICAL, ids=lambda arm: arm.name)
def test_the_classical_net_is_plain_sgd(arm: arms.Arm) -> None:
    begin = start(arm, WIDTHS, SEED, torch.float64, DIM)
    net = WeightSpace(begin, passes(arm), arm.rate)
    parameters = [v.clone().requires_grad_() for v in (*begin.weights, *(begin.biases or ()))]
    for x, labels in batches():
        logits = logits_of(arm, parameters[:6], parameters[6:] or None, x)
        loss = torch.nn.functional.cross_entropy(logits, labels[:, 0])
        with torch.no_grad():
            for p, g in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                p.sub_(arm.rate * g)
        assert float(net.step(x, labels)) == pytest.approx(float(loss.detach()), rel=AGREE)
    for mine, wanted in zip((*net.weights, *(net.biases or ())), parameters, strict=True):
        assert torch.allclose(mine, wanted.detach(), rtol=AGREE, atol=AGREE)


def test_a_wrong_coupling_would_be_seen() -> None:
    """Without beta's 1 the two forms drift apart by far more than they may."""
    arm = arms.WEIGHTS[3]
    begin = start(arm, WIDTHS, SEED, torch.float64, DIM)
    right = WeightSpace(begin, passes(arm), arm.rate)
    for group in begin.groups:
        group.coupling.sub_(1)
    wrong = WeightSpace(begin, passes(arm), arm.rate)
    for x, labels in batches():
        right.step(x, labels)
        wrong.step(x, labels)
    apart = max(
        float((a - b).abs().max()) for a, b in zip(right.weights, wrong.weights, strict=True)
    )
    assert apart > 1e3 * AGREE


def test_layers_of_one_shape_share_their_output_layer() -> None:
    begin = start(arms.WEIGHTS[3], (30, 8, 8, 8, 8, 8, 5), 0, torch.float32, 4)
    assert [group.members for group in begin.groups] == [(0,), (1, 2, 3, 4), (5,)]
    shared = begin.groups[1].coupling
    e = torch.stack([begin.embeddings[t] for t in (1, 2, 3, 4)]).double()
    assert torch.allclose(shared, e @ e.T + 1)


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(BadArgument, match="activation is 'gelu'; allowed: one of tanh, relu"):
        Passes(WIDTHS, "gelu", BATCH, torch.float64)
