"""Seeds, devices and dtypes, and the batched draw of a hypernet's tensors.

Every tensor of every block of replicates has a generator of its own, its seed made from the root
seed, the spec's digest, the block and the tensor's name, and no two alike in a study. No global generator is read, no order of calls
matters, and a tensor can be drawn again instead of being kept.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import cast

import numpy as np
import torch
from torch import Tensor

from hyperverify.errors import BadArgument
from hyperverify.foreign import Initializer, drawn_by
from hyperverify.init import fill_
from hyperverify.plan import Draw, plan
from hyperverify.specs import HypernetSpec

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}
DEVICES = ("auto", "cpu", "cuda")

# 8 MB of float32 a block: the working set stays near the caches and the memory flat.
_BLOCK_ENTRIES = 2**21
_MAX_REPLICATES = 4096
_MAX_CALLS = 256  # a foreign initializer is called once a replicate, which takes its time


def resolve_device(name: str) -> torch.device:
    """The device that ``auto``, ``cpu`` or ``cuda`` stands for here.

    Raises:
        BadArgument: for another name, or ``cuda`` where torch sees no device.
    """
    if name not in DEVICES:
        raise BadArgument("device", name, "one of " + ", ".join(DEVICES))
    if name == "cuda" and not torch.cuda.is_available():
        raise BadArgument("device", name, "cpu or auto here: torch sees no CUDA device")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def resolve_dtype(name: str) -> torch.dtype:
    """The torch dtype of ``float64``, ``float32`` or ``bfloat16``."""
    if not isinstance(cast(object, name), str) or name not in DTYPES:
        raise BadArgument("dtype", name, "one of " + ", ".join(DTYPES))
    return DTYPES[name]


@contextmanager
def one_thread() -> Generator[None]:
    """One torch thread inside, so that sums have one order on any machine; restored after."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# Options of glibc's mallopt: M_TRIM_THRESHOLD and M_MMAP_THRESHOLD.
_KEEPING = (-1, -3)


def keep_freed_memory() -> None:
    """Keep what a block frees for the next block, in this process and for good.

    GNU's C library gives large pieces back to the system at once, and to touch fresh pages costs as
    much again as to draw the numbers in them. Elsewhere this does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for option in _KEEPING:
        mallopt(option, 2**30)


def seed_of(root_seed: int, digest: str, *path: str | int) -> int:
    """A 64-bit seed: SHA-256 of all that names a study, through numpy's SeedSequence."""
    text = "/".join([str(root_seed), digest, *map(str, path)])
    words = np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype=np.uint32)
    return int(np.random.SeedSequence(words.tolist()).generate_state(1, np.uint64)[0])


@lru_cache(maxsize=1024)
def _start(root_seed: int, digest: str) -> int:
    """Where a study's seeds are counted from."""
    return seed_of(root_seed, digest)


def mixed(counter: int) -> int:
    """A bijection of 32-bit numbers that leaves neighbours far apart (the finalizer of MurmurHash3)."""
    h = counter % 2**32
    h = (h ^ (h >> 16)) * 0x85EBCA6B % 2**32
    h = (h ^ (h >> 13)) * 0xC2B2AE35 % 2**32
    return h ^ (h >> 16)


@dataclass(frozen=True)
class Block:
    """One block of independent replicates of a spec, and how to draw any of its tensors.

    Attributes:
        spec: what is drawn.
        root_seed: the run's seed.
        index: number of the block; blocks are independent.
        replicates: R, whole hypernets in the block.
        device, dtype: of the tensors.
        draws: the initializer's plan, by name; the tests plant their defects here.
        initializer: draws whole hypernets in the plan's place; None: the library's own.
    """

    spec: HypernetSpec
    root_seed: int
    index: int
    replicates: int
    device: torch.device
    dtype: torch.dtype
    draws: Mapping[str, Draw]
    initializer: Initializer | None = None

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All that can be drawn, in a fixed order."""
        layers = range(len(self.spec.layers))
        more = (f"{kind}.{t}" for kind in ("input", "cotangent", "radius") for t in layers)
        factors = (f"factor.{name}" for name in self.draws if "embeddings." in name)
        foreign = () if self.initializer is None else ("initializer",)
        return (*self.draws, *more, *factors, *foreign)

    def seed(self, name: str) -> int:
        """Seed of the tensor ``name``, below 2^32.

        torch's CPU generator reads 32 bits of a seed. Hashed independently, some of a study's
        many thousand seeds would coincide; counted from a hashed start, none of them does.
        """
        counter = self.index * len(self.names) + self.names.index(name)
        return mixed(_start(self.root_seed, self.spec.digest) + counter)

    def generator(self, name: str) -> torch.Generator:
        """The generator of the tensor ``name``."""
        generator = torch.Generator(self.device)
        generator.manual_seed(self.seed(name))
        return generator

    def empty(self, *shape: int) -> Tensor:
        """An unfilled tensor of the block's device and dtype."""
        return torch.empty(shape, device=self.device, dtype=self.dtype)

    def tensor(self, name: str) -> Tensor:
        """The tensor ``name`` for all replicates, shape (R, ...), the same at every call."""
        if self.initializer is not None:
            return self._foreign[name].clone()
        draw = self.draws[name]
        return fill_(self.empty(self.replicates, *draw.shape), draw, self.generator(name))

    @cached_property
    def _foreign(self) -> dict[str, Tensor]:
        """Whole hypernets cannot be drawn a tensor at a time: these are kept."""
        assert self.initializer is not None
        generator = self.generator("initializer")
        return drawn_by(self.initializer, self.spec, self.replicates, generator, self.dtype)

    def standard(self, name: str, distribution: str, *shape: int) -> Tensor:
        """Independent entries of second moment 1, shape (R, *shape).

        Args:
            name: of the draw.
            distribution: ``normal`` or ``rademacher``.
            shape: of one replicate.
        """
        return fill_(
            self.empty(self.replicates, *shape),
            Draw(shape=shape, distribution=distribution, variance=1.0),
            self.generator(name),
        )


def replicates_per_block(spec: HypernetSpec) -> int:
    """R: fixed by the spec alone, so that the looks at the evidence are predetermined."""
    entries = sum(_size(draw) for draw in plan(spec).values())
    inputs = max(spec.batch * layer_entries(spec, t) for t in range(len(spec.layers)))
    return max(1, min(_MAX_REPLICATES, _BLOCK_ENTRIES // (entries + inputs)))


def layer_entries(spec: HypernetSpec, t: int) -> int:
    """Entries of one input to layer ``t``."""
    return spec.layers[t].in_channels * int(np.prod(spec.sizes[t], dtype=np.int64))


def _size(draw: Draw) -> int:
    return int(np.prod(draw.shape, dtype=np.int64))


def blocks(
    spec: HypernetSpec,
    root_seed: int,
    device: torch.device,
    dtype: torch.dtype,
    draws: Mapping[str, Draw] | None = None,
    initializer: Initializer | None = None,
) -> Iterator[Block]:
    """The endless stream of blocks of a spec.

    Args:
        spec: what to draw.
        root_seed: the run's seed.
        device: of the tensors.
        dtype: of the tensors.
        draws: another plan than the initializer's own (planted defects).
        initializer: draws the hypernets in the plan's place, see :mod:`hyperverify.foreign`.
    """
    chosen = plan(spec) if draws is None else draws
    replicates = replicates_per_block(spec)
    if initializer is not None:
        replicates = min(replicates, _MAX_CALLS)
    index = 0
    while True:
        yield Block(spec, root_seed, index, replicates, device, dtype, chosen, initializer)
        index += 1
