"""Who takes part: each initialization, with every layer generated or all but the last."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from hyperverify.specs import EmbeddingSpec, HypernetSpec, LayerSpec

EMBEDDING: Final = 32
NOISE: Final = Fraction(1, 10)
"""Each batch adds noise from U(-0.1, 0.1) to the embeddings, which stay as they are."""

RATE: Final = 0.1
DECAY: Final = 0.0005
"""Of the L2-regularization: DECAY/2 times the sum of all squared parameters."""

SAMPLES: Final = 10
"""Nets that are drawn at test; their probabilities are averaged."""


@dataclass(frozen=True)
class Arm:
    """One initialization in one setting.

    Attributes:
        label: as Figure 6 names it.
        method: of the output layers (see ``specs.METHODS``).
        last: whether the mainnet's last layer is generated too; an ordinary layer otherwise.
    """

    label: str
    method: str
    last: bool = True

    @property
    def name(self) -> str:
        """For files and arrays."""
        return f"{'all' if self.last else 'all-but-last'}-{self.method}"

    @property
    def setting(self) -> str:
        """In words."""
        return "every layer generated" if self.last else "last layer not generated"

    def spec(self, layers: tuple[LayerSpec, ...], side: int) -> HypernetSpec:
        """The hypernet: linear, an embedding and an output layer of its own for each layer.

        Var(e) is 1: the initialization does not know of the noise.
        """
        return HypernetSpec(
            layers=layers if self.last else layers[:-1],
            embedding=EmbeddingSpec(EMBEDDING),
            method=self.method,
            input_size=(side, side),
        )


def _setting(*, last: bool) -> tuple[Arm, ...]:
    return (
        Arm("Kaiming (fan-in)", "fan-in", last),
        Arm("Kaiming (fan-out)", "fan-out", last),
        Arm("Hyperfan-in", "hyperfan-in", last),
        Arm("Hyperfan-out", "hyperfan-out", last),
    )


GENERATED: Final = _setting(last=True)
"""Figure 6."""

ORDINARY: Final = _setting(last=False)
"""Section 5.4 reports them in words."""

ALL: Final = GENERATED + ORDINARY
