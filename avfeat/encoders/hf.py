"""Encoders through transformers: every architecture of ``hf_records.FAMILIES``, by name or as ``hf:OWNER/NAME``.

Sound networks give 25 rows a second, each two neighbouring 20 ms steps of the network; picture and video networks give
one row for each frame. A layer ``@k`` is the raw output of block k; without one a feature is what the network itself
calls its result. Records here are plain data: transformers and torch are loaded when an encoder is built.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from avfeat.encoders.base import RANDOM, Card, Encoder, FeatureName, Output, Request, WeightFile
from avfeat.encoders.hf_named import NAMED, Record
from avfeat.encoders.hf_records import FAMILIES, Family, Kind
from avfeat.encoders.settings import Setting
from avfeat.errors import EncoderError
from avfeat.timeline import RATE_HZ, SOUND_RATE_HZ
from avfeat.views import SOUND, View

PREFIX = "hf:"
"""Begins the name of an encoder that has no entry here: ``hf:OWNER/NAME`` or ``hf:/path/to/folder``."""

HOP, WINDOW = 320, 400
"""Samples between two steps of a sound network, and samples that one step sees through the convolutions."""

RESAMPLE: Mapping[int, Literal["bicubic", "bilinear"]] = {2: "bilinear", 3: "bicubic"}
"""Filters that pictures can be resampled with, by the number that checkpoints give."""

# The middle of the first row: of two windows of samples, of two spectra centred on samples 0 and 320, of a frame.
_FIRST_SECONDS: Mapping[Kind, float] = {
    "speech": (HOP + WINDOW) / 2 / SOUND_RATE_HZ,
    "mel": HOP / 2 / SOUND_RATE_HZ,
    "picture": 1 / RATE_HZ / 2,
    "video": 1 / RATE_HZ / 2,
}

_NAME = re.compile(r"hf:(?P<place>.+?)(?::(?P<view>frame|face))?(?:@(?P<layer>\d+))?")


@dataclass(frozen=True)
class Source:
    """Where one encoder comes from: a record, a repository of the hub or a folder, and the view it is given."""

    name: str
    repository: str = ""
    folder: Path | None = None
    view: Literal["", "frame", "face"] = ""
    record: Record | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        """The repository or folder, as an error names it."""
        return str(self.folder) if self.folder else self.repository


def is_adapted(encoder: str) -> bool:
    """Whether ``encoder`` names a checkpoint that has no entry in the table."""
    return encoder.startswith(PREFIX)


def parse(text: str) -> tuple[str, FeatureName]:
    """Read ``hf:OWNER/NAME[:view][@layer]`` or ``hf:/path/to/folder[:view][@layer]``.

    A folder begins with ``/``, ``./``, ``../`` or ``~``; all else is a repository of the hub.

    Returns:
        The encoder's name for a Request, ``hf:PLACE[:view]``, and the feature's name: ``owner--name`` or the folder's
        name in lower case, with ``-face`` where it looks at the face.

    Raises:
        EncoderError: the text has another form, or the name would be taken for something it is not.
    """
    match = _NAME.fullmatch(text)
    if match is None:
        raise EncoderError(f"{text!r}: write hf:OWNER/NAME or hf:/path/to/folder, then :frame or :face, then @layer.")
    place, view, layer = match["place"], match["view"], match["layer"]
    folder = place.startswith(("/", "./", "../", "~"))
    if not folder and not re.fullmatch(r"[\w.-]+/[\w.-]+", place):
        raise EncoderError(f"{text!r}: {place!r} is neither OWNER/NAME nor a folder; a folder is written hf:./{place}.")
    plain = Path(place).expanduser().resolve().name if folder else place.replace("/", "--")
    name = re.sub(r"[^a-z0-9_-]+", "-", plain.lower()).strip("-_") + ("-face" if view == "face" else "")
    if not name or name in NAMED or name.endswith(RANDOM):
        raise EncoderError(
            f"{text!r}: its features would be called {name!r}, which says something else; copy or link the folder "
            "under another name."
        )
    encoder = f"{PREFIX}{place}:{view}" if view else f"{PREFIX}{place}"
    return encoder, FeatureName(name, "", None if layer is None else int(layer))


def source_of(encoder: str, weights: Path | None = None) -> Source:
    """Return where the encoder of a Request comes from; ``weights`` is the user's folder for a named one.

    Raises:
        EncoderError: a folder was given for an encoder whose name says where it is.
    """
    if encoder in NAMED:
        record = NAMED[encoder]
        return Source(encoder, record.repository, weights, record.view, record)
    if weights is not None:
        raise EncoderError(f"{encoder} says itself where its weights are; leave out {weights}.")
    match = _NAME.fullmatch(encoder)
    assert match is not None
    place = match["place"]
    view = cast(Literal["", "frame", "face"], match["view"] or "")
    name = parse(encoder)[1].encoder
    if place.startswith(("/", "./", "../", "~")):
        return Source(name, folder=Path(place).expanduser(), view=view)
    return Source(name, repository=place, view=view)


def card(name: str, kind: Kind, config: Mapping[str, Any], view: View, **facts: Any) -> Card:
    """Return the card of a network of this kind; ``config`` says ``hidden_size`` and ``num_hidden_layers``."""
    joined = 2 if kind in ("speech", "mel") else 1
    return Card(
        name=name,
        outputs={"": Output((view,), joined * config["hidden_size"])},
        rate_hz=RATE_HZ,
        first_seconds=_FIRST_SECONDS[kind],
        layers=config["num_hidden_layers"],
        **facts,
    )


def view_of(family: Family, kind: str, size_px: int, resample: Literal["bicubic", "bilinear"], fit: Any) -> View:
    """Return the view that a network reads; ``kind`` is empty for sound, ``fit`` how a picture becomes a square."""
    if family.hears:
        return SOUND
    if kind == "face":
        # A window needs one square for all its pictures: what moves should be the face, not the crop.
        return View("face", size_px, resample, recipe="still" if family.kind == "video" else "")
    return View("frame", size_px, resample, fit)


def named_card(name: str, record: Record) -> Card:
    """Return the card of a named checkpoint, from its record alone."""
    family, want = FAMILIES[record.family], record.input
    view = view_of(family, record.view, want.get("size", 0), RESAMPLE[want.get("resample", 3)], FIT.default)
    return card(
        name,
        family.kind,
        record.config,
        view,
        summary=record.summary,
        licence=record.licence,
        source=record.address,
        citation=record.citation,
        weights=(WeightFile(record.file, f"{record.address}/resolve/main/{record.file}"),),
        self_supervised=family.self_supervised,
        gflop_per_second=record.gflop_per_second,
    )


FINAL_NORM = Setting(
    "auto", ("auto", "on", "off"), "the network's last norm: auto = on the last layer only, on = all, off = none"
)
FIT = Setting(
    "squash", ("squash", "centre", "letterbox"), "how the whole picture becomes a square: squash, centre or letterbox"
)
SAMPLING = Setting(
    "1", ("1", "4"), "a window's pictures: 1, neighbours; 4, every fourth, for four times the span in as many windows"
)


def settings_of(family: Family, view: str) -> dict[str, Setting]:
    """Return the settings that an encoder of this family offers."""
    offered = {"final_norm": FINAL_NORM}
    if family.kind == "speech":
        meaning = "seconds; longer sound is a failed clip, for want of memory"
        offered["limit_seconds"] = Setting(family.limit_seconds, (), meaning)
    if family.kind == "video":
        offered["sampling"] = SAMPLING
    if not family.hears and view != "face":
        offered["fit"] = FIT
    return offered


CARDS = {name: named_card(name, record) for name, record in NAMED.items()}

SETTINGS = {name: settings_of(FAMILIES[record.family], record.view) for name, record in NAMED.items()}


def missing(name: str) -> str:
    """Return what this machine lacks to run a named encoder, one sentence, or ``""``."""
    from avfeat.encoders.hf_files import cached_snapshot, how_to_place

    record = NAMED[name]
    if cached_snapshot(record.repository):
        return ""
    return (
        f"weights of {record.repository} are not in the cache: they are fetched at first use, or {how_to_place(name)}"
    )


def card_of(encoder: str, settings: Mapping[str, Any]) -> Card:
    """Return the card of a named encoder or of ``hf:…``; that of the latter is read from its config.json.

    Raises:
        EncoderError: its architecture is not one of ``FAMILIES``, or cannot be read as asked.
        WeightsError: its files are not there and cannot be fetched.
    """
    if encoder in CARDS and not settings:
        return CARDS[encoder]
    from avfeat.encoders.hf_config import inspect

    return inspect(source_of(encoder), settings).card


def build(request: Request) -> Encoder:
    """Return the encoder that ``request`` asks for, named or ``hf:…``.

    Raises:
        EncoderError: unknown architecture or setting.
        WeightsError: files missing, or not the tensors that the network needs.
        SetupError: this transformers is too old.
    """
    from avfeat.encoders.hf_config import inspect

    source = source_of(request.encoder, request.weights)
    facts = inspect(source, request.settings)
    if facts.family.kind == "speech":
        from avfeat.encoders.hf_speech import SpeechEncoder

        return SpeechEncoder(facts, request)
    if facts.family.kind == "mel":
        from avfeat.encoders.hf_whisper import WhisperEncoder

        return WhisperEncoder(facts, request)
    if facts.family.kind == "video":
        from avfeat.encoders.hf_video import WindowEncoder

        return WindowEncoder(facts, request)
    from avfeat.encoders.hf_vision import PictureEncoder

    return PictureEncoder(facts, request)
