"""``hyperverify check``: its options, and where its results go."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.spelling import as_typed, read_number

_SHAPE = "the shape of one sample, such as 64 or 3,32,32"


def check_command(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="path/to/file.py:factory or package.module:factory; the factory takes no argument "
            "and returns a freshly initialized model.",
        ),
    ],
    input_shape: Annotated[
        str | None,
        typer.Option("--input", metavar="SHAPE", help="Of one sample, e.g. 64 or 3,32,32."),
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(
            "--inputs",
            metavar="TARGET",
            help="A function that makes the model's arguments instead, file.py:function.",
        ),
    ] = None,
    expect: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="The rule hyperfan-in or hyperfan-out; or what is kept: forward, backward, either.",
        ),
    ] = "either",
    tolerance: Annotated[
        str,
        typer.Option(
            metavar="X", help="The relative error of a second moment that must be caught."
        ),
    ] = "0.1",
    alpha: Annotated[
        str, typer.Option(metavar="P", help="Chance of REFUTED where all is right.")
    ] = "1e-6",
    seed: Annotated[str, typer.Option(metavar="N", help="Root of every random draw.")] = "0",
    max_seconds: Annotated[
        str, typer.Option(metavar="S", help="Then what is undecided is INCONCLUSIVE.")
    ] = "60",
    last_layer: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="paper: no ReLU behind it; relu: as if there were; skip: no claim."
        ),
    ] = "paper",
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write the result to FILE.")
    ] = None,
    html_file: Annotated[
        str | None, typer.Option("--html", metavar="FILE", help="Write a page about it to FILE.")
    ] = None,
    traceback: Annotated[
        bool,
        typer.Option("--traceback", metavar="", help="Show where a target that fails has failed."),
    ] = False,
) -> int:
    """Is this hypernetwork initialized right? Point it at any, unchanged."""
    from hyperverify import streams, terminal
    from hyperverify.check_process import TargetFailed, check_apart

    typed: dict[str, Any] = {
        "input": input_shape,
        "expect": expect,
        "tolerance": tolerance,
        "alpha": alpha,
        "seed": seed,
        "max_seconds": max_seconds,
        "last_layer": last_layer,
    }
    options: dict[str, Any] = {
        "expect": expect,
        "last_layer": last_layer,
        "tolerance": read_number("--tolerance", tolerance, float, "a number such as 0.1"),
        "alpha": read_number("--alpha", alpha, float, "a number such as 1e-6"),
        "seed": read_number("--seed", seed, int, "an integer of at least 0"),
        "max_seconds": _seconds(max_seconds),
    }
    if (input_shape is None) == (inputs is None):
        both = "--input and --inputs are both given" if inputs else "no input is given"
        allowed = "one of the two: --input SHAPE, or --inputs file.py:function"
        raise HyperverifyError(f"{both}; allowed: {allowed}")
    if input_shape is not None:
        options["input"] = _shape(input_shape)
    sources = [target, inputs]
    places = [
        _place("--json", json_file, sources),
        _place("--html", html_file, [*sources, json_file]),
    ]
    with terminal.progress("importing torch") as bar:

        def tell(seconds: float) -> None:
            left = f"{target}, {seconds:.0f} s of at most {options['max_seconds']:g} s"
            bar(0, 0, left if seconds else "importing torch", None)

        try:
            spelled = {"max_seconds": "--max-seconds", "last_layer": "--last-layer"}
            with as_typed(typed, spelled):
                result = check_apart(target, inputs, options, tell)
        except TargetFailed as error:
            if traceback and error.trace:
                streams.tell(error.trace.rstrip() + "\n")
            raise
    return _deliver(result, target, *places)


def _deliver(
    result: dict[str, Any], target: str, json_at: Path | None, html_at: Path | None
) -> int:
    """Show and write the result; its exit status."""
    from hyperverify import check_text, terminal
    from hyperverify.store import write_together

    result = {"target": target, **result}
    console = terminal.stdout()
    check_text.show(console, result)
    texts: dict[Path, str] = {}
    if json_at is not None:
        texts[json_at] = json.dumps(result, indent=1, allow_nan=False) + "\n"
    if html_at is not None:
        from hyperverify.report.check_page import render

        texts[html_at] = render(result)
    if texts:
        for path in write_together(texts):
            console.print(str(path), soft_wrap=True, markup=False)
    return {"VERIFIED": 0, "REFUTED": 1}.get(result["verdict"], 3)


def _seconds(text: str) -> float:
    seconds = read_number("--max-seconds", text, float, "a number of seconds above 0")
    if not 0 < seconds < math.inf:
        raise BadArgument("--max-seconds", text, "a number of seconds above 0")
    return seconds


def _shape(text: str) -> tuple[int, ...]:
    sizes: list[int] = []
    for word in text.replace("x", ",").strip("()[] ").split(","):
        size = word.strip()
        if not (size.isascii() and size.isdigit() and 0 < int(size) < 2**31):
            raise BadArgument("--input", text, _SHAPE)
        sizes.append(int(size))
    return tuple(sizes)


def _place(option: str, name: str | None, taken: Sequence[str | None]) -> Path | None:
    """Refuse, before anything is run, a file that could not be written at the end, or must not be.

    Args:
        option: that names it.
        name: of the file.
        taken: targets and files that it must not replace.
    """
    from hyperverify import destination

    if name is None:
        return None
    path = Path(name)
    if not name.strip() or (os.path.lexists(path) and not path.is_file()):
        raise BadArgument(option, name, "the name of a file")
    for other in filter(None, taken):
        home = other.rpartition(":")[0] if ".py:" in other else other
        if os.path.realpath(home) == os.path.realpath(path):
            raise BadArgument(option, name, f"a file of its own, other than {home}")
    try:
        destination.check(str(path.parent), force=True)
    except BadArgument as error:
        raise BadArgument(option, name, f"a file in {error.allowed}") from None
    return path
