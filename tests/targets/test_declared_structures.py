"""Every structure is found exactly, or what is in its way is named: nothing is passed over in silence.

What is to be found in each is declared beside it, by people who read the code and not the tracer.
"""

from __future__ import annotations

import pytest
from structure import Structure
from structures import STRUCTURES
from target import Layer

from hyperverify import BadTarget, check
from hyperverify.confidence import Verdict
from hyperverify.tracing.layers import TracedLayer
from hyperverify.tracing.replicates import Replicates

pytestmark = pytest.mark.filterwarnings(
    "ignore"
)  # of the nets themselves: other people's code may warn

SEVERAL = 8
"""Replicates after which a structure that differs between calls must have shown it, as in a check."""

NAMED = [s for s in STRUCTURES if s.flags and not s.lenient]


def arguments(structure: Structure) -> dict[str, object]:
    if structure.input is None:
        return {"inputs": structure.inputs}
    return {"input": structure.input}


def declared(layer: Layer) -> tuple[object, ...]:
    return (
        layer.kind, layer.out_channels, layer.in_channels, layer.r, layer.groups, layer.relu,
        layer.bias, layer.uses,
    )  # fmt: skip


def traced(layer: TracedLayer) -> tuple[object, ...]:
    return (
        layer.kind, layer.d_i * layer.groups, layer.d_j * layer.groups, layer.receptive_field,
        layer.groups, layer.relu, layer.bias, layer.uses,
    )  # fmt: skip


def found(structure: Structure) -> tuple[list[tuple[object, ...]], list[str]]:
    """The traced layers and the flags; a target that is refused is one flag."""
    inputs = structure.inputs if structure.input is None else None
    try:
        stream = Replicates(structure.factory, structure.input or (), inputs, 0, None)
    except BadTarget as error:
        return [], [str(error)]
    analysis = stream.first.analysis
    flags = list(analysis.findings.flags)
    if analysis.layers:
        again = [stream.draw(n).analysis for n in range(1, SEVERAL if structure.flags else 2)]
        if any(other.structure != analysis.structure for other in again):
            flags.append("different structure on each call")
    elif not flags:
        flags.append("no generated layer")
    return [traced(layer) for layer in analysis.layers], flags


def says(flags: list[str], words: tuple[str, ...]) -> bool:
    return any(word in flag.lower() for flag in flags for word in words)


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda s: s.name)
def test_found_exactly_or_named(structure: Structure) -> None:
    layers, flags = found(structure)
    exact = not flags and layers == [declared(layer) for layer in structure.layers]
    if not structure.flags:
        assert flags == []
        assert layers == [declared(layer) for layer in structure.layers]
    elif structure.lenient:
        assert exact or says(flags, structure.flags), (layers, flags)
    else:
        assert says(flags, structure.flags), (layers, flags)


@pytest.mark.parametrize("structure", NAMED, ids=lambda s: s.name)
def test_what_is_named_is_never_verified(structure: Structure) -> None:
    """Through the whole check, with a tolerance at which nearly anything would pass."""
    try:
        result = check(
            structure.factory, tolerance=0.9, alpha=1e-9, beta=0.2, **arguments(structure)
        )
    except BadTarget as error:
        assert says([str(error)], structure.flags)  # noqa: PT017  either will do
        return
    assert result.verdict is not Verdict.VERIFIED
    assert says(list(result.flags), structure.flags), result.flags
    if result.verdict is Verdict.INCONCLUSIVE:
        assert result.reason == result.flags[0]


@pytest.mark.parametrize(
    "name",
    [
        "ensemble_of_mainnets", "per_sample_conv_by_groups", "depthwise_then_pointwise", "transposed_conv",
        "recurrent_cell", "nested_tensors", "channels_last", "bfloat16_model", "compiled_inside",
        "baddbmm_with_three_heads", "grouped_transposed_convolution", "quantized_layer", "leaf_bias",
    ],
)  # fmt: skip
def test_whole_checks_of_what_is_found_come_to_their_end(name: str) -> None:
    structure = next(s for s in STRUCTURES if s.name == name)
    result = check(
        structure.factory,
        tolerance=0.9,
        alpha=0.01,
        beta=0.2,
        max_seconds=30,
        **arguments(structure),
    )
    assert result.flags == ()
    assert [layer.uses for layer in result.layers] == [layer.uses for layer in structure.layers]
    for layer in result.layers:
        assert layer.generated_by
        assert all(claim.replicates > 0 for claim in layer.quantities)
        assert all(claim.verdict is not Verdict.INCONCLUSIVE for claim in layer.quantities)


def test_there_are_many_and_each_has_a_name_of_its_own() -> None:
    assert len({structure.name for structure in STRUCTURES}) == len(STRUCTURES) >= 190
