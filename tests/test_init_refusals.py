"""Initializers at their limits: the smallest shapes, the defaults, every refusal word for word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hyperverify import init
from hyperverify.errors import BadArgument
from hyperverify.init import init_hypernet_, variance_
from hyperverify.nets import Hypernet
from hyperverify.specs import EmbeddingSpec, HypernetSpec, LayerSpec

KINDS = ("uniform", "normal")
each_kind = pytest.mark.parametrize("kind", KINDS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def named(name: str, kind: str) -> Callable[..., Tensor]:
    return getattr(init, f"{name}_{kind}_")


def small_net() -> Hypernet:
    layers = (LayerSpec(2, 3, relu=True, bias=True), LayerSpec(3, 2))
    return Hypernet(HypernetSpec(layers, EmbeddingSpec(4), "hyperfan-in"), dtype=torch.float64)


# --- The smallest shapes, and what is taken where nothing is said ---------------------------------

# name, tensor's shape, arguments, variance
DEFAULTS: list[tuple[str, tuple[int, ...], tuple[Any, ...], float]] = [
    ("hyperfan_in", (1, 1), ((1, 1),), 1),
    ("hyperfan_in", (15, 2), ((5, 3),), 1 / 6),  # groups of any size but 1 would not divide 5
    ("hyperfan_out", (15, 2), ((5, 3),), 1 / 10),
    ("hyperfan_mean", (15, 2), ((5, 3),), 2 / 16),
    ("hyperfan_in_bias", (5, 2), (), 1 / 4),
    ("hyperfan_out_bias", (5, 2), ((5, 3),), 1 / 5),
    ("hyperfan_mean_bias", (5, 2), ((5, 3),), 2 / 9),
    ("chunk_input", (1, 1), ((1, 1),), 1),
    ("chunk_input", (1, 4, 2), ((5, 3),), 1 / 6),
    ("chunk_output", (1, 1), (), 1),
    ("classical", (1, 1), (), 1),
    ("classical", (15, 2), (), 1 / 2),
    ("fan_in", (15, 2), (), 1 / 2),
]


@each_kind
@pytest.mark.parametrize(("name", "shape", "given", "variance"), DEFAULTS)
def test_defaults_are_one_group_no_relu_no_biases_and_a_unit_embedding(
    name: str, shape: tuple[int, ...], given: tuple[Any, ...], variance: float, kind: str
) -> None:
    drawn = named(name, kind)(torch.empty(shape).double(), *given, generator=seeded())
    expected = variance_(torch.empty(shape).double(), variance, kind, seeded())
    torch.testing.assert_close(drawn, expected, rtol=1e-15, atol=0)


# --- Refusals -------------------------------------------------------------------------------------

H = torch.empty(120, 6)
WEIGHT = (8, 3, 5)
MEANS = "one of harmonic, geometric, arithmetic"
SIZES = "(out_channels, in_channels / groups, *kernel), integers of at least 1"
CHUNKS = "(d_k, d_l), or (chunks, d_k, d_l) with chunks a divisor of 24"
RULES = "one of fan_in, fan_out, harmonic, geometric, arithmetic, torch_default"
REFUSED: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("hyperfan_in", (H, 120), {}, f"weight_shape is 120; allowed: {SIZES}"),
    ("hyperfan_in", (H, (8, 0)), {}, f"weight_shape is (8, 0); allowed: {SIZES}"),
    (
        "hyperfan_in",
        (H, WEIGHT),
        {"groups": 3},
        "groups is 3; allowed: a divisor of out_channels = 8",
    ),
    (
        "hyperfan_in",
        (H[:5], WEIGHT),
        {},
        "tensor.shape is (5, 6); allowed: (n_W, features) with n_W = 120",
    ),
    (
        "hyperfan_out_bias",
        (H, WEIGHT),
        {},
        "tensor.shape is (120, 6); allowed: (out_channels, features) with out_channels = 8",
    ),
    ("hyperfan_in_bias", (H[0],), {}, "tensor.shape is (6,); allowed: (out_channels, features)"),
    ("hyperfan_in_bias", (H[:0],), {}, "tensor.shape is (0, 6); allowed: (out_channels, features)"),
    ("hyperfan_mean", (H, WEIGHT), {"mean": "cubic"}, f"mean is 'cubic'; allowed: {MEANS}"),
    ("hyperfan_mean_bias", (H, WEIGHT), {"mean": "cubic"}, f"mean is 'cubic'; allowed: {MEANS}"),
    (
        "chunk_input",
        (H, WEIGHT),
        {"method": "fan-in"},
        "method is 'fan-in'; allowed: one of hyperfan-in, hyperfan-out",
    ),
    *(
        (
            "chunk_input",
            (torch.empty(shape), WEIGHT),
            {},
            f"tensor.shape is {shape}; allowed: {CHUNKS}",
        )
        for shape in ((6,), (1, 1, 4, 6), (0, 6), (4, 0), (5, 4, 6), (2, 0, 6))
    ),
    ("chunk_output", (H[0],), {}, "tensor.shape is (6,); allowed: (K r, features)"),
    ("classical", (H[0],), {}, "tensor.shape is (6,); allowed: (rows, features)"),
    (
        "classical",
        (H, "fan"),
        {},
        f"rule is 'fan'; allowed: {RULES}",
    ),
    ("fan_in", (H[0],), {}, "tensor.shape is (6,); allowed: (rows, features)"),
]


@each_kind
@pytest.mark.parametrize(
    ("name", "given", "more", "message"), REFUSED, ids=[f"{r[0]}: {r[3]}" for r in REFUSED]
)
def test_refusals_name_the_argument_and_what_is_allowed(
    name: str, given: tuple[Any, ...], more: dict[str, Any], message: str, kind: str
) -> None:
    with pytest.raises(BadArgument) as caught:
        named(name, kind)(*given, **more)
    assert str(caught.value) == message


# --- A whole hypernet -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_the_first_and_the_last_seed(seed: int) -> None:
    model = init_hypernet_(small_net(), root_seed=seed)
    expected = init_hypernet_(small_net(), generator=seeded(seed))
    for name, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_a_seed_past_the_last_is_refused() -> None:
    with pytest.raises(BadArgument) as caught:
        init_hypernet_(small_net(), root_seed=2**63)
    assert str(caught.value) == (f"root_seed is {2**63}; allowed: an integer from 0 to 2**63 - 1")


def test_the_seed_is_for_the_device_of_the_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    devices: list[object] = []

    class Noted(torch.Generator):
        def __new__(cls, device: Any = "none given") -> Any:
            devices.append(device)
            return super().__new__(cls)

    model = small_net()
    monkeypatch.setattr(torch, "Generator", Noted)
    init_hypernet_(model, root_seed=1)
    assert devices == [torch.device("cpu")]


class _Elsewhere(Tensor):
    """Says that it lies on another device."""

    device = torch.device("cuda", 0)  # type: ignore[assignment]


def test_nothing_is_drawn_where_one_parameter_cannot_be() -> None:
    model = small_net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    last: Any = model.get_submodule("output_layers.1")
    last.weight = nn.Parameter(torch.zeros(6, 4).double().as_subclass(_Elsewhere))
    with pytest.raises(
        BadArgument, match=r"^generator\.device is 'cpu'; allowed: the tensor's dev"
    ):
        init_hypernet_(model, generator=seeded())
    for name, value in before.items():
        if name != "output_layers.1.weight":
            assert torch.equal(model.state_dict()[name], value), name


def test_a_module_that_is_no_hypernet_is_refused() -> None:
    with pytest.raises(BadArgument) as caught:
        init_hypernet_(nn.Linear(2, 2))
    assert str(caught.value) == "model is 'Linear'; allowed: a hyperverify.nets.Hypernet"
    model = small_net()
    model.extra = nn.Linear(1, 1)
    with pytest.raises(BadArgument) as caught:
        init_hypernet_(model)
    assert str(caught.value) == (
        "model is 'parameters extra.bias, extra.weight'; allowed: exactly those that the plan names"
    )
