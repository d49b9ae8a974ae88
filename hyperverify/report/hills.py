"""Histograms of nets before training: a hill a layer, on one scale of sizes for all initializations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from markupsafe import Markup

from hyperverify.picture_records import BINS_PER_DECADE, Arm, BeforeTraining, Sizes
from hyperverify.report import words

REFERENCE: Final = "classical net"
INITIALIZATIONS: Final = {"fan-in": "fan-in (Kaiming)", "harmonic": "harmonic (Xavier)"}
NAMES: Final = {
    "activations": "Activations, before the ReLU",
    "gradients": "Gradients of each layer’s input",
    "weights": "Generated weights",
    "weight_gradients": "Gradients of the generated weights",
}

# Half pixels, so that whole numbers are fine enough.
_WIDTH, _LEFT, _RIGHT = 420, 40, 392
_TOP, _PITCH, _PEAK = 60, 46, 62
_FULL: Final = 0.24  # share of a layer's values in one bin that makes a hill of full height
_LABELS: Final = 4


@dataclass(frozen=True)
class Panel:
    """One initialization: its name, a remark or "", and its drawing."""

    name: str
    remark: str
    svg: Markup


@dataclass(frozen=True)
class Row:
    """One quantity under every initialization."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class _Scale:
    """Bins ``low`` to ``high``, each ``pitch`` wide; ``layers`` hills below each other."""

    low: int
    high: int
    pitch: int
    layers: int

    @staticmethod
    def of(layers: int, every: Iterable[Sizes]) -> _Scale:
        ends = [end for sizes in every if (end := _ends(sizes)) is not None]
        low = min((low for low, _ in ends), default=0) - 1
        high = max((high for _, high in ends), default=0) + 1
        pitch = max((_RIGHT - _LEFT) // (high - low + 1), 1)
        return _Scale(max(low, high - (_RIGHT - _LEFT) // pitch), high, pitch, layers)

    def at(self, bins: float) -> int:
        """Where a place on the scale is, in bins from 10^0."""
        return round(_LEFT + (bins - self.low) * self.pitch)

    @property
    def right(self) -> int:
        return self.at(self.high + 1)

    def base(self, layer: int) -> int:
        """Where a hill stands."""
        return _TOP + _PITCH * layer

    @property
    def bottom(self) -> int:
        return self.base(self.layers - 1)

    def decades(self) -> list[int]:
        """Powers of ten that have a label: at most four, 10^0 among them if it is there."""
        first = math.ceil(self.low / BINS_PER_DECADE)
        last = (self.high + 1) // BINS_PER_DECADE
        for step in (1, 2, 3, 4, 5, 10, 20, 50, 100, 200, 500):
            found = [n for n in range(first, last + 1) if n % step == 0]
            if len(found) <= _LABELS:
                break
        return found


def rows(seen: BeforeTraining) -> tuple[Row, ...]:
    """The panels of each quantity; the net without a hypernet lies behind each of them, in grey."""
    reference = next((arm for arm in seen.arms if arm.initialization == REFERENCE), None)
    arms = [arm for arm in seen.arms if arm.initialization != REFERENCE]
    return tuple(
        _row(number, quantity, title, arms, reference)
        for number, (quantity, title) in enumerate(NAMES.items())
    )


def _row(number: int, quantity: str, title: str, arms: Sequence[Arm], reference: Arm | None) -> Row:
    behind: tuple[Sizes, ...] = () if reference is None else getattr(reference, quantity)
    found: dict[str, tuple[Sizes, ...]] = {
        arm.initialization: getattr(arm, quantity) for arm in arms
    }
    every = [sizes for layers in (behind, *found.values()) for sizes in layers]
    scale = _Scale.of(max((len(layers) for layers in (behind, *found.values())), default=1), every)
    # What all panels share is written once, in the first.
    ground = f'<g id=k{number} class=pic>{_ground(scale)}<path class=behind d="{_hills(behind, scale)}"/></g>'
    panels: list[Panel] = []
    for name, layers in found.items():
        about = f"Middle size by layer: {_middles(layers)}."
        if behind:
            about += f" Of the net without a hypernet: {_middles(behind)}."
        family = "kept" if name.startswith("hyperfan") else "classic"
        svg = (
            f'<svg class=pic viewBox="0 0 {_WIDTH} {scale.bottom + 44}" role=img>'
            f"<title>{title}, {name}</title><desc>{about}</desc>{ground}"
            f'<path class={family} d="{_hills(layers, scale)}"/></svg>'
        )
        ground = f"<use href=#k{number} />"
        shown = INITIALIZATIONS.get(name, name)
        panels.append(Panel(shown, _remark(layers), Markup(svg)))  # noqa: S704 - numbers, our words
    return Row(title, tuple(panels))


def _ground(scale: _Scale) -> str:
    """The lines that hills stand on, the numbers of the layers, and powers of ten."""
    lines = "".join(f"M{_LEFT} {scale.base(n)}H{scale.right}" for n in range(scale.layers))
    labels = "".join(
        f"<text x=24 y={scale.base(n) - 4} class=e>{n + 1}</text>" for n in range(scale.layers)
    )
    labels += "<text x=0 y=22>layer</text>"
    for power in scale.decades():
        x = scale.at(power * BINS_PER_DECADE)
        lines += f"M{x} 6V{scale.bottom + 8}"
        labels += f"<text x={x} y={scale.bottom + 36} class=m>{words.power_of_ten(power)}</text>"
    one = ""
    if scale.low <= 0 <= scale.high:
        one = f'<path class=one d="M{scale.at(0)} 6V{scale.bottom + 8}"/>'
    return f'<path class=grid d="{lines}"/>{one}{labels}'


def _hills(layers: Sequence[Sizes], scale: _Scale) -> str:
    return "".join(_hill(sizes, scale, scale.base(n)) for n, sizes in enumerate(layers))


def _hill(sizes: Sizes, scale: _Scale, base: int) -> str:
    """One closed path over the middles of the bins; what would be lower than a dot is left out."""
    total = sum(sizes.counts)
    points: list[tuple[int, int]] = []
    for number, count in enumerate(sizes.counts, start=sizes.first):
        height = round(_PEAK * min(count / total / _FULL, 2.0)) if total else 0
        if height and scale.low <= number <= scale.high:
            points.append((scale.at(number + 0.5), base - height))
    if not points:
        return ""
    ends = (points[0][0] - scale.pitch, base), (points[-1][0] + scale.pitch, base)
    around = [ends[0], *points, ends[1]]
    steps = " ".join(f"{x2 - x1} {y2 - y1}" for (x1, y1), (x2, y2) in pairwise(around))
    return f"M{around[0][0]} {base}l{steps.replace(' -', '-')}z"


def _ends(sizes: Sizes) -> tuple[int, int] | None:
    """The first and the last bin that can be seen."""
    total = sum(sizes.counts)
    seen = [n for n, count in enumerate(sizes.counts, start=sizes.first)
            if total and round(_PEAK * count / total / _FULL)]  # fmt: skip
    return (seen[0], seen[-1]) if seen else None


def _middles(layers: Sequence[Sizes]) -> str:
    return ", ".join(map(_middle, layers))


def _middle(sizes: Sizes) -> str:
    """The size that half of a layer's values stay below, zeros left out."""
    total, seen = sum(sizes.counts), 0
    for number, count in enumerate(sizes.counts, start=sizes.first):
        seen += count
        if count and 2 * seen >= total:
            exponent = (number + 1 - (seen - total / 2) / count) / BINS_PER_DECADE
            return words.number(10.0**exponent if exponent < 300 else math.inf, 2)
    return "none"


def _remark(layers: Sequence[Sizes]) -> str:
    lost = sum(sizes.not_finite for sizes in layers)
    return f"{words.plural(lost, 'value')} not finite" if lost else ""
