"""Is this machine able to run? Tries each part of the chain on a tiny clip and says what to install if it fails."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avfeat.errors import AvfeatError, MediaError, SetupError, WeightsError


@dataclass(frozen=True)
class Finding:
    """One part of the chain: whether it works, and one sentence: what it is, or what to do."""

    part: str
    works: bool
    sentence: str


def examine(device: str = "auto") -> list[Finding]:
    """Try each part of the chain on a tiny clip made here.

    Args:
        device: the torch device to try; ``auto`` takes the first GPU or the CPU.
    """
    with tempfile.TemporaryDirectory(prefix="avfeat-doctor-") as folder:
        clip = Path(folder) / "tiny.mp4"
        parts: list[tuple[str, Callable[[], str]]] = [
            ("media writer", lambda: _writer(clip)),
            ("decoder", lambda: _decoder(clip)),
            ("face landmarker", lambda: _landmarker()),
            ("torch device", lambda: _device(device)),
            ("store", lambda: _store(Path(folder))),
            ("weights cache", _cache),
        ]
        return [_try(part, check) for part, check in parts]


def _try(part: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(part, True, check())
    except AvfeatError as error:
        return Finding(part, False, str(error))
    except Exception as error:
        return Finding(part, False, f"{type(error).__name__}: {error}")


def _writer(clip: Path) -> str:
    from avfeat.media import ffmpeg_program, ffmpeg_version, write_video

    pictures = [np.full((64, 64, 3), 8 * k, np.uint8) for k in range(10)]
    sound = (8000 * np.sin(np.arange(6400) * 0.1)).astype(np.int16)
    try:
        write_video(clip, pictures, fps=25, sound=sound, sound_rate_hz=16_000)
    except MediaError as error:
        raise SetupError(
            f"{ffmpeg_program()} cannot write a tiny clip ({error}): name another ffmpeg in AVFEAT_FFMPEG, or leave it "
            "unset and pip install --force-reinstall imageio-ffmpeg."
        ) from error
    return f"ffmpeg {ffmpeg_version()}"


def _decoder(clip: Path) -> str:
    from avfeat.clip import Clip, library_versions

    if not clip.is_file():
        raise SetupError("not tried, for there is no clip to decode until the media writer works.")
    with Clip(clip, "tiny") as opened:
        frames = sum(len(block) for block in opened.blocks())
        samples = len(opened.sound())
    if frames != 10 or samples == 0:
        raise AvfeatError(
            f"10 pictures and sound were written, {frames} pictures and {samples} samples came back: "
            "reinstall PyAV with pip install --force-reinstall av."
        )
    return ", ".join(f"{name} {version}" for name, version in library_versions().items())


def _landmarker() -> str:
    from avfeat.landmarks import Landmarker

    with Landmarker() as landmarker:
        landmarker.detect(np.zeros((1, 64, 64, 3), np.uint8))
    return "MediaPipe starts and its model is in place"


def _device(device: str) -> str:
    import torch

    from avfeat.device import resolve_device

    name = resolve_device(device)
    total = (torch.ones(8, 8, device=name) @ torch.ones(8, 8, device=name)).sum().item()
    if total != 512:
        raise AvfeatError(f"{name} computed {total} where 512 is right: its driver or this torch build is broken.")
    return f"torch {torch.__version__} on {name}"


def _store(folder: Path) -> str:
    from avfeat.manifest import DatasetInfo, Manifest, Row
    from avfeat.store import open_store
    from avfeat.store_write import write_feature

    manifest = Manifest.from_rows([Row(clip_id="tiny", path="tiny.mp4")], DatasetInfo("doctor"))
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_feature(folder / "store", manifest, "doctor", {"tiny": rows}, rate_hz=25.0, first_seconds=0.02)
    back = open_store(folder / "store")["doctor"]["doctor"].clip("tiny")
    if not np.array_equal(back, rows):
        raise AvfeatError("what was written to a store did not come back: check the disk under the temporary folder.")
    return "written, committed and read back"


def _cache() -> str:
    from avfeat.weights import CACHE_VARIABLE, cache_dir

    folder = cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise WeightsError(f"{folder} cannot be written ({error}): name another folder in {CACHE_VARIABLE}.") from error
    return str(folder)
