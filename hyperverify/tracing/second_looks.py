"""What a single look at a call does not show, and a second call of the same model does."""

from __future__ import annotations

from dataclasses import replace

from hyperverify.tracing.layers import OUTSIDE, TracedLayer, find_layers
from hyperverify.tracing.values import Trace


def made_on_the_way(seen: Trace, again: Trace) -> list[str]:
    """Leaves that meet the data but were not there before the call: made where torch cannot see."""
    if len(seen.nodes) != len(again.nodes):
        return []
    for node, twin in zip(seen.nodes, again.nodes, strict=True):
        if node.op != "leaf" or twin.op != "leaf" or node.numel < 2:
            continue
        if node.address != twin.address and _meets_data(seen, node.index):
            return [OUTSIDE]
    return []


def remembered(seen: Trace, again: Trace) -> list[str]:
    """Weights of the second call that the data of the first one went into."""
    after_data = {n.address for n in seen.nodes if n.taint and not n.leaf}
    kept = 0
    for node in again.nodes:
        if node.op == "leaf" and node.address in after_data:
            kept |= node.leaves
    for layer in find_layers(again).layers if kept else ():
        if layer.weight.node.leaves & kept:
            return ["data-dependent weights: they depend on a state that remembers earlier data"]
    return []


def loops_over_samples(
    layers: tuple[TracedLayer, ...], seen: Trace, other: Trace
) -> tuple[TracedLayer, ...]:
    """Weights that a loop over the samples uses once for each are used once."""
    again = find_layers(other).layers
    if len(again) != len(layers):
        return layers
    return tuple(
        replace(layer, uses=layer.uses // seen.batch)
        if layer.uses % seen.batch == 0 and layer.uses * other.batch == twin.uses * seen.batch
        else layer
        for layer, twin in zip(layers, again, strict=True)
    )


def _meets_data(seen: Trace, leaf: int) -> bool:
    for node in seen.nodes:
        if node.taint and not node.leaf:
            mine = [r for r in node.refs if r.node.index == leaf]
            if mine and any(r.node.taint for r in node.refs) and mine[0].numel > 1:
                return mine[0].dtype.is_floating_point
    return False
