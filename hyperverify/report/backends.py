"""Where the checks ran: backend against dtype, the worst verdict of each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlencode

from hyperverify.report.groups import tally, worst
from hyperverify.store import Check, RunHead


@dataclass(frozen=True)
class Cell:
    """The checks of one backend in one dtype; ``link`` is the page with the filter set to them."""

    verdict: str
    tally: str
    link: str


@dataclass(frozen=True)
class Row:
    """One device and backend: a cell for each dtype, or None where nothing ran."""

    name: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Backends:
    """Device and backend against dtype."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def backend_of(run: RunHead, check: Check) -> tuple[str, str, str]:
    """Device, backend and dtype of a check: its own tags, or those of the run."""
    device, backend, dtype = (
        str(check.tags.get(key, of_run))
        for key, of_run in (
            ("device", run.device),
            ("backend", run.backend),
            ("dtype", run.dtype),
        )
    )
    return device, backend, dtype


def backends(run: RunHead, checks: Iterable[Check]) -> Backends:
    """The matrix of the run's backends and dtypes, in the order of the checks."""
    found: dict[tuple[str, str], dict[str, list[Check]]] = {}
    columns: dict[str, None] = {}
    for check in checks:
        device, backend, dtype = backend_of(run, check)
        columns[dtype] = None
        found.setdefault((device, backend), {}).setdefault(dtype, []).append(check)
    single = len(found) == len(columns) == 1
    rows: list[Row] = []
    for (device, backend), by_dtype in found.items():
        cells: list[Cell | None] = []
        for dtype in columns:
            members = by_dtype.get(dtype)
            place = urlencode({"backend": f"{device}/{backend}/{dtype}"})
            cells.append(
                None
                if members is None
                else Cell(
                    verdict=worst(check.verdict for check in members),
                    tally=tally(members),
                    link="#checks" if single else f"#{place}",
                )
            )
        rows.append(Row(f"{device}, {backend}", tuple(cells)))
    return Backends(tuple(columns), tuple(rows))
