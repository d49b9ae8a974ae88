"""The rounding allowance: each step of its derivation, and the measurements that must stay within."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from hyperverify.catalogue import claims_of
from hyperverify.engine import GRADIENTS, Observation
from hyperverify.plan import plan
from hyperverify.rounding import (
    LOG_CHANCE,
    _exponent,
    _most_replaced,
    rounding_allowance,
    rounding_error,
    sums,
    unit_roundoff,
)
from hyperverify.sampling import Block
from hyperverify.specs import ChunkSpec, EmbeddingSpec, HypernetSpec, LayerSpec, TrunkLayerSpec

CPU = torch.device("cpu")
F64, F32, BF16 = torch.float64, torch.float32, torch.bfloat16
E8 = EmbeddingSpec(8)
RELU = LayerSpec(12, 12, relu=True)

LINEAR = HypernetSpec((LayerSpec(8, 12), LayerSpec(12, 6)), E8, "hyperfan-in")
SPECS = {
    "linear": LINEAR,
    "relu, biases, trunks": HypernetSpec(
        (LayerSpec(8, 12, relu=True, bias=True), LayerSpec(12, 6, bias=True)),
        E8,
        "hyperfan-in",
        trunk=(TrunkLayerSpec(10, relu=True), TrunkLayerSpec(6)),
        bias_embedding=EmbeddingSpec(5, "normal", Fraction(2), Fraction(1, 2)),
        bias_trunk=(TrunkLayerSpec(6, relu=True),),
    ),
    "relu, four layers": HypernetSpec((RELU,) * 4, E8, "hyperfan-out"),
    "shared": HypernetSpec((LayerSpec(6, 6),) * 3, E8, "hyperfan-in", "normal", output="shared"),
    "batch": HypernetSpec(
        (LayerSpec(3, 4, relu=True), LayerSpec(4, 5)),
        E8,
        "hyperfan-in",
        batch=3,
        flow="layerwise",
    ),
    "conv": HypernetSpec(
        (LayerSpec(4, 6, (3,), (2,), (1,), relu=True), LayerSpec(6, 4, (3,))),
        E8,
        "hyperfan-in",
        input_size=(9,),
        flow="layerwise",
    ),
    "chunked": HypernetSpec(
        (LayerSpec(3, 8, relu=True), LayerSpec(8, 6)),
        E8,
        "hyperfan-in",
        output="chunked",
        chunk=ChunkSpec(2, 6),
        flow="layerwise",
    ),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# --- The derivation -------------------------------------------------------------------------------


def bound(n: int, dtype: torch.dtype) -> float:
    """e_n of one sum of products."""
    stored = unit_roundoff(dtype)
    return math.sqrt(stored**2 + n * min(stored, unit_roundoff(F32)) ** 2)


@pytest.mark.parametrize("dtype", [F64, F32, BF16])
def test_unit_roundoff_is_the_largest_error_of_rounding(dtype: torch.dtype) -> None:
    u = unit_roundoff(dtype)
    assert torch.tensor(1 + 0.99 * u, dtype=F64).to(dtype) == 1
    assert torch.tensor(1 + 1.01 * u, dtype=F64).to(dtype) > 1


@pytest.mark.parametrize("dtype", [F32, BF16])
@pytest.mark.parametrize("n", [4, 64, 1024])
def test_one_sum_of_products_is_off_by_what_is_said(n: int, dtype: torch.dtype) -> None:
    """Within the bound, and not far within: an allowance ten times too wide would show nothing."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(40, 50, n, generator=generator).to(dtype)
    b = torch.randn(40, n, 50, generator=generator).to(dtype)
    exact = a.double() @ b.double()
    off = ((a @ b).double() - exact).norm() / exact.norm()
    assert bound(n, dtype) / 20 < off < bound(n, dtype)


@pytest.mark.parametrize("epsilon", [0.3, 0.01])
def test_a_small_error_turns_signs_at_the_rate_epsilon_over_pi(epsilon: float) -> None:
    generator = torch.Generator().manual_seed(0)
    z, noise = torch.randn(2, 10**6, generator=generator, dtype=F64)
    turned = int(((z > 0) != (z + epsilon * noise > 0)).sum())
    expected = 10**6 * epsilon / math.pi
    assert abs(turned - expected) < 6 * math.sqrt(expected) + 10**6 * epsilon**3


def test_shares_above_the_tolerance_have_the_mean_reciprocal_that_is_said() -> None:
    """The density 1/(2 sqrt(s)) on (0, 1], the worst one: s = the square of a uniform number."""
    tolerance = 1e-4
    uniform = (torch.arange(10**6, dtype=F64) + 0.5) / 10**6
    s = uniform.square()
    mean = torch.where(s > tolerance, 1 / s, 0.0).mean()
    assert float(mean) == pytest.approx(tolerance**-0.5 - 1, rel=1e-3)


def test_the_poisson_tail_is_bounded() -> None:
    for expected in (1e-9, 0.3, 5.0, 80.0):
        for units in range(math.ceil(expected) + 1, math.ceil(expected) + 60):
            log_terms = [
                n * math.log(expected) - expected - math.lgamma(n + 1)
                for n in range(units, units + 500)
            ]
            tail = math.fsum(math.exp(term) for term in log_terms)
            assert tail <= math.exp(-_exponent(units, expected)) * (1 + 1e-9)


def test_no_unit_turns_in_float64_and_some_may_in_float32() -> None:
    spec = SPECS["relu, four layers"]
    assert _most_replaced(spec, math.sqrt(2) * rounding_error(spec, F64), 1e5) == 0
    assert _most_replaced(spec, math.sqrt(2) * rounding_error(spec, F32), 1e5) >= 12
    assert _most_replaced(LINEAR, math.sqrt(2) * rounding_error(LINEAR, BF16), 1e5) == 0


def test_the_sums_of_a_spec_by_hand() -> None:
    # W: 8; z: 8, 12; dL/dx: 12, 6; dL/dW: 1, 1; dL/dh: 96, 72; tied layers: 2, 2
    assert sorted(sums(LINEAR)) == sorted([8, 8, 8, 12, 12, 6, 1, 1, 96, 72, 2, 2])
    conv = HypernetSpec(
        (LayerSpec(4, 6, (3, 2), groups=2, bias=True),),
        E8,
        "hyperfan-in",
        trunk=(TrunkLayerSpec(10), TrunkLayerSpec(5)),
        bias_embedding=EmbeddingSpec(3),
        bias_trunk=(TrunkLayerSpec(7),),
        input_size=(5, 4),
    )
    # trunks: 8, 10, 3; W 5, b 7; z 2 x 6 + 1; dL/dx 3 x 6; dL/dW 3 x 3; dL/dh 72 + 6; tied 1
    assert list(sums(conv)) == [8, 10, 3, 5, 7, 13, 18, 9, 78, 1]


def test_the_allowance_shrinks_with_df_and_grows_with_roundoff_and_depth() -> None:
    for spec in SPECS.values():
        by_df = [rounding_allowance(spec, F32, df) for df in (1e3, 1e4, 1e5)]
        assert by_df == sorted(by_df, reverse=True)
        by_dtype = [rounding_allowance(spec, dtype, 1e4) for dtype in (F64, F32, BF16)]
        assert by_dtype == sorted(by_dtype)
    deep = replace(SPECS["relu, four layers"], layers=(RELU,) * 8)
    for dtype in (F32, BF16):
        assert rounding_allowance(deep, dtype, 1e5) > rounding_allowance(
            SPECS["relu, four layers"], dtype, 1e5
        )


def test_the_allowance_of_float32_is_far_below_any_tolerance() -> None:
    """2% is what a run looks for by default, on some 3e5 degrees of freedom."""
    for spec in SPECS.values():
        assert rounding_allowance(spec, F32, 3e5) < 0.002
        assert rounding_allowance(spec, F32, 3e5, gradients=False) < 1e-4
        assert rounding_allowance(spec, BF16, 3e5) < 0.02


def test_what_no_mask_decides_has_a_smaller_allowance() -> None:
    spec = SPECS["relu, four layers"]
    assert rounding_allowance(spec, F32, 1e4, gradients=False) < rounding_allowance(spec, F32, 1e4)
    assert rounding_allowance(LINEAR, F32, 1e4, gradients=False) == rounding_allowance(
        LINEAR, F32, 1e4
    )
    assert pytest.approx(1e9) == math.exp(LOG_CHANCE)


# --- The same draws in two dtypes -----------------------------------------------------------------


def altered(block: Block, dtype: torch.dtype, change: Callable[[str, Tensor], Tensor]) -> Block:
    """The same draws, each through ``change``."""

    class Altered(Block):
        def tensor(self, name: str) -> Tensor:
            return change(name, block.tensor(name))

        def standard(self, name: str, distribution: str, *shape: int) -> Tensor:
            return change(name, block.standard(name, distribution, *shape))

    return Altered(
        block.spec, block.root_seed, block.index, block.replicates, CPU, dtype, block.draws
    )


def block_of(spec: HypernetSpec, dtype: torch.dtype, replicates: int = 500) -> Block:
    return Block(spec, 0, 0, replicates, CPU, dtype, plan(spec))


def apart(spec: HypernetSpec, one: Observation, other: Observation) -> dict[str, float]:
    """|theta_1/theta_2 - 1| over its allowance, by check."""
    other.__dict__["rank_tolerance"] = one.rank_tolerance  # the same directions looked at
    found: dict[str, float] = {}
    for claim in claims_of(spec):
        gradients = bool(claim.gradients) or claim.quantity in {"active", "trunk", "depth"}
        for n, part in enumerate(claim.parts):
            (S, nu), (S2, nu2) = part.measure(one), part.measure(other)
            df, df2 = int(nu.sum()), int(nu2.sum())
            assert df > 0
            assert df2 > 0
            ratio = (float(S.sum()) / df) / (float(S2.sum()) / df2)
            allowance = rounding_allowance(spec, one.block.dtype, min(df, df2), gradients=gradients)
            found[f"{claim.id}/{n}"] = abs(ratio - 1) / allowance
    return found


@pytest.mark.parametrize("dtype", [F32, BF16])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_same_draws_in_a_coarser_dtype_stay_within(
    spec: HypernetSpec, dtype: torch.dtype
) -> None:
    block = block_of(spec, dtype)
    wide = altered(block, F64, lambda _, tensor: tensor.double())
    found = apart(spec, Observation(block, GRADIENTS), Observation(wide, GRADIENTS))
    assert max(found.values()) < 1, found


@pytest.mark.parametrize("dtype", [F64, F32, BF16])
def test_a_perturbation_of_twice_the_allowance_is_seen(dtype: torch.dtype) -> None:
    """H too large by the allowance, so that the weights' squares are too large by twice that."""
    block = block_of(LINEAR, dtype)
    claim = next(claim for claim in claims_of(LINEAR) if claim.quantity == "weights")
    df = int(claim.parts[0].measure(Observation(block))[1].sum())
    factor = 1 + rounding_allowance(LINEAR, dtype, df, gradients=False)

    def enlarge(name: str, tensor: Tensor) -> Tensor:
        return tensor.double() * (factor if name.startswith("output_layers.") else 1)

    large = Observation(altered(block, F64, enlarge), GRADIENTS)
    assert apart(LINEAR, Observation(block, GRADIENTS), large)[f"{claim.id}/0"] > 1


@pytest.mark.parametrize(("dtype", "coarser"), [(F64, F32), (F32, BF16)])
def test_output_layers_rounded_to_a_coarser_dtype_are_seen(
    dtype: torch.dtype, coarser: torch.dtype
) -> None:
    block = block_of(LINEAR, dtype)

    def coarsen(name: str, tensor: Tensor) -> Tensor:
        return tensor.to(coarser).to(dtype) if name.startswith("output_layers.") else tensor

    rounded = Observation(altered(block, dtype, coarsen), GRADIENTS)
    assert max(apart(LINEAR, Observation(block, GRADIENTS), rounded).values()) > 1
