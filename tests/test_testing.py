"""hyperverify.testing: what passes, what fails and with which words, and what is refused."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from synthetic import synthetic_checks

from hyperverify import planning
from hyperverify.catalogue import study as study_module
from hyperverify.catalogue.suites import studies
from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.evidence import confidence_sequence, df_cap
from hyperverify.failures import in_lines, short
from hyperverify.init import hyperfan_in_normal_, init_hypernet_
from hyperverify.nets import Hypernet
from hyperverify.plan import Draw, plan
from hyperverify.specs import EmbeddingSpec, HypernetSpec, LayerSpec
from hyperverify.testing import (
    CheckFailedError,
    Finding,
    InconclusiveError,
    RefutedError,
    assert_gain,
    assert_second_moment,
    assert_verified,
    min_df_gain,
    min_df_second_moment,
    min_discrepancy_gain,
    min_discrepancy_second_moment,
    refuse_checks,
)

SPEC = HypernetSpec((LayerSpec(6, 8, relu=True), LayerSpec(8, 4)), EmbeddingSpec(5), "hyperfan-in")


def normals(seed: int, n: int = 500) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def draw(seed: int) -> tuple[torch.Tensor, int]:
    """500 values of second moment 1."""
    return normals(seed).square().sum(), 500


def generated(seed: int) -> tuple[float, float, int]:
    """One draw of a layer 12 to 40 under hyperfan-in: |z|^2, what is shared, d_i."""
    generator = torch.Generator().manual_seed(seed)
    e = torch.randn(6, generator=generator, dtype=torch.float64)
    x = torch.randn(12, generator=generator, dtype=torch.float64)
    H = hyperfan_in_normal_(
        torch.empty(40 * 12, 6, dtype=torch.float64), (40, 12), generator=generator
    )
    z = (H @ e).view(40, 12) @ x
    shared = x.square().mean() * e.square().mean()
    return float(z.square().sum()), float(shared), 40


# --- Verdicts. --------------------------------------------------------------------------------------


def test_a_true_second_moment_passes() -> None:
    found = assert_second_moment(draw, 1.0, law="exact", what="normal values")
    assert isinstance(found, Finding)
    assert found.verdict == "VERIFIED"
    assert found.df == 500 * found.draws
    assert found.interval[0] < found.measured < found.interval[1]
    assert found.reason is None


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.25, 2.0])
def test_a_wrong_second_moment_is_refuted(factor: float) -> None:
    with pytest.raises(RefutedError) as caught:
        assert_second_moment(draw, factor, law="exact", what="normal values")
    (found,) = caught.value.failed
    assert found.verdict == "REFUTED"
    assert not found.interval[0] <= factor <= found.interval[1]


def test_the_gain_of_a_hypernet() -> None:
    assert assert_gain(generated, 1.0, law="exact", tolerance=0.1).verdict == "VERIFIED"
    for lost in (2.0, 0.5, 1 / 6):  # a ReLU's factor, a bias share, a Var(e)
        with pytest.raises(RefutedError):
            assert_gain(generated, lost, law="exact", tolerance=0.1)


def test_values_can_be_given() -> None:
    values = normals(3, 60_000)
    for given in (values, values.numpy(), values.tolist(), values.requires_grad_()):
        found = assert_second_moment(given, 1, law="exact", tolerance=0.1)
        assert (found.df, found.draws, found.seed) == (60_000, 0, None)
    before = torch.rand(60_000, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    after = values.detach() * before.sqrt()
    assert assert_gain((after, before), 1.0, law="exact", tolerance=0.1).df == 60_000
    with pytest.raises(RefutedError):
        assert_gain((after, before), 2.0, law="exact")


def test_arrays_and_single_replicates_are_alike() -> None:
    def batched(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        return normals(seed).view(20, 25).square().sum(1), torch.full((20,), 25)

    def broadcast(seed: int) -> tuple[torch.Tensor, int]:
        return normals(seed).view(20, 25).square().sum(1), 25

    one, two, three = (
        assert_second_moment(d, 1.0, law="exact") for d in (draw, batched, broadcast)
    )
    assert one.measured == pytest.approx(two.measured, rel=1e-12)
    assert (one.df, two) == (two.df, three)


def test_inputs_of_zero_carry_no_evidence() -> None:
    def halved(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        before = np.array([0.0, 1.0])
        return np.array([0.0, float(normals(seed).square().sum())]), before, np.array([500, 500])

    assert assert_gain(halved, 1.0, law="exact").df == assert_gain(
        lambda seed: (draw(seed)[0], 1.0, 500), 1.0, law="exact"
    ).df  # fmt: skip
    with pytest.raises(InconclusiveError, match="not one degree of freedom"):
        assert_gain(lambda seed: (0.0, 0.0, 500), 1.0, law="exact")
    with pytest.raises(RefutedError, match="not 0 behind an input of 0"):
        assert_gain(lambda seed: (draw(seed)[0], 0.0, 500), 1.0, law="exact")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_refuted(bad: float) -> None:
    with pytest.raises(RefutedError, match="not finite"):
        assert_second_moment(lambda seed: (bad, 3), 1.0, law="exact")


def test_too_little_evidence_is_a_failure_of_its_own_kind() -> None:
    with pytest.raises(InconclusiveError) as caught:
        assert_second_moment(normals(0, 300), 1.0, law="exact", what="W")
    assert not isinstance(caught.value, RefutedError)
    text = str(caught.value)
    assert text.startswith("INCONCLUSIVE: the second moment of W (nothing is contradicted")
    assert "give more values" in text
    assert f"up to {df_cap(0.05, 1e-3, 1e-6):,} degrees of freedom" in text
    with pytest.raises(InconclusiveError, match="raise max_df"):
        assert_second_moment(draw, 1.0, law="exact", max_df=1000)


def test_rates_at_loose_levels() -> None:
    levels: dict[str, Any] = {"alpha": 0.05, "beta": 0.05, "tolerance": 0.3, "law": "exact"}

    def outcome(expected: float, seed: int) -> str:
        try:
            return assert_second_moment(
                lambda s: (float(normals(s, 20).square().sum()), 20), expected, seed=seed, **levels
            ).verdict
        except CheckFailedError as error:
            return error.failed[0].verdict

    true = [outcome(1.0, seed) for seed in range(200)]
    off = [outcome(1 / 1.3, seed) for seed in range(200)]
    # Binomial(200, .05) exceeds 27 with a chance below 1e-6.
    assert true.count("REFUTED") <= 27
    assert true.count("INCONCLUSIVE") <= 27
    assert off.count("VERIFIED") <= 27


# --- Planning. --------------------------------------------------------------------------------------


def test_siblings_are_inverse_to_each_other() -> None:
    for df in (500, 20_000):
        d = min_discrepancy_second_moment(df, alpha=1e-9)
        assert d == planning.least_detectable_discrepancy(df, 1e-9, 1e-3, 0.05)
        assert min_df_second_moment(d * (1 + 1e-9), alpha=1e-9) <= df
        assert min_df_second_moment(d * 0.99, alpha=1e-9) > df
    assert min_df_gain(0.5, law="conservative") == min_df_second_moment(0.5, law="conservative")
    assert min_discrepancy_gain(5000) == min_discrepancy_second_moment(5000)
    assert min_df_second_moment(0.2, alpha=1e-6, checks=1000) == pytest.approx(
        min_df_second_moment(0.2, alpha=1e-9), abs=1
    )


def test_a_discrepancy_is_detected_with_the_promised_power() -> None:
    d, beta = 0.2, 0.1
    df = min_df_second_moment(d, alpha=1e-3, beta=beta)
    rng = np.random.default_rng(0)
    for theta in (1 + d, 1 / (1 + d)):
        seen = [confidence_sequence(S, df, 1e-3, 0.05) for S in theta * rng.chisquare(df, size=400)]
        missed = sum(low <= 1 <= high for low, high in seen)
        assert missed <= 75  # Binomial(400, .1) exceeds 75 with a chance below 1e-7


# --- Determinism. -----------------------------------------------------------------------------------


def test_a_finding_follows_from_seed_and_name_alone() -> None:
    first = assert_second_moment(draw, 1.0, law="exact", what="a", seed=5)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - the global generator must not matter
    state = torch.get_rng_state()
    assert assert_second_moment(draw, 1.0, law="exact", what="a", seed=5) == first
    assert torch.equal(state, torch.get_rng_state())
    others = [
        assert_second_moment(draw, 1.0, law="exact", what="a", seed=6),
        assert_second_moment(draw, 1.0, law="exact", what="b", seed=5),
    ]
    assert len({found.measured for found in [first, *others]}) == 3


def test_no_seed_is_used_twice() -> None:
    seen: list[int] = []

    def noting(seed: int) -> tuple[float, int]:
        seen.append(seed)
        return float(normals(seed, 10).square().sum()), 10

    assert_second_moment(noting, 1.0, law="exact", tolerance=0.2)
    assert seen[0] == seen[1]  # the repetition that unmasks a careless draw
    assert len(set(seen)) == len(seen) - 1
    assert all(0 <= seed < 2**32 for seed in seen)


# --- Words. -----------------------------------------------------------------------------------------


def test_a_refuted_second_moment_tells_its_story() -> None:
    with pytest.raises(RefutedError) as caught:
        assert_second_moment(draw, 0.5, law="exact", what="W of the head", seed=3, checks=10)
    text = str(caught.value)
    found = caught.value.failed[0]
    assert text.startswith("REFUTED: the second moment of W of the head\n")
    for part in (
        "predicted   0.5",
        f"measured    {found.measured:.6g}, {found.measured / 0.5:.4g} times the prediction",
        f"interval    {found.interval[0]:.6g} to {found.interval[1]:.6g}",
        "with a chance of at most 1e-07",
        "500 degrees of freedom under the law 'exact', 1 draw\n",
        "verdict     REFUTED: ",
        "seed        3; the first draw was draw(",
        "again       the same call with seed=3",
    ):
        assert part in text
    first = int(text.partition("draw(")[2].partition(")")[0])
    assert float(draw(first)[0]) / 500 == pytest.approx(found.measured)


def test_given_values_have_no_seed_to_tell() -> None:
    with pytest.raises(RefutedError) as caught:
        assert_second_moment(normals(0), 3.0, law="exact")
    assert "the values that were given" in str(caught.value)
    assert "seed" not in str(caught.value)


# --- A spec. ----------------------------------------------------------------------------------------


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """An initializer of H that lost a factor of 2."""

    def wrong(spec: HypernetSpec) -> dict[str, Draw]:
        return {
            name: replace(d, variance=d.variance / 2) if name.startswith("output") else d
            for name, d in plan(spec).items()
        }

    monkeypatch.setattr(study_module, "plan", wrong)


def test_a_right_spec_passes() -> None:
    checks = assert_verified(SPEC, tolerance=0.1)
    assert len(checks) > 5
    assert {check.verdict for check in checks} == {"VERIFIED"}
    assert {check.alpha for check in checks} == {1e-6 / len(checks)}
    some = assert_verified(SPEC, quantities=("forward",), tolerance=0.1, checks=len(checks), seed=0)
    timeless = [check.model_dump(exclude={"seconds"}) for check in checks]
    assert all(check.model_dump(exclude={"seconds"}) in timeless for check in some)


def test_a_wrong_spec_tells_its_story(planted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RefutedError) as caught:
        assert_verified(SPEC, tolerance=0.1, seed=4)
    text = str(caught.value)
    assert " checks of this hyperfan-in hypernet" in text.splitlines()[0]
    check = caught.value.failed[0]
    for part in (
        "LayerSpec(6, 8, relu=True),",
        "EmbeddingSpec(5),",
        "claim       ",
        f"predicted   {check.predicted:.6g}",
        f"measured    {check.measured:.6g}, 0.",
        f"{check.df:,} degrees of freedom",
    ):
        assert part in text
    # The command comes to the same digits.
    (line,) = [line for line in text.splitlines() if line.startswith("  again")]
    program, flag, code = shlex.split(line.removeprefix("  again"))
    assert (program, flag) == ("python", "-c")
    with pytest.raises(RefutedError) as repeated:
        exec(code, {})  # noqa: S102 - what the message asks the reader to run
    assert [_digits(c) for c in repeated.value.failed] == [_digits(c) for c in caught.value.failed]


def _digits(check: Any) -> dict[str, object]:
    return check.model_dump(exclude={"seconds"})


def test_an_undecided_spec_is_not_called_refuted() -> None:
    checks = synthetic_checks(200)
    undecided = [check for check in checks if check.verdict == "INCONCLUSIVE"]
    refuted = [check for check in checks if check.verdict == "REFUTED"]
    with pytest.raises(InconclusiveError, match=r"1 of 1 checks .* not a pass"):
        refuse_checks(SPEC, undecided[:1], {"seed": 0})
    with pytest.raises(RefutedError, match=r"REFUTED: 1 of 2 .*\(1 more are INCONCLUSIVE\)"):
        refuse_checks(SPEC, [undecided[0], refuted[0]], {"seed": 0})


@pytest.mark.parametrize("suite", ["quick", "paper"])
def test_a_spec_in_words_makes_the_spec(suite: str) -> None:
    from hyperverify import specs

    names = {name: getattr(specs, name) for name in specs.__all__}
    for study in studies(suite):
        for text in (short(study.spec), in_lines(study.spec)):
            assert eval(text, dict(names)) == study.spec  # noqa: S307 - our own text
            assert "'" not in text  # it stands between a shell's quotes


# --- What is refused. -------------------------------------------------------------------------------


def test_careless_draws_are_refused() -> None:
    with pytest.raises(HyperverifyError, match="called with the same seed again"):
        assert_second_moment(lambda seed: (torch.randn(9).square().sum(), 9), 1.0, law="exact")
    with pytest.raises(HyperverifyError, match="the same for three seeds"):
        assert_second_moment(lambda seed: draw(7), 1.0, law="exact")


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "expected_zero": (lambda: assert_second_moment(draw, 0.0, law="exact"), "expected is 0.0"),
    "expected_nan": (lambda: assert_second_moment(draw, math.nan, law="exact"), "expected is nan"),
    "law": (lambda: assert_second_moment(draw, 1.0, law="normal"), "law is 'normal'; allowed: 'exac"),
    "tolerance": (lambda: assert_second_moment(draw, 1.0, law="exact", tolerance=0), "tolerance"),
    "alpha": (lambda: assert_second_moment(draw, 1.0, law="exact", alpha=1), "alpha_run is 1"),
    "checks": (lambda: assert_second_moment(draw, 1.0, law="exact", checks=0), "checks is 0"),
    "seed": (lambda: assert_second_moment(draw, 1.0, law="exact", seed=-1), "seed is -1"),
    "max_df": (lambda: assert_second_moment(draw, 1.0, law="exact", max_df=0), "max_df is 0"),
    "entries_of_a_draw": (
        lambda: assert_second_moment(torch.ones(3, 3), 1.0, law="exact"),
        "share its features",
    ),
    "no_values": (lambda: assert_second_moment([], 1.0, law="exact"), "shape (0,)"),
    "text": (lambda: assert_second_moment("abc", 1.0, law="exact"), "sample is 'abc'"),
    "complex": (lambda: assert_second_moment([1j], 1.0, law="exact"), "real numbers"),
    "returns_a_number": (
        lambda: assert_second_moment(lambda s: 1.0, 1.0, law="exact"),  # type: ignore[arg-type]
        "a tuple (sum_of_squares, df)",
    ),
    "returns_three": (lambda: assert_second_moment(generated, 1.0, law="exact"), "a tuple (sum_of"),
    "negative_sum": (
        lambda: assert_second_moment(lambda s: (-1.0, 3), 1.0, law="exact"),
        "sum_of_squares is -1.0",
    ),
    "fractional_df": (lambda: assert_second_moment(lambda s: (1.0, 1.5), 1.0, law="exact"), "df is"),
    "groundless": (
        lambda: assert_second_moment(lambda s: (1.0, 0), 1.0, law="exact"),
        "sum_of_squares is 1.0; allowed: 0 where df is 0",
    ),
    "negative_df": (lambda: assert_second_moment(lambda s: (1.0, -1), 1.0, law="exact"), "df is -1"),
    "lengths": (
        lambda: assert_second_moment(lambda s: ([1.0, 2.0, 3.0], [1, 2]), 1.0, law="exact"),
        "arrays of one length",
    ),
    "negative_before": (
        lambda: assert_gain(lambda s: (1.0, -1.0, 3), 1.0, law="exact"),
        "before is -1.0",
    ),
    "after_alone": (lambda: assert_gain([1.0, 2.0], 1.0, law="exact"), "a pair (after, before)"),
    "gain_lengths": (lambda: assert_gain(([1.0, 2.0], [1.0]), 1.0, law="exact"), "before is '1 val"),
    "discrepancy": (lambda: min_df_gain(0.0), "discrepancy is 0.0"),
    "df": (lambda: min_discrepancy_gain(0), "nu is 0"),
    "no_spec": (lambda: assert_verified("hyperfan-in"), "a HypernetSpec"),  # type: ignore[arg-type]
    "quantity": (lambda: assert_verified(SPEC, quantities=("biases",)), "quantity is 'biases'"),
    "budget": (lambda: assert_verified(SPEC, checks=3), "the error budget is for 3 checks"),
    "device": (lambda: assert_verified(SPEC, device="tpu"), "device is 'tpu'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    call, part = REFUSED[name]
    with pytest.raises(HyperverifyError) as caught:
        call()
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, BadArgument) or name == "budget"


def test_an_initializer_without_a_name_is_in_no_command() -> None:
    def local(model: Hypernet, *, generator: torch.Generator) -> None:
        init_hypernet_(model, generator=generator)
        torch.nn.init.zeros_(model.get_parameter("output_layers.0.weight"))

    with pytest.raises(RefutedError) as error:
        assert_verified(SPEC, quantities=("weights",), tolerance=0.3, initializer=local)
    assert re.search(
        r"again +by the same call: .*<locals>\.local cannot be imported", str(error.value)
    )
    assert "python -c" not in str(error.value)
