"""Results of checks made by hand, with exact numbers: what a diagnosis reads, without a hypernet."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hyperverify.check_results import (
    CheckResult,
    GeneratorStep,
    LayerResult,
    QuantityResult,
    Scales,
)
from hyperverify.confidence import Verdict
from hyperverify.expectations import demands

REPLICATES = 64
KURTOSIS = {"uniform": 1.8, "normal": 3.0}
PEAK = {"uniform": 1.73, "normal": 4.5}


@dataclass(frozen=True)
class Matrix:
    """One matrix of a chain: its variance, fan-in and rows."""

    variance: float
    width: int
    rows: int
    relu: bool = False
    law: str = "uniform"
    name: str = "H"
    columns: int = 1

    def step(self, role: str) -> GeneratorStep:
        return GeneratorStep(
            role, self.name, self.rows, self.width, self.columns, self.relu, self.variance,
            self.variance, KURTOSIS[self.law], PEAK[self.law], 0.0, True, "",
        )  # fmt: skip


@dataclass(frozen=True)
class Made:
    """One mainnet layer and what makes it; no matrices: an opaque end of that second moment."""

    d_i: int
    d_j: int
    weights: tuple[Matrix, ...] = ()
    biases: tuple[Matrix, ...] = ()
    relu: bool = False
    kernel: tuple[int, ...] = ()
    groups: int = 1
    e2: float = 1.0
    embedding: str = "uniform"
    end: tuple[str, int] = ("e", 12)
    opaque: float = math.nan
    shape: tuple[int, ...] = field(default=())

    @property
    def r(self) -> int:
        return math.prod(self.kernel)

    @property
    def s(self) -> int:
        return 2 if self.relu else 1


def moment(matrices: tuple[Matrix, ...], e2: float) -> float:
    """What the chain makes of E[e^2]."""
    for matrix in matrices:
        e2 *= matrix.variance * matrix.width / (2.0 if matrix.relu else 1.0)
    return e2


def _steps(matrices: tuple[Matrix, ...], layer: Made) -> tuple[GeneratorStep, ...]:
    if not matrices:
        made = GeneratorStep("opaque", "W", 1, layer.d_i * layer.d_j * layer.r, 1, False, layer.opaque,
                             layer.opaque, 3.0, 4.5, 0.0, True, "made by mul")  # fmt: skip
        return (made,)
    roles = ["output layer", *["trunk layer"] * (len(matrices) - 1)]
    end = GeneratorStep("embedding", layer.end[0], 1, layer.end[1], 1, False, layer.e2, layer.e2,
                        KURTOSIS[layer.embedding], PEAK[layer.embedding], 0.0, True, "")  # fmt: skip
    return (*(m.step(role) for m, role in zip(matrices, roles, strict=True)), end)


def result_of(*layers: Made, expect: str = "hyperfan-in") -> CheckResult:
    """The result that a check of these layers comes to, with every second moment as it is."""
    made = [_layer(t, layer, expect) for t, layer in enumerate(layers)]
    verdicts = {layer.verdict for layer in made}
    verdict = Verdict.REFUTED if Verdict.REFUTED in verdicts else Verdict.VERIFIED
    return CheckResult(verdict, expect, "", tuple(made), (), None, REPLICATES, 1.0,
                       {"input": [layers[0].d_j]})  # fmt: skip


def _layer(t: int, layer: Made, expect: str) -> LayerResult:
    biased = bool(layer.biases)
    asked = demands(expect, d_i=layer.d_i, d_j=layer.d_j, r=layer.r, relu=layer.relu,
                    generates_bias=biased, live_bias=biased)  # fmt: skip
    w = moment(layer.weights, layer.e2) if layer.weights else layer.opaque
    b = moment(layer.biases, layer.e2) if biased else math.nan
    quantities = tuple(
        _quantity(demand.name, demand.expected, b if demand.measure == "biases" else w)
        for demand in asked
    )
    worst = (
        Verdict.REFUTED
        if any(q.verdict is Verdict.REFUTED for q in quantities)
        else Verdict.VERIFIED
    )
    shape = (layer.d_i, layer.d_j, *layer.kernel)
    scales = Scales(0, math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, b, 1.0, 1.0)
    return LayerResult(
        f"layer {t + 1}", "conv2d" if layer.kernel else "linear", layer.d_i, layer.d_j, layer.r,
        layer.kernel, layer.groups, (), (), (), False, layer.relu, "relu" if layer.relu else "none",
        "generated" if biased else "none", 1, 1, shape, layer.s, _steps(layer.weights, layer),
        _steps(layer.biases, layer) if biased else (), quantities, scales, worst, None,
    )  # fmt: skip


def _quantity(name: str, expected: float, measured: float) -> QuantityResult:
    ratio = measured / expected if expected else (1.0 if measured == 0.0 else math.inf)
    right = 1 / 1.05 < ratio < 1.05
    return QuantityResult(name, expected, measured, ratio, (0.8 * ratio, 1.2 * ratio), REPLICATES,
                          0.17, "", (), Verdict.VERIFIED if right else Verdict.REFUTED, None)  # fmt: skip
