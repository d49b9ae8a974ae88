"""Who takes part: All-CNN-C, Ha et al.'s hypernet in chunks, and four ways to initialize it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from hyperverify.plan import Draw, plan, rule_variance
from hyperverify.specs import ChunkSpec, EmbeddingSpec, HypernetSpec, LayerSpec

WIDTH: Final = 96
"""Channels of the first layers, and K, the channels of a chunk."""

EMBEDDING: Final = 50
HIDDEN: Final = 50
RATE: Final = 0.0005
SIZE: Final = (32, 32)
CLASSES: Final = 10
SETTING: Final = "All-CNN in chunks"

GENERATED: Final = 7
"""How many layers the hypernet makes: the 3 x 3 ones, which come first."""

LAYERS: Final = 9

_CLASSICAL: Final = {"fan-in": "C.fan_in", "fan-out": "C.fan_out"}


@dataclass(frozen=True)
class Arm:
    """One initialization.

    Attributes:
        label: as the figure names it.
        method: of the hypernet: ``hyperfan-in`` and ``hyperfan-out`` (Appendix A.2), or Kaiming's
            ``fan-in`` and ``fan-out``, of each of its two layers.
    """

    label: str
    method: str

    @property
    def classical(self) -> bool:
        """Whether the method looks at the hypernet's own layers alone."""
        return self.method in _CLASSICAL


ALL: Final = (
    Arm("Kaiming (fan-in)", "fan-in"),
    Arm("Kaiming (fan-out)", "fan-out"),
    Arm("Hyperfan-in", "hyperfan-in"),
    Arm("Hyperfan-out", "hyperfan-out"),
)
FAN_IN: Final = ALL[0]


LAST: Final = ("relu", "linear")
KAIMING: Final = ("output", "both")


@dataclass(frozen=True)
class Form:
    """What the nets of a run are like, whatever their initialization.

    Attributes:
        width: channels of the first three layers, 96 in the paper; the others have twice as many.
        last: what follows the last convolution, ``relu`` (Springenberg et al., Table 1) or nothing
            (``linear``).
        kaiming: which of the hypernet's two layers has Kaiming's factor of 2: ``output``, which ReLU
            follows in the mainnet, or ``both``.
    """

    width: int = WIDTH
    last: str = LAST[0]
    kaiming: str = KAIMING[0]


def layers(form: Form) -> tuple[LayerSpec, ...]:
    """All-CNN-C: nine convolutions, each with ReLU; the average over 6 x 6 positions follows."""
    width = form.width

    def three(inputs: int, outputs: int, stride: int = 1, padding: int = 1) -> LayerSpec:
        both = (stride, stride), (padding, padding)
        return LayerSpec(inputs, outputs, (3, 3), *both, relu=True)

    wide = 2 * width
    return (
        three(3, width),
        three(width, width),
        three(width, width, stride=2),
        three(width, wide),
        three(wide, wide),
        three(wide, wide, stride=2),
        three(wide, wide, padding=0),
        LayerSpec(wide, wide, (1, 1), relu=True),
        LayerSpec(wide, CLASSES, (1, 1), relu=form.last == "relu"),
    )


def spec_of(form: Form, method: str = "hyperfan-in") -> HypernetSpec:
    """What the hypernet makes and of what: K is the width.

    Specs in chunks know no classical method; the default's says what all have in common.
    """
    return HypernetSpec(
        layers=layers(form)[:GENERATED],
        embedding=EmbeddingSpec(EMBEDDING),
        method=method,
        input_size=SIZE,
        output="chunked",
        chunk=ChunkSpec(form.width, HIDDEN),
    )


def draws_of(arm: Arm, form: Form) -> dict[str, Draw]:
    """Every tensor of the hypernet, by the plan's names, and how it is drawn.

    Kaiming's fans are those of the hypernet's own matrices: of an input layer, 50 and 50, of the
    output layer, 50 and K r.
    """
    if not arm.classical:
        return plan(spec_of(form, arm.method))
    rule = _CLASSICAL[arm.method]
    found: dict[str, Draw] = {}
    for name, draw in plan(spec_of(form)).items():
        if not name.endswith(".weight"):
            found[name] = draw
            continue
        rows, columns = draw.shape[-2:]
        doubled = form.kaiming == "both" or name.startswith("output_layers.")
        facts = {"d_k": columns, "n_W": rows, "relu": doubled}
        found[name] = replace(draw, variance=rule_variance(rule, facts))
    return found


def ordinary_draw(layer: LayerSpec) -> Draw:
    """A layer of the mainnet's own: Kaiming, fan-in, the same under all arms."""
    fan_in = math.prod(layer.weight_shape[1:])
    facts = {"d_k": fan_in, "n_W": layer.n_weights, "relu": layer.relu}
    return Draw(layer.weight_shape, "uniform", rule_variance("C.fan_in", facts))
