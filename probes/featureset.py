"""The frames of many clips end to end in memory, each divided by its length, with the labels of the clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, chain, pairwise, repeat
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avfeat.errors import LengthError, ProbeError
from probes.on_disk import Piece, RowFile, as_one, copied
from probes.ragged import Span, cut

UNKNOWN = -1
"""The label of a clip of which nobody says whether it is real (0) or fake (1)."""

BLOCK_BYTES = 1 << 20
"""Float32 bytes of one block on a processor: small enough to be still in its cache when it is read a second time."""


@dataclass(frozen=True)
class FeatureSet:
    """Ragged frames of one or several features.

    frames: float16 or float32 [rows, width] as stored; several features stand side by side.
    inverse_norms: float32 [rows, features], 1 / L2 norm of each feature's part of each row; 0 where the norm is 0.
    offsets: int64 [clips + 1], where each clip begins.
    labels: int64 [clips], 0 real, 1 fake, -1 unknown.
    widths: width of each feature, in the order of ``features``.
    file: where the frames are when they are on disk; then ``frames`` is its mapping, in the processor's memory.
    """

    frames: Tensor
    inverse_norms: Tensor
    offsets: Tensor
    labels: Tensor
    clip_ids: tuple[str, ...]
    features: tuple[str, ...]
    widths: tuple[int, ...]
    file: RowFile | None = None

    @classmethod
    def from_arrays(
        cls,
        arrays: Sequence[NDArray[Any] | Tensor],
        labels: Sequence[int] | NDArray[Any] | None = None,
        clip_ids: Sequence[str] | None = None,
        features: Sequence[str] = ("feature",),
        widths: Sequence[int] | None = None,
    ) -> FeatureSet:
        """Put [frames, width] arrays, one for each clip, end to end; float16 stays so, all else becomes float32.

        Raises:
            ProbeError: no clip, an empty clip, unequal widths, a value that is not finite, a label besides 0 and 1.
            LengthError: not one label for each clip.
        """
        ids = tuple(clip_ids) if clip_ids is not None else tuple(f"clip {k}" for k in range(len(arrays)))
        rows = [_as_rows(array, clip_id) for array, clip_id in zip(arrays, ids, strict=True)]
        if not rows:
            raise ProbeError("There is no clip to work on.")
        kinds = {part.shape[1]: clip_id for part, clip_id in zip(rows, ids, strict=True)}
        if len(kinds) > 1:
            found = ", ".join(f"{width} (e.g. {clip_id})" for width, clip_id in kinds.items())
            raise ProbeError(f"The clips have frames of unequal width: {found}.")
        dtype = torch.float16 if all(part.dtype == torch.float16 for part in rows) else torch.float32
        frames = torch.cat([part.to(dtype) for part in rows])
        lengths = [len(part) for part in rows]
        return cls.from_frames(frames, np.cumsum([0, *lengths]), labels, ids, features, widths)

    @classmethod
    def from_frames(
        cls,
        frames: NDArray[Any] | Tensor,
        offsets: NDArray[Any] | Tensor,
        labels: Sequence[int] | NDArray[Any] | None = None,
        clip_ids: Sequence[str] | None = None,
        features: Sequence[str] = ("feature",),
        widths: Sequence[int] | None = None,
        file: RowFile | None = None,
    ) -> FeatureSet:
        """Take frames [rows, width] that already lie end to end; float16 and float32 are not copied.

        file: of which the frames are the mapping, when they are on disk.

        Raises:
            ProbeError: no clip, an empty clip, a value that is not finite, a label besides 0 and 1.
            LengthError: not one label for each clip, or offsets that do not fit the frames.
        """
        frames, offsets = torch.as_tensor(frames).contiguous(), torch.as_tensor(offsets, dtype=torch.int64)
        frames = frames if frames.dtype == torch.float16 else frames.float()
        count = len(offsets) - 1
        ids = tuple(clip_ids) if clip_ids is not None else tuple(f"clip {k}" for k in range(count))
        widths = tuple(widths) if widths is not None else (frames.shape[1],)
        if count < 1:
            raise ProbeError("There is no clip to work on.")
        if int(offsets[-1]) != len(frames) or len(ids) != count:
            raise LengthError(f"Offsets end at row {int(offsets[-1])} of {len(frames)}, {len(ids)} clips of {count}.")
        if sum(widths) != frames.shape[1]:
            raise ProbeError(f"Frames are {frames.shape[1]} wide, {' + '.join(features)} needs {sum(widths)}.")
        empty = (offsets.diff() < 1).nonzero()
        if len(empty):
            raise ProbeError(f"Clip {ids[int(empty[0])]} has no frames, so it cannot have a score: leave it out.")
        norms = inverse_norms(frames, widths, file)
        bad = (~norms.isfinite()).any(1).nonzero()
        if len(bad):
            clip = int(torch.searchsorted(offsets, bad[0], right=True)) - 1
            raise ProbeError(f"Clip {ids[clip]} has a value that is not finite in frame {int(bad[0] - offsets[clip])}.")
        return cls(frames, norms, offsets, _as_labels(labels, count), ids, tuple(features), widths, file)

    def __len__(self) -> int:
        return len(self.clip_ids)

    def __getitem__(self, clip: int) -> Tensor:
        """Rows of one clip as stored, [frames, width]."""
        if not -len(self) <= clip < len(self):
            raise IndexError(clip)
        clip %= len(self)
        return self.frames[self.offsets[clip] : self.offsets[clip + 1]]

    @property
    def width(self) -> int:
        """Width of a row, all features together."""
        return sum(self.widths)

    @property
    def device(self) -> torch.device:
        """Where the frames are, or, one block at a time, go to from the disk."""
        return self.labels.device

    @cached_property
    def columns(self) -> tuple[slice, ...]:
        """The columns of each feature."""
        return _columns(self.widths)

    @cached_property
    def spans(self) -> list[Span]:
        """The clips in blocks of about BLOCK_BYTES; on a GPU 32 times as much."""
        size = BLOCK_BYTES * (32 if self.device.type == "cuda" else 1)
        return cut(self.offsets, max(64, size // (4 * self.width)))

    def runs(self, count: int) -> list[list[Span]]:
        """Return the spans as at most ``count`` runs of about equally many rows."""
        ends = torch.tensor([span.stop for span in self.spans])
        cuts = torch.searchsorted(ends, torch.arange(1, count) * int(ends[-1]) / count).tolist()
        edges = sorted({0, *cuts, len(self.spans)})
        return [self.spans[start:stop] for start, stop in pairwise(edges)]

    def windows(
        self, pieces: Sequence[Piece], rows: Callable[[Piece], Sequence[slice]] = as_one
    ) -> Iterator[Sequence[Piece]]:
        """Yield pieces in groups, whose rows are held in memory until the next step: all at once when they are there.

        rows: of a piece; without it a piece is what begins at ``start`` and ends before ``stop``.
        """
        return iter([pieces]) if self.file is None else self.file.windows(pieces, rows)

    def clip_windows(self, order: Sequence[int]) -> Iterator[Sequence[int]]:
        """Yield clips in groups, as ``windows`` does."""
        starts = self.offsets.tolist()
        return self.windows(order, lambda clip: [slice(starts[clip], starts[clip + 1])])

    def blocks(self, spans: Sequence[Span]) -> Iterator[tuple[Span, Tensor, Tensor]]:
        """Yield each of ``spans`` with its rows in float32 [rows, width] and their inverse norms [rows, features].

        The rows share one buffer: use them before the next step.
        """
        to_float = self._converter(max(span.rows for span in spans))
        for span in chain.from_iterable(self.windows(spans)):
            rows = slice(span.start, span.stop)
            yield span, to_float(self.frames[rows]), self.inverse_norms[rows]

    def clips(self, order: Iterable[int]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield clips in this order: number, rows in float32 [frames, width], inverse norms [frames, features].

        The rows share one buffer: use them before the next step.
        """
        starts = self.offsets.tolist()
        to_float = self._converter(int(self.offsets.diff().max()))
        for clip in chain.from_iterable(self.clip_windows(list(order))):
            rows = slice(starts[clip], starts[clip + 1])
            yield clip, to_float(self.frames[rows]), self.inverse_norms[rows]

    def _converter(self, longest: int) -> Callable[[Tensor], Tensor]:
        """Return a function from rows as stored to float32 rows on our device, in one buffer when they are not."""
        if (self.frames.dtype, self.frames.device) == (torch.float32, self.device):
            return lambda rows: rows
        buffer = torch.empty(longest, self.width, device=self.device)
        return lambda rows: buffer[: len(rows)].copy_(rows)

    def select(self, clips: Sequence[int] | NDArray[Any] | Tensor, skipped: Sequence[int] | None = None) -> FeatureSet:
        """Return a set of these clips, in this order: a copy, on disk where this set is there.

        skipped: so many frames at the beginning of each are left out, fewer than it has; none by default.

        Raises:
            ProbeError: there is no room on the disk.
        """
        chosen = torch.as_tensor(clips, dtype=torch.int64).tolist()
        starts = self.offsets.tolist()
        runs = [slice(starts[k] + skip, starts[k + 1]) for k, skip in zip(chosen, skipped or repeat(0), strict=False)]
        frames, file = copied(self.frames, self.file, runs)
        ends = list(accumulate((run.stop - run.start for run in runs), initial=0))
        return replace(
            self,
            frames=frames,
            inverse_norms=torch.cat([self.inverse_norms[run] for run in runs]),
            offsets=self.offsets.new_tensor(ends),
            labels=self.labels[chosen],
            clip_ids=tuple(self.clip_ids[k] for k in chosen),
            file=file,
        )

    def with_labels(self, labels: Sequence[int] | NDArray[Any]) -> FeatureSet:
        """Return the same frames with these labels.

        Raises:
            ProbeError: a label besides 0, 1 and -1.
            LengthError: not one label for each clip.
        """
        return replace(self, labels=_as_labels(labels, len(self)).to(self.device))

    def to(self, device: str | torch.device) -> FeatureSet:
        """Return the same set on ``device``; frames on disk stay there, and go to it block by block."""
        if self.device == torch.device(device):
            return self
        return replace(
            self,
            frames=self.frames if self.file else self.frames.to(device),
            inverse_norms=self.inverse_norms.to(device),
            offsets=self.offsets.to(device),
            labels=self.labels.to(device),
        )

    def check_labels(self, purpose: str) -> None:
        """Refuse a set that cannot teach or test a difference.

        Raises:
            ProbeError: a clip of unknown label, or clips of one class only.
        """
        unknown = (self.labels == UNKNOWN).nonzero()
        if len(unknown):
            raise ProbeError(
                f"{purpose}: clip {self.clip_ids[int(unknown[0])]} has no label ({len(unknown)} such clips)."
            )
        if bool((self.labels == self.labels[0]).all()):
            kind = "fake" if int(self.labels[0]) else "real"
            raise ProbeError(f"{purpose}: all {len(self)} clips are {kind}; both real and fake clips are needed.")


def check_features(data: FeatureSet, features: Sequence[str], widths: Sequence[int], what: str) -> None:
    """Refuse frames that a probe of these features cannot read.

    Raises:
        ProbeError: other features, or the same of another width; the message has both.
    """
    if (data.features, data.widths) != (tuple(features), tuple(widths)):
        found, needed = _describe(data.features, data.widths), _describe(features, widths)
        raise ProbeError(f"{what}: frames are {found}, but the probe reads {needed}.")


def inverse_norms(frames: Tensor, widths: Sequence[int], file: RowFile | None = None) -> Tensor:
    """Return 1 / L2 norm of each feature's part of each row, float32 [rows, features]; 0 for a row of zeros.

    A row with a value that is not finite gives NaN.
    """
    norms = frames.new_empty(len(frames), len(widths), dtype=torch.float32)
    step = max(1, BLOCK_BYTES // (4 * frames.shape[1]))
    blocks = [slice(start, min(len(frames), start + step)) for start in range(0, len(frames), step)]
    for rows in blocks if file is None else chain.from_iterable(file.windows(blocks)):
        block = frames[rows].float()
        for k, part in enumerate(_columns(widths)):
            norms[rows, k] = torch.linalg.vector_norm(block[:, part], dim=1)
    inverse = norms.reciprocal()
    inverse[norms == 0] = 0.0
    inverse[~norms.isfinite()] = torch.nan
    return inverse


def _describe(features: Sequence[str], widths: Sequence[int]) -> str:
    """``logmel (104 wide) + xlsr-2b (3840 wide)``."""
    return " + ".join(f"{name} ({width} wide)" for name, width in zip(features, widths, strict=True))


def _columns(widths: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(end - width, end) for end, width in zip(accumulate(widths), widths, strict=True))


def _as_rows(array: NDArray[Any] | Tensor, clip_id: str) -> Tensor:
    # PyTorch warns of arrays that it could not write to, as the store gives them; here they are copied anyhow.
    locked = isinstance(array, np.ndarray) and not array.flags.writeable
    rows = torch.as_tensor(np.array(array) if locked else array)
    if rows.ndim != 2:
        raise ProbeError(f"Clip {clip_id}: frames must be an array [frames, width], this one is {tuple(rows.shape)}.")
    return rows


def _as_labels(labels: Sequence[int] | NDArray[Any] | Tensor | None, count: int) -> Tensor:
    if labels is None:
        return torch.full((count,), UNKNOWN)
    given = torch.as_tensor(np.asarray(labels))
    found = given.to(torch.int64)
    if len(found) != count:
        raise LengthError(f"{count} clips but {len(found)} labels.")
    if not bool(((found == given) & (found >= UNKNOWN) & (found <= 1)).all()):
        raise ProbeError("Labels must be 0 (real), 1 (fake) or -1 (unknown).")
    return found
