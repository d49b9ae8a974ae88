"""Precision, compiler and device change the rounding of a measurement, never its verdict.

A rule is about real numbers. Whether the nets are computed in float64, float32 or bfloat16, line by line
(eager) or through `torch.compile`, on a CPU or a GPU: every check comes to VERIFIED, and what is measured
agrees. How closely, is stated beforehand:

- Eager and compiled nets begin with the same draws. What is left between two measurements is rounding,
  at most `hyperverify.rounding.rounding_allowance` (derived there from the unit roundoff, the lengths of
  the sums and the df).
- So do float32 and bfloat16, and where both look at the same squares (embeddings, and the weights and
  biases of an output layer a layer) the allowance of bfloat16 holds. Embeddings of one modulus are
  rounded alike in every entry, which averages nothing out: two unit roundoffs more, 0.4%. Elsewhere
  bfloat16 leaves out directions that it cannot tell from dependent ones, and looks at other squares.
- Float64 draws other numbers, and so does a GPU. Wherever draws or squares are others, each measurement
  has its own confidence interval for one truth: the two may lie apart by half of both, and by rounding.
"""

from __future__ import annotations

import shutil
from fractions import Fraction

import pytest
import torch
from hypothesis import Phase, example, given, settings

from hyperverify.pytest_session import Session
from hyperverify.rounding import rounding_allowance, unit_roundoff
from hyperverify.specs import EmbeddingSpec, HypernetSpec, LayerSpec, TrunkLayerSpec
from hyperverify.store import Check
from hyperverify.strategies import dtypes, hypernets
from properties.profiles import BOUNDS, PROFILE, most

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}
CHECKS = most(14, 10)  # of one spec, in one precision

EVERYTHING = HypernetSpec(
    (LayerSpec(4, 6, relu=True, bias=True), LayerSpec(6, 5, bias=True)),
    EmbeddingSpec(4, "normal", Fraction(2), Fraction(1, 2)),
    "hyperfan-in",
    trunk=(TrunkLayerSpec(5, relu=True),),
    bias_embedding=EmbeddingSpec(3),
)
"""A ReLU, generated biases, a trunk, a mean: what one structure can have."""

# Measurements that disagree are no failure of a check, so shrinking would spend what was not counted.
few = settings(
    settings.get_profile(PROFILE),
    max_examples={"dev": 5, "glance": 2, "ci": 12, "nightly": 60}.get(PROFILE, 5),
    phases=(Phase.explicit, Phase.generate),
)
# A structure takes seconds to compile: in dev the explicit example alone.
compiled = settings(
    few,
    max_examples={"ci": 3, "nightly": 12}.get(PROFILE, 1),
    phases=(Phase.explicit, Phase.generate) if PROFILE in ("ci", "nightly") else (Phase.explicit,),
)
needs_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("g++", "clang++")),
    reason="no C++ compiler (g++ or clang++)",
)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")


def same_squares(check: Check, spec: HypernetSpec) -> bool:
    """Whether a check looks at the same squares in any precision: no direction is ever left out."""
    generated = check.quantity in ("weights", "biases") and spec.output == "own"
    return generated or check.quantity == "embedding"


def assert_agree(
    one: Check, other: Check, dtype: str, *, same_draws: bool, stored: bool = False
) -> None:
    """Two measurements of one claim agree.

    Args:
        one, other: the measurements.
        dtype: what they are rounded to, the coarser one of two.
        same_draws: whether they may lie apart by rounding alone.
        stored: whether one has the draws themselves rounded.
    """
    assert one.id == other.id
    rounding = rounding_allowance(
        HypernetSpec.from_dict(one.spec), DTYPES[dtype], min(one.df, other.df)
    )
    if stored and one.quantity == "embedding":
        rounding += 2 * unit_roundoff(DTYPES[dtype])
    allowed = rounding * abs(one.predicted)
    if not same_draws:
        allowed += sum((check.interval[1] - check.interval[0]) / 2 for check in (one, other))
    assert abs(one.measured - other.measured) <= allowed


@pytest.mark.hyperverify(checks=3 * CHECKS)
@few
@given(hypernets(**BOUNDS))
def test_no_precision_changes_a_verdict(hyperverify: Session, spec: HypernetSpec) -> None:
    double, single, half = (
        hyperverify.verify(spec, tolerance=0.1, dtype=dtype, backend="eager") for dtype in DTYPES
    )
    # An initializer of one's own may draw other numbers in another precision.
    ours = hyperverify.options.initializer is None
    for fine, medium, coarse in zip(double, single, half, strict=True):
        same = ours and same_squares(medium, spec)
        assert_agree(medium, coarse, "bfloat16", same_draws=same, stored=True)
        assert_agree(fine, medium, "float32", same_draws=False)


@needs_compiler
@pytest.mark.slow
@pytest.mark.hyperverify(checks=2 * CHECKS)
@compiled
@example(spec=EVERYTHING, dtype="float32")
@given(spec=hypernets(**BOUNDS), dtype=dtypes())
def test_the_compiler_changes_no_verdict(
    hyperverify: Session, spec: HypernetSpec, dtype: str
) -> None:
    eager, fused = (
        hyperverify.verify(spec, tolerance=0.1, dtype=dtype, backend=backend)
        for backend in ("eager", "compile")
    )
    for one, other in zip(eager, fused, strict=True):
        # The slope of a chain is a logarithm: what is allowed relative to it says nothing.
        same = one.df == other.df and one.quantity != "depth"
        assert_agree(one, other, dtype, same_draws=same)


@needs_cuda
@pytest.mark.cuda
@pytest.mark.hyperverify(checks=2 * CHECKS)
@few
@given(spec=hypernets(**BOUNDS), dtype=dtypes())
def test_no_device_changes_a_verdict(hyperverify: Session, spec: HypernetSpec, dtype: str) -> None:
    here, there = (
        hyperverify.verify(spec, tolerance=0.1, dtype=dtype, backend="eager", device=device)
        for device in ("cpu", "cuda")
    )
    for one, other in zip(here, there, strict=True):
        assert_agree(one, other, dtype, same_draws=False)
