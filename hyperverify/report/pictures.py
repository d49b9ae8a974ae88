"""The page's pictures of nets, from what the record holds: drawings, and what to look at in each."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from hyperverify.report import border_maps, hills, typical, words
from hyperverify.store import Run


@dataclass(frozen=True)
class PicturesShown:
    """What the template needs of all pictures.

    Attributes:
        net: the net whose histograms are shown, in a few words.
        rows: histograms, a quantity a row.
        typical: typical nets against their mean, a width a panel.
        layers: how deep these are.
        maps: border maps.
        key: the maps' shades.
    """

    net: str
    rows: tuple[hills.Row, ...]
    typical: tuple[typical.TypicalPanel, ...]
    layers: int
    maps: tuple[border_maps.HeatMap, ...]
    key: Markup


def pictures(run: Run) -> PicturesShown | None:
    """The pictures of a run that has any."""
    stored = run.pictures
    if stored is None:
        return None
    before = stored.before_training
    widths = "\N{EN DASH}".join(map(str, before.widths))
    return PicturesShown(
        net=f"{words.plural(len(before.widths) - 1, 'ReLU layer')} ({widths} units)",
        rows=hills.rows(before),
        typical=typical.panels(stored.typical),
        layers=max(len(found.layers) for found in stored.typical),
        maps=tuple(map(border_maps.heat_map, stored.borders)),
        key=border_maps.key(),
    )


def without(run: Run) -> str | None:
    """Why a run has no pictures, where the run itself says it."""
    if run.pictures is not None:
        return None
    if run.initializer is not None:
        return "none: they show the library's own initializer, and this run checked another"
    return "none: this run checked some rules only" if run.rules else None
