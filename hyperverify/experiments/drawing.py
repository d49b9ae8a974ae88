"""Figures as SVG that may stand in the page: histograms, curves with bars, curves of several arms."""

from __future__ import annotations

import io
import math
import re
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from hyperverify.report.figures import themed
from hyperverify.store import printable

# Stand-ins that become the page's own colours, light and dark.
_SERIES: Final = ("#aa0001", "#aa0002", "#aa0003", "#aa0004", "#aa0005", "#aa0006")
_INK, _GRID = "#bb0001", "#bb0002"
_DASHES: Final = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)), (0, (1, 1.5)), "-")
_POINTS: Final = 61  # of a curve: more cannot be told apart

_TEXT: Final = re.compile(r"<text [^>]*>")
_FILL: Final = ' fill="currentColor"'  # which the style sheet says of every text

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Figure:
    """A drawing.

    Attributes:
        title: its heading, with the number of the paper's figure.
        words: what it shows, for who cannot see it.
        svg: the drawing.
    """

    title: str
    words: str
    svg: Markup


@dataclass(frozen=True)
class Histogram:
    """One panel of histograms: counts of shape (layers, bins), edges of shape (layers, bins + 1)."""

    title: str
    counts: NDArray[Any]
    edges: Floats


@dataclass(frozen=True)
class Course:
    """One panel of curves with bars.

    Attributes:
        title: of the panel.
        at: shape (points,).
        mean, spread: shape (points, layers).
    """

    title: str
    at: Floats
    mean: Floats
    spread: Floats


@dataclass(frozen=True)
class Curve:
    """One arm's curve; ``low`` and ``high`` bound a shaded area, if given."""

    label: str
    at: Floats
    value: Floats
    low: Floats | None = None
    high: Floats | None = None


def histograms(
    title: str, words: str, panels: Sequence[Histogram], layers: Sequence[str]
) -> Figure:
    """Panels of outlines, a layer a colour."""

    def draw(axes: Any, panel: Histogram) -> None:
        drawn = False
        for n, (counts, edges) in enumerate(zip(panel.counts, panel.edges, strict=True)):
            if np.isfinite(edges).all() and edges[-1] > edges[0]:
                axes.stairs(counts, edges, color=_SERIES[n % 6], linewidth=1.0)
                drawn = True
        if not drawn:
            _say(axes, "not finite")

    return _figure(title, words, [(p.title, _bound(draw, p)) for p in panels], layers)


def courses(title: str, words: str, panels: Sequence[Course], layers: Sequence[str]) -> Figure:
    """Panels of means over time, a layer a colour, with bars of one standard deviation."""

    def draw(axes: Any, panel: Course) -> None:
        keep = thinned(len(panel.at))
        drawn = False
        for n in range(panel.mean.shape[1]):
            mean, spread = panel.mean[keep, n], panel.spread[keep, n]
            fine = np.isfinite(mean) & np.isfinite(spread)
            if not fine.any():
                continue
            at = panel.at[keep][fine] / 1000
            colour = _SERIES[n % 6]
            axes.fill_between(
                at,
                (mean - spread)[fine],
                (mean + spread)[fine],
                facecolor=colour,
                edgecolor="none",
                alpha=0.12,
            )
            axes.plot(at, mean[fine], color=colour, linewidth=1.0)
            drawn = True
        if not drawn:
            _say(axes, "not finite")
        axes.set_xlabel("1000 batches")

    return _figure(title, words, [(p.title, _bound(draw, p)) for p in panels], layers)


def curves(
    title: str,
    words: str,
    panels: Sequence[tuple[str, Sequence[Curve]]],
    along: str,
    *,
    logarithmic: Sequence[bool] = (),
    marks: Sequence[float] = (),
) -> Figure:
    """Panels of several arms' curves.

    Args:
        title: of the figure.
        words: what it shows.
        panels: title and curves of each; the same arms in the same order in all.
        along: what the x axis counts.
        logarithmic: of each panel, whether its y axis is.
        marks: where upright lines stand.
    """
    labels = [curve.label for curve in panels[0][1]]

    def draw(axes: Any, panel: tuple[int, Sequence[Curve]]) -> None:
        place, found = panel
        for n, curve in enumerate(found):
            keep = thinned(len(curve.at), 4 * _POINTS)
            value = curve.value[keep]
            fine = np.isfinite(value)
            if not fine.any():
                continue
            colour = _SERIES[n % 6]
            if curve.low is not None and curve.high is not None:
                axes.fill_between(
                    curve.at[keep][fine],
                    curve.low[keep][fine],
                    curve.high[keep][fine],
                    facecolor=colour,
                    edgecolor="none",
                    alpha=0.15,
                )
            axes.plot(
                curve.at[keep][fine],
                value[fine],
                color=colour,
                linestyle=_DASHES[n % 6],
                linewidth=1.3,
                marker="o" if fine.sum() == 1 else None,
                markersize=4,
            )
        if place < len(logarithmic) and logarithmic[place]:
            _logarithmic(axes)
        for mark in marks:
            axes.axvline(mark, color=_GRID, linewidth=1.0)
        axes.set_xlabel(along)

    numbered = [(name, (n, found)) for n, (name, found) in enumerate(panels)]
    return _figure(
        title, words, [(name, _bound(draw, p)) for name, p in numbered], labels, wide=True
    )


def thinned(count: int, most: int = _POINTS) -> NDArray[np.int64]:
    """At most ``most`` of ``count`` places, evenly, the first and the last among them."""
    if count <= most:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, most).round().astype(np.int64))


def _bound(draw: Callable[[Any, Any], None], panel: Any) -> Callable[[Any], None]:
    return lambda axes: draw(axes, panel)


def _tick(value: float, _: int) -> str:
    return f"{value:g}"


def _logarithmic(axes: Any) -> None:
    ticker: Any = import_module("matplotlib.ticker")
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    subs = (1.0,) if high > 100 * low else (1.0, 2.0, 5.0)
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=subs, numticks=7))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(_tick))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())


def _shown(label: str) -> str:
    """A label without control characters, which matplotlib passes on, and with something to see."""
    return printable(label).lstrip("_") or "unnamed"


def _say(axes: Any, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center")


def _figure(
    title: str,
    words: str,
    panels: Sequence[tuple[str, Callable[[Any], None]]],
    names: Sequence[str],
    *,
    wide: bool = False,
) -> Figure:
    matplotlib: Any = import_module("matplotlib")
    figures: Any = import_module("matplotlib.figure")
    lines: Any = import_module("matplotlib.lines")
    settings = {
        "svg.hashsalt": "hyperverify",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.titlesize": 10,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "text.color": _INK,
        "axes.edgecolor": _GRID,
        "axes.labelcolor": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "text.parse_math": False,
        "axes.formatter.use_mathtext": False,
        "axes.formatter.limits": (-3, 4),
        "path.simplify": True,
    }
    across = 9.3 / len(panels) if wide else 2.3
    size = (max(across * len(panels), 4.0), 2.9 if wide else 2.3)
    with matplotlib.rc_context(settings):
        figure: Any = figures.Figure(figsize=size)
        figure.subplots_adjust(
            0.5 / size[0], 0.46 / size[1], 1 - 0.1 / size[0], 1 - 0.6 / size[1], 0.28
        )
        figure.patch.set_visible(False)
        found: Any = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (name, draw) in zip(found, panels, strict=True):
            axes.patch.set_visible(False)
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_title(_shown(name))
            axes.locator_params(nbins=5)
            draw(axes)
        handles = [
            lines.Line2D(
                [], [], color=_SERIES[n % 6], linestyle=_DASHES[n % 6] if wide else "-", label=label
            )
            for n, label in enumerate(_shown(name) for name in names)
        ]
        figure.legend(handles=handles, frameon=False, loc="upper center", ncols=6, fontsize=9)
        buffer = io.StringIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph ")
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    prefix = f"f{zlib.crc32(title.encode()):x}-"  # ids are unique in a page, and short
    svg = str(themed(buffer.getvalue(), prefix=prefix))
    for n, colour in enumerate(_SERIES, start=1):
        svg = svg.replace(colour, f"var(--s{n})")
    svg = svg.replace(_INK, "currentColor").replace(_GRID, "var(--line)")
    svg = svg.replace("<svg ", '<svg font-size="9px" ', 1)  # what nearly all texts have, said once
    svg = _TEXT.sub(lambda text: text[0].replace(' font-size="9px"', "").replace(_FILL, ""), svg)
    return Figure(title, words, Markup(svg))  # noqa: S704 - matplotlib has escaped every label


def number(value: object) -> str:
    """A value of a table: four digits, or a word."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else "not finite"
    return f"{value:,}"
