"""A run in short, for places that take no HTML: Markdown for a job summary, and a badge."""

from __future__ import annotations

import re
from typing import Final

from markupsafe import escape

from hyperverify.report import words
from hyperverify.report.common_cause import common_cause, upstream_first
from hyperverify.report.compare import Comparison
from hyperverify.report.groups import SEVERITY, place, tally, worst
from hyperverify.store import Check, Run, printable

__all__ = ["badge", "markdown"]

LISTED: Final = 25
"""Failures, or changes of one kind, that are named; of more, the number is told."""

_SYMBOLS: Final = {"VERIFIED": "✅", "REFUTED": "❌", "INCONCLUSIVE": "⚠️"}
# What Markdown, or the HTML that it may hold, would take for markup.
_MARKUP: Final = re.compile(r"([\\`*_{}\[\]()#!|<>&~:@])")


def markdown(run: Run, comparison: Comparison | None = None) -> str:
    """The run as GitHub-flavoured Markdown: verdict, guarantee, failures, counts by rule.

    Args:
        run: the record.
        comparison: with an older run, if one was asked for.

    Returns:
        The text, every string of the record escaped.
    """
    lines = [
        f"## {_SYMBOLS[run.verdict]} hyperverify: {run.verdict}",
        "",
        plain(words.headline(run)),
        "",
        plain(words.guarantee(run)),
        "",
    ]
    failures = [check for check in run.checks if check.verdict != "VERIFIED"]
    failures = [failures[number] for number in upstream_first(failures)]
    failures.sort(key=lambda check: -SEVERITY[check.verdict])
    if (cause := common_cause(run)) is not None:
        told = [plain(sentence) for sentence in cause.sentences]
        lines += ["### What they have in common", "", *(f"- {text}" for text in told), ""]
    if failures:
        lines += ["### What failed", "", *_table("verdict", "rule", "check", "measured", "why")]
        lines += [
            _row(
                f"{_SYMBOLS[check.verdict]} {check.verdict}",
                plain(check.rules[0]),
                plain(check.id),
                plain(words.deviation(check)),
                plain(check.reason or ""),
            )
            for check in failures[:LISTED]
        ]
        lines += [*_more(len(failures)), ""]
    if comparison is not None:
        lines += _compared(comparison)
    lines += ["### By rule", "", *_table("rule", "checks", "verdict")]
    by_rule: dict[str, list[Check]] = {}
    for check in run.checks:
        for rule in dict.fromkeys(check.rules):
            by_rule.setdefault(rule, []).append(check)
    for rule in sorted(by_rule, key=lambda name: place(tuple(words.RULE_NAMES), name)):
        checks = by_rule[rule]
        symbol = _SYMBOLS[worst(check.verdict for check in checks)]
        lines.append(_row(plain(rule), f"{len(checks):,}", f"{symbol} {tally(checks)}"))
    where = f"{f'initializer {run.initializer}, ' if run.initializer else ''}suite {run.suite}, root seed {run.root_seed}, {run.device}, {run.dtype}, {run.backend}"
    lines += ["", plain(f"hyperverify {run.hyperverify_version}; {where}; {run.seconds:.1f} s")]
    return "\n".join(lines) + "\n"


def _compared(comparison: Comparison) -> list[str]:
    lines = ["### Against the older run", "", plain(comparison.sentence), ""]
    for title, changes in (
        ("No longer verified", comparison.broken),
        ("Newly verified", comparison.fixed),
        ("Failing in another way", comparison.other),
        ("With another prediction", comparison.moved),
    ):
        if changes:
            lines += [f"**{title}**", "", *_table("check", "before", "now")]
            lines += [
                _row(plain(change.id), *(plain(_state(c)) for c in (change.old, change.new)))
                for change in changes[:LISTED]
            ]
            lines += [*_more(len(changes)), ""]
    return lines


def _state(check: Check | None) -> str:
    return "" if check is None else f"{check.verdict}, {words.deviation(check)}"


def plain(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    one = " ".join(printable(text).split())
    text = _MARKUP.sub(r"\\\1", one)
    return text.replace(r"\<", "&lt;").replace(r"\>", "&gt;").replace(r"\&", "&amp;")


def _table(*heads: str) -> list[str]:
    return [_row(*heads), _row(*["---"] * len(heads))]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _more(total: int) -> list[str]:
    return ["", f"and {total - LISTED:,} more"] if total > LISTED else []


# Widths of a sans-serif letter at 11 px, good enough to leave room: the text is fitted to its box.
_LETTER: Final = 6.6
_COLOURS: Final = {"VERIFIED": "#00629b", "REFUTED": "#ad3500", "INCONCLUSIVE": "#6d5200"}


def badge(run: Run) -> str:
    """A small SVG with the verdict and the number of checks, for a README.

    Its colours are told apart with every common colour blindness, and the words say it all.
    """
    label = "hyperverify"
    counts = {
        "VERIFIED": f"{run.counts.VERIFIED:,} verified",
        "REFUTED": f"{run.counts.REFUTED:,} of {len(run.checks):,} refuted",
        "INCONCLUSIVE": f"{run.counts.INCONCLUSIVE:,} of {len(run.checks):,} inconclusive",
    }
    value = counts[run.verdict]
    left, right = (round(len(text) * _LETTER) + 14 for text in (label, value))
    title = escape(f"{label}: {value}, suite {printable(run.suite)}, {run.started[:10]}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" '
        f'aria-label="{title}"><title>{title}</title>'
        f'<clipPath id="r"><rect width="{left + right}" height="20" rx="3"/></clipPath>'
        f'<g clip-path="url(#r)"><rect width="{left}" height="20" fill="#45484d"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="{_COLOURS[run.verdict]}"/></g>'
        '<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" '
        f'font-size="11"><text x="{left / 2}" y="14" textLength="{left - 12}">{label}</text>'
        f'<text x="{left + right / 2}" y="14" textLength="{right - 12}">{value}</text></g></svg>\n'
    )
