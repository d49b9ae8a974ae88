"""What the failures of a run have in common: where they begin, which settings they share, and which
known mistake would make them.

A wrong scale travels: weights that are too small make every activation behind them too small. A
reader of sixty failures needs the first one, and what the sixty share.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hyperverify.report import words
from hyperverify.report.suspects import Suspects, suspects
from hyperverify.store import Check, Run, encode

__all__ = ["CAUSAL", "CommonCause", "Row", "common_cause", "looks_like", "upstream_first"]

CAUSAL: Final = (
    "embedding", "trunk", "weights", "biases", "row sums", "column sums", "forward", "active",
    "backward", "dL/dW", "dL/dh", "dL/dH", "dL/dg", "dL/dG", "depth",
)  # fmt: skip
"""Quantities in the order in which one makes the next."""

_MADE_OF: Final = ("weights", "biases", "row sums", "column sums")
"""What activations and gradients are made of: of these a wrong scale is seen further on. Checks of the
weights themselves are made given the features, so that a wrong embedding or trunk is not."""

FEWEST: Final = 2
"""Failures below which there is nothing to have in common."""

WITHOUT: Final = 10
"""Checks without a setting, none of them failing, below which nothing is said of it."""

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
class CommonCause:
    """What the refuted checks share.

    Attributes:
        begins: a sentence on what fails first, network by network.
        shared: sentences, each on a setting that all failures have and other checks have not.
        rows: by quantity, in causal order.
        suspects: known mistakes that would make them.
    """

    begins: str
    shared: tuple[str, ...]
    rows: tuple[Row, ...]
    suspects: Suspects

    @property
    def sentences(self) -> tuple[str, ...]:
        """All of it without the table."""
        named = looks_like(self.suspects)
        return (*([named] if named else []), self.begins, *self.shared)


def common_cause(run: Run) -> CommonCause | None:
    """What the refuted checks of a run share; None with fewer than two that the data refute."""
    failed = [c for c in run.checks if c.verdict == "REFUTED" and not words.disagree(c)]
    if len(failed) < FEWEST:
        return None
    split = {check.id for check in run.checks if words.disagree(check)}
    return CommonCause(
        begins=_begins(failed),
        shared=tuple(_shared(failed, run.checks)),
        rows=_rows(failed, run.checks),
        suspects=suspects(check for check in run.checks if check.id not in split),
    )


def looks_like(found: Suspects) -> str:
    """The suspects in a sentence; "" where there are none."""
    if not found.named:
        return ""
    named = ", or ".join(
        f"{suspect.name}{f' ({suspect.how})' if suspect.how else ''}: {suspect.says}"
        for suspect in found.named
    )
    which = "Each of these" if len(found.named) > 1 else "That"
    layers = words.plural(found.layers, "generated layer")
    of = f"all {layers}" if found.layers > 1 else "the one generated layer"
    text = f"It looks like {named}. {which} would give what was measured in {of} of hyperfan rules that failed"
    if found.others:
        text += f" (of other rules {found.others:,} more failed, which were not compared)"
    spared = max(suspect.spared for suspect in found.named)
    if spared:
        text += (
            f"; made everywhere it would have failed {words.plural(spared, 'layer')} too that passed, so it is "
            "made in some places only"
        )
    return f"{text}."


def upstream_first(checks: Sequence[Check]) -> list[int]:
    """The order in which failures are read: one of each rule first, causes before effects.

    Returns:
        Indices into ``checks``.
    """
    causal = sorted(range(len(checks)), key=lambda number: _place(checks[number].quantity))
    seen: Counter[str] = Counter()
    keys: list[tuple[int, int]] = []
    for place, number in enumerate(causal):
        rule = checks[number].rules[0]
        keys.append((seen[rule], place))
        seen[rule] += 1
    return [causal[place] for _, place in sorted(keys)]


def _place(quantity: str) -> int:
    return CAUSAL.index(quantity) if quantity in CAUSAL else len(CAUSAL)


def _network(check: Check) -> str:
    return json.dumps(encode(check.spec), sort_keys=True)


def _begins(failed: Sequence[Check]) -> str:
    """What fails first in each network, and whether more fails behind it."""
    quantities: dict[str, set[str]] = {}
    for check in failed:
        quantities.setdefault(_network(check), set()).add(check.quantity)
    first = Counter(min(found, key=_place) for found in quantities.values())
    named = "; ".join(
        f"{words.QUANTITIES.get(quantity, quantity)} ({count:,})"
        for quantity, count in sorted(first.items(), key=lambda pair: (-pair[1], _place(pair[0])))
    )
    text = (
        f"First to fail, network by network ({words.plural(len(quantities), 'network')}): {named}"
    )
    behind = sum(
        min(found, key=_place) in _MADE_OF and any(q not in _MADE_OF for q in found)
        for found in quantities.values()
    )
    if behind:
        text += f"; in {behind:,} what is made of the weights fails behind them"
    return f"{text}."


def _rows(failed: Sequence[Check], checks: Iterable[Check]) -> tuple[Row, ...]:
    tested = Counter(check.quantity for check in checks)
    found: dict[str, list[Check]] = {}
    for check in failed:
        found.setdefault(check.quantity, []).append(check)
    return tuple(
        Row(quantity, len(members), tested[quantity], *_ends(members))
        for quantity, members in sorted(found.items(), key=lambda pair: _place(pair[0]))
    )


def _ends(checks: Sequence[Check]) -> tuple[str, str]:
    """Measured over predicted, the least and the largest; in words where it has none."""
    ratios = [words.log_ratio(check, check.measured) for check in checks]
    known = [ratio for ratio in ratios if math.isfinite(ratio)]
    zero = any(c.predicted == 0 and c.quantity != "depth" for c in checks)
    ends = [words.offset(end) for end in ((min(known), max(known)) if known else ())]
    if len(known) < len(ratios):
        ends.append("not zero where zero is predicted" if zero else "not a finite factor")
    return ends[0], ends[-1]


def _shared(failed: Sequence[Check], checks: Sequence[Check]) -> Iterable[str]:
    """Settings that all failures have, the sharpest first, each among the checks that have those before it.

    Only checks of the quantities that fail are counted, and a setting is told only where enough of them
    are without it.
    """
    quantities = {check.quantity for check in failed}
    pool = [check for check in checks if check.quantity in quantities]
    candidates = list(_candidates(failed, pool))
    begin = "All have"
    while candidates:
        inside = [sum(map(has, pool)) for _, has in candidates]
        best = min(range(len(candidates)), key=lambda n: inside[n])
        without = len(pool) - inside[best]
        named, has = candidates.pop(best)
        if without < WITHOUT:
            return
        yield (
            f"{begin} {named}: of the checks of these quantities {len(failed):,} of the "
            f"{inside[best]:,} with it fail, none of the {without:,} without."
        )
        begin = "Among those with it all have"
        pool = [check for check in pool if has(check)]


def _candidates(
    failed: Sequence[Check], pool: Sequence[Check]
) -> Iterable[tuple[str, Callable[[Check], bool]]]:
    networks = {_network(check) for check in failed}
    if len(networks) == 1:
        total = len({_network(check) for check in pool})
        one = next(iter(networks))
        yield f"one network, of {total:,}", lambda check: _network(check) == one
    for tag, named in _SETTINGS.items():
        values = {_value(check, tag) for check in failed}
        if len(values) == 1 and (value := values.pop()) in named:
            yield named[value], lambda check, tag=tag, value=value: _value(check, tag) == value
    methods = {check.method for check in failed}
    if len(methods) <= MOST_METHODS:
        yield " or ".join(sorted(methods)), lambda check: check.method in methods


def _value(check: Check, tag: str) -> str:
    return str(check.tags.get(tag, "")).lower()
