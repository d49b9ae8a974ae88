"""The pages of the experiments and of the claims in a real browser: by axe-core, keyboard and eye."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import SCREENSHOTS, WIDTHS, Visitor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "experiments"))
import made_records

from hyperverify.experiments import page as experiment_page
from hyperverify.experiments.arrays import Arrays
from hyperverify.experiments.claims import page as claims_page
from hyperverify.experiments.claims.criteria import Source
from hyperverify.experiments.claims.judging import judge
from hyperverify.experiments.records import APPROXIMATE, EXACT, InitCheck, Reading

METHODS = ("harmonic", "hyperfan-in")
AT_INIT = {
    "test loss at init": 2.5,
    **{f"second moment of activations at init, layer {n}": 0.3 for n in range(1, 6)},
    **{f"second moment of weights at init, layer {n}": 0.002 for n in range(1, 7)},
}
KINDS = ("experiment", "claims")


def check(arm: str, n: int, verdict: str) -> InitCheck:
    """A check before the first step, of some verdict."""
    exact = verdict in EXACT
    return InitCheck(
        id=f"{arm}/{n}",
        arm=arm,
        layer=n,
        quantity=("weights", "activations", "weight-gradients")[n % 3],
        statement="a second moment",
        predicted=0.01,
        observed=0.0101,
        measured=0.0102,
        interval=(0.0098, 0.0105),
        df=120_000,
        draws=12,
        law="exact" if exact else "approximate",
        approximation=None if exact else "W x is taken as normal",
        verdict=verdict,
    )


def histograms(prefix: str) -> Arrays:
    """Counts and edges of what Figures 1 and 7 to 16 show, by layer."""
    counts = np.array([1, 4, 9, 4, 1])
    found: Arrays = {}
    for when, (name, layers) in itertools.product(
        ("before", "after"),
        (("activations", 5), ("gradients", 5), ("weights", 6), ("weight-gradients", 6)),
    ):
        found[f"{prefix}/{when}/{name}/counts"] = np.tile(counts, (layers, 1))
        found[f"{prefix}/{when}/{name}/edges"] = np.tile(np.linspace(-1, 1, 6), (layers, 1))
    return found


def small_mnist() -> Source:
    """A record of ``mnist`` with all that its page shows: figures, tables, findings of every kind."""
    source = made_records.mnist()
    arms = tuple(
        arm.model_copy(
            update={
                "label": arm.method,
                "setting": "tanh, weights only",
                "settings": {**arm.settings, "classical": False},
                "summary": {**AT_INIT, **arm.summary},
            }
        )
        for arm in source.record.arms
        if arm.name.startswith("tanh-weights-hypernet") and arm.method in METHODS
    )
    arrays: Arrays = {}
    for arm in arms:
        arrays |= {k: v for k, v in source.arrays.items() if k.startswith(f"{arm.name}/")}
        arrays |= histograms(arm.name)
        arrays[f"{arm.name}/test_loss"] = np.linspace(3e4, 500, 31)
        arrays[f"{arm.name}/test_accuracy"] = np.linspace(0.1, 0.98, 31)
    readings = (
        Reading(
            question="Which layers?", reading="all", other="hidden", name="layers", value="all"
        ),
        Reading(question="Which Xavier?", reading="both are run", other="one of them"),
    )
    checks = tuple(
        check(arm.name, n, verdict)
        for arm in arms
        for n, verdict in enumerate((*EXACT, *APPROXIMATE))
    )
    update: dict[str, Any] = {"arms": arms, "checks": checks, "readings": readings, "sessions": 2}
    return Source("small", source.record.model_copy(update=update), arrays)


def seeds() -> list[Source]:
    """Records of two seeds, of which one is as the paper has it, and of another experiment."""
    return [
        made_records.mnist(),
        made_records.mnist(right=False, seed=1),
        made_records.continual(right=False, preset="standard"),
    ]


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small page of each kind."""
    home = tmp_path_factory.mktemp("experiments")
    source, sources = small_mnist(), seeds()
    texts = {
        "experiment": experiment_page.render(source.record, source.arrays),
        "claims": claims_page.render(judge(sources), sources),
    }
    found: dict[str, Path] = {}
    for kind, text in texts.items():
        found[kind] = home / f"{kind}.html"
        found[kind].write_text(text, encoding="utf-8")
    return found


def unfold(visitor: Visitor, most: int = 4) -> None:
    """Open the first of what is folded up, each of several kinds of content."""
    visitor.run(
        "[...document.querySelectorAll('details')].slice(0, arguments[0]).forEach((d) => d.open = true)",
        most,
    )


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", ["phone", "wide"])
@pytest.mark.parametrize("kind", KINDS)
def test_axe_finds_nothing(
    visitor: Visitor, pages: dict[str, Path], kind: str, width: str, dark: bool
) -> None:
    """WCAG 2.1 AA, as far as a program can tell, and axe-core's best practices."""
    visitor.emulate(width=WIDTHS[width], dark=dark)
    visitor.open(pages[kind])
    unfold(visitor)
    assert visitor.violations() == []
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    name = f"{kind}-{width}-{'dark' if dark else 'light'}"
    visitor.driver.save_screenshot(str(SCREENSHOTS / f"{name}.png"))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_runs_over_the_edge_and_what_scrolls_takes_focus(
    visitor: Visitor, pages: dict[str, Path], kind: str, width: str
) -> None:
    visitor.emulate(width=WIDTHS[width])
    visitor.open(pages[kind])
    unfold(visitor, 1000)
    over = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert visitor.run(over) <= 0
    scrolling = visitor.run(
        "return [...document.querySelectorAll('body *')].filter((e) => e.scrollWidth > e.clientWidth + 1"
        " && ['auto', 'scroll'].includes(getComputedStyle(e).overflowX))"
        ".map((e) => [e.tabIndex, e.getAttribute('aria-label') || e.getAttribute('aria-labelledby')])"
    )
    if width == "phone":
        assert scrolling
    for index, label in scrolling:
        assert index == 0
        assert label


def test_the_index_leads_to_a_claim_and_opens_it(visitor: Visitor, pages: dict[str, Path]) -> None:
    visitor.open(pages["claims"])
    visitor.click('.index a[href="#5.1-relu"]')
    visitor.until("document.getElementById('5.1-relu').closest('details').open")
    where = "document.getElementById('5.1-relu').closest('details').getBoundingClientRect().top"
    assert 0 <= visitor.run(f"return {where}") < 500
    assert "a steadier training under hyperfan init" in visitor.run(
        "return document.getElementById('5.1-relu').innerText"
    )


def test_the_pages_ask_for_nothing(visitor: Visitor, pages: dict[str, Path]) -> None:
    for path in pages.values():
        visitor.open(path)
        asked = {url for url in visitor.asked_for() if not url.startswith("about:")}
        assert asked == {path.as_uri()}
