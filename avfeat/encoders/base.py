"""What an encoder is: a card of facts, the views it reads, and rows out, one for each step of its timeline."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from avfeat.errors import ClipError, EncoderError, NoPicturesError, NotFiniteError
from avfeat.views import View, Views

if TYPE_CHECKING:
    from torch import nn

Rows = NDArray[np.float32]
"""float32 [steps, width]: an encoder's output for one clip."""

DtypeCompute = Literal["fp32", "bf16", "fp16"]
"""What a network computes in: float32, bfloat16 or float16."""

RANDOM = "-random"
"""Ends the encoder part of a feature's name when its weights are seeded random numbers."""

TRIMMED = "-trimmed"
"""Ends the name of an encoder that leaves out leading silence; ``-random`` comes after it."""

_NAME = re.compile(r"(?P<encoder>[a-z0-9][a-z0-9_-]*)(?:\.(?P<stream>[a-z0-9]+))?(?:@(?P<layer>\d+))?")


@dataclass(frozen=True, order=True)
class FeatureName:
    """``<encoder>[.<stream>][@<layer>]``, e.g. ``avhubert-large.av`` or ``xlsr-2b@9``; no layer means the last."""

    encoder: str
    stream: str = ""
    layer: int | None = None

    @classmethod
    def parse(cls, text: str) -> FeatureName:
        """Read a name as users type it.

        Raises:
            EncoderError: the text has another form.
        """
        match = _NAME.fullmatch(text)
        if match is None:
            raise EncoderError(
                f"{text!r} is not a feature name: write <encoder>[.<stream>][@<layer>] in lower case, "
                "e.g. avhubert-large.av or xlsr-2b@9."
            )
        layer = match["layer"]
        return cls(match["encoder"], match["stream"] or "", None if layer is None else int(layer))

    @property
    def is_random(self) -> bool:
        """Whether the name says that the weights are random."""
        return self.encoder.endswith(RANDOM)

    def __str__(self) -> str:
        stream = f".{self.stream}" if self.stream else ""
        layer = "" if self.layer is None else f"@{self.layer}"
        return f"{self.encoder}{stream}{layer}"


@dataclass(frozen=True)
class Output:
    """One stream that an encoder can give: the views that it needs and the width of its rows."""

    reads: tuple[View, ...]
    width: int


@dataclass(frozen=True)
class WeightFile:
    """One file that an encoder needs: where it comes from and how it is checked; ``sha256`` empty when unpublished."""

    name: str
    address: str
    sha256: str = ""
    size_bytes: int = 0


@dataclass(frozen=True)
class Card:
    """The facts of one encoder; the single source for the store's attributes, the docs and the licence list.

    ``outputs`` maps a stream's name to what it reads and gives; an encoder with one output calls it ``""``.
    ``first_seconds`` is the middle of the first row's time span, row k is at ``first_seconds + k / rate_hz``.
    ``layers`` counts the blocks that ``@layer`` may name, 0 when there is no choice.
    """

    name: str
    summary: str
    outputs: Mapping[str, Output]
    rate_hz: float
    first_seconds: float
    layers: int
    licence: str
    source: str
    citation: str = ""
    licence_note: str = ""
    weights: tuple[WeightFile, ...] = ()
    self_supervised: bool = True
    gflop_per_second: float | None = None

    def untrained(self) -> Card:
        """Return the card of the same network with random numbers for weights."""
        return replace(self, summary=f"{self.summary}; here with random numbers for weights", self_supervised=False)

    def output(self, name: FeatureName) -> Output:
        """Return the output that ``name`` asks for.

        Raises:
            EncoderError: this encoder has no such stream or layer; the message lists those it has.
        """
        if name.stream not in self.outputs:
            known = ", ".join(f"{self.name}.{stream}" if stream else self.name for stream in self.outputs)
            raise EncoderError(f"{name}: {self.name} has no stream {name.stream or '(unnamed)'!r}; it has {known}.")
        if name.layer is not None and not 1 <= name.layer <= self.layers:
            offer = f"1 to {self.layers}" if self.layers else "no layers to choose"
            raise EncoderError(f"{name}: {self.name} has {offer}.")
        return self.outputs[name.stream]


@dataclass(frozen=True)
class Request:
    """How one encoder is to be built.

    encoder: its name in the table, without ``-random``; or ``hf:PLACE[:view]`` for a checkpoint without entry there.
    wanted: the features asked of it; all are computed in one pass.
    weights: a file or folder given by the user in place of the card's own.
    seed: seeded random weights instead of trained ones.
    device: a torch device, ``cpu`` or ``cuda:0``.
    settings: the encoder's own named choices, e.g. ``{"final_norm": "auto"}``.
    dtype_compute: the type that its network computes in; what it reads and its rows are float32 all the same.
    compile: whether the network's blocks are compiled first.
    """

    encoder: str
    wanted: tuple[FeatureName, ...]
    weights: Path | None = None
    seed: int | None = None
    device: str = "cpu"
    settings: Mapping[str, Any] = field(default_factory=dict)
    dtype_compute: DtypeCompute = "fp32"
    compile: bool = False


@dataclass(frozen=True)
class Late:
    """Rows of a clip whose start was left out: the first one is this much later than the card says."""

    rows: Rows
    seconds: float


Result = Rows | Late | ClipError
"""What a clip gives for one feature, or why it gives nothing."""


class Encoding(ABC):
    """One clip on its way through one encoder: takes its blocks, then gives its rows."""

    @abstractmethod
    def take(self, views: Views) -> None:
        """Take the next block of the clip; blocks come in order and the last one carries sound and track."""

    @abstractmethod
    def finish(self, wanted: Sequence[FeatureName]) -> Mapping[FeatureName, Result]:
        """Return the rows of the features in ``wanted``, those whose views could be made; or why one has none.

        Raises:
            ClipError: this clip gives no rows, e.g. it is too short.
        """


class Encoder(ABC):
    """A frozen network, ready to run, with the features that it was built for.

    ``provenance`` is plain data for the store: weight hashes, seed, settings, library versions, all that is needed to
    make the rows again.
    """

    card: Card
    wanted: tuple[FeatureName, ...]
    provenance: Mapping[str, Any]

    @abstractmethod
    def begin(self) -> Encoding:
        """Start a new clip."""

    def reads(self) -> frozenset[View]:
        """All views that the wanted features need."""
        return frozenset(view for name in self.wanted for view in self.card.output(name).reads)

    def together(self, encodings: Sequence[Encoding]) -> None:  # noqa: B027, to do nothing is a fair choice
        """Do at once what is left of several clips, all of whose blocks were taken; ``finish`` then only gives it.

        Short clips one by one leave most of a GPU idle. A row is the same as alone, but for rounding. An encoder may
        leave this out: each clip is then encoded in ``finish``.
        """

    def blocks(self) -> Sequence[nn.Module]:
        """The network's blocks, which ``--compile`` compiles; none where there is nothing to compile."""
        return ()


class ClipEncoder(Encoder):
    """An encoder that needs the whole clip at once, as networks with attention over time do."""

    @abstractmethod
    def encode(self, views: Views, wanted: Sequence[FeatureName]) -> Mapping[FeatureName, Result]:
        """Return the rows of one whole clip, or why a feature has none; ``views`` holds at least what ``wanted`` reads.

        Raises:
            ClipError: no feature has rows.
        """

    def begin(self) -> Encoding:
        """Start a new clip."""
        return WholeClip(self)


class FrameEncoder(Encoder):
    """An encoder whose rows depend on one picture each, so that a clip of any length needs the memory of one batch."""

    view: View
    batch_pictures: int = 32
    """How many pictures go through the network at a time; on a CPU more gain nothing."""

    @abstractmethod
    def encode_pictures(self, pictures: NDArray[np.uint8], wanted: Sequence[FeatureName]) -> dict[FeatureName, Rows]:
        """Return one row for each picture of uint8 [n, size, size, 3], ``batch_pictures`` at most."""

    def begin(self) -> Encoding:
        """Start a new clip."""
        return _FrameByFrame(self)

    def together(self, encodings: Sequence[Encoding]) -> None:
        """Encode the pictures that are left of several clips in full batches: pictures do not see each other."""
        clips = [each for each in encodings if isinstance(each, _FrameByFrame) and each.left]
        if len(clips) < 2:
            return
        pictures = np.concatenate([block for each in clips for block in each.left])
        batches = [
            self.encode_pictures(pictures[start : start + self.batch_pictures], self.wanted)
            for start in range(0, len(pictures), self.batch_pictures)
        ]
        rows = {name: np.concatenate([batch[name] for batch in batches]) for name in self.wanted}
        start = 0
        for each in clips:
            stop = start + sum(map(len, each.left))
            each.add({name: rows[name][start:stop] for name in self.wanted})
            each.left, start = [], stop


class WholeClip(Encoding):
    """Keeps what one encoder reads of a clip until all is there; ``ready`` are rows made together with other clips'."""

    def __init__(self, encoder: ClipEncoder):
        self._encoder = encoder
        self._pictures: dict[View, list[NDArray[np.uint8]]] = {view: [] for view in encoder.reads()}
        self._last = Views()
        self.ready: Mapping[FeatureName, Result] | None = None

    def take(self, views: Views) -> None:
        """Take the next block; of its pictures those that this encoder reads, for others' may be large."""
        for view, pictures in views.pictures.items():
            if view in self._pictures:
                self._pictures[view].append(pictures)
        self._last = replace(views, pictures={})

    def views(self) -> Views:
        """Return the clip as one block."""
        pictures = {view: np.concatenate(parts) for view, parts in self._pictures.items() if parts}
        return replace(self._last, start=0, pictures=pictures)

    def finish(self, wanted: Sequence[FeatureName]) -> Mapping[FeatureName, Result]:
        """Return the rows of the whole clip."""
        if self.ready is not None:
            return {name: self.ready[name] for name in wanted}
        return self._encoder.encode(self.views(), wanted)


class _FrameByFrame(Encoding):
    def __init__(self, encoder: FrameEncoder):
        self._encoder = encoder
        self._rows: dict[FeatureName, list[Rows]] = {name: [] for name in encoder.wanted}
        self.left: list[NDArray[np.uint8]] = []

    def take(self, views: Views) -> None:
        pictures = views.pictures.get(self._encoder.view)
        if pictures is None:
            return
        batch = self._encoder.batch_pictures
        for start in range(0, len(pictures), batch):
            self.left.append(pictures[start : start + batch])
            if sum(map(len, self.left)) >= batch:
                full = np.concatenate(self.left)
                self.add(self._encoder.encode_pictures(full[:batch], self._encoder.wanted))
                self.left = [full[batch:]] if len(full) > batch else []

    def add(self, rows: Mapping[FeatureName, Rows]) -> None:
        """Keep the rows of the clip's next pictures."""
        for name, each in rows.items():
            self._rows[name].append(each)

    def finish(self, wanted: Sequence[FeatureName]) -> Mapping[FeatureName, Rows | ClipError]:
        if self.left:
            self.add(self._encoder.encode_pictures(np.concatenate(self.left), self._encoder.wanted))
            self.left = []
        if not all(self._rows[name] for name in wanted):
            raise NoPicturesError(f"{self._encoder.card.name} was given no picture of this clip.")
        return {name: np.concatenate(self._rows[name]) for name in wanted}


def check_rows(card: Card, name: FeatureName, rows: Rows) -> Rows:
    """Return ``rows`` as they are, or refuse them.

    Raises:
        EncoderError: the shape is not [steps, width] of the card: a fault of the encoder, not of the clip.
        NotFiniteError: a value is NaN or infinite; names the first such row.
    """
    width = card.output(name).width
    if rows.ndim != 2 or rows.shape[1] != width or rows.dtype != np.float32:
        raise EncoderError(
            f"{name}: its card says float32 [steps, {width}], the encoder gave {rows.dtype} {rows.shape}."
        )
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise NotFiniteError(f"{name} gave a value that is not finite in row {int(np.argmin(finite))} of {len(rows)}.")
    return rows
