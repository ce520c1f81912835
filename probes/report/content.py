"""What a page holds, as plain data: tables, figures, audits, clips with their frame scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfeat.previews import Preview

Segment = tuple[float, float]


@dataclass(frozen=True)
class Number:
    """One cell of a table.

    value: what the column is sorted by; None where the cell could not be filled.
    text: what is shown; small: a line below it.
    note: shown when the cell is pointed at or focused, e.g. why it is empty.
    best: no other of its column is better. grey: it does not count.
    """

    value: float | None
    text: str
    small: str = ""
    note: str = ""
    best: bool = False
    grey: bool = False


@dataclass(frozen=True)
class Column:
    """One column of numbers.

    out_of_domain: tested on another dataset than trained on; None for columns that are neither, as a mean.
    """

    name: str
    out_of_domain: bool | None = None


@dataclass(frozen=True)
class Table:
    """Rows of numbers under named columns.

    heads: names of the columns of words that come first.
    rows: for each row its words, then its numbers, one for each of ``columns``.
    notes: sentences below the table. missing: what empty cells lack, each once.
    """

    title: str
    heads: Sequence[str]
    columns: Sequence[Column]
    rows: Sequence[tuple[Sequence[str], Sequence[Number]]]
    notes: Sequence[str] = ()
    missing: Sequence[str] = ()

    @property
    def filled(self) -> int:
        """How many cells have a number."""
        return sum(number.value is not None for _, numbers in self.rows for number in numbers)


@dataclass(frozen=True)
class Picture:
    """A figure: the bytes of an SVG or PNG, and what it shows in words for those who do not see it."""

    title: str
    data: bytes
    kind: str
    words: str


@dataclass(frozen=True)
class Line:
    """One feature's frame scores, float [frames], at ``first_seconds + k * step_seconds``.

    threshold: the score from which on a clip is called fake; the drawing has it in the middle of fake and real.
    """

    feature: str
    scores: NDArray[np.float32]
    first_seconds: float
    step_seconds: float
    threshold: float = 0.0

    @property
    def times(self) -> NDArray[np.float64]:
        """Seconds of each frame, float64 [frames]."""
        numbers = np.arange(len(self.scores), dtype=np.float64)
        return self.first_seconds + self.step_seconds * numbers

    @property
    def beyond(self) -> NDArray[np.float64]:
        """Scores less the threshold, float64 [frames]."""
        return self.scores.astype(np.float64) - self.threshold


@dataclass(frozen=True)
class ShownClip:
    """One clip with its player.

    verdict: sentences beside it, e.g. label and scores.
    segments: for each kind of manipulation its fake stretches in seconds.
    preview: None where the media could not be read; ``missing`` then says why.
    """

    clip_id: str
    verdict: Sequence[str]
    lines: Sequence[Line]
    segments: Mapping[str, Sequence[Segment]] = field(default_factory=dict)
    preview: Preview | None = None
    missing: str = ""

    @property
    def seconds(self) -> float:
        """Length of the time axis."""
        ends = [line.first_seconds + line.step_seconds * (len(line.scores) - 0.5) for line in self.lines]
        return max([*ends, self.preview.seconds if self.preview else 0.0, 0.04])


@dataclass(frozen=True)
class Facts:
    """What was found of one dataset: a title, short rows of name and text, and a word on how grave each is."""

    title: str
    rows: Sequence[tuple[str, str, str]]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Page:
    """The whole page; what is empty is left out.

    summary: sentences at the top.
    warning: a sentence that must be read, in a box.
    """

    title: str
    summary: Sequence[str] = ()
    warning: str = ""
    tables: Sequence[Table] = ()
    figures: Sequence[Picture] = ()
    audits: Sequence[Facts] = ()
    clips: Sequence[ShownClip] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
