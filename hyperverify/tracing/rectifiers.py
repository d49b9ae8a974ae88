"""Whether an operation is a ReLU: told by what it does to values, and by its name where values cannot tell.

max(z, 0) is written in many ways (``relu``, ``clamp``, ``where``, a product with a mask), so the values
decide. But where no z is below 0, which a dead layer or few units may bring about, max(z, 0) is z, and
only an operation that is a ReLU by name and arguments gives it away.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hyperverify.tracing.operations import base_name
from hyperverify.tracing.values import Node, Ref


def rectified(node: Node, before: Tensor, after: Tensor) -> bool | None:
    """Whether ``after``, which ``node`` made of ``before``, is max(before, 0).

    None: it is, but so would be what the identity makes, and the operation's name says nothing.
    """
    if not before.dtype.is_floating_point or before.shape != after.shape:
        return False
    expected = before.clamp(min=0)
    same = torch.allclose(after.to(expected.dtype), expected, rtol=1e-5, atol=0.0, equal_nan=True)
    if not same:
        return False
    return True if bool((before < 0).any()) or named_relu(node) else None


def named_relu(node: Node) -> bool:
    """Whether an operation is a ReLU whatever the values: ``relu``, ``clamp(min=0)``, ``maximum`` with 0."""
    op = base_name(node.op)
    if op == "relu":
        return True
    if node.template is None:
        return False
    args, kwargs = node.template
    _, *others = args
    low = others[0] if others else kwargs.get("min")
    if op == "threshold":
        return len(others) >= 2 and _zero(others[0]) and _zero(others[1])
    if op == "clamp":
        high = others[1] if len(others) > 1 else kwargs.get("max")
        return _zero(low) and high is None
    if op == "clamp_min":
        return _zero(low)
    if op == "maximum":
        return any(isinstance(a, Ref) and not a.node.taint and _zero(a) for a in args)
    return False


def _zero(value: object) -> bool:
    if isinstance(value, Ref):
        return not value.node.generated and not bool(value.value().any())
    return isinstance(value, int | float) and not isinstance(value, bool) and value == 0
