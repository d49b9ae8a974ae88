"""Which entry of which earlier value each entry of a value is, through any slicing and gluing.

An entry that was only moved is still the entry of the contraction (or parameter) that made it. To
follow it, the very operations that moved it are repeated on labels: integers that name a node and a
place in it. What is computed anew (a ReLU, a sum) is a source of its own.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from hyperverify.tracing.operations import (
    ADDITIONS,
    FILLS,
    MOVES,
    SAME_ENTRIES,
    SCALINGS,
    base_name,
)
from hyperverify.tracing.values import Node, Ref, is_dict, is_list

_FOLLOWED = SAME_ENTRIES | SCALINGS | ADDITIONS | MOVES | {"copy"}

PLACES = 2**40
"""Labels are 1 + node * PLACES + place; 0 stands for an entry that is a constant."""


class Labels:
    """The labels of every value of one trace, made when asked for.

    ``touched`` says what happened on the way to those already asked for, in words.
    """

    def __init__(self) -> None:
        self._flat: dict[int, Tensor] = {}
        self._through: dict[int, frozenset[str]] = {}

    def of(self, ref: Ref) -> Tensor:
        """Labels of a view, int64, shape ``ref.size``."""
        flat, itemsize = self._labels(ref.node), _itemsize(ref.node)
        if itemsize != ref.dtype.itemsize:  # read as another dtype: entries are no entries any more
            return torch.zeros(ref.size, dtype=torch.int64)
        return flat.as_strided(ref.size, ref.stride, ref.offset)

    def through(self, node: Node) -> frozenset[str]:
        """What entries of a node went through since their sources: ``scaled``, ``zero added``..."""
        self._labels(node)
        return self._through[node.index]

    def _labels(self, node: Node) -> Tensor:
        # What a node is made of comes first, so that a thousand writes are no depth of a thousand.
        waiting = [node]
        while waiting:
            at = waiting[-1]
            missing = [n for n in _read(at) if n.index not in self._flat]
            if missing and at.index not in self._flat:
                waiting += missing
                continue
            waiting.pop()
            if at.index not in self._flat:
                self._through[at.index] = frozenset()
                self._flat[at.index] = self._made(at)
        return self._flat[node.index]

    def _made(self, node: Node) -> Tensor:
        own = torch.arange(node.numel, dtype=torch.int64) + (1 + node.index * PLACES)
        if node.leaf or node.out is None or node.template is None:
            return own
        if node.out.numel and not node.out.dtype.is_floating_point:
            return own
        moved = self._moved(node)
        if node.before is None:
            if moved is None:
                return own
            flat = torch.zeros(node.numel, dtype=torch.int64)
        else:
            flat = self._labels(node.before).clone()
            self._add_words(node, self.through(node.before))
            if moved is None:  # computed in place: the part that was written is a new source
                moved = own.as_strided(node.out.size, node.out.stride, node.out.offset)
        flat.as_strided(node.out.size, node.out.stride, node.out.offset).copy_(moved)
        return flat

    def _moved(self, node: Node) -> Tensor | None:
        """Labels of what the operation wrote, shaped as its output; None if it computed something."""
        assert node.template is not None
        assert node.out is not None
        op = base_name(node.op)
        size = node.out.size
        args = node.template[0]
        if op in FILLS:
            return torch.zeros(size, dtype=torch.int64)
        if op == "copy":
            return self._entries(node, args[1]).expand(size)
        if op in SAME_ENTRIES:
            return self._entries(node, args[0]).reshape(size)
        if op in SCALINGS:
            return self._scaled(node, args)
        if op in ADDITIONS:
            return self._added(node, args)
        if op in MOVES:
            # Where a choice of entries was itself generated (a ReLU by a mask), it is no mere move.
            chosen = any(r.node.generated and not r.dtype.is_floating_point for r in node.refs)
            return None if chosen else self._repeated(node)
        return None

    def _entries(self, node: Node, ref: Ref) -> Tensor:
        self._add_words(node, self.through(ref.node))
        return self.of(ref)

    def _add_words(self, node: Node, words: frozenset[str]) -> None:
        self._through[node.index] |= words

    def _scaled(self, node: Node, args: tuple[Any, ...]) -> Tensor | None:
        assert node.out is not None
        first, *others = args
        if others and isinstance(others[0], Ref):
            other = others[0]
            if not isinstance(first, Ref) or (
                _is_one_number(first) and base_name(node.op) == "mul" and not _is_one_number(other)
            ):
                first, other = other, first
            if isinstance(other, Ref) and (other.node.generated or not _is_one_number(other)):
                return None
        if not isinstance(first, Ref) or not first.dtype.is_floating_point:
            return None
        self._add_words(node, frozenset({"scaled"}))
        return self._entries(node, first).expand(node.out.size)

    def _added(self, node: Node, args: tuple[Any, ...]) -> Tensor | None:
        assert node.out is not None
        terms = [a for a in args[:2] if isinstance(a, Ref)]
        if len(terms) == 1 and args[0] is terms[0] and args[1] == 0:
            return self._entries(node, terms[0]).expand(node.out.size)
        if len(terms) != 2:
            return None
        for zero, kept in (terms, terms[::-1]):
            if not zero.node.generated and not zero.node.taint and _all_zero(zero):
                self._add_words(node, frozenset({"zero added"}))
                return self._entries(node, kept).expand(node.out.size)
        return None

    def _repeated(self, node: Node) -> Tensor | None:
        """The operation itself, run on labels."""
        assert node.template is not None
        assert node.out is not None
        op = base_name(node.op)
        args: Any = self._labelled(node, node.template[0])
        kwargs: Any = self._labelled(node, node.template[1])
        if op == "constant_pad_nd":
            args = args[:2]
        try:
            with torch.no_grad():
                result = _functional(node.func, args, kwargs)
        except (RuntimeError, TypeError, NotImplementedError):
            return None
        if is_list(result):
            result = result[node.position]
        if not isinstance(result, Tensor) or tuple(result.shape) != node.out.size:
            return None
        return result

    def _labelled(self, node: Node, value: Any) -> Any:
        if isinstance(value, Ref):
            if value.dtype.is_floating_point:
                return self._entries(node, value).contiguous()
            return value.value().cpu()
        if is_list(value):
            return [self._labelled(node, item) for item in value]
        if is_dict(value):
            return {k: self._labelled(node, item) for k, item in value.items()}
        return 0 if isinstance(value, float) else value


def _read(node: Node) -> list[Node]:
    """The nodes whose labels go into a node's."""
    if node.leaf or node.out is None:
        return []
    before = [] if node.before is None else [node.before]
    if base_name(node.op) not in _FOLLOWED or not node.out.dtype.is_floating_point:
        return before
    return before + [r.node for r in node.refs if r.dtype.is_floating_point and r.node is not node]


def _functional(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Run an operation; of one that writes in place only the result is wanted."""
    return func(*[a.clone() if isinstance(a, Tensor) else a for a in args], **kwargs)


def _itemsize(node: Node) -> int:
    if node.out is not None:
        return node.out.dtype.itemsize
    return int(node.storage.nbytes()) // node.numel if node.numel else 0


def _is_one_number(ref: Ref) -> bool:
    """Whether all entries are one and the same number."""
    if ref.numel == 1:
        return True
    if ref.numel > 2**22:
        return False
    value = ref.value()
    return bool((value == value.reshape(-1)[0]).all())


def _all_zero(ref: Ref) -> bool:
    return ref.numel == 0 or not bool(ref.value().any())


def split(labels: Tensor) -> tuple[Tensor, Tensor]:
    """(node, place) of labels that are not 0."""
    shifted = labels - 1
    return torch.div(shifted, PLACES, rounding_mode="floor"), shifted % PLACES


def distinct(keys: Tensor) -> tuple[Tensor, int]:
    """(for each key the number of its value, how many values there are); keys of dimension 1."""
    values, inverse = cast(
        "tuple[Tensor, Tensor]", cast("Any", torch).unique(keys, return_inverse=True)
    )
    return inverse, values.numel()


def firsts(inverse: Tensor, count: int) -> Tensor:
    """Where each of the values that `distinct` numbered occurs, (count,)."""
    found = torch.zeros(count, dtype=torch.int64)
    found[inverse] = torch.arange(inverse.numel())
    return found
