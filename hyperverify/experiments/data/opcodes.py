"""Data out of a pickle whose code is never run.

CIFAR-10's batches for Python are pickles, and a pickle is a program: loading one from elsewhere may run
anything. Here its opcodes are only listed (:func:`pickletools.genops` executes nothing) and the few that
build dictionaries, lists, numbers, strings and byte arrays are acted out on plain values. Everything
else, any other function or class above all, is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np

from hyperverify.errors import HyperverifyError

_MARK: Final = object()
_MOST_STEPS: Final = 5_000_000


@dataclass(frozen=True)
class _Name:
    """A function or class that the pickle names; never looked up."""

    name: str


@dataclass
class _Type:
    """A numpy dtype in the making."""

    code: str


@dataclass
class _Array:
    """A numpy array in the making."""

    values: np.ndarray[Any, Any] | None = None


_KNOWN: Final = {
    "numpy.core.multiarray _reconstruct",
    "numpy._core.multiarray _reconstruct",
    "numpy ndarray",
    "numpy dtype",
    "_codecs encode",
}


class _Refused(ValueError):  # noqa: N818  what was found
    """What the pickle would do that data need not do."""


def data_of(pickled: bytes, name: str) -> Any:
    """The value that a pickle describes: dicts, lists, tuples, numbers, text, bytes, byte arrays.

    Args:
        pickled: protocol 0 to 4, such as CIFAR-10's, which Python 2 wrote.
        name: of the file; opens every message.

    Raises:
        HyperverifyError: it is cut off, no pickle, or describes anything but data.
    """
    machine = _Machine()
    try:
        for step, (opcode, argument, _) in enumerate(pickletools.genops(pickled)):
            if step > _MOST_STEPS:
                raise _Refused("too many steps")
            machine.act(opcode.name, argument)
        return machine.result()
    except _Refused as error:
        allowed = "a pickle of plain data (nothing of it is run)"
        raise HyperverifyError(f"{name} holds {error}; allowed: {allowed}") from None
    except (ValueError, IndexError, KeyError, TypeError, UnicodeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise HyperverifyError(f"{name} is cut off or no pickle ({reason[:80]})") from None


class _Machine:
    """The stack and the memo of a pickle, holding values only."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.finished = False

    def result(self) -> Any:
        if not self.finished or len(self.stack) != 1:
            raise ValueError("it has no end")
        return _finished(self.stack[0])

    def act(self, opcode: str, argument: Any) -> None:
        simple = _SIMPLE.get(opcode)
        if simple is not None:
            simple(self, argument)
        elif opcode in _LITERALS:
            self.stack.append(argument)
        elif opcode in _OLD_STRINGS:  # Python 2's str: bytes, which pickletools shows as Latin-1
            self.stack.append(argument.encode("latin-1"))
        elif opcode not in _NOTHING:
            raise _Refused(f"the operation {opcode}")

    def _since_mark(self) -> list[Any]:
        for n in range(len(self.stack) - 1, -1, -1):
            if self.stack[n] is _MARK:
                items = self.stack[n + 1 :]
                del self.stack[n:]
                return items
        raise ValueError("a mark is missing")

    def get(self, argument: Any) -> None:
        self.stack.append(self.memo[int(argument)])

    def put(self, argument: Any) -> None:
        self.memo[int(argument)] = self.stack[-1]

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def name(self, argument: Any) -> None:
        if argument not in _KNOWN:
            raise _Refused(f"a call of {' '.join(str(argument).split())[:60]}")
        self.stack.append(_Name(argument))

    def stack_name(self, _: Any) -> None:
        what, module = self.stack.pop(), self.stack.pop()
        self.name(f"{module} {what}")

    def tuple_of(self, count: int) -> None:
        items = self.stack[len(self.stack) - count :]
        if len(items) < count:
            raise ValueError("the stack is empty")
        del self.stack[len(self.stack) - count :]
        self.stack.append(tuple(items))

    def marked_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._since_mark()))

    def marked_list(self, _: Any) -> None:
        self.stack.append(self._since_mark())

    def marked_dict(self, _: Any) -> None:
        items = self._since_mark()
        self.stack.append({})
        self._set(items)

    def append(self, _: Any) -> None:
        item = self.stack.pop()
        self._list().append(item)

    def appends(self, _: Any) -> None:
        items = self._since_mark()
        self._list().extend(items)

    def set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def set_items(self, _: Any) -> None:
        self._set(self._since_mark())

    def _list(self) -> list[Any]:
        if not isinstance(self.stack[-1], list):
            raise _Refused("a list that is none")
        return cast("list[Any]", self.stack[-1])

    def _set(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict) or len(items) % 2:
            raise _Refused("a dictionary that is none")
        found = cast("dict[Any, Any]", self.stack[-1])
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, (str, bytes)):
                raise _Refused("a key that is no text")
            found[key] = value

    def stop(self, _: Any) -> None:
        self.finished = True

    def reduce(self, _: Any) -> None:
        """A call: of what makes an empty array, a dtype, or bytes of Latin-1 text; acted out here."""
        arguments, called = self.stack.pop(), self.stack.pop()
        if not isinstance(called, _Name) or not isinstance(arguments, tuple):
            raise _Refused("a call of something that it made")
        values = cast("tuple[Any, ...]", arguments)
        if called.name == "numpy dtype":
            self.stack.append(_Type(_text(values[0])))
        elif called.name == "_codecs encode" and values[1:] == ("latin1",):
            self.stack.append(values[0].encode("latin-1"))
        elif called.name.endswith("_reconstruct"):
            self.stack.append(_Array())
        else:
            raise _Refused(f"a call of {called.name}")

    def build(self, _: Any) -> None:
        """The state of an array (version, shape, dtype, in columns, bytes) or of a dtype."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Type):
            return  # byte order and alignment, which bytes do not have
        if not isinstance(target, _Array) or not isinstance(state, tuple):
            raise _Refused("an object with a state")
        target.values = _array(cast("tuple[Any, ...]", state))


def _array(state: tuple[Any, ...]) -> np.ndarray[Any, Any]:
    if len(state) != 5:
        raise _Refused("an array of an unknown version")
    _, shape, kind, in_columns, contents = state
    if not isinstance(kind, _Type) or kind.code not in ("u1", "|u1"):
        raise _Refused("an array of other numbers than bytes")
    if not isinstance(contents, bytes) or in_columns:
        raise _Refused("an array that is not laid out in rows")
    return np.frombuffer(contents, dtype=np.uint8).reshape(shape)


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _finished(value: Any) -> Any:
    """The value with its arrays in place, and nothing half made in it."""
    if isinstance(value, dict):
        return {k: _finished(v) for k, v in cast("dict[Any, Any]", value).items()}
    if isinstance(value, _Array):
        if value.values is None:
            raise _Refused("an array without contents")
        return value.values
    if isinstance(value, (_Name, _Type)):
        raise _Refused("a function or a type")
    return value


_NOTHING: Final = {"PROTO", "FRAME"}
_OLD_STRINGS: Final = {"STRING", "BINSTRING", "SHORT_BINSTRING"}
_LITERALS: Final = {
    "INT",
    "BININT",
    "BININT1",
    "BININT2",
    "LONG",
    "LONG1",
    "FLOAT",
    "BINFLOAT",
    "UNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE",
    "BINUNICODE8",
    "SHORT_BINBYTES",
    "BINBYTES",
    "BINBYTES8",
}
_SIMPLE: Final[dict[str, Callable[[_Machine, Any], None]]] = {
    "MARK": lambda m, _: m.stack.append(_MARK),
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "EMPTY_TUPLE": lambda m, _: m.stack.append(()),
    "NONE": lambda m, _: m.stack.append(None),
    "NEWTRUE": lambda m, _: m.stack.append(True),
    "NEWFALSE": lambda m, _: m.stack.append(False),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "TUPLE": _Machine.marked_tuple,
    "LIST": _Machine.marked_list,
    "DICT": _Machine.marked_dict,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "GET": _Machine.get,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "PUT": _Machine.put,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.stack_name,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "STOP": _Machine.stop,
}
