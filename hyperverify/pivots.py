"""Pivots: (S, nu) with S/theta ~ chi2_nu, theta = true second moment over predicted.

Each function takes what was observed and the variance that the oracle predicts *given* what the
check conditions on, and returns one pair a replicate. Pairs of different replicates are
independent, so sums over replicates are pivots again. All in float64.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor

from hyperverify.linear_algebra import cholesky, norm, solve_lower, svd

Pivot: TypeAlias = tuple[Tensor, Tensor]
"""S of shape (R,), float64, and nu of shape (R,), int64."""

# A direction whose variance given the past is below this share of its own variance is determined
# by the past: the rule sees no measured value that it excludes. After a direction with the share s
# left, later shares carry rounding of eps/s: this has to lie far above the root of eps, or rows that
# are determined would pass for new.
RANK_TOLERANCE = 1e-6

# Squared length, over the largest, below which a direction of the row space is rounding.
_NO_LENGTH = 1e-8


def rank_tolerance(dtype: torch.dtype) -> float:
    """Least share of its own variance that a direction must have left to be looked at.

    What was computed in ``dtype`` carries rounding of relative size eps; divided by the root of
    the share, it must stay small (1% of a standard deviation).
    """
    return max(RANK_TOLERANCE, 1e4 * torch.finfo(dtype).eps ** 2)


def double(tensor: Tensor) -> Tensor:
    """Detached float64 copy (or view)."""
    return tensor.detach().to(torch.float64)


def scaled_squares(values: Tensor, variance: Tensor) -> Pivot:
    """Independent entries over their predicted conditional variance.

    Entries predicted to be exactly zero (a dead input) are left out; one that is not zero all the
    same makes S infinite.

    Args:
        values: shape (R, ...).
        variance: broadcastable to ``values``.
    """
    values = double(values)
    variance = double(variance)
    if (variance > 0).all():  # the common case, in fewer passes
        squares = (values.square() / variance).flatten(1)
        return squares.sum(1), squares.new_full(
            (len(squares),), squares.shape[1], dtype=torch.int64
        )
    variance = variance.expand_as(values).flatten(1)
    values = values.flatten(1)
    live = variance > 0
    broken = (~live & (values != 0)).any(1)
    squares = torch.where(live, values.square() / variance, 0.0)
    return torch.where(broken, torch.inf, squares.sum(1)), live.sum(1)


def innovations(
    gram: Tensor, targets: Tensor, tolerance: float = RANK_TOLERANCE
) -> tuple[Tensor, Tensor]:
    """Rows of correlated normal observations, each made independent of the rows before it.

    Row n of ``targets`` has, in each of its m independent columns, the covariance ``gram`` with
    the other rows. A causal Cholesky step subtracts what the earlier rows tell; the coefficients
    of row n may depend on earlier rows, as the features of a deeper layer do.

    Args:
        gram: predicted covariance, shape (R, n, n).
        targets: shape (R, n, m).
        tolerance: see :func:`rank_tolerance`.

    Returns:
        Squared innovations over their variance, shape (R, n), and whether each row is new (not
        determined by the past), bool of shape (R, n). Each new row carries m degrees of freedom.
        A row that is predicted to be exactly zero and is not, or whose variance is no finite
        number, is infinite.
    """
    gram, targets = double(gram), double(targets)
    # Where every row is new, the causal factor is the plain Cholesky factor.
    factor, found = cholesky(gram)
    own = gram.diagonal(dim1=-2, dim2=-1)
    left = factor.diagonal(dim1=-2, dim2=-1).square()
    plain = found & (left > tolerance * own).all(1)
    fresh = torch.ones_like(own, dtype=torch.bool)
    if plain.all():
        squares = solve_lower(factor, targets).square().sum(-1)
    else:
        squares = torch.zeros_like(own)
        squares[plain] = solve_lower(factor[plain], targets[plain]).square().sum(-1)
        squares[~plain], fresh[~plain] = _row_by_row(gram[~plain], targets[~plain], tolerance)
    broken = ~(own.isfinite() & (own >= 0)) | ((own == 0) & (targets != 0).any(-1))
    return torch.where(broken, torch.inf, squares), fresh


def _row_by_row(gram: Tensor, targets: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """:func:`innovations` one row at a time, leaving out what the past determines."""
    lower = torch.zeros_like(gram)
    whitened = torch.zeros_like(targets)
    fresh = gram.new_zeros(gram.shape[:2], dtype=torch.bool)
    for n in range(targets.shape[1]):
        own = gram[:, n, n]
        for_n = lower[:, n, :n]
        left = own - for_n.square().sum(1)
        new = left > tolerance * own  # never where `own` is 0
        pivot = left.sqrt()
        residual = targets[:, n] - torch.einsum("rm,rmk->rk", for_n, whitened[:, :n])
        whitened[:, n] = torch.where(new[:, None], residual / pivot[:, None], 0.0)
        # column n of the factor below the diagonal, for the rows still to come
        rest = gram[:, n + 1 :, n] - torch.einsum("rim,rm->ri", lower[:, n + 1 :, :n], for_n)
        lower[:, n + 1 :, n] = torch.where(new[:, None], rest / pivot[:, None], 0.0)
        fresh[:, n] = new
    return whitened.square().sum(-1), fresh


def whitened_squares(gram: Tensor, targets: Tensor, tolerance: float = RANK_TOLERANCE) -> Pivot:
    """S = sum over columns of t^T gram^+ t, nu = columns times rank: a batch of inputs at once.

    Args:
        gram: predicted covariance of the rows, shape (R, n, n).
        targets: shape (R, n, m), m independent columns.
        tolerance: see :func:`rank_tolerance`.
    """
    squares, fresh = innovations(gram, targets, tolerance)
    return squares.sum(1), fresh.sum(1) * targets.shape[-1]


def least_squares(
    features: Tensor, targets: Tensor, variance: float, tolerance: float = RANK_TOLERANCE
) -> Pivot:
    """|A^+ C|^2 / variance for C = A H^T: what a shared H shows through known features.

    Args:
        features: A, shape (R, M, d_k).
        targets: C, shape (R, M, m).
        variance: predicted Var(H).
        tolerance: see :func:`rank_tolerance`; directions in which A is weaker are left out.

    Returns:
        nu = m times the directions kept.
    """
    A, C = double(features), double(targets)
    left, sizes, _ = svd(A)
    # Said by what is left out, so that features that are no numbers stay in, and S is NaN.
    kept = ~(sizes.square() <= tolerance * sizes.square().amax(1, keepdim=True))
    squares = (left.transpose(1, 2) @ C).square().sum(-1) / sizes.square()
    return torch.where(kept, squares, 0.0).sum(1) / variance, kept.sum(1) * C.shape[-1]


def row_basis(rows: Tensor) -> tuple[Tensor, Tensor]:
    """An orthonormal basis of the row space, dependent and zero rows left out.

    Args:
        rows: shape (R, n, d).

    Returns:
        The basis, shape (R, min(n, d), d), zero rows where it is smaller; and its size, (R,).
    """
    rows = double(rows)
    # A short row counts as much as a long one.
    lengths = norm(rows)[..., None]
    _, sizes, basis = svd(torch.where(lengths == 0, rows, rows / lengths))
    kept = sizes.square() > _NO_LENGTH * sizes.square().amax(1, keepdim=True)
    return basis * kept[..., None], kept.sum(1)


def off_directions(values: Tensor, directions: Tensor, variance: Tensor) -> Pivot:
    """|P v|^2 / variance, P the projector off ``directions``: what the forward pass cannot know.

    Args:
        values: v, shape (R, d).
        directions: shape (R, n, d), n < d.
        variance: predicted variance of an entry, shape (R,); 0 excludes the replicate.
    """
    v, D = double(values), double(directions)
    variance = double(variance)
    basis, rank = row_basis(D)
    off = v - torch.einsum("rnd,rn->rd", basis, torch.einsum("rnd,rd->rn", basis, v))
    live = ~(variance <= 0)  # where it is NaN, so is S
    S = torch.where(live, off.square().sum(1) / variance, 0.0)
    return S, torch.where(live, v.shape[1] - rank, 0)


def off_rows(
    gradients: Tensor,
    inputs: Tensor,
    deltas: Tensor,
    variance: Tensor,
    tolerance: float = RANK_TOLERANCE,
) -> Pivot:
    """A batch's backward pivot under any activation: off the row space of X, whitened by Delta.

    Args:
        gradients: Delta W, shape (R, B, d_j).
        inputs: X, shape (R, B, d_j); where they span everything, nothing is left to see.
        deltas: Delta, shape (R, B, d_i).
        variance: predicted variance of the entries of W given h, shape (R,).
        tolerance: see :func:`rank_tolerance`.

    Returns:
        nu = (d_j - rank X) rank Delta.
    """
    X, delta = double(inputs), double(deltas)
    basis, rank = row_basis(X)
    G = double(gradients)
    off = G - (G @ basis.transpose(1, 2)) @ basis
    gram = delta @ delta.transpose(1, 2) * double(variance)[:, None, None]
    squares, fresh = innovations(gram, off, tolerance)
    left = X.shape[-1] - rank
    return torch.where(left > 0, squares.sum(1), 0.0), fresh.sum(1) * left
