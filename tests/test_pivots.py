"""Pivots on data whose law is exact by construction, and against dense linear algebra."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from hyperverify import pivots
from hyperverify.pivots import Pivot

# One level for every goodness-of-fit test here, and one seed for each, named after it.
LEVEL = 1e-6
REPLICATES = 3000


def seeded(*path: object) -> torch.Generator:
    return torch.Generator().manual_seed(
        sum(ord(c) * 31**n for n, c in enumerate(f"{path}")) % 2**31
    )


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def fit(pivot: Pivot) -> float:
    """Kolmogorov and Smirnov's p-value of S ~ chi2_nu, through the uniform chi2 cdf."""
    S, nu = pivot
    assert S.dtype == torch.float64
    assert nu.dtype == torch.int64
    assert S.shape == nu.shape
    some = nu > 0
    assert (S[~some] == 0).all()
    uniform = stats.chi2.cdf(S[some].numpy(), nu[some].numpy())
    return float(stats.kstest(uniform, "uniform").pvalue)


def dense_projector(rows: Tensor) -> Tensor:
    """Projector on the row space of (n, d), by SVD in numpy."""
    _, s, vh = np.linalg.svd(rows.numpy(), full_matrices=False)
    kept = vh[s > 1e-9 * max(s.max(initial=0.0), 1e-300)]
    return torch.from_numpy(kept.T @ kept)


# --- Scaling ------------------------------------------------------------------------------------


def test_scaling_is_the_same_whether_or_not_some_unit_is_dead() -> None:
    """Replicates without a dead unit take a shorter way, unless another has one."""
    generator = seeded("short way")
    values, variance = normal(generator, 6, 3, 2), normal(generator, 6, 3, 1).square() + 0.1
    S, nu = pivots.scaled_squares(values, variance)
    values = torch.cat([values, torch.zeros(1, 3, 2, dtype=torch.float64)])
    dead = torch.cat([variance, torch.zeros(1, 3, 1, dtype=torch.float64)])
    longer = pivots.scaled_squares(values, dead)
    torch.testing.assert_close(longer[0][:6], S, rtol=1e-14, atol=0)
    assert nu.dtype == longer[1].dtype == torch.int64
    assert nu.tolist() == [6] * 6
    assert longer[1].tolist() == [6] * 6 + [0]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_net_that_blew_up_is_seen_on_the_short_way(value: float) -> None:
    values = torch.ones(2, 3, dtype=torch.float64)
    values[1, 2] = value
    S, nu = pivots.scaled_squares(values, torch.ones(2, 1, dtype=torch.float64))
    assert S[0] == 3
    assert not S[1].isfinite()
    assert nu.tolist() == [3, 3]


# --- The laws -----------------------------------------------------------------------------------


def scaled_case(generator: torch.Generator, scale: float) -> Pivot:
    variance = torch.rand(REPLICATES, 3, 1, dtype=torch.float64, generator=generator) + 0.1
    variance[::7, 1] = 0  # dead units
    values = normal(generator, REPLICATES, 3, 2) * variance.sqrt()
    return pivots.scaled_squares(values, variance * scale)


def batch_case(generator: torch.Generator, scale: float) -> Pivot:
    """z = W x for a batch of inputs, two of which are parallel and one of which is dead."""
    x = normal(generator, REPLICATES, 4, 3)
    x[:, 2] = -2 * x[:, 0]
    x[::5, 1] = 0
    W = normal(generator, REPLICATES, 6, 3) * 0.7
    return pivots.whitened_squares(0.49 * scale * x @ x.transpose(1, 2), x @ W.transpose(1, 2))


def chain_case(generator: torch.Generator, scale: float) -> Pivot:
    """One W in three layers, each reading the ReLU of the one before: rows depend on the past."""
    x, W = [normal(generator, REPLICATES, 4)], normal(generator, REPLICATES, 4, 4) * 0.6
    z: list[Tensor] = []
    for _ in range(3):
        z.append(torch.einsum("rij,rj->ri", W, x[-1]))
        x.append(z[-1].relu())
    rows = torch.stack(x[:3], dim=1)
    gram = 0.36 * scale * rows @ rows.transpose(1, 2)
    squares, fresh = pivots.innovations(gram, torch.stack(z, dim=1))
    assert not fresh.all()  # some chains die
    return squares.sum(-1), 4 * fresh.sum(-1)


def tall_case(generator: torch.Generator, scale: float) -> Pivot:
    features, H = normal(generator, REPLICATES, 7, 3), normal(generator, REPLICATES, 5, 3) * 1.5
    return pivots.least_squares(features, features @ H.transpose(1, 2), 2.25 * scale)


def wide_case(generator: torch.Generator, scale: float) -> Pivot:
    """Fewer rows than features, one of them twice."""
    features, H = normal(generator, REPLICATES, 3, 6), normal(generator, REPLICATES, 2, 6)
    features[:, 2] = features[:, 0]
    return pivots.least_squares(features, features @ H.transpose(1, 2), scale)


def direction_case(generator: torch.Generator, scale: float) -> Pivot:
    """v depends on the part along the directions in any way at all; off them it is normal."""
    directions = normal(generator, REPLICATES, 3, 6)
    directions[::2, 1] = 3 * directions[::2, 0]
    directions[::3, 0] = 0
    variance = torch.rand(REPLICATES, dtype=torch.float64, generator=generator)
    variance[::11] = 0
    v = normal(generator, REPLICATES, 6) * variance.sqrt()[:, None]
    v = v + torch.einsum("rnd,rn->rd", directions, v[:, :3].exp() * 5)
    return pivots.off_directions(v, directions, variance * scale)


def masked_case(generator: torch.Generator, scale: float) -> Pivot:
    """A batch through W and ReLU, and back: the masks depend on W, but only along the inputs."""
    X = normal(generator, REPLICATES, 3, 6)
    X[::2, 1] = -X[::2, 0]  # as signs do, where they are few
    X[::3, 2] = 0
    W = normal(generator, REPLICATES, 2, 6) * 0.5
    z = X @ W.transpose(1, 2)
    delta = (z > 0) * normal(generator, REPLICATES, 3, 2) * (1 + z.square())
    variance = torch.full((REPLICATES,), 0.25 * scale)
    return pivots.off_rows(delta @ W, X, delta, variance)


CASES = {
    "scaled_squares": scaled_case,
    "whitened_squares": batch_case,
    "innovations": chain_case,
    "least_squares, tall": tall_case,
    "least_squares, wide": wide_case,
    "off_directions": direction_case,
    "off_rows": masked_case,
}
Case = Callable[[torch.Generator, float], Pivot]


@pytest.mark.parametrize("name", CASES)
def test_pivots_are_chi_square(name: str) -> None:
    assert fit(CASES[name](seeded(name), 1.0)) > LEVEL


@pytest.mark.parametrize("scale", [1.3, 1 / 1.3])
@pytest.mark.parametrize("name", CASES)
def test_a_wrong_variance_is_seen(name: str, scale: float) -> None:
    assert fit(CASES[name](seeded(name), scale)) < LEVEL


SHAPES: dict[str, list[tuple[int, ...]]] = {
    "scaled_squares": [(9, 4), (9, 4)],
    "whitened_squares": [(9, 3, 3), (9, 3, 2)],
    "innovations": [(9, 3, 3), (9, 3, 2)],
    "off_directions": [(9, 5), (9, 2, 5), (9,)],
    "off_rows": [(9, 2, 5), (9, 2, 5), (9, 2, 4), (9,)],
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", SHAPES)
def test_low_precision_data_is_taken_as_it_is_and_summed_in_float64(
    name: str, dtype: torch.dtype
) -> None:
    generator = seeded("float64", name)
    data = [normal(generator, *shape).abs().to(dtype) for shape in SHAPES[name]]
    if "off" not in name and len(SHAPES[name][0]) == 3:  # a Gram matrix
        data[0] = (data[0] @ data[0].transpose(1, 2)).to(dtype)
    function = getattr(pivots, name)
    low, high = function(*data), function(*(tensor.double() for tensor in data))
    assert low[0].dtype == torch.float64
    assert torch.equal(low[0], high[0])
    assert torch.equal(low[1], high[1])


# --- scaled_squares -----------------------------------------------------------------------------


def test_scaled_squares_by_hand() -> None:
    values = torch.tensor([[1.0, 2.0, 0.0], [3.0, 0.0, 6.0]])
    variance = torch.tensor([[0.5, 4.0, 0.0], [9.0, 0.0, 4.0]])
    S, nu = pivots.scaled_squares(values, variance)
    assert S.tolist() == [3.0, 10.0]
    assert nu.tolist() == [2, 2]


def test_scaled_squares_broadcasts() -> None:
    values = normal(seeded("broadcast"), 5, 2, 3)
    S, nu = pivots.scaled_squares(values, torch.full((5, 1, 1), 4.0))
    torch.testing.assert_close(S, values.square().sum((1, 2)) / 4)
    assert nu.tolist() == [6] * 5


@pytest.mark.parametrize("value", [1e-300, -1.0, math.inf, math.nan])
def test_a_broken_zero_is_infinite(value: float) -> None:
    values = torch.tensor([[1.0, 0.0], [1.0, value]], dtype=torch.float64)
    S, nu = pivots.scaled_squares(values, torch.tensor([[1.0, 0.0]]))
    assert S.tolist() == [1.0, math.inf]
    assert nu.tolist() == [1, 1]


def test_all_dead_counts_nothing() -> None:
    S, nu = pivots.scaled_squares(torch.zeros(3, 4), torch.zeros(3, 1))
    assert S.tolist() == [0, 0, 0]
    assert nu.tolist() == [0, 0, 0]


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_values_that_are_not_finite_stay_so(value: float) -> None:
    S, _ = pivots.scaled_squares(torch.tensor([[value, 1.0]]), torch.ones(1, 1))
    assert not S.isfinite().any()
    gram = torch.eye(2)[None]
    S, _ = pivots.whitened_squares(gram, torch.tensor([[[1.0], [value]]]))
    assert not S.isfinite().any()


# --- innovations --------------------------------------------------------------------------------


def some_gram(generator: torch.Generator, count: int, n: int, rank: int) -> Tensor:
    rows = normal(generator, count, n, rank)
    return rows @ rows.transpose(1, 2)


def test_innovations_are_those_of_a_dense_cholesky() -> None:
    generator = seeded("cholesky")
    gram, targets = some_gram(generator, 8, 5, 9), normal(generator, 8, 5, 3)
    squares, fresh = pivots.innovations(gram, targets)
    lower = torch.linalg.cholesky(gram)
    whitened = torch.linalg.solve_triangular(lower, targets, upper=False)
    torch.testing.assert_close(squares, whitened.square().sum(-1), rtol=1e-9, atol=0)
    assert fresh.all()


def test_innovations_look_at_the_past_only() -> None:
    generator = seeded("past")
    gram, targets = some_gram(generator, 4, 6, 9), normal(generator, 4, 6, 2)
    squares, _ = pivots.innovations(gram, targets)
    for n in range(1, 6):
        first, _ = pivots.innovations(gram[:, :n, :n], targets[:, :n])
        torch.testing.assert_close(first, squares[:, :n], rtol=1e-12, atol=0)


@pytest.mark.parametrize("rank", [0, 1, 2, 4])
def test_rank_deficient_grams_are_whitened_by_their_pseudo_inverse(rank: int) -> None:
    generator = seeded("rank", rank)
    rows = normal(generator, 6, 5, rank)
    gram, targets = rows @ rows.transpose(1, 2), rows @ normal(generator, 6, rank, 3)
    S, nu = pivots.whitened_squares(gram, targets)
    assert nu.tolist() == [3 * rank] * 6
    inverse = torch.linalg.pinv(gram, hermitian=True, rtol=1e-9)
    expected = torch.einsum("rnm,rnk,rkm->r", targets, inverse, targets)
    torch.testing.assert_close(S, expected, rtol=1e-7, atol=1e-12)


def test_dead_and_repeated_rows_are_skipped_where_they_stand() -> None:
    generator = seeded("dead")
    rows = normal(generator, 3, 5, 4)
    rows[:, 1] = 0
    rows[:, 3] = -2 * rows[:, 0]
    rows[0, 0] = 0  # then its double is dead too
    rows[0, 3] = 0
    gram, targets = rows @ rows.transpose(1, 2), rows @ normal(generator, 3, 4, 2)
    squares, fresh = pivots.innovations(gram, targets)
    expected = [[False, False, True, False, True], *[[True, False, True, False, True]] * 2]
    assert fresh.tolist() == expected
    assert (squares[~fresh] == 0).all()
    kept = [0, 2, 4]
    alone, _ = pivots.innovations(gram[1:, kept][:, :, kept], targets[1:, kept])
    torch.testing.assert_close(squares[1:, kept], alone)


@pytest.mark.parametrize("value", [1e-300, math.nan, math.inf])
def test_a_dead_row_that_is_not_zero_is_infinite(value: float) -> None:
    gram = torch.diag_embed(torch.tensor([[1.0, 0.0, 1.0]]).double()).expand(2, 3, 3)
    targets = torch.ones(2, 3, 2, dtype=torch.float64)
    targets[:, 1] = 0
    targets[1, 1, 1] = value
    S, nu = pivots.whitened_squares(gram, targets)
    assert S.tolist() == [4.0, math.inf]
    assert nu.tolist() == [4, 4]


def test_a_variance_that_is_no_number_is_infinite() -> None:
    """Nets that blow up must not drop out of the count."""
    gram = torch.eye(3, dtype=torch.float64).repeat(2, 1, 1)
    gram[1] = math.nan
    S, _ = pivots.whitened_squares(gram, torch.ones(2, 3, 1))
    assert S.tolist() == [3.0, math.inf]
    S, _ = pivots.scaled_squares(torch.ones(1, 2), torch.tensor([[1.0, math.nan]]))
    assert S.tolist() == [math.inf]


def test_the_scale_of_a_row_does_not_decide_whether_it_is_new() -> None:
    generator = seeded("scales")
    rows = normal(generator, 4, 3, 5) * torch.tensor([1e-6, 1.0, 1e6], dtype=torch.float64)[:, None]
    S, nu = pivots.whitened_squares(rows @ rows.transpose(1, 2), rows @ normal(generator, 4, 5, 2))
    assert nu.tolist() == [6] * 4
    assert (S < 100).all()


def test_a_variance_beyond_all_numbers_is_infinite() -> None:
    """What overflows float32 is infinite when it gets here."""
    gram = torch.eye(3, dtype=torch.float64).repeat(2, 1, 1)
    gram[1, 1, 1] = math.inf
    S, _ = pivots.whitened_squares(gram, torch.ones(2, 3, 1))
    assert S.tolist() == [3.0, math.inf]


def test_a_replicate_is_judged_alike_whoever_stands_beside_it() -> None:
    """To the last digit: otherwise one degenerate net would change what all others say."""
    generator = seeded("neighbours")
    gram, targets = some_gram(generator, 20, 6, 9), normal(generator, 20, 6, 3)
    squares, fresh = pivots.innovations(gram, targets)
    gram[0, 3], gram[0, :, 3], targets[0, 3] = 0, 0, 0
    beside, still = pivots.innovations(gram, targets)
    assert not still[0, 3]
    assert torch.equal(beside[1:], squares[1:])
    assert torch.equal(still[1:], fresh[1:])


def test_with_a_degenerate_first_row_alone_nothing_is_left() -> None:
    squares, fresh = pivots.innovations(torch.zeros(2, 1, 1), torch.zeros(2, 1, 4))
    assert squares.tolist() == [[0], [0]]
    assert fresh.tolist() == [[False], [False]]


# --- least_squares ------------------------------------------------------------------------------


def test_least_squares_finds_all_of_H() -> None:
    generator = seeded("least squares")
    features, H = normal(generator, 4, 6, 3), normal(generator, 4, 5, 3)
    S, nu = pivots.least_squares(features, features @ H.transpose(1, 2), 0.5)
    torch.testing.assert_close(S, H.square().sum((1, 2)) / 0.5)
    assert nu.tolist() == [15] * 4


def test_least_squares_finds_the_part_that_the_features_reach() -> None:
    generator = seeded("least squares, rank")
    features, H = normal(generator, 4, 5, 4), normal(generator, 4, 2, 4)
    features[:, 3] = features[:, 0] + features[:, 1]
    features[:, 4] = features[:, 2] = 0
    S, nu = pivots.least_squares(features, features @ H.transpose(1, 2), 2.0)
    assert nu.tolist() == [4] * 4
    for r in range(4):
        reached = H[r] @ dense_projector(features[r])
        torch.testing.assert_close(S[r], reached.square().sum() / 2)


def test_least_squares_leaves_out_what_the_features_do_not_show() -> None:
    """Rounding in a direction where the features are weak would be magnified without bound."""
    generator = seeded("least squares, noise")
    features, H = normal(generator, 4, 3, 6), normal(generator, 4, 2, 6)
    features[:, 2] = features[:, 0]
    targets = features @ H.transpose(1, 2)
    clean, _ = pivots.least_squares(features, targets, 1.0)
    targets[:, 2] += 1e3
    targets[:, 0] -= 1e3  # off the features' range
    noisy, nu = pivots.least_squares(features, targets, 1.0)
    assert nu.tolist() == [4] * 4
    torch.testing.assert_close(noisy, clean, rtol=1e-8, atol=0)


def test_each_replicate_has_features_of_its_own_size() -> None:
    generator = seeded("least squares, sizes")
    features, H = normal(generator, 3, 6, 3), normal(generator, 3, 5, 3)
    features *= torch.tensor([1e-9, 1.0, 1e9], dtype=torch.float64)[:, None, None]
    S, nu = pivots.least_squares(features, features @ H.transpose(1, 2), 1.0)
    assert nu.tolist() == [15] * 3
    torch.testing.assert_close(S, H.square().sum((1, 2)))


def test_features_that_are_all_zero_show_nothing() -> None:
    S, nu = pivots.least_squares(torch.zeros(2, 4, 3), torch.ones(2, 4, 5), 1.0)
    assert S.tolist() == [0, 0]
    assert nu.tolist() == [0, 0]


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_net_that_blows_up_stays_in_the_count(value: float) -> None:
    generator = seeded("blown up")
    features, targets = normal(generator, 2, 4, 3), normal(generator, 2, 4, 5)
    features[1, 2, 0] = value
    S, nu = pivots.least_squares(features, targets, 1.0)
    assert S.isfinite().tolist() == [True, False]
    assert nu.tolist() == [15, 15]
    v, directions = normal(generator, 2, 5), normal(generator, 2, 1, 5)
    S, nu = pivots.off_directions(v, directions, torch.tensor([1.0, math.nan]))
    assert S.isfinite().tolist() == [True, False]
    assert nu.tolist() == [4, 4]
    directions[1, 0, 3] = value
    S, _ = pivots.off_directions(v, directions, torch.ones(2))
    assert S.isfinite().tolist() == [True, False]


# --- The tolerance --------------------------------------------------------------------------------


def test_the_tolerance_by_hand() -> None:
    """1e4 eps^2, where that is above 1e-6: eps is 2^-52, 2^-23 and 2^-7."""
    assert pivots.rank_tolerance(torch.float64) == 1e-6
    assert pivots.rank_tolerance(torch.float32) == 1e-6
    assert pivots.rank_tolerance(torch.bfloat16) == 10_000 / 2**14


def test_a_row_with_exactly_the_least_share_is_left_out() -> None:
    """Half of the second row's variance is its own; beside a dead row as well as without one."""
    rows = torch.tensor([[[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]])
    gram, targets = rows @ rows.transpose(1, 2), torch.zeros(1, 3, 1)
    for kept in (2, 3):
        _, fresh = pivots.innovations(gram[:, :kept, :kept], targets[:, :kept], 0.5)
        assert fresh[0].tolist() == [True, False, False][:kept]


def test_a_row_counts_by_its_share_whatever_its_size() -> None:
    """Also where another row is dead: 4% of a row of length 0.01 or 100 is its own."""
    for size in (0.01, 100.0):
        rows = torch.tensor([[[1.0, 0.0], [math.sqrt(0.96), 0.2], [0.0, 0.0]]]).double()
        rows[:, 1] *= size
        gram, targets = rows @ rows.transpose(1, 2), rows @ torch.tensor([[2.0], [3.0]]).double()
        for tolerance, S, nu in ((0.039, 13.0, 2), (0.041, 4.0, 1)):
            for kept in (3, 2):
                found = pivots.whitened_squares(gram[:, :kept, :kept], targets[:, :kept], tolerance)
                assert found[0].item() == pytest.approx(S, rel=1e-9)
                assert found[1].tolist() == [nu]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_rounding_stays_below_a_hundredth_of_what_is_left(dtype: torch.dtype) -> None:
    tolerance = pivots.rank_tolerance(dtype)
    assert pivots.RANK_TOLERANCE <= tolerance < 1
    assert torch.finfo(dtype).eps / math.sqrt(tolerance) <= 0.01 * (1 + 1e-12)


def test_a_higher_tolerance_leaves_out_more() -> None:
    """Of the second row a share of 0.04 of its variance is its own."""
    rows = torch.tensor([[[1.0, 0.0], [math.sqrt(0.96), 0.2]]]).double()
    H = torch.tensor([[[2.0, 3.0]]]).double()
    targets = rows @ H.transpose(1, 2)
    gram = rows @ rows.transpose(1, 2)
    for tolerance, S, nu in ((0.039, 13.0, 2), (0.041, 4.0, 1)):
        found = pivots.whitened_squares(gram, targets, tolerance)
        assert found[0].item() == pytest.approx(S, rel=1e-9)
        assert found[1].tolist() == [nu]
    # the squared sizes of these rows are 1 + sqrt(0.96) and 1 - sqrt(0.96), 1 to 0.0102
    for tolerance, nu in ((0.0101, 2), (0.0103, 1)):
        assert pivots.least_squares(rows, targets, 1.0, tolerance)[1].tolist() == [nu]
    X, delta = torch.zeros(1, 2, 3).double(), rows
    G = delta @ torch.ones(1, 2, 3).double()
    for tolerance, nu in ((0.039, 6), (0.041, 3)):
        found = pivots.off_rows(G, X, delta, torch.ones(1), tolerance)
        assert found[1].tolist() == [nu]


# --- off_directions and off_rows ----------------------------------------------------------------

# directions as combinations of three independent vectors a, b and c
SPANS: dict[str, list[list[float]]] = {
    "one": [[1, 0, 0]],
    "independent": [[1, 0, 0], [0, 1, 0], [1, 1, 1]],
    "repeated, last": [[1, 0, 0], [0, 1, 0], [1, 0, 0]],
    "repeated, first": [[1, 0, 0], [1, 0, 0], [0, 1, 0]],
    "opposite, first": [[1, 0, 0], [-3, 0, 0], [0, 1, 0], [0, 0, 1]],
    "sum in the middle": [[1, 0, 0], [0, 1, 0], [1, 2, 0], [0, 0, 1]],
    "zero, first": [[0, 0, 0], [1, 0, 0], [0, 1, 0]],
    "zero, between": [[1, 0, 0], [0, 0, 0], [0, 1, 0]],
    "all zero": [[0, 0, 0], [0, 0, 0]],
    "tiny and large": [[1e-9, 0, 0], [0, 1e9, 0], [0, 0, 1]],
    "nearly parallel": [[1, 0, 0], [1, 1e-2, 0], [0, 0, 1]],
}
each_span = pytest.mark.parametrize("mixing", SPANS.values(), ids=SPANS.keys())


def spanned(
    generator: torch.Generator, count: int, mixing: list[list[float]]
) -> tuple[Tensor, int]:
    """Directions in R^7 and their rank."""
    mixed = torch.tensor(mixing, dtype=torch.float64)
    rows = mixed @ normal(generator, count, 3, 7)
    return rows, int(
        np.linalg.matrix_rank(mixed / mixed.norm(dim=1).clamp_min(1e-30)[:, None], 1e-7)
    )


@each_span
def test_off_directions_is_the_explicit_projection(mixing: list[list[float]]) -> None:
    generator = seeded("off", mixing)
    directions, rank = spanned(generator, 6, mixing)
    v, variance = normal(generator, 6, 7), torch.tensor([1, 2, 3, 4, 5, 0.0])
    S, nu = pivots.off_directions(v, directions, variance)
    assert nu.tolist() == [7 - rank] * 5 + [0]
    assert S[5] == 0
    for r in range(5):
        scaled = directions[r] / directions[r].norm(dim=-1).clamp_min(1e-30)[:, None]
        off = v[r] - dense_projector(scaled) @ v[r]
        torch.testing.assert_close(S[r], off.square().sum() / variance[r], rtol=1e-7, atol=1e-12)


@each_span
def test_off_directions_forgets_what_lies_along_them(mixing: list[list[float]]) -> None:
    generator = seeded("along", mixing)
    directions, _ = spanned(generator, 6, mixing)
    unit = directions / directions.norm(dim=-1, keepdim=True).clamp_min(1e-30)
    v, along = normal(generator, 6, 7), normal(generator, 6, len(mixing))
    one = torch.ones(6)
    plain, _ = pivots.off_directions(v, directions, one)
    moved, _ = pivots.off_directions(v + torch.einsum("rn,rnd->rd", along, unit), directions, one)
    torch.testing.assert_close(moved, plain, rtol=1e-7, atol=1e-9)


@each_span
def test_off_rows_is_the_explicit_projection(mixing: list[list[float]]) -> None:
    """S = tr(P G^T (Delta Delta^T)^+ G P) / v, also where a cotangent is dead."""
    generator = seeded("rows", mixing)
    X, rank = spanned(generator, 5, mixing)
    W, delta = normal(generator, 5, 6, 7), normal(generator, 5, len(mixing), 6)
    delta[0, 0] = 0
    variance = torch.tensor([0.5, 1.0, 2.0, 3.0, 4.0])
    S, nu = pivots.off_rows(delta @ W, X, delta, variance)
    live = [len(mixing) - 1] + [len(mixing)] * 4
    assert nu.tolist() == [(7 - rank) * n for n in live]
    for r in range(5):
        unit = X[r] / X[r].norm(dim=-1).clamp_min(1e-30)[:, None]
        off = torch.eye(7, dtype=torch.float64) - dense_projector(unit)
        G = delta[r] @ W[r] @ off
        inverse = torch.linalg.pinv(delta[r] @ delta[r].T, hermitian=True, rtol=1e-10)
        expected = torch.trace(G.T @ inverse @ G) / variance[r]
        torch.testing.assert_close(S[r], expected, rtol=1e-6, atol=1e-10)


@each_span
def test_row_basis_spans_the_rows(mixing: list[list[float]]) -> None:
    rows, rank = spanned(seeded("basis", mixing), 6, mixing)
    basis, found = pivots.row_basis(rows)
    assert found.tolist() == [rank] * 6
    projector = basis.transpose(1, 2) @ basis
    torch.testing.assert_close(projector @ projector, projector, rtol=0, atol=1e-12)
    traces = projector.diagonal(dim1=-2, dim2=-1).sum(-1)
    torch.testing.assert_close(traces, found.double(), rtol=1e-12, atol=0)
    unit = rows / rows.norm(dim=-1, keepdim=True).clamp_min(1e-30)
    torch.testing.assert_close(unit @ projector, unit, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("share", "rank"), [(0.9e-8, 1), (1.1e-8, 2)])
def test_two_rows_are_one_where_their_angle_is_rounding(share: float, rank: int) -> None:
    """At the angle a the squared sizes of two unit rows are 1 +- cos a: their ratio is tan^2(a/2)."""
    angle = 2 * math.atan(math.sqrt(share))
    rows = torch.tensor([[[1.0, 0.0, 0.0], [math.cos(angle), math.sin(angle), 0.0]]]).double()
    basis, found = pivots.row_basis(rows)
    assert found.tolist() == [rank]
    assert torch.count_nonzero(basis.norm(dim=-1)) == rank


def test_a_basis_is_of_its_own_replicate_alone() -> None:
    """The largest size of all, sqrt(3) here, is not what the others are measured by."""
    angle = 2 * math.atan(math.sqrt(1.2e-8))
    rows = torch.tensor([[[1.0, 0.0, 0.0]] * 3] * 2).double()
    rows[1, 1] = torch.tensor([math.cos(angle), math.sin(angle), 0.0])
    rows[1, 2] = 0
    assert pivots.row_basis(rows)[1].tolist() == [1, 2]


@pytest.mark.parametrize(("count", "left"), [(3, 1), (4, 0)])
def test_off_rows_to_the_last_direction(count: int, left: int) -> None:
    """With d_j - 1 inputs one direction is left to see, with d_j inputs none."""
    generator = seeded("last direction", count)
    X, W = normal(generator, 5, count, 4), normal(generator, 5, 6, 4)
    delta = normal(generator, 5, count, 6)
    S, nu = pivots.off_rows(delta @ W, X, delta, torch.full((5,), 2.0))
    assert nu.tolist() == [count * left] * 5
    if not left:
        assert S.tolist() == [0] * 5
        return
    for r in range(5):
        off = torch.eye(4, dtype=torch.float64) - dense_projector(X[r])
        G = delta[r] @ W[r] @ off
        expected = torch.trace(G.T @ torch.linalg.inv(delta[r] @ delta[r].T) @ G) / 2
        torch.testing.assert_close(S[r], expected, rtol=1e-6, atol=1e-10)


def test_double_detaches() -> None:
    x: Any = torch.ones(2, requires_grad=True)
    assert pivots.double(x).dtype == torch.float64
    assert not pivots.double(x).requires_grad
