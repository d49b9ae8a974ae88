"""What a draw may be and how it is drawn, at the limits; refusals word for word."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from hyperverify import plan as planning
from hyperverify.errors import BadArgument
from hyperverify.plan import Draw, check_tensor, chunk_input_variance, fill_, plan, variance_
from hyperverify.specs import EmbeddingSpec, HypernetSpec, LayerSpec


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def elsewhere(index: int | None) -> tuple[Any, Any]:
    """A tensor and a generator that say they are on a CUDA device."""
    place = torch.device("cuda") if index is None else torch.device("cuda", index)

    class Far(Tensor):
        device = place  # type: ignore[assignment]

    class FarGenerator(torch.Generator):
        device = place

    return torch.zeros(3).as_subclass(Far), FarGenerator()


# --- Drawing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean", [0.0, 0.25])
def test_normal_draws_are_torchs_own_scaled(mean: float) -> None:
    drawn = fill_(torch.empty(2, 50).double(), Draw((50,), "normal", 9.0, mean), seeded())
    standard = torch.empty(2, 50).double().normal_(generator=seeded())
    torch.testing.assert_close(drawn, 3 * standard + mean, rtol=1e-15, atol=1e-15)


def test_uniform_draws_are_torchs_own_scaled() -> None:
    drawn = fill_(torch.empty(2, 50).double(), Draw((50,), "uniform", 12.0, 1.0), seeded())
    unit = torch.empty(2, 50).double().uniform_(generator=seeded())
    torch.testing.assert_close(drawn, 12 * unit - 5, rtol=1e-15, atol=1e-15)


def test_signs_are_fair() -> None:
    signs = fill_(torch.empty(4000), Draw((), "rademacher", 1.0), seeded())
    heads = int((signs > 0).sum())
    assert abs(heads - 2000) < 5 * math.sqrt(1000)


@pytest.mark.parametrize("shape", [(40, 1), (3, 3)])
def test_orthogonal_columns_point_along_the_first_normal_draw(shape: tuple[int, int]) -> None:
    """By Gram and Schmidt, whatever the sign and size of what is on R's diagonal."""
    normal = torch.empty(200, *shape).double().normal_(generator=seeded())
    drawn = fill_(torch.empty(200, *shape).double(), Draw(shape, "orthogonal", 0.7), seeded())
    for n in range(shape[1]):
        column = normal[..., n]
        for earlier in range(n):
            unit = drawn[..., earlier] / drawn[..., earlier].norm(dim=-1, keepdim=True)
            column = column - (column * unit).sum(-1, keepdim=True) * unit
        column = column / column.norm(dim=-1, keepdim=True) * math.sqrt(0.7 * shape[0])
        torch.testing.assert_close(drawn[..., n], column, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_strided_tensor_is_drawn_in_its_own_precision(dtype: torch.dtype) -> None:
    draw = Draw((6, 3), "normal", 0.5)
    strided = torch.empty(3, 6, 4, dtype=dtype).permute(2, 1, 0)
    assert torch.equal(
        fill_(strided, draw, seeded()), fill_(torch.empty(4, 6, 3, dtype=dtype), draw, seeded())
    )


def test_a_draw_keeps_its_numbers_as_floats() -> None:
    draw = Draw((3,), "normal", Fraction(1, 4), 2)  # type: ignore[arg-type]
    assert (draw.variance, draw.mean) == (0.25, 2.0)
    assert type(draw.variance) is type(draw.mean) is float


def test_the_largest_number_of_a_dtype_can_be_drawn() -> None:
    largest = torch.finfo(torch.float16).max
    half = torch.empty(3, dtype=torch.float16)
    assert fill_(half, Draw((3,), "constant", mean=largest)).tolist() == [largest] * 3
    with pytest.raises(BadArgument):
        fill_(half, Draw((3,), "constant", mean=-1.01 * largest))
    with pytest.raises(BadArgument):
        fill_(half, Draw((3,), "normal", 1.6e7, largest / 2))


# --- Devices --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("of_tensor", "of_generator"), [(0, 0), (0, None), (None, 0), (1, 1)])
def test_a_generator_of_the_same_kind_of_device_will_do(
    of_tensor: int | None, of_generator: int | None
) -> None:
    tensor, generator = elsewhere(of_tensor)[0], elsewhere(of_generator)[1]
    assert check_tensor(tensor, generator) is tensor


def test_a_generator_of_another_device_is_refused() -> None:
    far, generator = elsewhere(0)[0], elsewhere(1)[1]
    with pytest.raises(BadArgument) as caught:
        check_tensor(far, generator)
    assert str(caught.value) == (
        "generator.device is 'cuda:1'; allowed: the tensor's device, cuda:0"
    )
    with pytest.raises(BadArgument) as caught:
        check_tensor(far, seeded())
    assert str(caught.value) == "generator.device is 'cpu'; allowed: the tensor's device, cuda:0"


# --- Refusals -------------------------------------------------------------------------------------

LINEAR = HypernetSpec((LayerSpec(2, 3),), EmbeddingSpec(4), "hyperfan-in")
KINDS = "one of uniform, normal, orthogonal, rademacher, constant, zeros"
NUMBER = "a finite number of at least 0"
TALL = "(rows, columns) with at least as many rows as columns"
DTYPES = "torch.float64, torch.float32, torch.bfloat16, torch.float16"
REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: Draw((3,), "beta"), f"distribution is 'beta'; allowed: {KINDS}"),
    (lambda: Draw((3,), "normal", -1), "variance is -1; allowed: a finite number of at least 0"),
    (
        lambda: Draw((3,), "normal", True),
        "variance is True; allowed: a finite number of at least 0",
    ),
    (lambda: Draw((3,), "normal", 1, math.inf), "mean is inf; allowed: a finite number"),
    (lambda: Draw((3,), "normal", 1, "0"), "mean is '0'; allowed: a finite number"),
    (lambda: Draw((3,), "normal", 10**400), f"variance is 1{76 * '0'}...; allowed: {NUMBER}"),
    (lambda: Draw((3,), "zeros", 0, 1), "mean is 1.0; allowed: 0 under zeros"),
    (lambda: Draw((3, 2), "orthogonal", 1, 1), "mean is 1.0; allowed: 0 under orthogonal"),
    (lambda: Draw((3,), "rademacher", 1, 1), "mean is 1.0; allowed: 0 under rademacher"),
    (
        lambda: Draw((2, 3), "orthogonal", 1),
        f"shape is (2, 3); allowed: {TALL} under orthogonal",
    ),
    (
        lambda: variance_(torch.empty(3), 1.0, "orthogonal"),
        "distribution is 'orthogonal'; allowed: one of uniform, normal",
    ),
    (lambda: check_tensor([1.0]), "tensor is 'list'; allowed: a torch.Tensor"),
    (
        lambda: check_tensor(torch.empty(3, dtype=torch.int8)),
        f"tensor.dtype is torch.int8; allowed: {DTYPES}",
    ),
    (
        lambda: check_tensor(torch.empty(3, device="meta")),
        "tensor.device is 'meta'; allowed: a device with storage (use to_empty first)",
    ),
    (
        lambda: fill_(torch.empty(3, 6), Draw((6, 3), "normal", 1)),
        "tensor.shape is (3, 6); allowed: (*batch, 6, 3)",
    ),
    (
        lambda: chunk_input_variance(LINEAR, 0),
        "output is 'own'; allowed: chunked, under hyperfan-in or hyperfan-out",
    ),
]


@pytest.mark.parametrize(("call", "message"), REFUSED, ids=[text for _, text in REFUSED])
def test_refusals_name_the_argument_and_what_is_allowed(
    call: Callable[[], object], message: str
) -> None:
    with pytest.raises(BadArgument) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("function", "layers"),
    [("output_variance", "output_layers.0"), ("bias_output_variance", "bias_layers.0")],
)
def test_layers_that_share_an_output_layer_must_agree_on_it(
    function: str, layers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No rule here makes them differ; a wrong one must not be passed over in silence."""
    layer = LayerSpec(3, 3, bias=True)
    spec = HypernetSpec((layer, layer), EmbeddingSpec(4), "hyperfan-in", output="shared")
    plan(spec)
    monkeypatch.setattr(planning, function, lambda spec, t: (0.25, 0.5)[t])
    with pytest.raises(BadArgument) as caught:
        plan(spec)
    assert str(caught.value) == (
        f"variance for layers[1] is 0.5; allowed: 0.25, as in the layer it shares {layers} with"
    )
