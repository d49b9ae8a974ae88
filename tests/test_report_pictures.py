"""The pictures in the page: whole, in words too, small, and drawn whatever the record holds."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from synthetic import hostile_run, make_run, synthetic_checks

from hyperverify.picture_records import (
    Arm,
    BeforeTraining,
    BorderMap,
    Pictures,
    Sizes,
    Typical,
    TypicalLayer,
)
from hyperverify.pictures import pictures
from hyperverify.report import border_maps, hills, render, typical
from hyperverify.report.summaries import badge, markdown
from hyperverify.store import Run


@pytest.fixture(scope="module")
def drawn() -> Pictures:
    return pictures(1, torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def plain() -> Run:
    return make_run(synthetic_checks(4))


@pytest.fixture(scope="module")
def pictured(plain: Run, drawn: Pictures) -> Run:
    return plain.model_copy(update={"pictures": drawn})


def section(source: str) -> str:
    """The section of the pictures, from its tag to the next section's."""
    start = source.index('<section id="pictures"')
    return source[start : source.index("<section", start + 1)]


def words_of(source: str) -> str:
    text = re.sub(r"<svg.*?</svg>", " ", source, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", text).split()).replace("\N{NO-BREAK SPACE}", " ")


def numbers_of(path: str) -> list[float]:
    return [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", path)]


def test_pictures_have_a_section_a_link_and_a_word_on_what_they_are_not(pictured: Run) -> None:
    source = render(pictured)
    assert source.count('<a href="#pictures">') == 1
    text = words_of(section(source))
    assert "No verdict rests on a picture, and none of the error budget was spent on them." in text
    assert "Look whether the coloured hills of a row stand one above the other" in text
    assert "a verified mean says little about one narrow net" in text
    assert render(pictured) == source


def test_every_picture_says_in_words_what_it_shows(pictured: Run) -> None:
    drawings = re.findall(r"<svg class=(?:pic|map) .*?</svg>", section(render(pictured)))
    assert len(drawings) == 4 * 4 + 2 + 3 * 2
    titles = [re.findall("<title>([^<]+)</title>", drawing) for drawing in drawings]
    assert all(len(title) == 1 for title in titles)
    assert len({title[0] for title in titles}) == len(drawings)
    for drawing in drawings:
        (about,) = re.findall("<desc>([^<]+)</desc>", drawing)
        assert re.search(r"\d", about)
        assert "role=img" in drawing
    others = re.findall(r"<svg (?!class=(?:pic|map) )[^>]*>", section(render(pictured)))
    assert all("aria-hidden" in other for other in others)


def test_the_pictures_are_small(pictured: Run, plain: Run) -> None:
    assert len(render(pictured).encode()) - len(render(plain).encode()) < 45_000
    assert "<rect" not in section(render(pictured))


def test_the_page_with_pictures_refers_to_itself_alone(pictured: Run) -> None:
    source = render(pictured)
    ids = re.findall(r'\bid=["]?([\w-]+)', source)
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'href=["]?#([\w-]+)', source))
    assert used <= set(ids)
    assert {"k0", "k1", "k2", "k3"} <= used
    assert 'style="' not in source
    assert re.findall(r"href=[\"]?(?!#)\S+", section(source)) == []


def test_a_run_without_pictures_says_why_where_it_knows(plain: Run, pictured: Run) -> None:
    for run in (plain, plain.model_copy(update={"rules": ("M3",)})):
        assert 'id="pictures"' not in render(run)
        assert "#pictures" not in render(run)
    assert "<dt>Pictures" not in render(plain)
    assert "<dt>Pictures" not in render(pictured)
    some = render(plain.model_copy(update={"rules": ("M3",)}))
    assert "<dt>Pictures</dt><dd>none: this run checked some rules only</dd>" in some
    other = render(plain.model_copy(update={"initializer": "a:b"}))
    assert "none: they show the library&#39;s own initializer" in other


def test_other_papers_of_a_run_stay_as_they_are(plain: Run, pictured: Run) -> None:
    assert markdown(pictured) == markdown(plain)
    assert badge(pictured) == badge(plain)
    assert 'id="against"' in render(pictured, old=plain)
    assert 'id="pictures"' in render(pictured, old=plain)
    assert 'id="pictures"' not in render(plain, old=pictured)


def test_hostile_runs_keep_their_pictures(drawn: Pictures) -> None:
    hostile = render(hostile_run().model_copy(update={"pictures": drawn}))
    clean = render(make_run(synthetic_checks(4)).model_copy(update={"pictures": drawn}))
    assert section(hostile) == section(clean)


# --- Hills ----------------------------------------------------------------------------------------


def layer(first: int, *counts: int, zeros: int = 0, not_finite: int = 0) -> Sizes:
    return Sizes(first=first, counts=counts, zeros=zeros, not_finite=not_finite)


def arm(name: Any, *layers: Sizes) -> Arm:
    return Arm(
        initialization=name,
        activations=layers,
        gradients=layers,
        weights=layers,
        weight_gradients=layers,
    )


def before(*arms: Arm) -> BeforeTraining:
    count = len(arms[0].weights)
    return BeforeTraining(widths=(4,) * (count + 1), features=2, inputs=8, arms=arms)


def middles(found: hills.Row, panel: int, kind: str) -> list[float]:
    """Where the summits of a panel's hills stand, from left to right."""
    svg = str(found.panels[panel].svg)
    (path,) = re.findall(rf'<path class={kind} d="([^"]*)"', svg)
    places: list[float] = []
    for hill in path.split("M")[1:]:
        x, y, *steps = numbers_of(hill.replace("-", " -"))
        points = [(x, y)]
        for dx, dy in zip(steps[::2], steps[1::2], strict=True):
            points.append((points[-1][0] + dx, points[-1][1] + dy))
        top = min(y for _, y in points)
        summits = [x for x, y in points if y == top]
        assert points[-1][1] == points[0][1]
        places.append(sum(summits) / len(summits))
    return places


def test_hills_stand_where_their_values_are() -> None:
    grey = arm("classical net", layer(-2, 1, 8, 1), layer(-2, 1, 8, 1))
    same = arm("hyperfan-in", layer(-2, 1, 8, 1), layer(-2, 1, 8, 1))
    grown = arm("fan-in", layer(3, 1, 8, 1), layer(8, 1, 8, 1))
    row, *_ = hills.rows(before(same, grown, grey))
    assert [panel.name for panel in row.panels] == ["hyperfan-in", "fan-in (Kaiming)"]
    ground = middles(row, 0, "behind")
    assert middles(row, 0, "kept") == ground
    first, second = middles(row, 1, "classic")
    assert first - ground[0] == pytest.approx(second - first, abs=2)  # a factor of ten each
    assert first > ground[0] + 50
    assert "Middle size by layer: 0.79, 0.79." in str(row.panels[0].svg)
    assert "Middle size by layer: 7.9, 79." in str(row.panels[1].svg)


def test_a_layer_of_zeros_or_of_nothing_finite_leaves_no_hill() -> None:
    dead, lost = layer(0, zeros=32), layer(0, not_finite=32)
    row, *_ = hills.rows(
        before(arm("fan-in", dead, lost, layer(4, 9)), arm("classical net", *[dead] * 3))
    )
    (panel,) = row.panels
    assert len(middles(row, 0, "classic")) == 1
    assert panel.remark == "32 values not finite"
    assert "Middle size by layer: none, none, 7.9." in str(panel.svg)
    nothing, *_ = hills.rows(before(arm("harmonic", dead)))
    assert "NaN" not in str(nothing.panels[0].svg)


def test_values_worlds_apart_still_fit_the_panel() -> None:
    row, *_ = hills.rows(
        before(arm("fan-in", layer(-2000, 5), layer(2000, 5), layer(0, *[1] * 4096)))
    )
    (svg,) = (str(panel.svg) for panel in row.panels)
    assert max(middles(row, 0, "classic")) <= 420
    assert len(svg) < 12_000


# --- Typical nets ---------------------------------------------------------------------------------


def chain(*medians: float, mean: float = 1.0, error: float = 0.01) -> Typical:
    layers = tuple(
        TypicalLayer(
            predicted=1, mean=mean, standard_error=error, quartiles=(m / 2, m, 2 * m), below=7
        )
        for m in medians
    )
    return Typical(method="hyperfan-in", width=12, features=2, nets=10, layers=layers)


def heights(svg: str, kind: str) -> list[float]:
    (path,) = re.findall(rf'<path class={kind} d="([^"]*)"', svg)
    return numbers_of(path)[1::2]


def test_the_median_falls_where_the_mean_stays() -> None:
    narrow, wide = typical.panels([chain(0.5, 0.2, 0.1), chain(1.0, 0.9, 0.9)])
    fall = heights(str(narrow.svg), "median")
    assert fall == sorted(fall)  # downwards, on a screen
    assert fall[0] < fall[-1]
    assert set(heights(str(narrow.svg), "level")) == {fall[0]}
    assert set(heights(str(narrow.svg), "level")) == set(heights(str(wide.svg), "level"))
    assert heights(str(wide.svg), "median")[-1] < fall[-1]
    assert narrow.sentence == (
        "10 nets of width 12: after 3 layers 70\N{NO-BREAK SPACE}% of them lie below the predicted mean, and "
        "the median net is at 0.10; the measured mean is more than two standard errors off in 0 of 3 layers, "
        "which go together."
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, 1e-300, 1e300])
def test_any_number_can_be_drawn(value: float) -> None:
    (panel,) = typical.panels([chain(value, mean=value, error=abs(value))])
    coordinates = [
        number
        for path in re.findall(r' d="([^"]*)"', str(panel.svg))
        for number in numbers_of(path)
    ]
    assert all(0 <= number <= 600 for number in coordinates)
    assert "nan" not in re.findall(r' d="([^"]*)"', str(panel.svg))


# --- Maps -----------------------------------------------------------------------------------------


def pair(predicted: list[list[float]], measured: list[list[float]], error: float) -> BorderMap:
    rows = tuple(map(tuple, predicted))
    return BorderMap(
        quantity="activations",
        method="hyperfan-in",
        after=1,
        stride=1,
        nets=100,
        predicted=rows,
        measured=tuple(map(tuple, measured)),
        standard_error=tuple(tuple(error for _ in row) for row in rows),
    )


def test_every_cell_has_its_value_and_equal_values_one_shade(drawn: Pictures) -> None:
    for found in drawn.borders:
        shown = border_maps.heat_map(found)
        for (_, svg), rows in zip(shown.panels, (found.predicted, found.measured), strict=True):
            cells = re.findall(r"<text x=\d+ y=\d+>([^<]+)</text>", str(svg))
            assert cells == [f"{value:.2f}" for row in rows for value in row]
            squares = sum(path.count("M") for path in re.findall(r' d="([^"]*)"', str(svg)))
            assert squares == len(cells)


def test_shades_deepen_with_what_is_missing() -> None:
    assert [border_maps.shade(v) for v in (1.0, 1.04, 0.96, 0.667, 4 / 9, 0.11, 0.0)] == [
        "v0", "v0", "v0", "v3", "v6", "v9", "v9",
    ]  # fmt: skip
    assert [border_maps.shade(v) for v in (1.2, math.inf, math.nan)] == ["over"] * 3


def test_the_sentence_counts_the_positions_that_are_far() -> None:
    ones = [[1.0, 1.0], [1.0, 1.0]]
    right = border_maps.heat_map(pair(ones, [[1.01, 0.99], [1.0, 1.019]], 0.01)).measured
    assert right.startswith("Measured over 100 nets, standard errors 0.01 to 0.01. None of 4 ")
    wrong = border_maps.heat_map(pair(ones, [[1.03, 0.9], [1.0, math.nan]], 0.01))
    assert "3 of 4 positions lie more than two of them from the prediction" in wrong.measured
    assert "?" in str(wrong.panels[1][1])
