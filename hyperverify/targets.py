"""Names of Python objects that a user points at: ``package.module:name`` or ``path/to/file.py:name``.

Importing a target runs its code. Names therefore come from the person at the keyboard only, never
from a stored file.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from hyperverify.errors import BadArgument, HyperverifyError

FORM = "package.module:name or path/to/file.py:name"


class TargetError(HyperverifyError):
    """A target that does not import; the cause is its own exception, if it raised one."""


def load_target(what: str, target: object) -> Callable[..., Any]:
    """The callable that ``target`` names.

    Args:
        what: the option or argument that was given, for the messages.
        target: its value, ``package.module:name`` or ``path/to/file.py:name``; the name may have
            dots. Modules are looked for in the current directory first, as ``python -m`` does.

    Raises:
        BadArgument: the value has another form, the file, module or name does not exist, or what it
            names cannot be called.
        TargetError: the module raises while it is imported; ``__cause__`` is what it raised.
    """
    if not isinstance(target, str) or not target.rpartition(":")[0] or target.endswith(":"):
        raise BadArgument(what, target, FORM)
    home, _, name = target.rpartition(":")
    module = _from_file(what, target) if home.endswith(".py") else _from_name(what, target)
    found: object = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            known = [n for n in vars(module) if not n.startswith("_") and callable(vars(module)[n])]
            here = ", ".join(known[:8]) or "none"
            raise BadArgument(
                what, target, f"a name that {home} has; callables there: {here}"
            ) from None
        except Exception as error:  # modules may load their names when they are asked for
            raise _refusal(what, target, error) from error
    if not callable(found):
        raise BadArgument(
            what, target, f"something that can be called; this is of type {type(found).__name__}"
        )
    return cast("Callable[..., Any]", found)


def _from_file(what: str, target: str) -> ModuleType:
    home, _, _ = target.rpartition(":")
    path = Path(home)
    if not path.is_file():
        raise BadArgument(what, target, "a Python file that exists")
    resolved = path.resolve()
    # The digest keeps two files of one name apart; sys.modules is where dataclasses look.
    digest = hashlib.sha256(str(resolved).encode()).hexdigest()[:12]
    name = f"_hyperverify_target_{resolved.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, resolved)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _first_on_path(str(resolved.parent))  # so that the file finds its neighbours
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        sys.modules.pop(name, None)
        if isinstance(error, KeyboardInterrupt):
            raise
        raise _refusal(what, home, error) from error
    return module


def _from_name(what: str, target: str) -> ModuleType:
    name, _, _ = target.rpartition(":")
    if not all(part.isidentifier() for part in name.split(".")):
        raise BadArgument(what, target, FORM)
    _first_on_path(str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name + ".").startswith(error.name + "."):
            raise BadArgument(what, target, "a module that can be imported from here") from error
        raise _refusal(what, name, error) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too
        raise _refusal(what, name, error) from error


def _first_on_path(folder: str) -> None:
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _refusal(what: str, name: str, error: BaseException) -> TargetError:
    """The error to raise for what a module raised."""
    told = " ".join(str(error).split())[:200]
    said = f"{type(error).__name__}: {told}" if told else type(error).__name__
    return TargetError(f"{what}: {name} cannot be imported: {said}")
