"""What the failures of a run have in common: where they begin, which settings they share, and which
known mistake would make all of them.

A wrong scale travels: weights that are too small make every activation behind them too small. A
reader of sixty failures needs the first one, and what the sixty share.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hyperverify.mistakes import LIBRARY, Facts, Mistake
from hyperverify.report import words
from hyperverify.report.networks import parsed
from hyperverify.specs import HypernetSpec
from hyperverify.store import Check, Run

__all__ = [
    "CAUSAL",
    "CommonCause",
    "Row",
    "Suspect",
    "common_cause",
    "fits",
    "sentences",
    "upstream_first",
]

CAUSAL: Final = (
    "embedding", "trunk", "weights", "biases", "row sums", "column sums", "forward", "active",
    "backward", "dL/dW", "dL/dh", "dL/dH", "dL/dg", "dL/dG", "depth",
)  # fmt: skip
"""Quantities in the order in which one makes the next."""

_ORIGINS: Final = frozenset(CAUSAL[:6])
FEWEST: Final = 2
"""Failures below which there is nothing to have in common."""

MOST_SUSPECTS: Final = 3
"""Mistakes that fit all the same; of more, none is named, for the data do not tell them apart."""

MOST_METHODS: Final = 2
"""Initializations that are told as something shared; more of them are not one thing."""

_SETTINGS: Final = {
    "distribution": {"uniform": "uniform draws", "normal": "normal draws"},
    "kind": {"linear": "linear layers", "conv": "convolutions"},
    "relu": {"all": "a ReLU behind every layer", "none": "no ReLU"},
    "bias": {"true": "generated biases", "false": "no generated biases"},
    "output": {
        "own": "an output layer of the hypernet for each layer of the mainnet",
        "shared": "one output layer that all layers share",
        "chunked": "a chunked output layer",
    },
}
_RULES: Final = ("hyperfan-in", "hyperfan-out")


@dataclass(frozen=True)
class Row:
    """The failures of one quantity.

    Attributes:
        quantity: its name.
        failed, tested: how many of how many.
        low, high: measured over predicted among those that failed, in words.
    """

    quantity: str
    failed: int
    tested: int
    low: str
    high: str


@dataclass(frozen=True)
class Suspect:
    """A known mistake that predicts what was measured, for every generated layer that failed.

    Attributes:
        name, says: as the checker tells it.
        how: the variant, "" for the plain one.
    """

    name: str
    says: str
    how: str


@dataclass(frozen=True)
class CommonCause:
    """What the refuted checks share.

    Attributes:
        begins: the quantity in which they begin, where it is one that others are made of, or None.
        shared: sentences, each on a setting that all failures have and other checks have not.
        rows: by quantity, in causal order.
        suspects: known mistakes that fit.
        layers: of hyperfan rules, failed: what these were held against.
    """

    begins: str | None
    shared: tuple[str, ...]
    rows: tuple[Row, ...]
    suspects: tuple[Suspect, ...]
    layers: int


def common_cause(run: Run) -> CommonCause | None:
    """What the refuted checks of a run share; None with fewer than two that the data refute."""
    failed = [c for c in run.checks if c.verdict == "REFUTED" and not words.disagree(c)]
    if len(failed) < FEWEST:
        return None
    rows = _rows(failed, run.checks)
    first = rows[0].quantity
    origins = [(check, facts) for check in failed if (facts := facts_of(check)) is not None]
    return CommonCause(
        begins=first if first in _ORIGINS else None,
        shared=tuple(_shared(failed, run.checks)),
        rows=rows,
        suspects=_suspects(origins),
        layers=len(origins),
    )


def sentences(cause: CommonCause) -> tuple[str, ...]:
    """The same in sentences, without a table: what it looks like, where it begins, what all share."""
    told: list[str] = []
    if cause.suspects:
        named = ", or ".join(
            f"{suspect.name}{f' ({suspect.how})' if suspect.how else ''}: {suspect.says}"
            for suspect in cause.suspects
        )
        told.append(f"It looks like {named}. {fits(cause)}")
    if cause.begins:
        told.append(f"It begins with {words.QUANTITIES[cause.begins]}. {TRAVELS}")
    return (*told, *cause.shared)


TRAVELS: Final = "What is made of them further on is wrong with them."


def fits(cause: CommonCause) -> str:
    """How many of the failed layers the suspects were held against."""
    which = "Each of these" if len(cause.suspects) > 1 else "That"
    of = f"all {cause.layers:,} of" if cause.layers > 1 else "the one of"
    return f"{which} would give what was measured in {of} the generated layers of hyperfan rules that failed."


def upstream_first(checks: Sequence[Check]) -> list[int]:
    """The order in which failures are read: one of each quantity first, causes before effects.

    Returns:
        Indices into ``checks``.
    """
    seen: dict[str, int] = {}
    keys: list[tuple[int, int, int]] = []
    for number, check in enumerate(checks):
        seen[check.quantity] = seen.get(check.quantity, -1) + 1
        keys.append((seen[check.quantity], _place(check.quantity), number))
    return [number for *_, number in sorted(keys)]


def _place(quantity: str) -> int:
    return CAUSAL.index(quantity) if quantity in CAUSAL else len(CAUSAL)


def _rows(failed: Sequence[Check], checks: Iterable[Check]) -> tuple[Row, ...]:
    tested: dict[str, int] = {}
    for check in checks:
        tested[check.quantity] = tested.get(check.quantity, 0) + 1
    found: dict[str, list[float]] = {}
    for check in failed:
        found.setdefault(check.quantity, []).append(words.log_ratio(check, check.measured))
    return tuple(
        Row(quantity, len(ratios), tested[quantity], *_ends(ratios))
        for quantity, ratios in sorted(found.items(), key=lambda pair: _place(pair[0]))
    )


def _ends(ratios: Sequence[float]) -> tuple[str, str]:
    known = [ratio for ratio in ratios if not math.isnan(ratio)]
    if len(known) < len(ratios):
        return words.offset(min(known, default=math.nan)), words.offset(math.nan)
    return words.offset(min(known)), words.offset(max(known))


def _shared(failed: Sequence[Check], checks: Sequence[Check]) -> Iterable[str]:
    """Settings that all failures have, where checks without it were run and none failed."""
    for tag, named in _SETTINGS.items():
        values = {_value(check, tag) for check in failed}
        if len(values) == 1 and (value := values.pop()) in named:
            inside = sum(_value(check, tag) == value for check in checks)
            yield from _split(named[value], inside, len(failed), len(checks))
    methods = {check.method for check in failed}
    if len(methods) <= MOST_METHODS:
        inside = sum(check.method in methods for check in checks)
        yield from _split(" or ".join(sorted(methods)), inside, len(failed), len(checks))


def _value(check: Check, tag: str) -> str:
    return str(check.tags.get(tag, "")).lower()


def _split(named: str, inside: int, failed: int, total: int) -> Iterable[str]:
    if inside < total:
        yield (
            f"All have {named}: {failed:,} of the {inside:,} checks with it fail, none of the "
            f"{total - inside:,} without."
        )


def _suspects(origins: Sequence[tuple[Check, Facts]]) -> tuple[Suspect, ...]:
    """Mistakes that predict what was measured of every generated layer that failed."""
    if not origins:
        return ()
    found: list[Suspect] = []
    for mistake in LIBRARY:
        hows = [_fits(mistake, facts, check) for check, facts in origins]
        if mistake.convention or None in hows:
            continue
        found.append(Suspect(mistake.name, mistake.says, (hows[0] or "") * (len(set(hows)) == 1)))
    return tuple(found) if len(found) <= MOST_SUSPECTS else ()


def _fits(mistake: Mistake, facts: Facts, check: Check) -> str | None:
    """The variant of a mistake whose second moment the check's interval holds, or None."""
    low, high = check.interval
    for prediction in mistake.predict(facts):
        value = prediction.value
        if prediction.absolute:
            value *= facts.width * facts.told
        if low <= value <= high and not prediction.idle:
            return prediction.how
    return None


def facts_of(check: Check) -> Facts | None:
    """What a hyperfan rule had to reckon with in a check of generated weights or biases.

    None for another method, for chunks (whose rules are others), and for a specification of another make.
    """
    spec = parsed(check.spec)
    t = check.layer
    if (
        spec is None
        or t is None
        or not 0 <= t < len(spec.layers)
        or check.quantity not in ("weights", "biases")
        or spec.method not in _RULES
        or spec.chunk is not None
    ):
        return None
    layer = spec.layers[t]
    d_i, d_j = layer.out_channels // layer.groups, layer.in_channels // layer.groups
    r = math.prod(layer.kernel)
    weights = check.quantity == "weights"
    end = spec.embedding if weights else spec.bias_embedding or spec.embedding
    rows = layer.n_weights if weights else layer.out_channels
    return Facts(
        what=check.quantity, rule=spec.method, d_i=d_i, d_j=d_j, r=r, kernel=layer.kernel,
        groups=layer.groups, s=2 if layer.relu else 1, biased=layer.bias, asked=check.predicted,
        other=math.nan, width=_width(spec, weights=weights), rows=rows,
        used=rows, told=float(end.second_moment), law=spec.distribution, end_law=end.distribution,
    )  # fmt: skip


def _width(spec: HypernetSpec, *, weights: bool) -> int:
    return spec.feature_dim if weights else spec.bias_feature_dim
