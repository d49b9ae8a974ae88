"""What generates a weight: the tree of contractions behind its entries, down to the embeddings.

Take the weighted sum of squares Q = sum over entries of w W^2. Entries that are H f, with rows of H
independent, zero-mean and alike and f independent of H, obey E[Q | f] = Var(H) D, where D is again a
weighted sum of squares, of the entries of f. So the question passes down, stage by stage, until it
reaches embeddings. Each stage is a `Stage`; what the question cannot pass through is an `Opaque` end,
whose mean square is taken as it stands; a `Leaf` is an embedding, drawn or constant.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from hyperverify.tracing.labels import Labels, distinct, firsts, split
from hyperverify.tracing.operations import (
    CONTRACTIONS,
    Contraction,
    base_name,
    contraction_of,
)
from hyperverify.tracing.rectifiers import rectified
from hyperverify.tracing.spreads import Spreads
from hyperverify.tracing.values import Node, Ref, Trace

MOST_COLUMNS = 512
"""Beyond so many feature vectors in one contraction their Gram matrix is bounded, not formed."""


@dataclass(frozen=True, eq=False)
class Picked:
    """Entries of a value: ``ref`` in logical order, or those at ``index`` of it (int64, 1-d)."""

    ref: Ref
    index: Tensor | None = None

    def values(self, trace: Trace) -> Tensor:
        """The entries in another trace of the same program, float64, 1-d."""
        r = self.ref
        same = Ref(trace.nodes[r.node.index], r.size, r.stride, r.offset, r.dtype, r.device)
        flat = same.value().detach().reshape(-1)
        if self.index is not None:
            flat = flat[self.index.to(flat.device)]
        return flat.to("cpu", torch.float64)

    def labels(self, labels: Labels) -> Tensor:
        """Their labels, 1-d."""
        flat = labels.of(self.ref).reshape(-1)
        return flat if self.index is None else flat[self.index]

    def at(self, index: Tensor) -> Picked:
        """Some of them."""
        return Picked(self.ref, index if self.index is None else self.index[index])


@dataclass(frozen=True, eq=False)
class Leaf:
    """Entries of embeddings (or of other values that nothing generated).

    Attributes:
        entries, weights: distinct entries and what each counts.
        node: of the first entry.
        spread: bound on the relative variance of the weighted mean square, kurtosis 3 declared.
    """

    entries: tuple[Picked, ...]
    weights: tuple[Tensor, ...]
    node: int
    spread: float


@dataclass(frozen=True, eq=False)
class Opaque:
    """Entries whose mean square is taken as it stands.

    Attributes:
        entries, weights: as in `Leaf`.
        node: what computed them.
        why: why the question passes no further, in a few words.
        spread: bound on the relative variance of their weighted mean square, derived from the graph.
        known: whether every step of that bound has a derivation.
    """

    entries: tuple[Picked, ...]
    weights: tuple[Tensor, ...]
    node: int
    why: str
    spread: float
    known: bool


@dataclass(frozen=True, eq=False)
class Idle:
    """A stage's own matrix, for replicates in which a dead ReLU below gives it nothing but zeros.

    To leave such replicates out would bias what is left: with several feature vectors, whether all are
    dead is no matter of signs alone. But the matrix is there, and independent of all below: the squares
    of its row sums, what it would make of features that are all 1, have the mean that any others have.

    Attributes:
        made: the contraction's own entries, as `Stage.entries` before any factor or ReLU.
        rows, weights: which rows of the mixer, and what a squared entry of each counts.
        gains: of the first replicates that are alive: what a factor and a ReLU behind the contraction
            make of its squares.
    """

    made: Picked
    rows: Tensor
    weights: Tensor
    gains: list[float] = field(default_factory=list[float])

    @property
    def gain(self) -> float:
        """The factor behind the contraction; NaN where it is not known, or drawn anew every time."""
        if not self.gains or max(self.gains) > 1.000001 * min(self.gains):
            return float("nan")
        return self.gains[0]


@dataclass(frozen=True, eq=False)
class Stage:
    """Entries that one contraction makes of its own random matrix and of features.

    Attributes:
        entries, weights: the entries above, after a ReLU if there is one.
        node: of the contraction.
        mixer: its random matrix, "H".
        rows: how many of the mixer's rows are used.
        width: entries of a feature vector, d_k.
        columns: feature vectors, C.
        relu: whether the entries are max(z, 0) of the contraction's z.
        before: z, entry by entry; None where there is no ReLU.
        features: the C x d_k entries of the features.
        column_weights: (C,), what a squared entry of each counts.
        row_spread: sum over rows of squared weights over the squared sum.
        separable: whether an entry's weight is its row's times its column's.
        gram_weights: (C, C), sum over rows of the weights' outer product, where they are not
            separable; None: they are, or there are too many columns, and the worst case is taken.
        child: what the features are made of.
        idle: what stands in for the features where they are all 0; None where they cannot be.
    """

    entries: Picked
    weights: Tensor
    node: int
    mixer: Ref
    rows: int
    width: int
    columns: int
    relu: bool
    before: Picked | None
    features: Picked
    column_weights: Tensor
    row_spread: float
    separable: bool
    gram_weights: Tensor | None
    child: Mixture
    idle: Idle | None


@dataclass(frozen=True, eq=False)
class Mixture:
    """Entries of one value by where they come from. ``total`` is the sum of all weights."""

    parts: tuple[Stage | Leaf | Opaque, ...]
    total: float
    size: int


def source_of(trace: Trace, ref: Ref, labels: Labels | None = None) -> Mixture:
    """The tree behind a value.

    Args:
        trace: where the value was seen.
        ref: the value.
        labels: shared between calls on one trace.
    """
    return _Builder(trace, labels or Labels()).mixture(
        Picked(ref), torch.ones(ref.numel, dtype=torch.float64)
    )


class _Builder:
    def __init__(self, trace: Trace, labels: Labels) -> None:
        self._trace = trace
        self._labels = labels
        self._spreads = Spreads(trace)

    def mixture(self, picked: Picked, weights: Tensor) -> Mixture:
        """The parts of some entries."""
        labels = picked.labels(self._labels)
        nodes, places = split(labels)
        constant = labels == 0
        nodes = torch.where(constant, picked.ref.node.index, nodes)
        parts: list[Stage | Leaf | Opaque] = []
        leaves: list[tuple[Node, Picked, Tensor, Tensor]] = []
        for index in sorted(set(cast("list[int]", cast("Any", nodes).tolist()))):
            node = self._trace.nodes[index]
            chosen = torch.nonzero(nodes == index).reshape(-1)
            every = chosen.numel() == nodes.numel()
            some = picked if every else picked.at(chosen)
            part = (
                some,
                weights if every else weights[chosen],
                places if every else places[chosen],
            )
            if bool(constant[chosen].any()):
                parts.append(self._opaque(node, some, part[1], "some entries are constants"))
            elif not node.generated:
                leaves.append((node, *part))
            else:
                parts.append(self._generated(node, *part))
        if leaves:
            parts.append(self._leaf(leaves))
        return Mixture(tuple(parts), float(weights.sum()), int(weights.numel()))

    def _leaf(self, leaves: list[tuple[Node, Picked, Tensor, Tensor]]) -> Leaf:
        entries: list[Picked] = []
        weights: list[Tensor] = []
        for _, some, w, places in leaves:
            # An entry that is read several times is one entry that counts several times.
            inverse, count = distinct(places)
            entries.append(some.at(firsts(inverse, count)))
            weights.append(torch.zeros(count, dtype=torch.float64).index_add_(0, inverse, w))
        together = torch.cat(weights)
        spread = 2.0 * float((together**2).sum() / together.sum() ** 2)
        return Leaf(tuple(entries), tuple(weights), leaves[0][0].index, spread)

    def _opaque(self, node: Node, some: Picked, weights: Tensor, why: str) -> Opaque:
        spread, known = self._spreads.of_node(node)
        return Opaque((some,), (weights,), node.index, why, spread, known)

    def _generated(
        self, node: Node, some: Picked, weights: Tensor, places: Tensor
    ) -> Stage | Opaque:
        product = contraction_of(node)
        if product is not None:
            stage = self._stage(product, some, weights, places, None)
            return self._opaque(node, some, weights, stage) if isinstance(stage, str) else stage
        if base_name(node.op) in CONTRACTIONS:
            return self._opaque(node, some, weights, f"made by {node.op}")
        why = f"made by {node.op}"
        if node.out is not None and (node.before is None or node.out.numel == node.numel):
            for operand in node.refs:
                if operand.size != node.out.size or not operand.node.generated:
                    continue
                if not rectified(node, operand.value(), node.out.value()):
                    continue
                before = Picked(operand, _logical(node.out, places))
                below, inner = split(before.labels(self._labels))
                inner_node = self._trace.nodes[int(below[0])] if int(below[0]) >= 0 else None
                product = None if inner_node is None else contraction_of(inner_node)
                if product is None or not bool((below == below[0]).all()):
                    continue
                stage = self._stage(product, some, weights, inner, before)
                if not isinstance(stage, str):
                    return stage
                why = stage
        return self._opaque(node, some, weights, why)

    def _stage(
        self,
        product: Contraction,
        some: Picked,
        weights: Tensor,
        places: Tensor,
        before: Picked | None,
    ) -> Stage | str:
        """The stage, or why there is none."""
        side = _mixer_side(product)
        if side is None:
            return "both factors are generated"
        mixer, features = product.left, product.right.permute(0, 2, 1)
        if side == "right":
            mixer, features = product.right.permute(0, 2, 1), product.left
        if mixer.node.leaves & features.node.leaves:
            return "the output layer and its input share a parameter"
        if product.bias is not None and bool(product.bias.value().any()):
            return "a bias that is not zero is added"
        width = mixer.size[2]
        if mixer.overlaps or (width > 1 and mixer.stride[2] == 0):
            return "rows of the output layer overlap"
        if places.numel() != distinct(places)[1]:
            return self._repeated(product, some, weights, places, before)
        b, m, n = _coordinates(product.out, places)
        row_index = b * mixer.size[1] + (m if side == "left" else n)
        column_index = b * features.size[1] + (n if side == "left" else m)
        row_of, rows = distinct(self._keys(mixer)[row_index])
        column_of, columns = distinct(self._keys(features)[column_index])
        first = column_index[firsts(column_of, columns)]
        column_weights = torch.zeros(columns, dtype=torch.float64).index_add_(0, column_of, weights)
        row_sums = torch.zeros(rows, dtype=torch.float64).index_add_(0, row_of, weights)
        separable, gram = rows == 1 or columns == 1, None
        if not separable and rows * columns <= 2**24:
            table = torch.zeros(rows * columns, dtype=torch.float64)
            table.index_add_(0, row_of * columns + column_of, weights)
            table = table.view(rows, columns)
            product_table = torch.outer(row_sums, column_weights) / weights.sum()
            separable = torch.allclose(table, product_table, rtol=1e-9, atol=0.0)
            if not separable and columns <= MOST_COLUMNS:
                gram = table.T @ table
        index = (first[:, None] * width + torch.arange(width)).reshape(-1)
        picked = Picked(features, index)
        child = self.mixture(picked, column_weights.repeat_interleave(width))
        idle: Idle | None = None
        if _may_die(child) and product.node.out is not None:
            made = Picked(product.node.out, _logical(product.node.out, places))
            idle = Idle(made, row_index[firsts(row_of, rows)], row_sums)
        return Stage(
            some, weights, product.node.index, mixer, rows, width, columns,
            before is not None, before, picked, column_weights,
            float((row_sums**2).sum() / weights.sum() ** 2), separable, gram, child, idle,
        )  # fmt: skip

    def _repeated(
        self,
        product: Contraction,
        some: Picked,
        weights: Tensor,
        places: Tensor,
        before: Picked | None,
    ) -> Stage | str:
        """The same entry of the contraction read several times counts several times."""
        inverse, count = distinct(places)
        first = firsts(inverse, count)
        summed = torch.zeros(count, dtype=torch.float64).index_add_(0, inverse, weights)
        return self._stage(
            product, some.at(first), summed, places[first],
            None if before is None else before.at(first),
        )  # fmt: skip

    def _keys(self, rows: Ref) -> Tensor:
        """What tells the vectors ``rows[b, m]`` apart, int64, (b m)."""
        first = rows.select(2, 0)
        if not rows.node.leaf:
            labels = self._labels.of(first).reshape(-1)
            if bool((labels > 0).all()):
                return labels
        return first.addresses().reshape(-1)


def _may_die(source: Mixture) -> bool:
    """Whether a ReLU on the way down can make all of it 0."""
    stages = [part for part in source.parts if isinstance(part, Stage)]
    return any(stage.relu or _may_die(stage.child) for stage in stages)


def _mixer_side(product: Contraction) -> str | None:
    """Which factor is the random matrix: not generated, and the larger if both are parameters."""
    left, right = (not r.node.generated for r in (product.left, product.right))
    if left and right:
        return "left" if _entries(product.left) >= _entries(product.right) else "right"
    return "left" if left else "right" if right else None


def _entries(ref: Ref) -> int:
    """Entries without what a stride of 0 repeats."""
    n = 1
    for length, stride in zip(ref.size, ref.stride, strict=True):
        n *= length if stride else 1
    return n


def _coordinates(out: Ref, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(b, m, n) of places in the storage of a contraction's result."""
    index = _logical(out, places)
    _, m, n = out.size
    return index // (m * n), index // n % m, index % n


def _logical(out: Ref, places: Tensor) -> Tensor:
    """Where in ``out``'s logical order the places of its storage are."""
    contiguous, expected = True, 1
    for size, stride in zip(reversed(out.size), reversed(out.stride), strict=True):
        contiguous = contiguous and (size == 1 or stride == expected)
        expected *= size
    if contiguous:
        return places - out.offset
    where = torch.zeros(out.node.numel, dtype=torch.int64)
    where[out.addresses().reshape(-1)] = torch.arange(out.numel)
    return where[places]
