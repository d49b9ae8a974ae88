"""Specs: canonical JSON and digest, what is derived, and the message of every refusal."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.specs import (
    METHODS,
    ChunkSpec,
    EmbeddingSpec,
    HypernetSpec,
    LayerSpec,
    TrunkLayerSpec,
)

E3 = EmbeddingSpec(3)
DENSE = LayerSpec(2, 4)
CONV = LayerSpec(4, 6, (3, 2), (2, 1), (1, 0), (1, 2), 2, "circular", relu=True, bias=True)


def spec_of(*layers: LayerSpec, method: str = "hyperfan-in", **more: Any) -> HypernetSpec:
    return HypernetSpec(layers or (DENSE,), more.pop("embedding", E3), method, **more)


SPECS = {
    "plain": spec_of(),
    "linear, everything": spec_of(
        LayerSpec(2, 4, relu=True, bias=True),
        LayerSpec(4, 4, bias=True),
        method="small",
        sigma2=Fraction(1, 7),
        embedding=EmbeddingSpec(3, "normal", Fraction(4, 3), Fraction(-1, 5)),
        distribution="normal",
        trunk=(TrunkLayerSpec(5, relu=True), TrunkLayerSpec(6)),
        bias_embedding=EmbeddingSpec(2, "rademacher", Fraction(9)),
        bias_trunk=(TrunkLayerSpec(7),),
        output="shared",
        embeddings="one",
        input="rademacher",
        batch=1,
        flow="layerwise",
    ),
    "conv": spec_of(CONV, LayerSpec(6, 4, (1, 1)), input_size=(8, 7)),
    "chunked": spec_of(
        LayerSpec(3, 8, (3,)), method="hyperfan-out", output="chunked", chunk=ChunkSpec(4, 7),
        input_size=(5,),
    ),
    "M4": spec_of(method="M4", embedding=EmbeddingSpec(5, "constant")),
    "orthogonal": spec_of(method="orthogonal", distribution="normal"),
}  # fmt: skip
each_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())


# --- Canonical JSON and digest ------------------------------------------------------------------


@each_spec
def test_round_trip_through_json(spec: HypernetSpec) -> None:
    text = spec.canonical_json()
    again = HypernetSpec.from_dict(json.loads(text))
    assert again == spec
    assert hash(again) == hash(spec)
    assert again.canonical_json() == text
    assert again.digest == spec.digest


@each_spec
def test_canonical_json_is_sorted_dense_and_complete(spec: HypernetSpec) -> None:
    text = spec.canonical_json()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert set(json.loads(text)) == {field.name for field in fields(HypernetSpec)}


def test_canonical_json_and_digest_of_old_stay_as_they_are() -> None:
    """Digests seed every draw: were this one to change, no stored run could be repeated."""
    known = (
        '{"batch":1,"bias_embedding":null,"bias_trunk":[],"chunk":null,"distribution":"uniform",'
        '"embedding":{"dim":3,"distribution":"uniform","mean":"0","second_moment":"1"},'
        '"embeddings":"own","flow":"chain","input":"normal","input_size":[],"layers":[{"bias":false,'
        '"dilation":[],"groups":1,"in_channels":2,"kernel":[],"out_channels":4,"padding":[],'
        '"padding_mode":"zeros","relu":false,"stride":[]}],"method":"hyperfan-in","output":"own",'
        '"sigma2":null,"trunk":[]}'
    )
    assert SPECS["plain"].canonical_json() == known
    assert SPECS["plain"].digest == hashlib.sha256(known.encode()).hexdigest()


@pytest.mark.parametrize(
    "same",
    [
        lambda: spec_of(embedding=EmbeddingSpec(3, second_moment=1)),  # type: ignore[arg-type]
        lambda: spec_of(embedding=EmbeddingSpec(3, second_moment=1.0)),  # type: ignore[arg-type]
        lambda: spec_of(embedding=EmbeddingSpec(3, second_moment="2/2")),  # type: ignore[arg-type]
        lambda: HypernetSpec([DENSE], E3, "hyperfan-in", trunk=[], input_size=[]),  # type: ignore[arg-type]
        lambda: spec_of(LayerSpec(np.int64(2), np.int32(4), [], stride=[])),  # type: ignore[arg-type]
        lambda: spec_of(embedding=EmbeddingSpec(np.int64(3)), batch=np.uint8(1)),  # type: ignore[arg-type]
    ],
    ids=["int", "float", "string", "lists", "numpy-layer", "numpy-embedding"],
)
def test_other_spellings_are_the_same_spec(same: Callable[[], HypernetSpec]) -> None:
    assert same() == SPECS["plain"]
    assert same().digest == SPECS["plain"].digest


def test_numpy_integers_in_every_size_give_plain_json() -> None:
    n = np.int64
    spec = HypernetSpec(
        (LayerSpec(n(2), n(8), (n(3),), (n(2),), (n(1),), (n(1),), n(1)),),  # type: ignore[arg-type]
        EmbeddingSpec(n(3)),  # type: ignore[arg-type]
        "hyperfan-in",
        input_size=(n(7),),  # type: ignore[arg-type]
        output="chunked",
        chunk=ChunkSpec(n(4), n(5)),  # type: ignore[arg-type]
    )
    assert HypernetSpec.from_dict(json.loads(spec.canonical_json())) == spec
    trunk = spec_of(trunk=(TrunkLayerSpec(n(4)),))  # type: ignore[arg-type]
    assert HypernetSpec.from_dict(json.loads(trunk.canonical_json())) == trunk


# One other allowed value for every field of every part, on a base that admits the change.
_WIDE = spec_of(
    LayerSpec(4, 4, (3,), (1,), (1,), (1,), bias=True),
    LayerSpec(4, 4, (3,), (1,), (1,), (1,), bias=True),
    embedding=EmbeddingSpec(3, "normal"),
    bias_embedding=EmbeddingSpec(2, "normal"),
    trunk=(TrunkLayerSpec(5),),
    bias_trunk=(TrunkLayerSpec(6),),
    input_size=(8,),
)
_CHANGES: dict[str, dict[str, Any]] = {
    "layers": {"layers": _WIDE.layers[:1]},
    "embedding": {"embedding": EmbeddingSpec(4, "normal")},
    "method": {"method": "hyperfan-out"},
    "distribution": {"distribution": "normal"},
    "input_size": {"input_size": (9,)},
    "trunk": {"trunk": ()},
    "bias_embedding": {"bias_embedding": EmbeddingSpec(4, "normal")},
    "bias_trunk": {"bias_trunk": ()},
    "output": {"output": "shared"},
    "embeddings": {"embeddings": "one"},
    "chunk": {},
    "sigma2": {},
    "input": {"input": "rademacher"},
    "batch": {},
    "flow": {"flow": "layerwise"},
}
_LAYER_CHANGES: dict[str, Any] = {
    "in_channels": 6,
    "out_channels": 6,
    "kernel": (1,),
    "stride": (2,),
    "padding": (2,),
    "dilation": (2,),
    "groups": 2,
    "padding_mode": "circular",
    "relu": True,
    "bias": False,
}


def test_digest_feels_every_field() -> None:
    assert set(_CHANGES) == {field.name for field in fields(HypernetSpec)}
    digests = [_WIDE.digest]
    digests += [replace(_WIDE, **change).digest for change in _CHANGES.values() if change]
    small = [spec_of(method="small", sigma2=Fraction(n, 3)) for n in (1, 2)]
    batch = [spec_of(LayerSpec(3, 4), flow="layerwise", batch=n) for n in (1, 2, 3)]
    chunk = [spec_of(output="chunked", chunk=ChunkSpec(*n)) for n in ((4, 3), (2, 3), (4, 5))]
    digests += [spec.digest for spec in (*small, *batch, *chunk)]
    assert len(set(digests)) == len(digests)


def test_digest_feels_every_field_of_a_layer() -> None:
    assert set(_LAYER_CHANGES) == {field.name for field in fields(LayerSpec)}
    base = LayerSpec(4, 4, (3,), (1,), (1,), (1,), bias=True)
    changed = [replace(base, **{name: value}) for name, value in _LAYER_CHANGES.items()]
    digests = [spec_of(layer, input_size=(8,)).digest for layer in (base, *changed)]
    assert len(set(digests)) == len(digests)


def test_digest_feels_every_field_of_the_other_parts() -> None:
    embedding = EmbeddingSpec(3, "normal", Fraction(2), Fraction(1, 2))
    changes = {
        "dim": 4,
        "distribution": "uniform",
        "second_moment": Fraction(3),
        "mean": Fraction(0),
    }
    assert set(changes) == {field.name for field in fields(EmbeddingSpec)}
    embeddings = [embedding, *(replace(embedding, **{k: v}) for k, v in changes.items())]
    digests = [spec_of(embedding=e).digest for e in embeddings]
    trunks = [TrunkLayerSpec(4), TrunkLayerSpec(5), TrunkLayerSpec(4, relu=True)]
    digests += [spec_of(trunk=(trunk,)).digest for trunk in trunks]
    assert len(set(digests)) == len(digests)


def test_specs_are_frozen_and_pickle() -> None:
    spec = SPECS["linear, everything"]
    with pytest.raises(FrozenInstanceError):
        spec.method = "M3"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(spec)) == spec  # noqa: S301


# --- What is derived ----------------------------------------------------------------------------


def test_layer_defaults_shapes_and_sizes() -> None:
    plain = LayerSpec(4, 6, (3, 2))
    assert (plain.stride, plain.padding, plain.dilation) == ((1, 1), (0, 0), (1, 1))
    assert (plain.kind, DENSE.kind) == ("conv", "linear")
    assert CONV.weight_shape == (6, 2, 3, 2)
    assert CONV.n_weights == 72
    assert DENSE.weight_shape == (4, 2)
    assert CONV.output_size((8, 7)) == (4, 5)
    assert DENSE.output_size(()) == ()
    assert SPECS["conv"].sizes == ((8, 7), (4, 5), (4, 5))


def test_feature_dimensions() -> None:
    whole = SPECS["linear, everything"]
    assert (whole.feature_dim, whole.bias_feature_dim) == (6, 7)
    assert replace(whole, trunk=()).feature_dim == 3
    assert replace(whole, bias_trunk=()).bias_feature_dim == 2
    assert replace(whole, bias_trunk=(), bias_embedding=None).bias_feature_dim == 6
    assert SPECS["chunked"].feature_dim == 7
    assert whole.has_biases
    assert not SPECS["plain"].has_biases


def test_branch_and_count_of_chunks() -> None:
    chunk = ChunkSpec(4, 3)
    assert chunk.branch(LayerSpec(4, 8)) == "i"  # both divide: Eq. 6 looks at d_i first
    assert chunk.branch(LayerSpec(3, 8)) == "i"
    assert chunk.branch(LayerSpec(8, 6)) == "j"
    assert chunk.count(LayerSpec(3, 8, (3,))) == 6
    assert chunk.count(LayerSpec(8, 6)) == 12


def test_output_groups() -> None:
    square = LayerSpec(4, 4)
    biased = LayerSpec(4, 4, bias=True)
    layers = (LayerSpec(2, 4), square, biased, square, biased)
    own, shared = (spec_of(*layers, output=output) for output in ("own", "shared"))
    assert [own.output_group(t) for t in range(5)] == [0, 1, 2, 3, 4]
    assert [shared.output_group(t) for t in range(5)] == [0, 1, 2, 1, 2]
    chunked = spec_of(LayerSpec(2, 4), LayerSpec(4, 8), output="chunked", chunk=ChunkSpec(4, 2))
    assert [chunked.output_group(t) for t in range(2)] == [0, 0]


@pytest.mark.parametrize("method", ["hyperfan-in", "hyperfan-out", "fan-in"])
def test_equal_shapes_under_other_groups_are_other_output_layers(method: str) -> None:
    """W of (4, 2, 1) is one of 2 -> 4 channels, or of 4 -> 4 in two groups: another fan-out."""
    whole, split = LayerSpec(2, 4, (1,)), LayerSpec(4, 4, (1,), groups=2)
    assert whole.weight_shape == split.weight_shape
    spec = spec_of(whole, split, split, method=method, output="shared", input_size=(3,))
    assert [spec.output_group(t) for t in range(3)] == [0, 1, 1]


def test_a_shared_output_layer_may_serve_relu_and_linear_only_under_small() -> None:
    layers = (LayerSpec(4, 4, relu=True), LayerSpec(4, 4))
    small = spec_of(*layers, method="small", sigma2=1, output="shared")
    assert [small.output_group(t) for t in range(2)] == [0, 0]
    for method in METHODS:
        if method in ("small", "M4", "orthogonal"):
            continue
        with pytest.raises(BadArgument) as caught:
            spec_of(*layers, method=method, output="shared")
        assert str(caught.value) == "relu is True; allowed: the same in layers that share H"
    assert spec_of(*layers, output="own").output_group(1) == 1


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_spec(method: str) -> None:
    more: dict[str, Any] = {}
    if method == "small":
        more["sigma2"] = "1/9"
    if method == "M4":
        more["embedding"] = EmbeddingSpec(3, "constant")
    if method == "orthogonal":
        more["distribution"] = "normal"
    spec = spec_of(method=method, **more)
    assert HypernetSpec.from_dict(spec.to_dict()) == spec


# --- Refusals -----------------------------------------------------------------------------------

_RATIONAL = "a finite rational number"
_DISTRIBUTIONS = "one of uniform, normal, rademacher, constant"
_POSITIVE = _RATIONAL + " above 0"
_RANGE = ", in size from 1e-30 to 1e+30"
_LAYER_KEYS = (
    "bias, dilation, groups, in_channels, kernel, out_channels, padding, padding_mode, relu, stride"
)
_SPEC_KEYS = (
    "batch, bias_embedding, bias_trunk, chunk, distribution, embedding, embeddings, flow, input, "
    "input_size, layers, method, output, sigma2, trunk"
)
_BIASED = LayerSpec(2, 4, bias=True)


def chunked(*layers: LayerSpec, **more: Any) -> HypernetSpec:
    return spec_of(*layers, output="chunked", chunk=ChunkSpec(4, 3), **more)


BAD: list[tuple[Callable[[], object], str]] = [
    # layers
    (lambda: LayerSpec(0, 4), "in_channels is 0; allowed: an integer of at least 1"),
    (lambda: LayerSpec(2, -3), "out_channels is -3; allowed: an integer of at least 1"),
    (lambda: LayerSpec(2.0, 4), "in_channels is 2.0; allowed: an integer of at least 1"),
    (lambda: LayerSpec(True, 4), "in_channels is True; allowed: an integer of at least 1"),
    (lambda: LayerSpec("2", 4), "in_channels is '2'; allowed: an integer of at least 1"),
    (lambda: LayerSpec(2, None), "out_channels is None; allowed: an integer of at least 1"),
    (lambda: LayerSpec(2, 4, groups=0), "groups is 0; allowed: an integer of at least 1"),
    (lambda: LayerSpec(4, 4, (3,), groups=3),
     "groups is 3; allowed: a divisor of in_channels = 4 and out_channels = 4"),
    (lambda: LayerSpec(4, 6, (3,), groups=4),
     "groups is 4; allowed: a divisor of in_channels = 4 and out_channels = 6"),
    (lambda: LayerSpec(4, 4, groups=2), "groups is 2; allowed: 1 for a linear layer"),
    (lambda: LayerSpec(2, 4, 3), "kernel is 3; allowed: a list of integers of at least 1"),
    (lambda: LayerSpec(2, 4, (3, 0)), "kernel[1] is 0; allowed: an integer of at least 1"),
    (lambda: LayerSpec(2, 4, (1, 1, 1)),
     "kernel is (1, 1, 1); allowed: () for a linear layer, or 1 or 2 numbers"),
    (lambda: LayerSpec(2, 4, (3,), stride=(0,)),
     "stride[0] is 0; allowed: an integer of at least 1"),
    (lambda: LayerSpec(2, 4, (3,), padding=(-1,)),
     "padding[0] is -1; allowed: an integer of at least 0"),
    (lambda: LayerSpec(2, 4, (3,), padding="same"),
     "padding is 'same'; allowed: a list of integers of at least 0"),
    (lambda: LayerSpec(2, 4, (3,), dilation=(1.5,)),
     "dilation[0] is 1.5; allowed: an integer of at least 1"),
    (lambda: LayerSpec(2, 4, (3, 3), stride=(1,)),
     "stride is (1,); allowed: as many numbers as kernel has (2)"),
    (lambda: LayerSpec(2, 4, padding=(1,)),
     "padding is (1,); allowed: as many numbers as kernel has (0)"),
    (lambda: LayerSpec(2, 4, padding_mode="reflect"),
     "padding_mode is 'reflect'; allowed: one of zeros, circular"),
    (lambda: LayerSpec(2, 4, relu=1), "relu is 1; allowed: True or False"),
    (lambda: LayerSpec(2, 4, bias="yes"), "bias is 'yes'; allowed: True or False"),
    # embeddings, trunks and chunks
    (lambda: EmbeddingSpec(0), "embedding dim is 0; allowed: an integer of at least 1"),
    (lambda: EmbeddingSpec(3, "cauchy"),
     f"embedding distribution is 'cauchy'; allowed: {_DISTRIBUTIONS}"),
    (lambda: EmbeddingSpec(3, ["normal"]),
     f"embedding distribution is ['normal']; allowed: {_DISTRIBUTIONS}"),
    (lambda: EmbeddingSpec(3, second_moment=0), f"second_moment is 0; allowed: {_POSITIVE}"),
    (lambda: EmbeddingSpec(3, second_moment=-1), f"second_moment is -1; allowed: {_POSITIVE}"),
    (lambda: EmbeddingSpec(3, second_moment=float("nan")),
     f"second_moment is nan; allowed: {_POSITIVE}"),
    (lambda: EmbeddingSpec(3, second_moment=float("inf")),
     f"second_moment is inf; allowed: {_POSITIVE}"),
    (lambda: EmbeddingSpec(3, second_moment="1/0"),
     f"second_moment is '1/0'; allowed: {_POSITIVE}"),
    (lambda: EmbeddingSpec(3, second_moment="one"),
     f"second_moment is 'one'; allowed: {_POSITIVE}"),
    (lambda: EmbeddingSpec(3, second_moment=True),
     f"second_moment is True; allowed: {_POSITIVE}"),
    (lambda: EmbeddingSpec(3, second_moment=1j), f"second_moment is 1j; allowed: {_POSITIVE}"),
    (lambda: EmbeddingSpec(3, second_moment="1e31"),
     f"second_moment is '1e31'; allowed: {_POSITIVE}{_RANGE}"),
    (lambda: EmbeddingSpec(3, second_moment="1e-31"),
     f"second_moment is '1e-31'; allowed: {_POSITIVE}{_RANGE}"),
    (lambda: EmbeddingSpec(3, second_moment=Fraction(10) ** 400),
     f"second_moment is {Fraction(10) ** 400!r}"[:94] + f"...; allowed: {_POSITIVE}{_RANGE}"),
    (lambda: EmbeddingSpec(3, second_moment="1e999999999"),
     f"second_moment is '1e999999999'; allowed: {_POSITIVE}, an exponent of at most 3 digits"),
    (lambda: EmbeddingSpec(3, mean=None), f"mean is None; allowed: {_RATIONAL}"),
    (lambda: EmbeddingSpec(3, mean=1),
     "mean is Fraction(1, 1); allowed: 0, or for uniform and normal a square below second_moment"),
    (lambda: EmbeddingSpec(3, "rademacher", mean="1/2"),
     "mean is Fraction(1, 2); allowed: 0, or for uniform and normal a square below second_moment"),
    (lambda: TrunkLayerSpec(0), "trunk width is 0; allowed: an integer of at least 1"),
    (lambda: TrunkLayerSpec(3, relu="relu"), "trunk relu is 'relu'; allowed: True or False"),
    (lambda: ChunkSpec(0, 3), "chunk size is 0; allowed: an integer of at least 1"),
    (lambda: ChunkSpec(3, -1), "chunk hidden is -1; allowed: an integer of at least 1"),
    # the whole
    (lambda: HypernetSpec((), E3, "fan-in"), "layers is (); allowed: a list of at least 1 LayerSpec"),
    (lambda: HypernetSpec(DENSE, E3, "fan-in"),
     "layers is " + repr(DENSE)[:77] + "...; allowed: a list of at least 1 LayerSpec"),
    (lambda: HypernetSpec((DENSE, 3), E3, "fan-in"), "layers[1] is 3; allowed: a LayerSpec"),
    (lambda: spec_of(trunk=(4,)), "trunk[0] is 4; allowed: a TrunkLayerSpec"),
    (lambda: spec_of(trunk=4), "trunk is 4; allowed: a list of at least 0 TrunkLayerSpec"),
    (lambda: spec_of(embedding=None), "embedding is None; allowed: an EmbeddingSpec"),
    (lambda: spec_of(_BIASED, bias_embedding=4), "bias_embedding is 4; allowed: an EmbeddingSpec"),
    (lambda: spec_of(method="xavier"), "method is 'xavier'; allowed: one of " + ", ".join(METHODS)),
    (lambda: spec_of(distribution="orthogonal"),
     "distribution is 'orthogonal'; allowed: one of uniform, normal"),
    (lambda: spec_of(output="both"), "output is 'both'; allowed: one of own, shared, chunked"),
    (lambda: spec_of(embeddings="two"), "embeddings is 'two'; allowed: one of own, one"),
    (lambda: spec_of(input="ones"), "input is 'ones'; allowed: one of normal, rademacher"),
    (lambda: spec_of(flow="up"), "flow is 'up'; allowed: one of chain, layerwise"),
    (lambda: spec_of(batch=0), "batch is 0; allowed: an integer of at least 1"),
    (lambda: spec_of(batch=2), "batch is 2; allowed: 1 unless flow is layerwise"),
    (lambda: spec_of(LayerSpec(2, 4, (3,)), input_size=(4,), flow="layerwise", batch=2),
     "batch is 2; allowed: 1 where layers[0] has several positions or groups"),
    (lambda: spec_of(LayerSpec(2, 4, (1,), groups=2), input_size=(1,), flow="layerwise", batch=2),
     "batch is 2; allowed: 1 where layers[0] has several positions or groups"),
    (lambda: spec_of(DENSE, LayerSpec(4, 4, (1,))),
     "kernel is [(), (1,)]; allowed: layers all linear, or all of one dimension"),
    (lambda: spec_of(DENSE, LayerSpec(3, 4)),
     "layers[1].in_channels is 3; allowed: 4 (layers[0].out_channels)"),
    (lambda: spec_of(input_size=(3,)), "input_size is (3,); allowed: 0 numbers, as kernel has"),
    (lambda: spec_of(input_size=7),
     "input_size is 7; allowed: a list of integers of at least 1"),
    (lambda: spec_of(LayerSpec(2, 4, (3,)), input_size=(0,)),
     "input_size[0] is 0; allowed: an integer of at least 1"),
    (lambda: spec_of(LayerSpec(2, 4, (3,)), input_size=(2,)),
     "kernel is (3,); allowed: one that fits in the input size (2,)"),
    (lambda: spec_of(LayerSpec(2, 4, (2,), dilation=(4,)), input_size=(4,)),
     "kernel is (2,); allowed: one that fits in the input size (4,)"),
    (lambda: spec_of(LayerSpec(2, 4, (3,), padding=(4,), padding_mode="circular"), input_size=(3,)),
     "padding is (4,); allowed: a circular kernel that fits in (3,)"),
    (lambda: spec_of(LayerSpec(2, 4, (5,), padding=(2,), padding_mode="circular"), input_size=(4,)),
     "padding is (2,); allowed: a circular kernel that fits in (4,)"),
    (lambda: spec_of(bias_embedding=EmbeddingSpec(2)),
     "bias_embedding is " + repr(EmbeddingSpec(2))[:77] + "...; allowed: None without generated bias"),
    (lambda: spec_of(bias_trunk=(TrunkLayerSpec(3),)),
     "bias_trunk is (TrunkLayerSpec(width=3, relu=False),); allowed: () without a bias_embedding"),
    (lambda: spec_of(_BIASED, bias_trunk=(TrunkLayerSpec(3),)),
     "bias_trunk is (TrunkLayerSpec(width=3, relu=False),); allowed: () without a bias_embedding"),
    (lambda: spec_of(method="small"), f"sigma2 is None; allowed: {_POSITIVE}"),
    (lambda: spec_of(method="small", sigma2=0), f"sigma2 is 0; allowed: {_POSITIVE}"),
    (lambda: spec_of(sigma2=1), "sigma2 is 1; allowed: None unless method is small"),
    (lambda: spec_of(_BIASED, method="M4", embedding=EmbeddingSpec(3, "constant")),
     "bias is True; allowed: False under method M4"),
    (lambda: spec_of(_BIASED, method="orthogonal", distribution="normal"),
     "bias is True; allowed: False under method orthogonal"),
    (lambda: spec_of(method="M4"),
     "embedding distribution is 'uniform'; allowed: constant with method M4, and only there"),
    (lambda: spec_of(embedding=EmbeddingSpec(3, "constant")),
     "embedding distribution is 'constant'; allowed: constant with method M4, and only there"),
    (lambda: spec_of(method="M4", embedding=EmbeddingSpec(3, "constant"), trunk=(TrunkLayerSpec(2),)),
     "trunk is (TrunkLayerSpec(width=2, relu=False),); allowed: () under method M4"),
    (lambda: spec_of(method="M4", embedding=EmbeddingSpec(3, "constant"), embeddings="one"),
     "embeddings is 'one'; allowed: own under method M4"),
    (lambda: spec_of(method="orthogonal"),
     "distribution is 'uniform'; allowed: normal under method orthogonal (the QR of a normal matrix)"),
    (lambda: spec_of(method="orthogonal", distribution="normal", embedding=EmbeddingSpec(9)),
     "embedding dim is 9; allowed: at most 8, the entries of W, under orthogonal"),
    (lambda: spec_of(LayerSpec(10**5, 10**5)),
     "layers is 'n_W d_k = 30000000000'; allowed: at most 2147483647"),
    # chunks
    (lambda: spec_of(output="chunked"),
     "chunk is None; allowed: a ChunkSpec with output chunked, else None"),
    (lambda: spec_of(chunk=ChunkSpec(4, 3)),
     "chunk is ChunkSpec(size=4, hidden=3); allowed: a ChunkSpec with output chunked, else None"),
    (lambda: spec_of(chunk="4"), "chunk is '4'; allowed: a ChunkSpec or None"),
    (lambda: spec_of(chunk=()), "chunk is (); allowed: a ChunkSpec or None"),
    (lambda: chunked(LayerSpec(6, 9)), "chunk size is 4; allowed: a divisor of 9 or of 6"),
    (lambda: chunked(LayerSpec(4, 4, (1,), groups=2), input_size=(1,)),
     "groups is 2; allowed: 1 under chunked output layers"),
    (lambda: chunked(LayerSpec(4, 4, (3,)), LayerSpec(4, 4, (1,)), input_size=(5,)),
     "kernel is 'several'; allowed: one kernel size under chunked output layers"),
    (lambda: chunked(method="fan-in"),
     "method is 'fan-in'; allowed: hyperfan-in or hyperfan-out with chunks"),
    (lambda: chunked(_BIASED), "output is 'chunked'; allowed: no bias, no trunk and own embeddings"),
    (lambda: chunked(trunk=(TrunkLayerSpec(3),)),
     "output is 'chunked'; allowed: no bias, no trunk and own embeddings"),
    (lambda: chunked(embeddings="one"),
     "output is 'chunked'; allowed: no bias, no trunk and own embeddings"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), BAD, ids=[f"{n}" for n in range(len(BAD))])
def test_malformed_specs_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(BadArgument) as caught:
        make()
    assert str(caught.value) == message
    assert "\n" not in message


def good_json() -> dict[str, Any]:
    return SPECS["linear, everything"].to_dict()


def changed_json(path: str, value: object) -> dict[str, Any]:
    data = good_json()
    *steps, last = path.split(".")
    at: Any = data
    for step in steps:
        at = at[int(step) if step.isdigit() else step]
    at[int(last) if last.isdigit() else last] = value
    return data


def without_key(path: str) -> dict[str, Any]:
    data = good_json()
    *steps, last = path.split(".")
    at: Any = data
    for step in steps:
        at = at[int(step) if step.isdigit() else step]
    del at[last]
    return data


BAD_JSON: list[tuple[object, str]] = [
    (None, "spec is None; allowed: an object with the fields of HypernetSpec"),
    ([], "spec is []; allowed: an object with the fields of HypernetSpec"),
    ("{}", "spec is '{}'; allowed: an object with the fields of HypernetSpec"),
    (changed_json("colour", 1), f"spec key is 'colour'; allowed: {_SPEC_KEYS}"),
    (changed_json("layers.1.colour", 1), f"layers[1] key is 'colour'; allowed: {_LAYER_KEYS}"),
    (changed_json("embedding.size", 1),
     "embedding key is 'size'; allowed: dim, distribution, mean, second_moment"),
    (changed_json("trunk.0.bias", 1), "trunk[0] key is 'bias'; allowed: relu, width"),
    (changed_json("layers", []), "layers is (); allowed: a list of at least 1 LayerSpec"),
    (changed_json("layers", None), "layers is None; allowed: a list of at least 1 LayerSpec"),
    (changed_json("layers.0", None),
     "layers[0] is None; allowed: an object with the fields of LayerSpec"),
    (changed_json("layers", "all"),
     "layers is 'all'; allowed: an object with the fields of LayerSpec"),
    (changed_json("embedding", 3),
     "embedding is 3; allowed: an object with the fields of EmbeddingSpec"),
    (changed_json("embedding", None), "embedding is None; allowed: an EmbeddingSpec"),
    (changed_json("embedding", []), "embedding is (); allowed: an EmbeddingSpec"),
    (changed_json("chunk", []), "chunk is (); allowed: a ChunkSpec or None"),
    (changed_json("chunk", {"size": 4, "hidden": 2}),
     "chunk is ChunkSpec(size=4, hidden=2); allowed: a ChunkSpec with output chunked, else None"),
    (changed_json("layers.0.in_channels", "2"),
     "in_channels is '2'; allowed: an integer of at least 1"),
    (changed_json("layers.0.relu", 0), "relu is 0; allowed: True or False"),
    (changed_json("layers.0.kernel", None),
     "kernel is None; allowed: a list of integers of at least 1"),
    (changed_json("embedding.second_moment", "0"),
     f"second_moment is '0'; allowed: {_POSITIVE}"),
    (changed_json("embedding.second_moment", [1]),
     f"second_moment is [1]; allowed: {_POSITIVE}"),
    (changed_json("sigma2", None), f"sigma2 is None; allowed: {_POSITIVE}"),
    (changed_json("method", None), "method is None; allowed: one of " + ", ".join(METHODS)),
    (changed_json("method", {}), "method is {}; allowed: one of " + ", ".join(METHODS)),
    (changed_json("input_size", 3), "input_size is 3; allowed: a list of integers of at least 1"),
    (changed_json("batch", 1.0), "batch is 1.0; allowed: an integer of at least 1"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "message"), BAD_JSON, ids=[f"{n}" for n in range(len(BAD_JSON))])
def test_malformed_json_is_refused(data: object, message: str) -> None:
    with pytest.raises(BadArgument) as caught:
        HypernetSpec.from_dict(data)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("missing", "where", "name"),
    [
        ("method", "spec", "method"),
        ("layers.1.in_channels", "layers[1]", "in_channels"),
        ("embedding.dim", "embedding", "dim"),
        ("bias_trunk.0.width", "bias_trunk[0]", "width"),
    ],
)
def test_missing_keys_are_named(missing: str, where: str, name: str) -> None:
    with pytest.raises(HyperverifyError) as caught:
        HypernetSpec.from_dict(without_key(missing))
    message = str(caught.value)
    assert message.startswith(f"{where} is incomplete: ")
    assert f"'{name}'" in message
    assert "\n" not in message


def test_optional_keys_may_be_missing() -> None:
    data = {"layers": [{"in_channels": 2, "out_channels": 4}], "embedding": {"dim": 3}}
    assert HypernetSpec.from_dict(data | {"method": "hyperfan-in"}) == SPECS["plain"]


def test_bad_argument_keeps_its_parts_and_pickles() -> None:
    with pytest.raises(BadArgument) as caught:
        LayerSpec(0, 1)
    error = caught.value
    assert (error.name, error.value, error.allowed) == (
        "in_channels",
        0,
        "an integer of at least 1",
    )
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301
    assert isinstance(error, ValueError)
