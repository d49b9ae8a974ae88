"""How far the mean square of a value can spread about its expectation, from the graph that made it.

For Q = |W|^2 over whole replicates the bound is on E[Q^2] / E[Q]^2 = 1 + cv^2. It multiplies along the
graph: (1 + (kurtosis(e) - 1)/d) for an embedding of d entries, (1 + 2/width) for each linear layer and
(1 + 5/width) where a ReLU (or another activation) follows, (1 + 2/n_W) for the weights themselves.
Entries are assumed independent with a kurtosis of at most 3, the normal law's.
"""

from __future__ import annotations

import math

import torch

from hyperverify.tracing.operations import (
    ADDITIONS,
    CONTRACTIONS,
    FILLS,
    MOVES,
    SAME_ENTRIES,
    SCALINGS,
    base_name,
    contraction_of,
    convolution_of,
)
from hyperverify.tracing.values import Node, Ref, Trace

LINEAR, ACTIVATED = 2.0, 5.0
"""Relative variance of z^2 and of max(z, 0)^2 for a normal z."""

DERIVED = (
    SAME_ENTRIES | SCALINGS | MOVES | ADDITIONS | FILLS
    | {"copy", "relu", "leaky_relu", "tanh", "sigmoid", "clamp_min", "maximum", "native_dropout"}
)  # fmt: skip
"""Operations whose results spread no further than so; of any other (exp...) this is a declaration."""


class Spreads:
    """Bounds for the values of one trace, remembered."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._reached = 0
        self._known: dict[tuple[int, float], tuple[float, bool]] = {}

    def of_node(self, node: Node) -> tuple[float, bool]:
        """(bound on cv^2, whether every step has a derivation) for the node's whole output."""
        while self._reached <= node.index:  # in order, so that nothing is asked for in depth
            before = self._trace.nodes[self._reached]
            for per_unit in (LINEAR, ACTIVATED):
                self._moment(before, before.numel, per_unit)
            self._reached += 1
        moment, known = self._moment(node, node.numel, LINEAR)
        return moment - 1.0, known

    def _moment(self, node: Node, entries: int, per_unit: float) -> tuple[float, bool]:
        if not node.generated:
            return 1.0 + 2.0 / max(entries, 1), True
        key = (node.index, per_unit)
        if key not in self._known:
            self._known[key] = self._made(node, per_unit)
        return self._known[key]

    def _of_ref(self, ref: Ref, per_unit: float) -> tuple[float, bool]:
        return self._moment(ref.node, ref.numel, per_unit)

    def _made(self, node: Node, per_unit: float) -> tuple[float, bool]:
        product = contraction_of(node)
        if product is not None:
            return self._product(product.left, product.right, per_unit)
        convolution = convolution_of(node)
        if convolution is not None:
            x, weight = convolution.x, convolution.weight
            units = weight.size[0] if not convolution.transposed else weight.size[1]
            below = [self._of_ref(r, LINEAR) for r in (x, weight) if r.node.generated]
            below = below or [self._of_ref(x, LINEAR)]
            moment = max(m for m, _ in below) if len(below) == 1 else below[0][0] * below[1][0]
            return moment * (1.0 + per_unit / units), all(k for _, k in below)
        op = base_name(node.op)
        floats = [r for r in node.refs if r.dtype.is_floating_point and r.numel]
        if node.before is not None and node.before.generated:
            floats.append(Ref(node.before, (node.before.numel,), (1,), 0, *_kind(node)))
        sources = [r for r in node.refs if r.node.generated and r.numel]
        if node.before is not None and node.before.generated:
            sources.append(floats[-1])
        if op in CONTRACTIONS:
            bounds = [self._of_ref(r, LINEAR) for r in floats]
            return max(m for m, _ in bounds) * (1.0 + per_unit / 1.0), False
        factors = [r for r in floats if r.numel > 1]
        if op in SCALINGS and len(factors) > 1:
            bounds = [self._of_ref(r, LINEAR) for r in factors]
            known = all(k for _, k in bounds)
            shared = factors[0].node.leaves & factors[1].node.leaves
            if shared:  # one |h|^2 in both: its fourth power in place of its square
                return max(m for m, _ in bounds) ** 4, known
            return math.prod(m for m, _ in bounds), known
        inner = per_unit if op in SAME_ENTRIES or op in SCALINGS else ACTIVATED
        if not sources:  # a product of parameters, summed by hand
            parts = [r for mul in node.refs for r in mul.node.refs if r.numel > 1]
            return math.prod(self._of_ref(r, LINEAR)[0] for r in parts), False
        bounds = [self._of_ref(r, inner) for r in sources]
        return max(m for m, _ in bounds), op in DERIVED and all(k for _, k in bounds)

    def _product(self, left: Ref, right: Ref, per_unit: float) -> tuple[float, bool]:
        b, m, k = left.size
        n = right.size[2]
        if left.node.generated and right.node.generated:
            (below, known), (beside, also) = (self._of_ref(r, LINEAR) for r in (left, right))
            own = 1.0 + 2.0 / (m * k) + 2.0 * (m + k + 1) / (m * n * k)
            shared = bool(left.node.leaves & right.node.leaves)
            # The same features on both sides: |h|^4 in place of |h|^2 |g|^2.
            moment = max(below, beside) ** 4 if shared else below * beside
            return own * moment, known and also
        rows, features = (m, right) if not left.node.generated else (n, left)
        if not (left.node.generated or right.node.generated):
            larger_left = left.numel >= right.numel
            rows, features = (m, right) if larger_left else (n, left)
        moment, known = self._of_ref(features, LINEAR)
        return moment * (1.0 + per_unit / max(rows * (b if left.stride[0] else 1), 1)), known


def _kind(node: Node) -> tuple[torch.dtype, torch.device]:
    assert node.out is not None
    return node.out.dtype, node.out.device
