"""Seeds, blocks, devices and dtypes; and that no global generator is read or moved."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import random
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from hyperverify import sampling
from hyperverify.catalogue import claims_of
from hyperverify.catalogue.study import Levels, Outcome, run_study
from hyperverify.errors import BadArgument
from hyperverify.plan import Draw, fill_, plan
from hyperverify.sampling import Block, blocks, mixed, replicates_per_block, seed_of
from hyperverify.specs import ChunkSpec, EmbeddingSpec, HypernetSpec, LayerSpec, TrunkLayerSpec

CPU = torch.device("cpu")
SPEC = HypernetSpec(
    (LayerSpec(3, 4, relu=True, bias=True), LayerSpec(4, 5)),
    EmbeddingSpec(3),
    "hyperfan-in",
    trunk=(TrunkLayerSpec(4),),
    bias_embedding=EmbeddingSpec(2, "rademacher", Fraction(9, 4)),
)


def block_of(spec: HypernetSpec = SPEC, **more: Any) -> Block:
    given: dict[str, Any] = {
        "root_seed": 5,
        "index": 2,
        "replicates": 6,
        "device": CPU,
        "dtype": torch.float64,
        "draws": plan(spec),
    }
    return Block(spec=spec, **{**given, **more})


# --- Seeds --------------------------------------------------------------------------------------


def test_a_seed_is_the_hash_of_all_that_names_the_draw() -> None:
    digest = hashlib.sha256(b"7/abc/3/trunk.0.weight").digest()
    words = [int.from_bytes(digest[n : n + 4], "little") for n in range(0, 32, 4)]
    expected = int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])
    assert seed_of(7, "abc", 3, "trunk.0.weight") == expected


def test_a_seed_depends_on_every_part_of_the_path() -> None:
    parts = [(0, 1, -1, 2**70), ("abc", "abd"), (0, 1, 10, 11), ("x", "y", "x.1")]
    seeds = [seed_of(root, *rest) for root, *rest in itertools.product(*parts)]
    seeds += [seed_of(0, "abc"), seed_of(0, "abc", 0), seed_of(0, "abc", "x", 0)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**64 for seed in seeds)
    assert max(seeds) > 2**62  # all 64 bits are used


def test_seeds_are_those_of_any_other_process() -> None:
    code = "from hyperverify.sampling import seed_of; print(seed_of(1, 'abc', 2, 'embeddings.0'))"
    for hashing in ("1", "2"):
        environment = {"PYTHONHASHSEED": hashing, "PYTHONPATH": ":".join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert int(done.stdout) == seed_of(1, "abc", 2, "embeddings.0")


# --- Blocks -------------------------------------------------------------------------------------


def test_a_tensor_is_the_same_at_each_call_and_in_any_order() -> None:
    block = block_of()
    first = {name: block.tensor(name) for name in block.draws}
    other = block_of()
    for name in reversed(list(block.draws)):
        again, apart = block.tensor(name), other.tensor(name)
        assert torch.equal(again, first[name])
        assert torch.equal(apart, first[name])
        assert again.data_ptr() != first[name].data_ptr()
        assert again.shape == (6, *block.draws[name].shape)


def test_a_tensor_is_its_draw_from_its_own_generator() -> None:
    block = block_of()
    for name, draw in block.draws.items():
        generator = torch.Generator().manual_seed(block.seed(name))
        expected = fill_(torch.empty(6, *draw.shape, dtype=torch.float64), draw, generator)
        assert torch.equal(block.tensor(name), expected)


def test_no_two_seeds_of_a_study_coincide() -> None:
    """Independent 32-bit hashes would: 130,000 of them have about two pairs alike."""
    seeds = [block_of(index=n).seed(name) for n in range(10_000) for name in block_of().names]
    assert len(seeds) > 100_000
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**32 for seed in seeds)
    # Neighbouring counters give seeds that share no more bits than chance lets them.
    flips = [(a ^ b).bit_count() for a, b in itertools.pairwise(seeds)]
    assert abs(np.mean(flips) - 16) < 0.1


def test_a_seed_counts_on_from_the_hash_of_root_and_spec() -> None:
    block = block_of()
    start = seed_of(5, SPEC.digest) + 2 * len(block.names)
    assert [block.seed(name) for name in block.names] == [
        mixed(start + n) for n in range(len(block.names))
    ]
    assert {mixed(n) for n in range(2**12)} == {mixed(n + 2**32) for n in range(2**12)}


@pytest.mark.parametrize(
    "change",
    [
        {"root_seed": 6},
        {"index": 3},
        {"spec": replace(SPEC, embedding=EmbeddingSpec(3, "uniform", Fraction(2)))},
    ],
    ids=["root", "index", "spec"],
)
def test_another_root_index_or_spec_is_another_draw(change: dict[str, Any]) -> None:
    block = block_of()
    other = block_of(**{"draws": block.draws, **change})
    names = [name for name, draw in block.draws.items() if draw.variance]
    for name in names:
        assert not torch.equal(block.tensor(name), other.tensor(name))
    plain = [block.standard("input.0", "normal", 5), other.standard("input.0", "normal", 5)]
    assert not torch.equal(*plain)


def test_tensors_of_one_block_are_different_draws() -> None:
    block = block_of()
    assert block.draws["output_layers.0.weight"].shape[-1] == 4
    same = Draw((4, 4), "normal", 1.0)
    names = [*block.draws, "input.0", "input.1", "cotangent.0", "radius.0"]
    block = block_of(draws=dict.fromkeys(names, same))
    drawn = [block.tensor(name) for name in names]
    for a, b in itertools.combinations(drawn, 2):
        assert not (a == b).any()


def test_replicates_of_one_block_are_different_draws() -> None:
    weights = block_of().tensor("output_layers.0.weight")
    for a, b in itertools.combinations(weights, 2):
        assert not (a == b).any()


def test_a_planted_draw_is_what_is_drawn() -> None:
    name = "output_layers.0.weight"
    planted = {
        **plan(SPEC),
        name: replace(plan(SPEC)[name], variance=plan(SPEC)[name].variance * 4),
    }
    fair, bent = block_of(), block_of(draws=planted)
    torch.testing.assert_close(bent.tensor(name), 2 * fair.tensor(name))
    other = "output_layers.1.weight"
    assert torch.equal(bent.tensor(other), fair.tensor(other))


def test_standard_has_second_moment_one() -> None:
    block = block_of(replicates=4000)
    signs = block.standard("input.0", "rademacher", 2, 3)
    assert signs.shape == (4000, 2, 3)
    assert signs.abs().unique().tolist() == [1]
    normal = block.standard("input.0", "normal", 2, 3)
    # 24000 squares of normals: standard deviation sqrt(2 / 24000) = 0.0091, here within 7 of them
    assert abs(normal.square().mean().item() - 1) < 7 * 0.0092
    assert abs(signs.mean().item()) < 7 * 0.0065
    assert torch.equal(normal, block.standard("input.0", "normal", 2, 3))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_tensors_have_the_dtype_of_the_block(dtype: torch.dtype) -> None:
    block = block_of(dtype=dtype)
    assert {block.tensor(name).dtype for name in block.draws} == {dtype}
    assert block.standard("input.0", "normal", 3).dtype == dtype
    assert block.empty(2, 3).dtype == dtype


def test_bfloat16_is_float32_rounded() -> None:
    for name in plan(SPEC):
        single = block_of(dtype=torch.float32).tensor(name)
        assert torch.equal(block_of(dtype=torch.bfloat16).tensor(name), single.bfloat16())


def test_the_stream_of_blocks_counts_from_zero() -> None:
    taken = list(itertools.islice(blocks(SPEC, 5, CPU, torch.float32), 3))
    assert [block.index for block in taken] == [0, 1, 2]
    assert {block.replicates for block in taken} == {replicates_per_block(SPEC)}
    assert all(block.draws == plan(SPEC) for block in taken)
    first, second = (block.tensor("embeddings.0") for block in taken[:2])
    assert not torch.equal(first, second)


# --- The size of a block --------------------------------------------------------------------------

SIZES = {
    "small": SPEC,
    "wide": HypernetSpec((LayerSpec(500, 500),), EmbeddingSpec(50), "hyperfan-in"),
    "conv": HypernetSpec(
        (LayerSpec(16, 16, (3, 3)),), EmbeddingSpec(20), "hyperfan-in", input_size=(32, 32)
    ),
    "batch": HypernetSpec(
        (LayerSpec(30, 3),), EmbeddingSpec(2), "hyperfan-in", batch=30, flow="layerwise"
    ),
    "chunked": HypernetSpec(
        (LayerSpec(32, 32, (3,)),),
        EmbeddingSpec(8),
        "hyperfan-in",
        output="chunked",
        chunk=ChunkSpec(16, 8),
        input_size=(9,),
    ),
}


@pytest.mark.parametrize("spec", SIZES.values(), ids=SIZES.keys())
def test_a_block_is_as_large_as_its_spec_lets_it(spec: HypernetSpec) -> None:
    """About 2**21 entries of hypernet and input, at most 4096 replicates, at least one."""
    entries = sum(int(np.prod(draw.shape)) for draw in plan(spec).values())
    entries += spec.batch * max(
        layer.in_channels * int(np.prod(size))
        for layer, size in zip(spec.layers, spec.sizes, strict=False)
    )
    R = replicates_per_block(spec)
    assert 1 <= R <= 4096
    assert R == 4096 or (R + 1) * entries > 2**21
    assert R == 1 or R * entries <= 2**21


def test_the_size_of_a_block_depends_on_the_spec_only() -> None:
    """The looks at the evidence are predetermined: nothing measured can move them."""
    assert list(inspect.signature(replicates_per_block).parameters) == ["spec"]
    expected = replicates_per_block(SPEC)
    planted = {name: replace(draw, variance=0.0) for name, draw in plan(SPEC).items()}
    for root, dtype, draws in itertools.product(
        (0, 9), (torch.float64, torch.bfloat16), (None, planted)
    ):
        stream = blocks(SPEC, root, CPU, dtype, draws)
        assert {next(stream).replicates for _ in range(3)} == {expected}
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert replicates_per_block(HypernetSpec.from_dict(SPEC.to_dict())) == expected
    finally:
        torch.set_num_threads(threads)


def test_entries_of_a_layers_input() -> None:
    assert [sampling.layer_entries(SPEC, t) for t in range(2)] == [3, 4]
    assert sampling.layer_entries(SIZES["conv"], 0) == 16 * 32 * 32


# --- Devices and dtypes ---------------------------------------------------------------------------


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sampling.resolve_device("cpu") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert sampling.resolve_device("auto") == CPU
    with pytest.raises(BadArgument) as caught:
        sampling.resolve_device("cuda")
    expected = "device is 'cuda'; allowed: cpu or auto here: torch sees no CUDA device"
    assert str(caught.value) == expected
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert sampling.resolve_device("cuda").type == "cuda"
    assert sampling.resolve_device("auto").type == "cuda"


@pytest.mark.parametrize("name", ["gpu", "cuda:0", "CPU", "", None, 0])
def test_other_devices_are_refused(name: Any) -> None:
    with pytest.raises(BadArgument) as caught:
        sampling.resolve_device(name)
    assert str(caught.value) == f"device is {name!r}; allowed: one of auto, cpu, cuda"


def test_dtypes() -> None:
    for name in ("float64", "float32", "bfloat16"):
        assert sampling.resolve_dtype(name) == getattr(torch, name)
    with pytest.raises(BadArgument) as caught:
        sampling.resolve_dtype("float16")
    expected = "dtype is 'float16'; allowed: one of float64, float32, bfloat16"
    assert str(caught.value) == expected


# --- Global generators ----------------------------------------------------------------------------

LEVELS = Levels(alpha=1e-3, beta=1e-2, tolerance=0.5, p_inconclusive=1e-3)
STUDIES = {
    "chain": SPEC,
    "conv": HypernetSpec(
        (LayerSpec(2, 4, (3,), padding=(1,), relu=True),),
        EmbeddingSpec(3, "normal"),
        "hyperfan-out",
        input_size=(5,),
        flow="layerwise",
        input="rademacher",
    ),
    "orthogonal": HypernetSpec((LayerSpec(4, 4),), EmbeddingSpec(3), "orthogonal", "normal"),
    "chunked": HypernetSpec(
        (LayerSpec(4, 4),),
        EmbeddingSpec(3, "normal"),
        "hyperfan-in",
        "normal",
        output="chunked",
        chunk=ChunkSpec(2, 3),
    ),
}


def study(spec: HypernetSpec, root_seed: int = 0) -> list[Outcome]:
    return run_study(claims_of(spec), root_seed, LEVELS, CPU, torch.float32)


def facts(outcomes: list[Outcome]) -> list[object]:
    return [(o.claim.id, o.verdict, o.value(), o.interval()) for o in outcomes]


@pytest.mark.parametrize("spec", STUDIES.values(), ids=STUDIES.keys())
def test_global_generators_are_neither_read_nor_moved(spec: HypernetSpec) -> None:
    found: list[list[object]] = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        before = (random.getstate(), np.random.get_state(), torch.get_rng_state())  # noqa: NPY002
        found.append(facts(study(spec)))
        after = (random.getstate(), np.random.get_state(), torch.get_rng_state())  # noqa: NPY002
        assert before[0] == after[0]
        assert all(np.array_equal(a, b) for a, b in zip(before[1], after[1], strict=True))
        assert torch.equal(before[2], after[2])
    assert found[0] == found[1]
    assert found[0] != facts(study(spec, root_seed=1))


def test_an_outcome_does_not_depend_on_its_company() -> None:
    """One claim alone has the evidence that it has among all claims of its spec."""
    together = facts(study(SPEC))
    claims = claims_of(SPEC)
    assert len(claims) > 6
    alone = [run_study([claim], 0, LEVELS, CPU, torch.float32)[0] for claim in claims]
    assert facts(alone) == together


def test_freed_memory_is_kept_only_where_the_c_library_can(monkeypatch: pytest.MonkeyPatch) -> None:
    class Without:
        """A C library that is not GNU's."""

    class With:
        def __init__(self) -> None:
            self.asked: list[tuple[int, int]] = []

        def mallopt(self, option: int, value: int) -> None:
            self.asked.append((option, value))

    gnu = With()
    for library in (Without(), gnu):
        monkeypatch.setattr(sampling.ctypes, "CDLL", lambda _, found=library: found)
        sampling.keep_freed_memory()
    assert gnu.asked == [(-1, 2**30), (-3, 2**30)]
