"""Arrays on disk: ``.npz`` without pickle, written whole or not at all."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperverify.errors import HyperverifyError

Arrays = dict[str, NDArray[Any]]


def packed(arrays: Mapping[str, NDArray[Any]], *, compressed: bool = True) -> bytes:
    """The bytes of an ``.npz``; the same arrays give the same bytes.

    Names may have slashes. Arrays of objects, which numpy would pickle, are refused.
    """
    buffer = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")  # dated 1980, so that time leaves no trace
            entry.compress_type = kind
            with archive.open(entry, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=False)
    return buffer.getvalue()


def read_arrays(path: Path) -> Arrays:
    """All arrays of an ``.npz``.

    Raises:
        HyperverifyError: it is missing, cut off, no ``.npz``, or holds pickled objects.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as loaded:
            return {name: loaded[name] for name in loaded.files}
    except FileNotFoundError:
        raise HyperverifyError(f"{path} does not exist") from None
    except OSError as error:
        if error.strerror:
            raise HyperverifyError(f"{path} cannot be read: {error.strerror}") from error
        raise HyperverifyError(f"{path} is cut off or no .npz file") from None
    except (ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:80]
        raise HyperverifyError(f"{path} is cut off or no .npz file ({reason})") from None


def write_whole(path: Path, contents: bytes) -> None:
    """Write under another name, flush to disk, rename: a reader, or a kill, finds all or nothing.

    Raises:
        HyperverifyError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(contents)
            stream.flush()
            os.fsync(stream.fileno())
        if path.exists() and not path.is_file():  # a pipe or a device would be gone
            raise OSError(0, "it is no file")
        temporary.replace(path)
    except OSError as error:
        raise HyperverifyError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
