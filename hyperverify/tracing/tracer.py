"""Watches one call at torch's dispatcher and writes down where every value came from.

Below autograd, every call form is the same few operations: ``F.linear``, ``einsum``, ``matmul``,
``functional_call``, ``vmap`` and a module's forward all end as ``mm``, ``bmm``, ``convolution``. So the
watch is kept there, with provenance of its own (`hyperverify.tracing.values`): autograd's graph is
blind to ``no_grad``, ``detach``, ``.data`` and ``copy_``, and shows plain activations as non-leaves.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hyperverify.tracing.alarm import OutOfTime
from hyperverify.tracing.operations import (
    ATTENTION,
    CONTRACTIONS,
    DRAWS,
    FILLS,
    READS,
    SHAPES_ONLY,
    SUMS,
    base_name,
)
from hyperverify.tracing.values import Node, Ref, Trace, is_dict, is_list, refs_in, tensors_in

CONTRACTING = CONTRACTIONS | ATTENTION
_dispatcher = cast("Any", torch)._C  # noqa: SLF001
_PLAIN = cast("Any", Tensor).__torch_dispatch__


@lru_cache(maxsize=4096)
def _facts(func: Any) -> tuple[str, frozenset[str], frozenset[int], bool]:
    """(base name of the op, names and positions of arguments that it writes to, whether to decompose)."""
    schema = func._schema  # noqa: SLF001  the dispatcher's public face has no other door
    written = [
        (n, argument.name)
        for n, argument in enumerate(schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    if torch.Tag.inplace_view in func.tags:  # squeeze_ and the like write a shape, no entry
        written = []
    name = schema.name.split("::")[-1]
    composite = _dispatcher._dispatch_has_kernel_for_dispatch_key(  # noqa: SLF001
        func.name(), "CompositeImplicitAutograd"
    )
    return name, frozenset(n for _, n in written), frozenset(n for n, _ in written), composite


class Tracer(TorchDispatchMode):
    """The mode that records; see `trace`.

    Args:
        deadline: `time.monotonic` after which the next operation raises `OutOfTime`; None: never.
    """

    def __init__(self, deadline: float | None = None) -> None:
        cast("Any", super()).__init__()
        self.nodes: list[Node] = []
        self.reads: list[str] = []
        self.lost: list[str] = []
        self._current: dict[int, Node] = {}
        self._leaves = 0
        self._program = 0
        self._deadline = deadline

    # -- what was there before ------------------------------------------------

    def add_input(self, tensor: Tensor, number: int) -> None:
        """Make a tensor known as argument ``number`` of the call."""
        storage = tensor.untyped_storage()
        known = self._current.get(storage.data_ptr())
        if known is not None:
            known.taint |= 1 << number
            return
        self._new_leaf(tensor, "input", 1 << number)

    def _new_leaf(self, tensor: Tensor, op: str, taint: int) -> Node:
        storage = tensor.untyped_storage()
        node = Node(
            len(self.nodes), op, None, None, None, None, taint, False, 1 << self._leaves, storage,
            storage.nbytes() // tensor.element_size(), address=storage.data_ptr(),
        )  # fmt: skip
        self._leaves += 1
        self.nodes.append(node)
        self._current[storage.data_ptr()] = node
        return node

    def ref(self, tensor: Tensor) -> Ref | None:
        """The tensor as a view of its storage's present node; None for a tensor without memory."""
        address = _address(tensor)
        if address == 0:
            return None
        node = self._current.get(address)
        if node is None:
            node = self._new_leaf(tensor, "leaf", 0)
        return Ref(
            node, tuple(tensor.shape), tuple(tensor.stride()), int(tensor.storage_offset()),
            tensor.dtype, tensor.device,
        )  # fmt: skip

    # -- the watch ------------------------------------------------------------

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # what torch would do for it imports the compiler, which takes a second

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if "torch._dynamo" in sys.modules:  # then these frames must not be compiled
            return _uncompiled(self, func, types, args, kwargs or {})
        return self.watch(func, types, args, kwargs or {})

    def watch(self, func: Any, types: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """One operation: run it, and write down what it read, wrote and made."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise OutOfTime
        if any(t.__torch_dispatch__ is not _PLAIN for t in types):
            return (
                NotImplemented  # a class with a dispatch of its own: what it does in there is seen
            )
        name, written_names, written_places, composite = _facts(func)
        if composite:  # seen whole under inference_mode only
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        template = (self._template(args), self._template(kwargs))
        refs = tuple(refs_in(template))
        op = base_name(name)
        if op in READS and any(r.node.taint for r in refs):
            self.reads.append(op)
        elif op in READS and any(r.node.generated and r.dtype.is_floating_point for r in refs):
            self.lost.append(f"Python reads a generated value ({op})")
        written: list[Tensor] = []
        if written_names:
            written = [a for n, a in enumerate(args) if n in written_places]
            written += [a for n, a in kwargs.items() if n in written_names]
            written = list(tensors_in(written))
            self._keep_before_write(written)
        out = func(*args, **kwargs)
        self._record(func, name, template, refs, written, out)
        return out

    def _template(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.ref(value)
        if is_list(value):
            return tuple(self._template(item) for item in value)
        if is_dict(value):
            return {k: self._template(item) for k, item in value.items()}
        return value

    def _keep_before_write(self, written: list[Tensor]) -> None:
        """What is overwritten may have been read before: keep a copy for those who read it."""
        for tensor in written:
            node = self._current.get(_address(tensor))
            if node is not None and base_name(node.op) not in FILLS:
                node.storage = node.storage.clone()

    def _record(
        self,
        func: Any,
        name: str,
        template: tuple[Any, Any],
        refs: tuple[Ref, ...],
        written: list[Tensor],
        out: Any,
    ) -> None:
        self._program = hash((self._program, name, _digest(template)))
        op = base_name(name)
        done: set[int] = set()
        for tensor in written:
            address = _address(tensor)
            if address == 0 or address in done:
                continue
            done.add(address)
            before = self._current.get(address)
            self._add(func, name, op, template, refs, tensor, before, 0)
        for position, tensor in enumerate(tensors_in(out)):
            address = _address(tensor)
            if tensor.layout != torch.strided and any(
                r.node.taint or r.node.generated for r in refs
            ):
                kind = str(tensor.layout).removeprefix("torch.")
                self.lost.append(f"a tensor in the layout {kind} cannot be followed ({op})")
            if address == 0 or address in self._current:
                continue  # a view: its storage has its history already
            self._add(func, name, op, template, refs, tensor, None, position)

    def _add(
        self,
        func: Any,
        name: str,
        op: str,
        template: tuple[Any, Any],
        refs: tuple[Ref, ...],
        tensor: Tensor,
        before: Node | None,
        position: int,
    ) -> None:
        storage = tensor.untyped_storage()
        numel = storage.nbytes() // tensor.element_size()
        overwrites = before is not None and tensor.numel() >= numel and op in _REPLACING
        read = () if op in SHAPES_ONLY else refs
        if overwrites:  # what was there is gone, and its history with it
            read = tuple(r for r in refs if r.node is not before)
        taint = leaves = 0
        for r in read:
            taint |= r.node.taint
            leaves |= r.node.leaves
        generated = _generated(op, read, taint, tensor.numel())
        if before is not None and not overwrites:
            taint |= before.taint
            leaves |= before.leaves
            generated = generated or before.generated
        if op in DRAWS:
            leaves |= 1 << self._leaves
            self._leaves += 1
        node = Node(
            len(self.nodes), name, func, template, None, before, taint, generated, leaves, storage,
            numel, position, read, storage.data_ptr(),
        )  # fmt: skip
        self.nodes.append(node)
        self._current[storage.data_ptr()] = node
        node.out = self.ref(tensor)

    def finish(self, outputs: Any, names: dict[int, str], batch: int, floating: int) -> Trace:
        """What was seen."""
        refs = tuple(r for r in map(self.ref, tensors_in(outputs)) if r is not None)
        by_node = {
            self._current[address].index: name
            for address, name in names.items()
            if address in self._current
        }
        return Trace(
            tuple(self.nodes), refs, self._program, tuple(self.reads), tuple(self.lost), by_node,
            batch, floating,
        )  # fmt: skip


_uncompiled = cast("Any", torch)._disable_dynamo(Tracer.watch)  # noqa: SLF001


def _address(tensor: Tensor) -> int:
    """Of the tensor's storage; 0 for a tensor without memory of its own that entries could be read from."""
    if tensor.layout != torch.strided or tensor.device.type == "meta":
        return 0
    if cast("Any", tensor)._is_zerotensor():  # noqa: SLF001  autograd's symbol for zeros
        return 0
    return tensor.untyped_storage().data_ptr()


_REPLACING = frozenset({"copy", "zero", "fill", "normal", "uniform", "bernoulli", "random", "set_"})


def _digest(template: Any) -> Any:
    """A hashable account of a template: operands by node and geometry, numbers by type."""
    if isinstance(template, Ref):
        return template.node.index, template.size, template.stride, template.offset
    if is_list(template):
        return tuple(map(_digest, template))
    if is_dict(template):
        return tuple((k, _digest(v)) for k, v in template.items())
    if isinstance(template, bool | int | str) or template is None:
        return template
    return type(template).__name__


def _generated(op: str, refs: tuple[Ref, ...], taint: int, numel: int) -> bool:
    """Whether a result counts as generated: contracted here, or made from something that was.

    A matrix divided by one number that was contracted from that same matrix (spectral normalization)
    is still that matrix.
    """
    if op in CONTRACTING:  # with zeros (an RNN's first state) nothing is contracted
        return not any(_zeros(r) for r in refs)
    sources = [r for r in refs if r.node.generated]
    if not sources:
        return op in SUMS and not taint and numel > 1 and any(map(_product_of_parameters, refs))
    full = [r for r in refs if not r.node.generated and r.numel == numel and numel > 1]
    if full and all(r.numel == 1 for r in sources) and not taint:
        own = full[0].node.leaves
        return not all(r.node.leaves & own for r in sources)
    return True


def _product_of_parameters(ref: Ref) -> bool:
    """Whether entries of two different leaves were multiplied: their sum is a contraction by hand."""
    node = ref.node
    factors = [r for r in node.refs if r.numel > 1]
    if node.leaf or base_name(node.op) != "mul" or len(factors) != 2:
        return False
    first, second = (r.node for r in factors)
    return bool(first.leaves and second.leaves) and not first.leaves & second.leaves


def _zeros(ref: Ref) -> bool:
    """Whether an operand was filled with zeros, in this very call."""
    node = ref.node
    return not node.leaf and base_name(node.op) in FILLS and not bool(ref.value().any())


def trace(
    call: Callable[..., Any],
    inputs: tuple[Any, ...],
    *,
    names: Mapping[int, str] | None = None,
    deadline: float | None = None,
) -> Trace:
    """Call ``call(*inputs)`` and watch.

    Args:
        call: a module or any callable.
        inputs: its arguments; every tensor in argument k is data number k.
        names: names of parameters by the address of their storage.
        deadline: `time.monotonic` after which the call is given up.

    Raises:
        OutOfTime: the deadline has passed.
        Exception: whatever the call raises.
    """
    tracer = Tracer(deadline)
    batch = floating = 0
    for number, argument in enumerate(inputs):
        for tensor in tensors_in(argument):
            tracer.add_input(tensor, number)
            if tensor.is_floating_point():
                floating |= 1 << number
                batch = batch or (tensor.shape[0] if tensor.dim() else 0)
    with ExitStack() as stack:
        if "torch._dynamo" in sys.modules:  # only then can anything be compiled
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(tracer)
        outputs = call(*inputs)
    return tracer.finish(outputs, dict(names or {}), batch, floating)
