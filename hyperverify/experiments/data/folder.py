"""ImageFolder: a folder a class, the layout of ImageNet's ``train`` and ``val``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hyperverify.errors import HyperverifyError
from hyperverify.experiments.data.files import SourceFile, require_folder

SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".webp"})


@dataclass(frozen=True)
class ImageFolder:
    """The images of a folder, listed but not yet read.

    Attributes:
        classes: names of its folders, sorted; a label is a place in it.
        paths: of the images, sorted within each class.
        labels: shape (n,).
    """

    classes: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: NDArray[np.int64]

    def image(self, n: int, side: int) -> tuple[NDArray[np.uint8], SourceFile]:
        """Image ``n``: its smaller side scaled to ``side``, the middle cut out.

        Returns:
            Shape (3, side, side), bytes, and the file's record.

        Raises:
            HyperverifyError: it is cut off or no image.
        """
        from importlib import import_module

        pil: Any = import_module("PIL.Image")
        path = self.paths[n]
        try:
            contents = path.read_bytes()
            with pil.open(path) as opened:
                picture = opened.convert("RGB")
        except (OSError, SyntaxError, ValueError, pil.DecompressionBombError) as error:
            reason = " ".join(str(error).split())
            raise HyperverifyError(f"{path} is cut off or no image ({reason[:80]})") from None
        wide, high = picture.size
        scale = side / min(wide, high)
        size = (max(side, round(wide * scale)), max(side, round(high * scale)))
        picture = picture.resize(size, pil.Resampling.BILINEAR)
        left, top = (size[0] - side) // 2, (size[1] - side) // 2
        picture = picture.crop((left, top, left + side, top + side))
        pixels = np.asarray(picture, dtype=np.uint8).transpose(2, 0, 1)
        sha256 = hashlib.sha256(contents).hexdigest()
        name = f"{path.parent.name}/{path.name}"
        return np.ascontiguousarray(pixels), SourceFile(name, sha256, len(contents), None)


def image_folder(folder: str | Path) -> ImageFolder:
    """List a folder whose folders are classes.

    Raises:
        HyperverifyError: it has no folder with an image in it.
    """
    place = require_folder(Path(folder), "images, a folder a class")
    paths: list[Path] = []
    labels: list[int] = []
    names: list[str] = []
    for inner in sorted(path for path in place.iterdir() if path.is_dir()):
        images = sorted(p for p in inner.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
        if not images:
            raise HyperverifyError(
                f"{inner} holds no image; allowed: a folder a class, with images"
            )
        paths += images
        labels += [len(names)] * len(images)
        names.append(inner.name)
    if not paths:
        raise HyperverifyError(f"{place} has no folder of images; allowed: a folder a class")
    return ImageFolder(tuple(names), tuple(paths), np.array(labels, dtype=np.int64))
