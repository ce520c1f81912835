"""Unpickle without running anything: every class and function that a pickle names becomes a record of what it asked.

``load`` gives the records; ``Plain`` turns them into plain data: known shapes (OrderedDict, Namespace, OmegaConf nodes,
NumPy numbers, torch tensors) into what they stand for, all others into ``Inert``. No name is ever imported, looked up
or called; a dotted name is only text.
"""

from __future__ import annotations

import math
import pickle
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np


@dataclass
class Inert:
    """What stands in for an object of a class that we do not know: its full name, and what the pickle gave it."""

    name: str
    args: tuple[Any, ...] = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)
    elements: list[Any] = field(default_factory=list)

    __hash__ = object.__hash__  # a pickle may use such an object as a key


@dataclass(frozen=True)
class StoredElsewhere:
    """A persistent id: torch's way to name a run of numbers that lies outside the pickle."""

    pid: tuple[Any, ...]


class Record:
    """Takes whatever the pickle machine does to an object, and does nothing with it.

    Each name in a pickle gets a subclass of its own, fresh for each load: there is nothing that one file could change
    for the next one.
    """

    __slots__ = ("args", "elements", "items", "state")
    name = ""

    def __new__(cls, *args: Any, **named: Any) -> Record:
        """Note the arguments of a call."""
        record = object.__new__(cls)
        record.args = (*args, named) if named else args
        record.state = None
        record.items = []
        record.elements = []
        return record

    args: tuple[Any, ...]
    state: Any
    items: list[tuple[Any, Any]]
    elements: list[Any]

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))

    def append(self, element: Any) -> None:
        """Note an element of what is a list."""
        self.elements.append(element)

    def extend(self, elements: list[Any]) -> None:
        """Note elements of what is a list."""
        self.elements.extend(elements)

    def add(self, element: Any) -> None:
        """Note an element of what is a set."""
        self.elements.append(element)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes]):
        super().__init__(file)
        self.classes: dict[str, type[Record]] = {}
        self.elsewhere: list[StoredElsewhere] = []

    def find_class(self, module_name: str, global_name: str, /) -> type[Record]:
        name = f"{module_name}.{global_name}"
        if name not in self.classes:
            self.classes[name] = type("NamedRecord", (Record,), {"__slots__": (), "name": name})
        return self.classes[name]

    def persistent_load(self, pid: Any, /) -> StoredElsewhere:
        self.elsewhere.append(StoredElsewhere(pid if isinstance(pid, tuple) else (pid,)))
        return self.elsewhere[-1]


_NUMBERED = ("PUT", "BINPUT", "LONG_BINPUT")
"""The pickle operations that give an object a number of the file's own choice."""


@dataclass(frozen=True)
class Loaded:
    """One pickle with records for all objects, the names of their classes, and what it says is stored elsewhere."""

    content: Any
    names: frozenset[str]
    elsewhere: list[StoredElsewhere]


def load(file: IO[bytes]) -> Loaded:
    """Return the next pickle of ``file``, which can be wound back.

    Raises:
        pickle.UnpicklingError: it is broken.
    """
    start = file.tell()
    unpickler = _Unpickler(file)
    try:
        for operation, number, position in pickletools.genops(file):
            # Numbers run from 0 on. One damaged to a huge one would have the machine clear as much memory.
            if operation.name in _NUMBERED and not 0 <= (number or 0) <= (position or 0):
                raise pickle.UnpicklingError(f"its object number {number} cannot be")
        file.seek(start)
        content = unpickler.load()
    except Exception as error:  # a broken pickle can raise nearly anything
        raise pickle.UnpicklingError(f"{type(error).__name__}: {error}") from error
    return Loaded(content, frozenset(unpickler.classes), unpickler.elsewhere)


Resolver = Callable[["Plain", Record], Any]


class Plain:
    """Turns what ``load`` gave into plain data.

    Args:
        resolvers: by full name, for objects that the caller knows, e.g. tensors. They return ``NotImplemented`` for an
            object of unexpected make, which stays inert then.
    """

    def __init__(self, resolvers: dict[str, Resolver]):
        self._resolvers = _RESOLVERS | resolvers
        self._done: dict[int, Any] = {}

    def __call__(self, value: Any) -> Any:
        """Return the plain form of ``value``; an object that occurs twice is converted once, circles stay circles.

        Raises:
            RecursionError: it is nested too deeply.
        """
        key = id(value)
        if key in self._done:
            return self._done[key]
        if isinstance(value, list):
            values: list[Any] = []
            self._done[key] = values
            values.extend(self(each) for each in value)
            return values
        if isinstance(value, dict):
            return self._dict(key, list(value.items()))
        made: Any = value
        if isinstance(value, tuple):
            made = tuple(self(each) for each in value)
        elif isinstance(value, (set, frozenset)):
            made = [self(each) for each in value]
        elif isinstance(value, Record):
            made = self._object(key, value)
        elif isinstance(value, type):
            made = Inert(value.name if issubclass(value, Record) else value.__name__)
        elif isinstance(value, StoredElsewhere):
            made = Inert("torch storage", args=self(value.pid))
        self._done[key] = made
        return made

    def _dict(self, key: int, items: list[tuple[Any, Any]]) -> dict[Any, Any]:
        values: dict[Any, Any] = {}
        self._done[key] = values
        for name, value in items:
            values[_hashable(self(name))] = self(value)
        return values

    def _object(self, key: int, record: Record) -> Any:
        if record.name in ("collections.OrderedDict", "collections.defaultdict"):
            given = record.args[0] if record.args and isinstance(record.args[0], list) else []
            pairs = [(pair[0], pair[1]) for pair in given if isinstance(pair, (list, tuple)) and len(pair) == 2]
            return self._dict(key, pairs + record.items)
        if record.name == "argparse.Namespace" and isinstance(record.state, dict):
            return self._dict(key, list(record.state.items()))
        resolver = self._resolvers.get(record.name)
        if record.name.startswith("omegaconf."):
            resolver = _omegaconf
        if resolver is not None:
            made = resolver(self, record)
            if made is not NotImplemented:
                return made
        inert = Inert(record.name)
        self._done[key] = inert
        inert.args = self(record.args)
        inert.state = self(record.state)
        inert.items = {_hashable(self(name)): self(value) for name, value in record.items}
        inert.elements = [self(each) for each in record.elements]
        return inert


def _hashable(key: Any) -> Any:
    try:
        hash(key)
    except TypeError:
        return repr(key)
    return key


def _omegaconf(plain: Plain, record: Record) -> Any:
    """Containers keep their values in ``_content``, leaves in ``_val``; parents, flags and types are left behind."""
    state = record.state
    if not isinstance(state, dict):
        return NotImplemented
    if "_content" in state:
        return plain(state["_content"])
    return plain(state["_val"]) if "_val" in state else NotImplemented


def _bytes(plain: Plain, record: Record) -> Any:
    """``_codecs.encode(text, "latin1")`` is how pickle protocol 2 spells bytes."""
    match record.args:
        case (str(text), "latin1"):
            return text.encode("latin1")
    return NotImplemented


def _set(plain: Plain, record: Record) -> Any:
    return plain(record.args[0]) if record.args and isinstance(record.args[0], list) else NotImplemented


def _dtype(plain: Plain, record: Record) -> Any:
    match record.args, record.state:
        case (str(code), *_), (_, str(order), *_) if (
            re.fullmatch(r"b1|[iu][1248]|f[248]|c8|c16", code) and order in "<>|"
        ):
            return np.dtype(order + code)
    return NotImplemented


def _numpy_scalar(plain: Plain, record: Record) -> Any:
    match plain(record.args):
        case (np.dtype() as dtype, bytes(raw)) if len(raw) == dtype.itemsize:
            return np.frombuffer(raw, dtype)[0].item()
    return NotImplemented


def _numpy_array(plain: Plain, record: Record) -> Any:
    match plain(record.state):
        case (_, tuple(shape), np.dtype() as dtype, bool(fortran), bytes(raw)) if _fits(shape, dtype, raw):
            return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C").copy()
    return NotImplemented


def _fits(shape: tuple[Any, ...], dtype: np.dtype[Any], raw: bytes) -> bool:
    sides = [side for side in shape if isinstance(side, int) and side >= 0]
    return len(sides) == len(shape) and math.prod(sides) * dtype.itemsize == len(raw)


_RESOLVERS: dict[str, Resolver] = {
    "_codecs.encode": _bytes,
    "__builtin__.set": _set,
    "__builtin__.frozenset": _set,
    "numpy.dtype": _dtype,
    "numpy.core.multiarray.scalar": _numpy_scalar,
    "numpy._core.multiarray.scalar": _numpy_scalar,
    "numpy.core.multiarray._reconstruct": _numpy_array,
    "numpy._core.multiarray._reconstruct": _numpy_array,
}

_UNDERSTOOD = re.compile(
    r"collections\.(OrderedDict|defaultdict)|argparse\.Namespace|omegaconf\..*|typing\.Any|numpy\.ndarray"
    r"|(builtins|__builtin__)\.(bool|bytes|dict|float|int|list|long|object|str|tuple|unicode)"
)


def understood(name: str) -> bool:
    """Whether ``Plain`` knows what objects of the class, or calls of the function, with this full name stand for."""
    return name in _RESOLVERS or _UNDERSTOOD.fullmatch(name) is not None
