"""One mainnet layer under one method: what the rules make of its weights, biases and features.

Second moments, exact on exact numbers: v = E[W^2], u = E[b^2], E[h^2] (Sections 4.1 and 4.2,
Appendix A.2). :mod:`hyperverify.closed_forms` builds the promises from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from types import MappingProxyType

from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.formulas import METHODS, RULES
from hyperverify.rule import (
    BIAS,
    CHUNK,
    D_I,
    D_J,
    D_K,
    D_L,
    N_W,
    RELU,
    SIGMA2,
    VAR_E1,
    VAR_E2,
    R,
    lookup,
    refuse_unknown,
)
from hyperverify.rule_arguments import Argument, Kind, Scalar, is_symbolic


def _moment(name: str, symbol: str, description: str) -> Argument:
    return Argument(name, symbol, description, Kind.NON_NEGATIVE)


ARGUMENTS: Mapping[str, Argument] = MappingProxyType(
    {
        a.name: a
        for a in (
            *(D_I, D_J, D_K, D_L, R, CHUNK, VAR_E1, RELU, BIAS, SIGMA2),
            Argument("var_e2", VAR_E2.symbol, VAR_E2.description, Kind.POSITIVE),
            replace(N_W, default=None),  # derived where the shape is known
            Argument("groups", "g", "groups of the convolution", Kind.DIMENSION, 1),
            Argument("out_channels", "c", "groups d_i", Kind.DIMENSION, None),
            Argument("stride", "s_h s_w", "product of the strides", Kind.DIMENSION, 1),
            Argument("chunked", "", "whether A.2's chunks make W", Kind.FLAG, False),
            Argument("batch", "B", "samples that the loss sums over", Kind.DIMENSION, 1),
            _moment("q", "q", "E[x^2] at the layer's input"),
            _moment("p", "p'", "E[(dL/dy)^2] at its output"),
            _moment("weight_gradient", r"\mathbb{E}[(\partial L/\partial W)^2]", "E[(dL/dW)^2]"),
            _moment("bias_gradient", r"\mathbb{E}[(\partial L/\partial b)^2]", "E[(dL/db)^2]"),
        )
    }
)
"""Every keyword of :func:`closed_form` but ``layers``."""


class Layer:
    """One mainnet layer under one method: its arguments, checked, and what the rules make of them.

    Args:
        method: a name of :data:`hyperverify.formulas.METHODS`.
        **given: any of :data:`ARGUMENTS`; what is missing is missed only when a promise needs it.

    Raises:
        HyperverifyError: an unknown method or argument, or a combination the source does not have.
        BadArgument: a value that is not allowed, or that contradicts the others.
    """

    def __init__(self, method: str, **given: object) -> None:
        self.method = lookup("method", method, METHODS)
        refuse_unknown(method, given, ARGUMENTS, ", ".join(ARGUMENTS))
        self._values: dict[str, Scalar] = {
            a.name: a.default for a in ARGUMENTS.values() if not a.required
        } | {name: ARGUMENTS[name].check(value) for name, value in given.items()}
        self._refuse_what_the_source_lacks()
        self._derive("out_channels", "groups", "d_i")
        self._derive("n_W", "out_channels", "d_j", "r")

    def __getitem__(self, name: str) -> Scalar:
        value = self._values.get(name)
        if value is None:
            raise HyperverifyError(
                f"{self.method.name} needs {name} here; allowed: {ARGUMENTS[name].allowed}"
            )
        return value

    @property
    def s(self) -> Scalar:
        """2 behind a ReLU, else 1."""
        return 2 ** self["relu"]

    @property
    def chunked(self) -> bool:
        return self["chunked"] is True

    @property
    def var_h(self) -> Scalar:
        """Var(H) by the method's rule."""
        return self._rule("A2.H" if self.chunked else self.method.H)

    @property
    def trunk(self) -> Scalar:
        """E[h^2], second moment of what H multiplies: h is fan-in initialized and keeps Var(e)."""
        if self.method.chunked is not None and self.chunked:  # E[alpha^2]: G makes H's input
            return self["d_l"] * self._rule(self.method.chunked) * self["var_e"]
        if self.method.name == "M4":  # the constant embedding, (d_j r)^(-1/2), squared
            return 1 / (self["d_j"] * self["r"])
        return self["var_e"]

    @property
    def var_g(self) -> Scalar:
        """Var(G) by the method's rule, for generated biases.

        Raises:
            HyperverifyError: no biases are generated.
        """
        if self.method.G is None or self["bias"] is False:
            raise HyperverifyError(
                f"{self.method.name} has no generated biases here; allowed: bias=True"
            )
        names = {"var_e": "var_e2"}
        if self.method.classical:
            names |= {"d_k": "d_l", "n_W": "out_channels"}
        return self._rule(self.method.G, names)

    @property
    def v(self) -> Scalar:
        """E[W^2] = d_k Var(H) E[h^2]."""
        return self["d_k"] * self.var_h * self.trunk

    @property
    def u(self) -> Scalar:
        """E[b^2] = d_l Var(G) E[g^2], 0 without generated biases."""
        if self["bias"] is False:
            return Fraction(0)
        moment = self["d_l"] * self.var_g * self["var_e2"]
        return moment if self["bias"] is True else self["bias"] * moment

    def _rule(self, rule_id: str, names: Mapping[str, str] = MappingProxyType({})) -> Scalar:
        """A rule's value here, its arguments under the names that they have for the layer."""
        rule = RULES[rule_id]
        given = {a.name: self[names.get(a.name, a.name)] for a in rule.entering}
        if self.chunked and self._values["K"] is not None and rule_id != "A2.H":
            given |= {name: self[name] for name in ("K", "d_i", "d_j")}
        return rule(**given)

    def _refuse_what_the_source_lacks(self) -> None:
        name, biased = self.method.name, self["bias"] is not False
        if self.chunked and self.method.chunked is None:
            raise HyperverifyError(
                f"{name} has no chunked form (Appendix A.2); allowed: hyperfan-in, hyperfan-out"
            )
        if biased and (self.chunked or self.method.G is None):
            what = f"{name} with A.2's chunks" if self.chunked else name
            raise HyperverifyError(f"{what} makes no biases; allowed: bias=False")

    def _derive(self, whole: str, *factors: str) -> None:
        """Fill in a product, or refuse one that was given and is another."""
        parts = [self._values.get(name) for name in factors]
        if any(part is None for part in parts):
            return
        product: Scalar = Fraction(1)
        for part in parts:
            product = product * part
        given = self._values.get(whole)
        if given is None:
            self._values[whole] = product
        elif given != product and not (is_symbolic(given) or is_symbolic(product)):
            raise BadArgument(whole, int(given), f"{' x '.join(factors)} = {product}")
