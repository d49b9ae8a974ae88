"""What the report shows, computed from a run before any markup: matrix, groups, departures.

The checks are grouped by rule and then by setting. A check of several rules is printed once, under
its first rule, and linked from the others. Ids in the page are numbers (``c12``, ``g3``): no text
from outside becomes an anchor.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from hyperverify.report import words
from hyperverify.store import VERDICTS, Check, Run, encode

# The worst verdict of a cell or a group speaks for it.
_SEVERITY: Final = {"REFUTED": 2, "INCONCLUSIVE": 1, "VERIFIED": 0}
_KINDS: Final = ("linear", "conv")
_RELUS: Final = ("none", "all", "mixed")
_OUTPUTS: Final = ("own", "shared", "chunked")
_DISTRIBUTIONS: Final = ("normal", "uniform")
_DISTRIBUTION_LETTERS: Final = {"normal": "N", "uniform": "U"}
_SETTING_TAGS: Final = ("kind", "relu", "bias", "output", "distribution", "group")


def worst(verdicts: Iterable[str]) -> str:
    """The verdict that speaks for several: REFUTED, then INCONCLUSIVE, then VERIFIED."""
    return max(verdicts, key=lambda verdict: _SEVERITY[verdict])


@dataclass
class Item:
    """One check with its number in the page and what is printed in its place.

    ``assumptions`` are numbers in the list of ``section``; ``seed`` is None where the seed path
    stands beside the specification, for all its checks.
    """

    check: Check
    number: int
    spec_number: int
    command: str
    formula_number: int | None = None
    seed: str | None = None
    section: int = 0
    assumptions: tuple[int, ...] = ()
    more_tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Spec:
    """A network that was drawn, as canonical JSON, and the seed path if its checks share one."""

    text: str
    seed: str | None = None


@dataclass
class Group:
    """The checks of one rule in one setting; ``links`` are printed under another rule."""

    number: int
    setting: str
    items: list[Item] = field(default_factory=list["Item"])
    links: list[Item] = field(default_factory=list["Item"])

    @property
    def everything(self) -> list[Item]:
        """The checks printed here and those linked from here."""
        return self.items + self.links

    @property
    def verdict(self) -> str:
        """The worst verdict of the group."""
        return worst(item.check.verdict for item in self.everything)

    @property
    def tally(self) -> str:
        """``12 of 12 verified``, for a reader who does not see colours or symbols."""
        return tally(item.check for item in self.everything)


@dataclass(frozen=True)
class Formula:
    """The formula of a prediction, printed once for all the checks of a rule that share it."""

    number: int
    method: str
    quantity: str
    latex: str


@dataclass
class Section:
    """One rule: its name, its formulas, and a group for every setting."""

    number: int
    rule: str
    name: str
    latex: tuple[str, ...]
    formulas: tuple[Formula, ...]
    assumptions: tuple[str, ...]
    groups: list[Group]

    @property
    def verdict(self) -> str:
        """The worst verdict of the rule."""
        return worst(group.verdict for group in self.groups)

    @property
    def tally(self) -> str:
        """How many of the rule's checks are verified, in words."""
        return tally(item.check for group in self.groups for item in group.everything)


@dataclass(frozen=True)
class Column:
    """A column of the matrix: kind of layer, use of ReLU, generated biases."""

    kind: str
    relu: str
    bias: str


@dataclass(frozen=True)
class Chip:
    """One link of a cell: a distribution, the group it leads to, and the group's verdict."""

    letter: str
    group: Group
    label: str


@dataclass(frozen=True)
class Row:
    """A row of the matrix: a rule with one kind of output layer; a cell holds chips."""

    rule: str
    section: int
    output: str
    cells: tuple[tuple[Chip, ...], ...]


@dataclass(frozen=True)
class Matrix:
    """Rule against setting. ``kinds`` and ``relus`` are the spans of the two upper header rows."""

    columns: tuple[Column, ...]
    kinds: tuple[tuple[str, int], ...]
    relus: tuple[tuple[str, int], ...]
    rows: tuple[Row, ...]


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
    """Everything that the template needs besides the run."""

    sections: tuple[Section, ...]
    failures: tuple[Item, ...]
    matrix: Matrix
    departures: tuple[Departure, ...]
    specs: tuple[Spec, ...]
    numbers: dict[str, int]


def tally(checks: Iterable[Check]) -> str:
    """Counts of the verdicts in words, the good news last if there is bad news."""
    found = Counter(check.verdict for check in checks)
    total = sum(found.values())
    if found["VERIFIED"] == total:
        return f"{total:,} verified"
    named = [
        f"{found[verdict]:,} {verdict.lower()}"
        for verdict in sorted(VERDICTS, key=lambda verdict: -_SEVERITY[verdict])
        if found[verdict]
    ]
    return ", ".join(named)


def view(run: Run, run_path: str) -> View:
    """Group a run for the page; ``run_path`` stands in the replay commands."""
    specs: dict[str, int] = {}
    seeds: dict[int, set[str]] = {}
    items: list[Item] = []
    for number, check in enumerate(run.checks):
        text = json.dumps(encode(check.spec), sort_keys=True, ensure_ascii=False)
        spec_number = specs.setdefault(text, len(specs))
        seed = " / ".join(str(step) for step in check.seed_path)
        seeds.setdefault(spec_number, set()).add(seed)
        items.append(
            Item(
                check=check,
                number=number,
                spec_number=spec_number,
                seed=seed,
                command=f"hyperverify replay {shlex.quote(run_path)} {shlex.quote(check.id)}",
                more_tags=tuple(
                    (key, _shown(value))
                    for key, value in check.tags.items()
                    if key not in _SETTING_TAGS
                ),
            )
        )
    for item in items:
        if len(seeds[item.spec_number]) == 1:
            item.seed = None
    sections = _sections(items)
    failures = sorted(
        (item for item in items if item.check.verdict != "VERIFIED"),
        key=lambda item: -_SEVERITY[item.check.verdict],
    )
    return View(
        sections=sections,
        failures=tuple(failures),
        matrix=_matrix(sections),
        departures=_departures(items),
        specs=tuple(
            Spec(text, *seeds[number]) if len(seeds[number]) == 1 else Spec(text)
            for text, number in specs.items()
        ),
        numbers={item.check.id: item.number for item in items},
    )


def _sections(items: list[Item]) -> tuple[Section, ...]:
    by_rule: dict[str, dict[tuple[str, ...], list[Item]]] = {}
    for item in items:
        for rule in dict.fromkeys(item.check.rules):
            by_rule.setdefault(rule, {}).setdefault(_key(item.check), []).append(item)
    known = {rule: place for place, rule in enumerate(words.RULE_NAMES)}
    rules = sorted(by_rule, key=lambda rule: known.get(rule, len(known)))
    sections: list[Section] = []
    counter = formula_counter = 0
    for rule in rules:
        groups: list[Group] = []
        latex: dict[str, None] = {}
        formulas: dict[tuple[str, str, str], Formula] = {}
        assumptions: dict[str, int] = {}
        for place in sorted(by_rule[rule], key=_rank):
            members = by_rule[rule][place]
            group = Group(number=counter, setting=words.setting(members[0].check.tags))
            counter += 1
            for item in members:
                (group.items if item.check.rules[0] == rule else group.links).append(item)
            groups.append(group)
            for item in group.items:
                check = item.check
                latex[check.latex_rule] = None
                if check.latex_prediction.strip():
                    key = (check.method, check.quantity, check.latex_prediction)
                    if key not in formulas:
                        formulas[key] = Formula(formula_counter, *key)
                        formula_counter += 1
                    item.formula_number = formulas[key].number
                item.section = len(sections)
                item.assumptions = tuple(
                    assumptions.setdefault(text, len(assumptions) + 1) for text in check.assumptions
                )
        sections.append(
            Section(
                number=len(sections),
                rule=rule,
                name=words.RULE_NAMES.get(rule, ""),
                latex=tuple(text for text in latex if text.strip()),
                formulas=tuple(formulas.values()),
                assumptions=tuple(assumptions),
                groups=groups,
            )
        )
    return tuple(sections)


def _departures(items: list[Item]) -> tuple[Departure, ...]:
    found: dict[str, list[Item]] = {}
    for item in items:
        if item.check.departure:
            found.setdefault(item.check.departure, []).append(item)
    made: list[Departure] = []
    for sentence, members in found.items():
        # One link for every quantity and method, at most four, the bad news first.
        members.sort(key=lambda item: -_SEVERITY[item.check.verdict])
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


def _matrix(sections: tuple[Section, ...]) -> Matrix:
    keys = {_key(item.check) for s in sections for g in s.groups for item in g.everything}
    columns = tuple(
        Column(*triple) for triple in dict.fromkeys(key[:3] for key in sorted(keys, key=_rank))
    )
    rows: list[Row] = []
    for section in sections:
        cells: dict[str, dict[Column, list[Chip]]] = {}
        for group in section.groups:
            kind, relu, bias, output, distribution = _key(group.everything[0].check)
            chip = Chip(
                letter=_DISTRIBUTION_LETTERS.get(distribution, distribution[:8] or "•"),
                group=group,
                label=f"{section.rule}, {group.setting}: {group.tally}",
            )
            row = cells.setdefault(output, {})
            row.setdefault(Column(kind, relu, bias), []).append(chip)
        rows.extend(
            Row(
                rule=section.rule,
                section=section.number,
                output=output,
                cells=tuple(tuple(cells[output].get(column, ())) for column in columns),
            )
            for output in sorted(cells, key=lambda name: _place(_OUTPUTS, name))
        )
    return Matrix(
        columns=columns,
        kinds=_spans([column.kind for column in columns]),
        relus=_spans([f"{column.kind}\0{column.relu}" for column in columns]),
        rows=tuple(rows),
    )


def _spans(labels: list[str]) -> tuple[tuple[str, int], ...]:
    """Runs of equal labels with their lengths; of ``kind NUL relu`` only the second is kept."""
    spans: list[tuple[str, int]] = []
    previous = None
    for label in labels:
        if label == previous:
            spans[-1] = (spans[-1][0], spans[-1][1] + 1)
        else:
            spans.append((label.rpartition("\0")[2], 1))
        previous = label
    return tuple(spans)


def _key(check: Check) -> tuple[str, str, str, str, str]:
    tags = check.tags
    return (
        str(tags.get("kind", "")),
        str(tags.get("relu", "")),
        words.bias(tags),
        str(tags.get("output", "")),
        str(tags.get("distribution", "")),
    )


def _rank(key: tuple[str, ...]) -> tuple[int | str, ...]:
    kind, relu, bias, output, distribution = key
    return (
        _place(_KINDS, kind),
        kind,
        _place(_RELUS, relu),
        relu,
        _place(("no biases", "biases"), bias),
        bias,
        _place(_OUTPUTS, output),
        output,
        _place(_DISTRIBUTIONS, distribution),
        distribution,
    )


def _place(order: tuple[str, ...], value: str) -> int:
    return order.index(value) if value in order else len(order)


def _shown(value: str | bool) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else value
