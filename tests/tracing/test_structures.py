"""Every structure is found exactly, or named as what it is; and found alike in every replicate."""

from __future__ import annotations

import pytest
import torch
from small_nets import STRUCTURES, Structure
from torch import nn

from hyperverify.tracing.layers import TracedLayer
from hyperverify.tracing.observations import way_down
from hyperverify.tracing.replicates import BadTarget, Replicates
from hyperverify.tracing.sources import Leaf, Stage


def described(layer: TracedLayer) -> tuple[object, ...]:
    kind = ("per-sample " if layer.per_sample else "") + layer.kind
    return kind, layer.d_i, layer.d_j, layer.receptive_field, layer.relu, layer.bias


def roles(source: object) -> tuple[str, ...]:
    found: list[str] = []
    for depth, part in enumerate(way_down(source)):
        if isinstance(part, Stage):
            found.append("trunk layer" if depth else "output layer")
        else:
            found.append("embedding" if isinstance(part, Leaf) else "opaque")
    return tuple(found)


@pytest.mark.filterwarnings("ignore")  # of the nets themselves: other people's code may warn
@pytest.mark.parametrize("name", STRUCTURES)
def test_structure(name: str) -> None:
    expected: Structure = STRUCTURES[name]
    stream = Replicates(expected.factory, expected.shape, expected.inputs, 0, None)
    again = stream.draw(1)
    analysis = stream.first.analysis
    if expected.flag:
        flags = analysis.findings.flags
        assert any(flag.startswith(expected.flag) for flag in flags), flags
    else:
        assert analysis.findings.flags == ()
        assert tuple(map(described, analysis.layers)) == expected.layers
        assert {roles(source) for source in analysis.weights} == {expected.chain}
    assert again.analysis.structure == analysis.structure
    assert stream.programs == 1


def test_weights_are_traced_entry_by_entry() -> None:
    """Slices of one vector: which rows of the output layer make which layer."""
    expected = STRUCTURES["split_vector"]
    first = Replicates(expected.factory, expected.shape, None, 0, None).first
    rows = [way_down(source)[0].rows for source in first.analysis.weights]
    assert rows == [35, 28]
    starts = [int(way_down(s)[0].entries.ref.offset) for s in first.analysis.weights]
    assert starts == [0, 35]


@pytest.mark.parametrize("name", ["f_linear", "split_vector", "relu_trunk", "chunks_as_a_batch"])
def test_estimates_agree_with_the_weights_as_they_are(name: str) -> None:
    """N / D times the features below telescopes to the plain mean square wherever no ReLU is."""
    from hyperverify.tracing.estimates import estimate

    expected = STRUCTURES[name]
    stream = Replicates(expected.factory, expected.shape, None, 3, None)
    for index in range(3):
        replicate = stream.draw(index)
        for layer, source in zip(
            replicate.analysis.layers, replicate.analysis.weights, strict=True
        ):
            found = estimate(source, replicate.trace)
            node = replicate.trace.nodes[layer.weight.node.index]
            w = layer.weight
            plain = torch.as_strided(
                torch.empty(0).set_(node.storage), w.size, w.stride, w.offset
            ).double()
            assert found.direct == pytest.approx(float(plain.square().mean()), rel=1e-6)
            if name != "relu_trunk":
                assert found.value == pytest.approx(found.direct, rel=1e-9)


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        (lambda: None, "the factory returned NoneType"),
        (lambda: 1 / 0, "the factory raised ZeroDivisionError: division by zero"),
        (lambda: nn.Linear(4, 2), "the model raised RuntimeError"),
    ],
)
def test_bad_targets_are_named(factory: object, reason: str) -> None:
    with pytest.raises(BadTarget, match="^" + reason):
        Replicates(factory, (5,), None, 0, None)  # type: ignore[arg-type]
