"""The IDX format of MNIST: a magic number, the sizes, then the bytes."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hyperverify.errors import HyperverifyError
from hyperverify.experiments.data.files import SourceFile, read

UNSIGNED_BYTES = 8  # the type code; MNIST has no other


def read_idx(path: Path, dims: int) -> tuple[NDArray[np.uint8], SourceFile]:
    """An array of unsigned bytes.

    Args:
        path: plain or gzipped.
        dims: how many dimensions it must have: 3 for images, 1 for labels.

    Returns:
        The array and the file's record.

    Raises:
        HyperverifyError: the file is no IDX file, of another type or shape, or not as long as its
            header says.
    """
    contents, source = read(path)
    kind = {1: "labels (1 dimension)", 3: "images (3 dimensions)"}.get(dims, f"{dims} dimensions")
    if len(contents) < 4 or contents[:2] != b"\x00\x00":
        raise HyperverifyError(f"{path} is no IDX file; allowed: an IDX file of {kind}")
    code, found = contents[2], contents[3]
    if code != UNSIGNED_BYTES:
        raise HyperverifyError(f"{path} holds numbers of type {code:#04x}; allowed: bytes (0x08)")
    if found != dims:
        raise HyperverifyError(f"{path} has {found} dimension(s); allowed: an IDX file of {kind}")
    head = 4 + 4 * dims
    if len(contents) < head:
        raise HyperverifyError(f"{path} is cut off inside its header")
    sizes = struct.unpack(f">{dims}I", contents[4:head])
    wanted, got = math.prod(sizes), len(contents) - head
    if got < wanted:
        raise HyperverifyError(f"{path} is cut off: {got} of {wanted} bytes")
    if got > wanted:
        raise HyperverifyError(f"{path} has {got - wanted} byte(s) more than its header says")
    if not wanted:
        raise HyperverifyError(f"{path} holds nothing: its sizes are {sizes}")
    return np.frombuffer(contents, dtype=np.uint8, offset=head).reshape(sizes), source
