"""The Bayesian MobileNet: its layers, the steps of its hypernet, and what is seen before the first one."""

from __future__ import annotations

import math
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
import made

from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.experiments.imagenet import arms, at_init, patches
from hyperverify.experiments.imagenet.hypernet import Hypernet
from hyperverify.experiments.imagenet.images import Images, images_of, standardized
from hyperverify.experiments.imagenet.net import forward, mobilenet
from hyperverify.experiments.imagenet.readings import QUANTITIES
from hyperverify.experiments.imagenet.start import Drawer, batch_noise
from hyperverify.experiments.init_checks import Levels
from hyperverify.layer_specs import LayerSpec
from hyperverify.nets import apply_layer

TINY = mobilenet(1 / 16, 10)
CPU = torch.device("cpu")
SEED = 5


def batch(count: int, side: int = 32, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    images, labels = made.pictures(count, 3)
    x = standardized(torch.as_tensor(images), side, CPU).to(dtype)
    return x, torch.as_tensor(labels.astype(np.int64))


# --- the mainnet and its hypernet -----------------------------------------------------------------


def test_the_mainnet_is_mobilenet_and_the_hypernet_is_32_times_as_large() -> None:
    layers = mobilenet(1.0, 1000)
    assert len(layers) == 28
    weights = sum(layer.n_weights for layer in layers)
    norms = sum(2 * layer.out_channels for layer in layers[:-1])
    assert (
        weights + norms + 1000 == 4_231_976
    )  # Howard et al.'s 4.2 million, the last bias with them
    spec = arms.GENERATED[2].spec(layers, 224)
    assert spec.sizes[-2] == (7, 7)
    assert sum(layer.n_weights for layer in spec.layers) * arms.EMBEDDING == 32 * weights
    assert [layer.groups for layer in layers[1:5]] == [32, 1, 64, 1]
    assert [layer.relu for layer in layers] == [True] * 27 + [False]


def test_a_net_without_channels_is_refused() -> None:
    with pytest.raises(BadArgument, match=r"width is 0\.01; allowed: at least 1/32"):
        mobilenet(0.01, 10)


def test_the_last_layer_reads_the_average_over_positions() -> None:
    drawer = Drawer(arms.GENERATED[2], TINY, 64, SEED)
    weights = drawer.weights(batch_noise(SEED, 28, 32, "look"))
    ones = [torch.ones(layer.out_channels) for layer in TINY[:-1]]
    zeros = [torch.zeros_like(one) for one in ones]
    x, _ = batch(4, 64)
    found = forward(TINY, weights, ones, zeros, x)
    y = x
    for layer, weight in zip(TINY[:-1], weights[:-1], strict=True):
        z = apply_layer(layer, weight, None, y)
        mean = z.mean((0, 2, 3), keepdim=True)
        spread = (z.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
        y = torch.relu((z - mean) / spread)
    wanted = y.mean((2, 3)) @ weights[-1][:, :, 0, 0].T
    assert torch.allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("arm", [arms.GENERATED[2], arms.ORDINARY[3]], ids=lambda arm: arm.name)
def test_a_step_is_sgd_with_weight_decay_on_all_that_is_trained(arm: arms.Arm) -> None:
    """Against autograd through H and torch's own optimizer, step by step, in float64.

    Batch norm over few values amplifies rounding a hundredfold a step, so each step begins alike.
    """
    net = Hypernet(Drawer(arm, TINY, 32, SEED), CPU, torch.float64)
    mine = {name: p.clone().requires_grad_() for name, p in net.parameters.items()}
    first = {name: p.detach().clone() for name, p in mine.items()}
    sgd = torch.optim.SGD(list(mine.values()), lr=0.1, weight_decay=0.0005)
    for step in range(4):
        for name, parameter in mine.items():
            net.parameters[name].copy_(parameter.detach())
        x, labels = batch(8, dtype=torch.float64)
        added = batch_noise(SEED, 28, 32, step)[: net.count].double()
        e = net.embeddings + added
        weights = [
            (mine[f"output_layers.{t}.weight"] @ e[t] + mine[f"output_layers.{t}.bias"]).view(
                TINY[t].weight_shape
            )
            for t in range(net.count)
        ]
        if not arm.last:
            weights.append(mine["last.weight"])
        scales = [mine[f"batch_norm.{t}.weight"] for t in range(27)]
        shifts = [mine[f"batch_norm.{t}.bias"] for t in range(27)]
        loss = torch.nn.functional.cross_entropy(forward(TINY, weights, scales, shifts, x), labels)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        found = net.step(x, labels, added)
        assert float(found) == pytest.approx(float(loss.detach()), rel=1e-10)
        for name, wanted in mine.items():
            apart = (net.parameters[name] - wanted.detach()).abs().max()
            assert float(apart) < 1e-9 * float(wanted.detach().abs().max()), name
    for name, parameter in net.parameters.items():
        moved = float((parameter - first[name]).abs().max())
        assert moved > 1e-5 * float(parameter.abs().max()), name
    assert ("last.weight" in mine) is not arm.last


def test_the_noise_is_drawn_anew_each_batch_and_lies_within_its_bounds() -> None:
    one, two = batch_noise(0, 28, 32, "train", 0), batch_noise(0, 28, 32, "train", 1)
    assert one.shape == (28, 32)
    assert float(one.abs().max()) <= 0.1
    assert float(one.abs().max()) > 0.099
    assert not torch.equal(one, two)
    assert torch.equal(one, batch_noise(0, 28, 32, "train", 0))


# --- patches --------------------------------------------------------------------------------------

CONVOLUTIONS = (
    LayerSpec(3, 8, (3, 3), (2, 2), (1, 1), relu=True),
    LayerSpec(6, 6, (3, 3), (2, 2), (1, 1), groups=6, relu=True),
    LayerSpec(6, 6, (3, 3), (1, 1), (1, 1), groups=6, relu=True),
    LayerSpec(6, 4, (3, 3), (1, 1), (1, 1), groups=2),
    LayerSpec(6, 10, (1, 1)),
)


@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=str)
def test_patches_are_what_torchs_convolution_reads_and_feeds(layer: LayerSpec) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, layer.in_channels, 7, 6, generator=g, dtype=torch.float64).requires_grad_()
    weight = torch.randn(1, *layer.weight_shape, generator=g, dtype=torch.float64)
    z = apply_layer(layer, weight[0], None, x)
    delta = torch.randn(z.shape, generator=g, dtype=torch.float64)
    (flow,) = torch.autograd.grad(z, x, delta)
    outputs = [(n, p) for n in range(2) for p in range(z[0, 0].numel())]
    rows = patches.read(layer, x.detach(), outputs)
    found = torch.einsum("gnj,rgij->ngi", rows, patches.by_output(layer, weight)).flatten(1)
    wanted = torch.stack([z[n].flatten(1)[:, p] for n, p in outputs])
    assert torch.allclose(found, wanted)
    inputs = [(n, p) for n in range(2) for p in range(42)]
    rows = patches.fed(layer, delta, (7, 6), inputs)
    found = torch.einsum("gni,rgji->ngj", rows, patches.by_input(layer, weight)).flatten(1)
    wanted = torch.stack([flow[n].flatten(1)[:, p] for n, p in inputs])
    assert torch.allclose(found, wanted)


def test_positions_are_chosen_once_each() -> None:
    found = patches.chosen(3, 5, 64, torch.Generator().manual_seed(0))
    assert sorted(found) == [(n, p) for n in range(3) for p in range(5)]
    assert len(patches.chosen(8, 12544, 64, torch.Generator().manual_seed(0))) == 64


# --- before the first step ------------------------------------------------------------------------

SHAPE = at_init.Shape(width=1 / 8, side=32, batch=8, draws=2)


def looked_at(arm: arms.Arm) -> at_init.Look:
    levels = Levels.of(at_init.exact_checks(arm, 28))
    seen: list[int] = []
    found = at_init.look(arm, SHAPE, *batch(8), 10, SEED, levels, seen.append)
    assert seen == list(range(1, at_init.generated(arm, 28) + 1))
    return found


@pytest.mark.parametrize(
    "arm", [arms.GENERATED[0], arms.GENERATED[3], arms.ORDINARY[1]], ids=lambda arm: arm.name
)
def test_every_exact_claim_is_verified_depthwise_layers_among_them(arm: arms.Arm) -> None:
    found = looked_at(arm)
    exact = [check for check in found.checks if check.approximation is None]
    assert len(exact) == at_init.exact_checks(arm, 28)
    assert Counter(check.verdict for check in exact) == {"VERIFIED": len(exact)}
    assert len({check.id for check in found.checks}) == len(found.checks)
    activations = [c for c in found.checks if c.quantity == "activations"]
    assert {(c.predicted, c.verdict) for c in activations} == {(0.5, "AGREES")}
    assert found.arrays["init/loss"].shape == (2,)
    for name in QUANTITIES:
        values = found.arrays[f"init/{name}"]
        assert values.shape == (28,)
        assert (values > 0).all()


@pytest.mark.parametrize("layer", [4, 5])
def test_weights_of_another_scale_are_refuted(monkeypatch: pytest.MonkeyPatch, layer: int) -> None:
    """A depthwise layer (the fifth) and a pointwise one, 12% too large."""
    arm = arms.GENERATED[2]
    matrix, fresh = Drawer.matrix, Drawer.fresh

    def wrong(self: Drawer, t: int) -> Tensor:
        return matrix(self, t) * (1.12 if t == layer else 1)

    def wrong_too(self: Drawer, t: int, batch: int, count: int) -> at_init.Fresh:
        found = fresh(self, t, batch, count)
        return at_init.Fresh(found.values * (1.12 if t == layer else 1), found.variance)

    monkeypatch.setattr(Drawer, "matrix", wrong)
    monkeypatch.setattr(Drawer, "fresh", wrong_too)
    found = {check.id: check.verdict for check in looked_at(arm).checks}
    for quantity in ("weights", "sums", "flows"):
        assert found[f"{arm.name}/{quantity}/{layer + 1}"] == "REFUTED"
        assert found[f"{arm.name}/{quantity}/{layer + 3}"] == "VERIFIED"


def test_predictions_have_the_noise_on_the_embeddings_in_them() -> None:
    drawer = Drawer(arms.GENERATED[2], mobilenet(1.0, 1000), 224, SEED)
    for t, without in ((0, Fraction(2, 27)), (1, Fraction(2, 9)), (27, Fraction(1, 1024))):
        assert drawer.moment(t) == pytest.approx(float(without * Fraction(301, 300)), rel=1e-12)
    classical = Drawer(arms.GENERATED[0], mobilenet(1.0, 1000), 224, SEED)
    assert classical.moment(5) == pytest.approx(2 * 301 / 300)
    assert classical.moment(27) == pytest.approx(301 / 300)
    draws = [batch_noise(n, 28, 32, "look").double().square().flatten() for n in range(40)]
    noise = torch.cat(draws)
    error = float(noise.std()) / math.sqrt(len(noise))
    assert abs(float(noise.mean()) - 0.01 / 3) < 6 * error


def test_batch_norm_takes_the_scale_of_generated_weights_away() -> None:
    """Scaled by ten, W gives the same activations, and gradients a tenth as large with respect to it."""
    drawer = Drawer(arms.GENERATED[0], TINY, 32, SEED)
    weights = drawer.weights(batch_noise(SEED, 28, 32, "look"))
    x, labels = batch(8)
    one = at_init._Passes(TINY, weights, x, labels)
    two = at_init._Passes(TINY, [w * 10 for w in weights[:-1]] + weights[-1:], x, labels)
    for t in range(27):
        assert torch.allclose(one.output(t), two.output(t), atol=2e-2)
    ratios = one.second_moments()["weight-gradients"] / two.second_moments()["weight-gradients"]
    assert np.median(ratios[:-1]) == pytest.approx(100, rel=0.05)


# --- images ---------------------------------------------------------------------------------------


def test_cifars_images_are_said_to_be_no_imagenet(tmp_path: Path) -> None:
    found = images_of(made.write_cifar(tmp_path / "with", 40, 20))
    assert found.description == (
        "CIFAR-10's images, not ImageNet's: they stand in where ImageNet is not at hand. "
        "40 to train, the test batch to test (20)"
    )
    assert (found.stand_in, found.imagenet, found.classes) == (True, False, 10)
    found = images_of(made.write_cifar(tmp_path / "without", 40, 0))
    assert "the last quarter of the training images kept to test (10)" in found.description
    images, labels = made.pictures(40, 1)
    assert found.test.labels.tolist() == labels[30:].tolist()
    assert (found.test.pixels([0, 3], 32).numpy() == images[[30, 33]]).all()


def test_small_images_are_scaled_up(tmp_path: Path) -> None:
    found = images_of(made.write_cifar(tmp_path, 8, 8))
    x = standardized(found.train.pixels([0, 1], 224), 224, CPU)
    assert x.shape == (2, 3, 224, 224)
    same = standardized(found.train.pixels([0, 1], 32), 32, CPU)
    assert float(x.mean()) == pytest.approx(float(same.mean()), abs=0.02)
    wanted = (made.pictures(8, 1)[0][0, 0, 0, 0] / 255 - 0.485) / 0.229
    assert float(same[0, 0, 0, 0]) == pytest.approx(wanted, rel=1e-5)


def test_folders_are_read_in_imagenets_layout_or_split(tmp_path: Path) -> None:
    place = made.write_folders(tmp_path / "whole", 12, 8)
    found = images_of(place)
    assert found.description == (
        "a folder of images, not the whole of ImageNet: 2 classes, 12 images to train, val to test (8)"
    )
    assert found.train.labels.tolist() == [0] * 6 + [1] * 6
    assert found.train.pixels([0, 7, 11], 32).shape == (3, 3, 32, 32)
    assert [f.name for f in found.files] == [
        "train: names and sizes of 12 images",
        "test: names and sizes of 8 images",
    ]
    split = images_of(place / "train")
    assert "every fifth image to test (2)" in split.description
    assert (len(split.train.labels), len(split.test.labels)) == (10, 2)


def other_classes(folder: Path) -> Path:
    made.write_folders(folder)
    (folder / "val" / "n00000002").rename(folder / "val" / "n00000003")
    return folder


def empty(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _: None, "imagenet brings no images; allowed: --data DIR, the folder of ImageNet"),
        (
            lambda p: p / "nowhere",
            "does not exist; allowed: the folder of ImageNet, with train and",
        ),
        (empty, "has no images; allowed: the folder of ImageNet, with train and val"),
        (other_classes, "val has other classes than"),
    ],
)
def test_other_folders_are_refused_in_one_line(tmp_path: Path, make: object, said: str) -> None:
    assert callable(make)
    with pytest.raises(HyperverifyError, match=r".") as caught:
        images_of(make(tmp_path / "data"))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_image_that_is_cut_off_is_named(tmp_path: Path) -> None:
    found: Images = images_of(made.write_folders(tmp_path, 8, 8))
    path = tmp_path / "train" / "n00000001" / "001.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(HyperverifyError, match=r"001\.png is cut off or no image"):
        found.train.pixels([0, 1], 32)
