"""`hyperverify.check`: any hypernetwork, as a factory, against an expectation.

Replicates are drawn until every claim about every layer has its verdict. A claim's evidence is one
number a replicate, an unbiased estimate of the second moment over the expected one
(`hyperverify.tracing.estimates`), and a bound on its relative spread derived from the traced graph
(`hyperverify.bounded`). An all-zero generated bias has no spread and is a case of its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hyperverify.arguments import check_level, check_number, check_tolerance, check_whole
from hyperverify.bounded import decide_mean, mean_interval, replicates_needed
from hyperverify.budget import AlphaBudget
from hyperverify.check_results import (
    CheckResult,
    LayerResult,
    QuantityResult,
    Scales,
)
from hyperverify.confidence import Verdict
from hyperverify.diagnosis import diagnose
from hyperverify.errors import BadArgument
from hyperverify.expectations import Demand, check_expectation, demands
from hyperverify.low_rank import excuse
from hyperverify.sampling import one_thread
from hyperverify.tracing.alarm import OutOfTime
from hyperverify.tracing.clues import clues_of
from hyperverify.tracing.describe import assumptions_of, circumstances, layer_result, wording
from hyperverify.tracing.observations import Observed, Sample, Stream
from hyperverify.tracing.replicates import BadTarget, Replicate, Replicates, factorized
from hyperverify.tracing.values import is_list

__all__ = ["BadTarget", "CheckResult", "LayerResult", "QuantityResult", "Scales", "check"]

GRACE_FACTOR, GRACE_LEAST, GRACE_SECONDS = 2, 64, 5.0
"""Once the whole is REFUTED, so many times the replicates, at least so many in all, at most so much
longer: to decide the other claims, and to say by how much."""

FIRST_LOOK, LOOK_GROWTH, CAP_FACTOR = 8, 1.1, 8
"""The first look is at so many replicates: fewer cannot contradict the spread that was derived. Each
further look is at so many times as many, and a claim that is undecided at so many times the number that
a true one takes ends as INCONCLUSIVE."""

DOUBTED = (
    "The replicates spread more than normal draws of these shapes: tails are heavier, or entries are not "
    "independent, and then no sample shows that a second moment is not larger"
)


@dataclass
class _Claim:
    """One demand of one layer, on its way to a verdict."""

    layer: int
    demand: Demand
    stream: Stream
    evidence: Callable[[], Sample]
    verdict: Verdict | None = None
    reason: str | None = None

    def look(self, alpha: float, beta: float, tolerance: float) -> None:
        """Look at the evidence; the first verdict is final."""
        if self.verdict is not None:
            return
        if self.zero_bias:
            self._look_at_zero()
            return
        seen = self.evidence()
        if seen.values.size:
            self.verdict = decide_mean(
                seen.values / self.demand.expected, seen.spread, alpha=alpha, beta=beta,
                tolerance=tolerance, trusted=seen.trusted,
            )  # fmt: skip

    @property
    def zero_bias(self) -> bool:
        """A bias of exactly 0, asked for or found, has no spread: a case of its own."""
        return self.demand.measure == "biases" and (self.demand.expected == 0.0 or self.stream.zero)

    def _look_at_zero(self) -> None:
        expected = self.demand.expected
        if len(self.stream.values) < 2:
            return
        if expected == 0.0 and not self.stream.zero:
            self.verdict = Verdict.REFUTED
            self.reason = "the rule asks for biases of exactly 0, and they are not"
        elif expected == 0.0:
            self.verdict = Verdict.VERIFIED
        else:
            self.verdict = Verdict.REFUTED
            self.reason = (
                f"every generated bias is exactly 0; the rule asks for E[b^2] = {expected:.4g}"
            )

    def result(self, alpha: float, assumptions: tuple[str, ...]) -> QuantityResult:
        """The claim as it stands."""
        expected = self.demand.expected
        seen = self.evidence()
        values, spread = seen.values, seen.spread
        measured = float(values.mean()) if values.size else math.nan
        if self.zero_bias:
            ratio = 1.0 if measured == expected else 0.0 if expected else math.inf
            interval = (ratio, ratio)
        else:
            ratio = measured / expected
            interval = mean_interval(values / expected, spread, alpha)
        verdict = self.verdict or Verdict.INCONCLUSIVE
        reason = self.reason
        if verdict is not Verdict.VERIFIED and reason is None:
            reason = wording(self.demand, verdict, ratio, interval, values.size)
            if verdict is Verdict.INCONCLUSIVE and seen.doubted:
                reason += f". {DOUBTED}"
        return QuantityResult(
            self.demand.name, expected, measured, ratio, interval, values.size, spread,
            self.demand.claim, assumptions, verdict, reason,
        )  # fmt: skip


def check(
    factory: Callable[[], Any],
    *,
    input: int | tuple[int, ...] | None = None,  # noqa: A002  the command line's own word
    inputs: Callable[..., Any] | None = None,
    expect: str = "either",
    tolerance: float = 0.1,
    alpha: float = 1e-6,
    beta: float = 1e-3,
    seed: int = 0,
    max_seconds: float = 60.0,
    last_layer: str = "paper",
) -> CheckResult:
    """Verify the hypernetwork that ``factory`` builds.

    Args:
        factory: takes no argument, returns a freshly built and initialized model: an nn.Module or any
            callable whose call runs hypernet and mainnet. It may draw from torch's, numpy's and
            random's global generators: they are seeded per replicate and restored.
        input: shape of one sample, ``64`` or ``(3, 32, 32)``; the model is called on (3, *input).
        inputs: a function that returns the model's arguments (a tuple, or one), in ``input``'s place;
            it may take the number of samples.
        expect: ``hyperfan-in``, ``hyperfan-out``, ``forward``, ``backward`` or ``either``.
        tolerance: relative error of a second moment that must be caught.
        alpha: probability allowed of REFUTED where every claim is true.
        beta: probability allowed of VERIFIED for a claim that is off by more than the tolerance.
        seed: root of all draws; the same seed gives the same verdicts and numbers.
        max_seconds: after so long the undecided claims are INCONCLUSIVE.
        last_layer: ``paper``: s = 1 where no ReLU follows; ``relu``: s = 2 for the last layer all the
            same, as some libraries have it; ``skip``: no claim about the last layer.

    Raises:
        BadArgument: an argument outside its range.
        BadTarget: the target does not build or run, or has no generated layer.
    """
    expect, last_layer = check_expectation(expect, last_layer)
    check_tolerance(tolerance)
    check_level("alpha", alpha)
    check_level("beta", beta)
    root = check_whole("seed", seed, 0)
    allowed = "a number of seconds above 0"
    limit = check_number("max_seconds", max_seconds, allowed)
    if not 0.0 < limit < math.inf:
        raise BadArgument("max_seconds", max_seconds, allowed)
    shape = _shape(input, inputs)
    start = time.monotonic()
    # One thread: the same sums on any machine, and replicates are too small to share out.
    with one_thread():
        run = _Run(
            factory,
            shape,
            inputs,
            expect,
            last_layer,
            (tolerance, alpha, beta),
            root,
            start + limit,
        )
        run.go()
    settings = {
        "expect": expect, "tolerance": tolerance, "alpha": alpha, "beta": beta, "seed": root,
        "max_seconds": limit, "last_layer": last_layer, "input": list(shape) if not inputs else None,
    }  # fmt: skip
    result = run.result(time.monotonic() - start, settings)
    return result if run.drawn < FIRST_LOOK else diagnose(result, clues_of(run.first))


def _shape(given: object, inputs: object) -> tuple[int, ...]:
    if inputs is not None:
        if given is not None:
            raise BadArgument("input", given, "nothing, where inputs is given")
        if not callable(inputs):
            raise BadArgument("inputs", inputs, "a function")
        return ()
    if given is None:
        raise BadArgument("input", given, "the shape of one sample, or inputs=")
    sizes = (given,)
    if is_list(given):
        sizes = tuple(given)
    shape = tuple(n for n in sizes if isinstance(n, int) and not isinstance(n, bool) and n > 0)
    if not sizes or len(shape) < len(sizes):
        raise BadArgument("input", given, "the shape of one sample: positive integers")
    return shape


class _Run:
    def __init__(
        self,
        factory: Callable[[], Any],
        shape: tuple[int, ...],
        inputs: Callable[..., Any] | None,
        expect: str,
        last_layer: str,
        levels: tuple[float, float, float],
        seed: int,
        deadline: float,
    ) -> None:
        self.expect, self.last_layer = expect, last_layer
        self.tolerance, self.alpha, self.beta = levels
        self.deadline = deadline
        seconds = deadline - time.monotonic()
        try:
            self.replicates = Replicates(factory, shape, inputs, seed, deadline)
        except OutOfTime as error:
            text = f"the target did not finish one call in the time allowed, {seconds:.3g} seconds"
            raise BadTarget(text) from error
        self.first = self.replicates.first
        self.layers = self.first.analysis.layers
        self.flags = list(self.first.analysis.findings.flags)
        if not self.layers and not self.flags:
            raise BadTarget(
                "the target has no generated layer: no contraction of the data with weights that "
                "were made from parameters and embeddings"
            )
        self.observed = [Observed() for _ in self.layers]
        self.claims = [claim for t in range(len(self.layers)) for claim in self._claims(t)]
        if self.layers and not self.claims:
            self.flags.append(
                "nothing is claimed: the only generated layer is the last one, skipped"
            )
        self.per_claim = AlphaBudget(self.alpha, max(len(self.claims), 1)).per_check
        self.drawn = 0

    def counted_relu(self, t: int) -> bool:
        """Whether layer t's claims count a ReLU."""
        last = t == len(self.layers) - 1
        return self.layers[t].relu or (last and self.last_layer == "relu")

    def _claims(self, t: int) -> list[_Claim]:
        layer, seen = self.layers[t], self.observed[t]
        if t == len(self.layers) - 1 and self.last_layer == "skip":
            return []
        asked = demands(
            self.expect, d_i=layer.d_i, d_j=layer.d_j, r=layer.receptive_field,
            relu=self.counted_relu(t), generates_bias=layer.bias == "generated",
            live_bias=layer.b is not None and bool(layer.b.value().any()),
        )  # fmt: skip
        fan_in, s = layer.d_j * layer.receptive_field, 2 if self.counted_relu(t) else 1

        found: list[_Claim] = []
        for demand in asked:
            stream = seen.biases if demand.measure == "biases" else seen.weights
            both = demand.measure == "activations"
            seen.activations = seen.activations or both
            evidence = (lambda: seen.forward(fan_in, s)) if both else stream.sample
            found.append(_Claim(t, demand, stream, evidence))
        return found

    # -- drawing ----------------------------------------------------------------

    def go(self) -> None:
        """Draw replicates until all is decided, or time or the cap is reached."""
        if not self.layers:
            return
        self._take(self.first)
        look, last, stop, cap = FIRST_LOOK, math.inf, math.inf, self._cap()
        while self.drawn < min(cap, last):
            if time.monotonic() > min(self.deadline, stop) or self._undrawn():
                break
            try:
                replicate = self.replicates.draw(self.drawn)
            except OutOfTime:
                break
            if not self._take(replicate):
                break
            if self.drawn < look:
                continue
            look = max(look + 1, int(look * LOOK_GROWTH))
            self._look()
            cap, refuted = self._cap(), self._refuted()
            if stop == math.inf and refuted:
                stop = time.monotonic() + GRACE_SECONDS
                last = max(GRACE_FACTOR * self.drawn, GRACE_LEAST)
            if not refuted and all(claim.verdict for claim in self.claims):
                break
        if self.drawn >= FIRST_LOOK:
            self._look()

    def _look(self) -> None:
        for claim in self.claims:
            claim.look(self.per_claim, self.beta, self.tolerance)

    def _take(self, replicate: Replicate) -> bool:
        """Add a replicate; False where its structure is another than the first one's."""
        analysis = replicate.analysis
        if analysis.structure != self.first.analysis.structure:
            self.flags.append("different structure on each call: the replicates do not agree")
            return False
        self.flags += [f for f in analysis.findings.flags if f not in self.flags]
        for seen, layer, weights, biases in zip(
            self.observed, analysis.layers, analysis.weights, analysis.biases, strict=True
        ):
            seen.add(layer, weights, biases, replicate.trace)
        self.drawn += 1
        self.replicates.release(replicate)
        if self.drawn == 64 and any(seen.weights.dead > 56 for seen in self.observed):
            self.flags.append("the features of a layer are all zero in nearly every replicate")
            return False
        return True

    def _cap(self) -> int:
        cap = FIRST_LOOK
        for claim in self.claims:
            seen = claim.evidence()
            needed = replicates_needed(seen.spread, self.beta, self.tolerance)
            # A doubt that lasts is an answer: no sample can dispel it.
            cap = max(cap, needed if seen.doubted else CAP_FACTOR * needed)
        return cap

    def _undrawn(self) -> bool:
        """Whether the first replicates are all alike: then nothing can be said of expectations."""
        if self.drawn != 2 or not all(seen.weights.constant for seen in self.observed):
            return False
        self.flags.append("not random: the factory makes the same weights on every call")
        return True

    def _refuted(self) -> bool:
        if self.expect != "either":
            return any(claim.verdict is Verdict.REFUTED for claim in self.claims)
        refuted = {c.demand.name for c in self.claims if c.verdict is Verdict.REFUTED}
        return refuted >= {"forward", "backward"}

    # -- the result ---------------------------------------------------------------

    def result(self, seconds: float, settings: dict[str, Any]) -> CheckResult:
        """Everything that was found."""
        quantities: list[list[QuantityResult]] = [[] for _ in self.layers]
        for claim in self.claims:
            assumptions = self._assumptions(claim)
            quantities[claim.layer].append(claim.result(self.per_claim, assumptions))
        for t, seen in enumerate(self.observed):
            part = seen.evenness.uneven(self.tolerance, self.alpha / len(self.layers))
            if part is not None and quantities[t]:
                self.flags.append(f"uneven: in layer {t + 1}, {part}")
        first = self.first.analysis
        waists = factorized(first.findings.layers, first.weights)
        quantities = excuse(quantities, waists, self.tolerance)
        direction, verdict, reason = self._verdict(quantities)
        layers = tuple(
            layer_result(
                t, layer, self.first, self.observed[t], tuple(quantities[t]),
                self._layer_verdict(quantities[t], direction), 2 if self.counted_relu(t) else 1,
            )
            for t, layer in enumerate(self.layers)
        )  # fmt: skip
        return CheckResult(
            verdict, self.expect, direction, layers, tuple(self.flags), reason, self.drawn, seconds,
            settings, self.replicates.captured.getvalue(), self.first.analysis.findings.ordinary,
        )  # fmt: skip

    def _assumptions(self, claim: _Claim) -> tuple[str, ...]:
        analysis = self.first.analysis
        source = analysis.weights[claim.layer]
        if claim.demand.measure == "biases":
            source = analysis.biases[claim.layer] or source
        layer = self.layers[claim.layer]
        return (
            *assumptions_of(source, claim.demand.measure, claim.evidence().doubted),
            *circumstances(layer, claim.demand.name),
        )

    def _layer_verdict(self, found: list[QuantityResult], direction: str) -> Verdict | None:
        if not found:
            return None
        verdicts = [q.verdict for q in found if not direction or q.name == direction]
        if self.expect == "either" and not direction:
            if Verdict.VERIFIED in verdicts:
                return Verdict.VERIFIED
            refuted = all(v is Verdict.REFUTED for v in verdicts)
            return Verdict.REFUTED if refuted else Verdict.INCONCLUSIVE
        return _worst(verdicts)

    def _verdict(self, quantities: list[list[QuantityResult]]) -> tuple[str, Verdict, str | None]:
        """(direction kept, verdict, reason)."""
        every = [q for found in quantities for q in found]
        if self.expect == "either":
            worst = {
                name: _worst([q.verdict for q in every if q.name == name])
                for name in ("forward", "backward")
            }
            kept = next((n for n, v in worst.items() if v is Verdict.VERIFIED), "")
            if kept:
                verdict, reason = Verdict.VERIFIED, None
            elif all(v is Verdict.REFUTED for v in worst.values()):
                verdict, reason = Verdict.REFUTED, "neither direction is kept at every layer"
            else:
                verdict, reason = Verdict.INCONCLUSIVE, "no direction is shown to be kept"
        else:
            kept, verdict = "", _worst([q.verdict for q in every])
            reason = next(
                (f"layer {t + 1}: {q.reason}" for t, found in enumerate(quantities) for q in found
                 if q.verdict is verdict and q.reason), None,
            )  # fmt: skip
        if self.flags and verdict is not Verdict.REFUTED:
            return "", Verdict.INCONCLUSIVE, self.flags[0]
        return kept, verdict, reason


def _worst(verdicts: list[Verdict]) -> Verdict:
    if Verdict.REFUTED in verdicts:
        return Verdict.REFUTED
    return Verdict.INCONCLUSIVE if Verdict.INCONCLUSIVE in verdicts else Verdict.VERIFIED
