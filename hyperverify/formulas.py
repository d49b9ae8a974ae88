"""Every initialization rule: one small pure function each, with its source and its assumptions.

``variance("T1.in.H", d_j=3, d_k=4, var_e=1)`` is ``Fraction(1, 12)``: exact numbers give a
``Fraction``, floats a ``float``, sympy symbols a sympy expression, and the LaTeX of a rule is printed
from that expression. "Variance" means second moment, as the source uses it; a fan counts the
channels of one group (``d_i`` = out_channels / groups, ``d_j`` = in_channels / groups) and ``r`` is
the receptive field size. Source: Chang, Flokas, Lipson, "Principled Weight Initialization for
Hypernetworks", ICLR 2020.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from hyperverify import expressions as x
from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.latex import to_latex
from hyperverify.rule import (
    BIAS,
    BIAS_G,
    CHUNK,
    CHUNK_D_K,
    CHUNK_D_L,
    D_I,
    D_J,
    D_K,
    D_L,
    FEATURES,
    GRADIENTS,
    N_W,
    RELU,
    SIGMA2,
    VAR_E1,
    VAR_E2,
    VAR_EM,
    R,
    Rule,
    lookup,
    refuse_unknown,
    variant,
)  # fmt: skip
from hyperverify.rule_arguments import REQUIRED, Argument, Scalar, divides, is_symbolic, square_root

__all__ = [
    "METHODS", "RULES", "Argument", "Method", "Rule", "chunk_branch", "describe", "m4_embedding",
    "rule", "rules_table", "variance",
]  # fmt: skip

# --- Companions of the rules. ------------------------------------------------------------------------


def m4_embedding(d_j: Scalar, r: Scalar = 1) -> Scalar:
    """The constant entry that M4 gives to every embedding: (d_j r)^(-1/2).

    Section 3 prints d_i, but numbers the layer's inputs with it: it is the fan-in.

    Returns:
        A ``Fraction`` where d_j r is a perfect square, an expression for symbols, else a ``float``.

    Raises:
        BadArgument: ``d_j`` or ``r`` is no integer of at least 1.
    """
    return square_root(1 / (D_J.check(d_j) * R.check(r)))


def chunk_branch(d_i: int, d_j: int, K: int) -> str:
    """Which branch of Eq. (6) tiles a (d_i, d_j) layer with chunks of K: ``"i"`` or ``"j"``.

    Raises:
        BadArgument: K divides neither fan, or an argument is no integer of at least 1.
    """
    required = replace(CHUNK, default=REQUIRED)
    given = {"d_i": D_I.check(d_i), "d_j": D_J.check(d_j), "K": required.check(K)}
    _chunks_tile(given)
    return "i" if divides(given["K"], given["d_i"]) else "j"


# --- Conditions on several arguments at once. --------------------------------------------------------


def _generates_biases(given: Mapping[str, Scalar]) -> None:
    if given["bias"] is False:
        raise BadArgument("bias", False, "True, since G exists only where biases are generated")


def _chunks_tile(given: Mapping[str, Scalar]) -> None:
    d_i, d_j, K = given["d_i"], given["d_j"], given["K"]
    if K is None:
        return
    if d_i is None or d_j is None:
        raise BadArgument("K", int(K), "an integer that is given together with d_i and d_j")
    if not (divides(K, d_i) or divides(K, d_j)):
        raise BadArgument("K", int(K), f"a divisor of d_i = {d_i} or of d_j = {d_j}")


def _same_length(given: Mapping[str, Scalar]) -> None:
    gradients, features = given[GRADIENTS.name], given[FEATURES.name]
    if len(gradients) != len(features):
        allowed = f"{len(gradients)} entries, one for each of {GRADIENTS.name}"
        raise BadArgument(FEATURES.name, [str(f) for f in features], allowed)


def _tall(given: Mapping[str, Scalar]) -> None:
    n_W, d_k = given["n_W"], given["d_k"]
    if not (is_symbolic(n_W) or is_symbolic(d_k)) and n_W < d_k:
        allowed = f"an integer of at least d_k = {d_k}, so that d_k orthonormal columns exist"
        raise BadArgument("n_W", int(n_W), allowed)


# --- The table. --------------------------------------------------------------------------------------

_WEIGHTS = (D_I, D_J, D_K, VAR_E1, R, RELU, BIAS)
_BIASES = (D_I, D_J, D_L, VAR_E2, R, RELU, BIAS_G)
_CHUNKS = (D_I, D_J, CHUNK_D_L, VAR_EM, R, RELU, CHUNK)
_CLASSICAL = (D_K, N_W, RELU)

_VAR_H, _VAR_G = r"\mathrm{Var}(H)", r"\mathrm{Var}(G)"
_HYPERFAN = (
    "the hypernet's output layer is linear, H has zero mean, beta = 0",
    "H, h(e), x independent; h is fan-in initialized, so that E[h^2] = Var(e)",
)
_HYPERFAN_G = (
    "the biases are generated; G has zero mean, gamma = 0",
    "E[x^2] = 1 at the layer's input; g is fan-in initialized, so that E[g^2] = Var(e)",
)
_REUSED = ("one H for several layers of the same size: their weights are dependent", *_HYPERFAN)
_TILES = ("chunks of K channels tile the weights", "own G, e for every chunk; H shared; no biases")
_AD_HOC = ("put on a hypernet as if it were a classical network: no promise about the mainnet",)


def _h(name: str, title: str, citation: str, function: Any, entering: Any, **more: Any) -> Rule:
    more = {"assumptions": _HYPERFAN, "family": _WEIGHTS} | more
    return Rule(
        name, title, "Var(H)", _VAR_H, citation, function=function, entering=entering, **more
    )


def _g(name: str, title: str, citation: str, function: Any, entering: Any, **more: Any) -> Rule:
    more = {"assumptions": _HYPERFAN_G, "family": _BIASES, "condition": _generates_biases} | more
    return Rule(
        name, title, "Var(G)", _VAR_G, citation, function=function, entering=entering, **more
    )


def _means(name: str, mean: x.Mean) -> tuple[Rule, Rule]:
    """The rules for H and G of a mean of hyperfan-in and hyperfan-out."""
    return (
        _h(f"T1.{name}.H", f"{name} mean of hyperfan-in and -out, weights", "Table 1, Appendix B.1.3",
           x.mean_of_hyperfan_h(mean), _WEIGHTS),
        _g(f"T1.{name}.G", f"{name} mean of hyperfan-in and -out, biases", "Table 1, Appendix B.1.3",
           x.mean_of_hyperfan_g(mean), (D_I, D_J, D_L, VAR_E2, RELU)),
    )  # fmt: skip


def _c(name: str, title: str, citation: str, function: Any, entering: Any, **more: Any) -> Rule:
    return _h(name, title, citation, function, entering,
              **({"assumptions": _AD_HOC, "family": _CLASSICAL} | more))  # fmt: skip


_TABLE: tuple[Rule, ...] = (
    _h("T1.in.H", "hyperfan-in, weights", "Table 1; Section 4.1",
       x.hyperfan_in_h, (D_J, D_K, VAR_E1, R, RELU, BIAS)),
    _g("T1.in.G", "hyperfan-in, biases", "Table 1; Section 4.1, Case 2",
       x.hyperfan_in_g, (D_L, VAR_E2, RELU)),
    _h("T1.out.H", "hyperfan-out, weights", "Table 1; Section 4.2",
       x.hyperfan_out_h, (D_I, D_K, VAR_E1, R, RELU)),
    _g("T1.out.G", "hyperfan-out, biases", "Table 1; Section 4.2, Case 2, Eq. 5",
       x.hyperfan_out_g, (D_I, D_J, D_L, VAR_E2, RELU)),
    *_means("harmonic", x.harmonic),
    *_means("geometric", x.geometric),
    *_means("arithmetic", x.arithmetic),
    _h("A1.H", "re-used output layer, weights", "Appendix A.1; Table 1",
       x.reused_h, (variant("hyperfan-in", "hyperfan-out"), *_WEIGHTS), assumptions=_REUSED,
       aside={"hyperfan-in": (D_I,), "hyperfan-out": (D_J,)}),
    Rule("A1.grad", "re-used output layer, its gradient", "dL/dH",
         r"\mathbb{E}\left[(\partial L / \partial H)^2\right]", "Appendix A.1",
         ("dL/dH = sum over t of dL/dW[t] (x) h(e[t]), an identity",
          "leading term: products of different layers are left out"),
         x.reused_gradient, (GRADIENTS, FEATURES),
         condition=_same_length, general=x.reused_gradient_of_any_layers),
    _h("A2.H", "chunks, shared output layer", "Appendix A.2", x.chunked_h, (CHUNK_D_K,),
       assumptions=_TILES, family=()),
    _g("A2.in.G", "chunks, hyperfan-in", "Appendix A.2, Eq. 6",
       x.chunked_in_g, (D_J, CHUNK_D_L, VAR_EM, R, RELU), assumptions=_TILES, family=_CHUNKS,
       condition=_chunks_tile),
    _g("A2.out.G", "chunks, hyperfan-out", "Appendix A.2, Eq. 6",
       x.chunked_out_g, (D_I, CHUNK_D_L, VAR_EM, R, RELU), assumptions=_TILES, family=_CHUNKS,
       condition=_chunks_tile),
    _c("C.fan_in", "Xavier or Kaiming, fan-in", "Section 2; Section 3, Eq. 1",
       x.fan_in, (D_K, RELU)),
    _c("C.fan_out", "Xavier or Kaiming, fan-out", "Section 2; Section 3, Eq. 1",
       x.fan_out, (N_W, RELU)),
    _c("C.harmonic", "Xavier or Kaiming, harmonic mean", "Section 2; Section 3",
       x.mean_of_classical(x.harmonic), (D_K, N_W, RELU)),
    _c("C.geometric", "geometric mean of fan-in and fan-out", "Appendix B.1.3",
       x.mean_of_classical(x.geometric), (D_K, N_W, RELU)),
    _c("C.arithmetic", "arithmetic mean of fan-in and fan-out", "Appendix B.1.3",
       x.mean_of_classical(x.arithmetic), (D_K, N_W, RELU)),
    _c("C.torch_default", "torch's default for nn.Linear", "none: torch.nn.Linear",
       x.torch_default, (D_K,)),
    _c("M1", "Xavier or Kaiming on a hypernet", "Section 3, M1",
       x.xavier_or_kaiming, (variant("fan-in", "fan-out", "harmonic"), D_K, N_W, RELU),
       aside={"fan-in": (N_W,), "fan-out": (D_K,)}),
    _c("M2", "small random values", "Section 3, M2", x.small_random, (SIGMA2,)),
    _c("M3", "Kaiming, the weights then times 1/10", "Section 3, M3", x.kaiming_tenth, (D_K, RELU)),
    _c("M4", "Kaiming with a constant embedding", "Section 3, M4", x.fan_in, (D_K, RELU),
       assumptions=("every entry of the embedding is (d_j r)^(-1/2), so that E[W^2] = s/(d_j r)",
                    "no generated biases")),
    _c("orthogonal", "orthonormal columns times sqrt(s)", "Section 3, by name: Saxe et al. 2013",
       x.orthogonal, (D_K, N_W, RELU), condition=_tall,
       assumptions=("H as an n_W x d_k matrix: |W|^2 = s |h|^2 exactly, no chi-square law",
                    "no generated biases")),
)  # fmt: skip

RULES: Mapping[str, Rule] = MappingProxyType({rule.id: rule for rule in _TABLE})
"""Every rule by its id, in the order of the source."""


def rule(rule_id: str) -> Rule:
    """The rule of that id.

    Raises:
        HyperverifyError: there is none; the message lists near matches.
    """
    return lookup("rule", rule_id, RULES)


def variance(rule_id: str, **given: object) -> Scalar:
    """The value of a rule: ``variance("T1.out.H", d_i=2, d_k=5, var_e=1)`` is ``Fraction(1, 10)``.

    Raises:
        HyperverifyError: an unknown rule, a missing or an unknown argument.
        BadArgument: an argument with a value that is not allowed.
    """
    return rule(rule_id)(**given)


# --- Methods: which rule initializes which output layer. ---------------------------------------------


@dataclass(frozen=True)
class Method:
    """An initialization method: a rule for H and one for G.

    Args:
        name: e.g. ``hyperfan-in``.
        H: id of the rule for the output layer that makes the weights.
        G: id of the rule for the one that makes the biases; ``None`` where the method has none.
        chunked: id of the rule for G of a chunked hypernet (Appendix A.2); ``None`` likewise.
    """

    name: str
    H: str
    G: str | None
    chunked: str | None = None

    @property
    def classical(self) -> bool:
        """Whether G is treated as any matrix: fan-in d_l, fan-out out_channels."""
        return self.G is not None and not self.G.startswith("T1.")

    def variance(self, output_layer: str, **dims: object) -> Scalar:
        """Var(H) or Var(G), from one set of keywords for both.

        Args:
            output_layer: ``"H"`` or ``"G"``.
            **dims: any of d_i, d_j, d_k, d_l, r, n_W, out_channels, var_e, var_e2, relu, bias and
                sigma2; those that the rule does not know are left aside. For G, ``var_e2`` is the
                rule's ``var_e``, and a classical rule sees d_l and out_channels as its fans.

        Raises:
            HyperverifyError: no such output layer, a missing or an unknown argument.
            BadArgument: an argument with a value that is not allowed.
        """
        refuse_unknown(self.name, dims, DIMS, ", ".join(DIMS))
        chosen = lookup("output layer", output_layer, {"H": self.H, "G": self.G})
        if chosen is None:
            raise HyperverifyError(
                f"{self.name} has no rule for generated biases; allowed: bias=False"
            )
        renamed: dict[str, str] = {}
        if output_layer == "G":
            fans = {"d_l": "d_k", "out_channels": "n_W"}
            renamed = fans if self.classical else {"var_e2": "var_e"}
        meant_for_h = renamed.values()
        given = {renamed.get(k, k): v for k, v in dims.items() if k not in meant_for_h}
        known = {argument.name for argument in RULES[chosen].arguments}
        return RULES[chosen](**{k: v for k, v in given.items() if k in known})


DIMS = (
    "d_i", "d_j", "d_k", "d_l", "r", "n_W", "out_channels", "var_e", "var_e2", "relu", "bias", "sigma2"
)  # fmt: skip
"""The keywords of :meth:`Method.variance`."""

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        method.name: method
        for method in (
            Method("hyperfan-in", "T1.in.H", "T1.in.G", "A2.in.G"),
            Method("hyperfan-out", "T1.out.H", "T1.out.G", "A2.out.G"),
            Method("hyperfan-harmonic", "T1.harmonic.H", "T1.harmonic.G"),
            Method("hyperfan-geometric", "T1.geometric.H", "T1.geometric.G"),
            Method("hyperfan-arithmetic", "T1.arithmetic.H", "T1.arithmetic.G"),
            Method("fan-in", "C.fan_in", "C.fan_in"),
            Method("fan-out", "C.fan_out", "C.fan_out"),
            Method("harmonic", "C.harmonic", "C.harmonic"),
            Method("geometric", "C.geometric", "C.geometric"),
            Method("arithmetic", "C.arithmetic", "C.arithmetic"),
            Method("torch-default", "C.torch_default", "C.torch_default"),
            Method("small", "M2", "M2"),
            Method("M3", "M3", "M3"),
            Method("M4", "M4", None),
            Method("orthogonal", "orthogonal", None),
        )
    }
)
"""Every method by its name."""


# --- For the command line and the report. ------------------------------------------------------------


def rules_table() -> list[dict[str, Any]]:
    """One row a rule: id, title, quantity, text, latex, citation, arguments (as a signature)."""
    return [_row(r) | {"arguments": r.signature} for r in RULES.values()]


def _row(r: Rule) -> dict[str, Any]:
    return {
        "id": r.id,
        "title": r.title,
        "quantity": r.quantity,
        "text": r.text(),
        "latex": r.latex(),
        "citation": r.citation,
    }


def describe(rule_id: str, given: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Everything about one rule, and its value for the arguments given.

    Args:
        rule_id: the rule.
        given: arguments by name; texts are read as a command line spells them (``"1/3"``, ``"true"``).

    Returns:
        The keys of :func:`rules_table`'s rows with ``arguments`` a list of dicts, and ``assumptions``,
        ``given``, ``missing`` (required arguments not given), ``value`` (exact, as text, or ``None``
        while some are missing), ``number`` (the same as a float) and ``partial`` (LaTeX of the rule
        with the given values put in, ``None`` where nothing or everything is given).

    Raises:
        HyperverifyError: as :func:`variance`.
    """
    chosen = rule(rule_id)
    arguments = {a.name: a for a in chosen.arguments}
    refuse_unknown(rule_id, given or {}, arguments, chosen.signature)
    values = {
        name: arguments[name].parse(value)
        if isinstance(value, str)
        else arguments[name].check(value)
        for name, value in (given or {}).items()
    }
    missing = [a.name for a in chosen.needed(values) if a.name not in values]
    value = None if missing else chosen(**values)
    number = None if value is None or is_symbolic(value) else chosen.number(value)
    names = {a.name: a.symbol for a in chosen.arguments}
    partial = (
        to_latex(chosen.symbolic(**values), names)
        if values and missing and not chosen.general
        else None
    )
    return _row(chosen) | {
        "assumptions": list(chosen.assumptions),
        "arguments": [
            {
                "name": a.name,
                "symbol": a.symbol,
                "description": a.description,
                "allowed": a.allowed,
                "default": None if a.required else a.default,
                "required": a.required and a in chosen.entering,
            }
            for a in chosen.arguments
        ],
        "given": {name: str(v) for name, v in values.items()},
        "missing": missing,
        "value": None if value is None else str(value),
        "number": number,
        "partial": None if partial is None else f"{chosen.left} = {partial}",
    }
