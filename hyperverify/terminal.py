"""What a person sees in a terminal: tables on stdout, a progress bar on stderr.

The bar is shown on a terminal only; a log file or a pipe gets none of it. Text is plain ASCII but
for the lines of tables, which rich replaces where the terminal cannot draw them.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

if TYPE_CHECKING:
    from hyperverify.report.campaign_view import Summary
    from hyperverify.store import Check, Run, RunHead

    Show = Callable[[int, int, str, float | None], None]

STYLES: Final = {"VERIFIED": "green", "REFUTED": "bold red", "INCONCLUSIVE": "yellow"}
SENTENCES: Final = {
    "VERIFIED": "VERIFIED: every check agrees with its prediction.",
    "REFUTED": "REFUTED: at least one measurement contradicts its prediction.",
    "INCONCLUSIVE": "INCONCLUSIVE: nothing is refuted, but not everything could be decided.",
}
_PIPE_WIDTH: Final = 180  # rows of a table stay one line each where no terminal sets the width
_LISTED: Final = 10  # troubled checks that are named before the rest is only counted


def _harmless(text: str) -> str:
    """Without the control characters that a run.json from elsewhere might hold."""
    return "".join(c if c.isprintable() else "?" for c in text)


class _Output(Console):
    """A console whose reader may leave early: ``| head`` does not turn the exit status into 1."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def stdout() -> Console:
    """A console for results: as wide as the terminal, or wide enough for a table in a file."""
    console = _Output(highlight=False)
    if not console.is_terminal:
        console = _Output(highlight=False, width=_PIPE_WIDTH)
    return console


@contextmanager
def progress(label: str) -> Generator[Show]:
    """A progress bar on stderr while the block runs; silent where stderr is no terminal.

    Yields:
        ``show(done, total, label, seconds_left)``; a total of 0 means "not known", and seconds left
        of ``None`` likewise.
    """
    console = Console(stderr=True)
    # Python has no stderr at all where it was started with that closed.
    if sys.stderr is None or not sys.stderr.isatty() or console.is_dumb_terminal:  # pyright: ignore[reportUnnecessaryComparison]
        yield _say_nothing
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    one_line = Column(no_wrap=True, overflow="ellipsis")
    bar = Progress(
        SpinnerColumn("line"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}", style="cyan"),
        TextColumn("{task.description}", markup=False, table_column=one_line),
        console=console,
        transient=True,
    )
    with bar:
        task = bar.add_task(label, total=None, left="")

        def show(done: int, total: int, label: str, seconds_left: float | None) -> None:
            left = "" if seconds_left is None else f"{_duration(seconds_left)} left"
            bar.update(task, completed=done, total=total or None, description=label, left=left)

        yield show


def _say_nothing(done: int, total: int, label: str, seconds_left: float | None) -> None:
    del done, total, label, seconds_left


def _duration(seconds: float) -> str:
    """``7 s``, ``2 min 05 s``."""
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def summary(run: Run, written: Sequence[Path]) -> None:
    """By rule: how many checks came to which verdict; then the checks in trouble and the files."""
    console = stdout()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("rule", no_wrap=True)
    for heading in ("checks", *STYLES):
        table.add_column(heading, justify="right", no_wrap=True)
    tally: dict[str, Counter[str]] = {}
    for check in run.checks:
        for rule in check.rules:
            tally.setdefault(rule, Counter())[check.verdict] += 1
    for rule, verdicts in tally.items():
        cells = [_count(verdicts[name], style) for name, style in STYLES.items()]
        table.add_row(Text(_harmless(rule)), str(verdicts.total()), *cells)
    console.print(table)
    _troubles(console, run, written[0].parent)
    console.print(Text(SENTENCES[run.verdict], style=STYLES[run.verdict]))
    console.print(
        f"{len(run.checks)} checks in {_duration(run.seconds)}, tolerance {run.tolerance:g}, "
        f"chance of any false REFUTED at most {run.alpha:g}, seed {run.root_seed}.",
        soft_wrap=True,
        markup=False,
    )
    for path in written:
        console.print(str(path), soft_wrap=True, markup=False)


def campaign_summary(campaign: Summary, folder: Path, written: Sequence[Path]) -> None:
    """The same of a campaign, from what its page was made of."""
    console, head = stdout(), campaign.head
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("rule", no_wrap=True)
    for heading in ("checks", *STYLES):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in campaign.by_rule:
        cells = [_count(row.counts[name], style) for name, style in STYLES.items()]
        table.add_row(Text(_harmless(row.name)), str(row.total), *cells)
    console.print(table)
    for check in campaign.failures[:_LISTED]:
        line = Text(f"{check.verdict}  {_harmless(check.id)}", style=STYLES[check.verdict])
        console.print(line, soft_wrap=True)
        console.print(f"    {_figures(check)}", soft_wrap=True, markup=False)
    if campaign.failed > _LISTED:
        console.print(f"... and {campaign.failed - _LISTED} more; run.json has them all.")
    if campaign.failed:
        words = ["hyperverify", "replay", str(folder), campaign.failures[0].id]
        console.print(Text(f"again: {_harmless(shlex.join(words))}\n"), soft_wrap=True)
    console.print(Text(SENTENCES[head.verdict], style=STYLES[head.verdict]))
    units = head.campaign.units_done if head.campaign else 0
    console.print(
        f"{campaign.total} checks of {units} units in {_duration(head.seconds)}, tolerance "
        f"{head.tolerance:g}, chance of any false REFUTED in the whole campaign at most "
        f"{head.alpha:g}.",
        soft_wrap=True,
        markup=False,
    )
    for path in written:
        console.print(str(path), soft_wrap=True, markup=False)


def _count(number: int, style: str) -> Text:
    return Text(str(number), style=style) if number else Text("-", style="dim")


def _troubles(console: Console, run: Run, folder: Path) -> None:
    """The checks that are not VERIFIED, refuted ones first, and how to see one again."""
    from hyperverify.report.common_cause import common_cause, upstream_first

    troubled = [check for check in run.checks if check.verdict != "VERIFIED"]
    troubled = [troubled[number] for number in upstream_first(troubled)]
    troubled.sort(key=lambda check: check.verdict != "REFUTED")
    if (cause := common_cause(run)) is not None:
        for sentence in cause.sentences:
            console.print(Text(f"- {_harmless(sentence).replace('²', '^2')}"), soft_wrap=True)
    for check in troubled[:_LISTED]:
        line = Text(f"{check.verdict}  {_harmless(check.id)}", style=STYLES[check.verdict])
        console.print(line, soft_wrap=True)
        console.print(f"    {_figures(check)}", soft_wrap=True, markup=False)
    if len(troubled) > _LISTED:
        console.print(f"... and {len(troubled) - _LISTED} more; the report has them all.")
    if troubled:
        words = ["hyperverify", "replay", str(folder), troubled[0].id]
        if run.initializer is not None:
            words += ["--initializer", run.initializer]
        console.print(Text(f"again: {_harmless(shlex.join(words))}\n"), soft_wrap=True)


def _figures(check: Check) -> str:
    low, high = check.interval
    reason = f"; {check.reason}" if check.reason else ""
    return _harmless(
        f"{check.quantity}: predicted {check.predicted:.6g}, measured {check.measured:.6g}, "
        f"interval [{low:.6g}, {high:.6g}], df {check.df}{reason}"
    )


def rules_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Every rule on a line: id, what it gives, the formula, its arguments, its source."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("id", no_wrap=True, style="bold")
    table.add_column("gives", no_wrap=True)
    table.add_column("formula", overflow="fold")
    table.add_column("source", overflow="fold")
    for row in rows:
        cells = (row["id"], row["quantity"], row["text"], row["citation"])
        table.add_row(*(Text(str(cell)) for cell in cells))
    console = stdout()
    console.print(table)
    console.print(
        "s is 2 where the layer's output goes through a ReLU, else 1. "
        "One rule in full: hyperverify formulas ID [--di N --dj N --dk N ...]",
        soft_wrap=True,
        markup=False,
    )


def rule_card(
    rule: Mapping[str, Any], spelled: Mapping[str, str], given: Mapping[str, object]
) -> None:
    """One rule in full.

    Args:
        rule: what ``formulas.describe`` returned.
        spelled: the option that stands for an argument.
        given: the arguments as they were typed.
    """
    console = stdout()

    def line(text: str, style: str = "") -> None:
        console.print(Text(text, style=style), soft_wrap=True)

    line(f"{rule['id']}: {rule['title']}", "bold")
    line(f"  gives        {rule['quantity']} = {rule['text']}")
    line(f"  LaTeX        {rule['latex']}")
    line(f"  source       {rule['citation']}")
    for number, assumption in enumerate(rule["assumptions"]):
        line(f"  {'assumptions' if number == 0 else '':<12} {assumption}")
    for number, argument in enumerate(rule["arguments"]):
        option = spelled.get(argument["name"], argument["name"])
        line(f"  {'arguments' if number == 0 else '':<12} {_argument(argument, option, given)}")
    if rule["value"] is not None:
        number = rule["number"]
        exact = number is None or str(number) == rule["value"] or str(int(number)) == rule["value"]
        line(f"  value        {rule['value']}" + ("" if exact else f" = {number!r}"), "bold green")
        return
    if rule["partial"] is not None:
        line(f"  so far       {rule['partial']}")
    line("  value        needs " + ", ".join(spelled.get(name, name) for name in rule["missing"]))


def _argument(argument: Mapping[str, Any], option: str, given: Mapping[str, object]) -> str:
    name = argument["name"]
    text = f"{option:<12} {name}: {argument['description']} ({argument['allowed']})"
    if name in given:
        return f"{text}; given {given[name]}"
    return text if argument["default"] is None else f"{text}; default {argument['default']}"


def comparison(
    check_id: str,
    then: Mapping[str, Any],
    now: Mapping[str, Any],
    changed: Sequence[str],
    run: RunHead,
) -> None:
    """A replayed check beside the stored one.

    Args:
        check_id: the check.
        then: the stored check, as JSON would hold it.
        now: the same, recomputed.
        changed: the keys that differ.
        run: the stored run; where it ran is named if something differs.
    """
    console = stdout()
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, title=Text(_harmless(check_id)), title_justify="left"
    )
    for heading in ("", "stored", "replayed", ""):
        table.add_column(heading, overflow="fold")
    shown = ["predicted", "measured", "interval", "df", "verdict"]
    for key in dict.fromkeys([*shown, *changed]):
        same = Text("differs", style="bold red") if key in changed else Text("same", style="green")
        table.add_row(key, _cell(then[key]), _cell(now[key]), same)
    console.print(table)
    if not changed:
        console.print(Text("The same, digit for digit.", style="green"))
        return
    console.print(Text(f"Different: {', '.join(changed)}.", style="bold red"), soft_wrap=True)
    there = run.environment
    console.print(
        Text(
            _harmless(
                f"The stored run was made with hyperverify {run.hyperverify_version}, "
                f"torch {there.torch}, numpy {there.numpy}, Python {there.python} on "
                f"{there.device_name}; others may draw otherwise."
            )
        ),
        soft_wrap=True,
    )


def _cell(value: object) -> Text:
    """All digits of a number; anything long is cut."""
    text = str(value).strip("[]")
    return Text(_harmless(text if len(text) <= 120 else text[:117] + "..."))
