"""How a checked hypernetwork is put into words, for the terminal, the page and a failing test alike.

Everything is made from the plain dictionary of a result (``CheckResult.to_dict()``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

CLAIMS: Final = {
    "weights": "E[W²]",
    "biases": "E[b²]",
    "forward": "activations",
    "backward": "gradients",
}
"""What a claim is about, by the name of its quantity."""

DECLARED: Final = "declared, not derived"
"""How an assumption says that a bound on a spread is taken on trust."""


def geometry(layer: Mapping[str, Any]) -> str:
    """``conv2d 16 → 32, 3x3, 2 groups, ReLU, generated bias``."""
    groups = layer["groups"]
    words = [f"{layer['kind']} {layer['d_j'] * groups} → {layer['d_i'] * groups}"]
    if layer["kernel"]:
        words.append("x".join(map(str, layer["kernel"])))
    if groups > 1:
        words.append(f"{groups} groups")
    if layer["copies"] > 1:
        words.append(f"{layer['copies']} matrices")
    if layer["per_sample"]:
        words.append("a weight a sample")
    if layer["activation"] not in ("none", ""):
        words.append("ReLU" if layer["activation"] == "relu" else layer["activation"])
    if layer["bias"] == "generated":
        words.append("generated bias")
    if layer["uses"] > 1:
        words.append(f"used {layer['uses']} times")
    return ", ".join(words)


def made_by(layer: Mapping[str, Any]) -> str:
    """``head.weight (d_k 12), embedding``: the output layer's parameter and what is under it."""
    steps = layer["generated_by"]
    if not steps:
        return "?"
    top, *below = (_step(step) for step in steps)
    first = steps[0]
    if first["role"] == "output layer":
        top += f" (d_k {first['width']})"
    elif first["role"] == "embedding":
        top += f" ({first['width']} entries)"
    return ", ".join((top, *below))


def _step(step: Mapping[str, Any]) -> str:
    """A parameter's name; of what could not be followed, why."""
    name = str(step["name"])
    if step["role"] != "opaque":
        return name or str(step["role"])
    why = f"not followed: {step['why']}" if step["why"] else "not followed"
    return f"{name} ({why})" if name else f"({why})"


def beside_the_point(result: Mapping[str, Any], quantity: Mapping[str, Any] | None) -> bool:
    """Whether a claim is of the direction that need not be kept, as the other one is."""
    return bool(quantity and result["direction"] and quantity["name"] != result["direction"])


def fix_text(layer: Mapping[str, Any]) -> str:
    """How to mend the layer, or ``""``."""
    fix: Mapping[str, Any] | None = layer["fix"]
    return "" if fix is None else str(fix.get("text") or "")


def notes(layers: Sequence[Mapping[str, Any]]) -> list[tuple[tuple[int, ...], list[str]]]:
    """(layers, sentences about them): diagnoses and fixes, what several have in common only once."""
    told: dict[str, list[int]] = {}
    for n, layer in enumerate(layers, start=1):
        for line in dict.fromkeys(layer["diagnosis"]):
            told.setdefault(line, []).append(n)
    found: dict[tuple[int, ...], list[str]] = {}
    for line, numbers in told.items():
        found.setdefault(tuple(numbers), []).append(line)
    for n, layer in enumerate(layers, start=1):
        if fix := fix_text(layer):
            mine = [numbers for numbers in found if n in numbers] or [(n,)]
            lines = found.setdefault(mine[-1], [])
            lines += [line for line in (f"→ {fix}",) if line not in lines]
    return list(found.items())


def of_layers(numbers: Sequence[int]) -> str:
    """``layers 1, 2 and 5``."""
    words = [str(n) for n in numbers]
    if len(words) == 1:
        return f"layer {words[0]}"
    return f"layers {', '.join(words[:-1])} and {words[-1]}"


def verdict_sentence(result: Mapping[str, Any]) -> str:
    """The verdict's meaning in one sentence."""
    expect, tolerance = result["expect"], result["settings"]["tolerance"]
    within = f"within {100 * tolerance:g}%"
    verdict, layers = result["verdict"], result["layers"]
    count = f"{len(layers)} generated layer{'s' * (len(layers) != 1)}"
    if verdict == "VERIFIED":
        if expect == "either":
            kept = {"forward": "activations", "backward": "gradients"}[result["direction"]]
            return f"{kept} keep their second moment at all of {count}, {within}."
        if expect in ("forward", "backward"):
            kept = {"forward": "activations", "backward": "gradients"}[expect]
            return f"{kept} keep their second moment at all of {count}, {within}."
        return f"{count} with the scale that {expect} asks for, {within}."
    reason = (result["reason"] or "undecided").rstrip(".")
    return f"{reason}."


def advice(result: Mapping[str, Any]) -> list[str]:
    """What to do next, and how sure the verdict is."""
    settings, verdict = result["settings"], result["verdict"]
    lines: list[str] = []
    if verdict == "REFUTED":
        lines.append(
            f"A right hypernet comes to this with a chance of at most {settings['alpha']:g}."
        )
        if any(fix_text(layer) for layer in result["layers"]):
            lines.append(
                "Next: correct the initialization as told for each layer, or rescale it by "
                "hyperverify.calibrate_(model, ...); then check again."
            )
        else:
            lines.append(
                "Next: correct what is told of each layer, or draw the output layers by "
                "hyperverify.init, then check again; `hyperverify formulas` has the rules."
            )
    elif verdict == "VERIFIED":
        lines.append(
            f"A hypernet that is further off comes to this with a chance of at most "
            f"{settings['beta']:g} a claim."
        )
        lines.append(
            f"The intervals miss the truth with a chance of at most {settings['alpha']:g} in all; so they "
            f"may reach beyond ±{100 * settings['tolerance']:g}%."
        )
    elif result["flags"]:
        lines.append("Next: what is marked ! above cannot be judged, and so is no pass.")
    else:
        lines.append(
            "Next: give it more time (--max-seconds) or ask for less (--tolerance); it is no pass."
        )
    declared = [
        str(n)
        for n, layer in enumerate(result["layers"], start=1)
        if any(DECLARED in text for q in layer["quantities"] for text in q["assumptions"])
    ]
    if declared and verdict != "INCONCLUSIVE":
        lines.append(
            f"That chance rests on a spread that is {DECLARED}: no derivation goes through what makes the "
            f"weights of layer{'s' * (len(declared) > 1)} {', '.join(declared)}."
        )
    if ordinary := result.get("ordinary", 0):
        lines.append(
            f"Not judged: {ordinary} layer{'s' * (ordinary != 1)} whose weights nothing generates."
        )
    models = f"{result['replicates']} model{'s' * (result['replicates'] != 1)}"
    lines.append(f"{models} built in {result['seconds']:.1f} s, seed {settings['seed']}.")
    return lines


def number(value: object) -> float:
    """A number as it stands in a result: NaN and the infinities are words there."""
    return float(value) if isinstance(value, (int, float, str)) else math.nan


def significant(value: float) -> str:
    """Three significant digits, without an exponent where that is readable."""
    if math.isnan(value):
        return "?"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value and not 1e-3 <= abs(value) < 1e4:
        return f"{value:.2e}"
    return f"{value:#.3g}".rstrip(".")
