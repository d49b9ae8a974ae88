"""The page of a campaign: summaries, what failed, what came nearest to failing; of bounded size."""

from __future__ import annotations

import shlex
from typing import Final

from markupsafe import Markup

from hyperverify.report import digest, figures, page_template, resource, words
from hyperverify.report.campaign_view import CARDS, Row, Summary, where
from hyperverify.store import Check

TABLES: Final = (
    ("rules", "By rule", "Rule"),
    ("shapes", "By shape", "Shape"),
    ("backends", "By backend", "Device, dtype, backend"),
    ("methods", "By method", "Method"),
)


def render_campaign(summary: Summary, *, run_path: str) -> str:
    """The report of a campaign as one self-contained HTML page.

    Args:
        summary: of all its checks.
        run_path: what the replay commands name as the run.

    Returns:
        The page. The same campaign gives the same text, byte for byte.
    """
    head = summary.head
    band, left, right = figures.usual_axis(head.tolerance)
    ends = f'.u::before {{ content: "{left}"; }} .u::after {{ content: "{right}"; }}'
    style = f"{resource('report.css')}{resource('campaign.css')}{ends}\n"
    rows: dict[str, list[Row]] = {
        "rules": summary.by_rule,
        "shapes": summary.by_shape,
        "backends": summary.backends.sorted(),
        "methods": summary.methods.sorted(),
    }

    def replay(check: Check) -> str:
        return shlex.join(["hyperverify", "replay", run_path, check.id])

    return page_template("campaign.html.j2").render(
        run=head,
        campaign=head.campaign,
        summary=summary,
        tables=[(key, title, heading, rows[key]) for key, title, heading in TABLES],
        parts={rule: table.sorted() for rule, table in summary.parts.items()},
        headline=words.headline_of(head, summary.total, summary.split),
        guarantee=words.guarantee_of(head, summary.total, summary.simulated),
        pooled=words.pooled_of(head, summary.total),
        intervals=words.intervals(head),
        where=where,
        replay=replay,
        run_path=run_path,
        cards=CARDS,
        band=band,
        style=Markup(style),  # noqa: S704 - files of this package
        policy=f"default-src 'none'; style-src '{digest(style)}'; base-uri 'none'; form-action 'none'",
    )
