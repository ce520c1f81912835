"""Worker processes that read clips, kept alive and in order: they may die or hang, the job goes on."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType

from avfeat.errors import CrashError, SetupError, TimeOutError
from avfeat.produce import Broken, Ended, Failed, Job, Progress, Ready
from avfeat.views import Views

ATTEMPTS = 3
"""How often a clip is tried whose worker dies: a worker may be killed for reasons that are not the clip's."""

STARTS = 20
"""How often in a row a worker may die before it takes its first job; a few may be killed while they start."""


@dataclass(frozen=True)
class Again:
    """Forget what came of this clip: its worker died and the clip starts over."""


Message = Views | Ended | Failed | Again


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    ready: bool = False
    job: Job | None = None
    index: int = -1
    heard: float = field(default_factory=time.monotonic)


class Pool:
    """``size`` worker processes; a context manager.

    Args:
        size: how many processes, and so how many clips at once.
        landmarker: the face landmarker's model file, None to find it when it is needed.
        silent_seconds: a clip whose worker says nothing for so long is given up (``TimeOutError``).
        ahead: no clip is begun that is further than this from the oldest unfinished one, so that few wait their turn.
    """

    def __init__(self, size: int, landmarker: Path | None = None, silent_seconds: float = 120.0, ahead: int = 64):
        self._size = max(1, size)
        self._model = landmarker
        self._silent_seconds = silent_seconds
        self._ahead = ahead
        self._workers: list[_Worker] = []
        self._died_at_start = 0

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            if worker.job is not None:
                worker.process.kill()
            try:
                worker.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
        self._workers.clear()

    @property
    def process_ids(self) -> list[int]:
        """The workers' process ids."""
        return [worker.process.pid for worker in self._workers]

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Message]]:
        """Yield (index of the job, message) as messages come; each job ends with one ``Ended`` or ``Failed``.

        Raises:
            AvfeatError: this machine cannot read clips at all, e.g. the landmarker cannot start.
        """
        unstarted = list(range(len(jobs)))[::-1]
        attempts = [0] * len(jobs)
        unfinished = set(unstarted)
        while unfinished:
            self._start_workers(min(self._size, len(unfinished)))
            oldest = min(unfinished)
            for worker in self._workers:
                if worker.ready and worker.job is None and unstarted and unstarted[-1] < oldest + self._ahead:
                    self._give(worker, unstarted.pop(), jobs)
            for worker in self._listen():
                index = worker.index
                try:
                    message = worker.connection.recv()
                except (EOFError, OSError):  # OSError: it died in the middle of a message
                    code = self._bury(worker)
                    if worker.job is None:
                        self._count_start(code)
                        continue
                    attempts[index] += 1
                    if attempts[index] < ATTEMPTS:
                        unstarted.append(index)
                        yield index, Again()
                    else:
                        unfinished.discard(index)
                        yield index, Failed(CrashError(_death(jobs[index].clip_id, code)))
                    continue
                worker.heard = time.monotonic()
                if isinstance(message, Ready):
                    worker.ready = True
                    self._died_at_start = 0
                    continue
                if isinstance(message, Broken):
                    raise message.error
                if isinstance(message, Ended | Failed):
                    worker.job = None
                    unfinished.discard(index)
                if not isinstance(message, Progress):
                    yield index, message
            for worker in self._silent():
                index = worker.index
                worker.process.kill()
                self._bury(worker)
                unfinished.discard(index)
                sentence = f"{jobs[index].clip_id}: nothing came for {self._silent_seconds:g} s, so it was given up."
                yield index, Failed(TimeOutError(sentence))

    def _start_workers(self, size: int) -> None:
        while len(self._workers) < size:
            ours, theirs = socket.socketpair()
            command = [sys.executable, "-m", "avfeat.worker", str(theirs.fileno())]
            if self._model is not None:
                command.append(str(self._model))
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
            theirs.close()
            self._workers.append(_Worker(process, Connection(ours.detach())))

    def _count_start(self, code: int) -> None:
        self._died_at_start += 1
        if self._died_at_start == STARTS:
            raise SetupError(
                f"the process that reads clips ends with code {code} before it starts, {STARTS} times: "
                "try avfeat doctor, which names the part that fails."
            )

    def _give(self, worker: _Worker, index: int, jobs: Sequence[Job]) -> None:
        worker.job, worker.index, worker.heard = jobs[index], index, time.monotonic()
        try:
            worker.connection.send(jobs[index])
        except (BrokenPipeError, ConnectionResetError):
            # The worker died while idle; what it says next is EOF, and the job starts over there.
            return

    def _listen(self) -> list[_Worker]:
        busy = {worker.connection: worker for worker in self._workers if worker.job is not None or not worker.ready}
        return [busy[ready] for ready in wait(list(busy), timeout=1.0) if isinstance(ready, Connection)]

    def _silent(self) -> list[_Worker]:
        """Busy workers that said nothing for too long; one that waits for us to listen has something to say."""
        now = time.monotonic()
        return [
            worker
            for worker in self._workers
            if worker.job is not None and now - worker.heard > self._silent_seconds and not worker.connection.poll()
        ]

    def _bury(self, worker: _Worker) -> int:
        worker.connection.close()
        self._workers.remove(worker)
        return worker.process.wait()


def _death(clip_id: str, code: int) -> str:
    how = f"killed by signal {-code}" if code < 0 else f"ended with code {code}"
    why = " (9 is often the system running out of memory)" if code == -9 else ""
    return f"{clip_id}: the process reading it was {how}{why}, {ATTEMPTS} times."
