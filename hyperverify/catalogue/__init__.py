"""The catalogue: every check that hyperverify knows, as claims about a spec."""

from __future__ import annotations

from functools import lru_cache

from hyperverify.catalogue import (
    backward,
    chunked,
    common,
    depth,
    forward,
    hypergradient,
    hypernet,
    shared,
    weights,
)
from hyperverify.catalogue.claims import Claim
from hyperverify.specs import HypernetSpec


@lru_cache(maxsize=1024)
def claims_of(spec: HypernetSpec) -> tuple[Claim, ...]:
    """All claims about a spec, in a fixed order: a pure function of the spec."""
    found: list[Claim] = []
    for t in range(len(spec.layers)):
        if spec.chunk is not None:
            found += chunked.claims(spec, t)
            continue
        found += weights.claims(spec, t)
        if common.shared(spec, t) and spec.flow == "chain":
            if spec.kind == "linear" and not spec.has_biases:
                found += shared.claims(spec, t)
            continue
        found += forward.claims(spec, t)
        found += backward.claims(spec, t)
        found += hypergradient.claims(spec, t)
    if spec.chunk is None and (spec.output == "own" or spec.flow == "layerwise"):
        found += hypergradient.joint_claims(spec)
    found += hypernet.claims(spec)
    found += depth.claims(spec)
    return tuple(found)
