"""Maps of second moments at the borders of a convolution, predicted beside measured, as heat maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from hyperverify.picture_records import BorderMap
from hyperverify.report import words

_CELL: Final = 36
_STEPS: Final = 10
"""Shades: a tenth of what comes in each, from nothing lost to all."""

FAR: Final = 2.0
_OVER: Final = 1.05
"""Above this a position holds more than came in, and has a colour of its own."""


@dataclass(frozen=True)
class HeatMap:
    """A pair of maps.

    Attributes:
        title: what the picture says.
        about: what to look at.
        measured: how sure the measurement is, and how far it lies from the prediction.
        panels: name and drawing of either map.
    """

    title: str
    about: str
    measured: str
    panels: tuple[tuple[str, Markup], ...]


def heat_map(found: BorderMap) -> HeatMap:
    """The two maps, their scale of shades the same in all pictures."""
    what = _what(found)
    return HeatMap(
        title=_title(found),
        about=_about(found),
        measured=_measured(found),
        panels=tuple(
            (name, _drawn(rows, f"{what}, {name}"))
            for name, rows in (("predicted", found.predicted), ("measured", found.measured))
        ),
    )


def key() -> Markup:
    """The shades and what they stand for."""
    cells = "".join(f'<path class=v{n} d="M{24 * n} 0h24v12h-24z"/>' for n in range(_STEPS))
    return Markup(  # noqa: S704 - no word from outside
        f'<svg class=shades viewBox="0 0 {24 * _STEPS} 12" aria-hidden=true>'
        f'<path class=v0 d="M0 0h{24 * _STEPS}v12H0z"/>{cells}</svg>'
    )


def _what(found: BorderMap) -> str:
    where = "after" if found.quantity == "activations" else "before"
    count = words.plural(found.after, "convolution")
    return f"{found.quantity.capitalize()} {where} {count}, stride {found.stride}"


def _title(found: BorderMap) -> str:
    numbers = {1: "one convolution", 2: "two convolutions", 3: "three convolutions"}
    count = numbers.get(found.after, f"{found.after} convolutions")
    if found.stride > 1:
        return f"Strides: {found.quantity} of a convolution of stride {found.stride}"
    if found.quantity == "gradients":
        return f"Borders: gradients below {count}"
    return f"Borders: activations after {count}"


def _about(found: BorderMap) -> str:
    rows, columns = len(found.predicted), len(found.predicted[0])
    size = f"{rows} × {columns} map, kernel 3 × 3, zero padding, {found.method}"
    if found.quantity == "gradients":
        text = (
            f"The second moment of dL/dx at each position ({size}), 1 being that of the gradients "
            "that come from above."
        )
        if found.stride > 1:
            text += (
                " Look at the chequers: a stride skips positions, so that some are read by four "
                "outputs, some by two, some by one, and their gradients differ accordingly. The "
                "rule reckons without the stride."
            )
        return text
    text = f"The second moment at each position ({size}), 1 being that of the input."
    if found.after == 1:
        return (
            f"{text} Look at the corners: there a kernel reads 4 entries and 5 zeros, at an edge 6 "
            "and 3, and only that share is left. The rule reckons with 9 everywhere."
        )
    return f"{text} Look how the loss moves inwards: each convolution reads the border of the last."


def _measured(found: BorderMap) -> str:
    pairs = [
        (abs(m - p), e)
        for row_m, row_p, row_e in zip(
            found.measured, found.predicted, found.standard_error, strict=True
        )
        for m, p, e in zip(row_m, row_p, row_e, strict=True)
    ]
    errors = [error for _, error in pairs]
    far = sum(not gap <= FAR * error for gap, error in pairs)  # NaN is far
    chance = round(0.0455 * len(pairs))
    return (
        f"Measured over {found.nets:,} nets, standard errors {words.number(min(errors), 1)} to "
        f"{words.number(max(errors), 1)}. {_count(far)} of {len(pairs)} positions "
        f"{'lies' if far == 1 else 'lie'} more than two of them from the prediction; chance alone "
        f"makes {chance} on average, now few and now many, since positions of one net vary together."
    )


def _count(number: int) -> str:
    return "None" if not number else f"{number:,}"


def shade(value: float) -> str:
    """The class of a cell: how much of what came in is missing, in tenths."""
    if math.isnan(value) or value > _OVER:
        return "over"
    return f"v{max(0, min(_STEPS - 1, round(_STEPS * (1 - value))))}"


def _drawn(rows: Sequence[Sequence[float]], title: str) -> Markup:
    """Cells as one path a shade, with the value in each."""
    width, height = _CELL * len(rows[0]), _CELL * len(rows)
    cells: dict[str, str] = {}
    texts: list[str] = []
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            square = f"M{_CELL * j} {_CELL * i}h{_CELL}v{_CELL}h-{_CELL}z"
            cells[shade(value)] = cells.get(shade(value), "") + square
            x, y = _CELL * j + _CELL // 2, _CELL * i + 23
            texts.append(f"<text x={x} y={y}>{_cell(value)}</text>")
    finite = [value for row in rows for value in row if math.isfinite(value)]
    spread = f"{min(finite):.3g} to {max(finite):.3g}" if finite else "no finite value"
    corner, middle = rows[0][0], rows[len(rows) // 2][len(rows[0]) // 2]
    about = f"Corner {_cell(corner)}, middle {_cell(middle)}; in all {spread}."
    paths = "".join(f'<path class={name} d="{d}"/>' for name, d in sorted(cells.items()))
    return Markup(  # noqa: S704 - numbers, and words of this module
        f'<svg class=map viewBox="-1 -1 {width + 2} {height + 2}" role=img><title>{title}</title>'
        f"<desc>{about}</desc>{paths}{''.join(texts)}</svg>"
    )


def _cell(value: float) -> str:
    if not math.isfinite(value):
        return words.number(value) if math.isinf(value) else "?"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.0e}"
