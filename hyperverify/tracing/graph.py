"""The graph of a traced call: what is data, what is alike, what follows a value."""

from __future__ import annotations

import torch

from hyperverify.tracing.operations import (
    ADDITIONS,
    ATTENTION,
    CONTRACTIONS,
    DRAWS,
    MOVES,
    SAME_ENTRIES,
    SCALINGS,
    SOFTMAX,
    SUMS,
    base_name,
    contraction_of,
    convolution_of,
)
from hyperverify.tracing.rectifiers import rectified
from hyperverify.tracing.values import Node, Ref, Trace, is_dict, is_list


class Graph:
    """A trace with what can be asked about its nodes.

    Attributes:
        mask: bit k is set where argument k of the call is data, and not a condition of the hypernet.
    """

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._numbers: dict[object, int] = {}
        self._canonical: dict[int, int] = {}
        self._consumers: dict[int, list[Node]] = {}
        for node in trace.nodes:  # in order: what a node reads has its number before it
            self.number(node)
            for read in {r.node.index for r in node.refs}:
                self._consumers.setdefault(read, []).append(node)
            if node.before is not None:
                self._consumers.setdefault(node.before.index, []).append(node)
        self.mask = self._data_arguments()

    # -- what is data, what is alike -------------------------------------------------

    def _data_arguments(self) -> int:
        """The arguments of the call that are data; a condition of the hypernet (a task) is none.

        An argument is a condition if, without the main one, it reaches weights that the main one is
        contracted with. The main argument is the first one of floating point.
        """
        given = [n for n in self._trace.nodes if n.op == "input"]
        real = [n for n in given if self._trace.floating & n.taint] or given
        if not real:
            return 0
        everything = 0
        for n in given:
            everything |= n.taint
        main, conditions = real[0].taint, 0
        for node in self._trace.nodes:
            for first, second in (_operands(node), _operands(node)[::-1]):
                if first is None or second is None or not second.node.generated:
                    continue
                if first.node.taint & main and not second.node.taint & main:
                    conditions |= second.node.taint
        return everything & ~conditions

    def is_data(self, ref: Ref) -> bool:
        return bool(ref.node.taint & self.mask)

    def is_generated(self, ref: Ref) -> bool:
        return ref.node.generated and not self.is_data(ref)

    def number(self, node: Node) -> int:
        """A number that two nodes share if they are the same operation on the same values."""
        known = self._canonical.get(node.index)
        if known is None:
            key: object = node.index
            drawn = base_name(node.op) in DRAWS or "dropout" in node.op
            if not node.leaf and node.before is None and not drawn:
                key = (node.op, node.position, self._numbered(node.template))
            known = self._canonical[node.index] = self._numbers.setdefault(key, len(self._numbers))
        return known

    def _numbered(self, template: object) -> object:
        if isinstance(template, Ref):
            return (self.number(template.node), *template.key[1:])
        if is_list(template):
            return tuple(map(self._numbered, template))
        if is_dict(template):
            return tuple((k, self._numbered(v)) for k, v in template.items())
        return repr(template)

    # -- what follows a value -----------------------------------------------------

    def bias_after(self, node: Node) -> tuple[Ref | None, Node]:
        """The bias that the next addition puts on z, and the node that has it."""
        for consumer in self._consumers.get(node.index, []):
            if base_name(consumer.op) not in ADDITIONS:
                continue
            others = [r for r in consumer.refs if r.node is not node]
            if len(others) != 1 or self.is_data(others[0]):
                continue
            if others[0].numel == 1 and not others[0].node.generated:
                continue  # a mere number
            if others[0].node.leaf or others[0].node.generated or others[0].value().any():
                return others[0], consumer  # zeros made on the way are no bias
        return None, node

    def activation(self, start: Node) -> tuple[bool, str, bool]:
        """What a value meets on its way to the next contraction.

        Returns:
            Whether it is a ReLU; its name, or of the first other activation; whether that is sure:
            by values alone no ReLU can be told where all of z is positive.
        """
        seen, queue, other, sure = {start.index}, [start], "none", True
        while queue:
            node = queue.pop(0)
            for consumer in self._consumers.get(node.index, []):
                op = base_name(consumer.op)
                if consumer.index in seen or op in CONTRACTIONS | ATTENTION:
                    continue
                seen.add(consumer.index)
                relu = _rectifies(node, consumer, start)
                if relu:
                    return True, "relu", True
                sure = sure and relu is False
                if op in _NONLINEAR and other == "none":
                    other = op
                queue.append(consumer)
        return False, other, sure

    def beside(self, start: Node, x: Ref) -> tuple[str, ...]:
        """What makes a layer one of several on its way: ``sum``, ``normalization``, ``fork``.

        Args:
            start: the layer's output.
            x: its input.
        """
        found: set[str] = set()
        seen, queue = {start.index}, [start]
        while queue:
            node = queue.pop(0)
            for consumer in self._consumers.get(node.index, []):
                op = base_name(consumer.op)
                if consumer.index in seen or op in CONTRACTIONS | ATTENTION:
                    continue
                seen.add(consumer.index)
                queue.append(consumer)
                others = [r for r in consumer.refs if r.node.index not in seen]
                if op in ADDITIONS and any(map(self.is_data, others)):
                    found.add("sum")
                if "_norm" in op:
                    found.add("normalization")
        if len(self._consumers.get(x.node.index, [])) > 1:
            found.add("fork")
        return tuple(sorted(found))

    def feeds_attention(self, node: Node) -> bool:
        """Whether a softmax over the result is contracted with the data again."""
        soft = self._reach(node, SOFTMAX)
        return any(self._reach(s, CONTRACTIONS) for s in soft)

    def _reach(self, start: Node, ops: frozenset[str]) -> list[Node]:
        """Nodes of these operations that the value reaches without another contraction between."""
        seen, queue = {start.index}, [start]
        found: list[Node] = []
        while queue:
            node = queue.pop(0)
            for consumer in self._consumers.get(node.index, []):
                if consumer.index in seen:
                    continue
                seen.add(consumer.index)
                op = base_name(consumer.op)
                if op in ops:
                    found.append(consumer)
                elif op not in CONTRACTIONS and op not in _NONLINEAR:
                    queue.append(consumer)
        return found

    def from_softmax(self, node: Node) -> bool:
        """Whether a value is a softmax, moved, scaled or dropped out."""
        for _ in range(12):
            op = base_name(node.op)
            if op in SOFTMAX:
                return True
            if op not in SAME_ENTRIES | SCALINGS | MOVES | {"native_dropout"} or not node.refs:
                return False
            node = node.refs[0].node
        return False

    def templates(self, weight: Ref) -> bool:
        """Whether a weight is a sum of parameters that other parameters are multiplied with."""
        terms: list[Node] = []
        waiting, met, added = [weight.node], set[int](), False
        while waiting:
            node = waiting.pop()
            if node.index in met:
                continue
            met.add(node.index)
            op = base_name(node.op)
            of = [r.node for r in node.refs if r.node.leaves]
            if node.leaf or not of:
                terms.append(node)
            elif op in _ADD_PRODUCTS and len({n.leaves for n in of}) > 1:
                return True
            elif op in _WALKED or (op in SCALINGS and len(of) == 1):
                waiting += of
                added = added or op in SUMS or (op in ADDITIONS and len(of) > 1)
            else:
                terms.append(node)
        return added and all(
            base_name(n.op) in SCALINGS
            and len({r.node.leaves for r in n.refs if r.node.leaves}) > 1
            for n in terms
        )

    def patches(self, x: Ref) -> bool:
        """Whether the data was unfolded into overlapping patches on its way here."""
        for _ in range(12):
            if x.overlaps or base_name(x.node.op) == "im2col":
                return True
            if base_name(x.node.op) not in SAME_ENTRIES | MOVES or not x.node.refs:
                return False
            x = x.node.refs[0]
        return False


_WALKED = SAME_ENTRIES | MOVES | ADDITIONS | SUMS | {"copy"}
_ADD_PRODUCTS = frozenset({"addcmul", "addcdiv", "lerp"})

_NONLINEAR = frozenset(
    {"tanh", "sigmoid", "gelu", "silu", "elu", "celu", "selu", "leaky_relu", "softplus", "hardtanh",
     "hardswish", "hardsigmoid", "mish", "sin", "cos", "exp", "_softmax", "_log_softmax", "log_sigmoid",
     "log_sigmoid_forward", "relu6", "prelu", "_prelu_kernel", "rrelu_with_noise", "abs", "pow", "glu",
     "threshold", "clamp", "clamp_min", "relu", "maximum", "where"}
)  # fmt: skip


def _operands(node: Node) -> tuple[Ref | None, Ref | None]:
    """Both factors of a contraction, or (None, None)."""
    product, convolution = contraction_of(node), convolution_of(node)
    if product is not None:
        return product.left, product.right
    if convolution is not None:
        return convolution.x, convolution.weight
    return None, None


def _rectifies(node: Node, consumer: Node, start: Node) -> bool | None:
    """Whether consumer = max(z, 0) for the value that it reads, or for the layer's own; None: unsure."""
    unsure = False
    if consumer.out is None or not consumer.out.dtype.is_floating_point:
        return False
    after: torch.Tensor | None = None
    for source in {node.index: node, start.index: start}.values():
        if source.out is None or source.out.numel != consumer.out.numel:
            continue
        reads = [r for r in consumer.refs if r.node is source]
        geometry = reads[0] if reads and reads[0].size == consumer.out.size else source.out
        before = geometry.value()
        after = consumer.out.value() if after is None else after
        if before.shape != after.shape and before.is_contiguous():
            before = before.reshape(after.shape)
        told = rectified(consumer, before, after)
        if told:
            return True
        unsure = unsure or (told is None and base_name(consumer.op) not in SAME_ENTRIES)
    return None if unsure else False
