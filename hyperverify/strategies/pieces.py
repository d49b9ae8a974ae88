"""Strategies for what a hypernet is put together from, besides its mainnet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import TypeVar

from hypothesis import strategies as st

from hyperverify.errors import BadArgument
from hyperverify.spec_fields import rational, whole
from hyperverify.specs import (
    DISTRIBUTIONS,
    EMBEDDING_DISTRIBUTIONS,
    METHODS,
    OUTPUTS,
    ChunkSpec,
    EmbeddingSpec,
    TrunkLayerSpec,
)
from hyperverify.strategies.bounds import names, optional_flag, ordered

Option = TypeVar("Option")

DTYPE_NAMES = ("float32", "float64", "bfloat16")
NOT_CONSTANT = tuple(kind for kind in EMBEDDING_DISTRIBUTIONS if kind != "constant")
"""What any method but M4 reads: all but ``constant``."""

WITHOUT_BIAS = ("M4", "orthogonal")
OF_CHUNKS = ("hyperfan-in", "hyperfan-out")


def dtypes(among: Sequence[str] = DTYPE_NAMES) -> st.SearchStrategy[str]:
    """Names of dtypes, as ``RunSettings`` takes them; shrinks towards ``float32``.

    Args:
        among: the dtypes to choose from.

    Raises:
        BadArgument: for a dtype that is not known.
    """
    return choose(names("dtypes", among, DTYPE_NAMES))


def distributions(among: Sequence[str] = DISTRIBUTIONS) -> st.SearchStrategy[str]:
    """Distributions of the hypernet's weights; shrinks towards ``uniform``.

    Args:
        among: the distributions to choose from.

    Raises:
        BadArgument: for a distribution that is not known.
    """
    return choose(names("distributions", among, DISTRIBUTIONS))


def methods(
    among: Sequence[str] = METHODS, *, output: str = "own", bias: bool | None = None
) -> st.SearchStrategy[str]:
    """Names of initializations; shrinks towards ``hyperfan-in``.

    Args:
        among: the methods to choose from.
        output: leaves out those that do not go with this kind of output layer: ``chunked`` goes
            with ``hyperfan-in`` and ``hyperfan-out`` only, and without generated biases.
        bias: True leaves out those that generate no biases (``M4``, ``orthogonal``).

    Raises:
        BadArgument: for a name that is not known, or where none is left.
    """
    names("output", [output], OUTPUTS)
    found = names("methods", among, METHODS)
    fitting = fitting_methods(METHODS, output, optional_flag("bias", bias))
    left = [method for method in found if method in fitting]
    if not left:
        where = f"with output {output}, bias {bias}"
        raise BadArgument("methods", among, f"one or more of {', '.join(fitting)} {where}")
    return choose(left)


def fitting_methods(among: Sequence[str], output: str, bias: bool | None) -> tuple[str, ...]:
    """Those ``among`` that go with the output layers and with what ``bias`` asks for."""
    if output == "chunked":
        return tuple(method for method in among if method in OF_CHUNKS and not bias)
    return tuple(method for method in among if not (bias and method in WITHOUT_BIAS))


def second_moments(
    min_value: Fraction | float | str = Fraction(1, 4),
    max_value: Fraction | float | str = Fraction(4),
    *,
    max_denominator: int = 4,
) -> st.SearchStrategy[Fraction]:
    """Second moments, exact; shrinks towards 1 where that is within the bounds.

    Args:
        min_value: the lower end; ints, Fractions, floats or strings such as "1/3".
        max_value: the upper end, inclusive as the lower one.
        max_denominator: of the fraction.

    Raises:
        BadArgument: for ends that are not above 0, or with no such fraction between them.
    """
    low = rational("min_value", min_value, positive=True)
    high = rational("max_value", max_value, positive=True)
    most = whole("max_denominator", max_denominator)
    ranges = {d: (math.ceil(low * d), math.floor(high * d)) for d in range(1, most + 1)}
    fitting = [d for d, (least, greatest) in ranges.items() if least <= greatest]
    if not fitting:
        allowed = f"an end with a fraction of a denominator of at most {most} between {low} and it"
        raise BadArgument("max_value", high, allowed)

    def numerators(d: int) -> st.SearchStrategy[Fraction]:
        return st.integers(*ranges[d]).map(lambda n: Fraction(n, d))

    found = choose(fitting).flatmap(numerators)
    return st.just(Fraction(1)) | found if low <= 1 <= high else found


@st.composite
def _embeddings(
    draw: st.DrawFn,
    dims: st.SearchStrategy[int],
    kinds: st.SearchStrategy[str],
    moments: st.SearchStrategy[Fraction],
    shifted: bool,
) -> EmbeddingSpec:
    dim, kind, second = draw(dims), draw(kinds), draw(moments)
    # Quarters, or finer ones if E[e^2] is so small that no quarter but 0 has mean^2 < E[e^2].
    parts = max(4, math.isqrt(math.floor(1 / second)) + 1)
    most = math.isqrt(math.ceil(second * parts**2) - 1)
    if not shifted or kind not in ("uniform", "normal"):
        most = 0
    return EmbeddingSpec(dim, kind, second, Fraction(draw(st.integers(-most, most)), parts))


def embeddings(
    *,
    min_dim: int = 1,
    max_dim: int = 8,
    distributions: Sequence[str] = NOT_CONSTANT,
    moments: st.SearchStrategy[Fraction] | None = None,
    means: bool = True,
) -> st.SearchStrategy[EmbeddingSpec]:
    """Embeddings; shrinks towards one uniform entry of mean 0 and second moment 1.

    Args:
        min_dim: the fewest entries.
        max_dim: the most entries.
        distributions: some of ``uniform``, ``normal``, ``rademacher`` and ``constant``. Method M4
            needs ``constant`` for what generates W, and no other method goes with it there.
        moments: of the second moment; by default :func:`second_moments`.
        means: whether uniform and normal embeddings may have a mean other than 0.

    Raises:
        BadArgument: for bounds that leave nothing to draw.
    """
    ordered("min_dim", "max_dim", whole("min_dim", min_dim), whole("max_dim", max_dim))
    kinds = names("distributions", distributions, EMBEDDING_DISTRIBUTIONS)
    if moments is None:
        moments = second_moments()
    return _embeddings(st.integers(min_dim, max_dim), choose(kinds), moments, means)


def trunks(
    *, min_width: int = 1, max_width: int = 8, max_depth: int = 2, relu: bool | None = None
) -> st.SearchStrategy[tuple[TrunkLayerSpec, ...]]:
    """Hidden layers of a hypernet; shrinks towards none.

    Args:
        min_width: the fewest units of a layer.
        max_width: the most units of a layer.
        max_depth: the most layers.
        relu: whether ReLU follows them; None leaves it to each layer.

    Raises:
        BadArgument: for bounds that leave nothing to draw.
    """
    ordered("min_width", "max_width", whole("min_width", min_width), whole("max_width", max_width))
    whole("max_depth", max_depth, 0)
    hidden = st.builds(TrunkLayerSpec, st.integers(min_width, max_width), flags("relu", relu))
    return st.lists(hidden, max_size=max_depth).map(tuple)


def chunks(
    *, min_size: int = 1, max_size: int = 4, min_hidden: int = 1, max_hidden: int = 8
) -> st.SearchStrategy[ChunkSpec]:
    """Ha et al.'s chunks (Appendix A.2); shrinks towards K = 1 channel and one entry of alpha.

    Args:
        min_size: the smallest K, channels of a chunk.
        max_size: the largest K.
        min_hidden: the smallest d_k, entries of alpha.
        max_hidden: the largest d_k.

    Raises:
        BadArgument: for bounds that leave nothing to draw.
    """
    ordered("min_size", "max_size", whole("min_size", min_size), whole("max_size", max_size))
    ordered(
        "min_hidden", "max_hidden", whole("min_hidden", min_hidden), whole("max_hidden", max_hidden)
    )
    sizes, hidden = st.integers(min_size, max_size), st.integers(min_hidden, max_hidden)
    return st.builds(ChunkSpec, sizes, hidden)


def flags(name: str, value: bool | None) -> st.SearchStrategy[bool]:
    """Booleans that shrink towards False, or the one that ``value`` names."""
    known = optional_flag(name, value)
    return st.booleans() if known is None else st.just(known)


def choose(options: Sequence[Option]) -> st.SearchStrategy[Option]:
    """One of the options; shrinks towards the first.

    Unlike ``sampled_from`` it makes a choice even of one option. Shrinking prefers few choices, so
    what leaves no choice would pass for simpler than what is first.
    """
    return st.integers(0, len(options) - 1).map(lambda n: options[n])
