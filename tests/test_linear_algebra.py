"""Typed doors to torch, and the sums and products that large tensors go through in parts."""

from __future__ import annotations

import pytest
import torch

from hyperverify import linear_algebra
from hyperverify.linear_algebra import per_replicate, products, square_sums


def normal(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7), dtype=dtype)


@pytest.mark.parametrize("cached", [1, 5, 16, 10**6])
@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 3, 5), (1, 17, 3), (3, 5, 1)])
def test_square_sums_are_the_same_whatever_the_parts(
    cached: int, shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_algebra, "_IN_CACHE", cached)
    rows = normal(*shape)
    across = rows.transpose(1, 2).contiguous().transpose(1, 2)  # as a gradient may come
    expected = rows.double().square().sum(-1)
    for layout in (rows, across):
        found = square_sums(layout)
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, expected, rtol=1e-15, atol=0)


def test_square_sums_keep_what_single_precision_would_lose() -> None:
    """1e30 squared is beyond float32, and so are 2^25 ones and one more."""
    assert square_sums(torch.full((1, 1, 2), 1e30)).item() == pytest.approx(2e60, rel=1e-6)
    assert not square_sums(torch.tensor([[[1.0, torch.nan]]])).isfinite()


def test_square_sums_leave_double_precision_values_as_they_are() -> None:
    values = normal(2, 3, 4, dtype=torch.float64)
    before = values.clone()
    torch.testing.assert_close(square_sums(values), before.square().sum(-1), rtol=0, atol=0)
    assert torch.equal(values, before)


def test_products_are_each_replicates_own() -> None:
    matrices, vectors = normal(5, 4, 3, dtype=torch.float64), normal(5, 3, dtype=torch.float64)
    expected = torch.stack([m @ v for m, v in zip(matrices, vectors, strict=True)])
    torch.testing.assert_close(products(matrices, vectors), expected)


def test_a_function_of_one_replicate_gets_its_tensors_in_their_places() -> None:
    def of_one(x: torch.Tensor, named: dict[str, torch.Tensor], y: torch.Tensor) -> torch.Tensor:
        assert list(named) == ["b", "a"]
        return x @ named["a"] + 10 * named["b"] + y.sum()

    x, a, b, y = (normal(6, 3, dtype=torch.float64) + n for n in range(4))
    expected = (x * a).sum(-1)[:, None] + 10 * b + y.sum(-1)[:, None]
    torch.testing.assert_close(per_replicate(of_one, x, {"b": b, "a": a}, y), expected)
