"""Hypothesis strategies for the specs that the properties are checked on."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from hypothesis import strategies as st

from hyperverify.specs import EmbeddingSpec, HypernetSpec, LayerSpec, TrunkLayerSpec

dims = st.integers(1, 40)
moments = st.fractions(Fraction(1, 9), Fraction(9), max_denominator=9)
hyperfan = st.sampled_from(["hyperfan-in", "hyperfan-out"])
distributions = st.sampled_from(["uniform", "normal"])


@st.composite
def embeddings(draw: st.DrawFn, least: int = 3, most: int = 8) -> EmbeddingSpec:
    """Embeddings of any zero-mean distribution and second moment."""
    kind = draw(st.sampled_from(["uniform", "normal", "rademacher"]))
    return EmbeddingSpec(draw(st.integers(least, most)), kind, draw(moments))


@st.composite
def trunks(draw: st.DrawFn) -> tuple[TrunkLayerSpec, ...]:
    """At most two hidden layers of the hypernet."""
    widths = draw(st.lists(st.integers(4, 10), max_size=2))
    return tuple(TrunkLayerSpec(width, draw(st.booleans())) for width in widths)


@st.composite
def dense_specs(draw: st.DrawFn, method: st.SearchStrategy[str] = hyperfan) -> HypernetSpec:
    """Dense chains of one or two layers, with and without ReLU and generated biases."""
    widths = draw(st.lists(st.integers(4, 14), min_size=2, max_size=3))
    bias = draw(st.booleans())
    return HypernetSpec(
        layers=tuple(
            LayerSpec(a, b, relu=draw(st.booleans()), bias=bias) for a, b in pairwise(widths)
        ),
        embedding=draw(embeddings()),
        method=draw(method),
        distribution=draw(distributions),
        trunk=draw(trunks()),
        bias_embedding=draw(embeddings()) if bias else None,
    )


@st.composite
def conv_specs(draw: st.DrawFn) -> HypernetSpec:
    """One convolution of any kernel, stride, padding, dilation and groups."""
    groups = draw(st.sampled_from([1, 2, 3]))
    kernel = draw(st.integers(1, 3))
    size = draw(st.integers(5, 7))
    mode = draw(st.sampled_from(["zeros", "circular"]))
    layer = LayerSpec(
        groups * draw(st.integers(1, 3)),
        groups * draw(st.integers(1, 3)),
        (kernel, kernel),
        stride=(draw(st.integers(1, 2)),) * 2,
        padding=(draw(st.integers(0, 2)),) * 2,
        dilation=(draw(st.integers(1, 2)),) * 2,
        groups=groups,
        padding_mode=mode,
        relu=draw(st.booleans()),
    )
    return HypernetSpec(
        layers=(layer,),
        embedding=draw(embeddings()),
        method=draw(hyperfan),
        distribution=draw(distributions),
        input_size=(size, size),
        input="rademacher",
        flow="layerwise",
    )
