"""The libraries' targets build, run and return what they use; what measuring them finds."""

from __future__ import annotations

import check_libraries
import measure
import pytest
import torch
from installed import targets_of
from mainnet_layers import Target
from torch.nn import functional

# The libraries are of their time: functorch's make_functional, escapes in docstrings.
pytestmark = pytest.mark.filterwarnings("ignore")


def found(library: str, name: str, seeds: int) -> measure.Record:
    factory = measure.factories(targets_of(library))[name]
    return measure.measure(library, name, factory, seeds)


def example(target: Target) -> torch.Tensor:
    """Five inputs."""
    return torch.randn(5, *check_libraries.sample(target))


@pytest.mark.parametrize("library", measure.MODULES)
def test_every_factory_builds_afresh_and_runs(library):
    factories = measure.factories(targets_of(library))
    assert len(factories) >= 5
    for name, factory in factories.items():
        if name == "hmlp_harmonic_mlp_biases":
            continue
        first, second = factory(), factory()
        assert torch.isfinite(first(example(first))).all(), name
        made, again = first.generate(), second.generate()
        assert [tuple(w.shape) for w, _ in made] == [layer.shape for layer in first.layers], name
        assert [b is not None for _, b in made] == [layer.bias for layer in first.layers], name
        assert all(not torch.equal(w, v) for (w, _), (v, _) in zip(made, again, strict=True)), name


@pytest.mark.parametrize("library", measure.MODULES)
def test_what_is_measured_is_what_the_mainnet_uses(library):
    compared = 0
    for name, factory in measure.factories(targets_of(library)).items():
        if name in {"hmlp_harmonic_mlp_biases", "adapter_generator", "dynamic_on_data_mlp"}:
            continue  # does not build; adds its input; draws the data it reads
        model = factory()
        if any(len(layer.shape) != 2 for layer in model.layers):
            continue
        x = y = example(model)
        for (weight, bias), layer in zip(model.generate(), model.layers, strict=True):
            y = functional.linear(y, weight, bias)
            y = functional.relu(y) if layer.relu else y
        torch.testing.assert_close(model(x), y, rtol=1e-4, atol=1e-4 * float(y.abs().max()))
        compared += 1
    assert compared >= 3


def test_hypnettorch_counts_the_last_layer_as_one_with_a_relu():
    record = found("hypnettorch", "hmlp_in_mlp_biases", 800)
    assert measure.consistent_with(record) == ["hyperfan-in, s = 2 on every layer"]


def test_hypnettorch_xavier_on_a_linear_mainnet_is_hyperfan_in():
    record = found("hypnettorch", "hmlp_in_xavier_linear_mlp_biases", 800)
    assert "hyperfan-in" in measure.consistent_with(record)


def test_hypnettorch_harmonic_with_biases_divides_by_zero():
    record = found("hypnettorch", "hmlp_harmonic_mlp_biases", 1)
    assert record["error"] == "ZeroDivisionError: float division by zero"


def test_hypnettorch_hyperfan_out_leaves_the_biases_of_convolutions_at_zero():
    record = found("hypnettorch", "hmlp_out_lenet", 2)
    first = record["layers"][0]
    assert first["asked"]["out"]["biases"] == pytest.approx(1.8)
    assert first["biases"]["mean"] == 0


def test_hypnettorch_resnet_loses_the_bias_share_only_where_it_knows_the_mainnet():
    told = found("hypnettorch", "hmlp_in_resnet_biases", 400)
    not_told = found("hypnettorch", "hmlp_in_resnet_biases_mainnet_not_told", 400)
    assert measure.truth(told, "in", "relu", tolerance=0.5)[0] == "wrong"
    assert measure.truth(not_told, "in", "relu", tolerance=0.5)[0] == "right"


def test_hyperlight_generates_biases_that_are_exactly_zero():
    record = found("hyperlight", "default_mlp_biases", 2)
    assert [layer["biases"]["mean"] for layer in record["layers"]] == [0, 0, 0]


def test_the_authors_formula_is_right_with_a_relu_behind_every_layer():
    record = found("public_formula", "authors_conv_in", 800)
    assert "hyperfan-in" in measure.consistent_with(record)


def test_a_ratio_is_right_or_wrong_only_where_it_is_known_well_enough():
    found = {"mean": 1.05, "standard_error": 0.05, "interval": [0.9, 1.2]}
    layer = {"relu": True, "weights": found, "biases": None, "asked": {"in": {"weights": 1.0}}}
    layer["asked"]["in"]["biases"] = 0.0
    assert measure.truth({"layers": [layer]}, "in", "paper") == ("unclear", 1.05)
    assert measure.truth({"layers": [layer]}, "in", "paper", tolerance=0.5)[0] == "right"
    found["standard_error"], found["mean"] = 0.01, 1.2
    assert measure.truth({"layers": [layer]}, "in", "paper")[0] == "wrong"
