"""Which network a check is about, and where in it: what tells its line from the others."""

from __future__ import annotations

import re
from typing import Any, Final, cast

from hyperverify.store import Check

_SITES: Final = {"inside": "inside", "border": "border", "norm": "norm", "g": "for the biases"}


def where(check: Check) -> str:
    """The place in the network: ``layer 2, border``; ``backward``; ``hidden layer 1``."""
    words = [] if check.layer is None else [f"layer {check.layer + 1}"]
    if check.parts:
        words.append(direction(check))
    elif site := _site(check):
        words.append(site)
    return ", ".join(words)


def direction(check: Check) -> str:
    """``backward`` for a depth check that passes its layers from the last to the first."""
    return "backward" if check.parts[0].layer > check.parts[-1].layer else "forward"


def _site(check: Check) -> str:
    """What the id of a check of the catalogue says after the quantity and the layer."""
    _, found, after = check.id.partition(f"/{check.quantity.replace('/', '-')}/")
    words = after.split("/")
    if not found or len(words) > 2:
        return ""
    site = words[-1]
    if match := re.fullmatch(r"(h|g|shared)(\d{1,3})", site):
        kind, number = match.groups()
        if kind == "shared":
            return f"shared layer {number}"
        return f"hidden layer {number}{' for the biases' if kind == 'g' else ''}"
    return _SITES.get(site, "")


def shape(spec: dict[str, Any]) -> str:
    """A network in short, from its specification: ``12-16-10, 3×3, d_k 8``.

    Empty for a specification of another make: nothing of a stored spec is taken for granted.
    """
    layers = _objects(spec.get("layers"))
    if not layers:
        return ""
    widths = [layers[0].get("in_channels"), *(layer.get("out_channels") for layer in layers)]
    if not all(isinstance(width, int) for width in widths):
        return ""
    if len(widths) > 5 and len(set(map(str, widths))) == 1:
        widths = [widths[0], "…", widths[-1]]
        words = [_joined(widths), f"{len(layers)} layers"]
    else:
        words = [_joined(widths)]
    kernels = dict.fromkeys(_joined(layer.get("kernel"), "×") for layer in layers)
    words += [kernel for kernel in kernels if kernel]
    words += [f"{name} {size}" for name, size in (("K", _inside(spec, "chunk", "size")),) if size]
    trunk = _objects(spec.get("trunk"))
    features = (
        _inside(spec, "chunk", "hidden")
        or (trunk[-1].get("width") if trunk else None)
        or _inside(spec, "embedding", "dim")
    )
    if features is not None:
        words.append(f"d_k {features}")
    return ", ".join(words)


def _objects(value: Any) -> list[dict[str, Any]]:
    """A list of objects, or nothing."""
    items = cast("list[Any]", value) if isinstance(value, list) else []
    return cast("list[dict[str, Any]]", [item for item in items if isinstance(item, dict)])


def _inside(spec: dict[str, Any], name: str, key: str) -> Any:
    found = _objects([spec.get(name)])
    return found[0].get(key) if found else None


def _joined(values: Any, sign: str = "-") -> str:
    items = cast("list[Any]", values) if isinstance(values, list) else []
    return sign.join(str(item) for item in items)
