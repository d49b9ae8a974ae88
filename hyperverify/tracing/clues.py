"""What a trace shows beside the chain, for a diagnosis: whole parameters, live output biases, zeros."""

from __future__ import annotations

import torch
from torch import Tensor

from hyperverify.sites import Clue
from hyperverify.tracing.labels import Labels, distinct, split
from hyperverify.tracing.observations import way_down
from hyperverify.tracing.operations import Contraction, contraction_of
from hyperverify.tracing.replicates import Replicate
from hyperverify.tracing.sources import Mixture, Opaque, Stage
from hyperverify.tracing.values import Trace


def clues_of(first: Replicate) -> tuple[dict[str, Clue], ...]:
    """For each layer, by ``weights`` and ``biases``, what the first replicate shows.

    Args:
        first: a replicate whose tensors are still there.
    """
    found: list[dict[str, Clue]] = []
    labels = Labels()
    for weights, biases in zip(first.analysis.weights, first.analysis.biases, strict=True):
        clues = {"weights": _clue(weights, first.trace, labels)}
        if biases is not None:
            clues["biases"] = _clue(biases, first.trace, labels)
        found.append(clues)
    return tuple(found)


def _clue(source: Mixture, trace: Trace, labels: Labels) -> Clue:
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
    if product is None or product.bias is None:
        return Clue(rows, zeros=zeros)
    left, right = product.left, product.right.permute(0, 2, 1)
    free = [ref for ref in (left, right) if not ref.node.generated]
    if not free:
        return Clue(rows, zeros=zeros)
    beta = product.bias.value().detach().to("cpu", torch.float64).expand(product.out.size)
    # The output layer is the side along whose rows its bias runs.
    along = [ref for ref, dim in ((left, 1), (right, 2)) if _varies(beta, dim) and ref in free]
    mixer = max(along or free, key=lambda ref: ref.numel)
    # The rows of the output layer, and the entries of its bias, that make these very entries.
    index = torch.cat([_inside(product, picked.labels(labels)) for picked in top.entries])
    _, m, n = product.out.size
    row = index // (m * n) * mixer.size[1] + (index // n % m if mixer is left else index % n)
    H = mixer.value().detach().to("cpu", torch.float64).reshape(-1, mixer.size[2])[row]
    live = float(beta.reshape(-1)[index].square().mean())
    if live == 0.0:
        return Clue(rows, zeros=zeros)
    return Clue(
        rows, mixer.size[2], distinct(row)[1] * mixer.size[2], float(H.square().mean()), live,
        trace.names.get(mixer.node.index, ""), trace.names.get(product.bias.node.index, ""), zeros,
    )  # fmt: skip


def _varies(values: Tensor, dim: int) -> bool:
    """Whether a tensor is anything but one slice repeated."""
    return values.size(dim) > 1 and values.stride(dim) != 0


def _inside(product: Contraction, labels: Tensor) -> Tensor:
    """Where in a contraction's result, in its logical order, the labelled entries are."""
    _, places = split(labels)
    inside = torch.zeros(product.out.node.numel, dtype=torch.int64)
    inside[product.out.addresses().reshape(-1)] = torch.arange(product.out.numel)
    return inside[places]
