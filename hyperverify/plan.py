"""What to draw for a hypernet: its initialization as data, and the one routine that draws it.

:func:`plan` turns a spec into named :class:`Draw` values, each variance taken from ``formulas``.
The reference module and the batched engine both follow it, so what is verified is what is used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import cast

import torch
from torch import Tensor

from hyperverify import formulas
from hyperverify.errors import BadArgument
from hyperverify.specs import DISTRIBUTIONS, EmbeddingSpec, HypernetSpec, TrunkLayerSpec

DRAW_DISTRIBUTIONS = (*DISTRIBUTIONS, "orthogonal", "rademacher", "constant", "zeros")
_WIDEST = 16  # standard deviations that a dtype must hold: no draw comes near that
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def checked_number(name: str, value: object, *, least: float | None = None) -> float:
    """``value`` as a finite float, at least ``least`` if that is given."""
    allowed = "a finite number" + ("" if least is None else f" of at least {least:g}")
    if isinstance(value, bool) or not isinstance(value, Real):
        raise BadArgument(name, value, allowed)
    try:
        number = float(value)
    except OverflowError:
        raise BadArgument(name, value, allowed) from None
    if not math.isfinite(number) or (least is not None and number < least):
        raise BadArgument(name, value, allowed)
    return number


@dataclass(frozen=True)
class Draw:
    """How one tensor of the hypernet is drawn.

    Attributes:
        shape: shape for one replicate.
        distribution: ``uniform`` or ``normal`` (i.i.d. entries), ``orthogonal`` (columns
            orthogonal, of squared norm variance * rows), ``rademacher`` (a fair sign times the
            root of the variance), ``constant`` (every entry ``mean``) or ``zeros``.
        variance: second moment of an entry about ``mean``.
        mean: added to every entry.

    Raises:
        BadArgument: for a value that does not fit the distribution.
    """

    shape: tuple[int, ...]
    distribution: str
    variance: float = 0.0
    mean: float = 0.0

    def __post_init__(self) -> None:
        if self.distribution not in DRAW_DISTRIBUTIONS:
            allowed = "one of " + ", ".join(DRAW_DISTRIBUTIONS)
            raise BadArgument("distribution", self.distribution, allowed)
        variance = checked_number("variance", self.variance, least=0)
        mean = checked_number("mean", self.mean)
        if variance and self.distribution in ("constant", "zeros"):
            raise BadArgument("variance", variance, f"0 under {self.distribution}")
        if mean and self.distribution in ("orthogonal", "rademacher", "zeros"):
            raise BadArgument("mean", mean, f"0 under {self.distribution}")
        if self.distribution == "orthogonal" and (
            len(self.shape) != 2 or self.shape[0] < self.shape[1]
        ):
            allowed = "(rows, columns) with at least as many rows as columns under orthogonal"
            raise BadArgument("shape", self.shape, allowed)
        object.__setattr__(self, "variance", variance)
        object.__setattr__(self, "mean", mean)


def check_tensor(tensor: object, generator: torch.Generator | None = None) -> Tensor:
    """``tensor``, if it can be drawn in place from ``generator``.

    Raises:
        BadArgument: for anything else than a real floating tensor with storage, or for a generator
            of another device.
    """
    if not isinstance(tensor, Tensor):
        raise BadArgument("tensor", type(tensor).__name__, "a torch.Tensor")
    if tensor.dtype not in DTYPES:
        allowed = ", ".join(str(dtype) for dtype in DTYPES)
        raise BadArgument("tensor.dtype", tensor.dtype, allowed)
    if tensor.device.type == "meta":
        raise BadArgument("tensor.device", "meta", "a device with storage (use to_empty first)")
    if generator is not None:
        if not isinstance(cast(object, generator), torch.Generator):
            raise BadArgument("generator", generator, "a torch.Generator or None")
        ours, theirs = tensor.device, generator.device
        indices = {ours.index, theirs.index} - {None}
        if ours.type != theirs.type or len(indices) > 1:
            raise BadArgument("generator.device", str(theirs), f"the tensor's device, {ours}")
    return tensor


def fill_(tensor: Tensor, draw: Draw, generator: torch.Generator | None = None) -> Tensor:
    """Draws ``tensor`` in place, all replicates at once.

    Half-precision tensors are drawn in float32 and rounded to nearest: torch's own half-precision
    uniform draws are truncated, which shifts their mean. So |w| <= sqrt(3 variance) holds for
    uniform draws up to the rounding of that bound to the tensor's dtype.

    Args:
        tensor: shape (*batch, *draw.shape); every leading index is an independent replicate.
        draw: what to draw.
        generator: of the tensor's device; None for torch's default generator.

    Returns:
        ``tensor``.

    Raises:
        BadArgument: for a tensor of another shape, an integer or meta tensor, a generator of
            another device, or a variance that the tensor's dtype cannot hold.
    """
    check_tensor(tensor, generator)
    lead = tensor.dim() - len(draw.shape)
    if lead < 0 or tuple(tensor.shape[lead:]) != draw.shape:
        allowed = "(*batch, " + ", ".join(map(str, draw.shape)) + ")"
        raise BadArgument("tensor.shape", tuple(tensor.shape), allowed)
    largest = torch.finfo(tensor.dtype).max
    if _WIDEST * math.sqrt(draw.variance) + abs(draw.mean) > largest:
        allowed = f"at most {(largest / _WIDEST) ** 2:.3g}, so that {tensor.dtype} holds the draws"
        raise BadArgument("variance", draw.variance, allowed)
    with torch.no_grad():
        if draw.variance == 0:
            return tensor.fill_(draw.mean)
        # A fresh contiguous tensor, so that the draw does not depend on the layout of `tensor`.
        direct = tensor.dtype in (torch.float64, torch.float32) and tensor.is_contiguous()
        dtype = tensor.dtype if tensor.dtype == torch.float64 else torch.float32
        work = tensor if direct else tensor.new_empty(tensor.shape, dtype=dtype)
        _draw_(work, draw, generator)
        return tensor if direct else tensor.copy_(work)


def _draw_(work: Tensor, draw: Draw, generator: torch.Generator | None) -> None:
    scale = math.sqrt(draw.variance)
    if draw.distribution == "uniform":
        bound = math.sqrt(3 * draw.variance)
        work.uniform_(draw.mean - bound, draw.mean + bound, generator=generator)
    elif draw.distribution == "normal":
        work.normal_(draw.mean, scale, generator=generator)
    elif draw.distribution == "rademacher":
        work.bernoulli_(0.5, generator=generator).mul_(2).sub_(1).mul_(scale)
    else:
        work.normal_(generator=generator)
        q, r = cast("tuple[Tensor, Tensor]", torch.linalg.qr(work))  # pyright: ignore[reportUnknownMemberType]
        # Without the signs Q would depend on the QR routine and not be Haar distributed.
        diagonal = torch.diagonal(r, dim1=-2, dim2=-1)
        signs = torch.ones_like(diagonal).copysign(diagonal)
        work.copy_(q * signs.unsqueeze(-2) * (scale * math.sqrt(draw.shape[0])))


def variance_(
    tensor: Tensor,
    variance: float,
    distribution: str = "uniform",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Fills ``tensor`` with i.i.d. zero-mean entries of the given variance, whatever its shape.

    Args:
        tensor: any shape.
        variance: of an entry; finite, at least 0.
        distribution: ``uniform``, on (-sqrt(3 variance), sqrt(3 variance)), or ``normal``.
        generator: of the tensor's device; None for torch's default generator.

    Returns:
        ``tensor``.

    Raises:
        BadArgument: for a value that is not allowed.
    """
    if distribution not in DISTRIBUTIONS:
        raise BadArgument("distribution", distribution, "one of " + ", ".join(DISTRIBUTIONS))
    check_tensor(tensor)
    return fill_(tensor, Draw(tuple(tensor.shape), distribution, variance), generator)


def rule_(
    tensor: Tensor,
    rule_id: str,
    facts: Mapping[str, object],
    distribution: str,
    generator: torch.Generator | None,
) -> Tensor:
    """Fills ``tensor`` by a rule; the ``facts`` are its arguments, and may be more.

    Raises:
        BadArgument: for a value that is not allowed. A variance that the tensor's dtype cannot hold
            is laid to ``var_e``: nothing else that the caller chose can make it so large.
        HyperverifyError: the variance leaves the range of a float.
    """
    variance = rule_variance(rule_id, facts)
    try:
        return variance_(tensor, variance, distribution, generator)
    except BadArgument as error:
        if error.name != "variance" or "var_e" not in facts:
            raise
        allowed = f"a larger one, for a variance of {error.allowed} (it is {variance:.3g})"
        raise BadArgument("var_e", facts["var_e"], allowed) from None


def embedding_name(spec: HypernetSpec, t: int) -> str:
    """Name of the embedding that generates layer ``t``'s W."""
    return f"embeddings.{0 if spec.embeddings == 'one' else t}"


def bias_embedding_name(spec: HypernetSpec, t: int) -> str:
    """Name of the embedding that generates layer ``t``'s b, under a ``bias_embedding``."""
    if spec.embeddings == "one":
        t = next(n for n, layer in enumerate(spec.layers) if layer.bias)
    return f"bias_embeddings.{t}"


def rule_variance(rule_id: str, facts: Mapping[str, object]) -> float:
    """The rule's variance, given those of ``facts`` that it has arguments for."""
    names = {argument.name for argument in formulas.RULES[rule_id].arguments}
    given = {name: value for name, value in facts.items() if name in names}
    return formulas.rule(rule_id).number(formulas.variance(rule_id, **given))


def _dims(spec: HypernetSpec, t: int) -> dict[str, object]:
    """Layer ``t`` in the rules' symbols; a fan counts the channels of one group."""
    layer = spec.layers[t]
    return {
        "d_i": layer.out_channels // layer.groups,
        "d_j": layer.in_channels // layer.groups,
        "d_k": spec.feature_dim,
        "d_l": spec.bias_feature_dim,
        "r": math.prod(layer.kernel),
        "n_W": layer.n_weights,
        "out_channels": layer.out_channels,
        "var_e": spec.embedding.second_moment,
        "var_e2": (spec.bias_embedding or spec.embedding).second_moment,
        "relu": layer.relu,
        "bias": layer.bias,
        "sigma2": spec.sigma2,
    }


def output_variance(spec: HypernetSpec, t: int) -> float:
    """Var(H) of the output layer that generates mainnet layer ``t``'s W."""
    dims = _dims(spec, t)
    if spec.chunk is not None:
        return rule_variance("A2.H", dims)
    return float(formulas.METHODS[spec.method].variance("H", **dims))


def bias_output_variance(spec: HypernetSpec, t: int) -> float:
    """Var(G) of the output layer that generates mainnet layer ``t``'s b."""
    return float(formulas.METHODS[spec.method].variance("G", **_dims(spec, t)))


def chunk_input_variance(spec: HypernetSpec, t: int) -> float:
    """Var(G[t][m]) of the input layers of mainnet layer ``t``'s chunks (Appendix A.2)."""
    rule_id = formulas.METHODS[spec.method].chunked
    if spec.chunk is None or rule_id is None:
        raise BadArgument("output", spec.output, "chunked, under hyperfan-in or hyperfan-out")
    return rule_variance(rule_id, {**_dims(spec, t), "d_l": spec.embedding.dim})


def plan(spec: HypernetSpec) -> dict[str, Draw]:
    """Every tensor of the hypernet and how it is drawn, in the order of drawing.

    The names are those of the reference module's ``state_dict`` (``nets.Hypernet``):

    ====================================  ==================================================
    ``embeddings.{t}``                    (d_m,); chunked (chunks, d_l)
    ``trunk.{n}.weight``, ``.bias``       (width, fan_in), (width,)
    ``output_layers.{group}.weight``      H, (n_W, d_k); chunked (K r, d_k)
    ``output_layers.{group}.bias``        beta, (n_W,) zeros; chunked (K r,)
    ``input_layers.{t}.weight``           chunked only: (chunks, d_k, d_l)
    ``input_layers.{t}.bias``             chunked only: gamma, (chunks, d_k) zeros
    ``bias_embeddings.{t}``               (d_n,), under a bias_embedding
    ``bias_trunk.{n}.weight``, ``.bias``  as trunk
    ``bias_layers.{group}.weight``        G, (out_channels, d_l)
    ``bias_layers.{group}.bias``          gamma, (out_channels,) zeros
    ====================================  ==================================================

    Variances: the rules of the spec's method (Table 1, Appendix A.2, Section 3, Appendix B.1.3)
    for the output layers, fan-in init for the trunks.

    Raises:
        BadArgument: if layers that share an output layer call for different variances.
    """
    draws: dict[str, Draw] = {}
    for t, layer in enumerate(spec.layers):
        lead = () if spec.chunk is None else (spec.chunk.count(layer),)
        if (name := embedding_name(spec, t)) not in draws:
            draw = _embedding_draw(spec.embedding, lead)
            if spec.method == "M4":
                d_j, r = layer.in_channels // layer.groups, math.prod(layer.kernel)
                draw = replace(draw, mean=float(formulas.m4_embedding(d_j, r)))
            draws[name] = draw
    _plan_trunk(draws, "trunk", spec.trunk, spec.embedding.dim, spec.distribution)
    kind = "orthogonal" if spec.method == "orthogonal" else spec.distribution
    for t, layer in enumerate(spec.layers):
        group, variance = spec.output_group(t), output_variance(spec, t)
        rows = layer.n_weights
        if spec.chunk is not None:
            rows = spec.chunk.size * math.prod(layer.kernel)
            shape = (spec.chunk.count(layer), spec.feature_dim, spec.embedding.dim)
            draw = Draw(shape, spec.distribution, chunk_input_variance(spec, t))
            _plan_linear(draws, f"input_layers.{t}", draw, t)
        draw = Draw((rows, spec.feature_dim), kind, variance)
        _plan_linear(draws, f"output_layers.{group}", draw, t)
    _plan_biases(draws, spec)
    return draws


def _plan_biases(draws: dict[str, Draw], spec: HypernetSpec) -> None:
    biased = [t for t, layer in enumerate(spec.layers) if layer.bias]
    if spec.bias_embedding is not None:
        for t in biased:
            draws[bias_embedding_name(spec, t)] = _embedding_draw(spec.bias_embedding, ())
        dim = spec.bias_embedding.dim
        _plan_trunk(draws, "bias_trunk", spec.bias_trunk, dim, spec.distribution)
    for t in biased:
        shape = (spec.layers[t].out_channels, spec.bias_feature_dim)
        draw = Draw(shape, spec.distribution, bias_output_variance(spec, t))
        _plan_linear(draws, f"bias_layers.{spec.output_group(t)}", draw, t)


def _plan_linear(draws: dict[str, Draw], name: str, weight: Draw, t: int) -> None:
    known = draws.setdefault(f"{name}.weight", weight)
    if known.variance != weight.variance:
        allowed = f"{known.variance:g}, as in the layer it shares {name} with"
        raise BadArgument(f"variance for layers[{t}]", weight.variance, allowed)
    draws[f"{name}.bias"] = Draw(weight.shape[:-1], "zeros")


def _plan_trunk(
    draws: dict[str, Draw],
    name: str,
    trunk: tuple[TrunkLayerSpec, ...],
    fan_in: int,
    distribution: str,
) -> None:
    for n, layer in enumerate(trunk):
        facts = {"d_k": fan_in, "n_W": layer.width, "relu": layer.relu}
        variance = rule_variance("C.fan_in", facts)
        _plan_linear(draws, f"{name}.{n}", Draw((layer.width, fan_in), distribution, variance), n)
        fan_in = layer.width


def _embedding_draw(embedding: EmbeddingSpec, lead: tuple[int, ...]) -> Draw:
    shape = (*lead, embedding.dim)
    if embedding.distribution == "constant":
        return Draw(shape, "constant", mean=math.sqrt(embedding.second_moment))
    variance = float(embedding.second_moment - embedding.mean**2)
    return Draw(shape, embedding.distribution, variance, float(embedding.mean))
