"""The report's drawings: the geometry of one check's interval, and the depth plots.

A check is drawn on the axis log(measured / predicted): the prediction in the middle, errors of a
factor of 2 and of 1/2 equally far from it. The depth plots are made by matplotlib without pyplot
and rewritten so that they need no inline style (a strict content security policy blocks it) and
follow the page's colours, light or dark.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from typing import Any, Final

from markupsafe import Markup

from hyperverify.report import places, words
from hyperverify.store import Check, printable

MAX_PLOTS: Final = 8
MAX_SERIES: Final = 6
CLASSICAL: Final = "classical"
HYPERFAN: Final = "hyperfan"


# The half-width of the usual strip in half-widths of the tolerance band. The interval of a check that
# stops at its verdict is within twice the band; what reaches further gets an axis of its own.
USUAL: Final = 2.5


@dataclass(frozen=True)
class Strip:
    """Where the parts of one check's drawing stand, in units of a strip 0 to 1000 wide.

    ``None`` is a part that cannot be drawn (a measurement that is not finite), or one that is not
    needed: ``formula`` stands only where it is another value than the prediction. ``usual`` strips
    share one axis, that of the run's tolerance. ``closing`` is path data: how the interval narrowed,
    from the first look at the top to the last, just above the interval itself.
    """

    usual: bool
    band: tuple[int, int]
    closing: str
    interval: tuple[int, int] | None
    measured: int | None
    formula: int | None
    left: str
    right: str
    words: str


def strip(check: Check, tolerance: float | None = None) -> Strip:
    """The drawing of a check's prediction, tolerance band, interval and measurement, to scale.

    Args:
        check: the check.
        tolerance: the run's, where the strip may share the usual axis; None: an axis of its own.
    """
    half_band = math.log1p(check.tolerance)
    low, high = (words.log_ratio(check, end) for end in check.interval)
    measured = words.log_ratio(check, check.measured)
    formula = math.nan
    if words.disagree(check) and check.witnesses.formula is not None:
        formula = words.log_ratio(check, check.witnesses.formula)
    ends = [abs(v) for v in (low, high, measured, formula) if math.isfinite(v)]
    reach = max(ends, default=0.0)
    usual = check.tolerance == tolerance and bool(ends) and reach <= 0.98 * USUAL * half_band
    half = USUAL * half_band if usual else 1.12 * max(reach, 1.5 * half_band)

    def place(value: float) -> int:
        return round(500 + 500 * max(-1.0, min(1.0, value / half)))

    interval = None if math.isnan(low) or math.isnan(high) else (place(low), place(high))
    return Strip(
        usual=usual,
        band=(place(-half_band), place(half_band)),
        closing=_closing(check, place),
        interval=interval,
        measured=None if math.isnan(measured) else place(measured),
        formula=None if math.isnan(formula) else place(formula),
        left=words.offset(-half, 3),
        right=words.offset(half, 3),
        # Thousands of these stand in a page: without spaces before their percent signs.
        words=f"Measured {words.deviation(check)}, interval {words.offset(low)} to "
        f"{words.offset(high)}".replace("\N{NO-BREAK SPACE}%", "%")
        + ("" if usual else f", tolerance ±{words.percent(check.tolerance)}")
        + ("" if math.isnan(formula) else f", formula {words.offset(formula)}"),
    )


# Of the looks at a check its strip shows the last of each stretch, so few that thousands fit a page.
_LOOKS: Final = 5
_CLOSING: Final = (10, 44)


def looks(check: Check) -> list[tuple[int, float, float]]:
    """The looks that can be drawn: degrees of freedom, and the logs of the interval's ends."""
    return [
        (n, math.log(low), math.log(high))
        for n, low, high in check.trail
        if n > 0 and 0 < low <= high < math.inf
    ]


def _closing(check: Check, place: Callable[[float], int]) -> str:
    """The narrowing interval as an area, its height the log of the degrees of freedom."""
    seen = looks(check)
    if len(seen) < 2 or seen[-1][0] <= seen[0][0]:
        return ""
    start, span = math.log(seen[0][0]), math.log(seen[-1][0]) - math.log(seen[0][0])
    top, bottom = _CLOSING
    kept: dict[int, tuple[int, int, int]] = {}  # by stretch; the first look is one of its own
    for number, (n, low, high) in enumerate(seen):
        share = (math.log(n) - start) / span
        y = round(top + (bottom - top) * share)
        kept[math.ceil(share * (_LOOKS - 1)) if number else 0] = (place(low), place(high), y)
    points = list(kept.values())
    around = [(high, y) for _, high, y in points] + [(low, y) for low, _, y in points[::-1]]
    (x, y), *_ = around
    steps = " ".join(
        f"{to_x - from_x} {to_y - from_y}" for (from_x, from_y), (to_x, to_y) in pairwise(around)
    )
    return f"M{x} {y}l{steps.replace(' -', '-')}z"


def usual_axis(tolerance: float) -> tuple[tuple[int, int], str, str]:
    """The axis that strips share: where the band stands, and the words at its ends."""
    half = USUAL * math.log1p(tolerance)
    band = round(500 - 500 / USUAL), round(500 + 500 / USUAL)
    return band, words.offset(-half, 3), words.offset(half, 3)


@dataclass(frozen=True)
class Funnel:
    """The confidence sequence closing in, as SVG path data in a box of 1000 by 220."""

    path: str
    band: tuple[float, float]
    first: int
    last: int
    top: str
    bottom: str


def funnel(check: Check) -> Funnel | None:
    """How a check's interval narrowed with its degrees of freedom; None with under two points."""
    trail = looks(check)
    if len(trail) < 2:
        return None
    half_band = math.log1p(check.tolerance)
    last = trail[-1]
    reach = max(abs(last[1]), abs(last[2]), 2 * half_band)
    half = 1.6 * reach
    start, stop = math.log(trail[0][0]), math.log(last[0])
    span = (stop - start) or 1.0

    def at(n: int, value: float) -> str:
        clipped = max(-half, min(half, value))
        return f"{1000 * (math.log(n) - start) / span:.0f} {110 - 110 * clipped / half:.0f}"

    upper = [at(n, high) for n, _, high in trail]
    lower = [at(n, low) for n, low, _ in reversed(trail)]
    return Funnel(
        path="M" + "L".join(upper + lower) + "Z",
        band=(round(110 - 110 * half_band / half, 1), round(220 * half_band / half, 1)),
        first=trail[0][0],
        last=last[0],
        top=words.offset(half, 3),
        bottom=words.offset(-half, 3),
    )


@dataclass(frozen=True)
class Plot:
    """One depth plot: safe SVG markup, its title, and what it says in words."""

    title: str
    description: str
    svg: Markup
    checks: tuple[Check, ...]


def depth_plots(checks: Iterable[Check]) -> tuple[Plot, ...]:
    """Log second moment against layer for the depth checks: lines predicted, bars measured.

    For each setting (forward or backward, kind of layer, use of ReLU) a plot of the hyperfan methods beside one of the
    classical methods, at most eight plots, the fullest settings kept; in each plot one check for
    every method (and use of biases), at most six. Other depth checks stand in the list of checks.
    """
    settings: dict[tuple[str, str, str], dict[str, dict[str, Check]]] = {}
    for check in checks:
        if check.quantity != "depth" or len(cumulated(check)[0]) < 2:
            continue
        family = HYPERFAN if check.method.startswith("hyperfan") else CLASSICAL
        kind, relu = (str(check.tags.get(tag, "")) for tag in ("kind", "relu"))
        families = settings.setdefault((places.direction(check), kind, relu), {})
        label = f"{check.method}{', biases' if check.tags.get('bias') is True else ''}"
        families.setdefault(family, {}).setdefault(label, check)
    fullest = sorted(settings, key=lambda key: -sum(map(len, settings[key].values())))
    chosen = [
        ((family, *key), series)
        for key in settings
        if key in fullest[: MAX_PLOTS // 2]
        for family in (HYPERFAN, CLASSICAL)
        if (series := settings[key].get(family))
    ]
    return tuple(
        _depth_plot(number, key, dict(list(series.items())[:MAX_SERIES]))
        for number, (key, series) in enumerate(chosen)
    )


# Six hues told apart with every common colour blindness, each with its own dash and marker; the
# sentinels become the page's colour variables.
_SERIES: Final = ("#0a0001", "#0a0002", "#0a0003", "#0a0004", "#0a0005", "#0a0006")
_INK, _GRID = "#0b0001", "#0b0002"
_DASHES: Final = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)))
_MARKERS: Final = ("o", "s", "^", "D", "v", "P")
_CAP: Final = 0.05  # half the width of an interval's caps, in layers


def _depth_plot(number: int, key: tuple[str, str, str, str], series: dict[str, Check]) -> Plot:
    # Imported here, for it takes a second; as Any, for its stubs type the settings by name.
    matplotlib: Any = import_module("matplotlib")
    figures: Any = import_module("matplotlib.figure")
    lines: Any = import_module("matplotlib.lines")
    family, way, kind, relu = key
    title = ", ".join(word for word in (family, way, kind, words.relu(relu)) if word)
    settings: dict[str, Any] = {
        "svg.hashsalt": "hyperverify",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 11,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "text.color": _INK,
        "axes.edgecolor": _GRID,
        "axes.labelcolor": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "text.parse_math": False,
        "axes.formatter.use_mathtext": False,
        "axes.unicode_minus": True,
    }
    sentences: list[str] = []
    handles: list[Any] = []
    with matplotlib.rc_context(settings):
        figure: Any = figures.Figure(figsize=(4.6, 3.7), layout="constrained")
        figure.patch.set_visible(False)
        axes: Any = figure.add_subplot()
        axes.patch.set_visible(False)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, color=_GRID, linewidth=0.5)
        axes.set_axisbelow(True)
        deepest = 1
        for index, (label, check) in enumerate(series.items()):
            predicted, measured, low, high = cumulated(check)
            deepest = max(deepest, len(predicted) - 1)
            colour = _SERIES[index]
            # A line is moved aside together with its points: on a steep line either move alone
            # would tear them apart.
            shift = 0.07 * (index - (len(series) - 1) / 2)
            layers = [layer + shift for layer in range(len(predicted))]
            shown = printable(label)
            shown = shown if len(shown) <= 32 else shown[:31] + "…"
            dash, marker = _DASHES[index], _MARKERS[index]
            axes.plot(layers, predicted, color=colour, linestyle=dash, linewidth=1.3)
            axes.plot(*_bars(layers[1:], low[1:], high[1:]), color=colour, linewidth=1.2)
            axes.plot(layers[1:], measured[1:], marker, color=colour, markersize=4)
            handles.append(
                lines.Line2D(
                    [],
                    [],
                    color=colour,
                    linestyle=dash,
                    marker=marker,
                    markersize=4,
                    linewidth=1.3,
                    label=shown.lstrip("_") or "unnamed",
                )
            )
            sentences.append(
                f"{label}: predicted {words.number(predicted[-1])}, measured "
                f"{words.number(measured[-1])} at the last layer"
            )
        axes.set_xlim(-0.35, deepest + 0.35)
        axes.set_xticks(range(0, deepest + 1, max(1, deepest // 10)))
        axes.set_xlabel("layers passed")
        axes.set_ylabel("log second moment")
        axes.margins(y=0.12)
        low_y, high_y = axes.get_ylim()
        if high_y - low_y < 2:  # flat lines should look flat
            middle = (high_y + low_y) / 2
            axes.set_ylim(middle - 1, middle + 1)
        figure.legend(
            handles=handles,
            frameon=False,
            fontsize=10,
            loc="outside upper left",
            ncols=2,
            columnspacing=1.2,
        )
        buffer = io.StringIO()
        with warnings.catch_warnings():  # a glyph that its font lacks: the browser has another
            warnings.filterwarnings("ignore", message="Glyph ")
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    description = (
        "Natural log of the second moment against the number of layers passed; lines are "
        "predicted, points measured, bars confidence intervals. " + "; ".join(sentences) + "."
    )
    return Plot(
        title=title,
        description=description,
        svg=described(themed(buffer.getvalue(), f"p{number}-"), f"p{number}", title, description),
        checks=tuple(series.values()),
    )


def _bars(
    layers: list[float], low: list[float], high: list[float]
) -> tuple[list[float], list[float]]:
    """All intervals of a method with their caps as one broken line: it makes one path, not dozens."""
    xs: list[float] = []
    ys: list[float] = []
    for layer, start, stop in zip(layers, low, high, strict=True):
        left, right = layer - _CAP, layer + _CAP
        xs += [layer, layer, math.nan, left, right, math.nan, left, right, math.nan]
        ys += [start, stop, math.nan, start, start, math.nan, stop, stop, math.nan]
    return xs, ys


def cumulated(check: Check) -> tuple[list[float], list[float], list[float], list[float]]:
    """The log second moment after each layer, from 0: predicted, measured, and its bounds.

    The parts stand in the order in which the layers are passed: backward, the last comes first.
    Bounds add up because a product's logarithm lies between the sums of its factors' bounds; a
    layer whose gain or bound is not finite ends the lists.
    """
    sums: list[list[float]] = [[0.0], [0.0], [0.0], [0.0]]
    for part in check.parts:
        gains = (part.predicted, part.measured, *part.interval)
        if not all(0 < gain < math.inf for gain in gains):
            break
        for column, gain in zip(sums, gains, strict=True):
            column.append(column[-1] + math.log(gain))
    predicted, measured, low, high = sums
    return predicted, measured, low, high


_STYLE_ATTRIBUTE: Final = re.compile(r' style="([^"]*)"')
_BARE_GROUP: Final = re.compile(r"<g>((?:(?!</?g[ >]).)*)</g>", re.DOTALL)
_NESTING: Final = 8
_IDLE_ATTRIBUTES: Final = re.compile(
    r' clip-path="[^"]*"| stroke-linecap="square"| stroke-linejoin="miter"'
    r'| stroke-dashoffset="0"| fill="none"'
)
_SPARE: Final = re.compile(r"(?<=[A-Zz]) | (?=[A-Zz\"])|(?<=\d)\.0(?= |[A-Z]|\")")
_ALLOWED_STYLE: Final = re.compile(r"[a-z-]+")


def themed(svg: str, prefix: str) -> Markup:
    """Matplotlib's SVG made fit to stand in the page.

    The XML prologue, metadata and style element go; style attributes become presentation
    attributes; ids get a prefix, so that two plots do not clash; sentinel colours become the
    page's variables.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = _STYLE_ATTRIBUTE.sub(_presentation, svg)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = svg.replace("xlink:href=", "href=")
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}\1"', svg)
    svg = svg.replace("url(#", f"url(#{prefix}")
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r">\s+<", "><", svg)
    svg = re.sub(r"(\d+\.\d)\d+(?=[\s\",)])", r"\1", svg)  # a tenth of a point is enough
    svg = re.sub(r"\s*\n\s*", " ", svg)
    svg = re.sub(r' transform="rotate\(-?0 [^)]*\)"', "", svg)
    svg = re.sub(r"<clipPath.*?</clipPath>", "", svg)  # nothing is drawn beyond the axes
    svg = _IDLE_ATTRIBUTES.sub("", svg)
    used = set(re.findall(r"#([^\")]+)", svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: m.group(0) if m.group(1) in used else "", svg)
    for _ in range(_NESTING):
        svg = _BARE_GROUP.sub(r"\1", svg)
    svg = svg.replace("<defs></defs>", "").replace("<g/>", "")
    svg = re.sub(r' d="[^"]*"', lambda m: _SPARE.sub("", m.group(0)), svg)
    svg = re.sub(
        r'<svg [^>]*?viewBox="([^"]+)"[^>]*>',
        r'<svg viewBox="\1" fill="none" aria-hidden="true">',
        svg,
    )
    for index, colour in enumerate(_SERIES, start=1):
        svg = svg.replace(colour, f"var(--s{index})")
    svg = svg.replace(_INK, "currentColor").replace(_GRID, "var(--line)")
    return Markup(svg)  # noqa: S704 - matplotlib has escaped every label


def described(svg: Markup, prefix: str, title: str, description: str) -> Markup:
    """A drawing with its title and its description in words, for those who do not see it."""
    named = Markup(
        'role="img" aria-labelledby="{0}-t" aria-describedby="{0}-d">'
        '<title id="{0}-t">{1}</title><desc id="{0}-d">{2}</desc>'
    ).format(prefix, printable(title), printable(description))
    return Markup(svg.replace('aria-hidden="true">', named, 1))  # noqa: S704 - both are safe


def _presentation(match: re.Match[str]) -> str:
    """A style attribute as the presentation attributes of the same names."""
    attributes: list[str] = []
    for declaration in match.group(1).split(";"):
        name, _, value = declaration.strip().partition(":")
        name, value = name.strip(), value.strip()
        if name == "font-family":
            continue
        if name == "font":  # "10px sans-serif": the page's own font, at that size
            attributes.append(f'font-size="{value.split()[0]}"')
        elif value and _ALLOWED_STYLE.fullmatch(name):
            attributes.append(f'{name}="{value}"')
    return " " + " ".join(attributes) if attributes else ""
