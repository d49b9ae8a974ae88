"""What a terminal shows of a check: every cell, at any width, in colour or none, in ASCII if need be."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from check_results_made import Made, Matrix, result_of
from rich.console import Console

from hyperverify import check_process, check_text, check_words, cli
from hyperverify.check_results import CheckResult
from hyperverify.confidence import Verdict
from hyperverify.diagnosis import diagnose

SETTINGS = {"tolerance": 0.1, "alpha": 1e-6, "beta": 1e-3, "seed": 3, "input": [24]}
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def checked(
    slip: float = 1 / 3, *, biased: bool = False, expect: str = "hyperfan-in"
) -> CheckResult:
    """24-40-16 of hyperfan-in, times ``slip``."""
    made: list[Made] = []
    for t, (d_j, d_i, s) in enumerate(((24, 40, 2), (40, 16, 1))):
        share = 2 if biased else 1
        H = Matrix(slip * s / (share * d_j * 12), 12, d_i * d_j, name=f"heads.{t}.weight")
        G = (Matrix(s / (2 * 12), 12, d_i, name=f"biases.{t}.weight"),) if biased else ()
        made.append(Made(d_i, d_j, (H,), G, relu=s == 2))
    found = replace(result_of(*made, expect=expect), settings=SETTINGS)
    return diagnose(found)


def shown(result: CheckResult | Mapping[str, Any], **options: Any) -> str:
    given = result.to_dict() if isinstance(result, CheckResult) else result
    stream = io.StringIO()
    check_text.show(Console(file=stream, **{"width": 110, "highlight": False} | options), given)
    return stream.getvalue()


def test_every_layer_and_claim_has_its_row() -> None:
    text = shown(checked(biased=True), width=160)
    rows = [line for line in text.splitlines() if "E[" in line and "×" in line]
    assert len(rows) == 4
    assert re.search(
        r"1 +linear 24 → 40, ReLU, generated bias +heads\.0\.weight \(d_k 12\), e ", text
    )
    assert (
        rows[0].split()[-7:] == ["E[W²]", "0.333", "×", "0.267", "–", "0.400", "✗", "REFUTED"][-7:]
    )
    assert "E[b²]" in rows[1]
    assert "✓ VERIFIED" in rows[1]


def test_reason_fix_and_what_to_do_next() -> None:
    text = " ".join(shown(checked()).split())
    assert "layers 1 and 2: missing sqrt 3: a uniform draw of variance v" in text
    assert "→ multiply heads.0.weight by 1.732" in text
    assert "A right hypernet comes to this with a chance of at most 1e-06." in text
    assert "hyperverify.calibrate_(model, ...)" in text
    assert text.endswith("64 models built in 1.0 s, seed 3.")


def test_what_layers_have_in_common_is_told_once() -> None:
    layers = [
        {"diagnosis": ["shared", "its evidence", "first's own"], "fix": {"text": "halve A"}},
        {"diagnosis": ["shared", "its evidence"], "fix": {"text": "halve B"}},
        {"diagnosis": [], "fix": None},
        {"diagnosis": ["shared", "its evidence"], "fix": {"text": "halve B"}},
        {"diagnosis": [], "fix": {"text": "double C"}},
    ]
    assert check_words.notes(layers) == [
        ((1, 2, 4), ["shared", "its evidence", "→ halve B"]),
        ((1,), ["first's own", "→ halve A"]),
        ((5,), ["→ double C"]),
    ]
    assert check_words.notes([]) == []
    told = [check_words.of_layers(numbers) for numbers in ((1, 2, 4), (3, 4), (5,))]
    assert told == ["layers 1, 2 and 4", "layers 3 and 4", "layer 5"]


def test_a_verified_one_says_at_what_error() -> None:
    text = " ".join(shown(checked(1.0)).split())
    assert (
        "✓ VERIFIED: 2 generated layers with the scale that hyperfan-in asks for, within 10%."
        in text
    )
    assert "with a chance of at most 0.001 a claim" in text


def test_flags_stand_before_the_verdict_and_are_no_pass() -> None:
    odd = replace(
        checked(1.0),
        verdict=Verdict.INCONCLUSIVE,
        flags=("uncovered: a gate",),
        reason="uncovered: a gate",
    )
    text = shown(odd)
    assert text.index("! uncovered: a gate") < text.index("? INCONCLUSIVE: uncovered: a gate.")
    assert "what is marked ! above cannot be judged, and so is no pass" in text
    late = shown(replace(odd, flags=(), reason=None))
    assert "? INCONCLUSIVE: undecided." in late
    assert "give it more time (--max-seconds)" in late


def test_without_a_layer_there_is_no_table() -> None:
    bare = replace(
        checked(),
        layers=(),
        flags=("data-dependent weights",),
        verdict=Verdict.INCONCLUSIVE,
        replicates=1,
    )
    text = shown(bare)
    assert text.startswith(" ! data-dependent weights\n")
    assert "measured / asked" not in text
    assert "1 model built" in text


def test_a_layer_of_which_nothing_is_asked() -> None:
    result = checked(1.0)
    last = replace(result.layers[1], quantities=(), verdict=None)
    assert "not asked" in shown(replace(result, layers=(result.layers[0], last)))


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("slip", [1.0, 1 / 3, 1e-9, 1e9])
def test_nothing_is_cut_at_any_width(width: int, slip: float) -> None:
    result = checked(slip, biased=True)
    text = shown(result, width=width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    claims = [q for layer in result.layers for q in layer.quantities]
    assert len(
        [line for line in lines if re.search(r"[✓✗?] (VERIFIED|REFUTED)$", line.rstrip())]
    ) == len(claims)
    for claim in claims:
        assert f"{check_words.significant(claim.ratio)} ×" in text
    assert "…" not in text
    told = re.sub(r"\s+", "", text)
    for name in ("heads.0.weight", "heads.1.weight"):
        assert name in told


def test_on_a_narrow_terminal_the_layers_stand_above_the_table() -> None:
    text = shown(checked(biased=True), width=80)
    assert text.startswith(
        " layer 1: linear 24 → 40, ReLU, generated bias, made by heads.0.weight (d_k 12),"
    )
    assert "what it is" not in text
    assert "made by    " in shown(checked(biased=True), width=110)
    long = replace(checked().layers[0].generated_by[0], name="a_module." * 20 + "weight")
    given = checked()
    layer = replace(given.layers[0], generated_by=(long, given.layers[0].generated_by[1]))
    assert "what it is" not in shown(replace(given, layers=(layer, given.layers[1])))


def test_colour_where_the_terminal_has_it() -> None:
    plain = shown(checked())
    assert not ESCAPE.search(plain)
    colourful = shown(checked(), force_terminal=True, color_system="standard", legacy_windows=False)
    assert "\x1b[1;31m" in colourful
    assert ESCAPE.sub("", colourful) == plain
    assert not ESCAPE.search(check_text.text(checked().to_dict()))


def test_ascii_where_the_encoding_has_no_more() -> None:
    class Ascii(io.StringIO):
        encoding = "ascii"

    stream = Ascii()
    check_text.show(Console(file=stream, width=110), checked().to_dict())
    assert stream.getvalue().isascii()
    for spelled in ("E[W^2]", "linear 24 -> 40", "x REFUTED", "0.267 - 0.400"):
        assert spelled in stream.getvalue()


@pytest.mark.parametrize(
    "hostile", ["\x1b]0;owned\x07", "[bold red]x[/]", "a\nb\r\u202e\u2028", "[/not a tag"]
)
def test_names_from_foreign_code_are_text_and_nothing_else(hostile: str) -> None:
    made = Made(40, 24, (Matrix(1e-4, 12, 960, name=hostile),), relu=True)
    result = diagnose(replace(result_of(made), settings=SETTINGS))
    text = shown(replace(result, flags=(hostile,), reason=hostile), force_terminal=True, width=200)
    assert "".join(c if c.isprintable() else "?" for c in hostile) in ESCAPE.sub("", text)
    for sign in ("\x1b]", "\x07", "\r", "\u202e", "\u2028"):
        assert sign not in text


def test_numbers_that_are_none_are_words() -> None:
    result = checked()
    claim = replace(
        result.layers[0].quantities[0], ratio=float("nan"), interval=(float("-inf"), float("inf"))
    )
    layer = replace(result.layers[0], quantities=(claim,))
    text = shown(replace(result, layers=(layer,)))
    assert "? ×" in text
    assert "-inf – inf" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.00"), (1.0, "1.00"), (0.84, "0.840"), (123.4, "123"), (9999.0, "1.00e+04"),
     (1e4, "1.00e+04"), (0.001, "0.00100"), (9.99e-4, "9.99e-04"), (float("inf"), "inf"),
     (float("-inf"), "-inf"), (float("nan"), "?")],
)  # fmt: skip
def test_three_digits(value: float, text: str) -> None:
    assert check_words.significant(value) == text


@pytest.mark.skipif(os.name != "posix", reason="a pseudo-terminal")
@pytest.mark.parametrize("columns", [80, 200])
def test_on_a_terminal_it_is_coloured_and_as_wide(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    import fcntl
    import pty
    import struct
    import termios
    import threading

    def apart(*_: Any) -> dict[str, Any]:
        return checked().to_dict()

    monkeypatch.setattr(check_process, "check_apart", apart)
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    pieces: list[bytes] = []

    def read() -> None:
        try:
            while piece := os.read(leader, 4096):
                pieces.append(piece)
        except OSError:  # how Linux says that the other side is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(follower, "w", encoding="utf-8") as terminal:
        for stream in ("stdout", "stderr", "__stdout__", "__stderr__"):
            monkeypatch.setattr(sys, stream, terminal)
        assert cli.main(["check", "a.py:make", "--input", "24"]) == 1
        monkeypatch.undo()
    reader.join(timeout=10)
    os.close(leader)
    said = b"".join(pieces).decode()
    assert "\x1b[1;31m" in said
    lines = ESCAPE.sub("", said).splitlines()
    assert any("REFUTED" in line for line in lines)
    assert max(len(line) for line in lines if "\x1b" not in line and "\r" not in line) <= columns
