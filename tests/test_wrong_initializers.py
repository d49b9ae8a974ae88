"""The verifier, verified: random initializers with a random mistake are REFUTED, one and all.

A rule, a spec that uses it, and a factor by which the initializer gets the rule's variance wrong: all
random. What is right at the same time must not be refuted. 9 examples of each of the 24 rules that an
initializer decides under ``HYPOTHESIS_PROFILE=ci``, 216 in all; fewer by default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from hyperverify import verify
from hyperverify.evidence import df_cap
from hyperverify.failures import in_lines
from hyperverify.formulas import METHODS, RULES
from hyperverify.hyperfan import hyperfan_in_uniform_
from hyperverify.init import init_hypernet_
from hyperverify.nets import Hypernet
from hyperverify.plan import plan
from hyperverify.planning import least_detectable_discrepancy
from hyperverify.specs import EmbeddingSpec, HypernetSpec, LayerSpec
from hyperverify.strategies import chunked_hypernets, hypernets, shared_hypernets
from hyperverify.testing import RefutedError, assert_verified

EXAMPLES = {"ci": 9, "nightly": 60}.get(os.environ.get("HYPOTHESIS_PROFILE", ""), 2)

TOLERANCE, ALPHA, BETA = 0.1, 1e-6, 1e-3
NEAREST = 1 + 1.5 * TOLERANCE
"""The factors nearest to 1 that are drawn, this and its inverse: half a tolerance outside the band."""

DECIDED = [rule for rule in RULES if rule != "A1.grad"]  # which is an identity of sums
MEANS = ("harmonic", "geometric", "arithmetic")


def test_the_nearest_factors_are_outside_the_band_and_within_reach() -> None:
    assert NEAREST > 1 + TOLERANCE
    for law in ("exact", "conservative"):
        cap = df_cap(TOLERANCE, BETA, ALPHA / 100)
        assert least_detectable_discrepancy(cap, ALPHA / 100, BETA, TOLERANCE, law) < NEAREST - 1


# --- Which specs use a rule, and what it decides of them. -----------------------------------------


def methods_of(rule: str) -> list[str]:
    """The methods that the rule belongs to."""
    if rule == "M1":
        return ["fan-in", "fan-out", "harmonic"]
    if rule in ("A1.H", "A2.H"):
        return ["hyperfan-in", "hyperfan-out"]
    return [n for n, m in METHODS.items() if rule in (m.H, m.G, m.chunked)]


def specs_of(rule: str) -> SearchStrategy[HypernetSpec]:
    """Specs of any sort in which the rule decides a variance that is not zero."""
    methods = methods_of(rule)
    if rule.startswith("A2"):
        return chunked_hypernets(methods=methods)
    if rule == "A1.H":
        return shared_hypernets(methods=methods)
    bias = True if rule.endswith(".G") else None
    found = hypernets(methods=methods, outputs=["own", "shared"], bias=bias)
    return found.filter(lambda spec: bool(tensors_of(rule, spec)))


def tensors_of(rule: str, spec: HypernetSpec) -> dict[str, str]:
    """The tensors whose variance the rule decides, and the quantity that shows each."""
    classical = not rule.startswith(("T1", "A1", "A2"))
    found: dict[str, str] = {}
    for t, layer in enumerate(spec.layers):
        group = spec.output_group(t)
        alone = [spec.output_group(n) for n in range(len(spec.layers))].count(group) == 1
        if rule in ("A2.in.G", "A2.out.G"):
            found[f"input_layers.{t}.weight"] = "trunk"
        elif not rule.endswith(".G") and not (rule == "A1.H" and alone):
            found[f"output_layers.{group}.weight"] = "weights"
        if layer.bias and (classical or rule.endswith(".G")) and METHODS[spec.method].G:
            found[f"bias_layers.{group}.weight"] = "biases"
    drawn = plan(spec)
    return {name: quantity for name, quantity in found.items() if drawn[name].variance > 0}


# --- Mistakes. ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mistake:
    """A wrong variance: ``factor`` times the right one, or, None, the right one's square.

    The latter comes of a variance that is taken for a standard deviation.
    """

    factor: float | None

    def of(self, variance: float) -> float:
        """The factor; kept from the neighbourhood of 1, where a square is no mistake."""
        if self.factor is not None:
            return self.factor
        return variance if not 1 / NEAREST < variance < NEAREST else 2.0


TYPICAL = (2.0, 0.5, 3.0, 1 / 3, 2**0.5, 3**-0.5, None)
"""A ReLU forgotten or counted twice, a uniform bound for a standard deviation, a root too many..."""


def anything() -> SearchStrategy[Mistake]:
    """Typical mistakes, and factors from `NEAREST` to 10 on a logarithmic scale, up and down."""
    factors = st.integers(0, 100).map(lambda n: NEAREST * (10 / NEAREST) ** (n / 100))
    any_factor = st.tuples(factors, st.sampled_from([1, -1])).map(lambda pair: pair[0] ** pair[1])
    return st.one_of(st.sampled_from(TYPICAL), any_factor).map(Mistake)


class Wrong:
    """An initializer that is right but for some tensors."""

    def __init__(self, factors: Mapping[str, float]) -> None:
        self.factors = factors

    def __call__(self, model: Hypernet, *, generator: torch.Generator) -> None:
        init_hypernet_(model, generator=generator)
        with torch.no_grad():
            for name, factor in self.factors.items():
                model.get_parameter(name).mul_(factor**0.5)


@pytest.mark.parametrize("rule", DECIDED)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(data=st.data())
def test_a_random_mistake_in_a_rule_is_refuted(rule: str, data: st.DataObject) -> None:
    spec = data.draw(specs_of(rule), label="spec")
    mistake = data.draw(anything(), label="mistake")
    names, draws = tensors_of(rule, spec), plan(spec)
    factors = {name: mistake.of(draws[name].variance) for name in names}
    checks = verify(
        spec, tolerance=TOLERANCE, alpha=ALPHA, beta=BETA, device="cpu",
        initializer=Wrong(factors), quantities=tuple(dict.fromkeys(names.values())),
    )  # fmt: skip
    rooms = {"weights": "output_layers", "biases": "bias_layers", "trunk": "input_layers"}
    refuted = 0
    for check in checks:
        where = rooms[check.quantity]
        group = check.layer if where == "input_layers" else spec.output_group(check.layer or 0)
        wrong = check.layer is not None and f"{where}.{group}.weight" in factors
        assert check.verdict == ("REFUTED" if wrong else "VERIFIED"), check.statement
        refuted += wrong and rule in check.rules
    assert refuted


# --- What a failing example shrinks to. -----------------------------------------------------------


def forgets_relu(model: Hypernet, *, generator: torch.Generator) -> None:
    """Hyperfan-in by somebody who did not pass ``relu=True`` on."""
    init_hypernet_(model, generator=generator)
    for t, layer in enumerate(model.spec.layers):
        H = model.get_parameter(f"output_layers.{model.spec.output_group(t)}.weight")
        var_e = float(model.spec.embedding.second_moment)
        hyperfan_in_uniform_(
            H, layer.weight_shape, var_e=var_e, bias=layer.bias, groups=layer.groups,
            generator=generator,
        )  # fmt: skip


def forgets_the_kernel(model: Hypernet, *, generator: torch.Generator) -> None:
    """Hyperfan-in with d_j in the place of d_j r."""
    init_hypernet_(model, generator=generator)
    with torch.no_grad():
        for t, layer in enumerate(model.spec.layers):
            H = model.get_parameter(f"output_layers.{model.spec.output_group(t)}.weight")
            H.mul_((layer.n_weights / layer.weight_shape[0] / layer.weight_shape[1]) ** 0.5)


def forgets_the_biases(model: Hypernet, *, generator: torch.Generator) -> None:
    """Hyperfan-in whose weights carry all of the variance, though there are biases."""
    init_hypernet_(model, generator=generator)
    with torch.no_grad():
        for t, layer in enumerate(model.spec.layers):
            if layer.bias:
                model.get_parameter(f"output_layers.{model.spec.output_group(t)}.weight").mul_(
                    2**0.5
                )


def one(*shape: object, **more: object) -> HypernetSpec:
    size = {"input_size": (1,)} if "kernel" in more else {}
    return HypernetSpec((LayerSpec(*shape, **more),), EmbeddingSpec(1), "hyperfan-in", **size)


MINIMAL = {
    "forgets_relu": (forgets_relu, "linear", one(1, 1, relu=True)),
    "forgets_the_biases": (forgets_the_biases, "linear", one(1, 1, bias=True)),
    "forgets_the_kernel": (forgets_the_kernel, "conv", one(1, 1, kernel=(2,), padding=(1,))),
}


@pytest.mark.parametrize("name", MINIMAL)
def test_a_failing_spec_shrinks_to_the_smallest_that_shows_the_mistake(name: str) -> None:
    initializer, kind, minimal = MINIMAL[name]

    @cache  # shrinking comes back to what it has tried
    def refuted(spec: HypernetSpec) -> bool:
        checks = verify(spec, quantities=("weights",), tolerance=0.4, initializer=initializer)
        return any(check.verdict == "REFUTED" for check in checks)

    specs = hypernets(
        methods=["hyperfan-in"], kinds=[kind], outputs=["own"], distributions=["uniform"],
        max_width=6, max_features=4,
    )  # fmt: skip
    once = settings(max_examples=100, derandomize=True, database=None, deadline=None)
    found = find(specs, refuted, settings=once)
    assert found == minimal
    with pytest.raises(RefutedError) as error:
        assert_verified(found, quantities=("weights",), initializer=initializer)
    layer = in_lines(minimal).splitlines()[1].strip()
    assert layer in str(error.value), "the text shows the spec"
