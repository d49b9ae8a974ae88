"""The report in a real browser: opened from a file, without a network, by mouse, keyboard and eye."""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from browsing import ROOT, SCREENSHOTS, WIDTHS, Visitor
from synthetic import HOSTILE, hostile_run, synthetic_run

from hyperverify.report import render, words
from hyperverify.store import Run

HERO = ".hero h1, .hero .lead, .hero .guarantee, .hero .counts"


def choose(visitor: Visitor, name: str, value: str) -> None:
    visitor.run(
        "const s = document.querySelector(`#filter select[name=${arguments[0]}]`);"
        "s.value = arguments[1]; s.dispatchEvent(new Event('change', {bubbles: true}))",
        name,
        value,
    )


def test_the_page_asks_for_nothing_and_its_policy_refuses_what_comes(
    visitor: Visitor, page: Path
) -> None:
    visitor.open(page)
    assert {url for url in visitor.asked_for() if not url.startswith("about:")} == {page.as_uri()}
    refused = visitor.driver.execute_async_script(
        "const done = arguments[0];"
        "fetch('https://example.org/').then(() => done(false), () => done(true))"
    )
    assert refused
    messages = [entry["message"] for entry in visitor.driver.get_log("browser")]
    assert any("Content Security Policy" in message for message in messages)
    visitor.run(
        "const s = document.createElement('script'); s.textContent = 'window.bad = 1'; document.body.append(s)"
    )
    assert visitor.run("return window.bad") is None
    visitor.driver.get_log("browser")  # its complaints are what was asked for


def test_the_first_screen_says_it_all(visitor: Visitor, page: Path, failing: Run) -> None:
    visitor.emulate(width=390, height=844)
    visitor.open(page)
    bottom = visitor.run(
        "return Math.max(...[...document.querySelectorAll(arguments[0])].map((e) => e.getBoundingClientRect().bottom))",
        HERO,
    )
    assert bottom < 844
    assert words.headline(failing) in visitor.find(".hero").text.replace("\n", " ")


def test_filters_stand_in_the_url_and_the_back_button_undoes_them(
    visitor: Visitor, page: Path, failing: Run
) -> None:
    visitor.open(page)
    everything = visitor.shown()
    assert len(everything) == len(failing.checks)
    choose(visitor, "quantity", "forward activations")
    forward = visitor.shown()
    assert len(forward) == sum(c.quantity == "forward" for c in failing.checks) > 0
    choose(visitor, "rule", "M3")
    both = visitor.shown()
    assert 0 < len(both) < len(forward)
    assert visitor.find("#shown").text == f"{len(both)} shown"
    address = visitor.driver.current_url
    assert address.endswith("#rule=M3&quantity=forward+activations")
    visitor.driver.back()
    visitor.until("location.hash === '#quantity=forward+activations'")
    assert visitor.shown() == forward
    visitor.driver.back()
    visitor.until("location.hash === ''")
    assert visitor.shown() == everything
    visitor.driver.forward()
    visitor.until("location.hash !== ''")
    assert visitor.shown() == forward
    # The address alone brings another visitor to the same checks.
    visitor.open(page, address.partition("#")[1] + address.partition("#")[2])
    assert visitor.shown() == both
    visitor.click("#all")
    assert visitor.shown() == everything


def test_every_filter_agrees_with_the_record(visitor: Visitor, page: Path, failing: Run) -> None:
    visitor.open(page)
    numbers = {f"c{n}": check for n, check in enumerate(failing.checks)}
    architecture = failing.checks[3].architecture
    for hash_, wanted in (
        ("#verdict=REFUTED", lambda c: c.verdict == "REFUTED"),
        ("#verdict=REFUTED%2CINCONCLUSIVE", lambda c: c.verdict != "VERIFIED"),
        ("#q=hyperfan-out+backward", lambda c: c.method == "hyperfan-out" and c.quantity == "backward"),
        ("#rule=C.fan_in", lambda c: c.rules[0] == "C.fan_in"),
    ):  # fmt: skip
        visitor.run("location.hash = arguments[0]", hash_)
        visitor.until(
            "!document.getElementById('all').hidden && location.hash === arguments[0]", hash_
        )
        assert set(visitor.shown()) == {n for n, c in numbers.items() if wanted(c)}, hash_
    choose(visitor, "rule", "")
    choose(visitor, "architecture", architecture)
    assert all(architecture in text for text in visitor.run(
        "return [...document.querySelectorAll('details.check')].filter((c) => !c.closest('[hidden]'))"
        ".map((c) => document.querySelector(c.querySelector('a[href^=\"#s\"]').hash + ' b').textContent)"
    ))  # fmt: skip


def test_a_deep_link_opens_its_check_with_all_that_belongs_to_it(
    visitor: Visitor, page: Path
) -> None:
    visitor.open(page, "#c7")
    visitor.until("document.querySelector('#c7 .more') !== null")
    assert visitor.run("return document.getElementById('c7').open")
    top = visitor.run("return document.getElementById('c7').getBoundingClientRect().top")
    assert 0 <= top < 500
    text = visitor.find("#c7").text
    for part in ("Rule", "Prediction", "Assumptions", "Network", "HypernetSpec(", "seed path"):
        assert part in text or part.capitalize() in text, part
    assert visitor.run("return document.querySelectorAll('#c7 .more math').length") >= 2
    assert visitor.run("return document.querySelectorAll('#c7 .more [id]').length") == 0
    ids = visitor.run("return [...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))


def test_copy_buttons_copy_the_command_and_the_python(
    visitor: Visitor, page: Path, failing: Run
) -> None:
    visitor.driver.execute_cdp_cmd(
        "Browser.grantPermissions",
        {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]},
    )
    visitor.open(page, "#c7")
    visitor.until("document.querySelector('#c7 .more .copy') !== null")
    for button, wanted in (
        ("#c7 dl .copy", f"hyperverify replay run.json {failing.checks[7].id}"),
        ("#c7 .net .copy", "spec = HypernetSpec("),
    ):
        visitor.click(button)
        visitor.until("document.querySelector(arguments[0]).textContent === 'Copied'", button)
        copied = visitor.driver.execute_async_script(
            "const done = arguments[0]; navigator.clipboard.readText().then(done, (e) => done(String(e)))"
        )
        assert wanted in copied


def test_the_keyboard_reaches_what_the_mouse_does(visitor: Visitor, page: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(*keys: str) -> None:
        ActionChains(visitor.driver).send_keys(*keys).perform()

    visitor.open(page)
    press(Keys.TAB)
    assert visitor.run("return document.activeElement.className") == "skip"
    assert visitor.run("return document.activeElement.getBoundingClientRect().left") >= 0
    press(Keys.ENTER)
    visitor.until("location.hash === '#checks'")
    press(Keys.TAB, Keys.TAB)
    assert visitor.run("return document.activeElement.type") == "search"
    press("M3")
    visitor.until("location.hash === '#q=M3'")
    press(*[Keys.TAB] * 7, Keys.SPACE)  # three choices, three verdicts, "Show all"
    visitor.until("location.hash === '#checks'")
    visitor.run("document.querySelector('#c0 summary').closest('.group').open = true;"
                "document.querySelector('#c0 summary').focus()")  # fmt: skip
    press(Keys.ENTER)
    visitor.until("document.getElementById('c0').open")


def test_the_page_is_whole_without_scripts(visitor: Visitor, page: Path, failing: Run) -> None:
    visitor.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        visitor.open(page, "#c7")
        root = visitor.driver.execute_cdp_cmd("DOM.getDocument", {"depth": 1})["root"]["nodeId"]
        text = visitor.driver.execute_cdp_cmd("DOM.getOuterHTML", {"nodeId": root})["outerHTML"]
    finally:
        visitor.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert 'class="copy" aria-label' not in text  # no script ran
    assert re.search(r'<form id="filter"[^>]* hidden', text)
    around = text[: text.index('id="c7"')].rpartition('<details class="group"')[2]
    assert re.match(r"[^>]* open", around)  # the link alone unfolds what its target is folded into
    for check in failing.checks:
        assert f"hyperverify replay run.json {check.id}" in text
    assert text.count("spec = HypernetSpec(") == 2


def test_dark_and_light_follow_the_reader(visitor: Visitor, page: Path) -> None:
    def ground() -> int:
        colour = visitor.run("return getComputedStyle(document.body).backgroundColor")
        return sum(int(number) for number in re.findall(r"\d+", colour)[:3])

    visitor.open(page)
    light = ground()
    visitor.emulate(dark=True)
    dark = ground()
    assert dark < 150
    assert light > 600


def test_it_prints_to_a_clean_pdf(visitor: Visitor, page: Path) -> None:
    visitor.open(page)
    printed = visitor.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    pdf = base64.b64decode(printed["data"])
    assert pdf.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 3
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    (SCREENSHOTS / "report.pdf").write_bytes(pdf)
    visitor.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    for selector in ("nav", "#filter", ".copy"):
        assert (
            visitor.run(
                "return getComputedStyle(document.querySelector(arguments[0])).display", selector
            )
            == "none"
        )
    visitor.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_runs_over_the_edge(visitor: Visitor, page: Path, width: str, dark: bool) -> None:
    visitor.emulate(width=WIDTHS[width], dark=dark)
    visitor.open(page, "#c7")
    visitor.until("document.querySelector('#c7 .more') !== null")
    over = visitor.run(
        "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert over <= 0
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    name = f"report-{width}-{'dark' if dark else 'light'}"
    visitor.driver.save_screenshot(str(SCREENSHOTS / f"{name}-check.png"))
    visitor.run("scrollTo(0, 0)")
    visitor.driver.save_screenshot(str(SCREENSHOTS / f"{name}.png"))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [320, *WIDTHS.values()])
def test_pictures_fit_and_their_text_can_be_read(
    visitor: Visitor, page: Path, width: int, dark: bool
) -> None:
    visitor.emulate(width=width, dark=dark)
    visitor.open(page, "#pictures")
    over, out, letters = visitor.run(
        "const all = [...document.querySelectorAll('#pictures svg')];"
        "const edge = document.documentElement.clientWidth;"
        "return [document.documentElement.scrollWidth - edge,"
        " all.filter((s) => s.getBoundingClientRect().right > edge || !s.getBoundingClientRect().height).length,"
        " Math.min(...[...document.querySelectorAll('#pictures svg text')].map("
        "  (t) => parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a))]"
    )
    assert (over, out) == (0, 0)
    assert letters > 10  # CSS pixels
    # What the first panel defines is drawn, in the page's colours, in the others too.
    boxes = visitor.run(
        "return [...document.querySelectorAll('#pictures use')].map((u) => u.getBBox().width)"
    )
    assert len(boxes) == 12
    assert min(boxes) > 300
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    visitor.emulate(width=width, height=5600 if width < 700 else 2900, dark=dark)
    picture = visitor.find("#pictures").screenshot_as_png
    name = f"pictures-{width}-{'dark' if dark else 'light'}.png"
    (SCREENSHOTS / name).write_bytes(picture)


@pytest.mark.parametrize(("width", "dark"), [("phone", False), ("wide", True)])
def test_axe_finds_nothing(visitor: Visitor, small: Path, width: str, dark: bool) -> None:
    """WCAG 2.1 AA, as far as a program can tell, and axe-core's best practices."""
    visitor.emulate(width=WIDTHS[width], dark=dark)
    visitor.open(small, "#c7")
    visitor.until("document.querySelector('#c7 .more') !== null")
    assert visitor.violations() == []


def test_axe_finds_nothing_in_a_run_without_failures(visitor: Visitor, tmp_path: Path) -> None:
    path = tmp_path / "verified.html"
    path.write_text(render(synthetic_run(20, verified_only=True)), encoding="utf-8")
    visitor.open(path)
    assert visitor.violations() == []


SAMPLE = ROOT / "reports" / "sample" / "report.html"


@pytest.mark.parametrize("width", ["phone", "wide"])
def test_axe_finds_nothing_in_the_sample(visitor: Visitor, width: str) -> None:
    """A real run: the formulas are as wide as they come."""
    visitor.emulate(width=WIDTHS[width])
    visitor.open(SAMPLE, "#c20")
    visitor.until("document.querySelector('#c20 .more') !== null")
    assert visitor.violations() == []


def test_hostile_strings_do_nothing_in_a_browser(visitor: Visitor, tmp_path: Path) -> None:
    path = tmp_path / "hostile.html"
    path.write_text(render(hostile_run(), old=hostile_run()), encoding="utf-8")
    visitor.run("window.alert = () => { document.title = 'alerted'; }")
    visitor.open(path, "#c0")
    visitor.until("document.querySelector('#c0 .more') !== null")
    visitor.run("location.hash = '#q=' + encodeURIComponent(arguments[0])", HOSTILE)
    visitor.until("document.getElementById('shown').textContent !== ''")
    assert "alerted" not in visitor.driver.title
    assert visitor.run("return document.querySelectorAll('img, iframe, object').length") == 0
    assert visitor.run("return document.querySelectorAll('script').length") == 1
    outside: list[Any] = [
        url for url in visitor.asked_for() if not url.startswith(("file:", "about:"))
    ]
    assert outside == []


def test_the_filter_of_a_rule_shows_the_checks_that_stand_under_another(
    visitor: Visitor, failing: Run, page: Path
) -> None:
    visitor.open(page)
    several = next(check for check in failing.checks if len(check.rules) > 1)
    first, second = several.rules[:2]
    for rule in (first, second):
        choose(visitor, "rule", rule)
        expected = {f"c{n}" for n, check in enumerate(failing.checks) if rule in check.rules}
        assert f"c{failing.checks.index(several)}" in expected
        assert set(visitor.shown()) == expected


def test_of_very_many_checks_those_verified_are_drawn_when_they_are_opened(
    visitor: Visitor, failing: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text(render(failing), encoding="utf-8")
    visitor.open(path)
    ok = next(n for n, check in enumerate(failing.checks) if check.verdict == "VERIFIED")
    bad = next(n for n, check in enumerate(failing.checks) if check.verdict == "REFUTED")
    drawing = "const s = document.querySelector(arguments[0] + ' > figure svg'); return s && s.querySelector('.range').getAttribute('d') + s.querySelector('.dot').getAttribute('d')"
    usual = visitor.run(drawing, f"#c{ok}")
    failure = visitor.run(drawing, f"#c{bad}")
    assert usual
    assert failure
    monkeypatch.setattr(sys.modules["hyperverify.report.view"], "LARGE", len(failing.checks) - 1)
    path.write_text(render(failing), encoding="utf-8")
    visitor.open(path)
    assert visitor.run(drawing, f"#c{ok}") is None
    assert visitor.run(drawing, f"#c{bad}") == failure
    visitor.run("location.hash = arguments[0]", f"#c{ok}")
    visitor.until("document.querySelector(arguments[0] + ' > figure svg')", f"#c{ok}")
    assert visitor.run(drawing, f"#c{ok}") == usual
    said = visitor.run(
        "return document.querySelector(arguments[0] + ' > figure title').textContent", f"#c{ok}"
    )
    assert said == f"Measured {words.deviation(failing.checks[ok])}"
