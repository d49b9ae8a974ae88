"""The report: complete without a script or a network, safe whatever it shows, quick and small."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
import time
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from synthetic import HOSTILE, hostile_run, make_run, synthetic_checks, synthetic_run

from hyperverify.report import MAX_CARDS, figures, render, words, write_report
from hyperverify.report.maths import MAX_LENGTH, mathml
from hyperverify.store import Check, Run, Witnesses

VOID = {"meta", "input", "br", "img", "link", "hr"}
TAGS = frozenset(
    re.findall(
        r"\w+",
        """
        html head meta title style body header nav main section article h1 h2 h3 p span a b em br
        ul ol li dl dt dd div figure figcaption code details summary time
        table thead tbody tr th td form label input output script math
        svg symbol circle path rect use defs desc g text tspan clippath
        """,
    )
)
LEFT_OPEN = {"p", "dt", "dd", "li"}  # HTML lets these end by themselves


class Page(HTMLParser):
    """What a browser would see: elements, their attributes, the text, and nesting that is right."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.stack: list[str] = []
        self.texts: list[str] = []
        self.raw: dict[str, str] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        while self.stack[-1] != tag and self.stack[-1] in LEFT_OPEN:
            self.stack.pop()
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] in {"style", "script"}:
            self.raw[self.stack[-1]] = data
        else:
            self.texts.append(data)

    @cached_property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def ids(self) -> list[str]:
        return [a["id"] for _, a in self.elements if "id" in a]

    @property
    def links(self) -> set[str]:
        return {a["href"] for _, a in self.elements if "href" in a}


@pytest.fixture(scope="module")
def run() -> Run:
    return synthetic_run()


@pytest.fixture(scope="module")
def source(run: Run) -> str:
    return render(run)


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def one(**changes: Any) -> Run:
    """A run of one check, VERIFIED unless the changes say otherwise."""
    check = synthetic_checks(1)[0]
    return make_run([Check(**{**check.model_dump(), **changes})])


def test_the_verdict_comes_first_with_its_guarantee_and_counts(page: Page, run: Run) -> None:
    top = page.text[: page.text.index("What failed")]
    assert "Refuted" in top
    assert f"{run.counts.REFUTED} of 1,200 checks contradict their predictions." in top
    for figure in ("1 in 1,000,000", "1 in 1,000", "2 %", f"{run.counts.VERIFIED:,} verified"):
        assert figure in top.replace("\N{NO-BREAK SPACE}", " ")


def test_every_verdict_has_its_own_guarantee() -> None:
    sentences = set()
    for verdict in ("VERIFIED", "REFUTED", "INCONCLUSIVE"):
        checks = [c for c in synthetic_checks() if c.verdict in {"VERIFIED", verdict}]
        sentence = words.guarantee(make_run(checks))
        assert words.chance(1e-6) in sentence
        assert words.chance(1e-3) in sentence
        assert words.percent(0.02) in sentence
        sentences.add(sentence)
    assert len(sentences) == 3


def test_failures_come_before_everything_else(page: Page, run: Run) -> None:
    places = [page.ids.index(name) for name in ("failures", "matrix", "depth", "checks")]
    assert places == sorted(places)
    cards = [a["class"].split()[1] for a in page.all("article")]
    assert len(cards) == MAX_CARDS
    assert cards == sorted(cards, key=["REFUTED", "INCONCLUSIVE"].index)
    assert cards.count("REFUTED") == run.counts.REFUTED


def test_no_failures_no_section() -> None:
    clean = Page(render(synthetic_run(30, verified_only=True)))
    assert "failures" not in clean.ids
    assert "All 30 checks agreed with the prediction" in clean.text


def test_every_check_is_there_with_its_replay_command(page: Page, run: Run) -> None:
    shown = [a for a in page.all("details") if a.get("class") == "check"]
    assert len(shown) == len(run.checks)
    assert [a["data-v"] for a in shown].count("REFUTED") == run.counts.REFUTED
    for check in run.checks:
        assert f"hyperverify replay run.json {check.id}" in page.text


def test_a_check_says_all_that_is_known() -> None:
    check = next(c for c in synthetic_checks() if c.departure)
    text = Page(render(make_run([check]), run_path="reports/a b")).text
    for expected in (
        check.statement,
        check.departure,
        check.claim,
        words.number(check.measured),
        words.number(check.witnesses.oracle),
        words.number(check.interval[1]),
        f"{check.df:,} df",
        "±2 %",
        *check.assumptions,
        " / ".join(map(str, check.seed_path)),
        f"hyperverify replay 'reports/a b' {check.id}",
        '"d_k": 32',
    ):
        assert " ".join(str(expected).split()) in text, expected


def test_links_lead_somewhere_and_ids_are_single(page: Page) -> None:
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links} <= set(page.ids)


def test_the_matrix_covers_every_rule_and_setting(page: Page, run: Run) -> None:
    labels = [a["aria-label"] for a in page.all("a") if "chip" in a.get("class", "")]
    wanted = {
        f"{rule}, {words.setting(check.tags)}" for check in run.checks for rule in check.rules
    }
    assert {label.rpartition(": ")[0] for label in labels} == wanted
    assert len(labels) == len(wanted)


def test_the_page_needs_no_network_and_its_policy_admits_only_itself(
    page: Page, source: str
) -> None:
    assert all(link.startswith("#") for link in page.links)
    assert not [a for _, a in page.elements if {"src", "srcset", "style"} & a.keys()]
    assert not [name for _, a in page.elements for name in a if name.startswith("on")]
    outside = re.sub(r"http://www\.w3\.org/\S+", "", source)
    assert "http" not in outside.replace("http-equiv", "")
    policy = next(a["content"] for a in page.all("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(page.raw[tag].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
        assert source.count(f"<{tag}") == 1


def test_drawings_have_a_title_and_a_description(page: Page, run: Run) -> None:
    strips = [a for a in page.all("figure") if a.get("class") == "strip"]
    assert len(strips) == len(run.checks) + MAX_CARDS
    assert len(page.all("desc")) >= len(strips)


def test_the_same_run_gives_the_same_page(run: Run, source: str) -> None:
    assert render(run) == source


def test_1500_checks_are_quick_and_small(tmp_path: Path) -> None:
    checks = synthetic_checks(1500)
    run = make_run(checks)
    start = time.perf_counter()
    path = write_report(run, tmp_path / "report.html")
    # Wide limits, for a busy machine: what must not happen is a page that grows out of hand.
    assert time.perf_counter() - start < 30
    assert path.stat().st_size < 3_000_000 * len(checks) / 1500
    assert list(tmp_path.iterdir()) == [path]


def test_hostile_strings_stay_text() -> None:
    source = render(hostile_run(), run_path=HOSTILE)
    page = Page(source)
    assert source.count("<script") == 1
    assert {tag for tag, _ in page.elements} <= TAGS
    names = {name for _, attributes in page.elements for name in attributes}
    assert not {name for name in names if name.startswith("on") or name in {"src", "style"}}
    assert all(link.startswith("#") for link in page.links)
    assert "{{ 7*191 }}" in page.text
    assert "1337" not in page.text
    assert not re.search(
        r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", source.replace("\n", "")
    )


def test_every_string_field_reaches_the_page_escaped() -> None:
    """Each string of a check and of the run alone carries a mark, and the page shows it as text."""
    mark = "<b id=x onclick=y>&\"'"
    base = synthetic_checks(1)[0]
    fields = {
        "id": mark,
        "rules": (mark,),
        "method": mark,
        "quantity": mark,
        "architecture": mark,
        "statement": mark,
        "latex_rule": mark,
        "latex_prediction": mark,
        "law": mark,
        "reason": mark,
        "departure": mark,
        "assumptions": (mark,),
        "seed_path": (mark,),
        "spec": {mark: mark},
        "tags": {**base.tags, mark: mark},
    }
    for name, value in fields.items():
        page = Page(render(one(**{name: value})))
        assert "x" not in page.ids, name
        if not name.startswith("latex"):  # a formula's letters stand apart
            shown = json.dumps(mark)[1:-1] if name == "spec" else mark
            assert shown in page.text, name
        assert "onclick" not in {key for _, a in page.elements for key in a}, name


@pytest.mark.parametrize(
    "latex",
    [
        r"\text{<script>alert(1)</script>}",
        r"\text{&lt;img src=x onerror=alert(1)&gt;}",
        r"\href{javascript:alert(1)}{x}",
        r"\frac{1}{",
        r"\left( x",
        r"\def\a{\a\a}\a",
        r"\unknown{x}",
        "x" * (MAX_LENGTH + 1),
        "\x00",
        "}",
        "&<>\"'",
    ],
)
def test_bad_latex_is_shown_and_does_no_harm(latex: str) -> None:
    page = Page(str(mathml(latex)))
    assert not [tag for tag, _ in page.elements if tag in {"script", "img", "a"}]
    assert not [n for _, a in page.elements for n in a if n.startswith("on") or n == "href"]


def test_latex_becomes_mathml() -> None:
    markup = str(mathml(r"\operatorname{Var}(H) = \frac{2^{I_{\mathrm{ReLU}}}}{d_{j}}"))
    assert markup.startswith("<math>")
    assert "<mi>ReLU</mi>" in markup
    assert "<mfrac>" in markup
    assert html.unescape(markup).count("Var") == 1
    assert str(mathml("")) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (0.0, "0"),
        (57_253, "57,253"),
        (210_004_312, "210,004,312"),
        (0.0156249, "0.01562"),
        (1.0, "1.000"),
        (12_345.678, "12,350"),
        (-0.25, "−0.2500"),
        (1.2344e-7, "1.234 × 10⁻⁷"),
        (9.99999e8, "1.000 × 10⁹"),
        (math.nan, "not a number"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
    ],
)
def test_numbers_can_be_read(value: float | None, text: str) -> None:
    assert words.number(value) == text


def test_odds_and_settings_can_be_read() -> None:
    assert words.chance(1e-6).replace("\N{NO-BREAK SPACE}", " ") == "1 in 1,000,000"
    assert words.chance(0.75) == "0.750"
    assert words.short(1e-6) == "10⁻⁶"
    assert words.short(0.001) == "0.001"
    assert words.plural(1, "check") == "1 check"
    assert words.plural(2, "check") == "2 checks"


def refuted(predicted: float, measured: float, interval: tuple[float, float]) -> Check:
    witnesses = Witnesses(formula=predicted, oracle=predicted, measurement=measured)
    return Check(
        **{
            **synthetic_checks(1)[0].model_dump(),
            "verdict": "REFUTED",
            "predicted": predicted,
            "measured": measured,
            "interval": interval,
            "witnesses": witnesses,
        }
    )


def test_the_strip_is_drawn_to_scale() -> None:
    double = figures.strip(refuted(1.0, 2.0, (1.9, 2.1)))
    half = figures.strip(refuted(1.0, 0.5, (1 / 2.1, 1 / 1.9)))
    assert double.measured is not None
    assert half.measured is not None
    assert double.measured - 500 == 500 - half.measured > 0
    unit = (double.measured - 500) / math.log(2)
    assert double.band[1] - 500 == pytest.approx(unit * math.log(1.02), abs=1)
    assert double.interval is not None
    assert double.interval[1] - 500 == pytest.approx(unit * math.log(2.1), abs=1)


@pytest.mark.parametrize(
    ("measured", "interval"),
    [
        (math.nan, (math.nan, math.nan)),
        (math.inf, (1.0, math.inf)),
        (0.0, (0.0, 0.5)),
        (-1.0, (-2.0, -0.5)),
        (1e300, (1e299, 1.7e308)),
        (5e-324, (0.0, 1e-300)),
    ],
)
@pytest.mark.parametrize("predicted", [1.0, 0.0, 1e-300, math.nan, math.inf])
def test_what_cannot_be_drawn_does_not_break_the_page(
    predicted: float, measured: float, interval: tuple[float, float]
) -> None:
    check = refuted(predicted, measured, interval)
    drawn = figures.strip(check)
    for place in (*(drawn.interval or ()), *drawn.band, drawn.measured or 0):
        assert 0 <= place <= 1000
    paths = re.findall(r' d="([^"]*)"', render(make_run([check])))
    assert paths
    assert not [path for path in paths if "nan" in path or "inf" in path]


def test_the_zero_law_stands_at_its_prediction() -> None:
    drawn = figures.strip(refuted(0.0, 0.0, (0.0, 0.0)))
    assert drawn.measured == 500
    assert drawn.interval == (500, 500)
    assert words.deviation(refuted(0.0, 0.0, (0.0, 0.0))) == "0, exactly"


def test_depth_plots_add_up_the_gains_in_the_order_of_the_parts() -> None:
    check = next(c for c in synthetic_checks() if c.quantity == "depth" and c.method == "fan-in")
    predicted, low, high = figures.cumulated(check)
    assert predicted[0] == low[0] == high[0] == 0
    assert predicted[-1] == pytest.approx(8 * math.log(64))
    assert all(a <= b for a, b in zip(low, high, strict=True))
    assert figures.direction(check) == "forward"
    turned = check.model_copy(update={"parts": check.parts[::-1]})
    assert figures.direction(turned) == "backward"


def test_depth_plots_are_few_and_follow_the_page(run: Run) -> None:
    plots = figures.depth_plots(run.checks)
    assert 2 <= len(plots) <= figures.MAX_PLOTS
    assert len({plot.title for plot in plots}) == len(plots)
    for plot in plots:
        assert "style=" not in plot.svg
        assert "<style" not in plot.svg
        assert "currentColor" in plot.svg
        assert "var(--s1)" in plot.svg
        assert not re.search(r"#0[ab]000\d", plot.svg)


def test_departures_are_listed_once_each(page: Page, run: Run) -> None:
    sentences = {check.departure for check in run.checks if check.departure}
    start = page.text.index("Where the truth departs from the paper")
    section = page.text[start : page.text.index("All checks", start)]
    for sentence in sentences:
        assert section.count(sentence) == 1


def luminance(colour: str) -> float:
    """Relative luminance of #rgb or #rrggbb, as WCAG 2 defines it."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1, 2], ids=["light", "dark", "print"])
def test_colours_keep_the_contrast_of_wcag_aa(page: Page, theme: int) -> None:
    block = re.findall(r":root {(.*?)}", page.raw["style"], re.DOTALL)[theme]
    colour = dict(re.findall(r"--([\w-]+): (#\w+)", block))
    for ground in ("bg", "card"):
        for text in ("ink", "mute", "link", "ok", "no", "na"):
            assert contrast(colour[text], colour[ground]) >= 4.5, (text, ground)
        for line in ("s1", "s2", "s3", "s4", "s5", "s6"):
            assert contrast(colour[line], colour[ground]) >= 3, (line, ground)
    for verdict in ("ok", "no", "na"):
        assert contrast(colour[verdict], colour[f"{verdict}-bg"]) >= 4.5, verdict
        assert contrast(colour["ink"], colour[f"{verdict}-bg"]) >= 4.5, verdict
        assert contrast(colour["on"], colour[verdict]) >= 4.5, verdict
        assert contrast(colour[verdict], colour["band"]) >= 3, verdict
    assert contrast(colour["card"], colour["no"]) >= 4.5
