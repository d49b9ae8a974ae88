"""The initializer that is checked, and others made from one: up to a symmetry, or wrong by a factor."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hyperverify import Hypernet, init_hypernet_
from hyperverify.foreign import Initializer, resolve_initializer
from hyperverify.isolation import isolated_generators
from hyperverify.pytest_session import Session
from hyperverify.specs import HypernetSpec

Transform = Callable[[Tensor], Tensor]


def chosen(session: Session) -> Initializer:
    """What the session checks: the library's own initializer, or that of its option."""
    return resolve_initializer(session.options.initializer) or init_hypernet_


def filled(spec: HypernetSpec, initializer: Initializer, generator: torch.Generator) -> Hypernet:
    """A float64 hypernet as the initializer leaves it: what it does not fill is 0.

    What it draws from the global generators follows from ``generator``, and shares nothing with it.
    """
    model = Hypernet(spec, device="meta", dtype=torch.float64).to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    with isolated_generators(int(torch.randint(2**62, (), generator=generator))):
        initializer(model, generator=generator)
    return model


def transformed(base: Initializer, transform: Transform) -> Initializer:
    """``base``, then ``transform`` on every output layer's H, shaped (units, weights, features).

    The units are those of the mainnet layer, or the channels of a chunk (Appendix A.2).
    """

    def init_(model: Hypernet, *, generator: torch.Generator) -> None:
        base(model, generator=generator)
        spec = model.spec
        with torch.no_grad():
            for group in sorted({spec.output_group(t) for t in range(len(spec.layers))}):
                units = spec.layers[group].out_channels if spec.chunk is None else spec.chunk.size
                H = model.get_parameter(f"output_layers.{group}.weight")
                parts = H.reshape(units, -1, H.shape[-1])
                H.copy_(transform(parts).reshape(H.shape))

    return init_


def scaled(base: Initializer, variance: float) -> Initializer:
    """``base`` with the variance of every H multiplied: wrong."""
    return transformed(base, lambda H: H * variance**0.5)
