"""The only room that encodes: pictures and sound in, a media file out, through ffmpeg."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
import uuid
import wave
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import cache
from itertools import chain
from pathlib import Path
from typing import IO, Any

import ffmpeg
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from avfeat.containers import FORMATS
from avfeat.errors import MediaError, SetupError

Rate = int | float | Fraction


def ffmpeg_program() -> str:
    """Return the ffmpeg that writes media: AVFEAT_FFMPEG where it is set, else the one of the imageio-ffmpeg wheel.

    Raises:
        SetupError: there is none.
    """
    wanted = os.environ.get("AVFEAT_FFMPEG")
    if wanted:
        found = shutil.which(wanted)
        if found is None:
            raise SetupError(f"AVFEAT_FFMPEG is {wanted!r}, which is not a program: unset it or name an ffmpeg.")
        return found
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise SetupError(
            "No ffmpeg was found: pip install --force-reinstall imageio-ffmpeg, or set AVFEAT_FFMPEG to an ffmpeg."
        ) from error


def ffmpeg_version() -> str:
    """Return the version of that ffmpeg, e.g. ``7.0.2-static``.

    Raises:
        SetupError: there is none, or it does not start.
    """
    return _version(ffmpeg_program())


@cache
def _version(program: str) -> str:
    try:
        told = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise SetupError(f"{program} does not run as ffmpeg ({error}): set AVFEAT_FFMPEG to one that does.") from error
    match = re.match(r"ffmpeg version (\S+)", told)
    if match is None:
        raise SetupError(f"{program} does not say that it is ffmpeg: set AVFEAT_FFMPEG to one that does.")
    return match[1]


def write_video(
    path: Path,
    pictures: Iterable[NDArray[np.uint8]],
    fps: Rate,
    sound: NDArray[Any] | None = None,
    sound_rate_hz: int = 16_000,
    *,
    video_codec: str = "libx264",
    crf: int | None = 18,
    video_bitrate: int | None = None,
    pixel_format: str = "yuv420p",
    size: tuple[int, int] | None = None,
    audio_codec: str = "aac",
    audio_bitrate: int | None = None,
    timeout_seconds: float = 600,
) -> None:
    """Write pictures and sound to a new media file; its suffix names the format. The file appears whole or not at all.

    The encoder runs in one thread, so that the same pictures give the same file on every machine.

    Args:
        path: what to write; an existing file is replaced.
        pictures: uint8 RGB [height, width, 3], all of one size; taken one by one.
        fps: pictures per second.
        sound: int16, or float in -1..1, [samples] or [samples, channels]; None for a file without sound.
        sound_rate_hz: its rate, and that of the file.
        video_codec: an ffmpeg encoder.
        crf: constant quality of x264, x265, VP9; None where the encoder has none.
        video_bitrate: bits per second.
        pixel_format: yuv420p needs even sizes; yuv444p takes odd ones.
        size: (width, height) to scale to.
        audio_codec: an ffmpeg encoder.
        audio_bitrate: bits per second.
        timeout_seconds: ffmpeg is stopped after this time.

    Raises:
        MediaError: no pictures, pictures of different sizes, or ffmpeg failed; the message ends with its last lines.
        SetupError: there is no ffmpeg.
    """
    frames = iter(pictures)
    first = next(frames, None)
    if first is None:
        raise MediaError(f"{path}: no pictures to write.")
    height, width = first.shape[:2]
    options = _options(vcodec=video_codec, pix_fmt=pixel_format, crf=crf, video_bitrate=video_bitrate, threads=1)
    if size is not None:
        options["vf"] = _scale(size)
    with tempfile.TemporaryDirectory(prefix="avfeat-media-") as folder, _beside(path) as target:
        raw = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=_rational(fps))
        streams = [raw.video]
        if sound is not None:
            wav = Path(folder) / "sound.wav"
            _write_wav(wav, sound, sound_rate_hz)
            streams.append(ffmpeg.input(_name(wav)).audio)
            options |= _options(acodec=audio_codec, audio_bitrate=audio_bitrate)
        command = ffmpeg.output(*streams, _name(target), **options)
        _run(command, path, timeout_seconds, _checked(path, chain([first], frames), first.shape))


def transcode(
    source: Path,
    target: Path,
    *,
    video_codec: str = "libx264",
    crf: int | None = None,
    size: tuple[int, int] | None = None,
    fps: Rate | None = None,
    noise: int = 0,
    audio_codec: str = "aac",
    audio_bitrate: int | None = None,
    sound_rate_hz: int | None = None,
    timeout_seconds: float = 600,
) -> None:
    """Write a perturbed copy of a media file; what is not named stays, save that both streams are encoded anew.

    Args:
        source: an existing media file; nothing else is opened, whatever it names inside.
        target: what to write; its suffix names the format, an existing file is replaced.
        video_codec: an ffmpeg encoder.
        crf: constant quality; None for the encoder's own choice.
        size: (width, height) to scale to.
        fps: pictures per second; pictures are dropped or repeated.
        noise: strength of seeded noise in each picture, 0 to 100.
        audio_codec: an ffmpeg encoder.
        audio_bitrate: bits per second.
        sound_rate_hz: sample rate.
        timeout_seconds: ffmpeg is stopped after this time.

    Raises:
        MediaError: ffmpeg failed; the message ends with its last lines.
        SetupError: there is no ffmpeg.
    """
    filters = [_scale(size)] if size is not None else []
    if noise:
        filters.append(f"noise=alls={int(noise)}:allf=t:all_seed=1")
    options = _options(
        vcodec=video_codec,
        acodec=audio_codec,
        crf=crf,
        audio_bitrate=audio_bitrate,
        ar=sound_rate_hz,
        r=None if fps is None else _rational(fps),
        vf=",".join(filters) or None,
        threads=1,
    )
    with _beside(target) as beside:
        given = ffmpeg.input(_name(source), protocol_whitelist="file", format_whitelist=",".join(FORMATS))
        _run(given.output(_name(beside), **options), target, timeout_seconds)


def _options(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _scale(size: tuple[int, int]) -> str:
    return f"scale={int(size[0])}:{int(size[1])}:flags=bicubic"


def _checked(path: Path, pictures: Iterable[NDArray[np.uint8]], shape: tuple[int, ...]) -> Iterator[NDArray[np.uint8]]:
    for number, picture in enumerate(pictures):
        if picture.shape != shape or picture.dtype != np.uint8 or picture.ndim != 3 or shape[2] != 3:
            raise MediaError(
                f"{path}: picture {number} is {picture.dtype} {list(picture.shape)}; "
                f"uint8 [height, width, 3] of one size is needed, and the first is {list(shape)}."
            )
        yield picture


def _write_wav(path: Path, sound: NDArray[Any], rate_hz: int) -> None:
    if sound.dtype != np.int16:
        sound = np.clip(np.rint(sound * 32768.0), -32768, 32767).astype(np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if sound.ndim == 1 else sound.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.ascontiguousarray(sound).astype("<i2", copy=False).tobytes())


def _rational(fps: Rate) -> str:
    value = Fraction(fps).limit_denominator(1_000_000)
    return f"{value.numerator}/{value.denominator}"


def _name(path: Path) -> str:
    """A name that ffmpeg can only take for a file: never an option, never another protocol."""
    return f"file:{path.absolute()}"


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Give a path in the same folder; what was written there becomes ``path`` at the end, or vanishes."""
    target = path.absolute().with_name(f".avfeat-{uuid.uuid4().hex}{path.suffix}")
    try:
        yield target
        target.replace(path)
    finally:
        target.unlink(missing_ok=True)


def _run(command: Any, path: Path, timeout_seconds: float, pictures: Iterable[NDArray[np.uint8]] | None = None) -> None:
    """Run ffmpeg, feeding ``pictures`` to its standard input."""
    line = ffmpeg.compile(
        command.global_args("-hide_banner", "-loglevel", "error", *(() if pictures is not None else ("-nostdin",))),
        cmd=ffmpeg_program(),
        overwrite_output=True,
    )
    with tempfile.TemporaryFile() as log:
        process = _start(line, log, subprocess.DEVNULL if pictures is None else subprocess.PIPE)
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        watch = threading.Timer(timeout_seconds, stop)
        watch.start()
        try:
            if pictures is not None and process.stdin is not None:
                _feed(process.stdin, pictures)
            code = process.wait()
        finally:
            watch.cancel()
            process.kill()
            process.wait()
        if late.is_set():
            raise MediaError(f"{path}: ffmpeg was stopped after {timeout_seconds:g} s; allow more time or write less.")
        if code != 0:
            raise MediaError(f"{path}: ffmpeg failed with exit code {code}: {_tail(log)}")


def _start(line: list[str], log: IO[bytes], stdin: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(line, stdin=stdin, stdout=subprocess.DEVNULL, stderr=log)
    except OSError as error:
        raise SetupError(f"{line[0]} does not start ({error}): set AVFEAT_FFMPEG to an ffmpeg that does.") from error


def _feed(pipe: IO[bytes], pictures: Iterable[NDArray[np.uint8]]) -> None:
    try:
        with pipe:
            for picture in pictures:
                pipe.write(np.ascontiguousarray(picture).data)
    except BrokenPipeError:
        # ffmpeg has ended before its time; its exit code and last words say why.
        return


def _tail(log: IO[bytes], lines: int = 5) -> str:
    log.seek(0)
    told = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return " | ".join(told[-lines:]) or "it said nothing"
