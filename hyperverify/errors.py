"""The errors that a caller's mistake raises: one line that says what was wrong and what is allowed."""

from __future__ import annotations


class HyperverifyError(ValueError):
    """A mistake of the caller. ``str(error)`` is one clear line; the CLI prints it and exits with 2."""


class Interrupted(HyperverifyError):  # noqa: N818  named for what it reports
    """Ctrl-C, where there is more to say than that: how to go on. The CLI exits with 130."""


class BadArgument(HyperverifyError):  # noqa: N818  named for what it reports
    """An argument with a value that is not allowed.

    Args:
        name: the argument as the caller wrote it.
        value: what was given.
        allowed: what would have been accepted, in words.
    """

    def __init__(self, name: str, value: object, allowed: str) -> None:
        self.name = name
        self.value = value
        self.allowed = allowed
        super().__init__(f"{name} is {_shown(value)}; allowed: {allowed}")

    def __reduce__(self) -> tuple[type[BadArgument], tuple[str, object, str]]:
        return type(self), (self.name, self.value, self.allowed)


def _shown(value: object) -> str:
    """``repr`` on one line and cut to a readable length."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python refuses to write out integers of thousands of digits
        text = f"an enormous {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."
