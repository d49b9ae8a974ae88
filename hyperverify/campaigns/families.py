"""Random families of networks: network ``n`` of a family depends on its seed and ``n`` alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Annotated, Any, Final

import numpy as np
from pydantic import BeforeValidator, Field, StrictInt

from hyperverify.campaigns.axes import (
    Distributions,
    Flags,
    Kinds,
    Methods,
    Moments,
    Outputs,
    Range,
    Table,
)
from hyperverify.catalogue.study import Study
from hyperverify.errors import HyperverifyError
from hyperverify.specs import (
    DISTRIBUTIONS,
    METHODS,
    ChunkSpec,
    EmbeddingSpec,
    HypernetSpec,
    LayerSpec,
    TrunkLayerSpec,
)

MOST: Final = 1_000_000
_TRIES: Final = 200


def _share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError("a number from 0 to 1")
    return float(value)


class Family(Table):
    """Networks drawn at random: each value uniformly from its list or its range.

    Attributes:
        count, seed: how many, and what they follow from.
        method, kind, output, distribution, bias, second_moment: lists to draw from.
        layers, width, embedding_dim: ranges, ``[least, most]``.
        trunk: chance of a hidden layer in the hypernet.
        relu: chance of a ReLU behind a layer.
    """

    label: str = Field(default="", max_length=100)
    count: StrictInt = Field(ge=1, le=MOST)
    seed: StrictInt = Field(default=0, ge=0, lt=2**63)
    method: Methods = METHODS
    kind: Kinds = ("linear",)
    output: Outputs = ("own",)
    distribution: Distributions = DISTRIBUTIONS
    bias: Flags = (False, True)
    second_moment: Moments = ("1", "2", "1/3")
    layers: Range = (1, 3)
    width: Range = (3, 12)
    embedding_dim: Range = (3, 10)
    trunk: Annotated[float, BeforeValidator(_share)] = 0.3
    relu: Annotated[float, BeforeValidator(_share)] = 0.5

    def __len__(self) -> int:
        return self.count

    def studies(self) -> Iterator[Study]:
        """The networks, in order.

        Raises:
            HyperverifyError: the lists and ranges make no network, whatever is drawn.
        """
        for number in range(self.count):
            yield Study(self.spec(number), "campaign", self.label)

    def spec(self, number: int) -> HypernetSpec:
        """Network ``number``: drawn again until the draw is a network."""
        text = f"hyperverify family/{self.seed}/{number}"
        words = np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype=np.uint32)
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(words.tolist())))
        reason = ""
        for _ in range(_TRIES):
            try:
                return self._draw(generator)
            except HyperverifyError as error:
                reason = str(error)
        raise HyperverifyError(f"{_TRIES} draws made no network; the last: {reason}")

    def _draw(self, generator: np.random.Generator) -> HypernetSpec:
        def one_of(values: tuple[Any, ...]) -> Any:
            return values[int(generator.integers(len(values)))]

        def between(ends: tuple[int, ...]) -> int:
            return int(generator.integers(ends[0], ends[-1] + 1))

        def chance(share: float) -> bool:
            return bool(generator.random() < share)

        method, kind, output = one_of(self.method), one_of(self.kind), one_of(self.output)
        distribution = "normal" if method == "orthogonal" else one_of(self.distribution)
        bias = one_of(self.bias) and method not in ("M4", "orthogonal") and output != "chunked"
        widths = [between(self.width) for _ in range(between(self.layers) + 1)]
        if output == "shared":
            widths = widths[:1] * len(widths)
        chunk = None
        if output == "chunked":
            size = between((2, 4))
            widths = [max(1, round(width / size)) * size for width in widths]
            chunk = ChunkSpec(size, between(self.embedding_dim))
        one_relu = chance(self.relu)
        relus = [one_relu if output == "shared" else chance(self.relu) for _ in widths[1:]]
        kernel = (3,) * between((1, 2)) if kind == "conv" else ()
        layers = tuple(
            LayerSpec(a, b, kernel, padding=(1,) * len(kernel), relu=relu, bias=bias)
            for a, b, relu in zip(widths, widths[1:], relus, strict=False)
        )
        fixed = kind == "conv"  # embeddings and inputs of known modulus keep the laws exact there
        drawn = "constant" if method == "M4" else "rademacher" if fixed else distribution
        moment = Fraction(one_of(self.second_moment))
        trunk: tuple[TrunkLayerSpec, ...] = ()
        if method != "M4" and output != "chunked" and not fixed and chance(self.trunk):
            trunk = (TrunkLayerSpec(between(self.embedding_dim), relu=chance(0.5)),)
        return HypernetSpec(
            layers=layers,
            embedding=EmbeddingSpec(between(self.embedding_dim), drawn, moment),
            method=method,
            distribution=distribution,
            input_size=(between((3, 5)),) * len(kernel),
            trunk=trunk,
            bias_embedding=EmbeddingSpec(between(self.embedding_dim), distribution)
            if bias and chance(0.5)
            else None,
            output=output,
            chunk=chunk,
            sigma2=Fraction(1, 100) if method == "small" else None,
            input="rademacher" if fixed else "normal",
            flow="layerwise" if fixed or output != "own" else "chain",
        )
