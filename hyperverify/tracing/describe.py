"""From what was traced and observed to the plain records of `hyperverify.check_results`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hyperverify.check_results import GeneratorStep, LayerResult, QuantityResult, Scales
from hyperverify.confidence import Verdict
from hyperverify.expectations import Demand
from hyperverify.tracing.layers import TracedLayer
from hyperverify.tracing.observations import Column, Observed, Shape, Stream, way_down
from hyperverify.tracing.replicates import Replicate
from hyperverify.tracing.sources import Leaf, Mixture, Opaque, Stage
from hyperverify.tracing.values import Node, Trace


def layer_result(
    t: int,
    layer: TracedLayer,
    first: Replicate,
    seen: Observed,
    quantities: tuple[QuantityResult, ...],
    verdict: Verdict | None,
    s: int,
) -> LayerResult:
    """The record of layer ``t``."""
    analysis = first.analysis
    steps = _steps("weights", analysis.weights[t], first.trace, seen, seen.weights)
    bias = analysis.biases[t]
    made = () if bias is None else _steps("biases", bias, first.trace, seen, seen.biases)
    reason = next((q.reason for q in quantities if q.verdict is not Verdict.VERIFIED), None)
    return LayerResult(
        f"layer {t + 1}", layer.kind, layer.d_i, layer.d_j, layer.receptive_field, layer.kernel,
        layer.groups, layer.stride, layer.padding, layer.dilation, layer.per_sample, layer.relu,
        layer.activation, layer.bias, layer.copies, layer.uses, layer.weight.size, s, steps, made, quantities,
        _scales(steps, seen, quantities), verdict, None if verdict is Verdict.VERIFIED else reason,
    )  # fmt: skip


def _steps(
    what: str, source: Mixture, trace: Trace, seen: Observed, stream: Stream
) -> tuple[GeneratorStep, ...]:
    steps: list[GeneratorStep] = []
    for depth, part in enumerate(way_down(source)):
        shape = seen.shapes.get((what, depth), Shape())
        square, kurtosis, peak, mean = shape.summary()
        values = stream.factors[depth] if depth < len(stream.factors) else []
        moment = _mean(values)
        if isinstance(part, Stage):
            role = "output layer" if depth == 0 else "trunk layer"
            name, why = _name(part.mixer.node, trace), ""
            rows, width, columns, relu = part.rows, part.width, part.columns, part.relu
            moment *= 2.0 if relu else 1.0  # a stage behind a ReLU carries half of its matrix's
        else:
            role = "embedding" if isinstance(part, Leaf) else "opaque"
            node = trace.nodes[part.node]
            name, why = _name(node, trace), part.why if isinstance(part, Opaque) else ""
            rows, columns, relu = 1, 1, False
            width = sum(int(w.numel()) for w in part.weights)
        steps.append(
            GeneratorStep(
                role, name, rows, width, columns, relu, moment, square, kurtosis, peak, mean,
                shape.drawn, why,
            )
        )  # fmt: skip
    return tuple(steps)


def _name(node: Node, trace: Trace) -> str:
    """The parameter's name, also where it was reshaped or scaled on the way."""
    for _ in range(20):
        if node.index in trace.names:
            return trace.names[node.index]
        below = [r for r in node.refs if not r.node.generated]
        if not below:
            return ""
        node = max(below, key=lambda r: r.numel).node  # the matrix, not its bias
    return ""


def _scales(
    steps: tuple[GeneratorStep, ...], seen: Observed, quantities: tuple[QuantityResult, ...]
) -> Scales:
    top, end = steps[0], steps[-1]
    staged = top.role == "output layer"
    h2 = _mean(seen.weights.below[0]) if staged and seen.weights.below else math.nan
    e2 = end.second_moment if staged else math.nan
    asked = next((q.expected for q in quantities if q.name != "biases"), math.nan)
    if quantities and quantities[0].name == "forward" and quantities[0].expected == 1.0:
        asked = math.nan
    d_k = top.width if staged else 0
    asked_var_h = asked / (d_k * e2) if staged and e2 > 0 else math.nan
    var_h = top.second_moment if staged else math.nan
    return Scales(
        d_k, var_h, h2, e2, asked_var_h,
        var_h / asked_var_h if asked_var_h and math.isfinite(asked_var_h) else math.nan,
        h2 / e2 if e2 and math.isfinite(e2) else math.nan,
        _mean(seen.biases.known), _mean(seen.x2), _mean(seen.gains),
    )  # fmt: skip


def _mean(values: Sequence[float] | Column) -> float:
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    return float(known.mean()) if known.size else math.nan


def assumptions_of(source: Mixture, measure: str, contradicted: bool) -> tuple[str, ...]:
    """What a verdict on this source rests on, in words."""
    way = way_down(source)
    stages = [part for part in way if isinstance(part, Stage)]
    found = ["replicates are independent: the factory draws from seeded global generators"]
    if stages:
        found.append(
            "given the features, the output layer's entries are independent, of mean 0 and one "
            "variance, no heavier-tailed than normal (kurtosis at most 3)"
        )
    if any(stage.relu for stage in stages):
        found.append("the entries of trunk layers behind a ReLU are symmetric about 0")
    end = way[-1] if way else None
    if isinstance(end, Leaf):
        found.append("embedding entries are independent, of one second moment, kurtosis at most 3")
    if isinstance(end, Opaque):
        found.append(
            f"no chain below this point ({end.why}): the mean square over replicates is taken as it "
            f"stands, its relative variance at most {end.spread:.3g}"
            + ("" if end.known else " (declared, not derived)")
        )
    if len(source.parts) > 1:
        found.append(f"the entries have {len(source.parts)} sources; the claim is on their mean")
    if measure == "activations":
        found.append(
            "the weights are independent of the layer's input, whose E[x^2] is its mean over replicates"
        )
    if contradicted:
        found.append(
            "the replicates spread more than derived: the interval reckons with twice their own spread, "
            "and no verdict but REFUTED as too large is given"
        )
    return tuple(found)


def circumstances(layer: TracedLayer, claim: str) -> tuple[str, ...]:
    """What a claim of this name on activations or gradients leaves out of its reckoning, in words."""
    if claim not in ("forward", "backward"):
        return ()
    found: list[str] = []
    if claim == "backward":
        found.append(
            "judged by the weights alone: the gradient that comes back is taken to be independent of them, "
            "and is not measured"
        )
    if any(layer.padding):
        found.append("what zero padding takes away at the borders is not counted")
    if any(step > 1 for step in layer.stride):
        transposed = layer.kind.startswith("transposed")
        if transposed == (claim == "forward"):
            found.append("with its stride, sums over positions are kept, and not means")
        elif transposed:
            found.append("with its stride, means over positions are kept, and not sums")
    if layer.activation not in ("none", "relu"):
        found.append(f"what {layer.activation} does to second moments is not counted")
    if layer.uses > 1:
        found.append(
            f"used {layer.uses} times: the claim is on each use alone, and behind the first one the input "
            "may depend on the weights"
        )
    said = {
        "sum": "its output is added to other data: what the sum does is not counted",
        "normalization": "a normalization behind it sets the scale anew",
        "fork": "its input is read elsewhere too: that gradients add up there is not counted",
    }
    found += [said[what] for what in layer.beside if what != "fork" or claim == "backward"]
    return tuple(found)


def wording(
    demand: Demand,
    verdict: Verdict,
    ratio: float,
    interval: tuple[float, float],
    replicates: int,
) -> str:
    """Why a claim is not VERIFIED."""
    letter = {"weights": "E[W^2]", "biases": "E[b^2]", "activations": "E[z^2]"}[demand.measure]
    if not math.isfinite(ratio):
        return f"{letter} is not finite"
    low, high = interval
    seen = f"{letter} is {ratio:.3g} of what {demand.name} asks, between {low:.3g} and {high:.3g}"
    if demand.name in ("weights", "biases"):
        seen = f"{letter} is {ratio:.3g} of what the rule asks, between {low:.3g} and {high:.3g}"
    if verdict is Verdict.REFUTED:
        return seen
    return f"undecided after {replicates} replicates: {seen}"
