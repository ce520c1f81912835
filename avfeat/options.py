"""How to extract, and what a run came to: plain data, each default written here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from avfeat.plan import Shard
from avfeat.views import ViewSettings


@dataclass(frozen=True)
class Options:
    """How to extract.

    device: ``auto``, ``cpu`` or ``cuda:N``.
    dtype, codec: how rows are stored.
    dtype_compute: what networks compute in; part of what a feature is, as are their weights.
    compile: whether torch compiles the networks' blocks first.
    part_clips: clips per part; None keeps the store's own cut, or for a new store follows the manifest's size.
    workers: processes that read clips; None is one for each CPU that this process may use.
    shard, limit: which parts of the plan are ours, and after how many clips to stop (whole parts).
    retry_failed: do again the clips that failed, instead of those that are missing.
    landmarker: the face landmarker's model file.
    silent_seconds: a clip that shows no progress for so long is given up.
    views: how the views are cut.
    """

    device: str = "auto"
    dtype: Literal["float16", "float32"] = "float16"
    codec: Literal["none", "zstd"] = "none"
    dtype_compute: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False
    part_clips: int | None = None
    workers: int | None = None
    shard: Shard = field(default_factory=Shard)
    limit: int | None = None
    retry_failed: bool = False
    landmarker: Path | None = None
    silent_seconds: float = 120.0
    views: ViewSettings = field(default_factory=ViewSettings)


@dataclass
class Spent:
    """Seconds on the clock by what they went to.

    decode, landmarks, crop: of the processes that read clips, added up over all of them; a clip that could not be read
        to its end does not count.
    encode, write: of the process that runs the encoders, beside them; writing includes checksums and fsync.
    media: not spent, but read: seconds of pictures or sound, whichever lasted longer in a clip.
    workers: how many processes read clips.
    """

    decode: float = 0.0
    landmarks: float = 0.0
    crop: float = 0.0
    encode: float = 0.0
    write: float = 0.0
    media: float = 0.0
    workers: int = 0


@dataclass
class Report:
    """What a run came to.

    clips: clips of this run that came to an end, with rows or without.
    failures: for each feature how many clips failed, by kind.
    parts, parts_left: parts that this run did, and those of its share that it did not come to.
    stopped: whether it was asked to stop before the end.
    """

    clips: int = 0
    failures: dict[str, dict[str, int]] = field(default_factory=dict)
    parts: int = 0
    parts_left: int = 0
    stopped: bool = False
    seconds: float = 0.0
    spent: Spent = field(default_factory=Spent)

    @property
    def failed(self) -> int:
        """How many rows of this run are failures."""
        return sum(sum(kinds.values()) for kinds in self.failures.values())
