"""What the libraries' initializers give, measured without hyperverify's checker.

Each target is built afresh under each of many seeds; the weights and biases that its own hypernet
returns are squared and averaged, layer by layer. Beside it stands what Table 1 asks of a layer of
that shape (``hyperverify.formulas``, the embedding's variance cancels). Nothing else of hyperverify
runs here: no tracing, no verdict.

    python tests/targets/measure.py --seeds 2000 --json measured.json
    python tests/targets/measure.py --only 'hmlp_*' --seeds 1000 --json measured.json   (adds to it)
    python tests/targets/measure.py --table measured.json                               (prints it)
    python tests/targets/measure.py --brief measured.json                      (one row a target)
    python tests/targets/measure.py --truth measured.json                     (right or wrong, 10%)

Standard errors are over seeds (a seed is one whole draw of the model). A convention is called
consistent where every layer's mean lies within four standard errors of what it asks, and four
standard errors are 15% of it at most; where it asks for exactly zero, zero must have come out.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import inspect
import itertools
import json
import math
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mainnet_layers import MainnetLayer, Target

from hyperverify.formulas import variance

MODULES = ("hypnettorch", "hyperlight", "hyper_nn", "public_formula")
RULES = {"in": "hyperfan-in", "out": "hyperfan-out", "harmonic": "harmonic mean of the two"}
RESAMPLES = 1000

Record = dict[str, Any]


# --- What the rules ask. -----------------------------------------------------------------------------


def asked(layer: MainnetLayer, rule: str, relu: bool, bias: bool) -> tuple[float, float]:
    """E[W^2] and E[b^2] under Table 1: d_k Var(H) Var(e) does not depend on d_k or Var(e)."""
    d_i, d_j, *kernel = layer.shape
    facts: dict[str, Any] = {
        "d_i": d_i // layer.groups, "d_j": d_j, "r": math.prod(kernel), "var_e": 1, "relu": relu,
    }  # fmt: skip
    weights = float(variance(f"T1.{rule}.H", d_k=1, bias=bias, **facts))
    biases = float(variance(f"T1.{rule}.G", d_l=1, bias=True, **facts)) if bias else 0.0
    return weights, biases


def conventions(layers: list[MainnetLayer]) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Every reading of the rules that is compared: the rule, where s = 2, who shares with the biases."""
    readings: dict[str, Callable[[MainnetLayer], bool]] = {
        "": lambda layer: layer.relu,
        ", s = 2 on every layer": lambda _: True,
        ", s = 1 on every layer": lambda _: False,
    }
    shares = ["", ", as without biases"] if any(layer.bias for layer in layers) else [""]
    seen: list[list[tuple[float, float]]] = []
    for rule, (said, relu), share in itertools.product(RULES, readings.items(), shares):
        values = [asked(layer, rule, relu(layer), layer.bias and not share) for layer in layers]
        if values not in seen:
            seen.append(values)
            yield RULES[rule] + said + share, values


# --- What comes out. ---------------------------------------------------------------------------------


def factories(module: Any) -> dict[str, Callable[[], Target]]:
    """The public functions of a target module, in the order of the file."""
    return {
        name: found
        for name, found in vars(module).items()
        if inspect.isfunction(found) and found.__module__ == module.__name__ and name[0] != "_"
    }


def second_moments(factory: Callable[[], Target]) -> tuple[list[float], list[MainnetLayer]]:
    """The mean squares of one draw: those of all weights, then those of all biases (NaN: none)."""
    model = factory()
    with torch.no_grad():
        made = model.generate()
    weights = [float(w.double().square().mean()) for w, _ in made]
    biases = [math.nan if b is None else float(b.double().square().mean()) for _, b in made]
    return weights + biases, list(model.layers)


def summary(values: np.ndarray, generator: np.random.Generator) -> Record | None:
    """Mean, standard error and 99% percentile bootstrap interval over seeds."""
    if np.isnan(values).any():
        return None
    mean, n = float(values.mean()), len(values)
    counts = generator.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    lo, hi = np.quantile(counts @ values / n, [0.005, 0.995])
    error = float(values.std(ddof=1) / math.sqrt(n))
    rounded = [float(f"{x:.6g}") for x in (mean, error, lo, hi)]
    return {"mean": rounded[0], "standard_error": rounded[1], "interval": rounded[2:]}


def agrees(found: Record | None, value: float) -> bool:
    """Whether a mean lies within four standard errors of ``value``, and these are small enough."""
    if found is None:
        return True
    if value == 0 or found["mean"] == 0:
        return found["mean"] == value
    slack = 4 * found["standard_error"]
    return abs(found["mean"] - value) <= slack <= 0.15 * value


def measure(module: str, name: str, factory: Callable[[], Target], seeds: int) -> Record:
    """The record of one target."""
    record: Record = {"library": module, "target": name, "seeds": seeds}
    start = zlib.crc32(f"{module}:{name}".encode())
    rows: list[list[float]] = []
    layers: list[MainnetLayer] = []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for seed in range(seeds):
            torch.manual_seed(start + seed)
            try:
                row, layers = second_moments(factory)
            except ArithmeticError as error:
                return record | {"error": f"{type(error).__name__}: {error}"}
            rows.append(row)
    values = np.array(rows)
    generator = np.random.default_rng(start)
    found = [summary(column, generator) for column in values.T]
    weights, biases = found[: len(layers)], found[len(layers) :]
    record["warnings"] = sorted({str(w.message) for w in said})
    record["layers"] = [
        {
            "name": layer.name,
            "shape": list(layer.shape),
            "relu": layer.relu,
            "weights": weights[t],
            "biases": biases[t],
            "asked": {
                rule: dict(
                    zip(
                        ("weights", "biases"),
                        asked(layer, rule, layer.relu, layer.bias),
                        strict=True,
                    )
                )
                for rule in RULES
            },
        }
        for t, layer in enumerate(layers)
    ]
    return record


def consistent_with(record: Record) -> list[str]:
    """The conventions that every layer agrees with."""
    layers = [
        MainnetLayer(x["name"], tuple(x["shape"]), x["relu"], x["biases"] is not None)
        for x in record["layers"]
    ]
    return [
        name
        for name, values in conventions(layers)
        if all(
            agrees(layer["weights"], v) and agrees(layer["biases"], u)
            for layer, (v, u) in zip(record["layers"], values, strict=True)
        )
    ]


# --- Right or wrong. ---------------------------------------------------------------------------------

LAST_LAYERS = ("paper", "relu", "skip")
"""How the last layer is read: by its own activation, with s = 2 all the same, or not at all."""


def truth(record: Record, rule: str, last: str, tolerance: float = 0.1) -> tuple[str, float]:
    """Whether every layer is within ``tolerance`` of the rule, and the ratio furthest from one.

    Returns:
        ``right``, ``wrong``, or ``unclear`` where four standard errors reach over the edge, and
        ``does not build`` or ``no layer left``; the furthest measured / asked (infinity for something where zero is
        asked).
    """
    if "error" in record:
        return "does not build", math.nan
    if last == "skip" and len(record["layers"]) == 1:
        return "no layer left", math.nan
    furthest, seen, clear = 1.0, False, True
    final = len(record["layers"]) - 1
    for t, layer in enumerate(record["layers"]):
        if t == final and last == "skip":
            continue
        factor = 2 if t == final and last == "relu" and not layer["relu"] else 1
        for kind in ("weights", "biases"):
            found, value = layer[kind], factor * layer["asked"][rule][kind]
            if found is None or found["mean"] == value:
                continue
            if value == 0 or found["mean"] == 0:
                return "wrong", math.inf if value == 0 else 0.0
            ratio, slack = found["mean"] / value, 4 * found["standard_error"] / value
            if abs(math.log(ratio)) > abs(math.log(furthest)):
                furthest = ratio
            edges = (1 / (1 + tolerance), 1 + tolerance)
            seen |= ratio + slack < edges[0] or ratio - slack > edges[1]
            clear &= edges[0] < ratio - slack and ratio + slack < edges[1]
    return "wrong" if seen else "right" if clear else "unclear", furthest


def truth_table(records: list[Record]) -> str:
    """One row a target: right or wrong under each rule and each reading of the last layer."""
    readings = [(rule, last) for rule in ("in", "out") for last in LAST_LAYERS]
    heads = ["library", "target", "seeds"] + [f"{rule}, last {last}" for rule, last in readings]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for record in records:
        cells = [record["library"], record["target"], str(record["seeds"])]
        for rule, last in readings:
            verdict, ratio = truth(record, rule, last)
            cells.append(verdict if math.isnan(ratio) else f"{verdict} ({ratio:.3g})")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


# --- To read. ----------------------------------------------------------------------------------------


def _ratio(found: Record | None, value: float) -> str:
    if found is None:
        return ""
    if value == 0:
        return "0 of 0" if found["mean"] == 0 else "not 0"
    lo, hi = (x / value for x in found["interval"])
    return f"{found['mean'] / value:.3g} [{lo:.3g}, {hi:.3g}]"


def table(record: Record) -> str:
    """One target in Markdown: measured / asked of each layer, under both rules."""
    head = f"### {record['library']}: {record['target']} ({record['seeds']} seeds)\n"
    if "error" in record:
        return f"{head}\nraises {record['error']}\n"
    lines = [
        "| layer | shape | ReLU | E[W^2] | / in | / out | E[b^2] | / in | / out |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for layer in record["layers"]:
        cells = [
            layer["name"],
            "x".join(map(str, layer["shape"])),
            "yes" if layer["relu"] else "no",
        ]
        for kind in ("weights", "biases"):
            found = layer[kind]
            cells.append("" if found is None else f"{found['mean']:.4g}")
            cells += [_ratio(found, layer["asked"][rule][kind]) for rule in ("in", "out")]
        lines.append("| " + " | ".join(cells) + " |")
    fits = "; ".join(consistent_with(record)) or "none of those compared"
    said = "".join(f"\nWarns: {warning}\n" for warning in record["warnings"])
    return head + "\n" + "\n".join(lines) + f"\n\nConsistent with: {fits}.\n{said}"


def named_rule(record: Record) -> str:
    """The rule that a target's name claims; hyperfan-in where it claims none."""
    words = record["target"].split("_")
    return next((rule for rule in ("out", "harmonic") if rule in words), "in")


def brief_table(records: list[Record]) -> str:
    """One row a target: measured / asked of its layers in order, under the rule that its name claims."""
    lines = [
        "| target | seeds | rule | weights, measured / asked | biases | agrees with |",
        "|---|---|---|---|---|---|",
    ]
    for record in records:
        rule, cells = named_rule(record), [f"`{record['target']}`", str(record["seeds"])]
        if "error" in record:
            cells += [rule, f"raises {record['error']}", "", ""]
        else:
            cells.append(rule)
            for kind in ("weights", "biases"):
                ratios = [_ratio(x[kind], x["asked"][rule][kind]) for x in record["layers"]]
                cells.append("<br>".join(ratios) if any(ratios) else "none")
            cells.append("; ".join(consistent_with(record)) or "none")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--only", default="*", help="targets by name, with * and ?")
    parser.add_argument("--library", dest="maker", choices=MODULES)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", type=Path, help="print a file's records and measure nothing")
    parser.add_argument("--brief", type=Path, help="the same, one row a target")
    parser.add_argument("--truth", type=Path, help="print right or wrong, and measure nothing")
    options = parser.parse_args()
    if options.brief:
        say(brief_table(json.loads(options.brief.read_text())))
        return
    if options.truth:
        say(truth_table(json.loads(options.truth.read_text())))
        return
    if options.table:
        say("\n".join(map(table, json.loads(options.table.read_text()))))
        return
    torch.set_num_threads(1)
    kept: list[Record] = []
    if options.json and options.json.exists():
        kept = json.loads(options.json.read_text())
    for library in [options.maker] if options.maker else MODULES:
        try:
            module = importlib.import_module(f"{library}_targets")
        except ModuleNotFoundError as error:
            sys.stderr.write(f"{library}: skipped, {error}\n")
            continue
        for name, factory in factories(module).items():
            if not fnmatch.fnmatch(name, options.only):
                continue
            record = measure(library, name, factory, options.seeds)
            kept = [r for r in kept if (r["library"], r["target"]) != (library, name)] + [record]
            say(table(record))
    if options.json:
        options.json.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
