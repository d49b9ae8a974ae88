"""How the command line spells what Python calls otherwise: options, their values, mistakes in them."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from typer.core import TyperCommand, TyperGroup

from hyperverify.errors import BadArgument


def any_spelling(name: str) -> str:
    """``--d_i``, ``--d-i`` and ``--di`` are one option."""
    return name.replace("-", "").replace("_", "").lower()


def _without_type(option: Any) -> Any:
    """``--help`` takes no value: none is shown beside it."""
    if option is not None:
        option.metavar = ""
    return option


class Command(TyperCommand):
    """A command of hyperverify."""

    def get_help_option(self, ctx: Any) -> Any:
        return _without_type(super().get_help_option(ctx))


class Group(TyperGroup):
    """hyperverify itself."""

    def get_help_option(self, ctx: Any) -> Any:
        return _without_type(super().get_help_option(ctx))


def read_number(name: str, text: str, kind: type[Any], allowed: str) -> Any:
    """``text`` as a number; its range is for others to judge."""
    try:
        return kind(text)
    except ValueError:
        raise BadArgument(name, text, allowed) from None


@contextmanager
def as_typed(typed: Mapping[str, Any], spelled: Mapping[str, str] | None = None) -> Generator[None]:
    """Retell a complaint about an argument as one about the option, with the value as typed.

    Args:
        typed: what the caller typed, by argument.
        spelled: the option that stands for an argument; default ``--name``.
    """
    try:
        yield
    except BadArgument as error:
        name = error.name.partition("[")[0]  # of a list, one entry may be wrong
        if name not in typed:
            raise
        option = (spelled or {}).get(name, f"--{name}")
        value = typed[name]
        if isinstance(value, list):  # of several rules, the one that is wrong
            value = error.value
        allowed = error.allowed
        for other, its_option in (spelled or {}).items():
            if "_" in other:  # r and K are letters, and relu and bias words, of any sentence
                allowed = allowed.replace(other, its_option)
        raise BadArgument(option, value, allowed) from error


def usage_line(error: Any) -> str:
    """``no such option: --sed (possible options: --seed); try 'hyperverify run --help'``."""
    message = " ".join(str(error.format_message()).split()).removesuffix(".")
    message = message[:1].lower() + message[1:]
    context = getattr(error, "ctx", None)
    where = "hyperverify" if context is None else context.command_path
    try_it = " Try" if message.endswith("?") else "; try"
    return f"{message}{try_it} '{where} --help'"
