"""The page of a campaign: from its ``run.json``, or from its ledger where it is not finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from hyperverify.campaigns.ledger import read_only
from hyperverify.campaigns.merge import SoFar
from hyperverify.destination import REPORT_FILE, RUN_FILE
from hyperverify.errors import HyperverifyError
from hyperverify.report.campaign_page import render_campaign
from hyperverify.report.campaign_view import Summary
from hyperverify.store import Check, write_atomically
from hyperverify.streaming import Stored


def write_page_so_far(folder: Path, html: Path | None) -> list[Path]:
    """Make the page of a campaign that is not finished, from its ledger.

    Raises:
        HyperverifyError: nothing of it is done, the ledger is damaged, or the page cannot be written.
    """
    with read_only(folder) as ledger:
        if not ledger.tally().units:
            raise HyperverifyError(f"{ledger.path} holds no finished unit; allowed: one that does")
        return write_page(SoFar(ledger), folder, html)[1]


def write_page(
    stored: Stored | SoFar,
    source: Path,
    html: Path | None = None,
    tell: Callable[[int, int], None] | None = None,
) -> tuple[Summary, list[Path]]:
    """Make a campaign's page from its ``run.json``, read check by check.

    Args:
        stored: the campaign.
        source: its run.json, or the folder of it; the page's replay commands name it so.
        html: the file that the page goes to; default: ``report.html`` beside the record.
        tell: called now and then with how many checks are read, and how many there are.

    Returns:
        The summary that the page shows, and the paths that were written.

    Raises:
        HyperverifyError: the record is altered, or the page cannot be written.
    """
    total = sum(stored.head.counts.model_dump().values())

    def counted() -> Iterator[Check]:
        for number, check in enumerate(stored.checks()):
            if tell is not None and number % 500 == 0:
                tell(number, total)
            yield check

    summary = Summary(stored.head, counted())
    named = source.parent if source.name == RUN_FILE and not source.is_dir() else source
    page = render_campaign(summary, run_path=str(named))
    return summary, [write_atomically(html or stored.path.parent / REPORT_FILE, page)]
