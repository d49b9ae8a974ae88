"""Every initializer, in the manner of ``torch.nn.init``, and one call for a whole reference hypernet.

Here are Appendix A.2's (chunks) and the classical ones, for comparison; those of Table 1, whose
conventions hold here too, are defined in ``hyperverify.hyperfan``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hyperverify.errors import BadArgument
from hyperverify.hyperfan import (
    check_choice,
    columns,
    fans_of,
    hyperfan_in_bias_normal_,
    hyperfan_in_bias_uniform_,
    hyperfan_in_normal_,
    hyperfan_in_uniform_,
    hyperfan_mean_bias_normal_,
    hyperfan_mean_bias_uniform_,
    hyperfan_mean_normal_,
    hyperfan_mean_uniform_,
    hyperfan_out_bias_normal_,
    hyperfan_out_bias_uniform_,
    hyperfan_out_normal_,
    hyperfan_out_uniform_,
    whole,
)
from hyperverify.plan import Draw, check_tensor, fill_, plan, rule_, variance_
from hyperverify.specs import HypernetSpec

__all__ = [
    "Draw",
    "chunk_input_normal_",
    "chunk_input_uniform_",
    "chunk_output_normal_",
    "chunk_output_uniform_",
    "classical_normal_",
    "classical_uniform_",
    "fan_in_normal_",
    "fan_in_uniform_",
    "fill_",
    "hyperfan_in_bias_normal_",
    "hyperfan_in_bias_uniform_",
    "hyperfan_in_normal_",
    "hyperfan_in_uniform_",
    "hyperfan_mean_bias_normal_",
    "hyperfan_mean_bias_uniform_",
    "hyperfan_mean_normal_",
    "hyperfan_mean_uniform_",
    "hyperfan_out_bias_normal_",
    "hyperfan_out_bias_uniform_",
    "hyperfan_out_normal_",
    "hyperfan_out_uniform_",
    "init_hypernet_",
    "plan",
    "variance_",
]

CHUNK_METHODS = ("hyperfan-in", "hyperfan-out")
CLASSICAL_RULES = ("fan_in", "fan_out", "harmonic", "geometric", "arithmetic", "torch_default")


def _chunk_input_(
    distribution: str,
    tensor: Tensor,
    weight_shape: Sequence[int],
    method: str,
    var_e: float,
    relu: bool,
    generator: torch.Generator | None,
) -> Tensor:
    check_choice("method", method, CHUNK_METHODS)
    fans = fans_of(weight_shape, 1)
    shape = tuple(check_tensor(tensor).shape)
    channels = fans.d_i * fans.d_j
    if len(shape) not in (2, 3) or 0 in shape or (len(shape) == 3 and channels % shape[0]):
        allowed = f"(d_k, d_l), or (chunks, d_k, d_l) with chunks a divisor of {channels}"
        raise BadArgument("tensor.shape", shape, allowed)
    facts = {"d_i": fans.d_i, "d_j": fans.d_j, "d_l": shape[-1], "r": fans.r}
    rule_id = "A2.in.G" if method == "hyperfan-in" else "A2.out.G"
    facts |= {"var_e": var_e, "relu": relu}
    return rule_(tensor, rule_id, facts, distribution, generator)


def chunk_input_uniform_(
    tensor: Tensor,
    weight_shape: Sequence[int],
    *,
    method: str = "hyperfan-in",
    var_e: float = 1.0,
    relu: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A chunked hypernet's input layers G[t][m], uniform: s / (d_j d_l Var(e) r) (Appendix A.2).

    Args:
        tensor: shape (d_k, d_l) for one chunk, (chunks, d_k, d_l) for all chunks of a layer.
        weight_shape: of the whole generated weight, (out_channels, in_channels, *kernel).
        method: ``hyperfan-in``, or ``hyperfan-out``, which has d_i in the place of d_j.
        var_e: E[e^2] of the chunks' embeddings.
        relu: whether the mainnet layer's output goes through a ReLU (s = 2, else 1).
        generator: of the tensor's device; None for torch's default generator.

    Returns:
        ``tensor``.

    Raises:
        BadArgument: for a value or a shape that is not allowed.
    """
    return _chunk_input_("uniform", tensor, weight_shape, method, var_e, relu, generator)


def chunk_input_normal_(
    tensor: Tensor,
    weight_shape: Sequence[int],
    *,
    method: str = "hyperfan-in",
    var_e: float = 1.0,
    relu: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A chunked hypernet's input layers, normal; see :func:`chunk_input_uniform_`."""
    return _chunk_input_("normal", tensor, weight_shape, method, var_e, relu, generator)


def chunk_output_uniform_(tensor: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """A chunked hypernet's shared output layer H, uniform: 1 / d_k (Appendix A.2).

    Args:
        tensor: shape (K r, d_k).
        generator: of the tensor's device; None for torch's default generator.
    """
    d_k = columns(tensor, "K r")
    return rule_(tensor, "A2.H", {"d_k": d_k}, "uniform", generator)


def chunk_output_normal_(tensor: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """A chunked hypernet's shared output layer H, normal; see :func:`chunk_output_uniform_`."""
    d_k = columns(tensor, "K r")
    return rule_(tensor, "A2.H", {"d_k": d_k}, "normal", generator)


def _classical_(
    distribution: str, tensor: Tensor, rule: str, relu: bool, generator: torch.Generator | None
) -> Tensor:
    check_choice("rule", rule, CLASSICAL_RULES)
    d_k = columns(tensor, "rows")
    facts = {"d_k": d_k, "n_W": int(tensor.shape[0]), "relu": relu}
    return rule_(tensor, f"C.{rule}", facts, distribution, generator)


def classical_uniform_(
    tensor: Tensor,
    rule: str = "fan_in",
    *,
    relu: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A classical rule on an output layer's weight, uniform: what hyperfan init is compared with.

    Args:
        tensor: shape (n_W, d_k), or (out_channels, d_l): its own fans count, fan-in the columns.
        rule: ``fan_in`` s/d_k, ``fan_out`` s/n_W, their ``harmonic``, ``geometric`` or
            ``arithmetic`` mean, or ``torch_default`` 1/(3 d_k), nn.Linear's own.
        relu: s = 2 (Kaiming), else 1 (Xavier).
        generator: of the tensor's device; None for torch's default generator.

    Returns:
        ``tensor``.

    Raises:
        BadArgument: for a value or a shape that is not allowed.
    """
    return _classical_("uniform", tensor, rule, relu, generator)


def classical_normal_(
    tensor: Tensor,
    rule: str = "fan_in",
    *,
    relu: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A classical rule on an output layer's weight, normal; see :func:`classical_uniform_`."""
    return _classical_("normal", tensor, rule, relu, generator)


def fan_in_uniform_(
    tensor: Tensor, *, relu: bool = False, generator: torch.Generator | None = None
) -> Tensor:
    """Fan-in init of a trunk layer, uniform: 1/fan_in, 2/fan_in where its OUTPUT goes through ReLU.

    Args:
        tensor: shape (width, fan_in).
        relu: whether the trunk layer's output goes through a ReLU.
        generator: of the tensor's device; None for torch's default generator.
    """
    return _classical_("uniform", tensor, "fan_in", relu, generator)


def fan_in_normal_(
    tensor: Tensor, *, relu: bool = False, generator: torch.Generator | None = None
) -> Tensor:
    """Fan-in init of a trunk layer, normal; see :func:`fan_in_uniform_`."""
    return _classical_("normal", tensor, "fan_in", relu, generator)


def init_hypernet_(
    model: nn.Module,
    *,
    generator: torch.Generator | None = None,
    root_seed: int | None = None,
) -> nn.Module:
    """Initializes a whole reference hypernet by its spec: embeddings, trunks, output layers.

    Args:
        model: a ``nets.Hypernet``, or any module with a ``spec`` and the parameters of
            :func:`hyperverify.plan.plan`, by name.
        generator: of the parameters' device; None for torch's default generator.
        root_seed: instead of a generator: the seed of a fresh one.

    Returns:
        ``model``.

    Raises:
        BadArgument: for a module without spec, parameters on ``meta`` or on another device than
            the generator, or both a generator and a seed.
    """
    spec = getattr(model, "spec", None)
    if not isinstance(spec, HypernetSpec):
        raise BadArgument("model", type(model).__name__, "a hyperverify.nets.Hypernet")
    parameters = dict(model.named_parameters())
    draws = plan(spec)
    if set(parameters) != set(draws):
        differing = ", ".join(sorted(set(parameters) ^ set(draws)))
        raise BadArgument("model", f"parameters {differing}", "exactly those that the plan names")
    for parameter in parameters.values():
        check_tensor(parameter, generator)
    if root_seed is not None:
        if generator is not None:
            raise BadArgument("root_seed", root_seed, "None when a generator is given")
        if (seed := whole(root_seed, 0)) is None or seed >= 2**63:
            raise BadArgument("root_seed", root_seed, "an integer from 0 to 2**63 - 1")
        device = next(iter(parameters.values())).device
        generator = torch.Generator(device).manual_seed(seed)
    for name, draw in draws.items():
        fill_(parameters[name], draw, generator)
    return model
