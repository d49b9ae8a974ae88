"""A claim that no draw can decide is no claim: what is knowable of it from the spec alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from hyperverify.catalogue import claims_of, conditions, shared
from hyperverify.engine import Observation
from hyperverify.errors import BadArgument
from hyperverify.sampling import blocks
from hyperverify.specs import (
    ChunkSpec,
    EmbeddingSpec,
    HypernetSpec,
    LayerSpec,
    TrunkLayerSpec,
)
from hyperverify.strategies import hypernets
from hyperverify.testing import assert_verified


def observations(spec: HypernetSpec, count: int, *gradients: str) -> list[Observation]:
    stream = blocks(spec, 0, torch.device("cpu"), torch.float64)
    return [Observation(block, gradients) for block in islice(stream, count)]


@settings(
    max_examples=60, derandomize=True, database=None, deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
@given(hypernets())
def test_every_claim_of_a_default_draw_has_something_to_measure(spec: HypernetSpec) -> None:
    seen: set[tuple[str, int]] = set()
    claims = claims_of(spec)
    kinds = sorted(frozenset[str]().union(*(claim.gradients for claim in claims)))
    wanted = {(claim.id, n) for claim in claims for n in range(len(claim.parts))}
    for o in observations(spec, 3, *kinds):
        for claim in claims:
            for n, part in enumerate(claim.parts):
                if (claim.id, n) not in seen and int(part.measure(o)[1].sum()):
                    seen.add((claim.id, n))
        if seen == wanted:
            return
    assert seen == wanted


def chain(
    width: int, layers: int, dim: int, *, relu: bool = False, one: bool = False
) -> HypernetSpec:
    return HypernetSpec(
        (LayerSpec(width, width, relu=relu),) * layers,
        EmbeddingSpec(dim, "normal"),
        "hyperfan-in",
        "normal",
        output="shared",
        embeddings="one" if one else "own",
    )


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("layers", [2, 3, 4])
@pytest.mark.parametrize("dim", [0, 1, 2, 3])  # 0: one embedding for all
def test_a_shared_chain_claims_what_its_draws_can_show_and_no_more(
    width: int, layers: int, dim: int
) -> None:
    spec = chain(width, layers, dim or 3, one=not dim)
    (o,) = observations(spec, 1, "x", "z")
    claimed = {(c.quantity, c.layer) for c in claims_of(spec)}
    for t in range(layers):
        for quantity, measure in (
            ("forward", shared.measure_forward),
            ("backward", shared.measure_backward),
        ):
            # Rounding lets through a few replicates in which rows are nearly aligned.
            shown = float((measure(o, t)[1] > 0).double().mean())
            assert shown < 0.05 or shown > 0.5
            assert ((quantity, t) in claimed) == (shown > 0.5), (quantity, t)


EMBEDDED = {
    "a line": (EmbeddingSpec(1), (), 1),
    "a line behind a linear layer": (EmbeddingSpec(1), (TrunkLayerSpec(4),), 1),
    "two rays": (EmbeddingSpec(1), (TrunkLayerSpec(4, relu=True),), 2),
    "one ray": (EmbeddingSpec(3), (TrunkLayerSpec(1, relu=True), TrunkLayerSpec(4, relu=True)), 1),
    "a bottleneck": (EmbeddingSpec(3), (TrunkLayerSpec(1), TrunkLayerSpec(4, relu=True)), 2),
    "a wide bottleneck": (EmbeddingSpec(6), (TrunkLayerSpec(2), TrunkLayerSpec(5)), 2),
    "ReLU unfolds a plane": (EmbeddingSpec(2), (TrunkLayerSpec(4, relu=True),), 4),
    "four signs": (EmbeddingSpec(2, "rademacher"), (TrunkLayerSpec(6, relu=True),), 4),
    "plain": (EmbeddingSpec(3), (), 3),
}


@pytest.mark.parametrize("name", EMBEDDED)
def test_feature_rank_is_the_most_that_draws_reach(name: str) -> None:
    embedding, trunk, rank = EMBEDDED[name]
    spec = HypernetSpec(
        (LayerSpec(3, 3),) * 6, embedding, "hyperfan-in", trunk=trunk, output="shared"
    )
    assert conditions.feature_rank(spec) == rank
    (o,) = observations(spec, 1)
    h = torch.stack([layer.h for layer in o.layers], dim=1)
    # Relative to each feature's own length: a ray may be short.
    h = torch.nn.functional.normalize(h, dim=-1)
    assert int(torch.linalg.matrix_rank(h, rtol=1e-9).max()) == rank


def test_one_embedding_and_constant_embeddings_make_one_feature() -> None:
    assert conditions.feature_rank(chain(3, 2, 5, one=True)) == 1
    m4 = HypernetSpec((LayerSpec(3, 3),) * 2, EmbeddingSpec(5, "constant"), "M4", output="shared")
    assert conditions.feature_rank(m4) == 1


IDLE = {
    "a shared chain of one unit": chain(1, 2, 1),
    "M4, a shared chain of two units": HypernetSpec(
        (LayerSpec(2, 2),) * 3, EmbeddingSpec(7, "constant"), "M4", output="shared"
    ),
    "a trunk of one unit behind a shared output layer": HypernetSpec(
        (LayerSpec(4, 4),) * 2, EmbeddingSpec(3), "hyperfan-out", trunk=(TrunkLayerSpec(1), TrunkLayerSpec(4)),
        output="shared", flow="layerwise",
    ),
    "a batch behind ReLU and one feature": HypernetSpec(
        (LayerSpec(4, 4, relu=True),), EmbeddingSpec(1, "constant"), "M4", "normal",
        batch=2, flow="layerwise",
    ),
    "a batch that spans all that is read": HypernetSpec(
        (LayerSpec(2, 4, (3,), padding=(1,), relu=True),), EmbeddingSpec(3), "hyperfan-in", "normal",
        input_size=(1,), batch=2, flow="layerwise",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", IDLE)
def test_what_had_nothing_to_measure_is_verified_now(name: str) -> None:
    spec = IDLE[name]
    checks = assert_verified(spec, tolerance=0.3)
    rules = {rule for check in checks for rule in check.rules}
    assert {rule for claim in claims_of(spec) for rule in claim.rules} == rules
    for t in range(len(spec.layers)):
        assert any(check.quantity == "weights" and check.layer == t for check in checks)


# --- A batch and zero padding. --------------------------------------------------------------------

PADDED = HypernetSpec(
    (LayerSpec(3, 2, (3,), stride=(2,), padding=(1,)),), EmbeddingSpec(5), "hyperfan-out",
    input_size=(2,), batch=2, flow="layerwise",
)  # fmt: skip


def test_a_layer_reads_what_is_inside() -> None:
    layer = LayerSpec(3, 2, (3, 2), padding=(2, 0), dilation=(2, 1))
    assert layer.reads((1, 4)) == 3 * 1 * 2  # taps at -2, 0, 2 of one position
    assert LayerSpec(6, 4, groups=2, kernel=(1,)).reads((5,)) == 3
    assert LayerSpec(3, 2, (3,), padding=(1,), padding_mode="circular").reads((3,)) == 9
    assert LayerSpec(7, 2).reads(()) == 7


@pytest.mark.parametrize("output", ["own", "chunked"])
@pytest.mark.parametrize("relu", [False, True])
def test_a_batch_is_verified_where_taps_lie_in_the_padding(output: str, relu: bool) -> None:
    layers = (replace(PADDED.layers[0], relu=relu),)
    chunk = ChunkSpec(1, 4) if output == "chunked" else None
    spec = replace(PADDED, layers=layers, output=output, chunk=chunk, distribution="normal")
    assert any(check.quantity == "dL/dW" for check in assert_verified(spec, tolerance=0.2))


def test_a_batch_beyond_what_a_position_reads_is_refused() -> None:
    assert replace(PADDED, batch=6).batch == 6
    with pytest.raises(BadArgument, match="at most 6, the independent inputs"):
        replace(PADDED, batch=7)
