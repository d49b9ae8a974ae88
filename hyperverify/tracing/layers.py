"""Which contractions of a call are mainnet layers: their kind, geometry, ReLU, bias and weights.

A layer is a contraction in which one operand depends on the data and the other does not but was
generated, that is, contracted from parameters and embeddings. What meets that description only half is
named in `Findings.flags`, never passed over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from hyperverify.tracing.graph import Graph
from hyperverify.tracing.operations import (
    ADDITIONS,
    ATTENTION,
    CONTRACTIONS,
    EMPTY,
    Contraction,
    base_name,
    contraction_of,
    convolution_of,
)
from hyperverify.tracing.values import Node, Ref, Trace

OUTSIDE = (
    "uncovered: a tensor that was made outside torch during the call meets the data "
    "(weights computed with numpy?)"
)


@dataclass(frozen=True, eq=False)
class TracedLayer:
    """One mainnet layer of one call.

    Attributes:
        node: of the contraction, z = W x.
        kind: ``linear``, ``conv1d`` ... ``conv3d``, ``transposed conv2d`` ...
        d_i, d_j: fans in channels: out_channels / groups, in_channels / groups.
        kernel: of a convolution, () for linear.
        groups: of a convolution; 1 unless grouped.
        copies: matrices that a batched product holds for one sample (an ensemble, groups of units).
        stride, padding, dilation: of a convolution, () for linear.
        per_sample: whether every sample has weights of its own.
        relu: whether the output goes through a ReLU before the next contraction (found by values).
        activation: what else it goes through, by name, or "none".
        bias: ``none``, ``leaf`` (a parameter), ``zero`` (a constant 0) or ``generated``.
        weight, x, z, b: the operands; b is None without a bias.
        out: z with its bias.
        uses: how often the call uses these weights.
        relu_known: whether the values could tell a ReLU from the identity.
        beside: what else is on its way: ``sum`` (its output is added to other data), ``normalization``
            (of its output), ``fork`` (its input is read elsewhere too).
    """

    node: int
    kind: str
    d_i: int
    d_j: int
    kernel: tuple[int, ...]
    groups: int
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    per_sample: bool
    relu: bool
    activation: str
    bias: str
    weight: Ref
    x: Ref
    z: Ref
    b: Ref | None
    out: Ref
    copies: int = 1
    uses: int = 1
    relu_known: bool = True
    beside: tuple[str, ...] = ()

    @property
    def receptive_field(self) -> int:
        """r, the product of the kernel."""
        return math.prod(self.kernel)

    @property
    def structure(self) -> tuple[object, ...]:
        """What must be the same in every replicate."""
        return (
            self.kind, self.d_i, self.d_j, self.kernel, self.groups, self.stride, self.padding,
            self.dilation, self.per_sample, self.relu, self.activation, self.bias,
            self.weight.size, self.copies,
        )  # fmt: skip


@dataclass(frozen=True)
class Findings:
    """What a call is made of: generated layers in order, and by name what is not covered.

    Attributes:
        layers: the generated mainnet layers.
        flags: sentences; any of them keeps the whole from being VERIFIED.
        ordinary: how many weights that nothing generated the data is contracted with beside them.
    """

    layers: tuple[TracedLayer, ...]
    flags: tuple[str, ...]
    ordinary: int


def find_layers(trace: Trace, other: Trace | None = None) -> Findings:
    """The generated layers of a call.

    Args:
        trace: the call.
        other: a call of the same model with another number of samples, to tell samples from groups;
            without it, as many groups as there are samples count as samples.
    """
    return _Finder(trace, other).findings()


class _Finder:
    def __init__(self, trace: Trace, other: Trace | None) -> None:
        self._trace = trace
        same = other is not None and len(other.nodes) == len(trace.nodes)
        self._other = other if same else None
        self._flags: list[str] = []
        self._plain: set[object] = set()  # weights that nothing generated
        self._graph = Graph(trace)

    def findings(self) -> Findings:
        layers: list[TracedLayer] = []
        if self._trace.reads:
            self._flag(
                f"data-dependent control flow: Python reads the data ({self._trace.reads[0]})"
            )
        for lost in self._trace.lost:
            self._flag(f"uncovered: {lost}")
        biases: set[int] = set()
        for node in self._trace.nodes:
            if node.leaf or not node.taint & self._graph.mask:
                continue
            if base_name(node.op) in CONTRACTIONS | ATTENTION:
                made = self._contraction(node)
                if isinstance(made, TracedLayer):
                    layers.append(made)
                    if made.b is not None:
                        biases.add(made.b.node.index)
        self._stray(layers)
        outputs = self._trace.outputs
        if layers and outputs and not any(map(self._graph.is_data, outputs)):
            self._flag(
                "uncovered: what the call returns comes from its data by a way that torch does not show "
                "(numpy, another thread?)"
            )
        return Findings(self._merged(layers), tuple(dict.fromkeys(self._flags)), len(self._plain))

    def _merged(self, layers: list[TracedLayer]) -> tuple[TracedLayer, ...]:
        """Layers that use the same weights are one layer, used several times."""
        by_weight: dict[object, list[TracedLayer]] = {}
        for layer in layers:
            by_weight.setdefault(self._key(layer.weight), []).append(layer)
        merged: list[TracedLayer] = []
        idle = self._idle_uses() if layers else {}
        for key, uses in by_weight.items():
            merged.append(replace(uses[0], uses=len(uses) + idle.get(key, 0)))
            if len({(u.kind, u.relu, u.bias, u.groups, u.kernel) for u in uses}) > 1:
                self._flag("ambiguous: the same generated weights are used in two different ways")
        return tuple(merged)

    def _key(self, weight: Ref) -> object:
        return (self._graph.number(weight.node), *weight.key[1:])

    def _idle_uses(self) -> dict[object, int]:
        """How often weights are contracted with what is no data, such as a recurrent net's first state."""
        found: dict[object, int] = {}
        for node in self._trace.nodes:
            product = None if node.taint & self._graph.mask else contraction_of(node)
            for weight in () if product is None else _as_weights(product):
                if weight.node.generated:
                    key = self._key(weight)
                    found[key] = found.get(key, 0) + 1
        return found

    def _flag(self, text: str) -> None:
        self._flags.append(text)

    # -- contractions -----------------------------------------------------------

    def _contraction(self, node: Node) -> TracedLayer | str | None:
        """The layer; None for an ordinary one; a word for what was flagged."""
        op = base_name(node.op)
        product, convolution = contraction_of(node), convolution_of(node)
        if product is not None:
            operands = product.left, product.right
        elif convolution is not None:
            operands = convolution.x, convolution.weight
        else:
            weights = [r for r in node.refs if self._graph.is_generated(r)]
            if not weights:
                return None
            self._flag(f"uncovered: {op} takes the data and a generated tensor")
            return "uncovered"
        if all(map(self._graph.is_data, operands)):
            return self._two_data(node, operands)
        weight = next(r for r in operands if not self._graph.is_data(r))
        if not weight.node.generated:
            self._ordinary(weight, node, product)
            return None
        if any(r.dtype.is_complex for r in operands):
            self._flag("uncovered: a contraction of complex numbers with a generated tensor")
            return "uncovered"
        if convolution is not None:
            if weight is convolution.x:
                self._flag("uncovered: a generated tensor is convolved with the data as kernel")
                return "uncovered"
            return self._convolution(node)
        x = next(r for r in operands if self._graph.is_data(r))
        if self._graph.patches(x):
            self._flag(
                "uncovered: a convolution as a product of patches (its kernel cannot be told)"
            )
        if self._graph.feeds_attention(node):
            self._flag(
                "ambiguous: a generated tensor meets the data in an attention: a softmax over their "
                "product (a learned query?)"
            )
            return "ambiguous"
        return self._linear(node)

    def _ordinary(self, weight: Ref, node: Node, product: Contraction | None) -> None:
        """A layer whose weight nothing generated, as far as torch shows."""
        self._plain.add(self._key(weight))
        made = product or convolution_of(node)
        bias = None if made is None else made.bias
        if bias is not None and self._graph.is_generated(bias):
            self._flag("uncovered: a generated bias on a layer whose weights are not generated")
        origin = weight.node
        if not origin.leaf and base_name(origin.op) in EMPTY and bool(weight.value().any()):
            self._flag(OUTSIDE)
        if self._graph.templates(weight):
            self._flag(
                "ambiguous: the weights of a layer are parameters, each times another one, and added "
                "(a mixture of templates?)"
            )

    def _two_data(self, node: Node, operands: tuple[Ref, Ref]) -> str | None:
        if self._graph.feeds_attention(node) or any(
            self._graph.from_softmax(r.node) for r in operands
        ):
            return None
        self._flag(
            "data-dependent weights: a contraction of the data with what was made from the data"
        )
        return "data-dependent"

    def _linear(self, node: Node) -> TracedLayer:
        product = contraction_of(node)
        assert product is not None
        assert node.template is not None
        if any(node.template[1].get(factor, 1) != 1 for factor in ("alpha", "beta")):
            self._flag("uncovered: the product or the bias is scaled (alpha or beta of addmm)")
        left = not self._graph.is_data(product.left)
        weight = product.left if left else product.right.permute(0, 2, 1)  # (b, d_i, d_j)
        x = product.right.permute(0, 2, 1) if left else product.left  # (b, samples, d_j)
        z = product.out.permute(0, 2, 1) if left else product.out  # (b, samples, d_i)
        batch, d_i, d_j = weight.size
        bias = product.bias
        copies, per_sample = 1, False
        if _one_matrix(weight):
            weight = weight.select(0, 0)
        else:
            copies, per_sample = self._groups(node, batch)
        found = self._layer(
            node, "linear", d_i, d_j, (), 1, (), (), (), per_sample, weight, x, z, bias
        )
        return replace(found, copies=copies)

    def _convolution(self, node: Node) -> TracedLayer:
        c = convolution_of(node)
        assert c is not None
        assert node.out is not None
        spatial = len(c.weight.size) - 2
        groups = c.groups
        kind = f"{'transposed ' if c.transposed else ''}conv{spatial}d"
        d_j = c.weight.size[1] if not c.transposed else c.weight.size[0] // groups
        d_i = c.weight.size[0] // groups if not c.transposed else c.weight.size[1]
        # The groups of a batch folded into the channels are samples, each with weights of its own.
        per_sample = False
        if c.x.size[0] == 1:
            groups, per_sample = self._groups(node, groups)
        return self._layer(
            node, kind, d_i, d_j, c.weight.size[2:], groups, c.stride, c.padding, c.dilation,
            per_sample, c.weight, c.x, node.out, c.bias,
        )  # fmt: skip

    def _groups(self, node: Node, groups: int) -> tuple[int, bool]:
        """(groups of one sample, whether samples have weights of their own) of so many blocks."""
        samples = self._trace.batch
        if samples < 2 or groups % samples:
            return groups, False
        if self._other is not None:
            twin = self._other.nodes[node.index]
            product, convolution = contraction_of(twin), convolution_of(twin)
            blocks = product.left.size[0] if product is not None else 0
            blocks = convolution.groups if convolution is not None else blocks
            if blocks * samples != groups * self._other.batch:
                return groups, False
        return groups // samples, True

    def _layer(
        self,
        node: Node,
        kind: str,
        d_i: int,
        d_j: int,
        kernel: tuple[int, ...],
        groups: int,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        dilation: tuple[int, ...],
        per_sample: bool,
        weight: Ref,
        x: Ref,
        z: Ref,
        bias: Ref | None,
    ) -> TracedLayer:
        after = node
        if bias is None:
            bias, after = self._graph.bias_after(node)
        relu, activation, known = self._graph.activation(after)
        return TracedLayer(
            node.index, kind, d_i, d_j, kernel, groups, stride, padding, dilation, per_sample, relu,
            activation, _bias_kind(bias), weight, x, z, bias, z if after is node else after.out or z,
            relu_known=known, beside=self._graph.beside(after, x),
        )  # fmt: skip

    # -- what meets the data otherwise -------------------------------------------

    def _stray(self, layers: list[TracedLayer]) -> None:
        """Generated tensors that meet the data outside a layer, or never."""
        biases = {layer.b.key for layer in layers if layer.b is not None}
        for node in self._trace.nodes:
            op = base_name(node.op)
            if node.leaf or not node.taint & self._graph.mask or op in CONTRACTIONS | ATTENTION:
                continue
            made = [r for r in node.refs if self._graph.is_generated(r) and r.key not in biases]
            if not made or not any(map(self._graph.is_data, node.refs)):
                continue
            if op == "mul":
                self._flag("uncovered: elementwise product of the data with a generated tensor")
            elif op in ADDITIONS:
                self._flag("uncovered: a generated tensor is added to the data outside a layer")
            else:
                self._flag(f"uncovered: {op} takes the data and a generated tensor")


def _as_weights(product: Contraction) -> tuple[Ref, Ref]:
    """Both factors of a product, each as the weight that it would be if the other were the data."""
    factors = product.left, product.right.permute(0, 2, 1)
    left, right = (r.select(0, 0) if _one_matrix(r) else r for r in factors)
    return left, right


def _one_matrix(weight: Ref) -> bool:
    """Whether a batch of matrices is one for the whole batch."""
    return weight.size[0] == 1 or weight.stride[0] == 0


def _bias_kind(bias: Ref | None) -> str:
    if bias is None:
        return "none"
    if bias.node.generated:
        return "generated"
    return "leaf" if bool(bias.value().any()) else "zero"
