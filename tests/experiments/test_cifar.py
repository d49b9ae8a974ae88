"""All-CNN in chunks: its layers, the steps of its hypernet, its images, and what is seen before the first one."""

from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
import made

from hyperverify import nets
from hyperverify.errors import HyperverifyError
from hyperverify.experiments.cifar import arms, at_init, expected, images, net, statistics
from hyperverify.experiments.cifar.arms import Form
from hyperverify.experiments.cifar.training import Scale, Session
from hyperverify.experiments.init_checks import Levels
from hyperverify.experiments.records import InitCheck

SMALL = Form(8)
CPU = torch.device("cpu")
SEED = 3
LEVELS = Levels.of(at_init.EXACT_CHECKS * len(arms.ALL))
HYPERFAN_IN = arms.ALL[2]


# --- the mainnet and its hypernet -----------------------------------------------------------------


def test_the_mainnet_is_all_cnn_c_and_k_is_the_largest_that_tiles_it() -> None:
    layers = arms.layers(Form())
    assert expected.sizes(Form()) == [(n, n) for n in (32, 32, 32, 16, 16, 16, 8, 6, 6, 6)]
    # Springenberg et al. count 1.3 million parameters
    assert sum(layer.n_weights for layer in layers) == 1_368_480
    assert [layer.relu for layer in layers] == [True] * 9
    spec = arms.spec_of(Form())
    assert spec.chunk is not None
    assert [spec.chunk.count(layer) for layer in spec.layers] == [3, 96, 96, 192, 384, 384, 384]
    assert math.gcd(*(layer.out_channels for layer in spec.layers)) == spec.chunk.size == 96


def test_the_variances_are_the_papers_and_the_oracles() -> None:
    form = Form()
    by_method = {arm.method: arm for arm in arms.ALL}
    # E[W^2] of the first layer, of a square one, and of 96 to 192 channels
    wanted = {
        "fan-in": (2, 2, 2),
        "fan-out": (Fraction(100, 864),) * 3,
        "hyperfan-in": (Fraction(2, 27), Fraction(2, 864), Fraction(2, 864)),
        "hyperfan-out": (Fraction(2, 864), Fraction(2, 864), Fraction(2, 1728)),
    }
    for method, moments in wanted.items():
        draws = arms.draws_of(by_method[method], form)
        for t, moment in zip((0, 1, 3), moments, strict=True):
            of = expected.expected(by_method[method], form, t)
            assert of.weight == pytest.approx(float(moment))
            assert of.input == pytest.approx(draws[f"input_layers.{t}.weight"].variance)
            assert of.output == pytest.approx(draws["output_layers.0.weight"].variance)
    both = replace(form, kaiming="both")
    assert expected.expected(by_method["fan-in"], both, 1).weight == pytest.approx(4)
    draws = arms.draws_of(by_method["fan-in"], both)
    assert draws["input_layers.1.weight"].variance == pytest.approx(2 / 50)


def test_all_arms_begin_with_the_same_embeddings_and_ordinary_layers() -> None:
    starts = [net.start(arm, Form(4), SEED, torch.float32) for arm in arms.ALL]
    for other in starts[1:]:
        for mine, theirs in zip(starts[0].embeddings, other.embeddings, strict=True):
            assert torch.equal(mine, theirs)
        for mine, theirs in zip(starts[0].ordinary, other.ordinary, strict=True):
            assert torch.equal(mine, theirs)
    another = net.start(arms.ALL[0], Form(4), SEED + 1, torch.float32)
    assert not torch.equal(starts[0].embeddings[0], another.embeddings[0])


def batches(count: int, size: int, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    g = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(6, 3, size, size, generator=g, dtype=dtype),
            torch.randint(10, (6,), generator=g),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize(
    ("arm", "rate"),
    # rates at which each moves: the gradients of the exploding ones are larger
    [(arms.ALL[0], 1e-9), (arms.ALL[1], 1e-6), (arms.ALL[2], 0.01), (arms.ALL[3], 0.01)],
)
def test_a_step_is_sgd_on_the_hypernet_itself(arm: arms.Arm, rate: float) -> None:
    form = Form(4)
    spec = arms.spec_of(form)
    begin = net.start(arm, form, SEED, torch.float64)
    mine = net.Net(form, begin, CPU)
    tensors = dict(net.drawn(arm, form, SEED, torch.float64))
    learned = [name for name in tensors if "embeddings." not in name]
    leaves = [tensors[name].requires_grad_() for name in learned]
    ordinary = [weight.clone().requires_grad_() for weight in begin.ordinary]
    before = [weight.detach().clone() for weight in mine.weights()]
    for x, labels in batches(30, 12, torch.float64):
        made = [nets.generate_weight(spec, tensors, t) for t in range(arms.GENERATED)]
        logits = net.mainnet(arms.layers(form), made + ordinary, x)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        gradients = torch.autograd.grad(loss, [*leaves, *ordinary])
        with torch.no_grad():
            for leaf, gradient in zip([*leaves, *ordinary], gradients, strict=True):
                leaf.sub_(gradient, alpha=rate)
        found, _ = mine.step(x, labels, rate)
        assert float(found) == pytest.approx(float(loss.detach()), rel=1e-9)
    with torch.no_grad():
        made = [nets.generate_weight(spec, tensors, t) for t in range(arms.GENERATED)]
        for weight, wanted, first in zip(mine.weights(), made + ordinary, before, strict=True):
            scale = float(wanted.abs().max())
            assert float((weight - wanted).abs().max()) < 1e-9 * scale
            assert float((weight - first).abs().max()) > 1e-6 * scale, "nothing was learned"


def test_a_wrong_factor_would_be_seen() -> None:
    """Without gamma's 1 the two forms drift apart by far more than they may."""
    begin = net.start(HYPERFAN_IN, Form(4), SEED, torch.float64)
    right, wrong = net.Net(Form(4), begin, CPU), net.Net(Form(4), begin, CPU)
    for factor in wrong._factors:
        factor.sub_(1)
    for x, labels in batches(10, 12, torch.float64):
        right.step(x, labels, 0.01)
        wrong.step(x, labels, 0.01)
    apart = (right.weights()[1] - wrong.weights()[1]).detach().abs().max()
    assert float(apart) > 1e-6


def test_the_net_learns_what_can_be_learned() -> None:
    pixels, labels = made.pictures(60, 5)
    x = images.standardized(torch.as_tensor(pixels))
    wanted = torch.as_tensor(labels.astype(np.int64))
    mine = net.Net(SMALL, net.start(HYPERFAN_IN, SMALL, SEED, torch.float32), CPU)
    losses = [float(mine.step(x, wanted, 0.02)[0]) for _ in range(60)]
    assert losses[-1] < 0.8 * losses[0]


# --- images ---------------------------------------------------------------------------------------


def test_images_that_are_tested_on_are_not_trained_on(tmp_path: Path) -> None:
    alone = images.read(made.write_cifar(tmp_path / "alone", train=50, test=0))
    found = images.split(alone, None, None, 10, SEED)
    assert (len(found.labels), len(found.test_labels)) == (40, 10)
    assert "held out" in found.described
    both = {image.numpy().tobytes() for image in (*found.images, *found.tests)}
    assert both == {image.tobytes() for image in alone.train_images}
    whole = images.read(made.write_cifar(tmp_path / "whole", train=50, test=20))
    found = images.split(whole, 30, 15, 10, SEED)
    assert (len(found.labels), len(found.test_labels)) == (30, 15)
    tests = {image.tobytes() for image in whole.test_images}
    assert {image.numpy().tobytes() for image in found.tests} <= tests
    again = images.split(whole, 30, 15, 10, SEED)
    assert torch.equal(found.images, again.images)
    assert not torch.equal(found.images, images.split(whole, 30, 15, 10, SEED + 1).images)


def test_too_few_images_are_refused_in_one_line(tmp_path: Path) -> None:
    few = images.read(made.write_cifar(tmp_path, train=20, test=0))
    with pytest.raises(HyperverifyError, match="has 16 images to train on and 4 to test on") as e:
        images.split(few, None, None, 17, SEED)
    assert "\n" not in str(e.value)
    with pytest.raises(HyperverifyError, match="cifar needs --data DIR, the folder of CIFAR-10"):
        images.read(None)


def test_pixels_are_standardized_by_channel() -> None:
    x = images.standardized(torch.full((2, 3, 32, 32), 255, dtype=torch.uint8))
    for channel, (mean, spread) in enumerate(zip(images.MEAN, images.SPREAD, strict=True)):
        assert float(x[0, channel, 0, 0]) == pytest.approx((1 - mean) / spread, rel=1e-5)


# --- training -------------------------------------------------------------------------------------


def session(tmp_path: Path, rate: float, **scale: object) -> Session:
    found = images.read(made.write_cifar(tmp_path, train=30, test=10))
    small = replace(Scale(Form(4), epochs=4, batch=10, every=2, decays=(1, 3)), **scale)
    return Session(HYPERFAN_IN, rate, images.split(found, None, None, 10, SEED), small, SEED, "cpu")


def test_the_learning_rate_falls_at_the_epochs_of_the_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = session(tmp_path, 0.5)
    seen: list[float] = []

    def step(x: Tensor, labels: Tensor, rate: float) -> tuple[Tensor, Tensor]:
        seen.append(rate)
        return torch.tensor(1.5), torch.tensor(len(labels))

    monkeypatch.setattr(one.net, "step", step)
    one.run(lambda: None, lambda _: None)
    assert seen == pytest.approx([0.5] * 3 + [0.05] * 6 + [0.005] * 3)
    assert one.history["steps"].tolist() == [0, 2, 4, 6, 8, 10, 12]
    assert one.history["train_loss"][1:].tolist() == [1.5] * 6
    assert one.history["train_accuracy"][1:].tolist() == [1] * 6


def test_a_net_that_is_no_longer_finite_ends_its_training(tmp_path: Path) -> None:
    one = session(tmp_path, 1e30)
    one.run(lambda: None, lambda _: None)
    assert one.diverged is not None
    assert 1 <= one.diverged <= 2
    assert one.finished
    assert np.isfinite(one.history["train_loss"][0])
    assert np.isnan(one.history["train_loss"][-1])


# --- before the first step ------------------------------------------------------------------------


def looked(arm: arms.Arm, form: Form = SMALL) -> tuple[net.Start, statistics.Look]:
    pixels, labels = made.pictures(6, 4)
    x = images.standardized(torch.as_tensor(pixels))
    begin = net.start(arm, form, SEED, torch.float32)
    wanted = torch.as_tensor(labels.astype(np.int64))
    return begin, statistics.look(net.Net(form, begin, CPU), x, wanted)


def checks(arm: arms.Arm, form: Form = SMALL) -> list[InitCheck]:
    return at_init.check_arm(arm, form, *looked(arm, form), SEED, LEVELS)


@pytest.mark.parametrize("arm", arms.ALL, ids=lambda arm: arm.method)
def test_every_exact_claim_is_verified(arm: arms.Arm) -> None:
    found = checks(arm)
    exact = [check for check in found if check.approximation is None]
    assert len(exact) == at_init.EXACT_CHECKS
    assert Counter(check.verdict for check in exact) == {"VERIFIED": len(exact)}
    assert len({check.id for check in found}) == len(found)
    seen = {check.verdict for check in found if check.quantity == "activations"}
    assert seen == {"AGREES"}


def test_every_exact_claim_is_verified_under_the_other_readings() -> None:
    other = Form(8, last="linear", kaiming="both")
    exact = [c.verdict for c in checks(arms.ALL[0], other) if c.approximation is None]
    assert exact == ["VERIFIED"] * at_init.EXACT_CHECKS


@pytest.mark.parametrize(
    ("part", "refuted"),
    [
        ("output_layers.0.weight", {"weights", "sums", "flows"}),
        ("input_layers.4.weight", {"features"}),
    ],
)
def test_another_scale_of_a_part_is_refuted_where_it_shows(
    monkeypatch: pytest.MonkeyPatch, part: str, refuted: set[str]
) -> None:
    def wrong(arm: arms.Arm, form: Form) -> dict[str, object]:
        draws = arms.draws_of(arm, form)
        return {**draws, part: replace(draws[part], variance=1.3 * draws[part].variance)}

    monkeypatch.setattr(net, "draws_of", wrong)
    monkeypatch.setattr(at_init, "draws_of", wrong)
    layer = 5
    found = {c.quantity: c.verdict for c in checks(HYPERFAN_IN) if c.layer == layer - 1}
    assert {name for name, verdict in found.items() if verdict == "REFUTED"} == refuted
    good = {"features", "weights", "sums", "flows"} - refuted
    assert {found[name] for name in good} == {"VERIFIED"}


def test_the_other_fan_is_refuted_where_the_two_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hyperfan-out drawn for hyperfan-in: only the layers that change the number of channels tell."""
    right = arms.draws_of

    def other(arm: arms.Arm, form: Form) -> dict[str, object]:
        return right(arms.ALL[3], form)

    monkeypatch.setattr(net, "draws_of", other)
    monkeypatch.setattr(at_init, "draws_of", other)
    found = {c.layer: c.verdict for c in checks(HYPERFAN_IN) if c.quantity == "features"}
    assert {layer for layer, verdict in found.items() if verdict == "REFUTED"} == {0, 3}


def test_weights_that_their_chunks_do_not_make_are_refuted() -> None:
    begin, seen = looked(HYPERFAN_IN)
    seen.weights[4] = 1.2 * seen.weights[4]
    found = {
        c.id: c.verdict for c in at_init.check_arm(HYPERFAN_IN, SMALL, begin, seen, SEED, LEVELS)
    }
    assert found["hyperfan-in/weights/5"] == "REFUTED"
    assert found["hyperfan-in/weights/4"] == "VERIFIED"


@pytest.mark.parametrize("t", [0, 2, 5, 6])
def test_maps_are_those_of_a_convolution_whose_weights_are_all_alike(t: int) -> None:
    layer, size = arms.layers(SMALL)[t], expected.sizes(SMALL)[t]
    g = torch.Generator().manual_seed(t)
    below = torch.rand(1, layer.in_channels, *size, generator=g, dtype=torch.float64)
    weight = torch.full(layer.weight_shape, 0.7, dtype=torch.float64)
    below.requires_grad_()
    z2 = nets.apply_layer(layer, weight, None, below)
    found = expected.forward(layer, size, 0.7, below.detach().sum(1).flatten(1).numpy())
    assert np.allclose(found, z2[:, 0].flatten(1).detach().numpy())
    above = torch.rand(z2.shape, generator=g, dtype=torch.float64)
    (flow,) = torch.autograd.grad(z2, below, above)
    back = expected.backward(layer, size, 0.7, above.sum(1).flatten(1).numpy())
    assert np.allclose(back, flow[:, 0].flatten(1).numpy())


def test_independent_weight_gradients_are_counted_position_by_position() -> None:
    _, seen = looked(HYPERFAN_IN)
    found = {c.layer: c for c in checks(HYPERFAN_IN) if c.quantity == "weight-gradients"}
    for t in (0, 2, 6):
        layer = arms.layers(SMALL)[t]
        # the gradient of a convolution of x^2, under dL/dz squared, is the sum that is meant
        weight = torch.zeros(layer.weight_shape, dtype=torch.float64, requires_grad=True)
        z = nets.apply_layer(layer, weight, None, seen.inputs[t].double().square())
        (summed,) = torch.autograd.grad(z, weight, seen.deltas[t].double().square())
        assert found[t].predicted == pytest.approx(float(summed.mean()), rel=1e-9)
        assert found[t].observed == pytest.approx(
            float(seen.weight_gradients[t].double().square().mean())
        )


def test_the_chain_is_near_what_is_seen_at_full_width() -> None:
    form = Form(48)
    for arm in (arms.ALL[0], HYPERFAN_IN):
        _, seen = looked(arm, form)
        activations, gradients = at_init.chained(arm, form, seen)
        observed = statistics.second_moments(seen)
        # one net is one draw, and a real loss's gradients are not independent of what is below
        for mine, wanted in (
            (activations, observed["activations"]),
            (gradients, observed["gradients"]),
        ):
            assert np.abs(np.log(mine / wanted)).max() < math.log(3)


def test_a_look_is_what_autograd_says_of_the_whole_net() -> None:
    pixels, labels = made.pictures(6, 4)
    x = images.standardized(torch.as_tensor(pixels))
    wanted = torch.as_tensor(labels.astype(np.int64))
    begin, seen = looked(HYPERFAN_IN)
    mine = net.Net(SMALL, begin, CPU)
    weights = [weight.detach().requires_grad_() for weight in mine.weights()]
    loss = torch.nn.functional.cross_entropy(net.mainnet(mine.layers, weights, x), wanted)
    assert seen.loss == pytest.approx(float(loss.detach()), rel=1e-5)
    for gradient, found in zip(
        torch.autograd.grad(loss, weights), seen.weight_gradients, strict=True
    ):
        assert torch.allclose(gradient, found, rtol=1e-4, atol=1e-9)
    kept = statistics.histograms(seen)
    assert kept["weights/counts"].sum(1).tolist() == [w.numel() for w in seen.weights[:7]]
    assert kept["activations/counts"].sum(1).tolist() == [8, 8, 8, 16, 16, 16, 16, 16, 10]
