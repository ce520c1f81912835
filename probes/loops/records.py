"""The arrays that go together into the loops; all float32 unless said otherwise."""

from __future__ import annotations

from typing import Any, NamedTuple


class Clips(NamedTuple):
    """Clips end to end.

    frames: [rows, width], or in uint16 the bits of float16; of frames on disk a mapping that nobody looks at.
    file: int64 [3], where frames on disk are; see fetching.py.
    norms: [rows, features], 1 / L2 norm of each feature's part of a row.
    bounds: int64 [features + 1], where the columns of each feature begin.
    offsets: int64 [clips + 1], where each clip begins.
    labels: [clips], 0 or 1.
    doubled: [clips], twice the clips' weights.
    """

    frames: Any
    file: Any
    norms: Any
    bounds: Any
    offsets: Any
    labels: Any
    doubled: Any


class Pools(NamedTuple):
    """One pooling for each probe: int64 [probes] of ``pools.KINDS``, and their numbers [probes]."""

    kinds: Any
    numbers: Any


class State(NamedTuple):
    """The parameters of one or several probes, and Adam's two means of their gradients, of the same form."""

    theta: Any
    mean: Any
    square: Any


class Settings(NamedTuple):
    """What does not change during an epoch.

    adam: float64, β₁, β₂, ε and the learning rate.
    decay: [probes], the weight decay.
    steps: how many steps were taken before.
    """

    adam: Any
    decay: Any
    steps: int


class Room(NamedTuple):
    """Where the numbers of the clips at hand lie; see single.py and several.py for the forms.

    buffer: frames from a file, as stored; rows: normalised frames; z: frame scores.
    parts: gradients, one of each share; slopes: [probes], dloss/ds.
    """

    buffer: Any
    rows: Any
    z: Any
    parts: Any
    slopes: Any
