"""What `hyperverify check` says of the libraries' hypernets, beside what was measured without it.

    python tests/targets/check_libraries.py                            (the table, in Markdown)
    python tests/targets/check_libraries.py --only 'hmlp_*' --long      (some, diagnoses in full)
    python tests/targets/check_libraries.py --write docs/findings.md    (puts it between its marks there)

Every target is checked against the rule that its name claims, hyperfan-in where it claims none (there is
no expectation for a harmonic mean), with its last layer read as the paper does and as if a ReLU were
behind it. `measured.json` says whether that is right: a right one must not be REFUTED, a wrong one not
VERIFIED. Exit status 1 if one is, or if a target is INCONCLUSIVE that is not among `FLAGGED`.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import json
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import measure
import torch
from mainnet_layers import Target

import hyperverify
from hyperverify.check_results import CheckResult, LayerResult, QuantityResult
from hyperverify.checking import BadTarget
from hyperverify.diagnosis import NO_FACTOR, names_of
from hyperverify.diagnosis_words import LIVE_BIAS

MEASURED = Path(__file__).with_name("measured.json")
READINGS = ("paper", "relu")
MAX_SECONDS = 240.0
EXACT = 0.01
"""What is surely further off than that, but within the tolerance, may come out either way."""

FLAGGED = {
    ("hypnettorch", "hmlp_in_resnet_batch_norm"): "uncovered: native_batch_norm",
    ("hypnettorch", "chunked_in_xavier_linear_mlp"): "ambiguous: two contractions",
    ("hypnettorch", "chunked_out_xavier_linear_mlp"): "ambiguous: two contractions",
    ("hypnettorch", "chunked_in_straddling_xavier_linear_mlp"): "ambiguous: two contractions",
    ("hyper_nn", "dynamic_on_data_mlp"): "data-dependent weights",
}
"""What the checker sees and cannot judge, with how its flag begins: INCONCLUSIVE unless something that it
can judge is wrong."""


def sample(model: Target) -> tuple[int, ...]:
    """The shape of one input; the images of hypnettorch are flat."""
    shape, kind = model.layers[0].shape, type(model).__name__
    if len(shape) == 2:
        return (shape[1],)
    if kind == "Hypnettorch":
        return (784,) if shape[1] == 1 else (192,)
    return (shape[1], 12, 12)


def records(path: Path = MEASURED) -> dict[tuple[str, str], measure.Record]:
    """What was measured, by library and target."""
    found: list[measure.Record] = json.loads(path.read_text(encoding="utf-8"))
    return {(record["library"], record["target"]): record for record in found}


@dataclass(frozen=True)
class Row:
    """One target, read both ways.

    Attributes:
        record: as measured.
        rule: ``in`` or ``out``.
        results: by reading; none where the target does not build.
        error: why it does not.
        seconds: that all took.
    """

    record: measure.Record
    rule: str
    results: dict[str, CheckResult]
    error: str
    seconds: float

    @property
    def name(self) -> tuple[str, str]:
        return self.record["library"], self.record["target"]

    def truth(self, last: str) -> str:
        """``right``, ``near`` (off, by less than the tolerance), ``wrong``, ``unclear`` or ``does not build``."""
        found, _ = measure.truth(self.record, self.rule, last)
        exact, _ = measure.truth(self.record, self.rule, last, EXACT)
        return "near" if (found, exact) == ("right", "wrong") else found

    def objections(self) -> list[str]:
        """Where the checker and what was measured contradict each other, or it does not make up its mind."""
        found: list[str] = []
        if self.error or "error" in self.record:
            told = self.record.get("error", "")
            return [] if told and told in self.error else [f"{told or 'builds'}, but: {self.error}"]
        for last, result in self.results.items():
            verdict, truth = str(result.verdict), self.truth(last)
            allowed = {"right": "VERIFIED", "wrong": "REFUTED"}.get(truth, verdict)
            flag = FLAGGED.get(self.name)
            flagged = bool(flag) and any(said.startswith(str(flag)) for said in result.flags)
            if verdict != allowed and not (verdict == "INCONCLUSIVE" and flagged):
                found.append(f"last layer {last}: {verdict}, and it is {truth}")
        return found


def check(record: measure.Record, factory: Callable[[], Target], seed: int = 0) -> Row:
    """Check one target."""
    started = time.perf_counter()
    rule = "out" if measure.named_rule(record) == "out" else "in"
    results: dict[str, CheckResult] = {}
    error = ""
    shape = sample(factory()) if "error" not in record else (1,)
    for last in READINGS:
        try:
            results[last] = hyperverify.check(
                factory, input=shape, expect=f"hyperfan-{rule}", last_layer=last, seed=seed,
                max_seconds=MAX_SECONDS,
            )  # fmt: skip
        except BadTarget as bad:
            error = str(bad)
            break
    return Row(record, rule, results, error, time.perf_counter() - started)


def targets(
    library: str | None = None, only: str = "*"
) -> Iterator[tuple[str, str, Callable[[], Target]]]:
    """Library, name and factory of every target whose library is installed."""
    for module in [library] if library else measure.MODULES:
        try:
            found = importlib.import_module(f"{module}_targets")
        except ModuleNotFoundError as error:
            sys.stderr.write(f"{module}: skipped, {error}\n")
            continue
        for name, factory in measure.factories(found).items():
            if fnmatch.fnmatch(name, only):
                yield module, name, factory


# --- To read. ----------------------------------------------------------------------------------------

HEAD = (
    "| target | asked | last layer as in the paper | as with a ReLU | weights, measured / asked "
    "| biases | diagnosis |\n|---|---|---|---|---|---|---|"
)


def line(row: Row) -> str:
    """One row in Markdown; what is measured stands as the paper's reading has it."""
    cells = [f"`{row.record['target']}`", f"hyperfan-{row.rule}"]
    if row.error:
        return (
            "| " + " | ".join([*cells, "exit status 2", "exit status 2", "", "", row.error]) + " |"
        )
    cells += [_verdict(row, last) for last in READINGS]
    paper = row.results["paper"]
    for name in ("weights", "biases"):
        found = [layer.quantity(name) for layer in paper.layers]
        cells.append("<br>".join(map(_ratio, found)) if any(found) else "none")
    return "| " + " | ".join([*cells, diagnosis(row)]) + " |"


def _verdict(row: Row, last: str) -> str:
    verdict, truth = str(row.results[last].verdict), row.truth(last)
    if (verdict, truth) in {("VERIFIED", "right"), ("REFUTED", "wrong")}:
        return verdict
    ratio = measure.truth(row.record, row.rule, last)[1]
    return f"{verdict} ({f'{ratio:.3g}' if truth == 'near' else truth})"


def _ratio(quantity: QuantityResult | None) -> str:
    if quantity is None:
        return "none"
    if quantity.expected == 0.0:
        return "0 of 0" if quantity.measured == 0.0 else "not 0"
    low, high = quantity.interval
    return f"{quantity.ratio:.3g} [{low:.3g}, {high:.3g}]"


def diagnosis(row: Row) -> str:
    """What is told of the layers, under the reading that comes closest to right."""
    results = sorted((row.results[last] for last in READINGS), key=_complaints)
    chosen = next((r for r in results if any(map(headlines, r.layers))), results[0])
    told: dict[str, list[int]] = {}
    for t, layer in enumerate(chosen.layers, start=1):
        for words in headlines(layer):
            told.setdefault(words, []).append(t)
    lines = [f"{_numbers(layers, len(chosen.layers))}{words}" for words, layers in told.items()]
    lines += [f"({flag})" for flag in chosen.flags]
    return "<br>".join(lines) or "none"


def _complaints(result: CheckResult) -> int:
    return sum(str(layer.verdict) != "VERIFIED" for layer in result.layers)


def headlines(layer: LayerResult) -> list[str]:
    """The names in a layer's diagnosis, each line's ties together; else that no known mistake fits."""
    names = (*names_of(layer), LIVE_BIAS)
    lines: list[str] = []
    for said in layer.diagnosis:
        head = said.partition(": ")[0]
        mine = [name for name in names if name in head]
        if mine and ": " in said and not said.startswith(NO_FACTOR):
            lines.append(head)
        elif said.startswith("no known mistake"):
            lines.append("no known mistake")
    return list(dict.fromkeys(lines))


def _numbers(layers: list[int], of: int) -> str:
    if len(layers) == of:
        return ""
    many = "layers " if len(layers) > 1 else "layer "
    return many + ", ".join(map(str, layers)) + ": "


def table(rows: Iterable[Row]) -> str:
    """The rows, in Markdown."""
    return "\n".join([HEAD, *map(line, rows)])


SAID = {
    "right": "right ones",
    "near": "off by 1 to 10%, which may come out either way",
    "wrong": "wrong ones",
    "unclear": "of which brute force does not tell",
}


def summary(rows: list[Row]) -> str:
    """How the verdicts stand to what was measured."""
    pairs = Counter(
        (row.truth(last), str(result.verdict))
        for row in rows
        for last, result in row.results.items()
    )
    sentences: list[str] = []
    for truth in ("right", "near", "wrong", "unclear"):
        of = {verdict: n for (said, verdict), n in pairs.items() if said == truth}
        if of:
            kinds = [f"{of.get(v, 0)} {v}" for v in ("VERIFIED", "REFUTED", "INCONCLUSIVE")]
            sentences.append(f"Of {sum(of.values())} {SAID[truth]}: {', '.join(kinds)}.")
    return "Two checks a target. " + " ".join(sentences)


def written(text: str, rows: list[Row]) -> str:
    """A page with the tables between its marks renewed."""
    made = {
        library: [row for row in rows if row.record["library"] == library]
        for library in measure.MODULES
    }
    for name, body in {
        "summary": summary(rows),
        **{library: table(mine) for library, mine in made.items()},
    }.items():
        mark = rf"(<!-- checked: {name} -->\n).*?(\n<!-- end -->)"
        text, times = re.subn(
            mark, lambda found, body=body: found[1] + body + found[2], text, flags=re.DOTALL
        )
        if times != 1:
            raise SystemExit(f"one mark 'checked: {name}' is needed, and there are {times}")
    return text


def _checked(chosen: list[tuple[str, str, int]], workers: int) -> Iterator[Row]:
    """The rows, in order."""
    if workers < 2:
        yield from map(_check_named, chosen)
        return
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        yield from pool.map(_check_named, chosen)


def _check_named(chosen: tuple[str, str, int]) -> Row:
    """A row by library, target and seed, in whatever process."""
    library, name, seed = chosen
    warnings.simplefilter("ignore")  # the libraries are of their time
    torch.set_num_threads(1)
    ((_, _, factory),) = targets(library, name)
    return check(records()[library, name], factory, seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="*", help="targets by name, with * and ?")
    parser.add_argument("--library", dest="maker", choices=measure.MODULES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--workers", type=int, default=1, help="processes; the numbers are the same"
    )
    parser.add_argument("--long", action="store_true", help="every sentence of the diagnoses")
    parser.add_argument("--write", type=Path, help="a page, whose tables are to be renewed")
    options = parser.parse_args()
    if options.write and (options.maker or options.only != "*"):
        parser.error("--write takes all targets")
    warnings.simplefilter("ignore")
    rows: list[Row] = []
    say = sys.stderr if options.write else sys.stdout
    say.write(HEAD + "\n")
    chosen = [(*target[:2], options.seed) for target in targets(options.maker, options.only)]
    for row in _checked(chosen, options.workers):
        rows.append(row)
        say.write(line(row) + "\n")
        for objection in row.objections():
            say.write(f"    DISAGREES: {objection}\n")
        for last, result in row.results.items() if options.long else ():
            for layer in result.layers:
                for said in layer.diagnosis:
                    say.write(f"    {last}, {layer.name}: {said}\n")
        say.flush()
    say.write(summary(rows) + "\n")
    slowest = max(rows, key=lambda row: row.seconds)
    sys.stderr.write(
        f"{sum(row.seconds for row in rows):.0f} s, the slowest {slowest.record['target']} with "
        f"{slowest.seconds:.0f} s\n"
    )
    if options.write:
        page = options.write.read_text(encoding="utf-8")
        options.write.write_text(written(page, rows), encoding="utf-8")
    return 1 if any(row.objections() for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
