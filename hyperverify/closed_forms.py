"""What the paper's algebra promises for each method, composed from the rules; nothing is measured.

``closed_form("hyperfan-in", "backward", d_i=4, d_j=2, d_k=3, var_e=1, bias=True)`` is
``Fraction(1, 1)``: the factor d_i r v / s on the second moment of the gradients. Everything follows
from v = E[W^2] = d_k Var(H) E[h^2] and u = E[b^2] = d_l Var(G) E[g^2] (Sections 4.1 and 4.2), holds
in expectation over independent layers, and is exact on exact numbers. Where a true network departs
from it, ``DEPARTURES`` says how.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

from hyperverify.errors import HyperverifyError
from hyperverify.formulas import METHODS
from hyperverify.latex import symbol, sympy_module, to_latex
from hyperverify.promises import ARGUMENTS, Layer
from hyperverify.rule import lookup
from hyperverify.rule_arguments import Scalar

# --- What is promised. -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quantity:
    """One thing that is promised of a layer.

    Args:
        name: as :func:`closed_form` takes it.
        description: what it is, with its symbols.
        left: the left-hand side of the printed prediction, LaTeX.
        value: the number.
        prediction: the terms of the printed right-hand side, where it is not the number alone.
    """

    name: str
    description: str
    left: str
    value: Callable[[Layer], Scalar]
    prediction: Callable[[Layer], tuple[Scalar, ...]] | None = None


def _forward(layer: Layer) -> Scalar:
    return layer["d_j"] * layer["r"] * layer.v / layer.s


def _forward_offset(layer: Layer) -> Scalar:
    return layer.u / layer.s


def _backward(layer: Layer) -> Scalar:
    # With a stride each input position meets 1 / stride of the kernel, on average over positions.
    return layer["d_i"] * layer["r"] * layer.v / (layer.s * layer["stride"])


def _weight_gradient(layer: Layer) -> Scalar:
    return layer["batch"] * layer["p"] * layer["q"] / layer.s


def _hypergradient(layer: Layer) -> Scalar:
    return _unchunked(layer).var_h * layer["n_W"] * layer["weight_gradient"]


def _output_gradient(layer: Layer) -> Scalar:
    return layer["weight_gradient"] * _unchunked(layer).trunk


def _bias_hypergradient(layer: Layer) -> Scalar:
    return layer["out_channels"] * layer.var_g * layer["bias_gradient"]


def _bias_output_gradient(layer: Layer) -> Scalar:
    _ = layer.var_g  # refuses a layer without generated biases
    return layer["bias_gradient"] * layer["var_e2"]


def _unchunked(layer: Layer) -> Layer:
    if layer.chunked:
        raise HyperverifyError(
            "chunks share H and have no such closed form; allowed: chunked=False"
        )
    return layer


_SQUARE = r"\mathbb{{E}}[{}^2]"
_GRADIENT = r"\mathbb{{E}}[(\partial L/\partial {})^2]"

QUANTITIES: Mapping[str, Quantity] = MappingProxyType(
    {
        quantity.name: quantity
        for quantity in (
            Quantity("weights", "v = E[W^2]", _SQUARE.format("W"), lambda layer: layer.v),
            Quantity("biases", "u = E[b^2]", _SQUARE.format("b"), lambda layer: layer.u),
            Quantity("trunk", "E[h^2]", _SQUARE.format("h"), lambda layer: layer.trunk),
            Quantity(
                "forward",
                "gain d_j r v / s: q' = gain q + u / s",
                "q'",
                _forward,
                lambda layer: (_forward(layer) * layer["q"], _forward_offset(layer)),
            ),
            Quantity("forward_offset", "u / s", r"\mathbb{E}[b^2]/s", _forward_offset),
            Quantity(
                "backward",
                "d_i r v / (s stride): p = that times p'",
                "p",
                _backward,
                lambda layer: (_backward(layer) * layer["p"],),
            ),
            Quantity(
                "weight_gradient",
                "E[(dL/dW)^2] of a dense layer, B p' q / s",
                _GRADIENT.format("W"),
                _weight_gradient,
            ),
            Quantity(
                "hypergradient",
                "E[(dL/dh)^2] where h makes one layer, Var(H) n_W E[(dL/dW)^2]",
                _GRADIENT.format("h"),
                _hypergradient,
            ),
            Quantity(
                "output_gradient",
                "E[(dL/dH)^2] = E[(dL/dW)^2] E[h^2]",
                _GRADIENT.format("H"),
                _output_gradient,
            ),
            Quantity(
                "bias_hypergradient",
                "E[(dL/dg)^2] = out_channels Var(G) E[(dL/db)^2]",
                _GRADIENT.format("g"),
                _bias_hypergradient,
            ),
            Quantity(
                "bias_output_gradient",
                "E[(dL/dG)^2] = E[(dL/db)^2] E[g^2]",
                _GRADIENT.format("G"),
                _bias_output_gradient,
            ),
            Quantity("depth", "q[T] / q[0], the product of the gains", r"q_T/q_0", _forward),
        )
    }
)
"""Every promise by its name."""


def closed_form(
    method: str,
    quantity: str,
    *,
    layers: Sequence[Mapping[str, object]] | None = None,
    **dims: object,
) -> Scalar:
    """What the source promises of one layer, or of a stack of them.

    Args:
        method: a name of :data:`hyperverify.formulas.METHODS`.
        quantity: a name of :data:`QUANTITIES`.
        layers: for ``"depth"`` only: the arguments of each layer, first layer first.
        **dims: arguments of the layer (:data:`ARGUMENTS`); for ``"depth"`` those that all share.

    Returns:
        A ``Fraction`` for exact arguments, a ``float`` for floats, an expression for symbols.

    Raises:
        HyperverifyError: an unknown name, a missing argument, or something the source lacks.
        BadArgument: a value that is not allowed.
    """
    chosen = lookup("quantity", quantity, QUANTITIES)
    if chosen.name != "depth":
        if layers is not None:
            raise HyperverifyError(f"{quantity} is of one layer; allowed: layers only for depth")
        return chosen.value(Layer(method, **dims))
    product: Scalar = Fraction(1)
    for layer in _stack(method, layers, dims):
        if layer["bias"] is not False:
            raise HyperverifyError(
                "with generated biases the second moment is no product; "
                "allowed: bias=False, or second_moments()"
            )
        product = product * _forward(layer)
    return product


def second_moments(
    method: str, q: object, layers: Sequence[Mapping[str, object]], **dims: object
) -> list[Scalar]:
    """The recursion q' = gain q + u / s through a stack: ``[q[0], ..., q[T]]``.

    Args:
        method: a name of :data:`hyperverify.formulas.METHODS`.
        q: E[x^2] at the input.
        layers: the arguments of each layer, first layer first.
        **dims: arguments that all layers share.

    Raises:
        HyperverifyError: as :func:`closed_form`.
    """
    moments = [ARGUMENTS["q"].check(q)]
    for layer in _stack(method, layers, dims):
        moments.append(_forward(layer) * moments[-1] + _forward_offset(layer))
    return moments


def _stack(
    method: str, layers: Sequence[Mapping[str, object]] | None, shared: Mapping[str, object]
) -> list[Layer]:
    if not layers:
        raise HyperverifyError(
            "layers is missing or empty; allowed: a list of each layer's arguments"
        )
    return [Layer(method, **{**shared, **layer}) for layer in layers]


def latex(method: str, quantity: str, *, chunked: bool = False) -> str:
    r"""The promise in LaTeX, e.g. ``p = \frac{d_i p'}{2^{I_{\mathrm{HBias}}} d_j}``.

    It is printed from the expression that :func:`closed_form` computes, at stride 1.

    Raises:
        HyperverifyError: an unknown name, or something the source lacks.
    """
    chosen = lookup("quantity", quantity, QUANTITIES)
    biases = lookup("method", method, METHODS).G is not None and not chunked and quantity != "depth"
    plain = {"chunked": chunked, "stride": 1, "out_channels": None, "n_W": None, "K": None}
    layer = Layer(
        method,
        **{a.name: symbol(a.name, a.kind) for a in ARGUMENTS.values()}
        | plain
        | ({} if biases else {"bias": False}),
    )
    names = {a.name: a.symbol for a in ARGUMENTS.values()}
    if quantity == "depth":
        return f"{chosen.left} = {_product_of_gains(_forward(layer), names)}"
    terms = chosen.prediction(layer) if chosen.prediction else (chosen.value(layer),)
    shown = [to_latex(term, names) for term in terms if term != 0] or ["0"]
    return f"{chosen.left} = {' + '.join(shown)}"


def _product_of_gains(gain: Scalar, names: Mapping[str, str]) -> str:
    """The product over layers t = 1..T of ``gain``, whose dimensions are then those of layer t."""
    indexed = {name: names[name] + "[t]" for name in ("d_i", "d_j", "d_k", "r", "groups")}
    shown = to_latex(gain, {**names, **indexed})
    if shown == "1":
        return shown
    ratio = sympy_module().simplify(gain - symbol("d_j") / symbol("d_i"))
    telescoped = r" = \frac{d[0]}{d[T]}" if ratio == 0 else ""  # the d_i of t is the d_j of t + 1
    return rf"\prod_{{t=1}}^{{T}} {_bracketed(shown)}{telescoped}"


def _bracketed(shown: str) -> str:
    return shown if shown.startswith(r"\frac") else rf"\left({shown}\right)"


# --- Where a true network departs from the source's algebra. -----------------------------------------

DEPARTURES: Mapping[str | tuple[str, str], str] = MappingProxyType(
    {
        ("hyperfan-in", "backward"): (
            "Hyperfan-in multiplies the second moment of the gradients by d_i/d_j, outputs over "
            "inputs, at every layer, and generated biases halve it at every layer besides."
        ),
        ("hyperfan-in", "forward"): (
            "With generated biases hyperfan-in does not preserve the second moment of the "
            "activations but pulls it to 1: its distance from 1 halves at every layer."
        ),
        ("hyperfan-out", "forward"): (
            "Hyperfan-out does not preserve the activations: without biases their second moment is "
            "multiplied by d_j/d_i, inputs over outputs, at every layer; generated biases keep a "
            "second moment of 1 where d_j <= d_i, but where d_j > d_i it still grows by d_j/d_i, "
            "since Var(G) cannot fall below 0."
        ),
        "stride": (
            "With a stride an input position is read by some of the kernel's taps only: averaged "
            "over positions, the second moment of the gradients is the printed one divided by the "
            "strides, and it differs between positions."
        ),
        ("hyperfan-out", "hypergradient"): (
            "The paper prints E[(dL/dh)^2] as d_j/(d_k Var(e)) times E[(dL/dW)^2], which holds "
            "without ReLU and groups: a ReLU doubles that factor, and groups multiply it by their "
            "number."
        ),
        ("M4", "weights"): (
            "The paper prints the embedding's constant as d_i^(-1/2), with i counting the layer's "
            "inputs: in the notation of Table 1 that is the fan-in, d_j r."
        ),
        ("M4", "backward"): (
            "M4 keeps the scale of the activations, as hyperfan-in does, so the second moment of the "
            "gradients is multiplied by d_i/d_j, outputs over inputs, at every layer."
        ),
        ("torch-default", "weights"): (
            "torch's default for nn.Linear has variance 1/(3 fan_in), a third of Xavier's fan-in "
            "variance: it is none of the classical rules."
        ),
        ("M3", "forward"): (
            "M3 multiplies the second moment of the activations by d_j r Var(e)/100 at every layer: "
            "it is preserved only where the fan-in d_j r happens to be 100/Var(e)."
        ),
        ("orthogonal", "weights"): (
            "With orthonormal columns the norm of the weights follows from the features exactly "
            "(|W| is |h|, times the square root of 2 before a ReLU), so it has no chi-square law; the "
            "mean gain is that of fan-out init."
        ),
        "zero padding": (
            "With zero padding border positions see less than a whole receptive field, so second "
            "moments there fall below what the paper prints; circular padding or a 1x1 kernel makes "
            "it exact."
        ),
        "shared output layer": (
            "Layers that share H are not independent, so the mean over several of them is a little "
            "above the product of their gains: the excess falls with the square of the width and "
            "matters for small nets only."
        ),
        "shared embedding": (
            "Layers that share h have one common |h|: each promise holds given h, and the mean over "
            "h of a product of layers is larger than the product of the means."
        ),
        "chunked": (
            "Each layer alone is exact, but all chunks share H, so over several layers the mean is "
            "above the product of the gains: by a factor of 1 + 2n/(K d_k), K being the channels of "
            "a chunk, at a layer tiled along its outputs with n such layers before it, and of "
            "1 + (K + 1)/d_k (with ReLU 1 + (K + 3)/(2 d_k)) at a layer tiled along its inputs right "
            "after one."
        ),
        "typical network": (
            "The mean of the last layer's second moment stays at its prediction while the typical "
            "network drifts below it: the logarithm falls at every layer by about 1/d_i (linear) or "
            "5/(2 d_i) (ReLU), and by (kurtosis(e) - 1)/(2 d_k) besides."
        ),
        "dead units": (
            "A layer that reads a ReLU layer of d_j units without biases has an input of exactly 0 "
            "with probability 2^-d_j, and the second moment of its weight gradient is smaller by "
            "that fraction."
        ),
        "real loss": (
            "The gradients' law needs a zero-mean cotangent that is independent of the network; a "
            "loss, or .sum(), correlates it with the weights and shifts the second moment at any "
            "width."
        ),
        "tanh": (
            "tanh has no closed form: E[tanh(z)^2] for normal z is the limit of wide layers, an "
            "approximation."
        ),
    }
)
"""How a network departs from a promise, one sentence each: of a (method, quantity), or a situation."""


def departure(method: str, quantity: str) -> str | None:
    """The sentence for a method's promise, or ``None`` where the source's algebra is the whole story."""
    return DEPARTURES.get((method, quantity))
