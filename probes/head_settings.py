"""A head by its name, with its settings as text or as values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from avfeat.errors import ProbeError
from probes.heads import Head, head_class

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", NoneType: "none"}


def make_head(name: str, settings: Mapping[str, Any]) -> Head:
    """Return a head that is not fitted yet, with these settings and its own defaults for the others.

    Args:
        name: of the table in ``probes.heads``.
        settings: values, or texts that are read as the setting's type: ``0.1``, ``true``, ``none``, ``max``.

    Raises:
        ProbeError: no such head, a setting it does not have, or a value of another type; the message lists what fits.
    """
    kind = head_class(name)
    known = kind().get_params()
    for each in settings:
        if each not in known:
            raise ProbeError(f"The head {name} has no setting {each!r}; it has {', '.join(known)}.")
    hints = get_type_hints(kind.__init__)
    return kind(**{each: _value(f"{name}: {each}", value, hints[each]) for each, value in settings.items()})


def check_reads(head: Head, name: str, features: tuple[str, ...]) -> None:
    """Refuse more or fewer features than the head reads side by side.

    Raises:
        ProbeError: another number of features.
    """
    if head.reads not in (None, len(features)):
        raise ProbeError(
            f"The head {name} reads {head.reads} {'feature' if head.reads == 1 else 'features'}, "
            f"but {len(features)} {'is' if len(features) == 1 else 'are'} named: {', '.join(features)}."
        )


def _value(setting: str, value: Any, hint: Any) -> Any:
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if not isinstance(value, str):
        return value
    if NoneType in kinds and value == "none":
        return None
    for kind in kinds:
        found = _read(value, kind)
        if found is not None:
            return found
    raise ProbeError(f"{setting} is {value!r}; give {' or '.join(map(_word, kinds))}.")


def _word(kind: Any) -> str:
    return "whole numbers such as 64,32" if get_origin(kind) is tuple else _WORDS[kind]


def _read(text: str, kind: Any) -> Any:
    """Return the text as a value of this kind, None where it is none."""
    if get_origin(kind) is tuple:
        parts = [_read(part, get_args(kind)[0]) for part in text.split(",")]
        return None if None in parts else tuple(parts)
    if kind is str:
        return text
    if kind is bool:
        return {"true": True, "false": False}.get(text)
    if kind not in (int, float):
        return None
    try:
        number = kind(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
