"""Hypothesis strategies for hypernets, in the manner of ``hypothesis.extra``.

::

    from hypothesis import given
    from hyperverify.strategies import hypernets

    @given(hypernets(methods=["hyperfan-in"], max_width=8))
    def test_my_initializer(spec): ...

Whole hypernets with their mainnets are drawn by :func:`hypernets` and, of one sort each, by
:func:`dense_hypernets`, :func:`conv_hypernets`, :func:`shared_hypernets` and
:func:`chunked_hypernets`; pieces by :func:`layers`, :func:`mainnets`, :func:`embeddings`,
:func:`trunks`, :func:`chunks`, :func:`second_moments`, :func:`methods`, :func:`distributions` and
:func:`dtypes`.

Draws are valid by construction, so no example is thrown away, and they shrink to the smallest
hypernet that still fails: hyperfan-in, uniform, of one dense layer 1 -> 1. Bounds are keyword
arguments (:class:`Bounds` describes them) and ``max_entries`` keeps a study of any draw cheap.
Whatever leaves nothing to draw is refused when the strategy is made, with a
:class:`~hyperverify.errors.BadArgument` that says what is allowed.

Importing this package imports Hypothesis but not torch.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("hypothesis") is None:
    raise ModuleNotFoundError(
        "hyperverify.strategies needs Hypothesis: pip install 'hyperverify[strategies]'",
        name="hypothesis",
    )

from hyperverify.strategies.bounds import Bounds
from hyperverify.strategies.hypernets import (
    chunked_hypernets,
    conv_hypernets,
    dense_hypernets,
    hypernets,
    shared_hypernets,
)
from hyperverify.strategies.mainnets import Mainnet, layers, mainnets
from hyperverify.strategies.pieces import (
    chunks,
    distributions,
    dtypes,
    embeddings,
    methods,
    second_moments,
    trunks,
)

__all__ = [
    "Bounds",
    "Mainnet",
    "chunked_hypernets",
    "chunks",
    "conv_hypernets",
    "dense_hypernets",
    "distributions",
    "dtypes",
    "embeddings",
    "hypernets",
    "layers",
    "mainnets",
    "methods",
    "second_moments",
    "shared_hypernets",
    "trunks",
]
