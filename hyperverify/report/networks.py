"""A stored network as a drawing with its dimensions, and as the Python that builds it again.

Both come from the specification in the record. It is validated first; one of another make is shown
as the JSON that it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any, Final, cast

from hyperverify.errors import HyperverifyError
from hyperverify.specs import HypernetSpec, LayerSpec

SHOWN: Final = 4
"""Mainnet layers that are drawn; of more, the first three and the last."""

_WIDE, _HIGH, _GAP = 128, 40, 22
_KEYWORDS: Final = {"LayerSpec": 2, "EmbeddingSpec": 2, "TrunkLayerSpec": 1, "ChunkSpec": 2}
_LINE: Final = 88


def parsed(spec: Mapping[str, Any]) -> HypernetSpec | None:
    """The specification of a record, or None where it is not one of this package."""
    try:
        return HypernetSpec.from_dict(spec)
    except (HyperverifyError, TypeError, AttributeError, OverflowError):
        return None


def snippet(spec: HypernetSpec) -> str:
    """Python that builds the network anew: ``spec``, the initialized ``net``, and an output ``y``."""
    first = spec.layers[0]
    used = {"Hypernet", "HypernetSpec", *(type(item).__name__ for item in _nested(spec))}
    shape = ", ".join(str(size) for size in (spec.batch, first.in_channels, *spec.input_size))
    lines = [
        "import torch",
        f"from hyperverify import {', '.join(sorted(used))}",
        "",
        "spec = HypernetSpec(",
    ]
    for field in fields(spec):
        value = getattr(spec, field.name)
        if field.name not in {"layers", "embedding", "method"} and value == field.default:
            continue
        lines += _argument(field.name, value)
    return "\n".join(
        [
            *lines,
            ")",
            "net = Hypernet(spec, generator=torch.Generator().manual_seed(0))",
            f"y = net(torch.randn({shape}))",
        ]
    )


def _nested(spec: HypernetSpec) -> list[object]:
    optional = (spec.bias_embedding, spec.chunk)
    found: list[object] = [*spec.layers, spec.embedding, *spec.trunk, *spec.bias_trunk]
    return found + [item for item in optional if item is not None]


def _argument(name: str, value: object) -> list[str]:
    """``name=value,``; a long tuple with an item a line, equal neighbours written once."""
    line = f"    {name}={_written(value)},"
    if len(line) <= _LINE or not isinstance(value, tuple):
        return [line]
    runs: list[tuple[str, int]] = []
    for item in cast("tuple[object, ...]", value):
        text = _written(item)
        if runs and runs[-1][0] == text:
            runs[-1] = (text, runs[-1][1] + 1)
        else:
            runs.append((text, 1))
    inner = [
        f"        *[{text}] * {times}," if times > 1 else f"        {text}," for text, times in runs
    ]
    return [f"    {name}=(", *inner, "    ),"]


def _written(value: object) -> str:
    """A value as Python; fractions as the text that the specifications take."""
    if isinstance(value, Fraction):
        return f'"{value}"'
    if isinstance(value, str):
        return f'"{value}"'  # a name of the package's own: validated
    if isinstance(value, tuple):
        items = [_written(item) for item in cast("tuple[object, ...]", value)]
        return f"({', '.join(items)}{',' if len(items) == 1 else ''})"
    if not hasattr(value, "__dataclass_fields__"):
        return repr(value)
    kind = type(value).__name__
    words: list[str] = []
    for place, field in enumerate(fields(cast(Any, value))):
        found = getattr(value, field.name)
        if place < _KEYWORDS[kind]:
            words.append(_written(found))
        elif found != field.default and not _usual(value, field.name):
            words.append(f"{field.name}={_written(found)}")
    return f"{kind}({', '.join(words)})"


def _usual(value: object, name: str) -> bool:
    """Whether a layer's stride, padding or dilation is the one that it has when not given."""
    usual = {"stride": 1, "padding": 0, "dilation": 1}
    if name not in usual or not isinstance(value, LayerSpec):
        return False
    return set(getattr(value, name)) <= {usual[name]}


# --- The drawing. --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Box:
    """A box of the drawing: its place, what it is, and its dimensions."""

    x: int
    y: int
    kind: str
    title: str
    line: str


@dataclass(frozen=True)
class Diagram:
    """Hypernet above, mainnet below, arrows between; coordinates in CSS pixels."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    arrows: str
    words: str

    @property
    def hyper(self) -> str:
        """Path data of the boxes of the hypernet."""
        return _outline(box for box in self.boxes if box.kind in _HYPERNET)

    @property
    def main(self) -> str:
        """Path data of the boxes of the mainnet."""
        return _outline(box for box in self.boxes if box.kind not in _HYPERNET)


_HYPERNET: Final = ("embedding", "hidden", "out")


def _outline(boxes: Iterable[Box]) -> str:
    return "".join(f"M{box.x} {box.y}h{_WIDE}v{_HIGH}h-{_WIDE}z" for box in boxes)


def diagram(spec: HypernetSpec) -> Diagram:
    """From the embedding through the hypernet to the mainnet that it generates, with dimensions."""
    chain = [("embedding", "e", _embedding(spec))]
    chain += [("hidden", "ReLU" if t.relu else "hidden", f"{t.width}") for t in spec.trunk]
    if spec.chunk is not None:
        chain.append(("hidden", "input layers", f"{spec.chunk.hidden} a chunk"))
    chain.append(("out", _OUTPUTS[spec.output], _output(spec)))
    rows = [chain]
    if spec.bias_embedding is not None:
        below = [("embedding", "e for biases", f"{spec.bias_embedding.dim}")]
        below += [("hidden", "ReLU" if t.relu else "hidden", f"{t.width}") for t in spec.bias_trunk]
        rows.append([*below, ("out", "output layer G", f"d_l {spec.bias_feature_dim}")])
    main = [("data", "x", _size(spec.layers[0].in_channels, spec.sizes[0]))]
    shown = list(enumerate(spec.layers))
    if len(shown) > SHOWN:
        shown = [*shown[: SHOWN - 1], shown[-1]]
    for t, layer in shown:
        if t and t == len(spec.layers) - 1 and len(spec.layers) > SHOWN:
            main.append(("more", "…", f"{len(spec.layers) - SHOWN} more"))
        main.append(("layer", f"W{t + 1}{', b' if layer.bias else ''}", _layer(layer)))
    rows.append(main)
    boxes: list[Box] = []
    arrows = ""
    for y, row in enumerate(rows):
        for x, (kind, title, line) in enumerate(row):
            box = Box(x * (_WIDE + _GAP), y * (_HIGH + _GAP), kind, title, line)
            if x:
                arrows += f"M{box.x - _GAP} {box.y + _HIGH // 2}h{_GAP - 4}"
            boxes.append(box)
    # From the end of each row of the hypernet down to one line, and from it into the layers.
    floor = (len(rows) - 1) * (_HIGH + _GAP) - _GAP // 2
    sources = [
        (len(row) - 1) * (_WIDE + _GAP) + _WIDE // 2 + 9 * index
        for index, row in enumerate(rows[:-1])
    ]
    ends = [n * (_WIDE + _GAP) + _WIDE // 2 for n, (kind, *_) in enumerate(main) if kind == "layer"]
    for index, x in enumerate(sources):
        arrows += f"M{x} {index * (_HIGH + _GAP) + _HIGH}V{floor}"
    arrows += f"M{min(ends + sources)} {floor}H{max(ends + sources)}"
    arrows += "".join(f"M{x} {floor}v{_GAP // 2 - 4}" for x in ends)
    width = max(len(row) for row in rows) * (_WIDE + _GAP) - _GAP
    sentence = "; ".join(" to ".join(f"{title} ({line})" for _, title, line in row) for row in rows)
    return Diagram(
        width=width,
        height=len(rows) * (_HIGH + _GAP) - _GAP,
        boxes=tuple(boxes),
        arrows=arrows,
        words=f"Hypernet above, the mainnet that it generates below: {sentence}.",
    )


_OUTPUTS: Final = {
    "own": "output layers H",
    "shared": "shared H",
    "chunked": "chunk H",
}


def _embedding(spec: HypernetSpec) -> str:
    one = spec.embeddings == "one" and len(spec.layers) > 1
    return f"{spec.embedding.dim}{', one for all' if one else ''}"


def _output(spec: HypernetSpec) -> str:
    if spec.chunk is not None:
        return f"K {spec.chunk.size}, d_k {spec.feature_dim}"
    return f"n_W × {spec.feature_dim}"


def _layer(layer: LayerSpec) -> str:
    text = "×".join(str(size) for size in layer.weight_shape)
    return text + (", ReLU" if layer.relu else "")


def _size(channels: int, size: tuple[int, ...]) -> str:
    return "×".join(str(number) for number in (channels, *size))
