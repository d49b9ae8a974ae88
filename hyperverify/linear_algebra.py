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
    # Flat arguments: vmap looks through nested ones several times a call.
    tensors: list[Tensor] = []
    names: list[tuple[str, ...] | None] = []
    for argument in batched:
        if isinstance(argument, Tensor):
            names.append(None)
            tensors.append(argument)
        else:
            names.append(tuple(argument))
            tensors.extend(argument.values())

    def of_one(*given: Tensor) -> Tensor:
        left = iter(given)
        nested = (
            next(left) if keys is None else {key: next(left) for key in keys} for keys in names
        )
        return function(*nested)

    return cast(Tensor, cast(Any, vmap)(of_one, (0,) * len(tensors))(*tensors))


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


# Entries whose float64 copies stay in a core's own cache; a pass over fresh memory costs more than
# the arithmetic.
_IN_CACHE = 2**17


def square_sums(tensor: Tensor) -> Tensor:
    """Squared lengths in float64 of what may be large and of a smaller dtype, a part at a time.

    Args:
        tensor: shape (R, n, k), in any layout.

    Returns:
        Shape (R, n).
    """
    tensor = tensor.detach()
    R, n, k = tensor.shape
    found = tensor.new_empty(R, n, dtype=torch.float64)
    most = max(1, _IN_CACHE // max(1, k))  # rows at a time
    some = max(1, most // max(1, n))  # replicates at a time
    for r in range(0, R, some):
        for at in range(0, n, most):
            part = tensor[r : r + some, at : at + most].to(torch.float64)
            found[r : r + some, at : at + most] = part.square().sum(-1)
    return found


def products(tensor: Tensor, vectors: Tensor) -> Tensor:
    """Each replicate's rows times its vector.

    Args:
        tensor: shape (R, n, k).
        vectors: shape (R, k).

    Returns:
        Shape (R, n).
    """
    # A row times a matrix: torch's batched matrix times a column is several times slower.
    return (vectors[:, None] @ tensor.transpose(1, 2))[:, 0]


def norm(tensor: Tensor) -> Tensor:
    """Euclidean norm over the last dimension."""
    return cast(Tensor, _linalg.vector_norm(tensor, dim=-1))
