"""Run protocols: fit and test what is not there yet, measure every cell, keep it all in one folder.

Whatever is made is a file named by a digest of all that it depends on, written whole or not at all. So a run that is
killed anywhere goes on where it was, an edit makes again what depends on it and nothing else, and results of different
inputs never meet.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from avfeat.errors import ProbeError
from avfeat.progress import Progress
from probes.protocol import Protocol, read_protocol
from probes.run_book import Book, Report
from probes.run_inputs import Inputs
from probes.run_plan import Task, plan, tasks
from probes.run_pool import outcomes
from probes.run_work import Outcome


def run(
    protocols: Sequence[str | Path | Protocol],
    stores: Sequence[Path],
    out: Path,
    *,
    jobs: int = 1,
    device: str = "cpu",
    memory_bytes: int | None = None,
) -> Report:
    """Fill every cell of the protocols that can be filled; ``read_results(out)`` has them then.

    Args:
        protocols: names, files, or protocols that were read already.
        stores: where the features are.
        out: the folder of the results; those of other protocols stay.
        jobs: processes at once.
        device: cpu or cuda:N, of the probes; numbers of one kind of device do not stand for the other's.
        memory_bytes: what the frames of all processes may take; None: most of what is free.

    Raises:
        ProtocolError: a protocol is not there, or its file is wrong.
        StoreError: a folder is no store.
        ProbeError: another run is at work in ``out``, or nothing can be written there.
    """
    read = [each if isinstance(each, Protocol) else read_protocol(each) for each in protocols]
    stores = tuple(Path(store).resolve() for store in stores)
    out = Path(out).resolve()
    with _alone(out):
        inputs = Inputs(stores)
        wanted = [cell for protocol in read for cell in plan(protocol, inputs, device)]
        book = Book(out, wanted)
        left = tasks(wanted, stores, out, device)
        _work(left, jobs, memory_bytes, book)
        return book.close()


def _work(left: Sequence[Task], jobs: int, memory_bytes: int | None, book: Book) -> None:
    """Do all tasks, and write results whenever one has ended."""
    with Progress(sum(len(task.fits) + len(task.tests) for task in left), "fits and tests") as progress:
        for task, outcome in outcomes(left, jobs, memory_bytes):
            if isinstance(outcome, Outcome):
                book.note(task, outcome)
                progress.advance(done=not outcome.error, failed=bool(outcome.error))
                continue
            lost = book.ended(task, outcome)
            progress.advance(done=0, failed=lost)
            book.write()


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep other runs out of a folder, however this one ends; and remove what killed ones left half written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / ".lock").open("w")
    except OSError as error:
        raise ProbeError(f"Nothing can be written to {out}: {error.strerror}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ProbeError(f"Another probes run is at work in {out}: wait for it, or name another --out.") from None
        for left in out.rglob(".*.part"):
            left.unlink(missing_ok=True)
        yield
