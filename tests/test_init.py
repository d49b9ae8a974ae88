"""Initializers and the plan: exact facts only (the laws of the draws are measured elsewhere)."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hyperverify import init
from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.init import Draw, fill_, init_hypernet_, plan, variance_
from hyperverify.nets import Hypernet
from hyperverify.specs import (
    METHODS,
    ChunkSpec,
    EmbeddingSpec,
    HypernetSpec,
    LayerSpec,
    TrunkLayerSpec,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear_spec(method: str = "hyperfan-in", **more: Any) -> HypernetSpec:
    embedding = EmbeddingSpec(5, "constant" if method == "M4" else "uniform")
    if method == "small":
        more["sigma2"] = Fraction(1, 7)
    if method == "orthogonal":
        more["distribution"] = "normal"
    layer = LayerSpec(4, 8, relu=True, bias=method not in ("M4", "orthogonal"))
    return HypernetSpec((layer,), embedding, method, **more)


# --- The plan ---------------------------------------------------------------------------------


def test_plan_names_and_shapes() -> None:
    spec = HypernetSpec(
        (LayerSpec(3, 4, relu=True, bias=True), LayerSpec(4, 2), LayerSpec(2, 2, bias=True)),
        EmbeddingSpec(5),
        "hyperfan-in",
        trunk=(TrunkLayerSpec(6, relu=True), TrunkLayerSpec(7)),
        bias_embedding=EmbeddingSpec(3, "normal"),
        bias_trunk=(TrunkLayerSpec(2),),
    )
    assert {name: draw.shape for name, draw in plan(spec).items()} == {
        "embeddings.0": (5,),
        "embeddings.1": (5,),
        "embeddings.2": (5,),
        "trunk.0.weight": (6, 5),
        "trunk.0.bias": (6,),
        "trunk.1.weight": (7, 6),
        "trunk.1.bias": (7,),
        "output_layers.0.weight": (12, 7),
        "output_layers.0.bias": (12,),
        "output_layers.1.weight": (8, 7),
        "output_layers.1.bias": (8,),
        "output_layers.2.weight": (4, 7),
        "output_layers.2.bias": (4,),
        "bias_embeddings.0": (3,),
        "bias_embeddings.2": (3,),
        "bias_trunk.0.weight": (2, 3),
        "bias_trunk.0.bias": (2,),
        "bias_layers.0.weight": (4, 2),
        "bias_layers.0.bias": (4,),
        "bias_layers.2.weight": (2, 2),
        "bias_layers.2.bias": (2,),
    }


def test_plan_one_embedding_and_shared_output_layers() -> None:
    spec = HypernetSpec(
        (LayerSpec(3, 4), LayerSpec(4, 4, bias=True), LayerSpec(4, 4, bias=True), LayerSpec(4, 4)),
        EmbeddingSpec(5),
        "hyperfan-in",
        bias_embedding=EmbeddingSpec(3),
        output="shared",
        embeddings="one",
    )
    draws = plan(spec)
    assert [name for name in draws if "embeddings" in name] == [
        "embeddings.0",
        "bias_embeddings.1",
    ]
    assert [name for name in draws if name.endswith("layers.1.weight")] == [
        "output_layers.1.weight",
        "bias_layers.1.weight",
    ]
    assert {name.split(".")[1] for name in draws if name.startswith("output_")} == {"0", "1", "3"}


def test_plan_chunked() -> None:
    spec = HypernetSpec(
        (LayerSpec(3, 8, (3, 3), relu=True), LayerSpec(8, 6, (3, 3))),
        EmbeddingSpec(5, second_moment=Fraction(1, 2)),
        "hyperfan-out",
        output="chunked",
        chunk=ChunkSpec(4, 7),
        input_size=(6, 6),
    )
    draws = plan(spec)
    assert draws["output_layers.0.weight"] == Draw((36, 7), "uniform", 1 / 7)
    assert draws["output_layers.0.bias"] == Draw((36,), "zeros")
    assert draws["input_layers.0.weight"] == Draw((6, 7, 5), "uniform", 2 / (8 * 5 * 0.5 * 9))
    assert draws["input_layers.1.weight"] == Draw((12, 7, 5), "uniform", 1 / (6 * 5 * 0.5 * 9))
    assert draws["input_layers.1.bias"] == Draw((12, 7), "zeros")
    assert draws["embeddings.1"] == Draw((12, 5), "uniform", 0.5)
    assert len(draws) == 8


# One layer 4 -> 8 with ReLU (s = 2) and biases; d_k = d_l = 5, Var(e) = 1, n_W = 32. By hand.
IN_H, OUT_H, IN_G, OUT_G = (Fraction(f) for f in ("1/20", "2/40", "1/5", "1/5"))
BY_HAND: dict[str, tuple[Fraction, Fraction | None]] = {
    "hyperfan-in": (IN_H, IN_G),
    "hyperfan-out": (OUT_H, OUT_G),
    "hyperfan-harmonic": (Fraction(1, 20), Fraction(1, 5)),
    "hyperfan-geometric": (Fraction(1, 20), Fraction(1, 5)),
    "hyperfan-arithmetic": (Fraction(1, 20), Fraction(1, 5)),
    "fan-in": (Fraction(2, 5), Fraction(2, 5)),
    "fan-out": (Fraction(2, 32), Fraction(2, 8)),
    "harmonic": (Fraction(4, 37), Fraction(4, 13)),
    "arithmetic": ((Fraction(2, 5) + Fraction(2, 32)) / 2, (Fraction(2, 5) + Fraction(2, 8)) / 2),
    "torch-default": (Fraction(1, 15), Fraction(1, 15)),
    "small": (Fraction(1, 7), Fraction(1, 7)),
    "M3": (Fraction(2, 500), Fraction(2, 500)),
    "M4": (Fraction(2, 5), None),
    "orthogonal": (Fraction(2, 32), None),
}


@pytest.mark.parametrize("method", METHODS)
def test_plan_variances_by_method(method: str) -> None:
    draws = plan(linear_spec(method))
    h = draws["output_layers.0.weight"].variance
    g = draws["bias_layers.0.weight"].variance if "bias_layers.0.weight" in draws else None
    if method == "geometric":
        assert h == pytest.approx(math.sqrt(2 / 5 * 2 / 32), rel=1e-15)
        assert g == pytest.approx(math.sqrt(2 / 5 * 2 / 8), rel=1e-15)
    else:
        exact_h, exact_g = BY_HAND[method]
        assert h == float(exact_h)
        assert g == (None if exact_g is None else float(exact_g))
    kind = {"orthogonal": "orthogonal"}.get(method, "uniform")
    assert draws["output_layers.0.weight"].distribution == kind


def test_plan_counts_the_channels_of_one_group() -> None:
    layer = LayerSpec(6, 12, (3,), groups=3, bias=True)
    for method, h, g in (
        ("hyperfan-in", 1 / (2 * 2 * 5 * 3), 1 / (2 * 4)),
        ("hyperfan-out", 1 / (4 * 5 * 3), (1 - 2 / 4) / 4),
    ):
        embeddings = EmbeddingSpec(5), EmbeddingSpec(4)
        spec = HypernetSpec(
            (layer,), embeddings[0], method, input_size=(5,), bias_embedding=embeddings[1]
        )
        draws = plan(spec)
        assert draws["output_layers.0.weight"] == Draw((72, 5), "uniform", h)
        assert draws["bias_layers.0.weight"] == Draw((12, 4), "uniform", g)


def test_plan_reads_the_right_embedding_for_the_biases() -> None:
    layer = LayerSpec(2, 4, bias=True)
    weights = EmbeddingSpec(3, second_moment=Fraction(2))
    own = HypernetSpec((layer,), weights, "hyperfan-in", bias_embedding=EmbeddingSpec(5))
    none = HypernetSpec((layer,), weights, "hyperfan-in")
    assert plan(own)["bias_layers.0.weight"] == Draw((4, 5), "uniform", 1 / (2 * 5))
    assert plan(none)["bias_layers.0.weight"] == Draw((4, 3), "uniform", 1 / (2 * 3 * 2))
    assert "bias_embeddings.0" not in plan(none)


def test_plan_trunk_is_fan_in() -> None:
    trunk = (TrunkLayerSpec(6, relu=True), TrunkLayerSpec(3))
    draws = plan(linear_spec(trunk=trunk, distribution="normal"))
    assert draws["trunk.0.weight"] == Draw((6, 5), "normal", 2 / 5)
    assert draws["trunk.1.weight"] == Draw((3, 6), "normal", 1 / 6)
    assert draws["output_layers.0.weight"] == Draw((32, 3), "normal", 2 / (2 * 4 * 3))


def test_plan_embeddings() -> None:
    def first(embedding: EmbeddingSpec) -> Draw:
        return plan(HypernetSpec((LayerSpec(2, 2),), embedding, "hyperfan-in"))["embeddings.0"]

    shifted = EmbeddingSpec(4, "normal", Fraction(2), Fraction(1, 2))
    assert first(shifted) == Draw((4,), "normal", 2 - 0.25, 0.5)
    assert first(EmbeddingSpec(4, "rademacher", Fraction(3))) == Draw((4,), "rademacher", 3)
    m4 = HypernetSpec(
        (LayerSpec(6, 4, (3,), groups=2),), EmbeddingSpec(5, "constant"), "M4", input_size=(4,)
    )
    assert plan(m4)["embeddings.0"] == Draw((5,), "constant", mean=(3 * 3) ** -0.5)
    constant = HypernetSpec(
        (LayerSpec(2, 2, bias=True),),
        EmbeddingSpec(3),
        "hyperfan-in",
        bias_embedding=EmbeddingSpec(3, "constant", Fraction(4)),
    )
    assert plan(constant)["bias_embeddings.0"] == Draw((3,), "constant", mean=2)


def test_layers_of_other_groups_have_another_output_layer() -> None:
    layers = (LayerSpec(2, 4, (1,)), LayerSpec(4, 4, (1,), groups=2))
    assert layers[0].weight_shape == layers[1].weight_shape
    spec = HypernetSpec(layers, EmbeddingSpec(3), "hyperfan-out", input_size=(3,), output="shared")
    drawn = plan(spec)
    first, second = (drawn[f"output_layers.{t}.weight"] for t in range(2))
    assert first.variance != second.variance


# --- Drawing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("variance", [1.0, 1 / 7, 1e-6, 3.0])
def test_uniform_stays_within_its_bound(dtype: torch.dtype, variance: float) -> None:
    drawn = variance_(torch.empty(20_000, dtype=dtype), variance, "uniform", seeded())
    bound = torch.tensor(math.sqrt(3 * variance), dtype=dtype)
    assert drawn.abs().max() <= bound
    assert drawn.abs().max() > 0.99 * bound
    assert drawn.min() < 0 < drawn.max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "draw",
    [
        Draw((100,), "uniform", 0.3),
        Draw((100,), "normal", 0.3, 0.1),
        Draw((20, 5), "orthogonal", 0.3),
    ],
    ids=lambda draw: draw.distribution,
)
def test_half_precision_is_float32_rounded(dtype: torch.dtype, draw: Draw) -> None:
    half = fill_(torch.empty(2, *draw.shape, dtype=dtype), draw, seeded())
    single = fill_(torch.empty(2, *draw.shape), draw, seeded())
    assert half.dtype == dtype
    assert torch.equal(half, single.to(dtype))


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (5, 1)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_orthogonal_columns(shape: tuple[int, int], dtype: torch.dtype) -> None:
    rows, columns = shape
    variance = 2 / rows
    drawn = fill_(
        torch.empty(3, 2, *shape, dtype=dtype), Draw(shape, "orthogonal", variance), seeded()
    )
    gram = drawn.transpose(-1, -2) @ drawn
    expected = (variance * rows * torch.eye(columns, dtype=dtype)).expand_as(gram)
    torch.testing.assert_close(gram, expected)
    assert not torch.allclose(drawn[0, 0].abs(), drawn[1, 0].abs())


def test_orthogonal_is_the_unique_qr_with_positive_diagonal() -> None:
    """Only with R's signs fixed is Q a function of the normal matrix alone, hence Haar."""
    shape = (4, 8, 5)
    normal = torch.empty(shape, dtype=torch.float64).normal_(0, 1, generator=seeded(3))
    drawn = fill_(
        torch.empty(shape, dtype=torch.float64), Draw(shape[1:], "orthogonal", 1 / 8), seeded(3)
    )
    r = drawn.transpose(-1, -2) @ normal
    torch.testing.assert_close(r.tril(-1), torch.zeros_like(r))
    assert (torch.diagonal(r, dim1=-2, dim2=-1) > 0).all()


def test_rademacher_constant_and_zeros() -> None:
    signs = fill_(torch.empty(3, 40), Draw((40,), "rademacher", 4), seeded())
    assert signs.unique().tolist() == [-2, 2]
    assert fill_(torch.empty(2, 3), Draw((3,), "constant", mean=0.5)).unique().tolist() == [0.5]
    for draw in (Draw((3,), "zeros"), Draw((3,), "normal", 0), Draw((3,), "uniform", 0)):
        assert fill_(torch.full((2, 3), math.nan), draw).unique().tolist() == [0]


def test_mean_moves_every_entry() -> None:
    for kind in ("normal", "uniform"):
        plain = fill_(torch.empty(50, dtype=torch.float64), Draw((50,), kind, 0.7), seeded())
        moved = fill_(torch.empty(50, dtype=torch.float64), Draw((50,), kind, 0.7, 2), seeded())
        torch.testing.assert_close(moved, plain + 2)


EVERY_DRAW = [
    Draw((6, 3), "uniform", 0.5),
    Draw((6, 3), "normal", 0.5),
    Draw((6, 3), "orthogonal", 0.5),
    Draw((6, 3), "rademacher", 0.5),
]


@pytest.mark.parametrize("draw", EVERY_DRAW, ids=lambda draw: draw.distribution)
def test_generator_decides_and_the_global_one_is_left_alone(draw: Draw) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = fill_(torch.empty(4, 6, 3), draw, seeded(5))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(fill_(torch.empty(4, 6, 3), draw, seeded(5)), first)
    assert not torch.equal(fill_(torch.empty(4, 6, 3), draw, seeded(6)), first)


@pytest.mark.parametrize("draw", EVERY_DRAW, ids=lambda draw: draw.distribution)
def test_without_generator_torch_manual_seed_decides(draw: Draw) -> None:
    torch.manual_seed(5)
    first = fill_(torch.empty(4, 6, 3), draw)
    torch.manual_seed(5)
    assert torch.equal(fill_(torch.empty(4, 6, 3), draw), first)
    assert torch.equal(fill_(torch.empty(4, 6, 3), draw, seeded(5)), first)


@pytest.mark.parametrize("draw", EVERY_DRAW, ids=lambda draw: draw.distribution)
def test_layout_does_not_change_the_draw(draw: Draw) -> None:
    strided = torch.empty(3, 6, 4).permute(2, 1, 0)
    assert not strided.is_contiguous()
    result = fill_(strided, draw, seeded())
    assert result is strided
    assert torch.equal(result, fill_(torch.empty(4, 6, 3), draw, seeded()))


def test_fills_a_parameter_in_place_without_gradient() -> None:
    parameter = nn.Parameter(torch.zeros(6, 3))
    assert fill_(parameter, EVERY_DRAW[0], seeded()) is parameter
    assert parameter.is_leaf
    assert parameter.requires_grad
    assert parameter.abs().min() > 0


# --- Initializers in the manner of torch.nn.init ------------------------------------------------

WEIGHT = (8, 3, 5)  # groups = 2: d_i = 4, d_j = 3, r = 5, n_W = 120; d_k = 6
CASES: list[tuple[str, tuple[int, ...], tuple[Any, ...], dict[str, Any], Fraction | float]] = [
    ("hyperfan_in", (120, 6), (WEIGHT,), {}, Fraction(1, 90)),
    ("hyperfan_in", (120, 6), (WEIGHT,), {"relu": True, "groups": 2}, Fraction(2, 90)),
    ("hyperfan_in", (120, 6), (WEIGHT,), {"bias": True, "var_e": 2}, Fraction(1, 360)),
    ("hyperfan_out", (120, 6), (WEIGHT,), {}, Fraction(1, 240)),
    ("hyperfan_out", (120, 6), (WEIGHT,), {"groups": 2, "relu": True}, Fraction(2, 120)),
    ("hyperfan_out", (120, 6), (WEIGHT,), {"bias": True, "var_e": 0.5}, Fraction(2, 240)),
    ("hyperfan_mean", (120, 6), (WEIGHT,), {}, Fraction(2, 330)),
    ("hyperfan_mean", (120, 6), (WEIGHT,), {"mean": "geometric"}, (90 * 240) ** -0.5),
    ("hyperfan_mean", (120, 6), (WEIGHT,), {"mean": "arithmetic"}, Fraction(11, 1440)),
    ("hyperfan_in_bias", (8, 6), (), {}, Fraction(1, 12)),
    ("hyperfan_in_bias", (8, 6), (), {"relu": True, "var_e": 3}, Fraction(1, 18)),
    ("hyperfan_out_bias", (8, 6), (WEIGHT,), {}, Fraction(5, 48)),
    ("hyperfan_out_bias", (8, 6), (WEIGHT,), {"groups": 2, "relu": True}, Fraction(1, 12)),
    ("hyperfan_out_bias", (3, 6), ((3, 8),), {}, Fraction(0)),
    ("hyperfan_mean_bias", (8, 6), (WEIGHT,), {"mean": "arithmetic"}, Fraction(9, 96)),
    ("hyperfan_mean_bias", (3, 6), ((3, 8),), {"mean": "harmonic"}, Fraction(0)),
    ("chunk_input", (12, 4, 6), (WEIGHT,), {}, Fraction(1, 90)),
    ("chunk_input", (4, 6), (WEIGHT,), {"relu": True, "var_e": 2}, Fraction(1, 90)),
    ("chunk_input", (4, 6), (WEIGHT,), {"method": "hyperfan-out"}, Fraction(1, 240)),
    ("chunk_output", (120, 6), (), {}, Fraction(1, 6)),
    ("classical", (120, 6), (), {}, Fraction(1, 6)),
    ("classical", (120, 6), ("fan_out",), {"relu": True}, Fraction(2, 120)),
    ("classical", (120, 6), ("harmonic",), {}, Fraction(2, 126)),
    ("classical", (120, 6), ("geometric",), {}, 720**-0.5),
    ("classical", (120, 6), ("arithmetic",), {}, Fraction(7, 80)),
    ("classical", (120, 6), ("torch_default",), {"relu": True}, Fraction(1, 18)),
    ("fan_in", (120, 6), (), {"relu": True}, Fraction(2, 6)),
]


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1:4]}")
def test_initializer_draws_with_the_variance_of_its_rule(
    case: tuple[str, tuple[int, ...], tuple[Any, ...], dict[str, Any], Fraction | float],
    distribution: str,
) -> None:
    name, shape, positional, keywords, variance = case
    initializer: Callable[..., Tensor] = getattr(init, f"{name}_{distribution}_")
    tensor = torch.empty(shape, dtype=torch.float64)
    before = torch.get_rng_state()
    result = initializer(tensor, *positional, **keywords, generator=seeded())
    assert result is tensor
    assert torch.equal(torch.get_rng_state(), before)
    expected = variance_(torch.empty_like(tensor), float(variance), distribution, seeded())
    torch.testing.assert_close(tensor, expected, rtol=1e-15, atol=0)


def test_every_exported_initializer_is_tested_and_takes_a_generator() -> None:
    exported = {name for name in init.__all__ if name.endswith(("_uniform_", "_normal_"))}
    assert exported == {f"{case[0]}_{kind}_" for case in CASES for kind in ("uniform", "normal")}
    for name in exported:
        generator = inspect.signature(getattr(init, name)).parameters["generator"]
        assert generator.kind is inspect.Parameter.KEYWORD_ONLY
        assert generator.default is None


H = torch.empty(120, 6)
BAD_CALLS: list[tuple[Callable[[], object], str]] = [
    (lambda: init.hyperfan_in_uniform_(torch.empty(6, 120), WEIGHT), r"\(6, 120\).*n_W = 120"),
    (lambda: init.hyperfan_in_uniform_(torch.empty(120), WEIGHT), r"tensor\.shape.*features"),
    (lambda: init.hyperfan_in_uniform_(torch.empty(120, 0), WEIGHT), r"tensor\.shape"),
    (lambda: init.hyperfan_in_uniform_(H, (120,)), r"weight_shape.*out_channels, in_channels"),
    (lambda: init.hyperfan_in_uniform_(H, (8, -3, 5)), r"weight_shape.*at least 1"),
    (lambda: init.hyperfan_in_uniform_(H, 120), r"weight_shape is 120"),  # type: ignore[arg-type]
    (lambda: init.hyperfan_in_uniform_(H, WEIGHT, groups=3), r"groups is 3.*out_channels = 8"),
    (lambda: init.hyperfan_in_uniform_(H, WEIGHT, groups=0), r"groups is 0"),
    (lambda: init.hyperfan_in_uniform_(H, WEIGHT, var_e=0), r"var_e is 0.*greater than 0"),
    (lambda: init.hyperfan_in_normal_(H, WEIGHT, var_e=math.nan), r"var_e is nan.*finite"),
    (lambda: init.hyperfan_in_normal_(H, WEIGHT, relu=1), r"relu is 1.*True or False"),
    (lambda: init.hyperfan_mean_normal_(H, WEIGHT, mean="cubic"), r"mean.*harmonic, geometric"),
    (lambda: init.hyperfan_out_bias_normal_(H, WEIGHT), r"out_channels = 8"),
    (lambda: init.chunk_input_normal_(H, WEIGHT, method="fan-in"), r"method.*hyperfan-in"),
    (lambda: init.chunk_input_normal_(torch.empty(5, 4, 6), WEIGHT), r"a divisor of 24"),
    (lambda: init.classical_normal_(H, "fan"), r"rule is 'fan'.*fan_in, fan_out"),
    (lambda: variance_(H, -1.0), r"variance is -1\.0.*at least 0"),
    (lambda: variance_(H, math.inf), r"variance is inf.*finite"),
    (lambda: variance_(H, "1"), r"variance is '1'"),  # type: ignore[arg-type]
    (lambda: variance_(H, True), r"variance is True"),
    (lambda: variance_(H, 1.0, "cauchy"), r"distribution is 'cauchy'.*uniform, normal"),
    (lambda: variance_(torch.empty(3, dtype=torch.int64), 1), r"tensor\.dtype is torch\.int64"),
    (lambda: variance_(torch.empty(3, dtype=torch.complex64), 1), r"tensor\.dtype"),
    (lambda: variance_(torch.empty(3, device="meta"), 1), r"tensor\.device is 'meta'.*to_empty"),
    (lambda: variance_([1.0], 1.0), r"tensor is 'list'.*torch\.Tensor"),  # type: ignore[arg-type]
    (lambda: fill_(torch.empty(3, 6), EVERY_DRAW[0]), r"tensor\.shape is \(3, 6\).*\*batch, 6, 3"),
    (lambda: fill_(torch.empty(3), EVERY_DRAW[0]), r"tensor\.shape is \(3,\)"),
    (lambda: Draw((3,), "beta", 1), r"distribution is 'beta'.*rademacher"),
    (lambda: Draw((3, 4), "orthogonal", 1), r"shape is \(3, 4\).*as many rows as columns"),
    (lambda: Draw((3,), "zeros", 1), r"variance is 1\.0; allowed: 0 under zeros"),
    (lambda: Draw((3,), "constant", 1), r"variance is 1\.0; allowed: 0 under constant"),
    (lambda: Draw((3,), "rademacher", 1, 1), r"mean is 1\.0; allowed: 0 under rademacher"),
    (lambda: Draw((3,), "normal", 1, math.nan), r"mean is nan"),
    (lambda: Draw((3,), "normal", 10**400), r"variance is 1000"),
    (lambda: init_hypernet_(nn.Linear(2, 2)), r"model is 'Linear'.*Hypernet"),
]


@pytest.mark.parametrize(
    ("call", "message"),
    BAD_CALLS,
    ids=[f"{n}-{message}" for n, (_, message) in enumerate(BAD_CALLS)],
)
def test_mistakes_are_refused_in_one_line(call: Callable[[], object], message: str) -> None:
    with pytest.raises(HyperverifyError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert "allowed: " in str(caught.value)


def test_refused_calls_leave_the_tensor_alone() -> None:
    tensor = torch.full((120, 6), 7.0)
    with pytest.raises(BadArgument):
        init.hyperfan_in_uniform_(tensor, WEIGHT, var_e=-1)
    assert tensor.unique().tolist() == [7]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_cuda() -> None:
    tensor = torch.empty(120, 6, device="cuda")
    with pytest.raises(BadArgument, match=r"generator\.device is 'cpu'.*cuda:0"):
        init.hyperfan_in_uniform_(tensor, WEIGHT, generator=seeded())
    for draw in EVERY_DRAW:
        drawn = [
            fill_(torch.empty(4, 6, 3, device="cuda"), draw, torch.Generator("cuda").manual_seed(1))
            for _ in range(2)
        ]
        assert torch.equal(*drawn)


def test_generator_of_another_device_is_refused() -> None:
    class Elsewhere(torch.Generator):
        device = torch.device("cuda", 0)

    with pytest.raises(BadArgument, match=r"generator\.device is 'cuda:0'.*cpu"):
        variance_(torch.empty(3), 1.0, "normal", Elsewhere())  # type: ignore[arg-type]


# --- A whole hypernet ---------------------------------------------------------------------------


def test_init_hypernet_follows_the_plan() -> None:
    spec = linear_spec(trunk=(TrunkLayerSpec(3),))
    model = Hypernet(spec, generator=seeded(9), dtype=torch.float64)
    generator = seeded(9)
    for name, draw in plan(spec).items():
        expected = fill_(torch.empty(draw.shape, dtype=torch.float64), draw, generator)
        assert torch.equal(model.state_dict()[name], expected), name
    assert init_hypernet_(model, root_seed=9) is model
    for name, value in (
        Hypernet(spec, generator=seeded(9), dtype=torch.float64).state_dict().items()
    ):
        assert torch.equal(model.state_dict()[name], value), name


def test_init_hypernet_agrees_with_the_single_initializers() -> None:
    spec = linear_spec("hyperfan-out")
    model = Hypernet(spec, generator=seeded(), dtype=torch.float64)
    generator = seeded()
    e = variance_(torch.empty(5, dtype=torch.float64), 1.0, "uniform", generator)
    h = torch.empty(32, 5, dtype=torch.float64)
    init.hyperfan_out_uniform_(h, (8, 4), relu=True, bias=True, generator=generator)
    g = torch.empty(8, 5, dtype=torch.float64)
    init.hyperfan_out_bias_uniform_(g, (8, 4), relu=True, generator=generator)
    state = model.state_dict()
    assert torch.equal(state["embeddings.0"], e)
    assert torch.equal(state["output_layers.0.weight"], h)
    assert torch.equal(state["bias_layers.0.weight"], g)
    assert not state["output_layers.0.bias"].any()


def test_init_hypernet_refuses() -> None:
    model = Hypernet(linear_spec(), generator=seeded())
    with pytest.raises(BadArgument, match="root_seed is 1; allowed: None when a generator"):
        init_hypernet_(model, generator=seeded(), root_seed=1)
    for bad in (-1, 2**63, True, "1"):
        with pytest.raises(BadArgument, match=r"root_seed .* allowed: an integer from 0"):
            init_hypernet_(model, root_seed=bad)  # type: ignore[arg-type]
    model.extra = nn.Linear(1, 1)
    with pytest.raises(BadArgument, match=r"parameters extra\.bias, extra\.weight"):
        init_hypernet_(model)


# --- What no tensor can hold, and what is no generator -----------------------------------------------

FILLS: dict[str, Callable[..., Tensor]] = {
    "in": lambda H, **more: init.hyperfan_in_uniform_(H, (4, 3), **more),
    "in, normal": lambda H, **more: init.hyperfan_in_normal_(H, (4, 3), **more),
    "out": lambda H, **more: init.hyperfan_out_uniform_(H, (4, 3), **more),
    "mean": lambda H, **more: init.hyperfan_mean_uniform_(H, (4, 3), **more),
    "in, biases": init.hyperfan_in_bias_uniform_,
    "out, biases": lambda H, **more: init.hyperfan_out_bias_uniform_(H, (12, 3), **more),
    "chunks": lambda H, **more: init.chunk_input_uniform_(H, (4, 3), **more),
}


@pytest.mark.parametrize("name", FILLS)
def test_an_embedding_too_small_for_the_dtype_is_named(name: str) -> None:
    H = torch.zeros(12, 5)
    with pytest.raises(BadArgument, match=r"^var_e is 1e-90; allowed: a larger one, .*float32"):
        FILLS[name](H, var_e=1e-90)
    assert not H.any()
    assert FILLS[name](H.double(), var_e=1e-90).isfinite().all()


def test_a_variance_too_large_for_the_dtype_is_named() -> None:
    half = torch.zeros(1000, dtype=torch.float16)
    with pytest.raises(BadArgument, match=r"^variance is 100000000.0; allowed: at most 1\.68e\+07"):
        variance_(half, 1e8, "normal")
    assert variance_(half, 1.6e7, "normal", seeded()).isfinite().all()


@pytest.mark.parametrize("name", FILLS)
def test_what_is_no_generator_is_refused(name: str) -> None:
    with pytest.raises(BadArgument, match=r"^generator is 3; allowed: a torch\.Generator or None$"):
        FILLS[name](torch.empty(12, 5), generator=3)


def test_a_hypernet_refuses_what_is_no_generator() -> None:
    with pytest.raises(BadArgument, match=r"^generator is 3; allowed: "):
        Hypernet(linear_spec(), generator=3)  # type: ignore[arg-type]
    with pytest.raises(BadArgument, match=r"^generator is 3; allowed: "):
        init_hypernet_(Hypernet(linear_spec()), generator=3)  # type: ignore[arg-type]
