"""The compiled engine: the eager one's numbers up to rounding, each function compiled once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from hyperverify import nets
from hyperverify.catalogue import claims_of
from hyperverify.catalogue.study import Levels, run_study
from hyperverify.compiled import compiled_per_replicate, compiling
from hyperverify.engine import GRADIENTS, Observation
from hyperverify.errors import HyperverifyError
from hyperverify.evidence import Verdict
from hyperverify.plan import plan
from hyperverify.rounding import rounding_allowance, rounding_error
from hyperverify.sampling import Block
from hyperverify.specs import ChunkSpec, EmbeddingSpec, HypernetSpec, LayerSpec, TrunkLayerSpec

CPU = torch.device("cpu")
E4 = EmbeddingSpec(4)

DENSE = HypernetSpec(
    (LayerSpec(5, 6, relu=True, bias=True),),
    E4,
    "hyperfan-in",
    trunk=(TrunkLayerSpec(7, relu=True),),
    bias_embedding=EmbeddingSpec(3),
)
SHARED = HypernetSpec((LayerSpec(6, 6),) * 2, E4, "hyperfan-in", "normal", output="shared")
CONV = HypernetSpec(
    (LayerSpec(4, 6, (3,), padding=(1,), padding_mode="circular", relu=True),),
    E4,
    "hyperfan-out",
    input_size=(5,),
    flow="layerwise",
)
CHUNKED = HypernetSpec(
    (LayerSpec(4, 8),), E4, "hyperfan-in", output="chunked", chunk=ChunkSpec(4, 3), flow="layerwise"
)

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, [os.environ.get("CXX", "g++"), "clang++"])),
    reason="no C++ compiler (g++ or clang++)",
)
compiles = [needs_compiler, pytest.mark.slow]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def block_of(spec: HypernetSpec, dtype: torch.dtype = torch.float32, index: int = 0) -> Block:
    return Block(spec, 0, index, 300, CPU, dtype, plan(spec))


def tensors_of(o: Observation) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for t, layer in enumerate(o.layers):
        for kind in ("h", "g", "W", "b", "x", "z", "y"):
            value = getattr(layer, kind)
            if value is not None:
                found[f"{kind}{t}"] = value
        found |= {f"dL/d{kind}{t}": gradient for kind, gradient in layer.grad.items()}
    return found


# --- The same numbers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "dtype"),
    [
        pytest.param(DENSE, torch.float64, id="dense, float64", marks=compiles),
        pytest.param(SHARED, torch.float32, id="shared", marks=compiles),
        pytest.param(CONV, torch.float32, id="conv", marks=compiles),
        pytest.param(CHUNKED, torch.bfloat16, id="chunked, bfloat16", marks=compiles),
    ],
)
def test_compiled_and_eager_differ_by_rounding_only(spec: HypernetSpec, dtype: torch.dtype) -> None:
    block = block_of(spec, dtype)
    eager, compiled = (Observation(block, GRADIENTS, compiled=c) for c in (False, True))
    ones, others = tensors_of(eager), tensors_of(compiled)
    assert ones.keys() == others.keys()
    for name, one in ones.items():
        other = others[name]
        assert (other.dtype, other.shape) == (one.dtype, one.shape), name
        if name[0] != "d":  # a unit whose sign turns takes its gradient along
            off = (other.double() - one.double()).norm() / one.double().norm()
            assert off <= 2 * rounding_error(spec, dtype), name
    for claim in claims_of(spec):
        for part in claim.parts:
            (S, nu), (S2, nu2) = part.measure(eager), part.measure(compiled)
            theta, theta2 = S.sum() / nu.sum(), S2.sum() / nu2.sum()
            allowance = rounding_allowance(spec, dtype, int(nu.sum()))
            assert abs(theta2 / theta - 1) <= allowance, claim.id


@needs_compiler
@pytest.mark.slow
def test_streamed_gradients_are_compiled_too() -> None:
    block = block_of(SHARED)
    whole = tensors_of(Observation(block, GRADIENTS, compiled=True))
    streamed = tensors_of(Observation(block, GRADIENTS, streaming=True, compiled=True))
    for name, one in whole.items():
        off = (streamed[name] - one).norm() / one.norm()
        assert off <= 2 * rounding_error(SHARED, torch.float32), name


@needs_compiler
@pytest.mark.slow
def test_a_compiled_study_reaches_the_same_verdicts() -> None:
    claims = claims_of(CONV)
    levels = Levels(1e-9, 1e-3, 0.1, 1e-6)
    eager, compiled = (
        run_study(claims, 0, levels, CPU, torch.float32, compiled=c) for c in (False, True)
    )
    for one, other in zip(eager, compiled, strict=True):
        assert one.verdict == other.verdict == Verdict.VERIFIED, one.claim.id


# --- Compiled, and compiled once ------------------------------------------------------------------


@needs_compiler
@pytest.mark.slow
def test_every_function_is_compiled_whole_and_once_for_all_blocks() -> None:
    from torch._dynamo.utils import counters

    graphs: list[int] = []
    for index in range(3):
        o = Observation(block_of(SHARED, index=index), GRADIENTS, compiled=True)
        assert o.layers[0].grad
        graphs.append(counters["stats"]["unique_graphs"])
        o.release()
    assert graphs[0] > 0
    assert graphs[1:] == graphs[:1] * 2
    assert not counters["graph_break"]


def _first(how_many: int, x: Tensor) -> Tensor:
    assert torch.compiler.is_compiling()
    return x[:how_many]


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("varied", ["what is the same for all", "shapes"])
def test_more_versions_than_torch_keeps_of_one_code_object(varied: str) -> None:
    """torch gives a code object eight versions, and what asks for a ninth is not compiled."""
    for n in range(1, 11):
        how_many, replicates = (n, 3) if varied == "what is the same for all" else (2, n)
        made = compiled_per_replicate(_first, (how_many,), torch.ones(replicates, 12))
        assert made.shape == (replicates, how_many)


def test_eager_observations_compile_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features = nets.features

    def watched(*arguments: object) -> Tensor:
        assert not torch.compiler.is_compiling()
        return features(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(nets, "features", watched)
    assert Observation(block_of(DENSE)).layers[0].h.isfinite().all()


# --- What goes wrong, and what is said ------------------------------------------------------------


@pytest.mark.parametrize("before", ["", "backend='inductor' raised:\n", "\n\n"])
def test_a_failed_compilation_is_one_clear_line(before: str) -> None:
    from torch._dynamo.exc import Unsupported

    with pytest.raises(HyperverifyError) as caught, compiling():
        raise Unsupported(before + "Attempted to do something\n  Explanation: ...\n")
    assert str(caught.value) == (
        "torch.compile failed (Unsupported: Attempted to do something); "
        "allowed: the backend eager, or a C++ compiler that torch finds (g++ or clang++)"
    )


def test_a_kernel_that_does_not_load_points_at_the_cache() -> None:
    from torch._dynamo.exc import Unsupported

    with pytest.raises(HyperverifyError) as caught, compiling():
        raise Unsupported("ImportError: /cache/pe/cpeo.main.so: file too short\n")
    assert str(caught.value) == (
        "torch.compile failed (Unsupported: ImportError: /cache/pe/cpeo.main.so: file too short); "
        "allowed: an emptied TORCHINDUCTOR_CACHE_DIR: a run that was killed may have left it broken"
    )


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), compiling():
        raise ZeroDivisionError


@pytest.mark.slow
def test_without_a_cpp_compiler_the_user_is_told(tmp_path: os.PathLike[str]) -> None:
    script = (
        "import torch; from hyperverify.compiled import compiled_per_replicate as run\n"
        "from hyperverify.errors import HyperverifyError\n"
        "try: run(torch.mul, (2.0,), torch.ones(3, 2))\n"
        "except HyperverifyError as error: print(error)"
    )
    environment = {
        **os.environ,
        "CXX": "no-such-compiler",
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    (line,) = done.stdout.splitlines()
    assert line.startswith("torch.compile failed (")
    assert line.endswith(
        "allowed: the backend eager, or a C++ compiler that torch finds (g++ or clang++)"
    )


def test_only_torchs_own_warnings_are_silenced() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with compiling():
            warnings.warn("`torch.jit.script_method` is deprecated. ...", DeprecationWarning, 1)
            for message, category in (
                ("`torch.jit.script_method` is deprecated", UserWarning),
                ("`torch.jit.script` is deprecated", DeprecationWarning),
                ("lossy", UserWarning),
            ):
                with pytest.raises(category):
                    warnings.warn(message, category, 1)
        with pytest.raises(DeprecationWarning):
            warnings.warn("`torch.jit.script_method` is deprecated. ...", DeprecationWarning, 1)
