"""What `hyperverify.check` returns: frozen, plain data, with a dictionary form for JSON.

    CheckResult
      verdict, expect, layers, flags, reason, replicates, seconds, settings, output
      LayerResult                    one generated mainnet layer
        geometry                     kind, d_i, d_j, kernel, ..., relu, bias, s
        generated_by: GeneratorStep  what makes its weights, output layer first, embedding last
        bias_generated_by
        quantities: QuantityResult   weights, biases, forward or backward: measured / expected, verdict
        scales: Scales               the conditional ratio and E[h^2] apart, for a diagnosis
        diagnosis, fix               () and None until somebody diagnoses

Every second moment is absolute; every ratio is measured / expected.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from hyperverify.confidence import Verdict


@dataclass(frozen=True)
class GeneratorStep:
    """One step of what generates a weight or a bias.

    Attributes:
        role: ``output layer`` (the contraction that makes the entries), ``trunk layer`` (one further
            down), ``embedding`` (a parameter or constant at the end), ``opaque`` (followed no further).
        name: of the parameter, "" where the model names none.
        rows, width: of the step's matrix as used: rows x d_k; for an embedding 1 x its entries.
        columns: feature vectors that the matrix multiplies (more than 1: it is shared, or chunked).
        relu: whether a ReLU follows.
        second_moment: mean over replicates of the matrix's Var(H), as implied by what it makes; of an
            embedding or opaque end its own mean square.
        parameter_second_moment, kurtosis, peak: of the parameter's own entries, pooled over the first
            replicates: mean square; E[H^4]/E[H^2]^2 (3 normal, 1.8 uniform); largest |H| over the root
            mean square (1.73 uniform). NaN where there is no parameter.
        mean: of the parameter's entries over their root mean square; 0 for a centred draw.
        drawn: whether it differs between replicates.
        why: of an opaque end, why the chain ends there.
    """

    role: str
    name: str
    rows: int
    width: int
    columns: int
    relu: bool
    second_moment: float
    parameter_second_moment: float
    kurtosis: float
    peak: float
    mean: float
    drawn: bool
    why: str


@dataclass(frozen=True)
class QuantityResult:
    """One claim about one layer.

    Attributes:
        name: ``weights`` (E[W^2]), ``biases`` (E[b^2]), ``forward``, ``backward``.
        expected: what is asked, an absolute second moment (a gain of 1 for activations).
        measured: its estimate.
        ratio, interval: measured / expected and its confidence sequence.
        replicates: independent models behind it.
        spread: bound on the relative variance of one replicate's estimate.
        claim: the sentence that the verdict is about.
        assumptions: what it rests on.
        verdict: as hyperverify's.
        reason: why it is not VERIFIED, or None.
    """

    name: str
    expected: float
    measured: float
    ratio: float
    interval: tuple[float, float]
    replicates: int
    spread: float
    claim: str
    assumptions: tuple[str, ...]
    verdict: Verdict
    reason: str | None


@dataclass(frozen=True)
class Scales:
    """The parts of E[W^2] = d_k Var(H) E[h^2], apart; means over replicates, NaN where not seen.

    Attributes:
        d_k: entries of the features that make the weights.
        var_h: Var(H) as the weights imply it, given h: |W|^2 / sum |h|^2.
        h2: E[h^2], mean square of the features.
        e2: E[e^2], mean square of the embedding's entries; the chain's end.
        asked_var_h: what the expectation asks of Var(H) if E[h^2] = e2 (fan-in trunk): v / (d_k e2).
        conditional_ratio: var_h / asked_var_h, the output layer's scale.
        trunk_gain: h2 / e2, 1 for a fan-in trunk and without one.
        b2: E[b^2] measured; NaN without generated biases.
        x2: E[x^2] at the layer's own operand.
        activation_gain: sum z^2 over what E[W^2] = s/(d_j r) would make of this x; 1 keeps the second
            moment forward.
    """

    d_k: int
    var_h: float
    h2: float
    e2: float
    asked_var_h: float
    conditional_ratio: float
    trunk_gain: float
    b2: float
    x2: float
    activation_gain: float


@dataclass(frozen=True)
class LayerResult:
    """What was found of one generated mainnet layer.

    Attributes:
        name: ``layer 1`` ... in the order of the call.
        kind: ``linear``, ``conv2d``, ``transposed conv2d`` ...
        d_i, d_j: out_channels / groups and in_channels / groups.
        receptive_field: r; 1 for linear layers.
        kernel, groups, stride, padding, dilation, per_sample, relu, activation, bias, copies, uses: as
            `hyperverify.tracing.layers.TracedLayer`.
        weight_shape: of the weight tensor as it was used.
        s: 2 where the expectation counts a ReLU behind the layer, else 1.
        generated_by, bias_generated_by: the chain, output layer first.
        quantities: the claims.
        scales: for a diagnosis.
        verdict: REFUTED if one claim is, VERIFIED if all are, None where nothing is claimed
            (``last_layer="skip"``).
        reason: the first claim's that is not VERIFIED.
        diagnosis, fix: left to a later step.
    """

    name: str
    kind: str
    d_i: int
    d_j: int
    receptive_field: int
    kernel: tuple[int, ...]
    groups: int
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    per_sample: bool
    relu: bool
    activation: str
    bias: str
    copies: int
    uses: int
    weight_shape: tuple[int, ...]
    s: int
    generated_by: tuple[GeneratorStep, ...]
    bias_generated_by: tuple[GeneratorStep, ...]
    quantities: tuple[QuantityResult, ...]
    scales: Scales
    verdict: Verdict | None
    reason: str | None
    diagnosis: tuple[str, ...] = ()
    fix: dict[str, Any] | None = None

    @property
    def fan_in(self) -> int:
        """Inputs that one output sums over: d_j r."""
        return self.d_j * self.receptive_field

    @property
    def fan_out(self) -> int:
        """Outputs that one input reaches, strides aside: d_i r."""
        return self.d_i * self.receptive_field

    def quantity(self, name: str) -> QuantityResult | None:
        """The claim of that name, or None."""
        return next((q for q in self.quantities if q.name == name), None)


@dataclass(frozen=True)
class CheckResult:
    """What `hyperverify.check` found.

    Attributes:
        verdict: VERIFIED only if every claim is and nothing is flagged.
        expect: what was asked.
        direction: for ``either``, the direction that is kept; "" otherwise or where neither is.
        layers: the generated layers.
        flags: what is uncovered, ambiguous or data-dependent, by name.
        reason: why it is not VERIFIED, in one sentence; None if it is.
        replicates: models built.
        seconds: they took.
        settings: the call's arguments that a reader needs to repeat it.
        output: what the target printed, the first part of it.
        ordinary: how many weights that nothing generates the data meets; nothing is said of them.
    """

    verdict: Verdict
    expect: str
    direction: str
    layers: tuple[LayerResult, ...]
    flags: tuple[str, ...]
    reason: str | None
    replicates: int
    seconds: float
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    output: str = ""
    ordinary: int = 0

    @property
    def exit_status(self) -> int:
        """0 VERIFIED, 1 REFUTED, 3 INCONCLUSIVE."""
        return {Verdict.VERIFIED: 0, Verdict.REFUTED: 1}.get(self.verdict, 3)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and texts; NaN and infinities as the texts that run.json uses."""
        plain = _plain(asdict(self))
        for layer, found in zip(plain["layers"], self.layers, strict=True):
            layer.update(fan_in=found.fan_in, fan_out=found.fan_out)
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in cast("dict[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in cast("list[Any]", value)]
    if isinstance(value, Verdict):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
