"""Drawings of a checked hypernetwork: what makes what, and second moments by depth. Plain numbers.

The template turns them into SVG. Everything comes from the dictionary of a result
(``CheckResult.to_dict()``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hyperverify.check_words import geometry, number

BOX, GAP, ROW, HIGH = 184, 34, 74, 50
"""Width of a box, room between two, height of a row, of a box (SVG units)."""


@dataclass(frozen=True)
class Box:
    """One thing in the drawing; ``kind`` is its style."""

    x: int
    y: int
    kind: str
    title: str
    line: str


@dataclass(frozen=True)
class Structure:
    """Boxes and arrows (SVG paths); ``words`` says the same without a picture."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    arrows: tuple[str, ...]
    words: str


def ending(name: str, length: int) -> str:
    """A name of at most so many letters: of a parameter's, the end tells it from others."""
    return name if len(name) <= length else "…" + name[len(name) - length + 1 :]


def structure(layers: Sequence[Mapping[str, Any]]) -> Structure:
    """A row a generated layer, its generators from left to right; the mainnet runs down on the right."""
    chains = [_chain(layer) for layer in layers]
    most = max(map(len, chains))
    boxes: list[Box] = []
    arrows: list[str] = []
    words: list[str] = []
    right = most * (BOX + GAP)
    for n, (layer, chain) in enumerate(zip(layers, chains, strict=True)):
        y = n * ROW + 6
        start = most - len(chain)
        for k, (kind, title, line) in enumerate(chain, start=start):
            x = k * (BOX + GAP)
            boxes.append(Box(x, y, kind, title, line))
            arrows.append(f"M{x + BOX} {y + HIGH // 2}h{GAP - 7}")
        bias = ", bias generated too" if layer["bias"] == "generated" else ""
        shape = f"W {' x '.join(map(str, layer['weight_shape']))}{bias}"
        boxes.append(Box(right, y, layer["verdict"], f"{n + 1}: {geometry(layer)}", shape))
        if n:
            arrows.append(f"M{right + BOX // 2} {y - ROW + HIGH}v{ROW - HIGH - 7}")
        path = ", then ".join(f"{title} ({line})" for _, title, line in chain)
        words.append(f"Layer {n + 1} is made by {path}.")
    height = len(chains) * ROW - ROW + HIGH + 12
    return Structure(right + BOX * 2, height, tuple(boxes), tuple(arrows), " ".join(words))


def _chain(layer: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(kind, title, line) of what makes the weights, the embedding first."""
    found: list[tuple[str, str, str]] = []
    for step in reversed(layer["generated_by"]):
        name = step["name"] or step["role"]
        if step["role"] == "embedding":
            moment = _short(number(step["second_moment"]))
            found.append(("embedding", name, f"{step['width']} entries, E[e²] {moment}"))
        elif step["role"] == "opaque":
            found.append(("opaque", name, step["why"] or "followed no further"))
        else:
            relu = ", ReLU" if step["relu"] else ""
            matrix = f"{step['role']} {step['rows']} x {step['width']}{relu}"
            found.append(("step", name, matrix))
    return found


@dataclass(frozen=True)
class Curve:
    """Second moment by layers passed, relative to the start, as an SVG path in 1000 x 240."""

    title: str
    path: str
    dots: tuple[tuple[float, float], ...]
    ticks: tuple[tuple[float, str], ...]
    level: float
    words: str


def curves(layers: Sequence[Mapping[str, Any]]) -> tuple[Curve, ...]:
    """Forward and backward: the gains of the layers, multiplied up in the order of travel."""
    forward = [number(layer["scales"]["activation_gain"]) for layer in layers]
    backward = [_backward_gain(layer) for layer in reversed(layers)]
    titles = ("Activations, from the input up", "Gradients, from the output down")
    found = (_curve(title, gains) for title, gains in zip(titles, (forward, backward), strict=True))
    return tuple(curve for curve in found if curve is not None)


def _backward_gain(layer: Mapping[str, Any]) -> float:
    """d_i r E[W^2] / s: what the layer makes of a gradient's second moment (borders aside)."""
    weights = next((q for q in layer["quantities"] if q["name"] == "weights"), None)
    scales = layer["scales"]
    if weights is not None:
        v = number(weights["measured"])
    else:
        v = scales["d_k"] * number(scales["var_h"]) * number(scales["h2"])
    return layer["d_i"] * layer["receptive_field"] * v / layer["s"]


def _curve(title: str, gains: Sequence[float]) -> Curve | None:
    if not gains or not all(math.isfinite(gain) and gain > 0 for gain in gains):
        return None
    logs = [0.0]
    for gain in gains:
        logs.append(logs[-1] + math.log10(gain))
    low, high = min(*logs, -1.0), max(*logs, 1.0)
    step = 10.0 ** math.ceil(math.log10((high - low) / 6)) if high - low > 8 else 1.0
    low, high = step * math.floor(low / step), step * math.ceil(high / step)

    def height(log: float) -> float:
        return round(230 - 220 * (log - low) / (high - low), 1)

    across = [round(60 + 920 * n / max(len(gains), 1), 1) for n in range(len(logs))]
    dots = tuple((x, height(log)) for x, log in zip(across, logs, strict=True))
    path = "M" + "L".join(f"{x} {y}" for x, y in dots)
    count = round((high - low) / step)
    ticks = tuple((height(low + n * step), _power(low + n * step)) for n in range(count + 1))
    told = (
        f"After {len(gains)} layers the second moment is {_short(10 ** logs[-1])} times the first."
    )
    return Curve(title, path, dots, ticks, height(0.0), told)


def _power(exponent: float) -> str:
    return f"{10**exponent:g}" if abs(exponent) < 4 else f"1e{exponent:g}"


def _short(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "unknown"
