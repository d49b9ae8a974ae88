"""The checks of a run in the order of the page: by rule, then by setting.

A check of several rules is printed once, under its first rule, and linked from the others. Ids in
the page are numbers (``c12``, ``g3``): no text from outside becomes an anchor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from hyperverify.report import words
from hyperverify.store import VERDICTS, Check

# The worst verdict of a cell or a group speaks for it.
SEVERITY: Final = {"REFUTED": 2, "INCONCLUSIVE": 1, "VERIFIED": 0}
_KINDS: Final = ("linear", "conv")
_RELUS: Final = ("none", "all", "mixed")
OUTPUTS: Final = ("own", "shared", "chunked")
_DISTRIBUTIONS: Final = ("normal", "uniform")
CATALOGUES: Final = ("grid", "", "paper")


def worst(verdicts: Iterable[str]) -> str:
    """The verdict that speaks for several: REFUTED, then INCONCLUSIVE, then VERIFIED."""
    return max(verdicts, key=lambda verdict: SEVERITY[verdict])


def tally(checks: Iterable[Check]) -> str:
    """Counts of the verdicts in words, the good news last if there is bad news."""
    found = Counter(check.verdict for check in checks)
    total = sum(found.values())
    if found["VERIFIED"] == total:
        return f"{total:,} verified"
    named = [
        f"{found[verdict]:,} {verdict.lower()}"
        for verdict in sorted(VERDICTS, key=lambda verdict: -SEVERITY[verdict])
        if found[verdict]
    ]
    return ", ".join(named)


@dataclass
class Item:
    """One check with its number in the page and what is printed in its place.

    ``where`` is the place in the network, ``network`` its shape, ``backend`` what it ran on; ``assumptions`` are numbers in the
    list of ``section``; ``seed`` is None where the seed path stands beside the specification, for
    all its checks.
    """

    check: Check
    number: int
    spec_number: int
    command: str
    where: str
    network: str
    backend: str = ""
    formula_number: int | None = None
    departure_number: int | None = None
    seed: str | None = None
    section: int = 0
    assumptions: tuple[int, ...] = ()
    more_tags: tuple[tuple[str, str], ...] = ()


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
    def linked(self) -> tuple[tuple[str, tuple[Item, ...]], ...]:
        """The links by quantity, so that a name is printed once for all of its checks."""
        found: dict[str, list[Item]] = {}
        for item in self.links:
            found.setdefault(item.check.quantity, []).append(item)
        return tuple((quantity, tuple(items)) for quantity, items in found.items())

    @property
    def verdict(self) -> str:
        """The worst verdict of the group."""
        return worst(item.check.verdict for item in self.everything)

    @property
    def tally(self) -> str:
        """``12 of 12 verified``, for a reader who does not see colours or symbols."""
        return tally(item.check for item in self.everything)


@dataclass
class Formula:
    """The formula of a prediction, printed once for all the checks of a rule that share it.

    ``of`` holds, for each quantity that it predicts, the methods.
    """

    number: int
    latex: str
    of: dict[str, dict[str, None]] = field(default_factory=dict[str, "dict[str, None]"])


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
class Setting:
    """What tells one group of a rule from another."""

    kind: str
    relu: str
    bias: str
    output: str
    distribution: str
    catalogue: str

    @staticmethod
    def of(check: Check) -> Setting:
        """The setting of a check, from its tags."""
        tags = check.tags
        return Setting(
            kind=str(tags.get("kind", "")),
            relu=str(tags.get("relu", "")),
            bias=words.bias(tags),
            output=str(tags.get("output", "")),
            distribution=str(tags.get("distribution", "")),
            catalogue=str(tags.get("group", "")),
        )

    @property
    def rank(self) -> tuple[int | str, ...]:
        """Sorts settings as the columns of the matrix stand."""
        return (
            place(_KINDS, self.kind),
            self.kind,
            place(_RELUS, self.relu),
            self.relu,
            place(("no biases", "biases"), self.bias),
            self.bias,
            place(OUTPUTS, self.output),
            self.output,
            place(_DISTRIBUTIONS, self.distribution),
            self.distribution,
        )


def place(order: tuple[str, ...], value: str) -> int:
    """Where a value stands in an order; what is unknown stands last."""
    return order.index(value) if value in order else len(order)


def sections_of(items: list[Item]) -> tuple[Section, ...]:
    """A section for every rule; the items learn where their formula and assumptions stand."""
    by_rule: dict[str, dict[Setting, list[Item]]] = {}
    for item in items:
        for rule in dict.fromkeys(item.check.rules):
            by_rule.setdefault(rule, {}).setdefault(Setting.of(item.check), []).append(item)
    rules = sorted(by_rule, key=lambda rule: place(tuple(words.RULE_NAMES), rule))
    sections: list[Section] = []
    counter = formula_counter = 0
    for rule in rules:
        groups: list[Group] = []
        latex: dict[str, None] = {}
        formulas: dict[str, Formula] = {}
        assumptions: dict[str, int] = {}
        settings = sorted(
            by_rule[rule],
            key=lambda s: (place(CATALOGUES, s.catalogue), s.catalogue, *s.rank),
        )
        for setting in settings:
            members = by_rule[rule][setting]
            group = Group(number=counter, setting=words.setting(members[0].check.tags))
            counter += 1
            for item in members:
                (group.items if item.check.rules[0] == rule else group.links).append(item)
            groups.append(group)
            for item in group.items:
                check = item.check
                latex[check.latex_rule] = None
                if check.latex_prediction.strip():
                    if check.latex_prediction not in formulas:
                        made = Formula(formula_counter, check.latex_prediction)
                        formulas[check.latex_prediction] = made
                        formula_counter += 1
                    formula = formulas[check.latex_prediction]
                    formula.of.setdefault(check.quantity, {})[check.method] = None
                    item.formula_number = formula.number
                item.section = len(sections)
                item.assumptions = tuple(
                    sorted(
                        assumptions.setdefault(text, len(assumptions) + 1)
                        for text in check.assumptions
                    )
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
