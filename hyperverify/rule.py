"""The shape of a rule, and the vocabulary of arguments that all rules share."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from hyperverify.errors import HyperverifyError
from hyperverify.latex import symbol, sympy_module, to_latex, to_text
from hyperverify.rule_arguments import Argument, Kind, Scalar

_INT, _POS, _FLAG = Kind.DIMENSION, Kind.POSITIVE, Kind.FLAG
D_I = Argument("d_i", "d_i", "outputs of the mainnet layer (of one group)", _INT)
D_J = Argument("d_j", "d_j", "inputs of the mainnet layer (of one group)", _INT)
D_K = Argument("d_k", "d_k", "last hidden features of the hypernet, those that make W", _INT)
D_L = Argument("d_l", "d_l", "last hidden features of the hypernet, those that make b", _INT)
CHUNK_D_K = Argument("d_k", "d_k", "entries of a chunk's code alpha", _INT)
CHUNK_D_L = Argument("d_l", "d_l", "entries of a chunk's embedding", _INT)
N_W = Argument("n_W", "n_W", "entries of W: out_channels d_j r", _INT)
R = Argument("r", "r", "receptive field size, 1 for a linear layer", _INT, 1)
CHUNK = Argument("K", "K", "channels of a chunk; if given, it must divide d_i or d_j", _INT, None)
VAR_E1 = Argument("var_e", r"\mathrm{Var}(e^{[1]})", "E[e^2] of the weights' embedding", _POS)
VAR_E2 = Argument("var_e", r"\mathrm{Var}(e^{[2]})", "E[e^2] of the biases' embedding", _POS)
VAR_EM = Argument("var_e", r"\mathrm{Var}(e^{[t][m]})", "E[e^2] of a chunk's embedding", _POS)
SIGMA2 = Argument("sigma2", r"\sigma^2", "the chosen variance", _POS)
RELU = Argument(
    "relu", r"I_{\mathrm{ReLU}}", "whether the layer's output goes through a ReLU", _FLAG, False
)
BIAS = Argument("bias", r"I_{\mathrm{HBias}}", "whether the biases are generated", _FLAG, False)
BIAS_G = Argument(
    "bias", r"I_{\mathrm{HBias}}", "True: generated biases are what G is for", _FLAG, True
)
GRADIENTS = Argument(
    "weight_gradient_second_moments", "D_t", "E[(dL/dW[t])^2], one a layer", Kind.MOMENTS
)
FEATURES = Argument("feature_second_moments", "E_t", "E[h(e[t])^2], one a layer", Kind.MOMENTS)


def variant(*choices: str) -> Argument:
    """The argument that says which of several rules a name stands for."""
    return Argument("variant", "", "which of the rules is meant", Kind.CHOICE, choices[0], choices)


@dataclass(frozen=True)
class Rule:
    """One rule: call it with keywords, or ask it for its expression and its LaTeX.

    Args:
        id: e.g. ``T1.in.H``.
        title: what it is, in a phrase.
        quantity: what it gives, e.g. ``Var(H)``.
        left: the same in LaTeX.
        citation: where the source states it.
        assumptions: what must hold for the promise that comes with the rule.
        function: the formula.
        entering: the arguments that the formula uses.
        family: the arguments of its siblings, accepted and validated too (they do not enter), so
            that one set of keywords serves ``T1.in.H`` and ``T1.out.H`` alike.
        condition: raises where arguments do not fit together.
        general: the formula for any number of layers, where ``function`` takes lists.
        aside: by variant, the entering arguments that its formula does without.
    """

    id: str
    title: str
    quantity: str
    left: str
    citation: str
    assumptions: tuple[str, ...]
    function: Callable[..., Scalar]
    entering: tuple[Argument, ...]
    family: tuple[Argument, ...] = ()
    condition: Callable[[Mapping[str, Scalar]], None] | None = None
    general: Callable[[], Scalar] | None = None
    aside: Mapping[str, tuple[Argument, ...]] = field(
        default_factory=dict[str, tuple[Argument, ...]]
    )

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """Every argument that is accepted, those that enter the formula first."""
        names = {argument.name for argument in self.entering}
        return self.entering + tuple(a for a in self.family if a.name not in names)

    @property
    def variants(self) -> tuple[str, ...]:
        """The rules that the name stands for; empty where there is only one."""
        return next((a.choices for a in self.entering if a.name == "variant"), ())

    def __call__(self, **given: object) -> Scalar:
        """The rule's value: ``Fraction``, ``float`` or sympy expression, as the arguments are.

        Raises:
            BadArgument: an argument has a value that is not allowed.
            HyperverifyError: an argument is missing or unknown, or the value overflows a float.
        """
        values = self.bind(given)
        try:
            value = self.function(**{a.name: values[a.name] for a in self.entering})
        except (OverflowError, ZeroDivisionError):
            value = math.inf
        vanished = self.quantity == "Var(H)" and value == 0
        if vanished or (isinstance(value, float) and not math.isfinite(value)):
            raise self._out_of_range()
        return value

    def number(self, value: Scalar) -> float:
        """A value of this rule as a float.

        Raises:
            HyperverifyError: no float is near it.
        """
        try:
            number = float(value)
        except OverflowError:
            raise self._out_of_range() from None
        if number == 0 and value != 0:
            raise self._out_of_range()
        return number

    def _out_of_range(self) -> HyperverifyError:
        return HyperverifyError(
            f"{self.id} leaves the range of a float; allowed: moderate values, or exact Fractions"
        )

    def needed(self, given: Mapping[str, object]) -> list[Argument]:
        """The arguments that must be given, under the variant that is."""
        chosen = given.get("variant", next(iter(self.variants), None))
        left_aside = self.aside.get(str(chosen), ())
        return [a for a in self.entering if a.required and a not in left_aside]

    def bind(self, given: Mapping[str, object]) -> dict[str, Scalar]:
        """Every accepted argument, checked, with defaults filled in. Raises as ``__call__`` does."""
        refuse_unknown(self.id, given, [a.name for a in self.arguments], self.signature)
        needed = {a.name for a in self.needed(given)}
        values: dict[str, Scalar] = {}
        for argument in self.arguments:
            if argument.name in given:
                values[argument.name] = argument.check(given[argument.name])
            elif not argument.required:
                values[argument.name] = argument.default
            elif argument.name in needed:
                raise HyperverifyError(
                    f"{self.id} needs {argument.name}; allowed: {self.signature}"
                )
            else:
                values[argument.name] = None
        if self.condition is not None:
            self.condition(values)
        return values

    @property
    def signature(self) -> str:
        """``d_j, d_k, var_e, r=1, relu=False``: the arguments that enter."""
        return ", ".join(a.signature for a in self.entering)

    def symbolic(self, **fixed: object) -> Scalar:
        """The rule as a sympy expression of its own code.

        Args:
            **fixed: values for some arguments; the others stay symbols (``latex.symbol(name)``),
                and a ``variant`` left out is the first.
        """
        if self.general is not None and not fixed:
            return self.general()
        loose = {
            a.name: symbol(a.name, a.kind)
            for a in self.entering
            if a.kind not in (Kind.CHOICE, Kind.MOMENTS) and a.name not in fixed
        }
        return sympy_module().sympify(self(**loose, **fixed))

    def latex(self) -> str:
        """The whole equation in LaTeX, left-hand side included; all variants, separated by commas."""
        names = {a.name: a.symbol for a in self.entering}
        return f"{self.left} = " + self._all_variants(
            lambda expression: to_latex(expression, names), r",\ \ {}\ \ (\text{{{}}})"
        )

    def text(self) -> str:
        """The right-hand side on a line of plain text; ``s`` is 2 behind a ReLU, else 1."""
        return self._all_variants(to_text, ", {} ({})")

    def _all_variants(self, show: Callable[[Scalar], str], form: str) -> str:
        if not self.variants:
            return show(self.symbolic())
        shown = [form.format(show(self.symbolic(variant=name)), name) for name in self.variants]
        return "".join(shown).removeprefix(r",\ \ ").removeprefix(", ")


def refuse_unknown(owner: str, given: Iterable[str], known: Iterable[str], allowed: str) -> None:
    """Refuse the first name of ``given`` that is not in ``known``, suggesting near ones.

    Raises:
        HyperverifyError: there is such a name.
    """
    names = list(known)
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=2)
            hint = f" (did you mean {' or '.join(near)}?)" if near else ""
            raise HyperverifyError(f"{owner} has no argument {name!r}{hint}; allowed: {allowed}")


Found = TypeVar("Found")


def lookup(kind: str, name: object, table: Mapping[str, Found]) -> Found:
    """``table[name]``.

    Raises:
        HyperverifyError: there is no such name; the message lists near ones, or all.
    """
    if isinstance(name, str) and name in table:
        return table[name]
    near = difflib.get_close_matches(name, table, cutoff=0.5) if isinstance(name, str) else []
    allowed = ", ".join([*near, "..."] if near else table)
    raise HyperverifyError(f"there is no {kind} {name!r}; allowed: {allowed}")
