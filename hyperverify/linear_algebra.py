"""Typed doors to functions that torch's own stubs leave untyped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.func import vmap  # pyright: ignore[reportPrivateImportUsage]

_linalg = cast(Any, torch.linalg)


def per_replicate(function: Callable[..., Tensor], *batched: Any) -> Tensor:
    """``function`` of each replicate's tensors, over the leading dimension of all of them.

    Args:
        function: takes tensors (or dicts of tensors) of one replicate.
        batched: the same with a leading dimension R.

    Returns:
        Shape (R, ...).
    """
    return cast(Tensor, cast(Any, vmap)(function)(*batched))


def _without_nan(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Matrices with 0 in the place of those that LAPACK refuses for a NaN or an infinity.

    Also returned is what to add to results of theirs, NaN or 0, shape (..., 1, 1).
    """
    finite = matrix.isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
    nothing = matrix.new_zeros(())
    return torch.where(finite, matrix, nothing), torch.where(finite, nothing, torch.nan)


def svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Thin singular value decomposition: U, sizes, V^T; NaN of a matrix that is not finite."""
    clean, nan = _without_nan(matrix)
    U, sizes, V = cast("tuple[Tensor, Tensor, Tensor]", _linalg.svd(clean, full_matrices=False))
    return U + nan, sizes + nan[..., 0], V + nan


def cholesky(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Lower factor, and for each matrix whether it has one (bool)."""
    factor, failed = _linalg.cholesky_ex(matrix)
    return factor, failed == 0


def solve_lower(factor: Tensor, targets: Tensor) -> Tensor:
    """factor^-1 targets, factor lower triangular."""
    return cast(Tensor, _linalg.solve_triangular(factor, targets, upper=False))


def pinv(matrix: Tensor) -> Tensor:
    """Pseudo-inverse; NaN of a matrix that is not finite."""
    clean, nan = _without_nan(matrix)
    return cast(Tensor, _linalg.pinv(clean)) + nan


def smallest_eigenvalue(matrix: Tensor) -> Tensor:
    """The smallest eigenvalue of a symmetric matrix; NaN of one that is not finite."""
    clean, nan = _without_nan(matrix)
    return cast(Tensor, _linalg.eigvalsh(clean))[..., 0] + nan[..., 0, 0]


def norm(tensor: Tensor) -> Tensor:
    """Euclidean norm over the last dimension."""
    return cast(Tensor, _linalg.vector_norm(tensor, dim=-1))
