"""One real net, verified whole in a process of its own: ``python shapes.py mnist|mnist-own|mobilenet``; prints JSON.

Imports are not counted; everything else is, from the spec to the last verdict.
"""

from __future__ import annotations

import json
import math
import sys
import time

import torch
from side_by_side import CPU, peak_megabytes

from hyperverify.catalogue.study import Levels, Study, run_study
from hyperverify.plan import plan
from hyperverify.sampling import keep_freed_memory, one_thread
from hyperverify.specs import EmbeddingSpec, HypernetSpec, LayerSpec

TOLERANCE, ALPHA = 0.01, 1e-10
DIRECTIONS = ("forward", "backward")


def _spec(
    layers: tuple[LayerSpec, ...], dim: int, batch: int, size: tuple[int, ...] = ()
) -> HypernetSpec:
    return HypernetSpec(
        layers=layers,
        embedding=EmbeddingSpec(dim, "uniform"),
        method="hyperfan-in",
        distribution="normal",
        input_size=size,
        output="shared" if len(layers) > 1 else "own",
        flow="layerwise",
        batch=batch,
    )


def mnist() -> list[HypernetSpec]:
    """Section 5.1: 784-500-500-500-500-500-10, embeddings of 50, the 500 x 500 layers share H."""
    return [
        _spec((LayerSpec(784, 500, relu=True),), 50, 256),
        _spec((LayerSpec(500, 500, relu=True),) * 4, 50, 128),
        _spec((LayerSpec(500, 10),), 50, 64),
    ]


def mnist_own() -> list[HypernetSpec]:
    """The same with an output layer for each of its layers: more than twice as many weights."""
    return [mnist()[0], *[_spec((LayerSpec(500, 500, relu=True),), 50, 256)] * 4, mnist()[2]]


def mobilenet() -> list[HypernetSpec]:
    """Section 5.4: MobileNet v1 at width 1.0, all 28 layers, embeddings of 32."""
    pairs = [(32, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512)]
    pairs += [(512, 512)] * 5 + [(512, 1024), (1024, 1024)]
    first = LayerSpec(3, 32, (3, 3), (2, 2), (1, 1), relu=True)
    specs = [_spec((first,), 32, 1, (3, 3))]
    for a, b in pairs:
        depthwise = LayerSpec(a, a, (3, 3), padding=(1, 1), groups=a, relu=True)
        specs.append(_spec((depthwise,), 32, 1, (3, 3)))
        specs.append(_spec((LayerSpec(a, b, (1, 1), relu=True),), 32, min(128, a // 2), (1, 1)))
    return [*specs, _spec((LayerSpec(1024, 1000),), 32, 128)]


def main(net: str) -> None:
    specs = {"mnist": mnist, "mnist-own": mnist_own, "mobilenet": mobilenet}[net]()
    keep_freed_memory()
    checks = {"VERIFIED": 0, "REFUTED": 0, "INCONCLUSIVE": 0}
    levels = Levels(ALPHA, 1e-3, TOLERANCE, ALPHA)
    start, cpu = time.perf_counter(), time.process_time()
    with one_thread():
        for seed, spec in enumerate(specs):  # equal layers are different draws
            claims = Study(spec, quantities=DIRECTIONS).claims()
            for outcome in run_study(claims, seed, levels, CPU, torch.float32):
                checks[str(outcome.verdict)] += 1
    seconds = time.perf_counter() - start
    weights = sum(
        math.prod(draw.shape)
        for spec in specs
        for name, draw in plan(spec).items()
        if name.startswith("output_layers.") and name.endswith(".weight")
    )
    print(
        json.dumps(
            {
                "seconds": seconds,
                "cpu": time.process_time() - cpu,
                "megabytes": peak_megabytes(),
                "weights": weights,
                "checks": checks,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
