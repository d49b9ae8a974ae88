"""Hypernets drawn by somebody else's initializer, in the place of the library's own.

An initializer is called as :func:`hyperverify.init.init_hypernet_` is, ``initializer(model,
generator=generator)``, and fills the parameters of one :class:`hyperverify.nets.Hypernet` in place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.isolation import isolated_generators
from hyperverify.nets import Hypernet
from hyperverify.plan import plan
from hyperverify.specs import HypernetSpec
from hyperverify.targets import load_target

Initializer = Callable[..., Any]
FORM = "init_(model, *, generator), to fill the parameters of a hyperverify.Hypernet"


def resolve_initializer(given: object) -> Initializer | None:
    """The initializer that is meant: a callable, the name of one, or None for the library's own.

    Raises:
        BadArgument: for anything else, or a name that leads nowhere.
    """
    if given is None or callable(given):
        return given
    return load_target("initializer", given)


def initializer_name(given: object) -> str | None:
    """What to call an initializer in a record: the name that was given, or its own."""
    if given is None or isinstance(given, str):
        return given
    module = getattr(given, "__module__", "?")
    return f"{module}:{getattr(given, '__qualname__', type(given).__qualname__)}"


def drawn_by(
    initializer: Initializer,
    spec: HypernetSpec,
    replicates: int,
    generator: torch.Generator,
    dtype: torch.dtype,
) -> dict[str, Tensor]:
    """Every tensor of many hypernets, each from one call of the initializer.

    Args:
        initializer: fills one model.
        spec: what the model is.
        replicates: R, how many models.
        generator: given to every call; what the initializer draws from global generators instead is
            seeded from it, and the global generators are restored.
        dtype: of the parameters.

    Returns:
        By the names of :func:`hyperverify.plan.plan`, shape (R, *shape).

    Raises:
        HyperverifyError: the initializer raises, replaces or reshapes parameters, or draws the same
            numbers every time.
    """
    device = generator.device
    model = Hypernet(spec, device="meta", dtype=dtype).to_empty(device=device)
    tensors = {
        name: torch.zeros((replicates, *draw.shape), device=device, dtype=dtype)
        for name, draw in plan(spec).items()
    }
    parameters = dict(model.named_parameters())
    with isolated_generators(generator.initial_seed()):
        for r in range(replicates):
            for name, parameter in parameters.items():
                parameter.data = tensors[name][r]  # filled in place: no copy
            _call(initializer, model, generator)
            after = dict(model.named_parameters())
            for name, parameter in parameters.items():
                _keep(tensors[name][r], after.get(name), parameter, name)
    _refuse_repetition(tensors, spec)
    return tensors


def _call(initializer: Initializer, model: nn.Module, generator: torch.Generator) -> None:
    try:
        initializer(model, generator=generator)
    except HyperverifyError:
        raise
    except Exception as error:
        told = " ".join(str(error).split())[:200]
        raise HyperverifyError(
            f"the initializer raises {type(error).__name__}: {told}; allowed: {FORM}"
        ) from error


def _keep(room: Tensor, after: nn.Parameter | None, given: nn.Parameter, name: str) -> None:
    """Copy what an initializer put elsewhere (another .data, another Parameter) into its room."""
    if after is given and given.data_ptr() == room.data_ptr():
        return
    if after is None or after.shape != room.shape:
        shape = None if after is None else tuple(after.shape)
        raise BadArgument(f"parameter {name}", shape, f"its shape {tuple(room.shape)} to be kept")
    room.copy_(after.detach())


def _refuse_repetition(tensors: dict[str, Tensor], spec: HypernetSpec) -> None:
    """Replicates must be independent: an initializer that seeds itself repeats one hypernet."""
    random = [n for n, draw in plan(spec).items() if draw.variance and tensors[n].shape[0] > 1]
    if random and all(torch.equal(tensors[name][0], tensors[name][1]) for name in random):
        if all(not tensors[name].any() for name in random):
            return  # zeros every time: that is a scale, and a wrong one, for the checks to refute
        raise HyperverifyError(
            "the initializer draws the same numbers at every call; allowed: draws from the generator "
            "that it is given, or from the global ones, never seeded by itself"
        )
