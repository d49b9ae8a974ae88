"""Who takes part: each initialization in each setting, and the spec of its hypernet."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from hyperverify.specs import EmbeddingSpec, HypernetSpec, LayerSpec

WIDTHS: Final = (784, 500, 500, 500, 500, 500, 10)
"""Five hidden layers of 500 units."""

EMBEDDING: Final = 50
HYPERNET_RATE: Final = 0.0005
CLASSICAL_RATE: Final = 0.01
BATCH: Final = 10


@dataclass(frozen=True)
class Arm:
    """One initialization in one setting.

    Attributes:
        label: as the figures name it.
        method: of the hypernet's output layers (see ``specs.METHODS``); for the classical net, of its
            own layers.
        classical: no hypernet: the weights are trained themselves.
        activation: ``tanh`` or ``relu``, of the hidden layers.
        biases: whether the mainnet has biases: generated ones, or the classical net's own.
        remark: B.1.3's means of the two rules, which the paper shows no figure of.
        hidden: the hypernet makes the layers between the first and the last only, which are ordinary
            layers, drawn and trained as a net's own.
    """

    label: str
    method: str
    classical: bool = False
    activation: str = "tanh"
    biases: bool = False
    remark: bool = False
    hidden: bool = False

    @property
    def name(self) -> str:
        """For files and arrays."""
        kind = "classical" if self.classical else "hypernet"
        what = "weights-and-biases" if self.biases else "weights"
        return f"{self.activation}-{what}-{kind}-{self.method}"

    @property
    def setting(self) -> str:
        """In words."""
        if self.remark:
            return "means of the two rules (B.1.3), tanh, weights only"
        return f"{self.activation}, weights {'and biases' if self.biases else 'only'}"

    @property
    def rate(self) -> float:
        """Learning rate."""
        return CLASSICAL_RATE if self.classical else HYPERNET_RATE

    def layers(self, widths: tuple[int, ...]) -> tuple[LayerSpec, ...]:
        """The mainnet's layers. Softmax follows the last, and tanh is no ReLU: s = 1 for both."""
        last = len(widths) - 2
        relu = self.activation == "relu"
        return tuple(
            LayerSpec(inputs, outputs, relu=relu and t < last, bias=self.biases)
            for t, (inputs, outputs) in enumerate(pairwise(widths))
        )

    def generated(self, layers: int) -> range:
        """Which of a mainnet's layers the hypernet makes."""
        if self.classical:
            return range(0)
        return range(1, layers - 1) if self.hidden else range(layers)

    def spec(self, widths: tuple[int, ...], dim: int = EMBEDDING) -> HypernetSpec:
        """The hypernet: linear, an embedding a layer, one output layer for all layers of one shape."""
        layers = self.layers(widths)
        made = self.generated(len(layers))
        return HypernetSpec(
            layers=layers[made.start : made.stop],
            embedding=EmbeddingSpec(dim),
            method=self.method,
            bias_embedding=EmbeddingSpec(dim) if self.biases else None,
            output="shared",
        )


def _setting(activation: str, *, biases: bool) -> tuple[Arm, ...]:
    name = "Xavier" if activation == "tanh" else "Kaiming"
    own = "harmonic" if activation == "tanh" else "fan-in"
    return (
        Arm(f"{name} (NN)", own, True, activation, biases),
        Arm(f"{name} (Hyper, harmonic)", "harmonic", False, activation, biases),
        Arm(f"{name} (Hyper, fan-in)", "fan-in", False, activation, biases),
        Arm("Hyperfan-in", "hyperfan-in", False, activation, biases),
        Arm("Hyperfan-out", "hyperfan-out", False, activation, biases),
    )


WEIGHTS: Final = _setting("tanh", biases=False)
"""Figures 1 to 3 and 7 to 16."""

BIASES: Final = _setting("tanh", biases=True)
"""Figures 17 to 29."""

RELU: Final = _setting("relu", biases=False) + _setting("relu", biases=True)
"""Section 5.1 reports them in words."""

MEANS: Final = (
    Arm("Xavier (NN), geometric", "geometric", classical=True, remark=True),
    Arm("Xavier (NN), arithmetic", "arithmetic", classical=True, remark=True),
    Arm("Hyperfan, harmonic", "hyperfan-harmonic", remark=True),
    Arm("Hyperfan, geometric", "hyperfan-geometric", remark=True),
    Arm("Hyperfan, arithmetic", "hyperfan-arithmetic", remark=True),
)
"""Appendix B.1.3; the harmonic mean of the classical net is Xavier itself."""

ALL: Final = WEIGHTS + BIASES + RELU + MEANS
