"""How often is hyperverify wrong? Error rates of the whole chain over many root seeds.

    python tests/calibration/run_calibration.py --out calibration.json

Whole hypernets are drawn by the initializer, run by the engine, measured by the catalogue's claims
and judged by the same evidence as in a run, once for each root seed 0, 1, 2, ... First as they
should be, then with every variance (and every cotangent) wrong by the tolerance, up and down.
Progress goes to stderr, a Markdown table to stdout, every single rate to the JSON file.

To be fast, the nets of many root seeds are computed side by side (:class:`SideBySide`); each root
keeps its own generators and its own evidence, and sees what ``run_study`` would show it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from scipy import stats

from hyperverify.catalogue import claims_of
from hyperverify.catalogue.claims import EXACT, Claim
from hyperverify.catalogue.conditions import oracle
from hyperverify.catalogue.study import Levels, Outcome, _add, stream_for
from hyperverify.engine import GRADIENTS, Observation
from hyperverify.evidence import Law, Verdict, log_e_value, proportion_log_e_value
from hyperverify.plan import Draw, plan
from hyperverify.pooling import p_value
from hyperverify.sampling import Block
from hyperverify.specs import ChunkSpec, EmbeddingSpec, HypernetSpec, LayerSpec, TrunkLayerSpec

NOMINAL = 0.05
TOLERANCE = 0.3
# Each root's replicates in one block; degrees of freedom between two looks, about.
EACH, LOOK = 128, 32
# Roots computed side by side, and blocks after which a check without enough evidence is given up.
AT_ONCE, MAX_BLOCKS = 250, 16
# Replicates behind one p-value: few, so that the shape of the law shows.
P_REPLICATES = 8
# One-sided level of the comparison with nominal, divided by the number of rates compared.
LEVEL = 1e-3
# REFUTED would hide false VERIFIED: where something is planted it is made all but impossible.
NEVER = 1e-12

# --- what is calibrated ----------------------------------------------------------------------------


def _settings() -> Iterator[tuple[str, HypernetSpec]]:
    third = Fraction(1, 3)
    for dist, method in (("normal", "hyperfan-in"), ("uniform", "hyperfan-out")):
        yield (
            f"dense chain with biases and trunks, {dist}",
            HypernetSpec(
                layers=(LayerSpec(3, 4, relu=True, bias=True), LayerSpec(4, 3, bias=True)),
                embedding=EmbeddingSpec(3, dist, Fraction(2)),
                method=method,
                distribution=dist,
                trunk=(TrunkLayerSpec(3), TrunkLayerSpec(4, relu=True)),
                bias_embedding=EmbeddingSpec(2, dist, third),
                bias_trunk=(TrunkLayerSpec(3),),
            ),
        )
    for d_k, dist, relu, bias in (
        (2, "normal", True, True),
        (2, "uniform", False, False),
        (1, "uniform", True, False),
        (2, "uniform", True, True),
    ):
        words = ("ReLU" if relu else "linear") + (" with biases" if bias else "")
        width = 2 if d_k == 1 else 3
        yield (
            f"three layers of {width}, d_k = {d_k}, {words}, {dist}",
            HypernetSpec(
                layers=(LayerSpec(width, width, relu=relu, bias=bias),) * 3,
                embedding=EmbeddingSpec(d_k, dist),
                method="hyperfan-in",
                distribution=dist,
                bias_embedding=EmbeddingSpec(d_k, dist) if bias else None,
            ),
        )
    for dist in ("normal", "uniform"):
        yield (
            f"batch of 2, ReLU then linear, {dist}",
            HypernetSpec(
                layers=(LayerSpec(4, 4, relu=True), LayerSpec(4, 3)),
                embedding=EmbeddingSpec(3, dist),
                method="hyperfan-out",
                distribution=dist,
                batch=2,
                flow="layerwise",
            ),
        )
        yield (
            f"one embedding for all layers, ReLU, {dist}",
            HypernetSpec(
                layers=(LayerSpec(3, 4, relu=True), LayerSpec(4, 3)),
                embedding=EmbeddingSpec(4, dist),
                method="hyperfan-in",
                distribution=dist,
                embeddings="one",
            ),
        )
    for relu in (False, True):
        words = "ReLU" if relu else "linear"
        for dist in ("normal", "uniform"):
            yield (
                f"shared H, chain, {words}, {dist}",
                HypernetSpec(
                    layers=(LayerSpec(3, 3, relu=relu),) * 2,
                    embedding=EmbeddingSpec(2, dist),
                    method="hyperfan-in",
                    distribution=dist,
                    output="shared",
                ),
            )
            yield (
                f"chunks, {words}, {dist}",
                HypernetSpec(
                    layers=tuple(LayerSpec(a, b, relu=relu) for a, b in ((3, 2), (2, 4), (4, 3))),
                    embedding=EmbeddingSpec(2, dist),
                    method="hyperfan-in",
                    distribution=dist,
                    output="chunked",
                    chunk=ChunkSpec(2, 3),
                    flow="layerwise",
                ),
            )
            yield (
                f"convolutions, {words}, {dist}",
                HypernetSpec(
                    layers=(
                        LayerSpec(2, 4, (3,), padding=(1,), relu=relu, bias=relu),
                        LayerSpec(4, 4, (2,), groups=2, relu=relu, bias=relu),
                    ),
                    embedding=EmbeddingSpec(3, "rademacher"),
                    method="hyperfan-in",
                    distribution=dist,
                    input_size=(4,),
                    bias_embedding=EmbeddingSpec(2, dist) if relu else None,
                    input="rademacher",
                    flow="layerwise",
                ),
            )
    for dist in ("normal", "uniform"):
        yield (
            f"shared H, layer by layer, ReLU with biases, {dist}",
            HypernetSpec(
                layers=(LayerSpec(3, 3, relu=True, bias=True),) * 2,
                embedding=EmbeddingSpec(3, dist),
                method="hyperfan-in",
                distribution=dist,
                bias_embedding=EmbeddingSpec(2, dist),
                output="shared",
                flow="layerwise",
            ),
        )
    yield (
        "three circular convolutions, ReLU, uniform",
        HypernetSpec(
            layers=(LayerSpec(3, 3, (3,), padding=(1,), padding_mode="circular", relu=True),) * 3,
            embedding=EmbeddingSpec(2, "uniform"),
            method="hyperfan-in",
            input_size=(3,),
        ),
    )
    for method in ("orthogonal", "M4"):
        yield (
            f"dense chain, {method}, normal",
            HypernetSpec(
                layers=(LayerSpec(3, 4, relu=True), LayerSpec(4, 3)),
                embedding=EmbeddingSpec(3, "constant" if method == "M4" else "normal"),
                method=method,
                distribution="normal",
            ),
        )
    yield (
        ACTIVE,
        HypernetSpec(
            layers=(LayerSpec(4, 4, relu=True, bias=True),),
            embedding=EmbeddingSpec(3, "rademacher"),
            method="hyperfan-in",
            distribution="normal",
            bias_embedding=EmbeddingSpec(2, "rademacher"),
            input="rademacher",
        ),
    )


# Everything of known modulus: here a constant gamma makes units fire too often or too seldom.
ACTIVE = "one ReLU layer, constant gamma, normal"
SETTINGS: dict[str, HypernetSpec] = dict(_settings())


@dataclass(frozen=True)
class Plant:
    """A defect: what is wrong, and by which factor on the second moment.

    Attributes:
        name: ``none``; ``all``: every variance and cotangent; ``H``: the output layers H only;
            ``first``: the first layer's H and cotangent only; ``gamma``: a constant bias.
        theta: the true second moment over the predicted one.
    """

    name: str = "none"
    theta: float = 1.0

    def draws(self, spec: HypernetSpec) -> dict[str, Draw]:
        """The initialization, with the defect."""
        draws = plan(spec)
        if self.name == "gamma":
            m, layer = oracle(spec, 0), spec.layers[0]
            scale = math.sqrt(layer.in_channels * float(m.weight) + float(m.bias))
            c = scale * float(stats.norm.ppf(self.theta / 2))
            name = "bias_layers.0.bias"
            return draws | {name: Draw(draws[name].shape, "constant", mean=c)}
        begins = {"none": "-", "all": "", "H": "output_layers.", "first": "output_layers.0."}
        return {
            name: replace(
                draw, variance=draw.variance * self.theta, mean=draw.mean * math.sqrt(self.theta)
            )
            if name.startswith(begins[self.name])
            else draw
            for name, draw in draws.items()
        }

    def scale(self, name: str) -> float:
        """Factor on what the engine draws besides the hypernet: only cotangents are wrong."""
        wrong = {"all": "cotangent.", "first": "cotangent.0"}.get(self.name)
        return math.sqrt(self.theta) if wrong and name.startswith(wrong) else 1.0


def plant_for(setting: str, claim: Claim) -> str | None:
    """The defect that makes a claim false by a known factor, or None if there is none."""
    if claim.quantity == "active":
        return "gamma" if setting == ACTIVE else None
    if all(part.kind == "zero" for part in claim.parts):
        return None
    if len(claim.parts) == 1:
        return "all"
    # One part wrong and the others right is where a false VERIFIED is likeliest.
    return "H" if claim.quantity == "forward" else "first"


# --- the chain -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SideBySide(Block):
    """The same block of many root seeds: root n's replicates are rows n * each and on."""

    parts: tuple[Block, ...] = ()
    plant: Plant = Plant()

    def tensor(self, name: str) -> torch.Tensor:
        return torch.cat([block.tensor(name) for block in self.parts])

    def standard(self, name: str, distribution: str, *shape: int) -> torch.Tensor:
        drawn = [block.standard(name, distribution, *shape) for block in self.parts]
        return torch.cat(drawn).mul_(self.plant.scale(name))


def observe(
    spec: HypernetSpec,
    roots: Sequence[int],
    index: int,
    each: int,
    plant: Plant,
    gradients: Iterable[str],
    dtype: torch.dtype,
) -> Observation:
    """Block ``index`` of every root, ``each`` replicates a root."""
    draws, device = plant.draws(spec), torch.device("cpu")
    parts = tuple(Block(spec, root, index, each, device, dtype, draws) for root in roots)
    total = each * len(roots)
    return Observation(
        SideBySide(spec, roots[0], index, total, device, dtype, draws, parts=parts, plant=plant),
        tuple(kind for kind in GRADIENTS if kind in gradients),
        streaming=False,
    )


@dataclass
class Measured:
    """Pivots of one part, a row a root: S and nu of each replicate, and of each look.

    A look comes after every ``stride`` replicates.
    """

    S: torch.Tensor
    nu: torch.Tensor
    stride: int
    sums: list[list[float]] = field(init=False)
    dfs: list[list[int]] = field(init=False)

    def __post_init__(self) -> None:
        rows = len(self.S)
        self.sums = self.S.reshape(rows, -1, self.stride).sum(-1).tolist()
        self.dfs = self.nu.reshape(rows, -1, self.stride).sum(-1).tolist()


def strides(spec: HypernetSpec, claims: Sequence[Claim]) -> dict[str, list[int]]:
    """Replicates between two looks, by claim and part: fixed beforehand, from a pilot's df alone."""
    wanted = frozenset[str]().union(*(claim.gradients for claim in claims))
    o = observe(spec, [-1], 0, 256, Plant(), wanted, torch.float32)
    found: dict[str, list[int]] = {}
    for claim in claims:
        dfs = [float(part.measure(o)[1].double().mean()) for part in claim.parts]
        found[claim.id] = [
            min(EACH, 2 ** max(0, round(math.log2(LOOK / df)))) if df else EACH for df in dfs
        ]
    o.release()
    return found


def measured(claim: Claim, o: Observation, each: int, stride: Sequence[int]) -> list[Measured]:
    """What every part of a claim measures in an observation."""
    found: list[Measured] = []
    for part, step in zip(claim.parts, stride, strict=True):
        S, nu = part.measure(o)
        found.append(Measured(S.reshape(-1, each), nu.reshape(-1, each), step))
    return found


def feed(outcome: Outcome, parts: Sequence[Measured], row: int) -> None:
    """One root's block into its evidence, look by look."""
    for n in sorted(outcome._open):
        stream, part = outcome.streams[n], parts[n]
        for look, (S, nu) in enumerate(zip(part.sums[row], part.dfs[row], strict=True)):
            left = stream.remaining
            if left is not None and nu > left:
                rows = slice(look * part.stride, (look + 1) * part.stride)
                _add(stream, part.S[row, rows], part.nu[row, rows])
            elif nu or S:
                stream.add(S, nu)
            if stream.verdict is not None:
                outcome._open.discard(n)
                break


def outcomes(
    spec: HypernetSpec,
    claims: Sequence[Claim],
    roots: Sequence[int],
    levels: Levels,
    plant: Plant,
    *,
    each: int = EACH,
    stride: Mapping[str, Sequence[int]] | None = None,
    dtype: torch.dtype = torch.float32,
    first: dict[str, list[list[Measured]]] | None = None,
) -> dict[str, list[Outcome]]:
    """The evidence of every claim for every root, as ``run_study`` would gather it.

    Args:
        spec: the hypernet.
        claims: about it.
        roots: root seeds.
        levels: error rates of each check.
        plant: the defect.
        each: replicates of a root in a block.
        stride: replicates between two looks, by claim and part; see :func:`strides`.
        dtype: of the sampled nets.
        first: filled with the pivots of each root's first block.
    """
    found: dict[str, list[Outcome]] = {claim.id: [] for claim in claims}
    stride = stride or strides(spec, claims)
    for start in range(0, len(roots), AT_ONCE):
        some = roots[start : start + AT_ONCE]
        runs = {
            c.id: [Outcome(c, tuple(stream_for(p, c, levels) for p in c.parts)) for _ in some]
            for c in claims
        }
        for index in range(MAX_BLOCKS):
            open_claims = [c for c in claims if not all(o.done for o in runs[c.id])]
            if not open_claims:
                break
            left = [n for n in range(len(some)) if not all(runs[c.id][n].done for c in claims)]
            wanted = frozenset[str]().union(*(c.gradients for c in open_claims))
            o = observe(spec, [some[n] for n in left], index, each, plant, wanted, dtype)
            for claim in open_claims:
                parts = measured(claim, o, each, stride[claim.id])
                if first is not None and index == 0:
                    first.setdefault(claim.id, []).append(parts)
                for row, n in enumerate(left):
                    if not runs[claim.id][n].done:
                        feed(runs[claim.id][n], parts, row)
            o.release()
        for claim in claims:
            for outcome in runs[claim.id]:
                for stream in outcome.streams:
                    if not outcome.done and stream.verdict is None:
                        stream.finish()
                outcome._open.clear()
            found[claim.id] += runs[claim.id]
    return found


# --- rates -----------------------------------------------------------------------------------------


@dataclass
class Row:
    """Everything that is counted for one check, over ``roots`` root seeds.

    ``ever`` counts roots whose evidence against a true claim reached 1/alpha at any look of the
    first block, whether or not VERIFIED would have stopped it before.
    """

    setting: str
    quantity: str
    where: str
    law: str
    roots: int
    refuted: int = 0
    ever: int = 0
    inconclusive: int = 0
    verified_above: int | None = None
    verified_below: int | None = None
    p_value_of_p_values: float | None = None
    theta: float | None = None
    theta_error: float | None = None

    def rates(self) -> dict[str, int]:
        """Counts that are compared to nominal."""
        found = {
            "refuted": self.refuted,
            "ever": self.ever,
            "inconclusive": self.inconclusive,
            "verified_above": self.verified_above,
            "verified_below": self.verified_below,
        }
        return {name: count for name, count in found.items() if count is not None}


def _law(claim: Claim) -> Law:
    return Law.EXACT if claim.law == EXACT else Law.SUBGAUSSIAN


def ever_refuted(claim: Claim, batches: Sequence[Sequence[Measured]], levels: Levels) -> int:
    """Roots whose e-value reaches 1/alpha at some look of the first block."""
    threshold = math.log(len(claim.parts) / levels.alpha)
    count = 0
    for parts in batches:
        for row in range(len(parts[0].sums)):
            best = -math.inf
            for part, seen in zip(claim.parts, parts, strict=True):
                if part.kind == "zero":
                    continue
                S, nu = 0.0, 0
                for s, n in zip(seen.sums[row], seen.dfs[row], strict=True):
                    S, nu = S + s, nu + n
                    if part.kind == "proportion":
                        e = proportion_log_e_value(S, nu, levels.tolerance)
                    else:
                        e = log_e_value(S, nu, levels.tolerance, _law(claim))
                    best = max(best, e)
            count += best >= threshold
    return count


def p_values(claim: Claim, batches: Sequence[Sequence[Measured]]) -> list[float]:
    """Two-sided chi-square p-values of the first part, from a fixed number of replicates a root."""
    if claim.parts[0].kind != "chi2":
        return []
    found: list[float] = []
    for parts in batches:
        S = parts[0].S[:, :P_REPLICATES].sum(1).tolist()
        nu = parts[0].nu[:, :P_REPLICATES].sum(1).tolist()
        found += [p_value(s, n) for s, n in zip(S, nu, strict=True) if n]
    return found


def uniformity(claim: Claim, p: Sequence[float]) -> float | None:
    """Kolmogorov-Smirnov: uniform under an exact law, else not smaller than uniform anywhere."""
    if not p:
        return None
    alternative = "two-sided" if claim.law == EXACT else "greater"
    return float(stats.kstest(p, "uniform", alternative=alternative).pvalue)


def theta(batches: Sequence[Sequence[Measured]]) -> tuple[float, float]:
    """S/nu of the first part over all roots, and its standard error."""
    S = torch.cat([parts[0].S.flatten() for parts in batches])
    nu = torch.cat([parts[0].nu.flatten() for parts in batches]).to(torch.float64)
    total = float(nu.sum())
    return float(S.sum()) / total, float((S - nu).square().sum().sqrt()) / total


def calibrate(
    setting: str, roots: Sequence[int], tolerance: float, dtype: torch.dtype = torch.float32
) -> list[Row]:
    """All rates of one setting, a row a check."""
    spec = SETTINGS[setting]
    claims = claims_of(spec)
    first: dict[str, list[list[Measured]]] = {}
    levels = Levels(NOMINAL, NOMINAL, tolerance, NOMINAL)
    true = outcomes(spec, claims, roots, levels, Plant(), dtype=dtype, first=first)
    rows: dict[str, Row] = {}
    for claim in claims:
        if not sum(int(parts[0].nu.sum()) for parts in first[claim.id]):
            continue  # all of it is determined by the past: nothing to measure
        counts = Counter(outcome.verdict for outcome in true[claim.id])
        where = "/".join(claim.id.split("/")[3:])
        row = Row(setting, claim.quantity, where, claim.law, len(roots))
        row.refuted, row.inconclusive = counts[Verdict.REFUTED], counts[Verdict.INCONCLUSIVE]
        row.ever = ever_refuted(claim, first[claim.id], levels)
        row.p_value_of_p_values = uniformity(claim, p_values(claim, first[claim.id]))
        if claim.parts[0].kind == "chi2":
            row.theta, row.theta_error = theta(first[claim.id])
        rows[claim.id] = row
    first.clear()
    levels = replace(levels, alpha=NEVER)
    for name in ("all", "H", "first", "gamma"):
        chosen = [c for c in claims if c.id in rows and plant_for(setting, c) == name]
        for factor in (1 + tolerance, 1 / (1 + tolerance)) if chosen else ():
            false = outcomes(spec, chosen, roots, levels, Plant(name, factor), dtype=dtype)
            for claim in chosen:
                count = sum(o.verdict is Verdict.VERIFIED for o in false[claim.id])
                side = "verified_above" if factor > 1 else "verified_below"
                setattr(rows[claim.id], side, count)
    return list(rows.values())


# --- what the rates say ----------------------------------------------------------------------------


def level(rows: Sequence[Row]) -> float:
    """Bonferroni: ``LEVEL`` over the number of rates compared."""
    return LEVEL / sum(len(row.rates()) for row in rows)


def above_nominal(rows: Sequence[Row]) -> list[tuple[Row, str]]:
    """Rates shown to lie above nominal by the exact binomial test."""
    each = level(rows)
    return [
        (row, name)
        for row in rows
        for name, count in row.rates().items()
        if stats.binomtest(count, row.roots, NOMINAL, alternative="greater").pvalue <= each
    ]


def below_nominal(rows: Sequence[Row]) -> int:
    """How many rates are shown to lie below nominal by the exact binomial test."""
    each = level(rows)
    return sum(
        stats.binomtest(count, row.roots, NOMINAL, alternative="less").pvalue <= each
        for row in rows
        for count in row.rates().values()
    )


def bad_p_values(rows: Sequence[Row]) -> list[Row]:
    """Rows whose p-values are shown not to be uniform (conservative, for uniform draws)."""
    tested = [row for row in rows if row.p_value_of_p_values is not None]
    return [row for row in tested if (row.p_value_of_p_values or 0.0) <= LEVEL / len(tested)]


def table(rows: Sequence[Row], *by: str) -> str:
    """Markdown: a line for each value of the fields ``by``; means and largest rates in percent."""
    names = ("refuted", "ever", "inconclusive", "verified_above", "verified_below")
    lines = [
        f"| {' | '.join(by)} | checks | REFUTED | ever | open | high | low | p-values |",
        "|" + "---|" * len(by) + "--:|" * 7,
    ]
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(getattr(row, name) for name in by), []).append(row)
    for key, members in groups.items():
        cells = [*key, str(len(members))]
        for name in names:
            rates = [100 * row.rates()[name] / row.roots for row in members if name in row.rates()]
            cells.append(f"{sum(rates) / len(rates):.1f} ({max(rates):.1f})" if rates else "–")
        p = [row.p_value_of_p_values for row in members if row.p_value_of_p_values is not None]
        cells.append(f"{min(p):.1g} of {len(p)}" if p else "–")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def summary(rows: Sequence[Row]) -> str:
    """What the table says, in a few lines."""
    rates, roots = sum(len(row.rates()) for row in rows), rows[0].roots
    above, bad = above_nominal(rows), bad_p_values(rows)
    lines = [
        f"{len(rows)} checks, {rates} rates of {roots} root seeds; level {level(rows):.1g} each.",
        f"Above nominal: {len(above)}. Shown below nominal: {below_nominal(rows)}.",
        f"P-values not as the law says: {len(bad)}.",
    ]
    for name in ("refuted", "ever", "inconclusive", "verified_above", "verified_below"):
        row = max((r for r in rows if name in r.rates()), key=lambda r: r.rates()[name])
        share = row.rates()[name] / roots
        mean = sum(r.rates().get(name, 0) for r in rows) / sum(
            r.roots for r in rows if name in r.rates()
        )
        lines.append(
            f"'{name}': mean {mean:.2%}, largest {share:.1%} "
            f"({row.quantity} {row.where} in '{row.setting}')."
        )
    lines += [f"ABOVE: {name} of {row.where} in '{row.setting}'" for row, name in above]
    lines += [f"P-VALUES: {row.where} in '{row.setting}'" for row in bad]
    return "\n".join(lines)


# --- uniform draws behind a shared output layer ----------------------------------------------------


def shared_uniform(d: int, d_k: int, layers: int, *, relu: bool) -> HypernetSpec:
    """A chain of square layers behind one uniform H: the one law without a proof."""
    return HypernetSpec(
        layers=(LayerSpec(d, d, relu=relu),) * layers,
        embedding=EmbeddingSpec(d_k, "uniform"),
        method="hyperfan-in",
        output="shared",
    )


@dataclass
class Ratio:
    """S/nu of one claim over many replicates, its standard error, and Var(S) over 2 nu."""

    quantity: str
    theta: float
    error: float
    spread: float


def long_run(spec: HypernetSpec, blocks: int, replicates: int = 2048) -> list[Ratio]:
    """The ratio theta itself, from blocks * replicates hypernets of root seed 0, in float64."""
    claims = [c for c in claims_of(spec) if c.quantity in {"forward", "backward"}]
    sums = {claim.id: torch.zeros(3, dtype=torch.float64) for claim in claims}
    for index in range(blocks):
        o = observe(spec, [0], index, replicates, Plant(), ("x", "z"), torch.float64)
        for claim in claims:
            S, nu = claim.parts[0].measure(o)
            left = S - nu
            sums[claim.id] += torch.stack([S.sum(), nu.sum(), left.square().sum()])
        o.release()
    found: list[Ratio] = []
    for claim in claims:
        S, nu, squares = sums[claim.id].tolist()
        where = f"{claim.quantity} {(claim.layer or 0) + 1}"
        found.append(Ratio(where, S / nu, math.sqrt(squares) / nu, squares / (2 * nu)))
    return found


def shared_table(blocks: int) -> str:
    """Markdown: theta behind a shared uniform H, from tiny nets to the size of the suites."""
    lines = [
        "| width, d_k, layers | claim | theta - 1 | standard error | Var(S) / 2 nu |",
        "|---|---|--:|--:|--:|",
    ]
    for d, d_k, layers, relu in (
        (2, 2, 2, False),
        (2, 2, 2, True),
        (3, 2, 3, False),
        (3, 2, 3, True),
        (8, 6, 3, False),
        (8, 6, 3, True),
    ):
        size = f"{d}, {d_k}, {layers}, {'ReLU' if relu else 'linear'}"
        many = blocks * (8 // d) ** 2  # small nets are cheap, and theirs is the larger bias
        for ratio in long_run(shared_uniform(d, d_k, layers, relu=relu), many):
            sys.stderr.write(f"{size}: {ratio}\n")
            lines.append(
                f"| {size} | {ratio.quantity} | {ratio.theta - 1:+.4f} | {ratio.error:.4f} "
                f"| {ratio.spread:.2f} |"
            )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; exit status 1 if a rate is above nominal."""
    parser = argparse.ArgumentParser(description="Error rates of the verdicts, whole chain.")
    parser.add_argument("--roots", type=int, default=500, help="root seeds 0 .. ROOTS - 1")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--only", default="", help="settings whose name contains this text")
    parser.add_argument("--out", type=Path, help="JSON file with every rate")
    parser.add_argument(
        "--shared-uniform", type=int, metavar="BLOCKS", help="theta behind a shared uniform H"
    )
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if given.shared_uniform:
        sys.stdout.write(shared_table(given.shared_uniform) + "\n")
        return 0
    rows: list[Row] = []
    start = time.perf_counter()
    names = [name for name in SETTINGS if given.only in name]
    if not names or given.roots < 1 or not 0 < given.tolerance < 1:
        parser.error("nothing to calibrate: see --only, --roots and --tolerance")
    for n, name in enumerate(names, start=1):
        rows += calibrate(name, range(given.roots), given.tolerance, getattr(torch, given.dtype))
        seconds = time.perf_counter() - start
        sys.stderr.write(f"{n}/{len(names)}  {seconds:5.0f} s  {name}\n")
    tables = table(rows, "quantity", "law"), table(rows, "setting"), summary(rows)
    sys.stdout.write("\n\n".join(tables) + "\n")
    if given.out:
        settings: Mapping[str, Any] = {
            "roots": given.roots,
            "tolerance": given.tolerance,
            "alpha": NOMINAL,
            "beta": NOMINAL,
            "dtype": given.dtype,
            "torch": str(torch.__version__),
            "rows": [asdict(row) for row in rows],
        }
        given.out.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    return 1 if above_nominal(rows) or bad_p_values(rows) else 0


if __name__ == "__main__":
    sys.exit(main())
