"""What a trace shows beside the chain, for a diagnosis: whole parameters, live output biases, zeros."""

from __future__ import annotations

import torch

from hyperverify.sites import Clue
from hyperverify.tracing.observations import way_down
from hyperverify.tracing.operations import contraction_of
from hyperverify.tracing.replicates import Replicate
from hyperverify.tracing.sources import Mixture, Opaque, Stage
from hyperverify.tracing.values import Node, Ref, Trace


def clues_of(first: Replicate) -> tuple[dict[str, Clue], ...]:
    """For each layer, by ``weights`` and ``biases``, what the first replicate shows.

    Args:
        first: a replicate whose tensors are still there.
    """
    found: list[dict[str, Clue]] = []
    for weights, biases in zip(first.analysis.weights, first.analysis.biases, strict=True):
        clues = {"weights": _clue(weights, first.trace)}
        if biases is not None:
            clues["biases"] = _clue(biases, first.trace)
        found.append(clues)
    return tuple(found)


def _clue(source: Mixture, trace: Trace) -> Clue:
    way = way_down(source)
    rows = tuple(
        part.mixer.size[0] * part.mixer.size[1] if isinstance(part, Stage) else 0 for part in way
    )
    top = way[0] if way else None
    if not isinstance(top, Opaque):
        return Clue(rows)
    values = torch.cat([picked.values(trace) for picked in top.entries])
    zeros = float((values == 0).double().mean()) if values.numel() else 0.0
    product = contraction_of(trace.nodes[top.node])
    if product is None or product.bias is None or not bool(product.bias.value().any()):
        return Clue(rows, zeros=zeros)
    mixer = product.left if not product.left.node.generated else product.right
    if not product.left.node.generated and not product.right.node.generated:
        mixer = max(product.left, product.right, key=lambda ref: ref.numel)
    if mixer.node.generated:
        return Clue(rows, zeros=zeros)
    width = mixer.size[2] if mixer is product.left else mixer.size[1]
    return Clue(
        rows, width, mixer.numel, _mean_square(mixer), _mean_square(product.bias),
        _name(mixer.node, trace), _name(product.bias.node, trace), zeros,
    )  # fmt: skip


def _mean_square(ref: Ref) -> float:
    return float(ref.value().detach().to(torch.float64).square().mean())


def _name(node: Node, trace: Trace) -> str:
    return trace.names.get(node.index, "")
