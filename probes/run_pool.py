"""Tasks in processes of their own: as many at once as are asked for and as their memory allows."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from avfeat.errors import ProbeError
from probes.run_plan import Task
from probes.run_work import Outcome, serve


@dataclass(frozen=True)
class Ended:
    """A task's process is gone: exit code 0 when it did all, negative when a signal ended it."""

    code: int


CONTEXT = multiprocessing.get_context("forkserver")
"""Fresh processes that have the libraries loaded already, and no thread and no open file of ours."""

MEMORY_SHARE = 0.8
"""So much of the memory may be filled with frames."""


def outcomes(
    tasks: Sequence[Task], jobs: int, memory_bytes: int | None = None
) -> Iterator[tuple[Task, Outcome | Ended]]:
    """Do the tasks, yield what came of their fits and tests as it comes, and last of each task that it has ended.

    A task whose process dies leaves outcomes out; those that it wrote stand. Leaving the generator ends all processes.

    Args:
        tasks: the first ones begin first.
        jobs: processes at once.
        memory_bytes: what the frames of all running tasks may take; a larger task runs alone, and reads its frames
            from disk in windows. None: most of what is free, and of what the machine has.

    Raises:
        ProbeError: ``jobs`` is below 1.
    """
    if jobs < 1:
        raise ProbeError(f"At least one job is needed, not {jobs}.")
    limit = memory_bytes or round(memory("MemAvailable") * MEMORY_SHARE)
    # Reading from disk may move the last digit of a number, so whether it is done must not depend on what else runs.
    most = memory_bytes or round(memory("MemTotal") * MEMORY_SHARE)
    CONTEXT.set_forkserver_preload(["probes.run_work"])
    waiting = list(tasks)
    running: dict[Connection, tuple[BaseProcess, Task]] = {}
    try:
        while waiting or running:
            while len(running) < jobs and (task := _next(waiting, [task for _, task in running.values()], limit)):
                waiting.remove(task)
                channel, process = _start(task, most)
                running[channel] = process, task
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                process, task = running[ready]
                try:
                    yield task, ready.recv()
                except EOFError:
                    del running[ready]
                    process.join()
                    yield task, Ended(process.exitcode or 0)
    finally:
        for process, _ in running.values():
            process.kill()
            process.join()


def _next(waiting: Sequence[Task], running: Sequence[Task], limit: int) -> Task | None:
    """Return the first task that fits beside those that run; when none run the first, however large."""
    used = sum(task.load_bytes for task in running)
    fitting = (task for task in waiting if used + task.load_bytes <= limit)
    return next(fitting, waiting[0] if waiting and not running else None)


def _start(task: Task, most: int) -> tuple[Connection, BaseProcess]:
    """Start the process of a task, and return our end of its connection."""
    ours, theirs = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=serve, args=(theirs, task, most), daemon=True)
    process.start()
    theirs.close()
    return ours, process


def memory(kind: str) -> int:
    """Return how many bytes of memory there are: ``MemTotal``, or ``MemAvailable`` without pushing others out.

    Raises:
        ProbeError: the system does not say.
    """
    told = Path("/proc/meminfo")
    for line in told.read_text().splitlines() if told.is_file() else ():
        name, _, rest = line.partition(":")
        if name == kind:
            return int(rest.split()[0]) * 1024
    raise ProbeError("This system does not say how much memory it has: give the limit, --memory GB.")
