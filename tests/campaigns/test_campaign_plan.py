"""A plan says what it means, and what it may not say is refused in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from campaign_plans import TINY, a_plan

from hyperverify.campaigns.families import Family
from hyperverify.campaigns.grids import Grid
from hyperverify.campaigns.plan import Plan, plan_of, read_plan
from hyperverify.campaigns.prepared import networks, prepare
from hyperverify.catalogue import claims_of
from hyperverify.catalogue.suites import studies
from hyperverify.errors import HyperverifyError

GRID = '[[grid]]\nmethod = "M3"\nwidths = [3, 4]\n'

BAD = {
    "": "it has no networks; allowed: a [[grid]], [[random]] or [[suite]]",
    "colour = 1": "colour is an unknown key; allowed: name, tolerance",
    "grid = [3]": "grid[0] is 3; allowed: a table, under [[grid]]",
    "dtypes = 'float32'\n" + GRID: "dtypes is 'float32'; allowed: a list",
    "grid = 3": "grid is 3; allowed: a list",
    "name = 'a/b'\n" + GRID: "name is 'a/b'; allowed: 1 to 60 letters",
    "tolerance = 0.9\n" + GRID: "tolerance is 0.9; allowed: a number from 0.002 to 0.5",
    "tolerance = nan\n" + GRID: "tolerance is nan; allowed: a number from 0.002 to 0.5",
    "alpha = true\n" + GRID: "alpha is True; allowed: a number",
    "beta = 0\n" + GRID: "beta is 0.0; allowed: a number from 1e-15 to 0.1",
    "seeds = []\n" + GRID: "seeds is []; allowed: a list of integers",
    "seeds = [-1]\n" + GRID: "seeds is [-1]; allowed: integers from 0",
    "seeds = [1, 1]\n" + GRID: "seeds[1] is 1; allowed: each value once",
    "seeds = { count = 0 }\n" + GRID: "seeds is {'count': 0}; allowed: a count of at least 1",
    "seeds = { first = 1 }\n" + GRID: "seeds is {'first': 1}; allowed: a list of integers",
    "dtypes = ['float8']\n" + GRID: "dtypes[0] is 'float8'; allowed: one of float64",
    "dtypes = []\n" + GRID: "dtypes is []; allowed: at least 1 item(s)",
    "devices = ['tpu']\n" + GRID: "devices[0] is 'tpu'; allowed: one of auto, cpu, cuda",
    "devices = ['auto']\n" + GRID: "devices[0] is 'auto'; allowed: cpu or cuda",
    "backends = ['jit']\n" + GRID: "backends[0] is 'jit'; allowed: one of eager, compile",
    "rules = ['T9']\n" + GRID: "rules is 'T9'; allowed: one of",
    "quantities = ['weight']\n" + GRID: "quantities[0] is 'weight'; allowed: one of",
    "[[grid]]\nmethod = 'M3'": "grid[0].widths is missing; it is required",
    GRID + "hue = 1": "grid[0].hue is an unknown key; allowed: label, method, widths",
    GRID.replace("M3", "M9"): "grid[0].method[0] is 'M9'; allowed: one of hyperfan-in",
    GRID.replace("[3, 4]", "[3, 0]"): "grid[0].widths[0][1] is 0; allowed: an integer from 1",
    GRID.replace("[3, 4]", "[3]"): "grid[0].widths[0] is [3]; allowed: at least 2 item(s)",
    GRID + "relu = 'some'": "grid[0].relu[0] is 'some'; allowed: one of none, all, hidden, first",
    GRID + "bias = 1": "grid[0].bias[0] is 1; allowed: true or false",
    GRID + "trunk = ['x']": "grid[0].trunk[0][0] is 'x'; allowed: a width such as 10",
    GRID + "second_moment = 0": "grid[0].second_moment[0] is 0; allowed: a number above 0",
    GRID + "kernel = [3, 3, 3]": "grid[0].kernel is [3, 3, 3]; allowed: [] for dense layers",
    "[[random]]\nseed = 1": "random[0].count is missing; it is required",
    "[[random]]\ncount = 0": "random[0].count is 0; allowed: a number of at least 1",
    "[[random]]\ncount = 2\nwidth = [5, 2]": "random[0].width is [5, 2]; allowed: [least, most]",
    "[[random]]\ncount = 2\ntrunk = 2": "random[0].trunk is 2; allowed: a number from 0 to 1",
    "[[suite]]\nname = 'slow'": "suite[0].name is 'slow'; allowed: one of quick, standard",
}  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_a_bad_plan_is_refused_by_field_value_and_what_is_allowed(
    text: str, tmp_path: Path
) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(HyperverifyError) as caught:
        read_plan(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: {BAD[text]}")
    assert "\n" not in message
    assert "allowed:" in message or "required" in message


COMBINED = {
    "[[grid]]\nmethod = ['M4', 'M3']\nwidths = [3, 4]\nbias = [true, false]": (
        "grid[0]: method = 'M4', bias = true: bias is True; allowed: False under method M4"
    ),
    "[[grid]]\nmethod = 'orthogonal'\nwidths = [3, 4]": "grid[0]: distribution is 'uniform'; allowed",
    "[[random]]\ncount = 1\nmethod = 'M3'\noutput = 'chunked'": "random[0]: 200 draws made no network",
    "rules = ['A2.H']\n" + GRID: "the plan has no check of its rules and quantities; allowed:",
}  # fmt: skip


@pytest.mark.parametrize("text", COMBINED)
def test_a_combination_that_is_no_network_is_named(text: str) -> None:
    with pytest.raises(HyperverifyError) as caught:
        prepare(a_plan(text))
    assert str(caught.value).startswith(COMBINED[text])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x = ", "is not TOML"),
        (b"\xff", "is not UTF-8 text (byte 0)"),
        (b"#" * 1_000_001, "is larger than"),
    ],
)
def test_a_file_that_is_no_plan_is_told(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "plan.toml"
    path.write_bytes(content)
    with pytest.raises(HyperverifyError, match=message.replace("(", r"\(").replace(")", r"\)")):
        read_plan(path)
    with pytest.raises(HyperverifyError, match="does not exist"):
        read_plan(tmp_path / "none.toml")
    with pytest.raises(HyperverifyError, match="not a folder"):
        read_plan(tmp_path)


def test_the_hash_is_of_the_meaning() -> None:
    plan = a_plan()
    head, grid = TINY.split("\n[[grid]]", 1)
    moved = "\n".join(reversed(head.strip().splitlines())) + "\n# a remark\n[[grid]]" + grid
    assert a_plan(moved).sha256 == plan.sha256
    for change in (
        ("0.5", "0.4"),
        ("[0, 7]", "[0, 8]"),
        ("tiny", "tinier"),
        ("count = 2", "count = 3"),
    ):
        assert a_plan(TINY.replace(*change)).sha256 != plan.sha256


def test_a_plan_survives_json() -> None:
    for text in (
        TINY,
        "seeds = { count = 3 }\n" + GRID + "trunk = [[], [4, '5 relu']]\nsigma2 = '1/3'",
    ):
        plan = a_plan(text)
        again = plan_of(json.loads(plan.model_dump_json()))
        assert again == plan
        assert again.sha256 == plan.sha256


def test_a_network_has_each_combination_once() -> None:
    text = "seeds = { first = 3, count = 2 }\ndtypes = ['float32', 'float64']\n" + GRID
    plan = a_plan(text)
    found = [plan.axis(number) for number in range(plan.axes)]
    assert found == [
        (3, "cpu", "float32", "eager"),
        (3, "cpu", "float64", "eager"),
        (4, "cpu", "float32", "eager"),
        (4, "cpu", "float64", "eager"),
    ]


def test_a_grid_crosses_its_lists_and_the_last_moves_fastest() -> None:
    plan = a_plan(
        "[[grid]]\nmethod = ['hyperfan-in', 'M3']\nwidths = [[3, 4], [4, 5]]\nbias = [false, true]"
    )
    found = [
        (study.spec.method, study.spec.layers[0].in_channels, study.spec.has_biases)
        for study in networks(plan)
    ]
    assert found == [
        (method, width, bias)
        for method in ("hyperfan-in", "M3")
        for width in (3, 4)
        for bias in (False, True)
    ]
    assert len(plan.grid[0]) == len(found)


def test_relu_goes_where_it_is_asked_for() -> None:
    plan = a_plan(
        "[[grid]]\nmethod = 'M3'\nwidths = [3, 4, 5]\nrelu = ['none', 'all', 'hidden', 'first']"
    )
    found = [tuple(layer.relu for layer in study.spec.layers) for study in networks(plan)]
    assert found == [(False, False), (True, True), (True, False), (True, False)]


def test_a_suite_is_the_suite_of_a_run() -> None:
    found = list(networks(a_plan("[[suite]]\nname = 'quick'")))
    assert found == studies("quick")


# --- Random families. --------------------------------------------------------------------------------


def test_a_network_of_a_family_depends_on_seed_and_number_alone() -> None:
    short, long = (Family(count=count, seed=3, kind=["linear", "conv"]) for count in (5, 12))
    first = [study.spec for study in short.studies()]
    assert [study.spec for study in long.studies()][:5] == first
    assert [study.spec for study in short.studies()] == first
    assert long.spec(11) == list(long.studies())[11].spec
    assert [study.spec for study in Family(count=5, seed=4).studies()] != first


def test_a_family_keeps_to_its_lists_and_ranges_and_uses_them_all() -> None:
    family = Family(
        count=120,
        method=["hyperfan-in", "hyperfan-out"],
        kind=["linear", "conv"],
        output=["own", "shared", "chunked"],
        layers=[2, 3],
        width=[4, 8],
        embedding_dim=[3, 5],
        relu=0,
    )
    specs = [study.spec for study in family.studies()]
    assert {spec.method for spec in specs} == {"hyperfan-in", "hyperfan-out"}
    assert {spec.kind for spec in specs} == {"linear", "conv"}
    assert {spec.output for spec in specs} == {"own", "shared", "chunked"}
    assert {len(spec.layers) for spec in specs} == {2, 3}
    assert {spec.embedding.dim for spec in specs} == {3, 4, 5}
    assert not any(layer.relu for spec in specs for layer in spec.layers)
    # a chunk's multiple may lie one chunk beyond the range
    assert all(1 <= layer.in_channels <= 12 for spec in specs for layer in spec.layers)
    assert all(claims_of(spec) for spec in specs)


# --- Counted before anything is drawn. ---------------------------------------------------------------


def test_every_check_is_counted_and_paid_for() -> None:
    plan = a_plan()
    prepared = prepare(plan)
    specs = {study.spec.digest: study.spec for study in networks(plan)}
    checks = plan.axes * sum(len(claims_of(spec)) for spec in specs.values())
    assert prepared.totals.networks == len(specs) == 6
    assert prepared.totals.units == 6 * 2 * 2
    assert prepared.totals.checks == checks
    assert prepared.levels.alpha == plan.alpha / checks
    assert prepared.levels.p_inconclusive == plan.alpha / checks


def test_a_network_that_comes_twice_is_run_once() -> None:
    prepared = prepare(a_plan(GRID + GRID))
    assert (prepared.totals.networks, prepared.totals.repeated) == (1, 1)


def test_only_the_rules_and_quantities_asked_for_are_counted() -> None:
    every = prepare(a_plan(GRID + "[[grid]]\nmethod = 'hyperfan-in'\nwidths = [3, 4]"))
    text = "rules = ['M3']\nquantities = ['weights']\n"
    some = prepare(a_plan(text + GRID + "[[grid]]\nmethod = 'hyperfan-in'\nwidths = [3, 4]"))
    assert (some.totals.networks, some.totals.idle, some.totals.checks) == (1, 1, 1)
    assert every.totals.networks == 2


def test_a_net_that_overflows_its_dtype_is_refused_before_the_start() -> None:
    text = (
        "dtypes = ['float32']\n[[grid]]\nmethod = 'small'\nsigma2 = 1000000\nbias = true\n"
        "widths = [" + ", ".join(["8"] * 20) + "]"
    )
    with pytest.raises(HyperverifyError, match="leave the range of"):
        prepare(a_plan(text))


# --- The documentation. ------------------------------------------------------------------------------

DOCS = Path(__file__).parents[2] / "docs"


def test_the_example_is_a_plan_and_the_page_prints_its_dry_run() -> None:
    plan = read_plan(DOCS / "examples" / "campaign.toml")
    totals = prepare(plan).totals
    page = (DOCS / "campaigns.md").read_text(encoding="utf-8")
    assert f"plan       {plan.name}, {plan.sha256[:12]}\n" in page
    assert f"networks   {totals.networks}\nunits      {totals.units} = " in page
    assert f"checks     {totals.checks:,}\n" in page


def test_the_tables_of_the_page_are_plans_and_it_names_every_key() -> None:
    page = (DOCS / "campaigns.md").read_text(encoding="utf-8")
    tables = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(tables) == 2
    for text in tables:
        assert next(networks(a_plan(text))).claims()
    for model in (Plan, Grid, Family):
        for key in model.model_fields:
            assert re.search(rf"`{key}`|^{key} = |`\[\[{key}\]\]`", page, re.MULTILINE), key
