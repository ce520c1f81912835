"""An encoder's named choices: what it offers, and what a request chose of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from avfeat.errors import EncoderError


@dataclass(frozen=True)
class Setting:
    """One choice: its default, the words it may be (none: a number above 0), and what it decides."""

    default: str | float
    choices: tuple[str, ...]
    meaning: str


def chosen(encoder: str, given: Mapping[str, Any], offered: Mapping[str, Setting]) -> dict[str, str | float]:
    """Return every setting in ``offered`` with the value in ``given``, which may be text, or its default.

    Raises:
        EncoderError: a name that is not offered, or a value that its setting does not have; lists what there is.
    """
    unknown = sorted(given.keys() - offered.keys())
    if unknown:
        there = ", ".join(offered) or "none"
        raise EncoderError(f"{encoder} has no setting {unknown[0]!r}; it has: {there}.")
    return {name: _value(encoder, name, given.get(name, setting.default), setting) for name, setting in offered.items()}


def _value(encoder: str, name: str, value: Any, setting: Setting) -> str | float:
    if setting.choices:
        if value not in setting.choices:
            raise EncoderError(f"{encoder}: {name} is {value!r}; choose one of {', '.join(setting.choices)}.")
        return str(value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.0
    if not number > 0:
        raise EncoderError(f"{encoder}: {name} is {value!r}; give a number above 0.")
    return number
