"""How far a long job is: a bar on a terminal, a line now and then anywhere else; always on stderr."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

_SAMPLES = 60
_SAMPLE_SECONDS = 1.0


class Progress:
    """Counts what is done, failed and left, with throughput and time to go.

    Throughput is that of the last minute, or of the last 60 advances where these took longer. Any thread may advance.
    A line reads ``done 8 214  failed 12  left 1 774  3.1 clips/s  0:41 to go``.

    Args:
        total: how many units there are; failed ones count.
        unit: what is counted, in the plural.
        stream: where to write, stderr when None; a bar is drawn when it is a terminal.
        every_seconds: least time between two lines when it is not.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        total: int,
        unit: str = "clips",
        *,
        stream: TextIO | None = None,
        every_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.total = total
        self.done = 0
        self.failed = 0
        self._unit = unit
        self._stream = sys.stderr if stream is None else stream
        self._every_seconds = every_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._samples: deque[tuple[float, int]] = deque([(clock(), 0)], maxlen=_SAMPLES)
        self._last_line_seconds = clock()
        self._written = ""
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Progress:
        if self._stream.isatty() and os.environ.get("TERM") != "dumb":
            self._bar, self._task = _bar(self._stream, self.total)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._show(last=True)
            if self._bar is not None:
                self._bar.stop()

    def advance(self, done: int = 1, failed: int = 0) -> None:
        """Count units that were done, and others that failed: for one failed unit, ``advance(done=0, failed=1)``."""
        with self._lock:
            self.done += done
            self.failed += failed
            now = self._clock()
            if now - self._samples[-1][0] >= _SAMPLE_SECONDS:
                self._samples.append((now, self.done + self.failed))
            self._show()

    def line(self) -> str:
        """Return where the job is, in words."""
        left = max(self.total - self.done - self.failed, 0)
        words = [f"done {_spaced(self.done)}", f"failed {_spaced(self.failed)}", f"left {_spaced(left)}"]
        start_seconds, start_count = self._samples[0]
        passed = self._clock() - start_seconds
        moved = self.done + self.failed - start_count
        if passed > 0 and moved > 0:
            words.append(_rate(moved / passed, self._unit))
            if left:
                words.append(f"{duration(left * passed / moved)} to go")
        return "  ".join(words)

    def _show(self, last: bool = False) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.done + self.failed, line=self.line())
            return
        now = self._clock()
        if self.total == 0:
            return
        if not last and now - self._last_line_seconds < self._every_seconds:
            return
        line = self.line()
        if line != self._written:
            print(line, file=self._stream, flush=True)
        self._written = line
        self._last_line_seconds = now


def duration(seconds: float) -> str:
    """Return a time in minutes and seconds, ``0:41``, or hours, minutes and seconds, ``26:01:05``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _bar(stream: TextIO, total: int) -> tuple[Bar, TaskID]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    bar = Progress(
        BarColumn(bar_width=16), TextColumn("{task.fields[line]}"), console=Console(file=stream), redirect_stdout=False
    )
    return bar, bar.add_task("", total=total, line="")


def _rate(per_second: float, unit: str) -> str:
    """Return a throughput in the first of s, min, h that shows at least one unit in two of them."""
    for name, seconds in (("s", 1), ("min", 60)):
        if per_second * seconds >= 0.5:
            return f"{per_second * seconds:.1f} {unit}/{name}"
    return f"{per_second * 3600:.1f} {unit}/h"


def _spaced(count: int) -> str:
    return f"{count:,}".replace(",", " ")
