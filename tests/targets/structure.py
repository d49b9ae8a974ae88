"""Small structures for the tracer, and what a perfect tracer says of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from target import Layer
from torch import nn


@dataclass(frozen=True)
class Structure:
    """A model with what is to be found in it.

    Attributes:
        name: the factory's name.
        factory: takes nothing, returns a fresh model.
        inputs: takes a batch size, returns the tuple of the call's arguments.
        input: the shape of one sample where the only argument is a float tensor, else None.
        layers: the generated layers that a perfect tracer detects, in the order of the call.
        flags: words; where there are any, the answer must hold one of them (in lower case), and
            must not be VERIFIED. "no generated layer" means the exit status 2.
        lenient: to detect the layers exactly is as good as to name a flag.
    """

    name: str
    factory: Callable[[], Any]
    inputs: Callable[[int], tuple[Any, ...]]
    input: tuple[int, ...] | None
    layers: tuple[Layer, ...]
    flags: tuple[str, ...] = ()
    lenient: bool = False


class Structures(list[Structure]):
    """Structures in the order of their declaration."""

    def of(self, sample, layers=(), *, flags=(), lenient=False):
        """Declares the factory below; sample is a shape, or a function from the batch size."""
        words = (flags,) if isinstance(flags, str) else tuple(flags)
        found = (layers,) if isinstance(layers, Layer) else tuple(layers)

        def declare(factory):
            if callable(sample):
                inputs, shape = sample, None
            else:
                inputs, shape = (lambda batch: (torch.randn(batch, *sample),)), sample
            self.append(Structure(factory.__name__, factory, inputs, shape, found, words, lenient))
            return factory

        return declare


class Maker(nn.Module):
    """A tensor of any shape from one embedding: a linear layer without bias, fan-in init."""

    def __init__(self, *shape, d_k=8, scale=1.0):
        super().__init__()
        self.shape = shape
        self.e = nn.Parameter(torch.randn(d_k))
        self.head = nn.Linear(d_k, math.prod(shape), bias=False)
        nn.init.normal_(self.head.weight, std=scale / math.sqrt(d_k * math.prod(shape[1:])))

    def forward(self):
        return self.head(self.e).view(self.shape)


class Net(nn.Module):
    """``run(net, *inputs)`` is the call; parts that are modules or parameters are registered."""

    def __init__(self, run, **parts):
        super().__init__()
        self.run = run
        for name, part in parts.items():
            if isinstance(part, torch.Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *inputs):
        return self.run(self, *inputs)
