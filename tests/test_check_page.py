"""The page of a check: whole without a script or a network, safe whatever the target is called or says."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from check_results_made import Made, Matrix, result_of

from hyperverify import check_process, cli
from hyperverify.check_results import CheckResult, GeneratorStep
from hyperverify.confidence import Verdict
from hyperverify.diagnosis import diagnose
from hyperverify.report import check_drawings
from hyperverify.report.check_page import render

SETTINGS = {
    "expect": "hyperfan-in", "tolerance": 0.1, "alpha": 1e-6, "beta": 1e-3, "seed": 3, "input": [3, 8, 8],
    "last_layer": "paper", "max_seconds": 60.0,
}  # fmt: skip
VOID = {"meta", "br"}
TAGS = frozenset(
    re.findall(
        r"\w+",
        """
        html head meta title style body header main section h1 h2 h3 p span b ul li dl dt dd div
        figure figcaption pre table thead tbody tr th td
        svg symbol circle path rect use defs marker text
        """,
    )
)
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></svg><a href=javascript:alert(1)>x",
    "{{ 7 * 7 }}{% include 'x' %}",
    "\x1b]0;owned\x07\u202eleft",
    "&lt;b&gt; & 'quotes'",
    "long" * 500,
)


class Page(HTMLParser):
    """Elements, attributes and text; every tag is closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.style = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["style"]:
            self.style += data
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def checked(slip: float = 1 / 3, **more: Any) -> CheckResult:
    """Two layers with generated biases, behind a trunk."""
    made: list[Made] = []
    for t, (d_j, d_i, s) in enumerate(((24, 40, 2), (40, 16, 1))):
        H = Matrix(slip * s / (2 * d_j * 12), 12, d_i * d_j, name=f"heads.{t}.weight")
        trunk = Matrix(2 / 8, 8, 12, relu=True, law="normal", name="trunk.0.weight")
        G = Matrix(s / (2 * 12), 12, d_i, name=f"biases.{t}.weight")
        made.append(Made(d_i, d_j, (H, trunk), (G, trunk), relu=s == 2))
    return replace(diagnose(replace(result_of(*made), settings=SETTINGS)), **more)


def page_of(result: CheckResult, target: str | None = "nets.py:make") -> Page:
    given = result.to_dict()
    return Page(render(given if target is None else {"target": target, **given}))


@pytest.fixture(scope="module")
def page() -> Page:
    return page_of(checked())


def test_nothing_is_loaded_and_nothing_runs(page: Page) -> None:
    policies = [
        a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"
    ]
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert policies == [
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    ]
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert name not in {"src", "srcset", "style", "action", "data", "xlink:href"}, tag
            assert not name.startswith("on"), tag
            if name == "href":
                assert value.startswith("#")
    assert re.findall(r"url\((?!#)", page.style) == []
    assert "@import" not in page.style


def test_it_is_a_page_of_its_own(page: Page) -> None:
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("title")) > 1  # one of the page, others of cut words
    assert "Refuted: nets.py:make – hyperverify" in page.text
    assert len(page.all("h1")) == 1
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for name in ("href", "aria-labelledby"):
            if name in attributes:
                assert attributes[name].removeprefix("#") in ids
    assert all("aria-label" in a or "aria-hidden" in a for a in page.all("svg"))


def test_every_claim_of_every_layer_is_there(page: Page) -> None:
    result = checked()
    rows = [a for a in page.all("th") if a.get("scope") == "rowgroup"]
    assert [a["rowspan"] for a in rows] == ["2", "2"]
    for words in ("linear 24 → 40, ReLU, generated bias", "linear 40 → 16, generated bias", "E[W²]",
                  "E[b²]", "0.333 ×", "0.267 to 0.400", "heads.0.weight (d_k 12)"):  # fmt: skip
        assert words in page.text
    for layer in result.layers:
        for line in layer.diagnosis:
            assert " ".join(line.split()) in page.text
        assert layer.fix is not None
        assert layer.fix["text"] in page.text
    for key, value in (("last layer", "paper"), ("input", "3 x 8 x 8"), ("seed", "3")):
        assert f"{key} {value}".replace(" ", "") in page.text.replace(" ", "")


def test_the_structure_is_drawn_and_told(page: Page) -> None:
    (told,) = [
        a["aria-label"] for a in page.all("svg") if "Layer 1 is made by" in a.get("aria-label", "")
    ]
    assert told.startswith(
        "Layer 1 is made by e (12 entries, E[e²] 1), then trunk.0.weight (trunk "
    )
    assert "Layer 2 is made by" in told
    boxes = page.all("rect")
    assert len(boxes) == 2 * 4
    (drawing,) = [a for a in page.all("svg") if a.get("aria-label") == told]
    for box in boxes:
        assert 0 <= int(box["x"]) <= int(drawing["width"]) - int(box["width"])
        assert 0 <= int(box["y"]) <= int(drawing["height"]) - int(box["height"])


@pytest.mark.parametrize("words", HOSTILE)
def test_whatever_foreign_code_says_is_text(words: str) -> None:
    given = checked(flags=(words,), reason=words, output=f"said\n{words}")
    first = given.layers[0]
    odd = GeneratorStep("opaque", words, 1, 9, 1, False, 1.0, 1.0, 3.0, 4.0, 0.0, True, words)
    claims = tuple(
        replace(q, claim=words, reason=words, assumptions=(words,)) for q in first.quantities
    )
    layer = replace(first, activation=words, generated_by=(odd,), quantities=claims, reason=words,
                    diagnosis=(words,), fix={"text": words})  # fmt: skip
    given = replace(given, layers=(layer, given.layers[1]), settings=SETTINGS | {words: words})
    page = page_of(given, words)
    assert not any(sign in "".join(page.texts) for sign in ("\x1b", "\x07", "\u202e"))
    if words.isprintable():
        assert " ".join(page.text.split()).count(" ".join(words.split())) >= 9


def test_what_cannot_be_judged_stands_first() -> None:
    page = page_of(
        checked(1.0, verdict=Verdict.INCONCLUSIVE, flags=("uncovered: a gate",), reason="uncovered")
    )
    assert page.text.index("What cannot be judged") < page.text.index("Layer by layer")
    assert "uncovered: a gate" in page.text


def test_without_a_layer_there_is_still_a_page() -> None:
    page = page_of(
        checked(
            layers=(), verdict=Verdict.INCONCLUSIVE, flags=("data-dependent weights",), replicates=0
        )
    )
    assert page.all("table") == []
    assert "data-dependent weights" in page.text
    assert "0 models built" in page.text


def test_a_layer_of_which_nothing_is_asked() -> None:
    given = checked(1.0)
    page = page_of(replace(given, layers=(replace(given.layers[0], quantities=(), verdict=None),)))
    assert "nothing is asked of this layer" in page.text


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_words(odd: float) -> None:
    given = checked()
    first = given.layers[0]
    claim = replace(first.quantities[0], measured=odd, ratio=odd, interval=(-math.inf, math.inf))
    scales = replace(first.scales, activation_gain=odd, h2=odd)
    page = page_of(replace(given, layers=(replace(first, quantities=(claim,), scales=scales),)))
    assert "-inf to inf" in page.text
    assert "nan" not in page.text.replace("nothing", "").lower().split()


def test_printed_text_keeps_its_lines() -> None:
    text = render(checked(output="one\ntwo\n").to_dict())
    assert "<pre>one\ntwo\n</pre>" in text
    assert "a hypernetwork – hyperverify" in text


def test_the_same_result_makes_the_same_page() -> None:
    assert render(checked().to_dict()) == render(checked().to_dict())


def test_the_command_writes_this_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = checked().to_dict()
    monkeypatch.setattr(check_process, "check_apart", lambda *_: given)
    place = tmp_path / "deep" / "page.html"
    assert cli.main(["check", "nets.py:make", "--input", "24", "--html", str(place)]) == 1
    assert place.read_text(encoding="utf-8") == render({"target": "nets.py:make", **given})


# --- Drawings. ---------------------------------------------------------------------------------------


def layers_of(*gains: float) -> list[dict[str, Any]]:
    layer = checked(1.0).layers[0]
    return [
        replace(checked(1.0), layers=(replace(layer, scales=replace(layer.scales, activation_gain=gain)),))
        .to_dict()["layers"][0]
        for gain in gains
    ]  # fmt: skip


def test_gains_multiply_up_along_the_depth() -> None:
    forward, _ = check_drawings.curves(layers_of(0.5, 0.5, 0.5))
    assert forward.words == "After 3 layers the second moment is 0.125 times the first."
    heights = [y for _, y in forward.dots]
    assert heights == sorted(heights)  # SVG counts downward
    steps = [b - a for a, b in pairwise(heights)]
    assert max(steps) - min(steps) < 0.2
    assert heights[0] == forward.level


def test_gradients_come_from_the_output() -> None:
    result = checked(1.0)
    _, backward = check_drawings.curves(result.to_dict()["layers"])
    # hyperfan-in with half for the biases: d_i/(2 d_j) a layer, the last one first
    assert (
        backward.words
        == f"After 2 layers the second moment is {16 / 80 * 40 / 48:.3g} times the first."
    )


@pytest.mark.parametrize("gain", [0.0, math.nan, math.inf])
def test_no_curve_where_a_gain_is_none(gain: float) -> None:
    titles = [curve.title for curve in check_drawings.curves(layers_of(1.0, gain))]
    assert titles == ["Gradients, from the output down"]
    assert check_drawings.curves([]) == ()


@pytest.mark.parametrize("gain", [1.0, 2.0, 1e-3, 1e30, 1e-300])
def test_ticks_are_few_and_hold_the_curve(gain: float) -> None:
    (forward, *_) = check_drawings.curves(layers_of(*[gain] * 3 if gain > 1e-300 else [gain]))
    assert 2 <= len(forward.ticks) <= 14
    assert all(0 <= y <= 240 for _, y in forward.dots)
    assert all(re.fullmatch(r"1e-?\d+|0\.0*1|10*", label) for _, label in forward.ticks)


def test_a_long_name_keeps_its_end() -> None:
    names = [f"hnet._hnet._internal_params.{n}" for n in (4, 12)]
    assert [check_drawings.ending(name, 21) for name in names] == [
        "…t._internal_params.4",
        "…._internal_params.12",
    ]
    assert check_drawings.ending("heads.0.weight", 21) == "heads.0.weight"


def test_a_chain_of_which_little_is_known() -> None:
    given = checked(1.0)
    bare = [replace(given.layers[0], generated_by=()), given.layers[1]]
    structure = check_drawings.structure(replace(given, layers=tuple(bare)).to_dict()["layers"])
    assert len(structure.boxes) == 1 + 4
    opaque = GeneratorStep(
        "opaque", "", 1, 9, 1, False, 1.0, 1.0, 3.0, 4.0, 0.0, True, "made by tanh"
    )
    alone = [replace(given.layers[0], generated_by=(opaque,))]
    drawn = check_drawings.structure(replace(given, layers=tuple(alone)).to_dict()["layers"])
    assert drawn.words == "Layer 1 is made by opaque (made by tanh)."
