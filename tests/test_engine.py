"""The batched engine against the reference module, one replicate at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from hyperverify import engine, nets
from hyperverify.engine import GRADIENTS, Observation, centre, single_cotangent
from hyperverify.nets import Hypernet
from hyperverify.pivots import rank_tolerance
from hyperverify.plan import plan
from hyperverify.sampling import Block
from hyperverify.specs import ChunkSpec, EmbeddingSpec, HypernetSpec, LayerSpec, TrunkLayerSpec

R = 3
CPU = torch.device("cpu")
E3 = EmbeddingSpec(3)
SQUARE = LayerSpec(4, 4, relu=True, bias=True)

SPECS = {
    "linear, trunks, biases": HypernetSpec(
        (LayerSpec(3, 4, relu=True, bias=True), LayerSpec(4, 6), LayerSpec(6, 2, bias=True)),
        E3,
        "hyperfan-in",
        trunk=(TrunkLayerSpec(7, relu=True), TrunkLayerSpec(4)),
        bias_embedding=EmbeddingSpec(3, "normal", Fraction(2), Fraction(1, 2)),
        bias_trunk=(TrunkLayerSpec(6, relu=True),),
    ),
    "biases from h": HypernetSpec((replace(SQUARE, in_channels=3), SQUARE), E3, "arithmetic"),
    "shared": HypernetSpec((SQUARE, SQUARE, LayerSpec(4, 4)), E3, "hyperfan-in", output="shared"),
    "one embedding": HypernetSpec(
        (LayerSpec(3, 4, relu=True), SQUARE, SQUARE),
        E3,
        "hyperfan-out",
        embeddings="one",
        trunk=(TrunkLayerSpec(5),),
        bias_embedding=EmbeddingSpec(2),
    ),
    "one embedding, shared, biases from h": HypernetSpec(
        (SQUARE, SQUARE), E3, "fan-out", embeddings="one", output="shared"
    ),
    "conv1d chain": HypernetSpec(
        (
            LayerSpec(4, 6, (3,), (2,), (1,), (2,), 2, "circular", relu=True, bias=True),
            LayerSpec(6, 4, (3,), (1,), (1,), (1,), 2),
        ),
        E3,
        "hyperfan-out",
        input_size=(9,),
    ),
    "conv2d, layer by layer": HypernetSpec(
        (
            LayerSpec(4, 6, (3, 2), (2, 1), (2, 1), (2, 1), 2, relu=True, bias=True),
            LayerSpec(6, 4, (2, 3), (1, 1), (1, 2), (1, 2), 2, "circular"),
        ),
        E3,
        "hyperfan-in",
        input_size=(9, 7),
        flow="layerwise",
        input="rademacher",
    ),
    "shared conv, layer by layer": HypernetSpec(
        (LayerSpec(4, 4, (3,), padding=(1,)),) * 3,
        E3,
        "hyperfan-in",
        output="shared",
        input_size=(5,),
        flow="layerwise",
    ),
    "one embedding, layer by layer": HypernetSpec(
        (SQUARE, SQUARE), E3, "hyperfan-in", embeddings="one", flow="layerwise", batch=3
    ),
    "batch": HypernetSpec(
        (LayerSpec(3, 4, relu=True, bias=True), LayerSpec(4, 2)),
        E3,
        "hyperfan-in",
        batch=3,
        flow="layerwise",
    ),
    "chunked, chain": HypernetSpec(
        (LayerSpec(3, 4, (2, 1), relu=True), LayerSpec(4, 3, (2, 1))),
        E3,
        "hyperfan-out",
        output="chunked",
        chunk=ChunkSpec(2, 4),
        input_size=(3, 2),
    ),
    "chunked, layer by layer": HypernetSpec(
        (LayerSpec(3, 8, relu=True), LayerSpec(8, 6)),
        E3,
        "hyperfan-in",
        output="chunked",
        chunk=ChunkSpec(4, 5),
        flow="layerwise",
    ),
    "M4": HypernetSpec(
        (LayerSpec(3, 4), LayerSpec(4, 4)), EmbeddingSpec(5, "constant"), "M4", "normal"
    ),
    "orthogonal": HypernetSpec((LayerSpec(3, 4), LayerSpec(4, 4)), E3, "orthogonal", "normal"),
}
each_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tensors this small are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def block_of(
    spec: HypernetSpec, dtype: torch.dtype = torch.float64, device: torch.device = CPU
) -> Block:
    """A block of R replicates in which nothing is zero: beta and gamma are drawn too."""
    draws = {
        name: draw
        if draw.variance or draw.mean
        else replace(draw, distribution="normal", variance=0.3)
        for name, draw in plan(spec).items()
    }
    return Block(spec, 3, 1, R, device, dtype, draws)


def entering(spec: HypernetSpec, block: Block, t: int) -> Tensor:
    """What enters at layer ``t``'s output, written out again."""
    layer = spec.layers[t]
    shape = (spec.batch, layer.out_channels, *spec.sizes[t + 1])
    cotangent = block.standard(f"cotangent.{t}", "normal", *shape)
    if spec.flow == "layerwise" and spec.kind == "conv" and (layer.relu or spec.output != "own"):
        middle = tuple(n // 2 for n in spec.sizes[t + 1])
        only = torch.zeros_like(cotangent)
        only[(..., *middle)] = cotangent[(..., *middle)]
        return only
    return cotangent


class Reference:
    """Replicate ``r``, alone: a Hypernet with the same tensors, its layers run one by one."""

    def __init__(self, block: Block, r: int) -> None:
        spec = block.spec
        self.model = Hypernet(spec, device=block.device, dtype=block.dtype)
        self.model.load_state_dict({name: block.tensor(name)[r] for name in block.draws})
        self.tensors = tensors = self.model.tensors()
        self.layers: list[dict[str, Tensor]] = []
        losses: list[Tensor] = []
        feature: Tensor | None = None
        bias_feature: Tensor | None = None
        for t, layer in enumerate(spec.layers):
            if feature is None or spec.embeddings == "own":
                feature = nets.features(spec, tensors, t).detach().requires_grad_()
            seen = {"h": feature}
            b = None
            if layer.bias:
                if bias_feature is None or spec.embeddings == "own":
                    bias_feature = nets.bias_features(spec, tensors, t).detach().requires_grad_()
                b = nets.generate_bias(spec, tensors, t, bias_feature)
                assert b is not None
                seen |= {"g": bias_feature, "b": b}
            if t and spec.flow == "chain":
                x = self.layers[-1]["y"]
            else:
                shape = (spec.batch, layer.in_channels, *spec.sizes[t])
                x = block.standard(f"input.{t}", spec.input, *shape)[r].requires_grad_()
            W = nets.generate_weight(spec, tensors, t, feature)
            z = nets.apply_layer(layer, W, b, x)
            y = nets.activate(layer, z)
            self.layers.append(seen | {"W": W, "x": x, "z": z, "y": y})
            if spec.flow == "layerwise" or t == len(spec.layers) - 1:
                losses.append((y * entering(spec, block, t)[r]).sum())
        alone = spec.flow == "layerwise" and spec.output != "shared" and spec.embeddings == "own"
        self.grad = [
            self._gradients(t, losses[t] if alone else sum(losses)) for t in range(len(spec.layers))
        ]

    def _gradients(self, t: int, loss: Any) -> dict[str, Tensor]:
        spec, group = self.model.spec, self.model.spec.output_group(t)
        wanted = {kind: value for kind, value in self.layers[t].items() if kind != "y"}
        wanted["H"] = self.tensors[f"output_layers.{group}.weight"]
        if spec.layers[t].bias:
            wanted["G"] = self.tensors[f"bias_layers.{group}.weight"]
        found = torch.autograd.grad(loss, list(wanted.values()), retain_graph=True)
        return dict(zip(wanted, found, strict=True))


def observed(o: Observation, t: int, kind: str) -> Tensor | None:
    return getattr(o.layers[t], kind)


def assert_is_the_reference(o: Observation, block: Block, **tolerance: Any) -> None:
    for r in range(R):
        reference = Reference(block, r)
        for t in range(len(block.spec.layers)):
            for kind in ("h", "g", "W", "b", "x", "z", "y"):
                got = observed(o, t, kind)
                if kind not in reference.layers[t]:
                    assert got is None, (t, kind)
                    continue
                assert got is not None
                torch.testing.assert_close(
                    got[r],
                    reference.layers[t][kind],
                    msg=lambda m, k=kind: f"{k}: {m}",
                    **tolerance,
                )
            assert set(o.layers[t].grad) == set(reference.grad[t])
            for kind, expected in reference.grad[t].items():
                got = o.layers[t].grad[kind]
                torch.testing.assert_close(
                    got[r], expected, msg=lambda m, k=kind: f"dL/d{k}: {m}", **tolerance
                )


# --- The reference, replicate by replicate --------------------------------------------------------


@each_spec
@pytest.mark.parametrize("streaming", [False, True])
def test_observation_is_the_reference(spec: HypernetSpec, streaming: bool) -> None:
    block = block_of(spec)
    assert_is_the_reference(Observation(block, GRADIENTS, streaming=streaming), block)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@each_spec
def test_cuda_observation_is_the_reference(spec: HypernetSpec) -> None:
    block = block_of(spec, device=torch.device("cuda"))
    for streaming in (False, True):
        o = Observation(block, GRADIENTS, streaming=streaming)
        assert o.layers[0].z.device.type == "cuda"
        assert_is_the_reference(o, block)


@pytest.mark.parametrize("name", [n for n, spec in SPECS.items() if spec.flow == "chain"])
def test_a_chain_is_one_call_of_the_module(name: str) -> None:
    """y, dL/dH and dL/dG are those of Hypernet's own forward pass and ``backward()``."""
    spec = SPECS[name]
    block = block_of(spec)
    o = Observation(block, ("H", "G", "x"))
    T = len(spec.layers)
    for r in range(R):
        model = Hypernet(spec, dtype=torch.float64)
        model.load_state_dict({n: block.tensor(n)[r] for n in block.draws})
        x = o.layers[0].x[r].detach().requires_grad_()
        y = model(x)
        torch.testing.assert_close(o.layers[-1].y[r], y)
        y.backward(entering(spec, block, T - 1)[r])
        torch.testing.assert_close(o.layers[0].grad["x"][r], x.grad)
        parameters = dict(model.named_parameters())
        for t in range(T):
            group = spec.output_group(t)
            H = parameters[f"output_layers.{group}.weight"].grad
            torch.testing.assert_close(o.layers[t].grad["H"][r], H)
            if spec.layers[t].bias:
                G = parameters[f"bias_layers.{group}.weight"].grad
                torch.testing.assert_close(o.layers[t].grad["G"][r], G)


@pytest.mark.parametrize("name", ["biases from h", "shared", "M4", "orthogonal"])
def test_without_a_trunk_gradients_at_h_and_g_are_those_of_the_embedding(name: str) -> None:
    spec = SPECS[name]
    block = block_of(spec)
    o = Observation(block, ("h", "g"))
    for r in range(R):
        model = Hypernet(spec, dtype=torch.float64)
        model.load_state_dict({n: block.tensor(n)[r] for n in block.draws})
        cotangent = entering(spec, block, len(spec.layers) - 1)[r]
        model(o.layers[0].x[r].detach()).backward(cotangent)
        for t, layer in enumerate(spec.layers):
            into_e = o.layers[t].grad["h"][r]
            if layer.bias:  # g is the same embedding, kept apart
                into_e = into_e + o.layers[t].grad["g"][r]
            torch.testing.assert_close(into_e, model.get_parameter(f"embeddings.{t}").grad)


# --- Streaming ------------------------------------------------------------------------------------


@each_spec
@pytest.mark.parametrize("kinds", [GRADIENTS, ("h",), ("H",), ("x", "z"), ("W", "G")], ids="-".join)
def test_streaming_changes_no_number(spec: HypernetSpec, kinds: tuple[str, ...]) -> None:
    kept, streamed = (
        Observation(block_of(spec), kinds, streaming=streaming) for streaming in (False, True)
    )
    for t in range(len(spec.layers)):
        for kind in ("h", "W", "z", "y"):
            assert torch.equal(getattr(kept.layers[t], kind), getattr(streamed.layers[t], kind))
        for kind, expected in kept.layers[t].grad.items():
            got = streamed.layers[t].grad[kind]
            torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)


@each_spec
def test_streaming_keeps_no_output_layer(spec: HypernetSpec) -> None:
    o = Observation(block_of(spec), GRADIENTS, streaming=True)
    for layer in o.layers:
        assert layer.y is not None
        assert layer.grad
    assert not [name for name in o._kept if name.startswith("output_layers.")]
    o = Observation(block_of(spec), GRADIENTS, streaming=False)
    assert o.layers[-1].grad
    assert [name for name in o._kept if name.startswith("output_layers.")]


def test_large_blocks_stream_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SPECS["biases from h"]  # H: (12, 3) and (16, 3)
    entries = R * (12 * 3 + 16 * 3 + 12 + 16)
    monkeypatch.setattr(engine, "STREAM_ABOVE", entries)
    assert not Observation(block_of(spec)).streaming
    monkeypatch.setattr(engine, "STREAM_ABOVE", entries - 1)
    assert Observation(block_of(spec)).streaming
    assert not Observation(block_of(spec), streaming=False).streaming


# --- Laziness -------------------------------------------------------------------------------------


@each_spec
def test_what_is_asked_for_first_changes_nothing(spec: HypernetSpec) -> None:
    whole = Observation(block_of(spec), GRADIENTS)
    layers = range(len(spec.layers))
    forward = {
        (t, k): getattr(whole.layers[t], k) for t in layers for k in ("h", "W", "x", "z", "y")
    }
    gradients = {(t, k): g for t in layers for k, g in whole.layers[t].grad.items()}
    plain = Observation(block_of(spec))
    for (t, kind), expected in reversed(forward.items()):
        assert torch.equal(getattr(plain.layers[t], kind), expected)
    alone = {kind: Observation(block_of(spec), (kind,)) for _, kind in gradients}
    for (t, kind), expected in reversed(gradients.items()):
        alone_t = alone[kind].layers[t]
        torch.testing.assert_close(alone_t.grad[kind], expected, rtol=1e-12, atol=1e-14)


@each_spec
def test_only_what_is_asked_for_is_drawn(
    spec: HypernetSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    tensor, standard = Block.tensor, Block.standard

    def record(self: Block, name: str, *rest: Any) -> Tensor:
        drawn.append(name)
        return standard(self, name, *rest) if rest else tensor(self, name)

    monkeypatch.setattr(Block, "tensor", record)
    monkeypatch.setattr(Block, "standard", record)
    o = Observation(block_of(spec), GRADIENTS)
    assert drawn == []
    _ = o.layers[0].h
    assert not [
        n for n in drawn if n.startswith(("output_layers", "bias_layers", "input.", "cotangent"))
    ]
    _ = o.layers[0].y
    assert not [n for n in drawn if n.startswith("cotangent")]
    _ = o.layers[0].grad
    assert len(drawn) == len(set(drawn))  # and nothing twice


def test_without_gradients_there_is_no_graph() -> None:
    o = Observation(block_of(SPECS["linear, trunks, biases"]))
    assert not o.layers[-1].y.requires_grad
    assert not o.layers[0].W.requires_grad


def test_gradients_come_in_one_order_whatever_was_asked() -> None:
    o = Observation(block_of(SPECS["biases from h"]), ["H", "x", "nonsense", "W"])
    assert o.kinds == ("x", "W", "H")
    assert set(o.layers[0].grad) == {"x", "W", "H"}


def test_layers_without_bias_have_no_bias_gradients() -> None:
    o = Observation(block_of(SPECS["linear, trunks, biases"]), GRADIENTS)
    assert o.layers[1].g is None
    assert o.layers[1].b is None
    assert set(o.layers[1].grad) == {"x", "z", "W", "h", "H"}
    assert set(o.layers[0].grad) == set(GRADIENTS)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_rank_tolerance_is_that_of_the_dtype(dtype: torch.dtype) -> None:
    assert Observation(block_of(SPECS["M4"], dtype)).rank_tolerance == rank_tolerance(dtype)


def test_release_lets_go() -> None:
    o = Observation(block_of(SPECS["shared"]), GRADIENTS)
    assert o.layers[0].grad
    o.cache["something"] = 1
    o.release()
    assert (o.layers, o.cache, o._kept, o._gradients) == ([], {}, {}, {})


# --- Flow -----------------------------------------------------------------------------------------


def test_one_embedding_is_one_tensor_of_features() -> None:
    o = Observation(block_of(SPECS["one embedding"]), GRADIENTS)
    assert o.layers[2].h is o.layers[0].h
    assert o.layers[2].g is o.layers[1].g
    assert torch.equal(o.layers[2].grad["h"], o.layers[0].grad["h"])


def test_a_chain_has_one_input_and_one_cotangent() -> None:
    o = Observation(block_of(SPECS["conv1d chain"]))
    assert o.layers[1].x is o.layers[0].y
    assert o.layers[0].cotangent is None
    assert o.layers[1].cotangent is not None


def test_layer_by_layer_inputs_and_cotangents_are_fresh() -> None:
    o = Observation(block_of(SPECS["shared conv, layer by layer"]))
    xs, cotangents = ([getattr(layer, k) for layer in o.layers] for k in ("x", "cotangent"))
    for a, b in (*itertools.combinations(xs, 2), *itertools.combinations(cotangents, 2)):
        assert not ((a == b) & (a != 0)).any()


def test_cotangents_of_relu_convolutions_enter_in_the_middle_only() -> None:
    spec = SPECS["conv2d, layer by layer"]
    o = Observation(block_of(spec))
    first, second = (layer.cotangent for layer in o.layers)
    assert first is not None
    assert second is not None
    assert spec.sizes[1] == (5, 8)
    assert first[..., 2, 4].all()
    assert int((first != 0).sum()) == first[..., 2, 4].numel()
    assert second.all()


def test_where_one_position_is_enough() -> None:
    relu, plain = LayerSpec(2, 2, (3,), relu=True), LayerSpec(2, 2, (3,))
    own = HypernetSpec((relu, plain), E3, "hyperfan-in", input_size=(7,))
    assert [single_cotangent(own, t) for t in range(2)] == [True, False]
    shared = HypernetSpec((plain,) * 2, E3, "hyperfan-in", output="shared", input_size=(7,))
    assert single_cotangent(shared, 0)
    dense = HypernetSpec((SQUARE,), E3, "hyperfan-in")
    assert not single_cotangent(dense, 0)


@pytest.mark.parametrize(
    ("size", "at"), [((), 0), ((1,), 0), ((4,), 2), ((5,), 2), ((3, 4), 6), ((2, 2), 3)]
)
def test_centre(size: tuple[int, ...], at: int) -> None:
    assert centre(size) == at


# --- Dtypes ---------------------------------------------------------------------------------------


@each_spec
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_everything_has_the_dtype_of_the_block(spec: HypernetSpec, dtype: torch.dtype) -> None:
    o = Observation(block_of(spec, dtype), GRADIENTS)
    for layer in o.layers:
        for kind in ("h", "g", "W", "b", "x", "z", "y"):
            value = getattr(layer, kind)
            assert value is None or value.dtype == dtype, kind
        for kind, gradient in layer.grad.items():
            assert gradient.dtype == dtype, kind
            assert gradient.isfinite().all(), kind


@each_spec
def test_float32_is_the_reference_in_float32(spec: HypernetSpec) -> None:
    block = block_of(spec, torch.float32)
    assert_is_the_reference(Observation(block, GRADIENTS), block, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ["M4", "orthogonal", "shared conv, layer by layer"])
def test_bfloat16_is_near_float64_on_the_same_tensors(name: str, streaming: bool) -> None:
    """Linear nets (no mask to flip): every tensor within a few roundings, in norm."""
    spec = SPECS[name]
    block = block_of(spec, torch.bfloat16)
    low = Observation(block, GRADIENTS, streaming=streaming)

    class Widened(Block):
        def tensor(self, name: str) -> Tensor:
            return block.tensor(name).double()

        def standard(self, name: str, distribution: str, *shape: int) -> Tensor:
            return block.standard(name, distribution, *shape).double()

    wide = Widened(spec, 3, 1, R, CPU, torch.float64, block.draws)
    high = Observation(wide, GRADIENTS)
    for a, b in zip(low.layers, high.layers, strict=True):
        pairs = [(getattr(a, k), getattr(b, k)) for k in ("h", "W", "x", "z", "y")]
        pairs += [(a.grad[k], b.grad[k]) for k in b.grad]
        for got, expected in pairs:
            assert got.dtype == torch.bfloat16
            assert (got.double() - expected).norm() < 2**-5 * expected.norm()
