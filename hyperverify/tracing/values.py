"""Values of a traced call: one `Node` for each state of each storage, one `Ref` for each view of it.

Provenance lives in storages, not in tensors: a slice, ``.data``, ``detach()`` or a permutation shares
its storage and with it its history, whatever autograd knows of it. An operation that writes in place
makes a new `Node` for the same storage, so that a `Ref` always means what was there when it was read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import torch
from torch import Tensor


@dataclass(eq=False, slots=True)
class Node:
    """What one storage held from one operation to the next.

    Attributes:
        index: position in `Trace.nodes`; the same in every replicate of one program.
        op: name of the operation, as ``mm`` or ``relu_``; ``leaf`` for what was there before the
            call (parameters, buffers, constants), ``input`` for an argument of the call.
        template: the operation's (args, kwargs), tensors replaced by `Ref`; None for leaves.
        func: the operation itself; None for leaves.
        out: the whole output as a view of the node; for an in-place operation the part written.
        before: the node that an in-place operation overwrote (partly), or None.
        taint: bit k is set where the value depends on argument k of the call.
        generated: the value went through a contraction of parameters and embeddings, no data in it.
        leaves: bit n is set where the value depends on leaf number n.
        storage: keeps the memory alive, hence its address unique, or a copy once it was overwritten.
        position: which of the operation's outputs this is.
        address: of the storage in memory, in this call.
    """

    index: int
    op: str
    func: Any
    template: tuple[Any, Any] | None
    out: Ref | None
    before: Node | None
    taint: int
    generated: bool
    leaves: int
    storage: Any
    numel: int = 0
    position: int = 0
    refs: tuple[Ref, ...] = field(default=())
    address: int = 0

    @property
    def leaf(self) -> bool:
        """Whether the call found this value, instead of computing it."""
        return self.func is None

    def __repr__(self) -> str:
        return f"<{self.index}: {self.op}>"


@dataclass(frozen=True, eq=False, slots=True)
class Ref:
    """A strided view of a node, in elements of ``dtype``; everything in it is fixed by the program."""

    node: Node
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    dtype: torch.dtype
    device: torch.device

    @property
    def numel(self) -> int:
        """Entries, those that a stride of 0 repeats included."""
        n = 1
        for length in self.size:
            n *= length
        return n

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two views the same: node, geometry and dtype."""
        return self.node.index, self.size, self.stride, self.offset, self.dtype

    @property
    def overlaps(self) -> bool:
        """Whether different entries share memory (not merely all of it, along a stride of 0)."""
        dims = sorted(
            (t, s) for s, t in zip(self.size, self.stride, strict=True) if s > 1 and t > 0
        )
        reach = 0
        for stride, size in dims:
            if stride <= reach:
                return True
            reach += stride * (size - 1)
        return False

    def value(self) -> Tensor:
        """The tensor as it was when it was read. Shape ``size``."""
        with torch.no_grad():
            flat = torch.empty(0, dtype=self.dtype, device=self.device)
            return flat.set_(self.node.storage, self.offset, self.size, self.stride)

    def addresses(self) -> Tensor:
        """Offset of every entry in the node's storage, int64, shape ``size``."""
        result = torch.full((1,) * len(self.size), self.offset, dtype=torch.int64)
        for d, (length, stride) in enumerate(zip(self.size, self.stride, strict=True)):
            shape = [1] * len(self.size)
            shape[d] = length
            result = result + (torch.arange(length) * stride).view(shape)
        return result.expand(self.size)

    def view(
        self, size: tuple[int, ...], stride: tuple[int, ...], offset: int | None = None
    ) -> Ref:
        """Another geometry on the same node."""
        start = self.offset if offset is None else offset
        return Ref(self.node, size, stride, start, self.dtype, self.device)

    def insert(self, dim: int, length: int = 1, stride: int = 0) -> Ref:
        """With one more dimension, of stride 0 if not told otherwise."""
        size, strides = list(self.size), list(self.stride)
        size.insert(dim, length)
        strides.insert(dim, stride)
        return self.view(tuple(size), tuple(strides))

    def permute(self, *dims: int) -> Ref:
        """With the dimensions in another order."""
        size = tuple(self.size[d] for d in dims)
        return self.view(size, tuple(self.stride[d] for d in dims))

    def select(self, dim: int, index: int) -> Ref:
        """One index of a dimension."""
        size, strides = list(self.size), list(self.stride)
        start = self.offset + index * strides[dim]
        del size[dim], strides[dim]
        return self.view(tuple(size), tuple(strides), start)


@dataclass(frozen=True)
class Trace:
    """One call, watched.

    Attributes:
        nodes: every value in the order in which it came to be.
        outputs: the tensors that the call returned, as views.
        program: a hash of all operations with their shapes and operands. Two calls with one program
            have their nodes in the same places.
        reads: names of the operations by which Python looked at a value of the data.
        lost: by what values of the data, or generated ones, went where the trace cannot follow, in words.
        names: parameter names by node index, where the model is a module.
        batch: leading dimension of the data.
        floating: bit k is set where argument k of the call has entries of floating point.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[Ref, ...]
    program: int
    reads: tuple[str, ...]
    lost: tuple[str, ...]
    names: dict[int, str]
    batch: int
    floating: int


def is_list(value: object) -> TypeGuard[Sequence[Any]]:
    """Whether a value is a list or a tuple, of whatever."""
    return isinstance(value, (list, tuple))


def is_dict(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Whether a value is a dict, of whatever."""
    return isinstance(value, dict)


def tensors_in(value: object) -> Iterator[Tensor]:
    """All tensors of nested lists, tuples and dicts, in order."""
    if isinstance(value, Tensor):
        yield value
    elif is_list(value):
        for item in value:
            yield from tensors_in(item)
    elif is_dict(value):
        for item in value.values():
            yield from tensors_in(item)


def refs_in(value: object) -> Iterator[Ref]:
    """All refs of a template."""
    if isinstance(value, Ref):
        yield value
    elif is_list(value):
        for item in value:
            yield from refs_in(item)
    elif is_dict(value):
        for item in value.values():
            yield from refs_in(item)
