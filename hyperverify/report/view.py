"""What the report shows, computed from a run before any markup."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import Any, Final

from hyperverify.report import networks, places, words
from hyperverify.report.backends import Backends, backend_of, backends
from hyperverify.report.common_cause import upstream_first
from hyperverify.report.groups import SEVERITY, Item, Section, sections_of, tally, worst
from hyperverify.report.matrix import Matrix, matrix
from hyperverify.store import Check, Run, encode

# Tags that are told by the group, or by the line of the check.
_SHOWN_TAGS: Final = ("kind", "relu", "bias", "output", "distribution", "group", "label")

LARGE: Final = 6000
"""Checks above which those that are verified are drawn when they are opened, by the page's script."""


@dataclass(frozen=True)
class Spec:
    """A network that was drawn: in words, drawn, as Python, and the seed path its checks share.

    ``text`` is its canonical JSON, shown where it is no specification of this package, which then
    has neither ``diagram`` nor ``python``.
    """

    architecture: str
    text: str
    seed: str | None = None
    diagram: networks.Diagram | None = None
    python: str = ""

    @staticmethod
    def of(architecture: str, text: str, stored: dict[str, Any], seed: str | None) -> Spec:
        """From the specification as it is stored."""
        spec = networks.parsed(stored)
        if spec is None:
            return Spec(architecture, text, seed)
        return Spec(architecture, text, seed, networks.diagram(spec), networks.snippet(spec))


@dataclass(frozen=True)
class Choices:
    """What the filter offers: values and the words for them. The values stand in the page's URL."""

    rules: tuple[tuple[str, str], ...]
    quantities: tuple[tuple[str, str], ...]
    architectures: tuple[tuple[str, str], ...]
    backends: tuple[tuple[str, str], ...]


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
    methods: int
    large: bool
    choices: Choices
    backends: Backends


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
    stored: list[dict[str, Any]] = []
    items: list[Item] = []
    for number, check in enumerate(run.checks):
        text = json.dumps(
            encode(check.spec), sort_keys=True, ensure_ascii=False, separators=(",", ":")
        )
        spec_number = specs.setdefault(text, len(specs))
        if spec_number == len(stored):
            stored.append(check.spec)
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
                backend="/".join(backend_of(run, check)),
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
    failed = [item for item in items if item.check.verdict != "VERIFIED"]
    order = upstream_first([item.check for item in failed])
    failures = sorted((failed[n] for n in order), key=lambda i: -SEVERITY[i.check.verdict])
    return View(
        sections=sections,
        failures=tuple(failures),
        matrix=matrix(sections),
        departures=_departures(items),
        specs=tuple(
            Spec.of(
                "; ".join(name for name in architectures[number] if name.strip()),
                text,
                stored[number],
                next(iter(seeds[number])) if len(seeds[number]) == 1 else None,
            )
            for text, number in specs.items()
        ),
        numbers={item.check.id: item.number for item in items},
        rules={section.rule: section.number for section in sections},
        methods=len({item.check.method for item in items}),
        large=len(items) > LARGE,
        choices=_choices(run, sections, items),
        backends=backends(run, run.checks),
    )


def _choices(run: Run, sections: tuple[Section, ...], items: list[Item]) -> Choices:
    """Each thing that a check can be found by, in the order of the page."""
    ordered = [item for section in sections for group in section.groups for item in group.items]
    quantities = dict.fromkeys(item.check.quantity for item in ordered)
    named = {name: words.QUANTITIES.get(name, name) for name in quantities}
    architectures = sorted({item.check.architecture for item in items if item.check.architecture})
    places = dict.fromkeys("/".join(backend_of(run, item.check)) for item in items)
    return Choices(
        rules=tuple((section.rule, section.rule) for section in sections),
        quantities=tuple((text, text) for text in named.values()),
        architectures=tuple((text, text) for text in architectures),
        backends=tuple((text, text) for text in places),
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
        for item in members:
            item.departure_number = len(made)
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
