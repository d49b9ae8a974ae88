"""Hypernets drawn by somebody else's initializer, in the place of the library's own.

An initializer is called as :func:`hyperverify.init.init_hypernet_` is, ``initializer(model,
generator=generator)``, and fills the parameters of one :class:`hyperverify.nets.Hypernet` in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
_TELLING = 64  # coincidences that are none
_APART = 0x9E3779B9  # keeps the global generators from repeating the given one
_SOURCES = (
    "draws from the generator that it is given, or from the global ones, never seeded by itself"
)
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
        HyperverifyError: the initializer raises or reshapes parameters, draws the same numbers at
            every call, or other ones when it is asked again.
    """
    device = generator.device
    model = Hypernet(spec, device="meta", dtype=dtype).to_empty(device=device)
    tensors = {
        name: torch.zeros((replicates, *draw.shape), device=device, dtype=dtype)
        for name, draw in plan(spec).items()
    }
    parameters = dict(model.named_parameters())
    seed = generator.initial_seed()
    with isolated_generators(seed ^ _APART):
        for r in range(replicates):
            rooms = {name: tensor[r] for name, tensor in tensors.items()}
            _fill(initializer, model, parameters, rooms, generator)
    again = {name: torch.zeros_like(tensor[0]) for name, tensor in tensors.items()}
    with isolated_generators(seed ^ _APART):
        twin = torch.Generator(device).manual_seed(seed)
        _fill(initializer, model, parameters, again, twin)
    _refuse_repetition(tensors, spec)
    _refuse_other_sources(tensors, again)
    return tensors


def _fill(
    initializer: Initializer,
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    rooms: Mapping[str, Tensor],
    generator: torch.Generator,
) -> None:
    """One call, of a model that is all zeros; its parameters end up in their rooms."""
    for name, parameter in parameters.items():
        parameter.data = rooms[name]  # filled in place: no copy
    _call(initializer, model, generator)
    after = dict(model.named_parameters())
    for name, parameter in parameters.items():
        _keep(rooms[name], after.get(name), parameter, name)
        if after[name] is not parameter:  # put back, for the next call
            home, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(home), leaf, parameter)


def _call(initializer: Initializer, model: nn.Module, generator: torch.Generator) -> None:
    try:
        initializer(model, generator=generator)
    except HyperverifyError:
        raise
    except (Exception, SystemExit) as error:
        told = " ".join([f"{type(error).__name__}:", *str(error).split()])[:200].rstrip(":")
        raise HyperverifyError(f"the initializer raises {told}; allowed: {FORM}") from error


def _keep(room: Tensor, after: nn.Parameter | None, given: nn.Parameter, name: str) -> None:
    """Copy what an initializer put elsewhere (another .data, another Parameter) into its room."""
    if after is None or after.shape != room.shape:
        shape = None if after is None else tuple(after.shape)
        raise BadArgument(f"parameter {name}", shape, f"its shape {tuple(room.shape)} to be kept")
    if after.is_complex():
        raise BadArgument(f"parameter {name}", after.dtype, "real numbers")
    there = (room.data_ptr(), room.stride())
    if after is not given or (after.data_ptr(), after.stride()) != there:
        room.copy_(after.detach().clone())  # a clone: it may be another view of the room itself


def _refuse_repetition(tensors: Mapping[str, Tensor], spec: HypernetSpec) -> None:
    """Replicates must be independent: what an initializer seeds by itself, it repeats."""
    for name, draw in plan(spec).items():
        drawn = tensors[name]
        # Few signs, or the one bfloat16 of two tiny nets, may coincide by chance.
        if not draw.variance or drawn[1:].numel() < _TELLING:
            continue
        # Zeros or infinities every time are a scale, and a wrong one, for the checks to refute.
        told = bool(drawn.any()) and bool(drawn.isfinite().all())
        if told and bool((drawn == drawn[:1]).all()):
            raise HyperverifyError(
                f"the initializer draws the same {name} at every call; allowed: {_SOURCES}"
            )


def _refuse_other_sources(tensors: Mapping[str, Tensor], again: Mapping[str, Tensor]) -> None:
    """A verdict can be repeated only if the same generators give the same hypernet."""
    for name, tensor in tensors.items():
        first, second = tensor[0].nan_to_num(), again[name].nan_to_num()
        if not torch.equal(first, second):
            raise HyperverifyError(
                f"the initializer draws another {name} from the same generators; allowed: {_SOURCES}"
            )
