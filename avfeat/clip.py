"""The only room that decodes: a file in, pictures on the 25 Hz timeline and 16 kHz mono sound out, in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from numpy.typing import NDArray

from avfeat.clip_decode import Pass, Run
from avfeat.clip_facts import Count, Status, verdict
from avfeat.clip_file import open_file
from avfeat.clip_probe import Media, probe_file
from avfeat.clip_sound import SoundLine
from avfeat.errors import NoPicturesError, NoSoundError, UnreadableError

__all__ = ["Clip", "Decoded", "Media", "library_versions", "probe"]


@dataclass(frozen=True)
class Decoded:
    """What came out of a clip.

    frames: pictures on the 25 Hz timeline; source_frames: pictures that were decoded for them.
    sound_samples: at 16 kHz, from time zero on.
    status: ``truncated`` where more than one picture, or more than 60 ms of sound, is missing.
    detail: one sentence on all that is missing or damaged, empty if nothing is.
    video_start_seconds … sound_end_seconds: when the streams begin and end; before its start a picture is the first
        one and sound is zero.
    corrupt: pictures and packets of sound that the decoder marked as damaged or refused.
    """

    frames: int = 0
    source_frames: int = 0
    sound_samples: int = 0
    status: Status = "done"
    detail: str = ""
    video_start_seconds: float | None = None
    video_end_seconds: float | None = None
    sound_start_seconds: float | None = None
    sound_end_seconds: float | None = None
    corrupt_pictures: int = 0
    corrupt_sounds: int = 0


def library_versions() -> dict[str, str]:
    """Return the versions of PyAV and of the libav* libraries inside it, for the attributes of a store."""
    versions = {name: ".".join(map(str, numbers)) for name, numbers in sorted(av.library_versions.items())}
    return {"pyav": av.__version__} | versions


def probe(path: Path) -> Media:
    """Read what a media file says of itself, and decode its first picture to see how it is turned.

    Raises:
        UnreadableError: it is not media; one sentence guesses what it is instead.
    """
    return probe_file(path, path.name)[0]


class Clip:
    """One media file as pictures on the 25 Hz timeline and 16 kHz mono sound. Use it in a ``with`` statement.

    Time zero is presentation time 0 of the file; where its clock does not start with the clip (transport and program
    streams, pieces cut from something longer) it is the earliest start of a stream. Frame k shows the last picture
    with floor(25 t + 1/2) <= k; before the first picture it is that one. The timeline ends with the last picture's
    duration. Pictures are turned upright as the file asks; pixels that are not square stay as stored; interlaced
    pictures stay woven; where the size changes, later pictures are scaled to the first one's. Surround is mixed down
    as ffmpeg does for 16-bit mono.

    Args:
        path: the file.
        clip_id: what to call it in errors.
        pictures: whether pictures are wanted.
        sound: whether sound is wanted.
        memory_bytes: pictures are kept for a second look while they fit this; else the file is decoded again.
        block_frames: how many frames come at once, fewer where they would take more than half of ``memory_bytes``.

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
        self.media, self._size = probe_file(path, clip_id)
        self._path = path
        self._wants_pictures = pictures
        self._wants_sound = sound
        self._memory_bytes = memory_bytes
        self._block_frames = block_frames
        self._kept: list[NDArray[np.uint8]] | None = None
        self._line: SoundLine | None = None
        self._frames = 0
        self._pictures: Count | None = None
        self._sound: Count | None = None
        self._whole_end: Fraction | None = None
        self._cut_off = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the pictures and the sound that are kept in memory."""
        self._kept = None
        self._line = None

    def blocks(self) -> Iterator[NDArray[np.uint8]]:
        """Yield the pictures, upright RGB, uint8 [n, height, width, 3], n at most ``block_frames``.

        The first time through, the sound is decoded by the way. May be called again: the same pictures come, from
        memory where they fit it, so do not write into a block.

        Raises:
            NoPicturesError: the file has none, or they were not wanted.
            UnreadableError: not one picture can be decoded, or the disk failed.
        """
        if not self.media.has_video:
            raise NoPicturesError(f"{self.clip_id}: the file has no pictures.")
        if not self._wants_pictures:
            raise NoPicturesError(f"{self.clip_id}: the clip was opened with pictures=False.")
        if self._kept is not None:
            yield from self._kept
            return
        yield from self._decode(True, self._wants_sound and self._line is None)

    def sound(self) -> NDArray[np.float32]:
        """Return the sound from time zero on: float32 [samples], 16 kHz, mono, 16-bit values divided by 32768.

        Raises:
            NoSoundError: the file has none, or it was not wanted.
            UnreadableError: the disk failed, or the sound cannot be mixed to mono.
        """
        if not self.media.has_audio:
            raise NoSoundError(f"{self.clip_id}: the file has no sound track.")
        if not self._wants_sound:
            raise NoSoundError(f"{self.clip_id}: the clip was opened with sound=False.")
        if self._line is None:
            for _ in self._decode(False, True):
                pass
        assert self._line is not None
        return self._line.samples()

    def facts(self) -> Decoded:
        """Return what has been decoded; a stream counts once it has been read to its end."""
        status, detail = verdict(self._pictures, self._sound, self._whole_end, self._cut_off)
        pictures, sound = self._pictures or Count(), self._sound or Count()
        return Decoded(
            frames=self._frames,
            source_frames=pictures.decoded,
            sound_samples=len(self._line) if self._line is not None else 0,
            status=status,
            detail=detail,
            video_start_seconds=_float(pictures.start),
            video_end_seconds=_float(pictures.end),
            sound_start_seconds=_float(sound.start),
            sound_end_seconds=_float(sound.end),
            corrupt_pictures=pictures.damages,
            corrupt_sounds=sound.damages,
        )

    def _decode(self, pictures: bool, sound: bool) -> Iterator[NDArray[np.uint8]]:
        opened = open_file(self._path, self.clip_id)
        try:
            work = Pass(opened, self._size if pictures else None, sound)
            kept: list[NDArray[np.uint8]] | None = []
            frames = 0
            for block in _blocks(work.runs(), self._block_frames, self._memory_bytes // 2):
                frames += len(block)
                if kept is not None and frames * block[0].nbytes <= self._memory_bytes:
                    kept.append(block)
                else:
                    kept = None
                yield block
            whole_end, cut_off = opened.whole_end(), opened.is_cut_off()
        finally:
            opened.close()
        self._cut_off = cut_off
        if work.sound is not None:
            self._line, self._sound = work.sound.line, work.sound.count
        if work.pictures is not None:
            self._pictures, self._frames, self._kept = work.pictures.count, frames, kept
            if not frames:
                raise UnreadableError(f"{self.clip_id}: {_nothing_to_see(work.pictures.count)}.")
        read = (self._pictures is not None) + (self._sound is not None)
        self._whole_end = whole_end if read == self.media.has_video + self.media.has_audio else None


def _nothing_to_see(count: Count) -> str:
    if count.packets == 0:
        return "its pictures are announced, but not one is in the file"
    return f"not one of its {count.packets} pictures can be decoded"


def _float(seconds: Fraction | None) -> float | None:
    return None if seconds is None else float(seconds)


def _blocks(runs: Iterator[Run], most_frames: int, most_bytes: int) -> Iterator[NDArray[np.uint8]]:
    block: NDArray[np.uint8] | None = None
    filled = 0
    for picture, count in runs:
        size = max(min(most_frames, most_bytes // picture.nbytes), 1)
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
