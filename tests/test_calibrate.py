"""`calibrate_`: after it the same factory is VERIFIED, or the model is as it was and one line says why."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hyperverify
from hyperverify.calibrate import CannotCalibrate
from hyperverify.check_results import CheckResult
from hyperverify.confidence import Verdict
from hyperverify.errors import BadArgument

QUICK: dict[str, Any] = {"tolerance": 0.3, "max_seconds": 120.0}


class Net(nn.Module):
    """24-32-16 with a ReLU; ``make`` returns an initialized matrix for (d_j, d_i, s)."""

    def __init__(self, make: Callable[[int, int, int], Tensor], bias: bool = False) -> None:
        super().__init__()
        self.e = nn.Parameter(torch.empty(2, 12).uniform_(-math.sqrt(3), math.sqrt(3)))
        self.first = nn.Parameter(make(24, 32, 2))
        self.second = nn.Parameter(make(32, 16, 1))
        self.norm = nn.BatchNorm1d(32)
        self.shift = nn.Parameter(torch.randn(32, 12) * 0.1) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        b = None if self.shift is None else self.shift @ self.e[0]
        x = nn.functional.linear(x, self.first @ self.e[0], b)
        return self.norm(x.relu()) @ (self.second @ self.e[1]).T


def uniform(d_j: int, d_i: int, s: int, factor: float = 1.0) -> Tensor:
    bound = math.sqrt(3 * s / (d_j * 12)) * factor
    return torch.empty(d_i, d_j, 12).uniform_(-bound, bound)


def small() -> Net:
    return Net(lambda d_j, d_i, s: uniform(d_j, d_i, s, 3**-0.5))


class Split(nn.Module):
    """All weights in one vector; the trunk's features make both, and one of them is 4 times too large."""

    def __init__(self, second: float = 4.0) -> None:
        super().__init__()
        self.e = nn.Parameter(torch.randn(10))
        self.trunk = nn.Linear(10, 40, bias=False)
        self.out = nn.Linear(40, 24 * 20 + 20 * 8, bias=False)
        nn.init.normal_(self.trunk.weight, std=math.sqrt(2 / 10))
        first, last = self.out.weight.data.split((480, 160))
        first.normal_(0, math.sqrt(2 / (24 * 40)))
        last.normal_(0, math.sqrt(second / (20 * 40)))

    def forward(self, x: Tensor) -> Tensor:
        first, last = self.out(self.trunk(self.e).relu()).split((480, 160))
        return (x @ first.view(20, 24).T).relu() @ last.view(8, 20).T


class Chunks(nn.Module):
    """Two square layers by one output layer; each has its own matrix under it."""

    def __init__(self) -> None:
        super().__init__()
        self.H = nn.Parameter(torch.randn(20 * 20, 16) / 4)
        self.G = nn.ParameterList(
            torch.randn(16, 10) * math.sqrt(ratio / (20 * 10)) for ratio in (0.25, 8.0)
        )
        self.e = nn.Parameter(torch.randn(2, 10))

    def forward(self, x: Tensor) -> Tensor:
        for t in range(2):
            x = x @ (self.H @ (self.G[t] @ self.e[t])).view(20, 20).T
        return x


def of(factory: Callable[[], Any], d: int = 24, **more: Any) -> CheckResult:
    return hyperverify.check(factory, input=d, expect="hyperfan-in", **{**QUICK, **more})


@pytest.mark.parametrize(("factory", "d"), [(small, 24), (Split, 24), (Chunks, 20)])
def test_the_calibrated_factory_is_verified(factory: Callable[[], Any], d: int) -> None:
    result = of(factory, d)
    assert result.verdict is Verdict.REFUTED

    def calibrated() -> Any:
        return hyperverify.calibrate_(factory(), result)

    again = of(calibrated, d, seed=1)
    assert again.verdict is Verdict.VERIFIED, again.reason


def test_the_named_mistake_gives_the_exact_factor_and_the_rest_stays() -> None:
    result = of(small)
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(7)
    state = torch.get_rng_state()
    assert hyperverify.calibrate_(model, result) is model
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in model.state_dict().items():
        factor = math.sqrt(3) if name in ("first", "second") else 1
        torch.testing.assert_close(value, before[name] * factor, msg=name)


def test_only_the_rows_of_the_wrong_layer_are_scaled() -> None:
    result = of(Split)
    model = Split()
    before = model.out.weight.detach().clone()
    hyperverify.calibrate_(model, result)
    ratio = (model.out.weight / before).detach()
    assert torch.equal(ratio[:480], torch.ones(480, 40))
    assert float(ratio[480:].std()) < 1e-5
    assert float(ratio[480:].mean()) == pytest.approx(0.5, rel=0.05)


def test_a_shared_output_layer_is_left_and_the_matrix_below_scaled() -> None:
    result = of(Chunks, 20)
    model = Chunks()
    H = model.H.detach().clone()
    hyperverify.calibrate_(model, result)
    assert torch.equal(model.H, H)


def test_plain_functions_and_conversions_of_dtype() -> None:
    """No module anywhere, and the output layer is kept in another precision than it is used in."""

    def factory() -> Any:
        e, H = torch.randn(12), (torch.randn(16, 20, 12) * 0.05).to(torch.bfloat16)

        def model(x: Tensor) -> Tensor:
            return x @ (H.float() @ e).T

        model.H = H  # type: ignore[attr-defined]
        return model

    result = of(factory, 20)
    assert result.verdict is Verdict.REFUTED
    model = hyperverify.calibrate_(factory(), result)
    assert float(model.H.float().square().mean()) == pytest.approx(1 / (20 * 12), rel=0.15)


def test_a_verified_model_is_not_touched() -> None:
    result = replace(of(small), layers=(), verdict=Verdict.VERIFIED)
    model = small()
    before = model.first.detach().clone()
    assert torch.equal(hyperverify.calibrate_(model, result).first, before)


# ---------------------------------------------------------------------------------------- refusals


class Leaf(nn.Module):
    """W = leaf + H e: no factor on H scales it."""

    def __init__(self) -> None:
        super().__init__()
        self.leaf, self.e = nn.Parameter(torch.randn(20, 20)), nn.Parameter(torch.randn(12))
        self.H = nn.Parameter(torch.randn(20, 20, 12))

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.leaf + self.H @ self.e).T


class Same(nn.Module):
    """Two layers of the same rows and embedding, one of which halves the weights by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.e = nn.Parameter(torch.randn(2, 12))
        self.H = nn.Parameter(torch.randn(20 * 20, 12) * math.sqrt(4 / (20 * 12)))

    def forward(self, x: Tensor) -> Tensor:
        x = x @ (self.H @ self.e[0]).view(20, 20).T
        return x @ (3.0 * (self.H @ self.e[1])).view(20, 20).T


class Default(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e, self.out = nn.Parameter(torch.randn(12)), nn.Linear(12, 400)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.out(self.e).view(20, 20).T


class Zeros(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e = nn.Parameter(torch.randn(12))
        self.H = nn.Parameter(torch.randn(20, 20, 12) * math.sqrt(1 / (2 * 20 * 12)))
        self.G = nn.Parameter(torch.zeros(20, 12))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.H @ self.e, self.G @ self.e)


@pytest.mark.parametrize(
    ("factory", "why"),
    [
        (Leaf, "layer 1: no output layer makes the generated weights by itself"),
        (Same, "layer 1: rows of H serve layers 1 and 2, which need different factors"),
        (Default, "layer 1: out.bias is in the way; set it to 0, then check again"),
        (Zeros, "layer 1: every generated bias is exactly 0"),
    ],
)
def test_what_no_factor_mends_is_refused_by_name(factory: Callable[[], Any], why: str) -> None:
    result = of(factory, 20)
    assert result.verdict is Verdict.REFUTED
    model = factory()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CannotCalibrate) as refused:
        hyperverify.calibrate_(model, result)
    assert str(refused.value).startswith(why)
    assert "\n" not in str(refused.value)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_rows_shared_in_secret_are_put_back() -> None:
    """The result says that the layers are made by two parameters; in this model they are one."""

    class Apart(Same):
        def __init__(self) -> None:
            super().__init__()
            self.K = nn.Parameter(torch.randn(20 * 20, 12) * math.sqrt(1 / (20 * 12)))

        def forward(self, x: Tensor) -> Tensor:
            x = x @ (self.H @ self.e[0]).view(20, 20).T
            return x @ (self.K @ self.e[1]).view(20, 20).T

    result = of(Apart, 20)
    model = Apart()
    model.K = model.H
    before = model.H.detach().clone()
    with pytest.raises(CannotCalibrate, match=r"layer 2: its weights would come out 0\.\d+ times"):
        hyperverify.calibrate_(model, result)
    assert torch.equal(model.H, before)


def test_an_output_layer_drawn_in_the_call_is_refused() -> None:
    def factory() -> Any:
        e = torch.randn(12)
        return lambda x: x @ (torch.randn(16, 20, 12) @ e).T

    with pytest.raises(CannotCalibrate, match="drawn or computed in the call"):
        hyperverify.calibrate_(factory(), of(factory, 20))


def test_another_model_or_argument_is_refused() -> None:
    result = of(small)
    with pytest.raises(CannotCalibrate, match="the model has 1 generated layers, the result 2"):
        hyperverify.calibrate_(Default(), result, input=20)
    with pytest.raises(CannotCalibrate, match=r"layer 1 is linear \(32, 24\) in the result and"):
        hyperverify.calibrate_(Split(), result)
    with pytest.raises(BadArgument, match="result is 3; allowed: what"):
        hyperverify.calibrate_(small(), 3)  # type: ignore[arg-type]
    with pytest.raises(BadArgument, match="input is 'x'"):
        hyperverify.calibrate_(small(), result, input="x")  # type: ignore[arg-type]
    with pytest.raises(BadArgument, match="model is 3"):
        hyperverify.calibrate_(3, result)  # type: ignore[type-var]
