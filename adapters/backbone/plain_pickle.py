"""A pickle read as plain values: its opcodes are walked, nothing that it names is imported or called.

A pickle is a program that may run anything. This reads the few opcodes that torch writes for a state dict, on
a stack of its own; a call stays a value that says what would be called; other opcodes and names are refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

ORDERED_DICT: Final = "collections OrderedDict"
_MOST_OPCODES: Final = 100_000
"""Of one pickle; that of EfficientNet-Lite0 has 11 thousand. Bounds the values, and how deep they nest."""
_PROTOCOL: Final = 2


class RefusedPickle(ValueError):
    """A pickle is damaged, or does what a state dict has no need for; names byte and thing."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"byte {position}: {reason}")


@dataclass(frozen=True, slots=True)
class NamedGlobal:
    """A name of Python's that a pickle asks for; it is never looked up.

    Attributes:
        name: module and name with a blank between.
    """

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class UnmadeCall:
    """A call that a pickle asks for; it is never made.

    Attributes:
        function: what would be called.
        arguments: plain values.
        position: byte of the file.
    """

    function: NamedGlobal
    arguments: tuple[Any, ...]
    position: int


@dataclass(frozen=True, slots=True, eq=False)
class OutsideValue:
    """What lies outside of the pickle, under an identifier.

    Attributes:
        identifier: plain values.
        position: byte of the file.
    """

    identifier: tuple[Any, ...]
    position: int


def read_pickle(stream: BytesIO, allowed: Collection[str] = ()) -> Any:
    """Return what the pickle at the stream's position says, and leave the stream behind it.

    Args:
        stream: of the whole file; positions in messages are its own.
        allowed: names that it may ask for, besides `ORDERED_DICT`.

    Returns:
        Texts, whole numbers, booleans, None, tuples, lists, dicts with texts as keys, and the classes above.

    Raises:
        RefusedPickle: it is cut or damaged, too long, or has an opcode or a name that is not allowed.
    """
    machine = _Machine({ORDERED_DICT, *allowed})
    start = stream.tell()
    try:
        for count, (opcode, argument, position) in enumerate(pickletools.genops(stream)):
            at = start if position is None else position
            if count >= _MOST_OPCODES:
                raise RefusedPickle(at, f"more than {_MOST_OPCODES} opcodes in one pickle")
            machine.step(opcode.name, argument, at)
    except RefusedPickle:
        raise
    except (ValueError, OverflowError) as error:  # what genops says of bytes that are no opcode, or are cut
        reason = f"no whole pickle from byte {start} on: {str(error)[:120]}"
        raise RefusedPickle(stream.tell(), reason) from error
    return machine.result


class _Mark:
    """Where the values of a tuple, a list or a dict begin on the stack."""


class _Machine:
    """Owns stack and memo of one pickle."""

    def __init__(self, allowed: set[str]) -> None:
        self.result: Any = None
        self._allowed = allowed
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._at = 0

    def step(self, opcode: str, argument: Any, position: int) -> None:
        """Do what one opcode says."""
        self._at = position
        if opcode in _LITERALS:
            self._stack.append(_LITERALS[opcode](argument))
        elif opcode in _STEPS:
            _STEPS[opcode](self, argument)
        else:
            raise self.refused(f"opcode {opcode} is not allowed")

    def refused(self, reason: str) -> RefusedPickle:
        return RefusedPickle(self._at, reason)

    def protocol(self, number: int) -> None:
        if number != _PROTOCOL:
            raise self.refused(f"protocol {number} of pickle, not {_PROTOCOL}")

    def name(self, name: str) -> None:
        if name not in self._allowed:
            raise self.refused(f"{name[:80]!r} is not allowed in here")
        self._stack.append(NamedGlobal(name))

    def mark(self, _argument: None) -> None:
        self._stack.append(_Mark())

    def keep(self, number: int) -> None:
        if len(self._stack) == 0 or isinstance(self._stack[-1], _Mark):
            raise self.refused("nothing to remember")
        self._memo[number] = self._stack[-1]

    def recall(self, number: int) -> None:
        if number not in self._memo:
            raise self.refused(f"nothing was remembered as number {number}")
        self._stack.append(self._memo[number])

    def short_tuple(self, length: int) -> None:
        self._stack.append(tuple([self._pop() for _ in range(length)][::-1]))

    def marked_tuple(self, _argument: None) -> None:
        self._stack.append(tuple(self._marked()))

    def append_one(self, _argument: None) -> None:
        value = self._pop()
        self._top(list).append(value)

    def append_all(self, _argument: None) -> None:
        values = self._marked()
        self._top(list).extend(values)

    def set_one(self, _argument: None) -> None:
        value = self._pop()
        self._set([self._pop(), value])

    def set_all(self, _argument: None) -> None:
        self._set(self._marked())

    def outside(self, _argument: None) -> None:
        identifier = self._pop()
        if not isinstance(identifier, tuple):
            raise self.refused("the name of a storage is no tuple")
        self._stack.append(OutsideValue(identifier, self._at))

    def call(self, _argument: None) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(arguments, tuple) or not isinstance(function, NamedGlobal):
            raise self.refused("a call of what is no name, or without arguments")
        if function.name != ORDERED_DICT:
            self._stack.append(UnmadeCall(function, arguments, self._at))
        elif arguments:
            raise self.refused(f"{ORDERED_DICT!r} with arguments")
        else:
            self._stack.append({})

    def attributes(self, _argument: None) -> None:
        """Pass over the attributes of a state dict: versions of modules."""
        if not isinstance(self._pop(), dict):
            raise self.refused("attributes that are no dict")
        self._top(dict)

    def stop(self, _argument: None) -> None:
        self.result = self._pop()
        if self._stack:
            raise self.refused("it ends with values left over")

    def _set(self, values: list[Any]) -> None:
        target = self._top(dict)
        if len(values) % 2:
            raise self.refused("a key without a value")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, str):
                raise self.refused(f"a key of a dict is of type {type(key).__name__}, not a text")
            if key in target:
                raise self.refused(f"{key[:80]!r} twice in one dict")
            target[key] = value

    def _top(self, kind: type) -> Any:
        if not self._stack or not isinstance(self._stack[-1], kind):
            raise self.refused(f"no {kind.__name__} to put this into")
        return self._stack[-1]

    def _pop(self) -> Any:
        if not self._stack or isinstance(self._stack[-1], _Mark):
            raise self.refused("a value is missing")
        return self._stack.pop()

    def _marked(self) -> list[Any]:
        values: list[Any] = []
        while self._stack:
            value = self._stack.pop()
            if isinstance(value, _Mark):
                return values[::-1]
            values.append(value)
        raise self.refused("the mark before these values is missing")


_LITERALS: Final[dict[str, Callable[[Any], Any]]] = {
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_TUPLE": lambda _: (),
    "EMPTY_LIST": lambda _: [],
    "EMPTY_DICT": lambda _: {},
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"), lambda argument: argument),
}
_STEPS: Final[dict[str, Callable[[_Machine, Any], None]]] = {
    "PROTO": _Machine.protocol,
    "GLOBAL": _Machine.name,
    "MARK": _Machine.mark,
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Machine.keep),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.recall),
    "TUPLE1": lambda machine, _: machine.short_tuple(1),
    "TUPLE2": lambda machine, _: machine.short_tuple(2),
    "TUPLE3": lambda machine, _: machine.short_tuple(3),
    "TUPLE": _Machine.marked_tuple,
    "APPEND": _Machine.append_one,
    "APPENDS": _Machine.append_all,
    "SETITEM": _Machine.set_one,
    "SETITEMS": _Machine.set_all,
    "BINPERSID": _Machine.outside,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.attributes,
    "STOP": _Machine.stop,
}
