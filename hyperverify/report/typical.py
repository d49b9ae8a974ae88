"""The mean over nets, which a rule keeps, against the typical net, which is the one you get."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from hyperverify.picture_records import Typical
from hyperverify.report import words

# Half pixels.
_WIDTH, _HEIGHT = 600, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 588, 14, 350
_SURE: Final = 2.0
"""Standard errors that a bar reaches to either side."""

_NEAR: Final = 0.4
_FEWEST_DECADES: Final = 0.5
_MOST_DECADES: Final = 30.0


@dataclass(frozen=True)
class TypicalPanel:
    """One width: what the picture shows of it, and its drawing."""

    title: str
    sentence: str
    svg: Markup


@dataclass(frozen=True)
class _Scale:
    """log10 of second moments from ``low`` to ``high``, over ``layers`` layers."""

    low: float
    high: float
    layers: int

    def x(self, layer: float) -> int:
        return round(_LEFT + (_RIGHT - _LEFT - 16) * layer / max(self.layers, 1))

    def y(self, value: float) -> int:
        """Of a second moment; what is too small or no number lies at the bottom."""
        log = math.log10(value) if 0 < value < math.inf else math.inf if value > 0 else self.low
        log = max(self.low, min(self.high, log))
        return round(_BOTTOM - (_BOTTOM - _TOP) * (log - self.low) / (self.high - self.low))


def panels(found: Sequence[Typical]) -> tuple[TypicalPanel, ...]:
    """A panel a width, on one scale."""
    values = [1.0]
    for typical in found:
        for layer in typical.layers:
            bars = (layer.mean - _SURE * layer.standard_error,
                    layer.mean + _SURE * layer.standard_error)  # fmt: skip
            values += [layer.predicted, *layer.quartiles, *bars]
    logs = [math.log10(value) for value in values if 0 < value < math.inf]
    low, high = min(logs), max(*logs, min(logs) + _FEWEST_DECADES)
    low = max(low, high - _MOST_DECADES)
    margin = 0.06 * (high - low)
    below = math.floor(low)
    low = below if low - below < _NEAR else low  # a power of ten that is near gets its label
    deepest = max(len(typical.layers) for typical in found)
    scale = _Scale(low - margin, high + margin, deepest)
    return tuple(_panel(typical, scale) for typical in found)


def _panel(found: Typical, scale: _Scale) -> TypicalPanel:
    last = found.layers[-1]
    far = sum(
        not abs(layer.mean - layer.predicted) <= _SURE * layer.standard_error
        for layer in found.layers
    )
    share = words.percent(last.below / found.nets, 2)
    sentence = (
        f"{words.plural(found.nets, 'net')} of width {found.width:,}: after "
        f"{words.plural(len(found.layers), 'layer')} {share} of them lie below the predicted mean, and the "
        f"median net is at {words.number(last.quartiles[1], 2)}; the measured mean is more than two standard "
        f"errors off in {far} of {len(found.layers)} layers, which go together."
    )
    about = (
        f"{sentence} Predicted mean {words.number(last.predicted, 2)}, measured "
        f"{words.number(last.mean, 2)} with standard error {words.number(last.standard_error, 1)}."
    )
    title = f"Second moment by layer, nets of width {found.width:,}"
    low, middle, high = ([1.0, *(layer.quartiles[n] for layer in found.layers)] for n in range(3))
    predicted = [1.0, *(layer.predicted for layer in found.layers)]
    band = _line(high, scale) + "L" + _line(low, scale, backwards=True)[1:] + "z"
    svg = (
        f'<svg class=pic viewBox="0 0 {_WIDTH} {_HEIGHT}" role=img><title>{title}</title>'
        f"<desc>{about}</desc>{_axes(scale)}"
        f'<path class=half d="{band}"/><path class=median d="{_line(middle, scale)}"/>'
        f'<path class=level d="{_line(predicted, scale)}"/>{_means(found, scale)}</svg>'
    )
    return TypicalPanel(f"width {found.width:,}", sentence, Markup(svg))  # noqa: S704 - numbers


def _line(values: Sequence[float], scale: _Scale, *, backwards: bool = False) -> str:
    points = [f"{scale.x(n)} {scale.y(value)}" for n, value in enumerate(values)]
    return "M" + "L".join(points[::-1] if backwards else points)


def _means(found: Typical, scale: _Scale) -> str:
    """Measured means with their bars."""
    bars, dots = "", ""
    for number, layer in enumerate(found.layers, start=1):
        x, reach = scale.x(number), _SURE * layer.standard_error
        if math.isfinite(layer.mean) and math.isfinite(reach):
            bars += f"M{x} {scale.y(layer.mean - reach)}V{scale.y(layer.mean + reach)}"
            dots += f"M{x} {scale.y(layer.mean)}h0"
    return f'<path class=bars d="{bars}"/><path class=dots d="{dots}"/>'


def _axes(scale: _Scale) -> str:
    lines, labels = "", ""
    steps = list(range(math.ceil(scale.low), math.floor(scale.high) + 1))
    every = max(1, math.ceil(len(steps) / 6))
    for power in (n for n in steps if n % every == 0):
        y = scale.y(10.0**power)
        lines += f"M{_LEFT} {y}H{_RIGHT}"
        labels += f"<text x={_LEFT - 10} y={y + 9} class=e>{words.power_of_ten(power)}</text>"
    every = max(1, math.ceil(scale.layers / 10))
    for layer in range(0, scale.layers + 1, every * (2 if scale.layers > 5 else 1)):
        x = scale.x(layer)
        labels += f"<text x={x} y={_BOTTOM + 30} class=m>{layer}</text>"
    middle = (_LEFT + _RIGHT) // 2
    labels += f"<text x={middle} y={_BOTTOM + 62} class=m>layers passed</text>"
    lines += f"M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}"
    return f'<path class=grid d="{lines}"/>{labels}'
