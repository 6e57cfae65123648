"""Interprets pickles of every protocol without importing or calling anything that they name.

The operations are read one at a time, so that a pickle can be walked in constant memory: a sink takes each
array as it is met, and what the array was made from is forgotten.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ocwm.errors import BenchError
from ocwm.pickle_builders import (
    NESTED,
    TORCH_STORAGES,
    Global,
    Pending,
    Record,
    RefusedError,
    call,
    complete,
    look_up,
    record,
)

if TYPE_CHECKING:
    from torch import Tensor

# Called with the name that an array is stored under (None if it has none); returns what stands for the array.
Sink: TypeAlias = Callable[[str | None, NDArray[Any]], Any]
# Called with dtype name, key and number of elements; returns that one-dimensional storage of a torch file.
Storages: TypeAlias = "Callable[[str, str, int], Tensor]"

_FORGET_BYTES = 256  # raw data at least this long is forgotten once its array went to the sink
_HINT = "Only tensors, numpy arrays and plain containers are read; nothing in the file was run."
# Operations that push the number, text or bytes written beside them.
_PUSHES = frozenset(
    opcode.name
    for opcode in pickletools.opcodes
    if opcode.arg is not None and not opcode.stack_before and opcode.stack_after not in ([], [pickletools.anyobject])
)


class FileSource:
    """A binary file of known size: a damaged length is noticed before anything is allocated for it."""

    def __init__(self, file: IO[bytes], *, size: int) -> None:
        self._file = file
        self._left = size
        self.short = False  # the file ended before what it promised

    def read(self, size: int, /) -> bytes:
        """Return exactly `size` bytes; nothing, and `short` set, where fewer are left."""
        data = self._file.read(size) if size <= self._left else b""
        self._left -= len(data)
        self.short |= len(data) < size
        return data

    def readline(self) -> bytes:
        """Return the next line with its end."""
        line = self._file.readline()
        self._left -= len(line)
        self.short |= not line.endswith(b"\n")
        return line


class PickleMachine:
    """Runs one pickle.

    Args:
        source: where the operations come from; read up to and including the last one.
        where: the file's name for messages.
        sink: takes each finished array; None keeps the arrays in the result.
        storages: finds the storages of a torch file; None where there are none.
        nested: reads the bytes of a torch file inside the pickle.
        foreign: takes the names of foreign classes, whose objects come as `Record`; None refuses them.
    """

    def __init__(
        self,
        source: FileSource,
        *,
        where: str,
        sink: Sink | None = None,
        storages: Storages | None = None,
        nested: Callable[[bytes], Any] | None = None,
        foreign: set[str] | None = None,
    ) -> None:
        self._source = source
        self._where = where
        self._sink = sink
        self._storages = storages
        self._nested = nested
        self._foreign = foreign
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._memo_size = 0  # counts forgotten entries too: MEMOIZE numbers its entries by it
        self._fresh: list[int] = []  # memo entries since the last array went to the sink

    def run(self) -> Any:
        """Return what the pickle holds; dicts of any kind come as plain dicts.

        Raises:
            BenchError: the file is damaged or ends early, or it names a class that is not allowed.
        """
        damage = (ValueError, TypeError, LookupError, AttributeError, OverflowError, struct.error, RuntimeError)
        try:
            for opcode, argument, _ in pickletools.genops(self._source):  # type: ignore[arg-type]
                if opcode.name in _PUSHES:
                    self._stack.append(argument)
                elif opcode.name == "STOP":
                    return self._stack.pop()
                else:
                    self._step(opcode.name, argument)
        except RefusedError as refused:
            raise BenchError(f"{self._where} holds '{refused}', which is refused", _HINT) from refused
        except damage as error:
            if not self._source.short:
                message = f"{self._where} is no pickle, or damaged ({error})"
                raise BenchError(message, "Copy or download it again.") from error
        raise BenchError(f"{self._where} ends early: it is truncated", "Copy or download it again.")

    def _step(self, name: str, argument: Any) -> None:
        operation = _OPERATIONS.get(name)
        if operation is None:
            raise RefusedError(f"{argument or name}".replace(" ", "."))
        operation(self, argument)

    # -- memo ---------------------------------------------------------------------------------------------

    def _put(self, key: int) -> None:
        value = self._stack[-1]
        self._memo_size += key not in self._memo
        self._memo[key] = value
        if self._sink is not None:
            self._fresh.append(key)
        if isinstance(value, Pending):
            value.keys.append(key)

    def _get(self, key: int) -> None:
        if key not in self._memo:
            raise LookupError(f"it refers to something that it does not hold, or to raw data of another array: {key}")
        self._stack.append(self._memo[key])

    def _forget(self) -> None:
        for key in self._fresh:
            value = self._memo.get(key)
            if isinstance(value, tuple) or (isinstance(value, bytes | bytearray | str) and len(value) >= _FORGET_BYTES):
                del self._memo[key]
        self._fresh.clear()

    # -- stack and containers -----------------------------------------------------------------------------

    def _pop_mark(self) -> list[Any]:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _pop(self, _: Any) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._stack.pop()

    def _tuple(self, length: int) -> None:
        start = len(self._stack) - length
        self._stack[start:] = [tuple(self._stack[start:])]

    def _container(self, kind: type) -> Any:
        if isinstance(top := self._stack[-1], Record):
            return top.entries if kind is dict else top.items
        if type(self._stack[-1]) is not kind:
            raise TypeError(f"expected a {kind.__name__}, found a {type(self._stack[-1]).__name__}")
        return self._stack[-1]

    def _append(self, _: Any) -> None:
        value = self._stack.pop()
        self._container(list).append(value)

    def _set_item(self, _: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._container(dict)[key] = value

    def _fill(self, kind: type) -> None:
        values = self._pop_mark()
        container = self._container(kind)
        if isinstance(container, list):
            container.extend(values)
        else:
            container.update(_pairs(values) if kind is dict else values)

    # -- what a pickle names ------------------------------------------------------------------------------

    def _stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._stack.append(self._look_up(str(module), str(name)))

    def _look_up(self, module: str, name: str) -> Any:
        return look_up(module, name, foreign=self._foreign)

    def _new_object(self, _: Any) -> None:
        arguments, kind = self._stack.pop(), self._stack.pop()
        self._stack.append(record(kind, arguments, foreign=self._foreign))

    def _new_object_by_name(self, _: Any) -> None:
        names, arguments, kind = self._stack.pop(), self._stack.pop(), self._stack.pop()
        self._stack.append(record(kind, (*arguments, names), foreign=self._foreign))

    def _instance(self, named: str | None) -> None:
        """Operations of the oldest protocols: the class is named beside them, or lies before the arguments."""
        kind = self._look_up(*named.split(" ", 1)) if named is not None else None
        arguments = self._pop_mark()
        if kind is None:
            kind = arguments.pop(0)
        self._stack.append(record(kind, arguments, foreign=self._foreign))

    def _reduce(self, _: Any) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if isinstance(function, Record):  # a foreign function that a foreign function has made
            self._stack.append(record(function, arguments, foreign=self._foreign))
            return
        if not isinstance(function, Global):
            raise TypeError(f"a {type(function).__name__} is called")
        if (function.module, function.name) == NESTED and self._nested is not None:
            value = self._nested(*arguments)
        else:
            value = call(function, arguments, foreign=self._foreign)
        if isinstance(value, np.ndarray):
            value = self._hand_over(value, depth=1)
        self._stack.append(value)

    def _build(self, _: Any) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if isinstance(target, dict):
            return  # attributes of an OrderedDict, such as the versions beside a state_dict
        if isinstance(target, Record):
            target.state = state
            return
        if not isinstance(target, Pending):
            raise RefusedError(f"state of a {type(target).__name__}")
        built = complete(target, state)
        if isinstance(built, np.ndarray):
            built = self._hand_over(built, depth=2)
        self._stack[-1] = built
        for key in target.keys:
            self._memo[key] = built

    def _hand_over(self, array: NDArray[Any], *, depth: int) -> Any:
        """Give an array to the sink under the name that lies `depth` below the top of the stack."""
        if self._sink is None:
            return array if array.flags.writeable else array.copy()
        name = self._stack[-depth] if len(self._stack) >= depth else None
        self._forget()
        return self._sink(name if isinstance(name, str) else None, array)

    def _persistent(self, _: Any) -> None:
        kind, *parts = self._stack.pop()
        if kind == "module" and self._foreign is not None:  # a class with its source text, in old torch files
            self._stack.append(parts[0])
            return
        if self._storages is None or kind != "storage":
            raise RefusedError(f"persistent id {kind}")
        storage, key, _location, elements, *_view = parts
        self._stack.append(self._storages(TORCH_STORAGES[storage.name], str(key), int(elements)))


def _pairs(items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise ValueError("a dictionary has a key without a value")
    return dict(zip(items[::2], items[1::2], strict=True))


_OPERATIONS: dict[str, Callable[[PickleMachine, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,  # a hint for reading ahead
    "MARK": lambda machine, _: machine._marks.append(len(machine._stack)),
    "POP": PickleMachine._pop,
    "POP_MARK": lambda machine, _: machine._pop_mark().clear(),
    "DUP": lambda machine, _: machine._stack.append(machine._stack[-1]),
    "PUT": PickleMachine._put,
    "BINPUT": PickleMachine._put,
    "LONG_BINPUT": PickleMachine._put,
    "MEMOIZE": lambda machine, _: machine._put(machine._memo_size),
    "GET": PickleMachine._get,
    "BINGET": PickleMachine._get,
    "LONG_BINGET": PickleMachine._get,
    "NONE": lambda machine, _: machine._stack.append(None),
    "NEWTRUE": lambda machine, _: machine._stack.append(True),
    "NEWFALSE": lambda machine, _: machine._stack.append(False),
    "EMPTY_LIST": lambda machine, _: machine._stack.append([]),
    "EMPTY_DICT": lambda machine, _: machine._stack.append({}),
    "EMPTY_SET": lambda machine, _: machine._stack.append(set()),
    "EMPTY_TUPLE": lambda machine, _: machine._stack.append(()),
    "LIST": lambda machine, _: machine._stack.append(machine._pop_mark()),
    "TUPLE": lambda machine, _: machine._stack.append(tuple(machine._pop_mark())),
    "DICT": lambda machine, _: machine._stack.append(_pairs(machine._pop_mark())),
    "FROZENSET": lambda machine, _: machine._stack.append(frozenset(machine._pop_mark())),
    "TUPLE1": lambda machine, _: machine._tuple(1),
    "TUPLE2": lambda machine, _: machine._tuple(2),
    "TUPLE3": lambda machine, _: machine._tuple(3),
    "APPEND": PickleMachine._append,
    "SETITEM": PickleMachine._set_item,
    "APPENDS": lambda machine, _: machine._fill(list),
    "SETITEMS": lambda machine, _: machine._fill(dict),
    "ADDITEMS": lambda machine, _: machine._fill(set),
    "GLOBAL": lambda machine, argument: machine._stack.append(machine._look_up(*argument.split(" ", 1))),
    "STACK_GLOBAL": PickleMachine._stack_global,
    "REDUCE": PickleMachine._reduce,
    "BUILD": PickleMachine._build,
    "NEWOBJ": PickleMachine._new_object,
    "NEWOBJ_EX": PickleMachine._new_object_by_name,
    "INST": PickleMachine._instance,
    "OBJ": PickleMachine._instance,
    "BINPERSID": PickleMachine._persistent,
}
