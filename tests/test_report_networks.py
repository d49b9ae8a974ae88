"""Networks in the report: Python that runs and builds the same network, and a drawing of it."""

from __future__ import annotations

import ast
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from synthetic import HOSTILE

from hyperverify.report import networks
from hyperverify.specs import ChunkSpec, EmbeddingSpec, HypernetSpec, LayerSpec, TrunkLayerSpec
from hyperverify.strategies import hypernets

SPECS = {
    "everything": HypernetSpec(
        layers=(LayerSpec(6, 8, relu=True, bias=True), LayerSpec(8, 4, bias=True)),
        embedding=EmbeddingSpec(5, "normal", "4/3", "1/2"),  # pyright: ignore[reportArgumentType]
        method="small",
        sigma2="1/7",  # pyright: ignore[reportArgumentType]
        distribution="normal",
        trunk=(TrunkLayerSpec(7, relu=True), TrunkLayerSpec(6)),
        bias_embedding=EmbeddingSpec(3, "rademacher"),
        bias_trunk=(TrunkLayerSpec(4),),
        input="rademacher",
    ),
    "convolutions": HypernetSpec(
        layers=(
            LayerSpec(4, 8, (3, 3), (2, 2), (1, 1), groups=2, padding_mode="circular"),
            LayerSpec(8, 8, (3, 1), dilation=(2, 1), relu=True),
        ),
        embedding=EmbeddingSpec(5),
        method="hyperfan-out",
        input_size=(16, 12),
    ),
    "chunks": HypernetSpec(
        layers=(LayerSpec(8, 8), LayerSpec(8, 8)),
        embedding=EmbeddingSpec(4),
        method="hyperfan-in",
        output="chunked",
        chunk=ChunkSpec(4, 5),
    ),
    "deep": HypernetSpec(
        layers=(LayerSpec(16, 16, relu=True),) * 40,
        embedding=EmbeddingSpec(4),
        method="hyperfan-in",
        output="shared",
        embeddings="one",
        batch=3,
        flow="layerwise",
    ),
}


def run(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(code, "snippet", "exec"), names)  # noqa: S102 - what a reader would paste
    return names


@pytest.mark.parametrize("name", SPECS)
def test_the_snippet_runs_and_builds_the_network(name: str) -> None:
    spec = SPECS[name]
    code = networks.snippet(spec)
    names = run(code)
    assert names["spec"] == spec
    assert names["net"].spec == spec
    last = spec.layers[-1].out_channels
    assert tuple(names["y"].shape) == (spec.batch, last, *spec.sizes[-1])
    assert torch.isfinite(names["y"]).all()
    assert max(map(len, code.splitlines())) < 130


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(hypernets())
def test_every_snippet_says_the_specification(spec: HypernetSpec) -> None:
    code = networks.snippet(spec)
    built = run(code.partition("\nnet = ")[0])
    assert built["spec"] == spec
    imported = {
        alias.name
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert all(f"{name}(" in code for name in imported)  # nothing is imported in vain


def test_what_is_said_anyway_is_left_out() -> None:
    code = networks.snippet(SPECS["deep"])
    assert "*[LayerSpec(16, 16, relu=True)] * 40," in code
    for word in ("stride", "padding", "distribution", "sigma2", "None"):
        assert word not in code


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"layers": 7},
        {"layers": [{"in_channels": HOSTILE, "out_channels": 3}], "embedding": {"dim": 2}, "method": "M3"},
        {**SPECS["chunks"].to_dict(), "method": HOSTILE},
        {**SPECS["chunks"].to_dict(), HOSTILE: 1},
        {**SPECS["chunks"].to_dict(), "embedding": [3]},
        {**SPECS["everything"].to_dict(), "sigma2": "__import__('os')"},
    ],
    ids=lambda spec: str(len(str(spec))),
)  # fmt: skip
def test_a_specification_of_another_make_becomes_no_code(spec: dict[str, Any]) -> None:
    assert networks.parsed(spec) is None


def test_a_stored_specification_is_read_back() -> None:
    for spec in SPECS.values():
        assert networks.parsed(spec.to_dict()) == spec


def test_the_drawing_names_every_dimension() -> None:
    drawn = networks.diagram(SPECS["everything"])
    lines = [(box.title, box.line) for box in drawn.boxes]
    assert lines == [
        ("e", "5"), ("ReLU", "7"), ("hidden", "6"), ("output layers H", "n_W × 6"),
        ("e for biases", "3"), ("hidden", "4"), ("output layer G", "d_l 4"),
        ("x", "6"), ("W1, b", "8×6, ReLU"), ("W2, b", "4×8"),
    ]  # fmt: skip
    for title, line in lines:
        assert f"{title} ({line})" in drawn.words


def test_a_deep_network_is_drawn_short() -> None:
    drawn = networks.diagram(SPECS["deep"])
    titles = [box.title for box in drawn.boxes if box.kind in {"layer", "more"}]
    assert titles == ["W1", "W2", "W3", "…", "W40"]
    assert ("…", "36 more") in [(box.title, box.line) for box in drawn.boxes]


@pytest.mark.parametrize("name", SPECS)
def test_boxes_stand_apart_and_inside_the_drawing(name: str) -> None:
    drawn = networks.diagram(SPECS[name])
    places = {(box.x, box.y) for box in drawn.boxes}
    assert len(places) == len(drawn.boxes)
    assert max(x for x, _ in places) < drawn.width
    assert max(y for _, y in places) < drawn.height
