"""The command line: thin, and quick to answer.

Nothing heavy (torch, scipy, sympy, matplotlib, pydantic) is imported until a command needs it. Every
mistake of the caller, from an unknown option to an altered file, is one line on stderr and exit
status 2; status 1 is kept for "REFUTED" (or, of ``replay``, "the numbers differ").
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from hyperverify import __version__, streams
from hyperverify.campaign_command import campaign_command
from hyperverify.check_command import check_command
from hyperverify.claims_command import claims_command
from hyperverify.errors import HyperverifyError, Interrupted
from hyperverify.experiment_command import experiment_command
from hyperverify.report_command import report_command
from hyperverify.spelling import Command, Group, any_spelling, as_typed, read_number, usage_line

if TYPE_CHECKING:
    from hyperverify.runner import RunSettings
    from hyperverify.store import Run, RunHead

USAGE: Final = 2
INTERRUPTED: Final = 130
DEFECT: Final = 70  # EX_SOFTWARE: never to be mistaken for a verdict


def _example(call: str) -> str:
    return f"Example: hyperverify {call}"


app = typer.Typer(
    name="hyperverify",
    cls=Group,
    help="Does a hypernetwork's initialization give its main network the variance it promises? "
    "Three witnesses (the formula, an independent calculus, the measurement) answer with VERIFIED, "
    "REFUTED or INCONCLUSIVE, at guaranteed error rates.",
    epilog="Begin with: hyperverify run --suite quick. Exit status: 0 all VERIFIED, 1 something REFUTED, "
    "3 nothing refuted but something INCONCLUSIVE, 2 a mistake in the call or its input.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": any_spelling,
    },
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hyperverify {__version__}")
        raise typer.Exit


@app.callback()
def hyperverify(
    version: Annotated[
        bool,
        typer.Option(
            "--version", metavar="", callback=_show_version, is_eager=True, help="Show the version."
        ),
    ] = False,
) -> None:
    """Options of hyperverify itself."""


# Options are read as text and judged where their meaning is known (RunSettings, the rules), so that
# a mistake gets the same sentence from Python and from the command line.


@app.command("run", cls=Command, epilog=_example("run --suite quick --tolerance 0.05"))
def run_command(
    suite: Annotated[
        str, typer.Option(metavar="NAME", help="quick (seconds), standard, paper or all (minutes).")
    ] = "standard",
    rule: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID",
            help="Only checks of this rule (hyperverify formulas lists them); may be given again.",
        ),
    ] = None,
    tolerance: Annotated[
        str,
        typer.Option(
            metavar="X", help="The relative error of a second moment that must be caught."
        ),
    ] = "0.02",
    alpha: Annotated[
        str, typer.Option(metavar="P", help="Chance of any false REFUTED in the whole run.")
    ] = "1e-6",
    seed: Annotated[str, typer.Option(metavar="N", help="Root of every random draw.")] = "0",
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda or auto.")] = "auto",
    dtype: Annotated[
        str, typer.Option(metavar="NAME", help="float64, float32 or bfloat16.")
    ] = "float32",
    backend: Annotated[str, typer.Option(metavar="NAME", help="eager or compile.")] = "eager",
    initializer: Annotated[
        str | None,
        typer.Option(
            metavar="TARGET",
            help="Check this initializer, module:name or file.py:name; default: hyperverify's own.",
        ),
    ] = None,
    workers: Annotated[
        str | None,
        typer.Option(metavar="N", help="Processes; the numbers do not depend on it."),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Folder of the results; default: a new one in reports/."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", metavar="", help="Replace the run that DIR already holds.")
    ] = False,
) -> int:
    """Measure, decide, and write run.json, report.html and junit.xml."""
    from hyperverify import destination, terminal

    typed = {
        "suite": suite,
        "rule": rule,
        "tolerance": tolerance,
        "alpha": alpha,
        "seed": seed,
        "device": device,
        "dtype": dtype,
        "backend": backend,
        "initializer": initializer,
        "workers": workers,
    }
    target = destination.check(out, force=force)
    with terminal.progress("starting") as show:
        with as_typed(typed):
            settings = _settings(typed)
        run = _run(settings, show)
        show(1, 1, "writing the report", 0.0)
        written = destination.write(run, target, force=force)
    terminal.summary(run, written)
    from hyperverify.store import exit_status

    return exit_status(run)


def _settings(typed: dict[str, Any]) -> RunSettings:
    from hyperverify.runner import RunSettings

    workers = typed["workers"]
    return RunSettings(
        suite=typed["suite"],
        rules=tuple(typed["rule"] or ()),
        tolerance=read_number("tolerance", typed["tolerance"], float, "a number such as 0.02"),
        alpha=read_number("alpha", typed["alpha"], float, "a number such as 1e-6"),
        seed=read_number("seed", typed["seed"], int, "an integer of at least 0"),
        device=typed["device"],
        dtype=typed["dtype"],
        backend=typed["backend"],
        initializer=typed["initializer"],
        workers=None
        if workers is None
        else read_number("workers", workers, int, "an integer of at least 1"),
    )


def _run(settings: RunSettings, show: Any) -> Run:
    from hyperverify.runner import Progress, run

    def tell(step: Progress) -> None:
        show(step.done, step.total, step.label, step.seconds_left)

    return run(settings, tell)


for _command, _call in (
    (check_command, "check my_model.py:make --input 64 --expect hyperfan-in"),
    (campaign_command, "campaign plan.toml --dry-run"),
    (experiment_command, "experiment mnist --preset smoke"),
    (claims_command, "claims reports/mnist-smoke-seed0"),
):
    app.command(_call.split()[0], cls=Command, epilog=_example(_call))(_command)


@app.command(cls=Command, epilog=_example("formulas T1.in.H --dj 500 --dk 50 --var-e 1 --relu"))
def formulas(
    rule_id: Annotated[
        str | None, typer.Argument(metavar="ID", show_default=False, help="A rule, e.g. T1.in.H.")
    ] = None,
    di: Annotated[
        str | None, typer.Option("--di", metavar="N", help="Outputs d_i (of a group).")
    ] = None,
    dj: Annotated[
        str | None, typer.Option("--dj", metavar="N", help="Inputs d_j (of a group).")
    ] = None,
    dk: Annotated[
        str | None, typer.Option("--dk", metavar="N", help="Features that make W.")
    ] = None,
    dl: Annotated[
        str | None, typer.Option("--dl", metavar="N", help="Features that make b.")
    ] = None,
    nw: Annotated[str | None, typer.Option("--nw", metavar="N", help="Entries n_W of W.")] = None,
    r: Annotated[str | None, typer.Option("--r", metavar="N", help="Receptive field size.")] = None,
    var_e: Annotated[
        str | None, typer.Option("--var-e", metavar="X", help="Second moment of the embedding.")
    ] = None,
    relu: Annotated[
        bool | None, typer.Option("--relu/--no-relu", metavar="", help="A ReLU behind the layer.")
    ] = None,
    bias: Annotated[
        bool | None, typer.Option("--bias/--no-bias", metavar="", help="Generated biases.")
    ] = None,
    k: Annotated[
        str | None, typer.Option("--k", metavar="N", help="Channels K of a chunk.")
    ] = None,
    sigma2: Annotated[
        str | None, typer.Option("--sigma2", metavar="X", help="The chosen variance.")
    ] = None,
    variant: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which of the rules that the name covers.")
    ] = None,
    weight_gradients: Annotated[
        str | None,
        typer.Option(metavar="X,X...", help="Second moments of dL/dW, one a layer."),
    ] = None,
    features: Annotated[
        str | None, typer.Option(metavar="X,X...", help="Second moments of h, one a layer.")
    ] = None,
) -> None:
    """All rules as a table, or one with its LaTeX, source, assumptions and exact value."""
    from hyperverify import terminal
    from hyperverify.formulas import describe, rule, rules_table

    options: dict[str, tuple[str, object]] = {
        "d_i": ("--di", di),
        "d_j": ("--dj", dj),
        "d_k": ("--dk", dk),
        "d_l": ("--dl", dl),
        "n_W": ("--nw", nw),
        "r": ("--r", r),
        "var_e": ("--var-e", var_e),
        "relu": ("--relu", relu),
        "bias": ("--bias", bias),
        "K": ("--k", k),
        "sigma2": ("--sigma2", sigma2),
        "variant": ("--variant", variant),
        "weight_gradient_second_moments": ("--weight-gradients", weight_gradients),
        "feature_second_moments": ("--features", features),
    }
    given = {name: value for name, (_, value) in options.items() if value is not None}
    spelled = {name: option for name, (option, _) in options.items()}
    if rule_id is None:
        if given:
            option = spelled[next(iter(given))]
            raise HyperverifyError(
                f"{option} is given without a rule; allowed: {option} after a rule's ID"
            )
        terminal.rules_table(rules_table())
        return
    known = [argument.name for argument in rule(rule_id).arguments]
    for name in given:
        if name not in known:
            allowed = ", ".join(spelled[argument] for argument in known)
            raise HyperverifyError(f"{rule_id} has no {spelled[name]}; allowed: {allowed}")
    with as_typed(given, spelled):
        described = describe(rule_id, given)
    terminal.rule_card(described, spelled, given)


@app.command(cls=Command, epilog=_example("replay reports/run-2026-01-31-1 CHECK_ID"))
def replay(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run.json, or the folder of one.")],
    check_id: Annotated[
        str,
        typer.Argument(
            metavar="CHECK_ID", help="The id of one of its checks; the report has them."
        ),
    ],
    initializer: Annotated[
        str | None, typer.Option(metavar="TARGET", help="The one that the run checked, if any.")
    ] = None,
) -> int:
    """Run one check of a stored run again: are the numbers the same, digit for digit?"""
    from hyperverify import terminal
    from hyperverify.store import Run, encode, find_check, read_run
    from hyperverify.streaming import campaign_at

    stored_run: RunHead
    campaign = campaign_at(run)
    if campaign is None:
        stored_run = read_run(run)
        stored = find_check(stored_run, check_id)
    else:  # its checks may be too many to hold
        stored_run, stored = campaign.head, campaign.check(check_id)
    with terminal.progress("replaying") as show:
        from hyperverify import runner

        show(0, 0, f"replaying {check_id}", None)
        with as_typed({"initializer": initializer}):
            if isinstance(stored_run, Run):
                again = runner.replay(stored_run, check_id, initializer)
            else:
                again = runner.replay_check(stored_run, stored, initializer)
    # Seconds are no numbers of the check. Encoded, so that NaN equals NaN.
    then, now = (encode(check.model_dump(exclude={"seconds"})) for check in (stored, again))
    changed = [key for key in then if then[key] != now[key]]
    terminal.comparison(check_id, then, now, changed, stored_run)
    return 1 if changed else 0


app.command(
    "report",
    cls=Command,
    epilog=_example("report reports/run-2026-01-31-1 --against reports/run-2026-01-30-1"),
)(report_command)


@app.command(cls=Command, epilog=_example("schema"))
def schema() -> None:
    """Print the JSON Schema of run.json."""
    import json

    from hyperverify.store import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; default ``sys.argv[1:]``.

    Returns:
        The exit status: 0, 1, 2, 3, 70 (a defect of hyperverify itself) or 130 (interrupted).
    """
    streams.prepare()
    try:
        status = _answer(arguments)
        streams.flush()
    except OSError as error:
        streams.silence(sys.stdout)
        full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
        what = "the output cannot be written" if full else "the system refuses"
        return _complain(f"{what}: {error.strerror or error}", USAGE)
    return status


def _answer(arguments: Sequence[str] | None) -> int:
    """The exit status of a call. What the system refuses is raised as ``OSError``."""
    try:
        status = typer.main.get_command(app).main(
            args=None if arguments is None else list(arguments),
            prog_name="hyperverify",
            standalone_mode=False,
        )
    except Interrupted as error:
        return _complain(str(error), INTERRUPTED)
    except HyperverifyError as error:
        return _complain(str(error), USAGE)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted", INTERRUPTED)
    except SystemExit:  # how typer and rich answer a reader who has left, which is no error
        streams.silence(sys.stdout)
        return 0
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - the last line of defence
        if hasattr(error, "format_message"):  # typer's own complaint about the call
            return _complain(usage_line(error), USAGE)
        import traceback

        streams.tell(traceback.format_exc())
        return _complain(f"this is a defect of hyperverify {__version__}, not a verdict", DEFECT)
    if status == INTERRUPTED:  # how typer reports Ctrl-C
        return _complain("interrupted", INTERRUPTED)
    return status if isinstance(status, int) else 0


def _complain(message: str, status: int) -> int:
    # One harmless line whatever the message holds: a path may contain a line break or an escape.
    line = "".join(c if c.isprintable() else "?" for c in " ".join(message.split()))
    streams.tell(f"hyperverify: {line}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
