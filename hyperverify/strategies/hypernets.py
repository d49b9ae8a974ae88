"""Strategies for whole hypernets with their mainnets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Unpack

from hypothesis import strategies as st

from hyperverify.errors import BadArgument
from hyperverify.spec_fields import flag
from hyperverify.specs import (
    DISTRIBUTIONS,
    EMBEDDING_DISTRIBUTIONS,
    EMBEDDING_SHARING,
    FLOWS,
    INPUTS,
    METHODS,
    OUTPUTS,
    ChunkSpec,
    EmbeddingSpec,
    HypernetSpec,
    LayerSpec,
    TrunkLayerSpec,
)
from hyperverify.strategies import tied
from hyperverify.strategies.bounds import BoundArguments, Bounds, bounds_of, names, optional_flag
from hyperverify.strategies.mainnets import KINDS, Plan, chains
from hyperverify.strategies.pieces import (
    NOT_CONSTANT,
    OF_CHUNKS,
    WITHOUT_BIAS,
    choose,
    embeddings,
    fitting_methods,
    flags,
    second_moments,
    trunks,
)


@dataclass(frozen=True)
class _Settings:
    """What a hypernet is drawn under, all checked."""

    output: str
    kind: str
    methods: tuple[str, ...]
    distributions: tuple[str, ...]
    flows: tuple[str, ...]
    inputs: tuple[str, ...]
    relu: bool | None
    bias: bool | None
    means: bool
    bounds: Bounds

    def features(self, most: int, *kinds: str) -> st.SearchStrategy[EmbeddingSpec]:
        """Embeddings of at most ``most`` entries."""
        least = self.bounds.min_features
        found = kinds or NOT_CONSTANT
        return embeddings(min_dim=least, max_dim=most, distributions=found, means=self.means)

    def hidden(self, most: int) -> st.SearchStrategy[tuple[TrunkLayerSpec, ...]]:
        """Hidden layers of at most ``most`` units."""
        least, depth = self.bounds.min_features, self.bounds.max_trunk
        return trunks(min_width=least, max_width=most, max_depth=depth)


def hypernets(
    *,
    kinds: Sequence[str] = KINDS,
    outputs: Sequence[str] = OUTPUTS,
    methods: Sequence[str] = METHODS,
    distributions: Sequence[str] = DISTRIBUTIONS,
    flows: Sequence[str] = FLOWS,
    inputs: Sequence[str] = INPUTS,
    relu: bool | None = None,
    bias: bool | None = None,
    means: bool = True,
    **bounds: Unpack[BoundArguments],
) -> st.SearchStrategy[HypernetSpec]:
    """Hypernets of every sort; shrinks towards hyperfan-in, uniform, of one dense layer 1 -> 1.

    Every draw is a valid spec by construction: nothing is filtered. Combinations that do not go
    together are not drawn: chunks go with hyperfan-in and hyperfan-out, without biases; M4 and
    orthogonal generate no biases; a batch above 1 needs layerwise flow, no groups and one position.

    Args:
        kinds: mainnets: ``linear``, ``conv`` or both.
        outputs: output layers: some of ``own``, ``shared`` and ``chunked``.
        methods: some of ``specs.METHODS``; left to those that go with the kind of output.
        distributions: of the hypernet's weights; under method orthogonal they are normal anyway.
        flows: some of ``chain`` and ``layerwise``, see ``HypernetSpec``.
        inputs: distributions of the mainnet's inputs, some of ``normal`` and ``rademacher``.
        relu: whether ReLU follows the mainnet's layers; None leaves it to each layer.
        bias: whether biases are generated; None leaves it to each layer.
        means: whether uniform and normal embeddings may have a mean other than 0.
        bounds: sizes, from ``min_depth`` to ``max_entries``: see :class:`Bounds`.

    Raises:
        HyperverifyError: for a bound that is not known.
        BadArgument: for names or bounds that leave nothing to draw.
    """
    limits = bounds_of(bounds)
    chosen = names("methods", methods, METHODS)
    base = _Settings(
        output="own",
        kind="linear",
        methods=chosen,
        distributions=names("distributions", distributions, DISTRIBUTIONS),
        flows=names("flows", flows, FLOWS),
        inputs=names("inputs", inputs, INPUTS),
        relu=optional_flag("relu", relu),
        bias=optional_flag("bias", bias),
        means=flag("means", means),
        bounds=limits,
    )
    found: list[st.SearchStrategy[HypernetSpec]] = []
    for output in names("outputs", outputs, OUTPUTS):
        for kind in names("kinds", kinds, KINDS):
            fitting = _fitting(chosen, output, kind, base.bias, limits)
            settings = replace(base, output=output, kind=kind, methods=fitting)
            if fitting:
                found.append(_chunked(settings) if output == "chunked" else _whole(settings))
    if not found:
        told = f"some that go with outputs {', '.join(outputs)}, bias {bias} and the bounds"
        raise BadArgument("methods", methods, told)
    return st.one_of(found)


def dense_hypernets(
    *,
    methods: Sequence[str] = METHODS,
    distributions: Sequence[str] = DISTRIBUTIONS,
    flows: Sequence[str] = FLOWS,
    inputs: Sequence[str] = INPUTS,
    relu: bool | None = None,
    bias: bool | None = None,
    means: bool = True,
    **bounds: Unpack[BoundArguments],
) -> st.SearchStrategy[HypernetSpec]:
    """Hypernets of dense mainnets, an output layer a layer. Arguments as :func:`hypernets`."""
    return hypernets(
        kinds=("linear",),
        outputs=("own",),
        methods=methods,
        distributions=distributions,
        flows=flows,
        inputs=inputs,
        relu=relu,
        bias=bias,
        means=means,
        **bounds,
    )


def conv_hypernets(
    *,
    methods: Sequence[str] = METHODS,
    distributions: Sequence[str] = DISTRIBUTIONS,
    flows: Sequence[str] = FLOWS,
    inputs: Sequence[str] = INPUTS,
    relu: bool | None = None,
    bias: bool | None = None,
    means: bool = True,
    **bounds: Unpack[BoundArguments],
) -> st.SearchStrategy[HypernetSpec]:
    """Hypernets of convolutions, 1-d or 2-d, an output layer a layer. As :func:`hypernets`."""
    return hypernets(
        kinds=("conv",),
        outputs=("own",),
        methods=methods,
        distributions=distributions,
        flows=flows,
        inputs=inputs,
        relu=relu,
        bias=bias,
        means=means,
        **bounds,
    )


def shared_hypernets(
    *,
    kinds: Sequence[str] = KINDS,
    methods: Sequence[str] = METHODS,
    distributions: Sequence[str] = DISTRIBUTIONS,
    flows: Sequence[str] = FLOWS,
    inputs: Sequence[str] = INPUTS,
    relu: bool | None = None,
    bias: bool | None = None,
    means: bool = True,
    **bounds: Unpack[BoundArguments],
) -> st.SearchStrategy[HypernetSpec]:
    """Hypernets with one output layer for layers of one shape (Appendix A.1).

    Two layers share one at least, unless ``max_depth`` is 1. Arguments as :func:`hypernets`.
    """
    return hypernets(
        kinds=kinds,
        outputs=("shared",),
        methods=methods,
        distributions=distributions,
        flows=flows,
        inputs=inputs,
        relu=relu,
        bias=bias,
        means=means,
        **bounds,
    )


def chunked_hypernets(
    *,
    kinds: Sequence[str] = KINDS,
    methods: Sequence[str] = OF_CHUNKS,
    distributions: Sequence[str] = DISTRIBUTIONS,
    flows: Sequence[str] = FLOWS,
    inputs: Sequence[str] = INPUTS,
    relu: bool | None = None,
    means: bool = True,
    **bounds: Unpack[BoundArguments],
) -> st.SearchStrategy[HypernetSpec]:
    """Hypernets whose W are tiled by chunks (Appendix A.2). Arguments as :func:`hypernets`."""
    return hypernets(
        kinds=kinds,
        outputs=("chunked",),
        methods=methods,
        distributions=distributions,
        flows=flows,
        inputs=inputs,
        relu=relu,
        means=means,
        **bounds,
    )


def _fitting(
    methods: Sequence[str], output: str, kind: str, bias: bool | None, bounds: Bounds
) -> tuple[str, ...]:
    """The methods that can be drawn for this output and kind within the bounds."""
    if output == "chunked" and bounds.max_entries < (bounds.min_width * bounds.min_features) ** 2:
        return ()
    # A depthwise layer's W has no more entries than it has channels.
    smallest = bounds.min_width ** (2 if kind == "linear" else 1)
    return tuple(
        method
        for method in fitting_methods(methods, output, bias)
        if method != "orthogonal" or bounds.min_features <= smallest
    )


@st.composite
def _whole(draw: st.DrawFn, settings: _Settings) -> HypernetSpec:
    """An output layer a layer, or one for all layers of a shape.

    A method that leaves no choice of something has it drawn all the same, and overruled: shrinking
    prefers few choices, and would end at that method instead of at hyperfan-in.
    """
    bounds = settings.bounds
    method = draw(choose(settings.methods))
    plan = Plan(
        kind=settings.kind,
        bounds=bounds,
        weights=bounds.max_entries // bounds.min_features,
        relu=flags("relu", settings.relu),
        bias=flags("bias", settings.bias),
    )
    mixed = method == "small"  # the one method whose Var(H) does not ask whether ReLU follows
    shared = settings.output == "shared"
    layers, input_size = draw(tied.shared(plan, mixed) if shared else chains(plan))
    if method in WITHOUT_BIAS:
        layers = tuple(replace(layer, bias=False) for layer in layers)
    weights = [layer.n_weights for layer in layers]
    most = min(bounds.max_features, bounds.max_entries // max(weights))
    if method == "orthogonal":
        most = min(most, *weights)
    flow, read, batch = _data(draw, settings, layers, input_size)
    embedding = draw(settings.features(most))
    distribution = draw(choose(settings.distributions))
    trunk = draw(settings.hidden(most))
    sharing = draw(choose(EMBEDDING_SHARING)) if len(layers) > 1 else "own"
    if method == "M4":
        embedding = EmbeddingSpec(embedding.dim, "constant", embedding.second_moment)
        trunk, sharing = (), "own"
    bias_embedding, bias_trunk = None, ()
    if any(layer.bias for layer in layers) and draw(st.booleans()):
        bias_embedding = draw(settings.features(most, *EMBEDDING_DISTRIBUTIONS))
        bias_trunk = draw(settings.hidden(most))
    sigma2 = second_moments(Fraction(1, 8), 2, max_denominator=8)
    return HypernetSpec(
        layers=layers,
        embedding=embedding,
        method=method,
        distribution="normal" if method == "orthogonal" else distribution,
        input_size=input_size,
        trunk=trunk,
        bias_embedding=bias_embedding,
        bias_trunk=bias_trunk,
        output=settings.output,
        embeddings=sharing,
        sigma2=draw(sigma2) if method == "small" else None,
        input=read,
        batch=batch,
        flow=flow,
    )


@st.composite
def _chunked(draw: st.DrawFn, settings: _Settings) -> HypernetSpec:
    """Chunks (Appendix A.2); drawn in the order of :func:`_whole`, which shrinking falls back to."""
    bounds, least = settings.bounds, settings.bounds.min_features
    method = draw(choose(settings.methods))
    plan = Plan(
        kind=settings.kind,
        bounds=bounds,
        weights=bounds.max_entries // least**2,
        relu=flags("relu", settings.relu),
        bias=flags("bias", settings.bias),
    )
    layers, input_size = draw(tied.chunked(plan))
    layers = tuple(replace(layer, bias=False) for layer in layers)
    flow, read, batch = _data(draw, settings, layers, input_size)
    # Input layers have n_W / K times hidden times dim entries, H has no more.
    room = bounds.max_entries // max(layer.n_weights for layer in layers)
    embedding = draw(settings.features(min(bounds.max_features, room // least)))
    distribution = draw(choose(settings.distributions))
    hidden = draw(st.integers(least, min(bounds.max_features, room // embedding.dim)))
    size = draw(tied.chunk_sizes(bounds, layers))
    return HypernetSpec(
        layers=layers,
        embedding=embedding,
        method=method,
        distribution=distribution,
        input_size=input_size,
        output="chunked",
        chunk=ChunkSpec(size, hidden),
        input=read,
        batch=batch,
        flow=flow,
    )


def _data(
    draw: st.DrawFn, settings: _Settings, layers: Sequence[LayerSpec], size: tuple[int, ...]
) -> tuple[str, str, int]:
    """Flow, inputs and batch."""
    flow = draw(choose(settings.flows))
    read = draw(choose(settings.inputs))
    most = settings.bounds.max_batch if flow == "layerwise" else 1
    for layer in layers:
        reads, size = layer.reads(size), layer.output_size(size)
        alone = math.prod(size) == 1 and layer.groups == 1 and read == "normal"
        # No more than the independent inputs that a layer can have.
        most = min(most, reads) if alone else 1
    return flow, read, draw(st.integers(1, most))
