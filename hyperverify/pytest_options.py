"""The pytest plugin's options: typed, judged, and kept as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Final, cast

from hyperverify.errors import BadArgument

NETS: Final = ("device", "dtype", "backend", "initializer")
"""Options about what is sampled, which a test may overrule."""


@dataclass(frozen=True)
class Options:
    """The session's options, as they were typed and judged.

    Attributes:
        alpha: chance of any false REFUTED in the whole session.
        seed: root of all randomness.
        checks: the number that alpha is divided by, or None for the number counted.
        report: the HTML file to write, or None.
        device, dtype, backend: of the nets of ``verify``, where the test does not say.
        initializer: what ``verify`` checks in the place of the library's own, where the test does
            not say: ``package.module:name`` or ``path/to/file.py:name``.
    """

    alpha: float = 1e-6
    seed: int = 0
    checks: int | None = None
    report: Path | None = None
    device: str = "cpu"
    dtype: str = "float32"
    backend: str = "eager"
    initializer: str | None = None

    @property
    def nets(self) -> dict[str, Any]:
        """The options about what is sampled, as `verify` takes them."""
        return {name: getattr(self, name) for name in NETS}


def read_options(
    alpha: str | None,
    seed: str | None,
    checks: str | None,
    report: str | None,
    **nets: str | None,
) -> Options:
    """Judge the options, None standing for one that is not given.

    Raises:
        BadArgument: a value that is not allowed, in one line.
    """
    known = Options()
    return Options(
        alpha=_number("--hyperverify-alpha", alpha, known.alpha),
        seed=_whole("--hyperverify-seed", seed, 0, known.seed),
        checks=_whole("--hyperverify-checks", checks, 1, None),
        report=None if report is None else _destination("--hyperverify-report", report),
        **_nets({name: value for name, value in nets.items() if value is not None}),
    )


def _nets(typed: Mapping[str, str]) -> dict[str, Any]:
    """Judged where their meaning is known, which imports torch: only if one is given."""
    if typed:
        from hyperverify.settings import RunSettings

        try:
            RunSettings(**cast("dict[str, Any]", {"device": "cpu", **typed}))
        except BadArgument as error:
            raise BadArgument(f"--hyperverify-{error.name}", error.value, error.allowed) from error
    return dict(typed)


def _number(name: str, typed: str | None, default: float) -> float:
    if typed is None:
        return default
    try:
        value = float(typed)
    except ValueError:
        value = 0.0
    if not (isfinite(value) and 1e-15 <= value <= 0.1):
        raise BadArgument(name, typed, "a number from 1e-15 to 0.1")
    return value


def _whole(name: str, typed: str | None, least: int, default: Any) -> Any:
    if typed is None:
        return default
    try:
        value = int(typed)
    except ValueError:
        value = least - 1
    if not least <= value < 2**63:
        raise BadArgument(name, typed, f"an integer from {least} to 2^63 - 1")
    return value


def _destination(name: str, typed: str) -> Path:
    from hyperverify import destination

    path = Path(typed)
    if path.suffix not in (".html", ".htm") or path.is_dir():
        raise BadArgument(name, typed, "the name of a file that ends in .html")
    try:
        destination.check(str(path.parent), force=True)
    except BadArgument as error:
        raise BadArgument(name, typed, f"a file in {error.allowed}") from None
    return path
