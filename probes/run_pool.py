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
"""Of the memory that is free at the start, so much may be filled with frames."""


def outcomes(
    tasks: Sequence[Task], jobs: int, memory_bytes: int | None = None
) -> Iterator[tuple[Task, Outcome | Ended]]:
    """Do the tasks, yield what came of their fits and tests as it comes, and last of each task that it has ended.

    A task whose process dies leaves outcomes out; those that it wrote stand. Leaving the generator ends all processes.

    Args:
        tasks: the first ones begin first.
        jobs: processes at once.
        memory_bytes: what the frames of all running tasks may take; a larger task runs alone. None: most of what is
            free.

    Raises:
        ProbeError: ``jobs`` is below 1.
    """
    if jobs < 1:
        raise ProbeError(f"At least one job is needed, not {jobs}.")
    limit = free_bytes() * MEMORY_SHARE if memory_bytes is None else memory_bytes
    CONTEXT.set_forkserver_preload(["probes.run_work"])
    waiting = list(tasks)
    running: dict[Connection, tuple[BaseProcess, Task]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                used = sum(task.load_bytes for _, task in running.values())
                task = next((each for each in waiting if used + each.load_bytes <= limit), None)
                if task is None and not running:
                    task = waiting[0]
                if task is None:
                    break
                waiting.remove(task)
                ours, theirs = CONTEXT.Pipe(duplex=False)
                process = CONTEXT.Process(target=serve, args=(theirs, task), daemon=True)
                process.start()
                theirs.close()
                running[ours] = process, task
            for channel in wait(list(running)):
                assert isinstance(channel, Connection)
                done, its = running[channel]
                try:
                    yield its, channel.recv()
                except EOFError:
                    del running[channel]
                    done.join()
                    yield its, Ended(done.exitcode or 0)
    finally:
        for left, _ in running.values():
            left.kill()
            left.join()


def free_bytes() -> int:
    """Return how much memory could be taken now without pushing others out."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024
    raise ProbeError("This system does not say how much memory is free: give the limit, --memory GB.")
