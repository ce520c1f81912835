"""The only room that decodes: a file in, pictures on the 25 Hz timeline and 16 kHz mono sound out, in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import av
import numpy as np
from numpy.typing import NDArray

from avfeat.clip_decode import Pass, first_picture, turn_of
from avfeat.clip_file import Opened, open_file
from avfeat.errors import NoPicturesError, NoSoundError, UnreadableError
from avfeat.timeline import RATE_HZ


@dataclass(frozen=True)
class Media:
    """What a file says of itself. Width and height are those of the displayed picture, after rotation."""

    duration_seconds: float | None
    fps: float | None
    source_frames: int | None
    width: int | None
    height: int | None
    has_video: bool
    has_audio: bool
    audio_rate_hz: int | None
    container: str = ""
    video_codec: str = ""
    audio_codec: str = ""
    audio_channels: int | None = None
    rotation_degrees: int = 0
    video_streams: int = 0
    audio_streams: int = 0
    video_index: int | None = None
    audio_index: int | None = None


@dataclass(frozen=True)
class Decoded:
    """What came out of a clip."""

    frames: int = 0
    source_frames: int = 0
    sound_samples: int = 0
    status: Literal["done", "truncated"] = "done"
    detail: str = ""
    video_start_seconds: float | None = None
    video_end_seconds: float | None = None
    sound_start_seconds: float | None = None
    sound_end_seconds: float | None = None
    corrupt_pictures: int = 0
    corrupt_sounds: int = 0
    packet_errors: int = 0


def library_versions() -> dict[str, str]:
    """Return the versions of PyAV and of the libav* libraries inside it, for the attributes of a store."""
    versions = {name: ".".join(map(str, numbers)) for name, numbers in sorted(av.library_versions.items())}
    return {"pyav": av.__version__} | versions


def probe(path: Path) -> Media:
    """Read what a media file says of itself.

    Raises:
        UnreadableError: it is not media; one sentence guesses what it is instead.
    """
    opened = open_file(path, path.name)
    try:
        return _media(opened)
    finally:
        opened.close()


def _media(opened: Opened) -> Media:
    video, audio, container = opened.video, opened.audio, opened.container
    rate = video and (video.average_rate or video.guessed_rate)
    picture = first_picture(opened)
    quarter = picture is not None and turn_of(picture)[0]
    return Media(
        duration_seconds=container.duration / 1_000_000 if container.duration else None,
        fps=float(rate) if rate else None,
        source_frames=(video.frames or None) if video else None,
        width=(video.height if quarter else video.width) if video else None,
        height=(video.width if quarter else video.height) if video else None,
        has_video=video is not None,
        has_audio=audio is not None,
        audio_rate_hz=audio.rate if audio else None,
        container=container.format.name,
        video_codec=video.codec_context.name if video else "",
        audio_codec=audio.codec_context.name if audio else "",
        audio_channels=audio.layout.nb_channels if audio else None,
        video_streams=len(container.streams.video),
        audio_streams=len(container.streams.audio),
        video_index=video.index if video else None,
        audio_index=audio.index if audio else None,
    )


class Clip:
    """One media file as pictures on the 25 Hz timeline and 16 kHz mono sound. Use it in a ``with`` statement.

    Args:
        path: the file.
        clip_id: what to call it in errors.
        pictures: whether pictures are wanted.
        sound: whether sound is wanted.
        memory_bytes: pictures are kept for a second look while they fit this; else the file is decoded again.
        block_frames: how many frames come at once.

    Raises:
        UnreadableError: it is not media.
    """

    def __init__(
        self,
        path: Path,
        clip_id: str,
        *,
        pictures: bool = True,
        sound: bool = True,
        memory_bytes: int = 256 << 20,
        block_frames: int = 32,
    ):
        self.clip_id = clip_id
        self.media = probe(path)
        self._path = path
        self._wants = (pictures, sound)
        self._memory_bytes = memory_bytes
        self._block_frames = block_frames
        self._kept: list[NDArray[np.uint8]] | None = None
        self._sound: NDArray[np.float32] | None = None
        self._facts = Decoded()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what is kept in memory."""
        self._kept = None
        self._sound = None

    def blocks(self) -> Iterator[NDArray[np.uint8]]:
        """Yield the pictures, upright RGB, uint8 [n, height, width, 3], n at most ``block_frames``.

        May be called again: the same pictures come, from memory where they fit it. Do not write into a block.

        Raises:
            NoPicturesError: the file has none, or they were not wanted.
            UnreadableError: not one picture can be decoded.
        """
        if not self.media.has_video or not self._wants[0]:
            raise NoPicturesError(f"{self.clip_id}: the file has no pictures.")
        if self._kept is not None:
            yield from self._kept
            return
        yield from self._decode(True, self._wants[1] and self._sound is None)

    def sound(self) -> NDArray[np.float32]:
        """Return the sound from time zero on: float32 [samples], 16 kHz, mono.

        Raises:
            NoSoundError: the file has none, or it was not wanted.
        """
        if not self.media.has_audio or not self._wants[1]:
            raise NoSoundError(f"{self.clip_id}: the file has no sound track.")
        if self._sound is None:
            for _ in self._decode(False, True):
                pass
        assert self._sound is not None
        return self._sound

    def facts(self) -> Decoded:
        """Return what was decoded; complete after a full pass."""
        return self._facts

    def _decode(self, pictures: bool, sound: bool) -> Iterator[NDArray[np.uint8]]:
        opened = open_file(self._path, self.clip_id)
        try:
            work = Pass(opened, pictures, sound)
            kept: list[NDArray[np.uint8]] | None = []
            frames = 0
            for block in _blocks(work.runs(), self._block_frames):
                frames += len(block)
                if kept is not None:
                    kept.append(block)
                    if sum(each.nbytes for each in kept) > self._memory_bytes:
                        kept = None
                yield block
        finally:
            opened.close()
        if pictures and not frames:
            raise UnreadableError(f"{self.clip_id}: not one of its pictures can be decoded.")
        if pictures:
            self._kept = kept
        if work.sound is not None:
            self._sound = work.sound.line.samples()
        self._facts = Decoded(
            frames=frames or self._facts.frames,
            source_frames=work.pictures.decoded if work.pictures else self._facts.source_frames,
            sound_samples=len(self._sound) if self._sound is not None else 0,
            video_end_seconds=frames / RATE_HZ,
        )


def _blocks(runs: Iterator[tuple[NDArray[np.uint8], int]], size: int) -> Iterator[NDArray[np.uint8]]:
    block: NDArray[np.uint8] | None = None
    filled = 0
    for picture, count in runs:
        while count:
            if block is None:
                block, filled = np.empty((size, *picture.shape), np.uint8), 0
            part = min(count, size - filled)
            block[filled : filled + part] = picture
            filled += part
            count -= part
            if filled == size:
                yield block
                block = None
    if block is not None:
        yield block[:filled]
