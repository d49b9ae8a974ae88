"""Networks by crossing lists of values, and the networks of the catalogue's suites."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field

from hyperverify.campaigns.axes import (
    Distributions,
    EmbeddingDistributions,
    Flags,
    Flows,
    Inputs,
    Methods,
    Moments,
    Outputs,
    PaddingMode,
    Paddings,
    Relus,
    Sharings,
    Sizes,
    Table,
    Trunks,
    Whole,
    Wholes,
    Widths,
    trunk_layer,
)
from hyperverify.catalogue.study import Study
from hyperverify.catalogue.suites import SUITES, studies
from hyperverify.errors import HyperverifyError
from hyperverify.specs import ChunkSpec, EmbeddingSpec, HypernetSpec, LayerSpec

CROSSED: Final[tuple[str, ...]] = (
    "method",
    "widths",
    "relu",
    "bias",
    "distribution",
    "embedding_dim",
    "embedding_distribution",
    "second_moment",
    "trunk",
    "output",
    "embeddings",
    "flow",
    "input",
)
"""The keys whose values are crossed, the first moving slowest."""


class Grid(Table):
    """Every combination of the values of its keys; see ``docs/campaigns.md`` for each."""

    label: str = Field(default="", max_length=100)
    method: Methods
    widths: Widths
    relu: Relus = ("none",)
    bias: Flags = (False,)
    distribution: Distributions = ("uniform",)
    embedding_dim: Wholes = (8,)
    embedding_distribution: EmbeddingDistributions = ("same",)
    second_moment: Moments = ("1",)
    trunk: Trunks = ((),)
    output: Outputs = ("own",)
    embeddings: Sharings = ("own",)
    flow: Flows = ("chain",)
    input: Inputs = ("normal",)
    bias_embedding_dim: Whole | None = None
    kernel: Sizes = ()
    input_size: Sizes = ()
    stride: Sizes = ()
    padding: Paddings = ()
    dilation: Sizes = ()
    groups: Whole = 1
    padding_mode: PaddingMode = "zeros"
    chunk_size: Whole | None = None
    chunk_hidden: Whole | None = None
    sigma2: Moments | None = Field(default=None, max_length=1)

    def __len__(self) -> int:
        """Combinations."""
        combinations = 1
        for key in CROSSED:
            combinations *= len(getattr(self, key))
        return combinations

    def studies(self) -> Iterator[Study]:
        """The networks, in the order of `CROSSED`.

        Raises:
            HyperverifyError: a combination is no network; the message names it.
        """
        for values in product(*(getattr(self, key) for key in CROSSED)):
            chosen = dict(zip(CROSSED, values, strict=True))
            try:
                spec = self._spec(chosen)
            except HyperverifyError as error:
                several = [key for key in CROSSED if len(getattr(self, key)) > 1]
                where = ", ".join(f"{key} = {_shown(chosen[key])}" for key in several)
                raise HyperverifyError(f"{where}: {error}" if where else str(error)) from None
            yield Study(spec, "campaign", self.label)

    def _spec(self, chosen: dict[str, Any]) -> HypernetSpec:
        widths = chosen["widths"]
        last = len(widths) - 2
        fires = {"none": range(0), "all": range(last + 1), "hidden": range(last), "first": range(1)}
        layers = tuple(
            LayerSpec(
                widths[t],
                widths[t + 1],
                self.kernel,
                self.stride,
                self.padding,
                self.dilation,
                self.groups,
                self.padding_mode,
                relu=t in fires[chosen["relu"]],
                bias=chosen["bias"],
            )
            for t in range(len(widths) - 1)
        )
        drawn = chosen["embedding_distribution"]
        if drawn == "same":
            drawn = "constant" if chosen["method"] == "M4" else chosen["distribution"]
        own_bias = self.bias_embedding_dim if chosen["bias"] else None
        chunk = None
        if chosen["output"] == "chunked":
            chunk = ChunkSpec(self.chunk_size or 1, self.chunk_hidden or 1)
        return HypernetSpec(
            layers=layers,
            embedding=EmbeddingSpec(
                chosen["embedding_dim"], drawn, Fraction(chosen["second_moment"])
            ),
            method=chosen["method"],
            distribution=chosen["distribution"],
            input_size=self.input_size,
            trunk=tuple(trunk_layer(width) for width in chosen["trunk"]),
            bias_embedding=None if own_bias is None else EmbeddingSpec(own_bias, drawn),
            output=chosen["output"],
            embeddings=chosen["embeddings"],
            chunk=chunk,
            sigma2=self._sigma2(chosen["method"]),
            input=chosen["input"],
            flow=chosen["flow"],
        )

    def _sigma2(self, method: str) -> Fraction | None:
        if method != "small":
            return None
        return Fraction(self.sigma2[0]) if self.sigma2 else Fraction(1, 100)


def _shown(value: object) -> str:
    """A value as a plan spells it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(list(value)) if isinstance(value, tuple) else repr(value)  # pyright: ignore[reportUnknownArgumentType]


def _suite(value: object) -> str:
    if not isinstance(value, str) or value not in SUITES:
        raise ValueError("one of " + ", ".join(SUITES))
    return value


class Suite(Table):
    """The networks of ``hyperverify run --suite NAME``."""

    name: Annotated[str, BeforeValidator(_suite)]

    def __len__(self) -> int:
        return len(studies(self.name))

    def studies(self) -> Iterator[Study]:
        """The suite's studies, in its order."""
        yield from studies(self.name)
