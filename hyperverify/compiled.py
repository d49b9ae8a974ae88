"""Functions of R replicates through ``torch.compile``, each compiled once for all blocks of a study.

What is compiled is what the eager engine runs: a function of one replicate under ``torch.func.vmap``.
Gradients come from autograd through the compiled function; nothing is drawn inside one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager
from functools import lru_cache, partial
from types import FunctionType
from typing import Any, cast

import torch
from torch import Tensor

from hyperverify.errors import HyperverifyError
from hyperverify.linear_algebra import per_replicate

# What torch's own compiler says of torch's own modules while it works, by version of torch.
_OF_TORCH = (
    (r"`torch\.jit\.script_method` is deprecated", DeprecationWarning),  # of what inductor imports
    (r"The \.grad attribute of a Tensor that is not a leaf Tensor", UserWarning),  # dynamo looks
    (r"Guards may run slower on Python 3\.13\.0", RuntimeWarning),
)

# Compiled functions that are kept; a study of three layers needs about ten.
_KEPT = 256


def _with_code_of_its_own(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same function on a copy of its code.

    torch keeps what it compiled with the code object and gives up after a few versions of one: all
    closures made by one ``def`` would count as versions of each other.
    """
    made = cast(FunctionType, function)
    return FunctionType(
        made.__code__.replace(), made.__globals__, made.__name__, closure=made.__closure__
    )


@lru_cache(maxsize=_KEPT)
def _compiled(function: Callable[..., Tensor], static: tuple[Hashable, ...], _key: Hashable) -> Any:
    def batched(*tensors: Any) -> Tensor:
        return per_replicate(partial(function, *static), *tensors)

    # The whole function or an error: a part left to the eager interpreter would go unnoticed.
    untyped = cast(Any, torch)
    return untyped.compile(_with_code_of_its_own(batched), fullgraph=True, dynamic=False)


def _signature(batched: Any) -> Hashable:
    """What a compiled version is good for: two signatures are two functions, and two code objects."""
    if isinstance(batched, Tensor):
        return tuple(batched.shape), batched.dtype, batched.device, batched.requires_grad
    return tuple((name, _signature(tensor)) for name, tensor in batched.items())


def compiled_per_replicate(
    function: Callable[..., Tensor], static: tuple[Hashable, ...], *batched: Any
) -> Tensor:
    """``function(*static, *tensors)`` of each replicate, compiled by inductor.

    Args:
        function: a module's own function; with ``static`` it names what is compiled.
        static: what is the same for all replicates: specs, layers, indices.
        batched: tensors, or dicts of tensors, with a leading dimension R.

    Returns:
        Shape (R, ...).

    Raises:
        HyperverifyError: where torch cannot compile, for want of a C++ compiler for instance.
    """
    signature = (torch.is_grad_enabled(), *map(_signature, batched))
    with compiling():
        return cast(Tensor, _compiled(function, static, signature)(*batched))


@contextmanager
def compiling() -> Generator[None]:
    """What runs inside may compile: the first call of a function, and the first pass backward.

    Raises:
        HyperverifyError: where torch cannot compile.
    """
    with warnings.catch_warnings():
        for message, category in _OF_TORCH:
            warnings.filterwarnings("ignore", message, category)
        try:
            yield
        except Exception as error:
            if not _raised_by_the_compiler(error):
                raise
            lines = [line.strip() for line in str(error).splitlines()]
            # "backend='inductor' raised:" stands before what it raised
            said = next((line for line in lines if line and not line.endswith("raised:")), "")
            allowed = (
                "an emptied TORCHINDUCTOR_CACHE_DIR: a run that was killed may have left it broken"
                if "ImportError" in said
                else "the backend eager, or a C++ compiler that torch finds (g++ or clang++)"
            )
            raise HyperverifyError(
                f"torch.compile failed ({type(error).__name__}: {said}); allowed: {allowed}"
            ) from error


def _raised_by_the_compiler(error: BaseException) -> bool:
    return any(
        kind.__module__.startswith(("torch._dynamo", "torch._inductor"))
        for kind in type(error).__mro__
    )
