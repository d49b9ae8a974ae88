"""The matrix at the top of the page: rule against setting, the paper's shapes in a block apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hyperverify.report.groups import CATALOGUES, OUTPUTS, Group, Section, Setting, place

_LETTERS: Final = {"normal": "N", "uniform": "U"}
_TITLES: Final = {"grid": "Grid of settings", "paper": "Shapes of the paper’s experiments"}


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
class Block:
    """The rows of one part of the catalogue; no title where there is one part only."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Matrix:
    """Rule against setting. ``kinds`` and ``relus`` are the spans of the two upper header rows."""

    columns: tuple[Column, ...]
    kinds: tuple[tuple[str, int], ...]
    relus: tuple[tuple[str, int], ...]
    blocks: tuple[Block, ...]

    @property
    def width(self) -> int:
        """Columns, the two of the row's name included."""
        return len(self.columns) + 2


def matrix(sections: tuple[Section, ...]) -> Matrix:
    """The worst verdict of each rule in each setting, with links to the groups of checks."""
    settings = {
        Setting.of(group.everything[0].check) for section in sections for group in section.groups
    }
    columns = tuple(
        dict.fromkeys(
            Column(setting.kind, setting.relu, setting.bias)
            for setting in sorted(settings, key=lambda setting: setting.rank)
        )
    )
    catalogues = sorted(
        {setting.catalogue for setting in settings},
        key=lambda name: (place(CATALOGUES, name), name),
    )
    return Matrix(
        columns=columns,
        kinds=_spans([column.kind for column in columns]),
        relus=_spans([f"{column.kind}\0{column.relu}" for column in columns]),
        blocks=tuple(
            Block(
                title=_TITLES.get(name, name) if len(catalogues) > 1 else "",
                rows=tuple(row for section in sections for row in _rows(section, name, columns)),
            )
            for name in catalogues
        ),
    )


def _rows(section: Section, catalogue: str, columns: tuple[Column, ...]) -> list[Row]:
    """A rule's rows in one part of the catalogue, one for each kind of output layer."""
    cells: dict[str, dict[Column, list[Chip]]] = {}
    for group in section.groups:
        setting = Setting.of(group.everything[0].check)
        if setting.catalogue != catalogue:
            continue
        chip = Chip(
            letter=_LETTERS.get(setting.distribution, setting.distribution[:8] or "•"),
            group=group,
            label=f"{section.rule}, {group.setting}: {group.tally}",
        )
        row = cells.setdefault(setting.output, {})
        row.setdefault(Column(setting.kind, setting.relu, setting.bias), []).append(chip)
    return [
        Row(
            rule=section.rule,
            section=section.number,
            output=output,
            cells=tuple(tuple(cells[output].get(column, ())) for column in columns),
        )
        for output in sorted(cells, key=lambda name: place(OUTPUTS, name))
    ]


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
