"""From YAML to dataclasses, with the line of every value kept, so that each fault is told with its file and line."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from avfeat.errors import ProtocolError

T = TypeVar("T")

Place = tuple[str | int, ...]
"""Where a value is: the keys and list positions that lead to it, e.g. ("columns", 3, "train")."""

_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


class Document:
    """One file: reads it as a dataclass, and knows the line of each value.

    Raises:
        ProtocolError: the file cannot be read, or is not YAML.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lines: dict[Place, int] = {}
        try:
            self._root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        except (OSError, UnicodeDecodeError) as error:
            raise ProtocolError(f"{path} cannot be read: {error}.") from error
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ProtocolError(f"{path}:{line}: this is not YAML: {error.problem}.") from error
        self._plain = yaml.SafeLoader("")

    def read(self, kind: type[T]) -> T:
        """Return the file's contents as the dataclass ``kind``; keys are the names of its fields.

        Understood are text, numbers, true and false, ``X | None``, ``Literal``, ``tuple[X, ...]``, ``Mapping[str, X]``,
        ``Any`` and dataclasses of these.

        Raises:
            ProtocolError: an unknown, missing or repeated key, or a value of another kind; with file and line.
        """
        if self._root is None:
            raise ProtocolError(f"{self.path} is empty.")
        value: T = self._value(self._root, kind, ())
        return value

    def fault(self, place: Place, sentence: str) -> NoReturn:
        """Raise a ProtocolError at the line of a value, or of the nearest value around it."""
        while place and place not in self._lines:
            place = place[:-1]
        raise ProtocolError(f"{self.path}:{self._lines.get(place, 1)}: {sentence}")

    def _value(self, node: yaml.Node, hint: Any, place: Place) -> Any:
        self._lines[place] = node.start_mark.line + 1
        origin = get_origin(hint)
        if origin in (Union, types.UnionType):
            if node.tag == "tag:yaml.org,2002:null":
                return None
            return self._value(node, next(each for each in get_args(hint) if each is not type(None)), place)
        if is_dataclass(hint):
            return self._record(node, hint, place)
        if origin is tuple:
            return self._list(node, get_args(hint)[0], place)
        if origin is Mapping:
            return self._table(node, get_args(hint)[1], place)
        if hint is Any:
            return self._plain.construct_object(node, deep=True)
        return self._scalar(node, hint, place)

    def _record(self, node: yaml.Node, kind: Any, place: Place) -> Any:
        hints = get_type_hints(kind)
        known = {field.name: field for field in fields(kind) if field.metadata.get("in_file", True)}
        given = {}
        for key, value in self._pairs(node, place):
            if key not in known:
                self.fault((*place, key), f"there is no key {key!r} here; known are {', '.join(known)}.")
            given[key] = self._value(value, hints[key], (*place, key))
        needed = [
            name
            for name, field in known.items()
            if field.default is MISSING and field.default_factory is MISSING and name not in given
        ]
        if needed:
            self.fault(place, f"{' and '.join(needed)} must be given here.")
        return kind(**given)

    def _table(self, node: yaml.Node, hint: Any, place: Place) -> Mapping[str, Any]:
        return {key: self._value(value, hint, (*place, key)) for key, value in self._pairs(node, place)}

    def _list(self, node: yaml.Node, hint: Any, place: Place) -> tuple[Any, ...]:
        if not isinstance(node, yaml.SequenceNode):
            self.fault(place, "a list is needed here, e.g. [one, two].")
        return tuple(self._value(each, hint, (*place, k)) for k, each in enumerate(node.value))

    def _pairs(self, node: yaml.Node, place: Place) -> list[tuple[str, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            self.fault(place, "keys with values are needed here, e.g. name: value.")
        pairs: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = str(key.value)
            self._lines[(*place, name)] = key.start_mark.line + 1
            if name in pairs:
                self.fault((*place, name), f"the key {name!r} is given twice.")
            pairs[name] = value
        return list(pairs.items())

    def _scalar(self, node: yaml.Node, hint: Any, place: Place) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            self.fault(place, "one value is needed here, not a list or keys.")
        value = self._plain.construct_object(node)
        if get_origin(hint) is Literal:
            choices = get_args(hint)
            if value not in choices:
                self.fault(place, f"{node.value!r} is not known; choose from {', '.join(map(str, choices))}.")
            return value
        if hint is float and type(value) is int:
            return float(value)
        if type(value) is not hint:
            self.fault(place, f"{_WORDS[hint]} is needed here, not {node.value!r}.")
        return value
