"""The suites: which specs are studied. Plain lists, made by small loops, the same at every call."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import product

from hyperverify.catalogue.paper import paper
from hyperverify.catalogue.study import Study
from hyperverify.errors import BadArgument
from hyperverify.specs import (
    ChunkSpec,
    EmbeddingSpec,
    HypernetSpec,
    LayerSpec,
    TrunkLayerSpec,
)

SUITES = ("quick", "standard", "paper", "all")
HYPERFAN = ("hyperfan-in", "hyperfan-out")
MEANS = ("hyperfan-harmonic", "hyperfan-geometric", "hyperfan-arithmetic")
CLASSICAL = (
    "fan-in",
    "fan-out",
    "harmonic",
    "geometric",
    "arithmetic",
    "torch-default",
    "small",
    "M3",
)
DISTRIBUTIONS = ("uniform", "normal")
RELU = ("none", "all", "mixed")

# Second moments other than 1 and unequal widths: a rule that forgets one of them is found out.
_SECOND_MOMENTS = (Fraction(1), Fraction(2), Fraction(1, 3))
_TRUNKS: tuple[tuple[TrunkLayerSpec, ...], ...] = (
    (),
    (TrunkLayerSpec(10),),
    (TrunkLayerSpec(12, relu=True), TrunkLayerSpec(8)),
    (TrunkLayerSpec(9, relu=True),),
)


def _fires(pattern: str, t: int) -> bool:
    return pattern == "all" or (pattern == "mixed" and t == 0)


def _embedding(n: int, distribution: str, dim: int = 8) -> EmbeddingSpec:
    return EmbeddingSpec(dim, distribution, _SECOND_MOMENTS[n % len(_SECOND_MOMENTS)])


def _sigma2(method: str) -> Fraction | None:
    return Fraction(1, 100) if method == "small" else None


def linear(method: str, relu: str, bias: bool, distribution: str, n: int = 0) -> HypernetSpec:
    """Two dense layers of unequal widths, an output layer each; ``n`` varies the hypernet."""
    widths = (12, 16, 10) if n % 2 else (16, 10, 14)
    layers = tuple(
        LayerSpec(widths[t], widths[t + 1], relu=_fires(relu, t), bias=bias) for t in range(2)
    )
    return HypernetSpec(
        layers=layers,
        embedding=_embedding(n, distribution),
        method=method,
        distribution=distribution,
        trunk=_TRUNKS[n % len(_TRUNKS)],
        bias_embedding=_embedding(n + 1, distribution, 6) if bias else None,
        bias_trunk=_TRUNKS[(n + 1) % len(_TRUNKS)] if bias else (),
        sigma2=_sigma2(method),
    )


_CONVOLUTIONS: tuple[tuple[LayerSpec, LayerSpec], ...] = (
    (
        LayerSpec(4, 6, (3, 3), padding=(1, 1)),
        LayerSpec(6, 5, (3, 3), padding=(1, 1), padding_mode="circular"),
    ),
    (
        LayerSpec(8, 6, (3, 3), stride=(2, 2), padding=(1, 1), groups=2),
        LayerSpec(6, 8, (2, 2), groups=2),
    ),
    (
        LayerSpec(6, 9, (3,), padding=(2,), dilation=(2,)),
        LayerSpec(9, 6, (3,), stride=(2,), padding=(1,), groups=3),
    ),
    (LayerSpec(4, 8, (1, 1)), LayerSpec(8, 8, (3, 3), padding=(1, 1), groups=8)),
)


def conv(method: str, relu: str, bias: bool, distribution: str, n: int = 0) -> HypernetSpec:
    """Two convolutions, looked at inside and at the border, inputs of known modulus."""
    pair = _CONVOLUTIONS[n % len(_CONVOLUTIONS)]
    layers = tuple(
        LayerSpec(
            layer.in_channels,
            layer.out_channels,
            layer.kernel,
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
            layer.padding_mode,
            relu=_fires(relu, t),
            bias=bias,
        )
        for t, layer in enumerate(pair)
    )
    size = (5,) * len(pair[0].kernel)
    return HypernetSpec(
        layers=layers,
        embedding=EmbeddingSpec(6, "rademacher", _SECOND_MOMENTS[n % 3]),
        method=method,
        distribution=distribution,
        input_size=size,
        bias_embedding=EmbeddingSpec(5, distribution) if bias else None,
        sigma2=_sigma2(method),
        input="rademacher",
        flow="layerwise",
    )


def shared(
    method: str, relu: bool, bias: bool, distribution: str, flow: str, kind: str = "linear"
) -> HypernetSpec:
    """Two layers of a chain, or three fed apart, behind one output layer (Appendix A.1)."""
    if kind == "conv":
        layer = LayerSpec(6, 6, (3, 3), padding=(1, 1), relu=relu, bias=bias)
    else:
        layer = LayerSpec(8, 8, relu=relu, bias=bias)
    return HypernetSpec(
        layers=(layer,) * (2 if flow == "chain" or kind == "conv" else 3),
        embedding=_embedding(1, distribution, 6),
        method=method,
        distribution=distribution,
        input_size=(4, 4) if kind == "conv" else (),
        bias_embedding=_embedding(0, distribution, 5) if bias else None,
        output="shared",
        flow=flow,
    )


def one_embedding(method: str, relu: bool, distribution: str = "normal") -> HypernetSpec:
    """Three layers with output layers of their own, behind one embedding and one trunk."""
    return HypernetSpec(
        layers=(LayerSpec(8, 10, relu=relu), LayerSpec(10, 8, relu=relu), LayerSpec(8, 6)),
        embedding=_embedding(2, distribution, 7),
        method=method,
        distribution=distribution,
        trunk=_TRUNKS[2],
        embeddings="one",
    )


def chunked(method: str, relu: bool, distribution: str, kind: str = "linear") -> HypernetSpec:
    """Chunks of K = 4 (Appendix A.2): two layers tiled along the outputs, one along the inputs."""
    kernel, padding = ((3, 3), (1, 1)) if kind == "conv" else ((), ())
    return HypernetSpec(
        layers=tuple(
            LayerSpec(a, b, kernel, padding=padding, relu=relu) for a, b in ((6, 4), (4, 8), (8, 6))
        ),
        embedding=_embedding(1, distribution, 5),
        method=method,
        distribution=distribution,
        input_size=(4, 4) if kind == "conv" else (),
        output="chunked",
        chunk=ChunkSpec(4, 6),
        flow="layerwise",
    )


def special(method: str, relu: bool, kind: str = "linear") -> HypernetSpec:
    """M4 (constant embeddings) and orthogonal output layers."""
    layers = (LayerSpec(9, 6, relu=relu), LayerSpec(6, 12, relu=relu))
    if kind == "conv":
        layers = (LayerSpec(4, 6, (3, 3), relu=relu), LayerSpec(6, 4, (2, 2), relu=relu))
    return HypernetSpec(
        layers=layers,
        embedding=EmbeddingSpec(6, "constant") if method == "M4" else _embedding(1, "uniform", 6),
        method=method,
        distribution="normal",
        input_size=(6, 6) if kind == "conv" else (),
        flow="layerwise" if kind == "conv" else "chain",
    )


def deep(method: str, relu: bool, bias: bool, distribution: str, layers: int = 6) -> HypernetSpec:
    """A deep square net of width 8: what depth does to second moments."""
    fixed = EmbeddingSpec(6, "constant") if method == "M4" else EmbeddingSpec(6, distribution)
    return HypernetSpec(
        layers=(LayerSpec(8, 8, relu=relu, bias=bias),) * layers,
        embedding=fixed,
        method=method,
        distribution="normal" if method == "orthogonal" else distribution,
        bias_embedding=EmbeddingSpec(5, distribution) if bias else None,
        sigma2=_sigma2(method),
    )


def deep_conv(method: str, distribution: str) -> HypernetSpec:
    """A deep circular convolution, where Table 1 is exact at every position."""
    layer = LayerSpec(4, 4, (3,), padding=(1,), padding_mode="circular", relu=True)
    return HypernetSpec(
        layers=(layer,) * 5,
        embedding=EmbeddingSpec(5, distribution),
        method=method,
        distribution=distribution,
        input_size=(4,),
    )


def _depths(full: bool) -> Iterator[Study]:
    every = (*HYPERFAN, *MEANS, *CLASSICAL, "M4", "orthogonal")
    for n, (method, relu) in enumerate(product(every, (False, True))):
        for distribution in DISTRIBUTIONS if full else (DISTRIBUTIONS[n % 2],):
            if method == "orthogonal" and distribution == "normal" and full:
                continue
            spec = deep(method, relu, False, distribution)
            yield Study(spec, label="6 square layers", quantities=("depth", "embedding"))
    for n, (method, relu) in enumerate(product(HYPERFAN, (False, True))):
        spec = deep(method, relu, True, DISTRIBUTIONS[n % 2])
        yield Study(spec, label="6 square layers", quantities=("depth", "embedding"))
    for n, method in enumerate((*HYPERFAN, "fan-in", "fan-out") if full else ("hyperfan-in",)):
        spec = deep_conv(method, DISTRIBUTIONS[n % 2])
        yield Study(spec, label="5 circular convolutions", quantities=("depth", "embedding"))


def _grid(full: bool) -> Iterator[Study]:
    """Every rule over every setting: ``full`` crosses the distributions, else they alternate."""

    def drawn(n: int) -> tuple[str, ...]:
        return DISTRIBUTIONS if full else (DISTRIBUTIONS[n % 2],)

    for n, (method, relu, bias) in enumerate(product(HYPERFAN, RELU, (False, True))):
        for distribution in drawn(n // 2):
            yield Study(linear(method, relu, bias, distribution, n))
            yield Study(conv(method, relu, bias, distribution, n))
    for n, (method, relu, bias) in enumerate(product(HYPERFAN, (False, True), (False, True))):
        for distribution in drawn(n):
            yield Study(shared(method, relu, bias, distribution, "layerwise"))
            if not bias:
                yield Study(shared(method, relu, False, distribution, "chain"))
                yield Study(shared(method, relu, False, distribution, "layerwise", "conv"))
        if not bias:
            yield Study(one_embedding(method, relu))
    for n, (method, relu, kind) in enumerate(product(HYPERFAN, (False, True), ("linear", "conv"))):
        for distribution in drawn(n // 2):
            yield Study(chunked(method, relu, distribution, kind))
    for n, (method, bias) in enumerate(product((*MEANS, *CLASSICAL), (False, True))):
        for m, relu in enumerate(("none", "all") if full else (RELU[n // 2 % 2],)):
            distribution = DISTRIBUTIONS[(n // 2 + m) % 2]
            yield Study(linear(method, relu, bias, distribution, n))
            if bias == (full and m == 1):
                yield Study(conv(method, relu, bias, distribution, n))
    for method, relu in product(("M4", "orthogonal"), (False, True)):
        yield Study(special(method, relu))
        yield Study(special(method, relu, "conv"))
    yield from _depths(full)


def _quick() -> Iterator[Study]:
    """Every rule once or twice, and what depth makes of the best-known ones."""
    glance = ("weights", "biases", "forward", "embedding")
    for n, method in enumerate(HYPERFAN):
        yield Study(linear(method, "mixed", True, DISTRIBUTIONS[n], n))
        yield Study(conv(method, "none", False, DISTRIBUTIONS[n], n))
        yield Study(chunked(method, False, "normal"))
    yield Study(shared("hyperfan-in", True, False, "normal", "layerwise"))
    for n, method in enumerate((*MEANS, *CLASSICAL)):
        spec = linear(method, "all", True, DISTRIBUTIONS[n % 2], n)
        yield Study(spec, quantities=glance)
    for method in ("M4", "orthogonal"):
        yield Study(special(method, True), quantities=glance)
    for method in (*HYPERFAN, "fan-in", "fan-out", "M3", "M4"):
        yield Study(deep(method, True, False, "uniform"), quantities=("depth", "embedding"))


def studies(suite: str) -> list[Study]:
    """The studies of a suite, each spec once.

    Raises:
        BadArgument: for an unknown suite.
    """
    if suite not in SUITES:
        raise BadArgument("suite", suite, "one of " + ", ".join(SUITES))
    if suite == "quick":
        found = list(_quick())
    elif suite == "standard":
        found = list(_grid(full=False))
    elif suite == "paper":
        found = list(paper())
    else:
        found = [*_grid(full=True), *paper()]
    unique = {study.spec.digest: study for study in reversed(found)}
    return list(reversed(unique.values()))
