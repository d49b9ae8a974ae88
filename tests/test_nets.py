"""The reference hypernet: against loops written out by hand, against vmap, and as an nn.Module."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from hyperverify import nets
from hyperverify.errors import BadArgument
from hyperverify.init import fill_, init_hypernet_, plan
from hyperverify.nets import Hypernet
from hyperverify.specs import (
    ChunkSpec,
    EmbeddingSpec,
    HypernetSpec,
    LayerSpec,
    TrunkLayerSpec,
)

E5 = EmbeddingSpec(5)
SPECS = {
    "linear, trunks, biases": HypernetSpec(
        (LayerSpec(3, 4, relu=True, bias=True), LayerSpec(4, 6), LayerSpec(6, 2, bias=True)),
        E5,
        "hyperfan-in",
        trunk=(TrunkLayerSpec(7, relu=True), TrunkLayerSpec(4)),
        bias_embedding=EmbeddingSpec(3, "normal"),
        bias_trunk=(TrunkLayerSpec(6, relu=True),),
    ),
    "linear, biases from h": HypernetSpec(
        (LayerSpec(3, 4, bias=True), LayerSpec(4, 4, bias=True)), E5, "arithmetic"
    ),
    "conv1d strided dilated grouped circular": HypernetSpec(
        (
            LayerSpec(4, 6, (3,), (2,), (1,), (2,), 2, "circular", relu=True, bias=True),
            LayerSpec(6, 4, (3,), (1,), (1,), (1,), 2),
        ),
        E5,
        "hyperfan-out",
        input_size=(9,),
    ),
    "conv2d strided dilated grouped": HypernetSpec(
        (
            LayerSpec(4, 6, (3, 2), (2, 1), (2, 1), (2, 1), 2, "zeros", bias=True),
            LayerSpec(6, 4, (2, 3), (1, 1), (1, 2), (1, 2), 2, "circular", relu=True),
        ),
        E5,
        "hyperfan-in",
        input_size=(9, 7),
    ),
    "depthwise": HypernetSpec(
        (LayerSpec(4, 8, (3, 3), padding=(1, 1), groups=4),), E5, "hyperfan-in", input_size=(4, 5)
    ),
    "shared, one embedding": HypernetSpec(
        (LayerSpec(3, 4),) + (LayerSpec(4, 4, bias=True),) * 3,
        E5,
        "fan-out",
        output="shared",
        embeddings="one",
        bias_embedding=EmbeddingSpec(2),
    ),
    "shared conv": HypernetSpec(
        (LayerSpec(4, 4, (3,), padding=(1,), relu=True),) * 3,
        E5,
        "hyperfan-in",
        output="shared",
        input_size=(6,),
    ),
    "chunked, branches i and j": HypernetSpec(
        (LayerSpec(3, 8, (3, 2), relu=True), LayerSpec(8, 6, (3, 2))),
        E5,
        "hyperfan-out",
        output="chunked",
        chunk=ChunkSpec(4, 7),
        input_size=(6, 6),
    ),
    "chunked, linear": HypernetSpec(
        (LayerSpec(3, 6), LayerSpec(6, 4)),
        E5,
        "hyperfan-in",
        output="chunked",
        chunk=ChunkSpec(3, 7),
    ),
    "orthogonal": HypernetSpec((LayerSpec(3, 4), LayerSpec(4, 4)), E5, "orthogonal", "normal"),
    "M4": HypernetSpec(
        (LayerSpec(3, 4), LayerSpec(4, 4)), EmbeddingSpec(5, "constant"), "M4", "normal"
    ),
}
each_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_tensors(spec: HypernetSpec, *lead: int, seed: int = 0) -> dict[str, Tensor]:
    """Every tensor normal, so that zero-initialized biases cannot hide a mistake."""
    generator = seeded(seed)
    return {
        name: torch.randn(*lead, *draw.shape, dtype=torch.float64, generator=generator)
        for name, draw in plan(spec).items()
    }


def random_input(spec: HypernetSpec, *lead: int, seed: int = 1) -> Tensor:
    shape = (*lead, spec.layers[0].in_channels, *spec.input_size)
    return torch.randn(shape, dtype=torch.float64, generator=seeded(seed))


# --- vmap, a loop and the module ----------------------------------------------------------------


@each_spec
def test_vmap_is_the_loop_is_the_module(spec: HypernetSpec) -> None:
    tensors, x = random_tensors(spec, 6), random_input(spec, 6, 3)
    batched = vmap(lambda tensors, x: nets.mainnet(spec, tensors, x))(tensors, x)
    assert batched.shape == (6, 3, spec.layers[-1].out_channels, *spec.sizes[-1])
    model = Hypernet(spec, generator=seeded(), dtype=torch.float64)
    for n in range(6):
        one = {name: value[n] for name, value in tensors.items()}
        torch.testing.assert_close(nets.mainnet(spec, one, x[n]), batched[n])
        model.load_state_dict(one)
        torch.testing.assert_close(model(x[n]), batched[n])
        torch.testing.assert_close(functional_call(model, one, (x[n],)), batched[n])


@each_spec
def test_gradients_under_vmap_are_those_of_the_loop(spec: HypernetSpec) -> None:
    tensors, x = random_tensors(spec, 4), random_input(spec, 4, 2)

    def loss(tensors: dict[str, Tensor], x: Tensor) -> Tensor:
        return nets.mainnet(spec, tensors, x).square().mean()

    batched = vmap(grad(loss))(tensors, x)
    for n in range(4):
        one = {name: value[n].clone().requires_grad_() for name, value in tensors.items()}
        loss(one, x[n]).backward()
        for name, value in one.items():
            torch.testing.assert_close(value.grad, batched[name][n], msg=name)


@each_spec
def test_pieces_have_the_promised_shapes_and_vmap(spec: HypernetSpec) -> None:
    tensors = random_tensors(spec, 5)
    for t, layer in enumerate(spec.layers):
        h = vmap(lambda tensors, t=t: nets.features(spec, tensors, t))(tensors)
        lead = () if spec.chunk is None else (spec.chunk.count(layer),)
        assert h.shape == (5, *lead, spec.feature_dim)
        weight = vmap(lambda tensors, t=t: nets.generate_weight(spec, tensors, t))(tensors)
        assert weight.shape == (5, *layer.weight_shape)
        given = vmap(lambda tensors, h, t=t: nets.generate_weight(spec, tensors, t, h))(tensors, h)
        assert torch.equal(given, weight)
        if not layer.bias:
            assert nets.generate_bias(spec, {}, t) is None
            continue
        g = vmap(lambda tensors, t=t: nets.bias_features(spec, tensors, t))(tensors)
        assert g.shape == (5, spec.bias_feature_dim)
        bias = vmap(lambda tensors, t=t: nets.generate_bias(spec, tensors, t))(tensors)
        assert bias.shape == (5, layer.out_channels)
        given = vmap(lambda tensors, g, t=t: nets.generate_bias(spec, tensors, t, g))(tensors, g)
        assert torch.equal(given, bias)


# --- Generation, written out --------------------------------------------------------------------


def affine(tensors: dict[str, Tensor], name: str, v: list[float]) -> list[float]:
    """W v + b in loops."""
    weight, bias = tensors[f"{name}.weight"].tolist(), tensors[f"{name}.bias"].tolist()
    return [
        sum(w * x for w, x in zip(row, v, strict=True)) + b
        for row, b in zip(weight, bias, strict=True)
    ]


def test_features_through_the_trunks() -> None:
    spec = SPECS["linear, trunks, biases"]
    tensors = random_tensors(spec)
    for t in range(3):
        h = affine(tensors, "trunk.0", tensors[f"embeddings.{t}"].tolist())
        assert min(h) < 0
        h = affine(tensors, "trunk.1", [max(v, 0.0) for v in h])
        torch.testing.assert_close(nets.features(spec, tensors, t).tolist(), h)
        weight = nets.generate_weight(spec, tensors, t)
        expected = affine(tensors, f"output_layers.{t}", h)
        torch.testing.assert_close(weight.flatten().tolist(), expected)
    for t in (0, 2):
        g = affine(tensors, "bias_trunk.0", tensors[f"bias_embeddings.{t}"].tolist())
        expected = affine(tensors, f"bias_layers.{t}", [max(v, 0.0) for v in g])
        bias = nets.generate_bias(spec, tensors, t)
        assert bias is not None
        torch.testing.assert_close(bias.tolist(), expected)


def test_weights_are_laid_out_row_by_row() -> None:
    """Entry (i, j, k) of W comes from row (i * d_j + j) * r + k of H."""
    spec = SPECS["conv2d strided dilated grouped"]
    tensors = random_tensors(spec)
    flat = affine(tensors, "output_layers.0", tensors["embeddings.0"].tolist())
    weight = nets.generate_weight(spec, tensors, 0)
    for i, j, k, m in itertools.product(range(6), range(2), range(3), range(2)):
        expected = flat[((i * 2 + j) * 3 + k) * 2 + m]
        assert weight[i, j, k, m].item() == pytest.approx(expected, rel=1e-12)


def test_biases_without_an_own_embedding_come_from_h() -> None:
    spec = SPECS["linear, biases from h"]
    tensors = random_tensors(spec)
    assert torch.equal(nets.bias_features(spec, tensors, 1), tensors["embeddings.1"])
    bias = nets.generate_bias(spec, tensors, 1)
    assert bias is not None
    expected = affine(tensors, "bias_layers.1", tensors["embeddings.1"].tolist())
    torch.testing.assert_close(bias.tolist(), expected)


def test_shared_output_layers_and_one_embedding() -> None:
    spec = SPECS["shared, one embedding"]
    tensors = random_tensors(spec)
    weights = [nets.generate_weight(spec, tensors, t) for t in range(4)]
    biases = [nets.generate_bias(spec, tensors, t) for t in range(4)]
    assert biases[0] is None
    for t in (2, 3):
        assert torch.equal(weights[t], weights[1])
        assert torch.equal(biases[t], biases[1])
    expected = affine(tensors, "bias_layers.1", tensors["bias_embeddings.1"].tolist())
    torch.testing.assert_close(biases[1].tolist(), expected)
    own = SPECS["shared conv"]
    tensors = random_tensors(own)
    first, second = (nets.generate_weight(own, tensors, t) for t in range(2))
    assert not torch.equal(first, second)
    expected = affine(tensors, "output_layers.0", tensors["embeddings.1"].tolist())
    torch.testing.assert_close(second.flatten().tolist(), expected)


@pytest.mark.parametrize(
    ("out_channels", "in_channels", "kernel", "branch"),
    [
        (8, 3, (), "i"),
        (8, 8, (3,), "i"),
        (12, 5, (3, 2), "i"),
        (6, 8, (), "j"),
        (3, 4, (2,), "j"),
        (5, 12, (3, 2), "j"),
    ],
    ids=str,
)
def test_chunks_tile_by_equation_6(
    out_channels: int, in_channels: int, kernel: tuple[int, ...], branch: str
) -> None:
    layer = LayerSpec(in_channels, out_channels, kernel)
    chunk = ChunkSpec(4, 3)
    spec = HypernetSpec(
        (layer,),
        EmbeddingSpec(2),
        "hyperfan-in",
        output="chunked",
        chunk=chunk,
        input_size=tuple(k + 1 for k in kernel),
    )
    assert chunk.branch(layer) == branch
    tensors = random_tensors(spec)
    weight = nets.generate_weight(spec, tensors, 0)
    assert weight.shape == layer.weight_shape
    big, size, d_i, d_j = tensors["output_layers.0.weight"], 4, out_channels, in_channels
    beta, used = tensors["output_layers.0.bias"], set[int]()
    r = big.shape[0] // size
    for i, j in itertools.product(range(d_i), range(d_j)):
        if branch == "i":
            row, m = i % size, j + (i // size) * d_j
        else:
            row, m = j % size, i + (j // size) * d_i
        used.add(m)
        gamma = tensors["input_layers.0.bias"][m]
        alpha = tensors["input_layers.0.weight"][m] @ tensors["embeddings.0"][m] + gamma
        for k in range(r):
            expected = (big[row * r + k] * alpha).sum() + beta[row * r + k]
            torch.testing.assert_close(weight[i, j].reshape(-1)[k], expected)
    assert used == set(range(chunk.count(layer)))


def test_tile_refuses_a_hypernet_without_chunks() -> None:
    spec = SPECS["orthogonal"]
    with pytest.raises(BadArgument, match="output is 'own'; allowed: chunked"):
        nets.tile(spec, 0, torch.zeros(3, 4))


# --- The mainnet's layers, against loops ----------------------------------------------------------


def positions(size: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    return itertools.product(*(range(n) for n in size))


def naive_conv(layer: LayerSpec, weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """The layer's definition in python loops over positions, channels and kernel."""
    size = tuple(x.shape[2:])
    z = torch.zeros(x.shape[0], layer.out_channels, *layer.output_size(size), dtype=x.dtype)
    d_i, d_j = layer.out_channels // layer.groups, layer.in_channels // layer.groups
    for n, o in itertools.product(range(x.shape[0]), range(layer.out_channels)):
        for pos in positions(layer.output_size(size)):
            total = 0.0 if bias is None else bias[o].item()
            for c, k in itertools.product(range(d_j), positions(layer.kernel)):
                at = [
                    p * s + kk * d - pad
                    for p, s, kk, d, pad in zip(
                        pos, layer.stride, k, layer.dilation, layer.padding, strict=True
                    )
                ]
                if layer.padding_mode == "circular":
                    at = [a % limit for a, limit in zip(at, size, strict=True)]
                elif any(not 0 <= a < limit for a, limit in zip(at, size, strict=True)):
                    continue
                channel = (o // d_i) * d_j + c
                total += weight[(o, c, *k)].item() * x[(n, channel, *at)].item()
            z[(n, o, *pos)] = total
    return z


LAYERS: list[tuple[LayerSpec, tuple[int, ...]]] = [
    (LayerSpec(4, 3, bias=True), ()),
    (LayerSpec(4, 3), ()),
    (LayerSpec(2, 3, (3,)), (5,)),
    (LayerSpec(2, 4, (3,), (2,), (2,), (2,), 2, bias=True), (7,)),
    (LayerSpec(2, 3, (3,), (1,), (3,), (1,), 1, "circular"), (4,)),
    (LayerSpec(2, 2, (2,), (3,), (4,), (2,), 2, "circular", bias=True), (5,)),
    (LayerSpec(2, 3, (3, 2)), (4, 4)),
    (LayerSpec(4, 2, (2, 3), (2, 1), (1, 0), (1, 2), 2, bias=True), (4, 6)),
    (LayerSpec(2, 3, (3, 2), (1, 2), (1, 3), (2, 1), 1, "circular"), (5, 3)),
    (LayerSpec(3, 6, (3, 3), (1, 1), (0, 2), (1, 1), 3, "circular"), (3, 4)),
    (LayerSpec(4, 4, (1, 1), (2, 2), bias=True), (3, 4)),
]


@pytest.mark.parametrize(("layer", "size"), LAYERS, ids=[str(n) for n in range(len(LAYERS))])
def test_layer_is_its_definition(layer: LayerSpec, size: tuple[int, ...]) -> None:
    generator = seeded()
    weight, bias, x = (
        torch.randn(shape, dtype=torch.float64, generator=generator)
        for shape in (layer.weight_shape, (layer.out_channels,), (2, layer.in_channels, *size))
    )
    used = bias if layer.bias else None
    z = nets.apply_layer(layer, weight, used, x)
    assert z.shape == (2, layer.out_channels, *layer.output_size(size))
    torch.testing.assert_close(z, naive_conv(layer, weight, used, x))


def test_activate() -> None:
    z = torch.tensor([-1.0, 0.0, 2.0])
    assert nets.activate(LayerSpec(1, 1, relu=True), z).tolist() == [0, 0, 2]
    assert nets.activate(LayerSpec(1, 1), z).tolist() == [-1, 0, 2]


# --- The module ---------------------------------------------------------------------------------


@each_spec
def test_state_dict_has_the_plan_and_makes_the_round_trip(spec: HypernetSpec) -> None:
    model = Hypernet(spec, generator=seeded(), dtype=torch.float64)
    state, draws = model.state_dict(), plan(spec)
    assert {name: tuple(value.shape) for name, value in state.items()} == {
        name: draw.shape for name, draw in draws.items()
    }
    assert set(state) == set(model.tensors()) == dict(model.named_parameters()).keys()
    x = random_input(spec, 2)
    other = Hypernet(spec, generator=seeded(1), dtype=torch.float64)
    assert not torch.equal(other(x), model(x))
    other.load_state_dict(state)
    assert torch.equal(other(x), model(x))


@each_spec
def test_deep_copy_is_equal_and_independent(spec: HypernetSpec) -> None:
    model = Hypernet(spec, generator=seeded(), dtype=torch.float64)
    x = random_input(spec, 2)
    before = model(x)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(x), before)
    init_hypernet_(twin, generator=seeded(1))
    assert torch.equal(model(x), before)
    assert not torch.equal(twin(x), before)


@each_spec
def test_autograd_reaches_every_parameter(spec: HypernetSpec) -> None:
    model = Hypernet(spec, dtype=torch.float64)
    model.load_state_dict(random_tensors(spec))
    model(random_input(spec, 8)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_autograd_is_the_numerical_gradient() -> None:
    spec = SPECS["linear, trunks, biases"]
    x, tensors = random_input(spec, 2), random_tensors(spec)
    values = [value.requires_grad_() for value in tensors.values()]

    def output(*values: Tensor) -> Tensor:
        return nets.mainnet(spec, dict(zip(tensors, values, strict=True)), x)

    assert torch.autograd.gradcheck(output, values)


def test_construction_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    for spec in SPECS.values():
        Hypernet(spec, generator=seeded())
        Hypernet(spec, device="meta")
    assert torch.equal(torch.get_rng_state(), before)


def test_construction_without_generator_follows_torch_manual_seed() -> None:
    spec = SPECS["linear, trunks, biases"]
    torch.manual_seed(3)
    model = Hypernet(spec)
    expected = Hypernet(spec, generator=seeded(3))
    for name, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_meta_then_materialized() -> None:
    spec = SPECS["chunked, branches i and j"]
    model = Hypernet(spec, device="meta")
    with pytest.raises(BadArgument, match="to_empty"):
        init_hypernet_(model, root_seed=4)
    init_hypernet_(model.to_empty(device="cpu"), root_seed=4)
    expected = Hypernet(spec, generator=seeded(4))
    for name, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


@each_spec
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_dtypes_run(spec: HypernetSpec, dtype: torch.dtype) -> None:
    model = Hypernet(spec, generator=seeded(), dtype=dtype)
    y = model(random_input(spec, 2).to(dtype))
    assert y.dtype == dtype
    assert y.isfinite().all()


def test_functional_call_may_give_two_names_one_tensor() -> None:
    spec = SPECS["M4"]
    tensors = random_tensors(spec)
    tensors["embeddings.1"] = tensors["embeddings.0"]
    model = Hypernet(spec, dtype=torch.float64)
    x = random_input(spec, 2)
    expected = nets.mainnet(spec, tensors, x)
    torch.testing.assert_close(functional_call(model, tensors, (x,)), expected)


def test_m4_and_orthogonal_keep_what_they_promise() -> None:
    m4 = Hypernet(SPECS["M4"], generator=seeded(), dtype=torch.float64).state_dict()
    assert m4["embeddings.0"].unique().tolist() == [3**-0.5]
    assert m4["embeddings.1"].unique().tolist() == [0.5]
    spec = SPECS["orthogonal"]
    model = Hypernet(spec, generator=seeded(), dtype=torch.float64)
    for t in range(2):
        h = nets.features(spec, model.tensors(), t)
        weight = nets.generate_weight(spec, model.tensors(), t)
        torch.testing.assert_close(weight.square().sum(), h.square().sum())


@pytest.mark.parametrize(
    "shape", [(), (4,), (2, 5), (2, 4, 9), (2, 4, 7, 9), (2, 3, 9, 7)], ids=str
)
def test_forward_refuses_inputs_of_another_shape(shape: tuple[int, ...]) -> None:
    model = Hypernet(SPECS["conv2d strided dilated grouped"], generator=seeded())
    with pytest.raises(BadArgument, match=r"x\.shape is .* allowed: \(B, 4, 9, 7\)"):
        model(torch.zeros(shape))


def test_forward_refuses_a_batch_without_samples_axis() -> None:
    model = Hypernet(SPECS["M4"], generator=seeded())
    with pytest.raises(BadArgument, match=r"x\.shape is \(3,\); allowed: \(B, 3\)"):
        model(torch.zeros(3))
    assert model(torch.zeros(0, 3)).shape == (0, 4)


def test_forward_refuses_inputs_of_another_dtype() -> None:
    model = Hypernet(SPECS["M4"], generator=seeded())
    for dtype in (torch.float64, torch.int64):
        allowed = r"allowed: torch\.float32, as the parameters have$"
        with pytest.raises(BadArgument, match=rf"^x\.dtype is torch\.\w+; {allowed}"):
            model(torch.zeros(2, 3, dtype=dtype))
    with pytest.raises(BadArgument, match=r"^x is \[0\.0\]; allowed: a torch\.Tensor$"):
        model([0.0])
    with torch.autocast("cpu", dtype=torch.bfloat16):  # casts by itself
        assert model(torch.zeros(2, 3, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_a_hypernet_of_no_spec_is_refused() -> None:
    with pytest.raises(BadArgument, match=r"^spec is None; allowed: a HypernetSpec$"):
        Hypernet(None)  # type: ignore[arg-type]


def test_it_trains_as_any_module() -> None:
    """A few steps of SGD on a linear target lower the loss: the parameters are the hypernet's."""
    spec = HypernetSpec(
        (LayerSpec(3, 2),), EmbeddingSpec(4, second_moment=Fraction(1)), "hyperfan-in"
    )
    model: Any = Hypernet(spec, generator=seeded(), dtype=torch.float64)
    x = random_input(spec, 32)
    target = x @ torch.ones(3, 2, dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    losses: list[float] = []
    for _ in range(20):
        loss = nn.functional.mse_loss(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert "method=hyperfan-in" in repr(model)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@each_spec
def test_cuda_vmap_is_the_loop(spec: HypernetSpec) -> None:
    tensors = {name: value.cuda() for name, value in random_tensors(spec, 3).items()}
    x = random_input(spec, 3, 2).cuda()
    batched = vmap(lambda tensors, x: nets.mainnet(spec, tensors, x))(tensors, x)
    for n in range(3):
        one = {name: value[n] for name, value in tensors.items()}
        torch.testing.assert_close(nets.mainnet(spec, one, x[n]), batched[n])


def test_fill_makes_a_batch_that_vmap_takes() -> None:
    spec = SPECS["linear, trunks, biases"]
    generator = seeded()
    tensors = {
        name: fill_(torch.empty(4, *draw.shape), draw, generator)
        for name, draw in plan(spec).items()
    }
    x = random_input(spec, 4, 2).float()
    assert vmap(lambda tensors, x: nets.mainnet(spec, tensors, x))(tensors, x).shape == (4, 2, 2)
