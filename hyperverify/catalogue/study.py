"""One study: the checks of one spec, fed from one stream of blocks until each has its verdict."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

import torch

from hyperverify import moments
from hyperverify.catalogue import claims_of
from hyperverify.catalogue.claims import EXACT, Claim, Part
from hyperverify.catalogue.conditions import oracle
from hyperverify.engine import Observation
from hyperverify.errors import HyperverifyError
from hyperverify.evidence import (
    Evidence,
    EvidenceStream,
    Law,
    ProportionEvidence,
    Verdict,
    ZeroEvidence,
    df_cap,
    proportion_cap,
)
from hyperverify.foreign import Initializer
from hyperverify.pivots import Pivot
from hyperverify.plan import Draw, plan
from hyperverify.sampling import Block, blocks
from hyperverify.specs import HypernetSpec

# After this many blocks, a stream that never saw a degree of freedom will not see one.
IDLE_BLOCKS = 20

# The formula and the oracle are computed exactly and rounded once or twice to floats.
WITNESS_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Study:
    """A spec and which of its claims to check.

    Attributes:
        spec: the hypernet.
        group: ``grid`` or ``paper``, the part of the catalogue it belongs to.
        label: what it is, in a few words, or ``""``.
        quantities: the quantities to check; empty for all.
        rules: keep only claims that witness one of these rules; empty for all.
    """

    spec: HypernetSpec
    group: str = "grid"
    label: str = ""
    quantities: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()

    def claims(self) -> tuple[Claim, ...]:
        """The claims to check, in the catalogue's order."""
        return tuple(
            claim
            for claim in claims_of(self.spec)
            if (not self.quantities or claim.quantity in self.quantities)
            and (not self.rules or set(self.rules) & set(claim.rules))
        )


@dataclass(frozen=True)
class Levels:
    """Error rates of one check: alpha (false REFUTED), beta (false VERIFIED), p_inconclusive."""

    alpha: float
    beta: float
    tolerance: float
    p_inconclusive: float


@dataclass
class Outcome:
    """A claim with its evidence.

    Attributes:
        claim: what was checked.
        streams: evidence, a stream a part.
        seconds: time spent measuring it.
    """

    claim: Claim
    streams: tuple[EvidenceStream, ...]
    seconds: float = 0.0
    _open: set[int] = field(default_factory=set[int])

    def __post_init__(self) -> None:
        self._open = set(range(len(self.streams)))

    @property
    def agrees(self) -> bool:
        """Whether the formula and the oracle give the same prediction (True without a formula)."""
        formula, oracle = self.claim.formula, self.claim.predicted
        if formula is None:
            return True
        return math.isclose(formula, oracle, rel_tol=WITNESS_TOLERANCE, abs_tol=WITNESS_TOLERANCE)

    @property
    def verdict(self) -> Verdict | None:
        """REFUTED if any part is (or the witnesses disagree), VERIFIED if all are."""
        found = [stream.verdict for stream in self.streams]
        if not self.agrees or Verdict.REFUTED in found:
            return Verdict.REFUTED
        if self._open:
            return None
        return Verdict.INCONCLUSIVE if Verdict.INCONCLUSIVE in found else Verdict.VERIFIED

    @property
    def done(self) -> bool:
        """Whether nothing more has to be measured."""
        refuted = any(stream.verdict == Verdict.REFUTED for stream in self.streams)
        return refuted or not self._open

    @property
    def open(self) -> tuple[int, ...]:
        """The parts that have no verdict yet."""
        return tuple(sorted(self._open))

    def feed(self, pivots: Mapping[int, Pivot]) -> None:
        """Add what one block showed to every part that has no verdict yet."""
        for n in self.open:
            _add(self.streams[n], *pivots[n])
            if self.streams[n].verdict is not None:
                self._open.discard(n)

    def give_up(self) -> None:
        """End the parts that have no evidence at all: their inputs are always dead."""
        for n in sorted(self._open):
            if not self.streams[n].nu:
                self.streams[n].finish()
                self._open.discard(n)

    def value(self) -> float:
        """The measured value, in the unit of the prediction."""
        return self.claim.combine([_value(p, s, s.theta) for p, s in self._pairs()])

    def interval(self) -> tuple[float, float]:
        """Confidence sequence for the true value (the parts' ends, combined)."""
        ends = [stream.interval() for stream in self.streams]
        low = [_value(p, s, e[0]) for (p, s), e in zip(self._pairs(), ends, strict=True)]
        high = [_value(p, s, e[1]) for (p, s), e in zip(self._pairs(), ends, strict=True)]
        return self.claim.combine(low), self.claim.combine(high)

    def _pairs(self) -> list[tuple[Part, EvidenceStream]]:
        return list(zip(self.claim.parts, self.streams, strict=True))


def _value(part: Part, stream: EvidenceStream, theta: float) -> float:
    """Theta times the prediction; what is predicted to be zero is its own measurement."""
    return theta if isinstance(stream, ZeroEvidence) else theta * part.value


def _add(stream: EvidenceStream, S: torch.Tensor, nu: torch.Tensor) -> None:
    """Feed whole replicates, as many as fit under the cap; then look for the last time."""
    left, total, df = stream.remaining, float(S.sum()), int(nu.sum())
    if left is not None and df > left:
        fits = int((nu.cumsum(0) <= left).sum())
        if fits:
            stream.add(float(S[:fits].sum()), int(nu[:fits].sum()))
        stream.finish()
        return
    if df or total:
        stream.add(total, df)


def _slack(spec: HypernetSpec) -> int:
    """Df that one replicate can bring at most: the cap must not cut a replicate in two."""
    most = max(layer.n_weights for layer in spec.layers)
    if spec.chunk is not None:
        entries = max(spec.chunk.hidden, spec.embedding.dim)
        most = max(most, *(spec.chunk.count(layer) * entries for layer in spec.layers))
    embeddings = (spec.embedding, spec.bias_embedding or spec.embedding)
    return max(most, spec.feature_dim, spec.bias_feature_dim, *(e.dim for e in embeddings))


def stream_for(part: Part, claim: Claim, levels: Levels) -> EvidenceStream:
    """The accumulator of one part: alpha and p_inconclusive shared among the claim's parts."""
    share = len(claim.parts)
    alpha, p_inconclusive = levels.alpha / share, levels.p_inconclusive / share
    if part.kind == "zero":
        return ZeroEvidence()
    if part.kind == "proportion":
        cap = proportion_cap(levels.tolerance, levels.beta, p_inconclusive) + _slack(claim.spec)
        return ProportionEvidence(alpha, levels.beta, levels.tolerance, cap)
    law = Law.EXACT if claim.law == EXACT else Law.SUBGAUSSIAN
    cap = df_cap(levels.tolerance, levels.beta, p_inconclusive) + _slack(claim.spec)
    return Evidence(alpha, levels.beta, levels.tolerance, law, cap)


def refuse_overflow(spec: HypernetSpec, dtype: torch.dtype) -> None:
    """Nets with generated biases are not rescaled between layers: they must fit the dtype."""
    if not spec.has_biases or spec.flow != "chain":
        return
    low, high = math.log2(torch.finfo(dtype).tiny), math.log2(torch.finfo(dtype).max)
    q = p = 1.0
    for t in range(len(spec.layers)):
        m = oracle(spec, t)
        layer = spec.layers[t]
        q = float(moments.forward_gain(layer, m)) * q + float(moments.forward_offset(layer, m))
        p *= float(moments.backward_gain(layer, m))
        # a margin for draws far from the mean
        if not all(low / 2 < math.log2(max(value, 1e-300)) / 2 < high / 2 for value in (q, p)):
            raise HyperverifyError(
                f"activations or gradients of layer {t + 1} leave the range of {dtype}: their "
                f"second moments are {q:.3g} and {p:.3g}; allowed: fewer layers, or float64"
            )


@dataclass(frozen=True)
class _Seen:
    """What one block showed of one claim: pivots by part, and how long it took to see them."""

    pivots: dict[int, Pivot]
    seconds: float


def _see(
    block: Block,
    asked: Mapping[int, tuple[Claim, tuple[int, ...]]],
    wanted: frozenset[str],
    compiled: bool,
) -> dict[int, _Seen]:
    """Measure the parts of a block that are asked for."""
    start = time.perf_counter()
    observation = Observation(block, tuple(sorted(wanted)), compiled=compiled)
    found: dict[int, _Seen] = {}
    for n, (claim, parts) in asked.items():
        pivots = {part: claim.parts[part].measure(observation) for part in parts}
        now = time.perf_counter()
        found[n] = _Seen(pivots, now - start)
        start = now
    observation.release()
    return found


def run_study(
    claims: Sequence[Claim],
    root_seed: int,
    levels: Levels,
    device: torch.device,
    dtype: torch.dtype,
    draws: Mapping[str, Draw] | None = None,
    initializer: Initializer | None = None,
    compiled: bool = False,
) -> list[Outcome]:
    """Draw blocks until every claim has its verdict.

    The blocks and the looks are fixed by the spec, so an outcome does not depend on which other
    claims are checked with it.

    Args:
        claims: claims about one spec.
        root_seed: the run's seed.
        levels: error rates of each check.
        device: of the sampled nets.
        dtype: of the sampled nets.
        draws: another plan than the library's (to plant defects).
        initializer: draws the hypernets in the library's place, see :mod:`hyperverify.foreign`.
        compiled: run the nets through ``torch.compile``.
    """
    spec = claims[0].spec
    refuse_overflow(spec, dtype)
    outcomes = [Outcome(c, tuple(stream_for(p, c, levels) for p in c.parts)) for c in claims]
    chosen = plan(spec) if draws is None else draws
    stream = blocks(spec, root_seed, device, dtype, chosen, initializer)
    for index in count():
        asked = {n: (o.claim, o.open) for n, o in enumerate(outcomes) if not o.done}
        # What needs no gradients is compiled anew: a compiled study stays differentiable to its end.
        asking = claims if compiled else [claim for claim, _ in asked.values()]
        wanted = frozenset[str]().union(*(claim.gradients for claim in asking))
        # A block has no name here: it is gone before the next is drawn.
        for n, found in _see(next(stream), asked, wanted, compiled).items():
            outcome = outcomes[n]
            outcome.feed(found.pivots)
            outcome.seconds += found.seconds
            if index >= IDLE_BLOCKS:
                outcome.give_up()
        if all(outcome.done for outcome in outcomes):
            break
    return outcomes
