"""What the report shows, computed from a run before any markup."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import Final

from hyperverify.report import places
from hyperverify.report.groups import SEVERITY, Item, Section, sections_of, tally, worst
from hyperverify.report.matrix import Matrix, matrix
from hyperverify.store import Check, Run, encode

# Tags that are told by the group, or by the line of the check.
_SHOWN_TAGS: Final = ("kind", "relu", "bias", "output", "distribution", "group", "label")


@dataclass(frozen=True)
class Spec:
    """A network that was drawn: in words, as canonical JSON, and the seed path its checks share."""

    architecture: str
    text: str
    seed: str | None = None


@dataclass(frozen=True)
class Departure:
    """A sentence on how the truth departs from the paper, and the checks that show it."""

    sentence: str
    shown: tuple[Item, ...]
    more: int
    verdict: str
    tally: str


@dataclass(frozen=True)
class View:
    """Everything that the template needs besides the run.

    ``numbers`` finds a check by its id, ``rules`` a section by its rule.
    """

    sections: tuple[Section, ...]
    failures: tuple[Item, ...]
    matrix: Matrix
    departures: tuple[Departure, ...]
    specs: tuple[Spec, ...]
    numbers: dict[str, int]
    rules: dict[str, int]


def _replay(run: Run, run_path: str, check_id: str) -> str:
    words = ["hyperverify", "replay", run_path, check_id]
    if run.initializer is not None:
        words += ["--initializer", run.initializer]
    return shlex.join(words)


def view(run: Run, run_path: str) -> View:
    """Group a run for the page; ``run_path`` stands in the replay commands."""
    specs: dict[str, int] = {}
    architectures: dict[int, dict[str, None]] = {}
    seeds: dict[int, set[str]] = {}
    items: list[Item] = []
    for number, check in enumerate(run.checks):
        text = json.dumps(
            encode(check.spec), sort_keys=True, ensure_ascii=False, separators=(",", ":")
        )
        spec_number = specs.setdefault(text, len(specs))
        architectures.setdefault(spec_number, {})[check.architecture] = None
        seed = " / ".join(str(step) for step in check.seed_path)
        seeds.setdefault(spec_number, set()).add(seed)
        items.append(
            Item(
                check=check,
                number=number,
                spec_number=spec_number,
                seed=seed,
                command=_replay(run, run_path, check.id),
                where=places.where(check),
                network=_network(check, spec_number),
                more_tags=tuple(
                    (key, _shown(value))
                    for key, value in check.tags.items()
                    if key not in _SHOWN_TAGS
                ),
            )
        )
    for item in items:
        if len(seeds[item.spec_number]) == 1:
            item.seed = None
    sections = sections_of(items)
    failures = sorted(
        (item for item in items if item.check.verdict != "VERIFIED"),
        key=lambda item: -SEVERITY[item.check.verdict],
    )
    return View(
        sections=sections,
        failures=tuple(failures),
        matrix=matrix(sections),
        departures=_departures(items),
        specs=tuple(
            Spec(
                "; ".join(text for text in architectures[number] if text.strip()),
                text,
                *(seeds[number] if len(seeds[number]) == 1 else ()),
            )
            for text, number in specs.items()
        ),
        numbers={item.check.id: item.number for item in items},
        rules={section.rule: section.number for section in sections},
    )


def _network(check: Check, spec_number: int) -> str:
    """What tells a check's network from the others in its group: ``12-16-10, d_k 8 · spec 3``."""
    label = str(check.tags.get("label", ""))
    spec = f"spec {spec_number + 1}" if check.spec else ""
    return " · ".join(word for word in (label, places.shape(check.spec), spec) if word)


def _departures(items: list[Item]) -> tuple[Departure, ...]:
    found: dict[str, list[Item]] = {}
    for item in items:
        if item.check.departure:
            found.setdefault(item.check.departure, []).append(item)
    made: list[Departure] = []
    for sentence, members in found.items():
        # One link for every quantity and method, at most four, the bad news first.
        members.sort(key=lambda item: -SEVERITY[item.check.verdict])
        distinct: dict[tuple[str, str], Item] = {}
        for item in members:
            distinct.setdefault((item.check.quantity, item.check.method), item)
        shown = tuple(distinct.values())[:4]
        checks = [item.check for item in members]
        made.append(
            Departure(
                sentence=sentence,
                shown=shown,
                more=len(members) - len(shown),
                verdict=worst(check.verdict for check in checks),
                tally=tally(checks),
            )
        )
    return tuple(made)


def _shown(value: str | bool) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else value
