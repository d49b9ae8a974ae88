"""The public strategies: what they can draw, that nothing is thrown away, and what they shrink to."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from fractions import Fraction
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, find, given, seed, settings
from hypothesis import strategies as st
from hypothesis.statistics import collector

from hyperverify import strategies
from hyperverify.catalogue import claims_of
from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.moments import taps
from hyperverify.nets import Hypernet
from hyperverify.plan import plan
from hyperverify.sampling import DTYPES
from hyperverify.specs import (
    DISTRIBUTIONS,
    EMBEDDING_DISTRIBUTIONS,
    METHODS,
    ChunkSpec,
    EmbeddingSpec,
    HypernetSpec,
    LayerSpec,
    TrunkLayerSpec,
)
from hyperverify.strategies import (
    chunked_hypernets,
    conv_hypernets,
    dense_hypernets,
    hypernets,
    shared_hypernets,
)
from hyperverify.strategies.bounds import BoundArguments, Bounds

SEARCH = settings(database=None, derandomize=True, max_examples=3000, deadline=None)
QUIET = list(HealthCheck)
SORTS = {
    "dense": dense_hypernets,
    "conv": conv_hypernets,
    "shared": shared_hypernets,
    "chunked": chunked_hypernets,
    "any": hypernets,
}
CONV_1D = partial(conv_hypernets, max_dims=1)
Predicate = Callable[[HypernetSpec], bool]


def drawn(strategy: st.SearchStrategy[Any], examples: int) -> tuple[list[Any], Counter[str]]:
    """Random draws of a strategy, and the statuses in Hypothesis's own statistics.

    A draw that is filtered away counts as "invalid". "overrun" is a trial that Hypothesis cut short
    of its own accord, as it does with every strategy that varies in length.
    """
    found: list[Any] = []
    phases: list[dict[str, Any]] = []

    @seed(0)
    @settings(
        database=None,
        deadline=None,
        max_examples=examples,
        suppress_health_check=QUIET,
        phases=[Phase.generate],
    )
    @given(strategy)
    def ask(value: object) -> None:
        found.append(value)

    with collector.with_value(phases.append):
        ask()
    (statistics,) = phases
    return found, Counter(case["status"] for case in statistics["generate-phase"]["test-cases"])


def reachable(strategy: st.SearchStrategy[Any], predicate: Callable[[Any], bool]) -> Any:
    """A draw, not shrunk, that satisfies the predicate."""
    reach = settings(SEARCH, phases=[Phase.generate])
    return find(strategy, predicate, settings=reach)


# --- every branch can be drawn ----------------------------------------------------------------

ANY_LAYER: dict[str, Callable[[LayerSpec], bool]] = {
    "linear": lambda layer: layer.kind == "linear",
    "1-d": lambda layer: len(layer.kernel) == 1,
    "2-d": lambda layer: len(layer.kernel) == 2,
    "a kernel that is not square": lambda layer: len(set(layer.kernel)) == 2,
    "the largest kernel": lambda layer: layer.kernel == (3, 3),
    "stride": lambda layer: max(layer.stride, default=1) > 1,
    "padding": lambda layer: max(layer.padding, default=0) == 2,
    "dilation that spreads a kernel": lambda layer: any(
        d > 1 and k > 1 for d, k in zip(layer.dilation, layer.kernel, strict=True)
    ),
    "circular padding": lambda layer: (
        layer.padding_mode == "circular" and max(layer.padding) > 0 and max(layer.kernel) > 1
    ),
    "groups": lambda layer: 1 < layer.groups < min(layer.in_channels, layer.out_channels),
    "depthwise": lambda layer: 1 < layer.groups == layer.in_channels < layer.out_channels,
    "relu": lambda layer: layer.relu,
    "no relu": lambda layer: not layer.relu,
    "a generated bias": lambda layer: layer.bias,
    "no bias": lambda layer: not layer.bias,
    "narrow to wide": lambda layer: layer.in_channels == 1 and layer.out_channels == 12,
    "wide to narrow": lambda layer: layer.in_channels == 12 and layer.out_channels == 1,
}


@pytest.mark.parametrize("name", ANY_LAYER)
def test_every_sort_of_layer_can_be_drawn(name: str) -> None:
    assert ANY_LAYER[name](reachable(strategies.layers(), ANY_LAYER[name]))


def both(values: list[bool]) -> bool:
    return len(set(values)) == 2


ANY_SPEC: dict[str, tuple[str, Predicate]] = {
    "one layer": ("any", lambda s: len(s.layers) == 1),
    "three layers": ("any", lambda s: len(s.layers) == 3),
    "relu layer by layer": ("any", lambda s: both([layer.relu for layer in s.layers])),
    "bias layer by layer": ("any", lambda s: both([layer.bias for layer in s.layers])),
    "biases from h": ("any", lambda s: s.has_biases and s.bias_embedding is None),
    "biases from their own trunk": ("any", lambda s: len(s.bias_trunk) == 2),
    "biases from a constant": (
        "any",
        lambda s: s.bias_embedding is not None and s.bias_embedding.distribution == "constant",
    ),
    "no trunk": ("any", lambda s: not s.trunk),
    "a trunk with relu": ("any", lambda s: any(layer.relu for layer in s.trunk)),
    "a linear trunk": (
        "any",
        lambda s: len(s.trunk) == 2 and not any(layer.relu for layer in s.trunk),
    ),
    "a mean": ("any", lambda s: s.embedding.mean > 0),
    "a negative mean": ("any", lambda s: s.embedding.mean < 0),
    "a second moment": ("any", lambda s: s.embedding.second_moment not in (1, 2)),
    "one embedding": ("any", lambda s: s.embeddings == "one"),
    "layerwise": ("any", lambda s: s.flow == "layerwise"),
    "rademacher inputs": ("any", lambda s: s.input == "rademacher"),
    "dense batch": ("dense", lambda s: s.batch == 4),
    "conv batch": ("conv", lambda s: s.batch > 1),
    "shared batch": ("shared", lambda s: s.batch > 1),
    "chunked batch": ("chunked", lambda s: s.batch > 1),
    "shared by all": (
        "shared",
        lambda s: len(s.layers) == 3 and {s.output_group(t) for t in range(3)} == {0},
    ),
    "shared by some": (
        "shared",
        lambda s: {s.output_group(t) for t in range(len(s.layers))} == {0, 1},
    ),
    "shared convolutions": ("shared", lambda s: s.kind == "conv" and 3 in s.layers[1].kernel),
    "shared, placed differently": (
        "shared",
        lambda s: s.kind == "conv" and s.layers[0].stride != s.layers[1].stride,
    ),
    "shared circular": (
        "shared",
        lambda s: all(layer.padding_mode == "circular" for layer in s.layers),
    ),
    "shared by relu and linear": (
        "shared",
        lambda s: (
            s.method == "small"
            and s.output_group(1) == 0
            and both([layer.relu for layer in s.layers])
        ),
    ),
    "tiled along outputs": (
        "chunked",
        lambda s: s.chunk is not None and s.chunk.size > 1 and s.chunk.branch(s.layers[0]) == "i",
    ),
    "tiled along inputs": (
        "chunked",
        lambda s: s.chunk is not None and s.chunk.branch(s.layers[0]) == "j",
    ),
    "tiled both ways": (
        "chunked",
        lambda s: both([s.chunk is not None and s.chunk.branch(x) == "i" for x in s.layers]),
    ),
    "chunks of 4": ("chunked", lambda s: s.chunk is not None and s.chunk.size == 4),
    "chunked convolutions": (
        "chunked",
        lambda s: len(s.layers) > 1 and math.prod(s.layers[0].kernel) > 3,
    ),
}


@pytest.mark.parametrize("name", ANY_SPEC)
def test_every_sort_of_hypernet_can_be_drawn(name: str) -> None:
    sort, predicate = ANY_SPEC[name]
    assert predicate(reachable(SORTS[sort](), predicate))


def test_every_name_can_be_drawn() -> None:
    found: list[HypernetSpec] = drawn(hypernets(), 600)[0]
    assert {spec.method for spec in found} == set(METHODS)
    assert {spec.distribution for spec in found} == set(DISTRIBUTIONS)
    assert {spec.embedding.distribution for spec in found} == set(EMBEDDING_DISTRIBUTIONS)
    assert {(spec.output, spec.kind) for spec in found} == {
        (output, kind) for output in ("own", "shared", "chunked") for kind in ("linear", "conv")
    }
    assert set(drawn(strategies.dtypes(), 50)[0]) == set(DTYPES)
    assert set(drawn(strategies.distributions(), 50)[0]) == set(DISTRIBUTIONS)
    assert set(drawn(strategies.methods(), 400)[0]) == set(METHODS)
    without = set(drawn(strategies.methods(bias=True), 400)[0])
    assert set(METHODS) - without == {"M4", "orthogonal"}
    chunked = set(drawn(strategies.methods(output="chunked"), 50)[0])
    assert chunked == {"hyperfan-in", "hyperfan-out"}


# --- draws are valid, usable and within bounds ------------------------------------------------


@pytest.mark.parametrize("sort", SORTS)
def test_nothing_is_thrown_away_and_every_draw_is_usable(sort: str) -> None:
    found, statuses = drawn(SORTS[sort](), 80)
    assert statuses["invalid"] == 0
    assert statuses["valid"] == len(found) == 80
    for spec in found:
        again = HypernetSpec.from_dict(json.loads(spec.canonical_json()))
        assert again == spec
        assert again.digest == spec.digest
        net = Hypernet(spec)
        assert {name for name, _ in net.named_parameters()} == set(plan(spec))
        x = torch.randn(2, spec.layers[0].in_channels, *spec.input_size)
        with torch.no_grad():
            y = net(x)
        assert y.shape == (2, spec.layers[-1].out_channels, *spec.sizes[-1])
        assert torch.isfinite(y).all()


@pytest.mark.parametrize("sort", SORTS)
def test_every_draw_has_claims(sort: str) -> None:
    for spec in drawn(SORTS[sort](), 80)[0]:
        assert claims_of(spec), spec.canonical_json()


def within(spec: HypernetSpec, bounds: Bounds) -> bool:
    layers = spec.layers
    widths = [layers[0].in_channels, *(layer.out_channels for layer in layers)]
    hidden = [spec.feature_dim, spec.embedding.dim, *(layer.width for layer in spec.trunk)]
    hidden += [layer.width for layer in spec.bias_trunk]
    hidden += [spec.bias_embedding.dim] if spec.bias_embedding else []
    entries = max(layer.n_weights for layer in layers) * spec.feature_dim
    if spec.chunk is not None:
        most = max(spec.chunk.count(layer) for layer in layers)
        entries = max(
            spec.chunk.size * math.prod(layers[0].kernel) * spec.chunk.hidden,
            most * spec.chunk.hidden * spec.embedding.dim,
        )
    sizes = [extent for size in spec.sizes for extent in size]
    conv = [layer for layer in layers if layer.kernel]
    return (
        bounds.min_depth <= len(layers) <= bounds.max_depth
        and all(bounds.min_width <= width <= bounds.max_width for width in widths)
        and all(bounds.min_features <= width <= bounds.max_features for width in hidden)
        and max(len(spec.trunk), len(spec.bias_trunk)) <= bounds.max_trunk
        and spec.batch <= bounds.max_batch
        and entries <= bounds.max_entries
        and all(bounds.min_size <= extent <= bounds.max_size for extent in spec.input_size)
        and all(extent <= bounds.max_size for extent in sizes)
        and all(bounds.min_dims <= len(layer.kernel) <= bounds.max_dims for layer in conv)
        and all(max(layer.kernel) <= bounds.max_kernel for layer in conv)
        and all(max(layer.stride) <= bounds.max_stride for layer in conv)
        and all(max(layer.padding) <= bounds.max_padding for layer in conv)
        and all(max(layer.dilation) <= bounds.max_dilation for layer in conv)
        and all(layer.groups <= bounds.max_groups for layer in conv)
        and all(layer.padding_mode in bounds.padding_modes for layer in conv)
        and (spec.chunk is None or spec.chunk.size <= bounds.max_chunk)
    )


BOUNDS: dict[str, BoundArguments] = {
    "default": {},
    "tiny": {"max_width": 1, "max_depth": 1, "max_features": 1, "max_size": 1, "max_entries": 1},
    "wide": {"min_width": 5, "max_width": 9, "min_features": 3, "max_features": 5},
    "deep": {"min_depth": 4, "max_depth": 5, "max_width": 4},
    "scarce": {"max_width": 30, "max_features": 30, "max_entries": 60, "max_kernel": 5},
    "scarce and wide": {"min_width": 4, "min_features": 2, "max_entries": 64},
    "circular": {"padding_modes": ["circular"], "max_kernel": 4, "max_depth": 4, "max_dilation": 3},
    "circular, unpadded": {"padding_modes": ["circular"], "max_padding": 0, "max_depth": 4},
    "circular, small": {"padding_modes": ["circular"], "max_size": 2, "max_stride": 3},
    "valid": {"max_padding": 0, "min_depth": 3, "max_dilation": 3},
    "one position": {"max_size": 1, "max_padding": 2},
    "two positions": {"max_size": 2, "max_padding": 3, "max_kernel": 5, "max_dilation": 3},
    "strides": {"max_stride": 4, "min_size": 5, "max_size": 7, "min_dims": 2},
    "one dimension, no groups": {"max_dims": 1, "max_groups": 1, "max_batch": 1, "max_trunk": 0},
    "odd chunks": {"min_width": 5, "max_width": 7, "max_chunk": 7},
}


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds_are_kept(name: str) -> None:
    bounds = Bounds(**BOUNDS[name])
    found, statuses = drawn(hypernets(**BOUNDS[name]), 50)
    assert statuses["invalid"] == 0
    assert len(found) == 50
    for spec in found:
        assert within(spec, bounds), spec.canonical_json()


def test_choices_are_kept() -> None:
    found, _ = drawn(
        hypernets(
            kinds=["conv"],
            outputs=["shared"],
            methods=["fan-in", "small"],
            distributions=["normal"],
            flows=["layerwise"],
            inputs=["rademacher"],
            relu=True,
            bias=True,
            means=False,
        ),
        50,
    )
    for spec in found:
        assert (spec.kind, spec.output, spec.distribution) == ("conv", "shared", "normal")
        assert (spec.flow, spec.input) == ("layerwise", "rademacher")
        assert spec.method in ("fan-in", "small")
        assert all(layer.relu and layer.bias for layer in spec.layers)
        assert spec.embedding.mean == 0


def test_pieces_keep_their_bounds() -> None:
    for spec in drawn(strategies.embeddings(min_dim=2, max_dim=3, distributions=["normal"]), 80)[0]:
        assert 2 <= spec.dim <= 3
        assert spec.distribution == "normal"
    for second in drawn(strategies.second_moments("1/3", 0.5, max_denominator=5), 40)[0]:
        assert Fraction(1, 3) <= second <= Fraction(1, 2)
        assert second.denominator <= 5
    tiny = strategies.second_moments("1/1000", "1/900", max_denominator=1000)
    means = [spec.mean for spec in drawn(strategies.embeddings(moments=tiny), 80)[0]]
    assert min(means) < 0 < max(means)
    for trunk in drawn(strategies.trunks(min_width=2, max_width=3, max_depth=1, relu=True), 40)[0]:
        assert len(trunk) <= 1
        assert all(2 <= layer.width <= 3 and layer.relu for layer in trunk)
    for chunk in drawn(strategies.chunks(min_size=2, max_size=3, min_hidden=4, max_hidden=5), 40)[
        0
    ]:
        assert 2 <= chunk.size <= 3
        assert 4 <= chunk.hidden <= 5
    for mainnet in drawn(strategies.mainnets(kinds=["conv"], bias=False, min_depth=2), 40)[0]:
        size = mainnet.input_size
        assert not any(layer.bias for layer in mainnet.layers)
        for layer in mainnet.layers:
            assert (taps(layer, size) >= 0).any(axis=1).all(), "made of padding alone"
            size = layer.output_size(size)


# --- draws shrink to what reads well ----------------------------------------------------------


def spec_of(*layers: LayerSpec, method: str = "hyperfan-in", **changes: Any) -> HypernetSpec:
    changes.setdefault("embedding", EmbeddingSpec(1))
    return HypernetSpec(layers=layers, method=method, **changes)


ONE = LayerSpec(1, 1)
SMALLEST: dict[str, tuple[str, Predicate, HypernetSpec]] = {
    "anything": ("any", lambda _: True, spec_of(ONE)),
    "relu": ("any", lambda s: s.layers[-1].relu, spec_of(LayerSpec(1, 1, relu=True))),
    "bias": ("any", lambda s: s.has_biases, spec_of(LayerSpec(1, 1, bias=True))),
    "M4": (
        "any",
        lambda s: s.method == "M4",
        spec_of(ONE, method="M4", embedding=EmbeddingSpec(1, "constant")),
    ),
    "a mean": (
        "any",
        lambda s: s.embedding.mean != 0,
        spec_of(ONE, embedding=EmbeddingSpec(1, mean=Fraction(1, 4))),
    ),
    "a trunk": (
        "any",
        lambda s: any(layer.relu for layer in s.trunk),
        spec_of(ONE, trunk=(TrunkLayerSpec(1, relu=True),)),
    ),
    "orthogonal features": (
        "dense",
        lambda s: s.method == "orthogonal" and s.feature_dim > 3,
        spec_of(
            LayerSpec(1, 4), method="orthogonal", embedding=EmbeddingSpec(4), distribution="normal"
        ),
    ),
    "two layers": (
        "dense",
        lambda s: len(s.layers) == 2 and s.method == "fan-out",
        spec_of(ONE, ONE, method="fan-out"),
    ),
    "groups": (
        "1-d",
        lambda s: any(layer.groups > 1 for layer in s.layers),
        spec_of(LayerSpec(2, 2, (1,), groups=2), input_size=(1,)),
    ),
    "stride": (
        "1-d",
        lambda s: any(max(layer.stride, default=1) > 1 for layer in s.layers),
        spec_of(LayerSpec(1, 1, (1,), stride=(2,)), input_size=(1,)),
    ),
    "circular": (
        "1-d",
        lambda s: any(
            layer.padding_mode == "circular" and max(layer.padding) and 3 in layer.kernel
            for layer in s.layers
        ),
        spec_of(LayerSpec(1, 1, (3,), padding=(1,), padding_mode="circular"), input_size=(3,)),
    ),
    "shared": ("any", lambda s: s.output == "shared", spec_of(ONE, ONE, output="shared")),
    "chunked": (
        "any",
        lambda s: s.output == "chunked" and s.method == "hyperfan-out",
        spec_of(ONE, method="hyperfan-out", output="chunked", chunk=ChunkSpec(1, 1)),
    ),
}


@pytest.mark.parametrize("name", SMALLEST)
def test_draws_shrink_to_the_smallest_readable_spec(name: str) -> None:
    sort, predicate, expected = SMALLEST[name]
    strategy = {**SORTS, "1-d": CONV_1D}[sort]()
    assert find(strategy, predicate, settings=SEARCH) == expected


def test_pieces_shrink() -> None:
    def least(strategy: st.SearchStrategy[Any]) -> Any:
        return find(strategy, lambda _: True, settings=SEARCH)

    assert least(strategies.layers()) == ONE
    assert least(strategies.layers(kinds=["conv"])) == LayerSpec(1, 1, (1,))
    assert least(strategies.mainnets()) == ((ONE,), ())
    assert least(strategies.embeddings()) == EmbeddingSpec(1)
    assert least(strategies.trunks()) == ()
    assert least(strategies.chunks()) == ChunkSpec(1, 1)
    assert least(strategies.second_moments()) == 1
    assert least(strategies.methods()) == "hyperfan-in"
    assert least(strategies.distributions()) == "uniform"
    assert least(strategies.dtypes()) == "float32"
    assert least(strategies.embeddings(min_dim=3, distributions=["normal"])) == EmbeddingSpec(
        3, "normal"
    )


# --- what leaves nothing to draw is refused, when the strategy is made ------------------------

REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "unknown bound": (lambda: hypernets(max_widht=3), "unknown bound 'max_widht'; allowed: min_"),  # pyright: ignore[reportCallIssue]
    "zero width": (lambda: hypernets(min_width=0), "min_width is 0; allowed: an integer of at"),
    "reversed": (lambda: hypernets(min_width=5, max_width=4), "max_width is 4; allowed: at least"),
    "not whole": (lambda: dense_hypernets(max_depth=True), "max_depth is True; allowed: an int"),
    "dims": (lambda: conv_hypernets(max_dims=3), "max_dims is 3; allowed: 1 or 2"),
    "entries": (
        lambda: hypernets(min_width=10, min_features=4, max_entries=399),
        "max_entries is 399; allowed: at least min_width^2 min_features = 400",
    ),
    "padding modes": (
        lambda: conv_hypernets(padding_modes=["reflect"]),
        "padding_modes is 'reflect'; allowed: one or more of zeros, circular",
    ),
    "no method": (lambda: hypernets(methods=[]), "methods is []; allowed: a list of one or more"),
    "bare string": (lambda: hypernets(methods="M4"), "methods is 'M4'; allowed: a list of one"),
    "unknown method": (lambda: hypernets(methods=["xavier"]), "methods is 'xavier'; allowed"),
    "unhashable method": (lambda: hypernets(methods=[["M4"]]), "methods is ['M4']; allowed"),  # pyright: ignore[reportArgumentType]
    "output": (lambda: hypernets(outputs=["mine"]), "outputs is 'mine'; allowed: one or more of"),
    "kind": (lambda: hypernets(kinds=["dense"]), "kinds is 'dense'; allowed: one or more of lin"),
    "relu": (lambda: hypernets(relu=1), "relu is 1; allowed: True, False or None"),  # pyright: ignore[reportArgumentType]
    "bias": (lambda: strategies.layers(bias="no"), "bias is 'no'; allowed: True, False or None"),  # pyright: ignore[reportArgumentType]
    "means": (lambda: hypernets(means=None), "means is None; allowed: True or False"),  # pyright: ignore[reportArgumentType]
    "M4 with biases": (
        lambda: dense_hypernets(methods=["M4"], bias=True),
        "methods is ['M4']; allowed: some that go with outputs own, bias True and the bounds",
    ),
    "orthogonal without room": (
        lambda: conv_hypernets(methods=["orthogonal"], min_features=3),
        "methods is ['orthogonal']; allowed: some that go with outputs own",
    ),
    "chunks with fan-in": (lambda: chunked_hypernets(methods=["fan-in"]), "methods is ['fan-in']"),
    "chunks with biases": (lambda: hypernets(outputs=["chunked"], bias=True), "outputs chunked, b"),
    "chunks without room": (
        lambda: chunked_hypernets(min_width=4, min_features=4, max_entries=255),
        "and the bounds",
    ),
    "layers": (lambda: strategies.layers(min_width=9, max_width=8), "max_width is 8"),
    "embedding dims": (lambda: strategies.embeddings(min_dim=9), "max_dim is 8; allowed: at least"),
    "embedding": (lambda: strategies.embeddings(distributions=["cauchy"]), "distributions is 'cau"),
    "trunk": (lambda: strategies.trunks(max_depth=-1), "max_depth is -1; allowed: an integer of"),
    "trunk width": (lambda: strategies.trunks(min_width=9), "max_width is 8; allowed: at least"),
    "chunk": (lambda: strategies.chunks(min_size=5), "max_size is 4; allowed: at least min_size"),
    "chunk hidden": (lambda: strategies.chunks(max_hidden=0), "max_hidden is 0; allowed: an int"),
    "moments": (lambda: strategies.second_moments(0), "min_value is 0; allowed: a finite"),
    "no moment": (
        lambda: strategies.second_moments("1/9", "1/8", max_denominator=7),
        "max_value is Fraction(1, 8); allowed",
    ),
    "dtype": (lambda: strategies.dtypes(["int8"]), "dtypes is 'int8'; allowed: one or more of fl"),
    "distribution": (lambda: strategies.distributions(["t"]), "distributions is 't'; allowed"),
    "methods": (
        lambda: strategies.methods(["M4"], bias=True),
        "methods is ['M4']; allowed: one or more of hyperfan-in",
    ),
    "methods' output": (lambda: strategies.methods(output="ours"), "output is 'ours'; allowed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_leaves_nothing_to_draw_is_refused(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(HyperverifyError) as error:
        make()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_refusals_are_bad_arguments_that_name_the_argument() -> None:
    with pytest.raises(BadArgument) as error:
        hypernets(max_size=0)
    assert error.value.name == "max_size"


# --- the package ------------------------------------------------------------------------------


def test_bounds_and_their_keyword_arguments_agree() -> None:
    assert [field.name for field in fields(Bounds)] == list(BoundArguments.__annotations__)


def test_everything_public_is_documented() -> None:
    for name in strategies.__all__:
        assert getattr(strategies, name).__doc__, name


def test_hypothesis_is_imported_only_with_the_strategies_and_torch_not_even_then() -> None:
    code = (
        "import sys, hyperverify, hyperverify.specs;"
        "assert 'hypothesis' not in sys.modules;"
        "import hyperverify.strategies;"
        "assert 'hypothesis' in sys.modules;"
        "assert not {'torch', 'scipy', 'sympy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
