"""One task in a process of its own: load a set once, fit and test all that reads it, write each result when it is made.

One thread to a process: sums are then added in one order, so that a number depends neither on how many cores there are
nor on what else was running.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing import connection, parent_process

import numpy as np
import torch
from numpy.typing import NDArray

from avfeat.errors import AvfeatError
from probes.loading import Loaded, Source
from probes.probe_file import load_probe
from probes.results import Scores, probe_path, write_scores
from probes.run_fit import fit_probes, load, score_clips
from probes.run_plan import Fit, Task, Trial


@dataclass(frozen=True)
class Outcome:
    """A fit or a test, by its digest, is written; or could not be made, and why."""

    digest: str
    error: str = ""


Tell = Callable[[Outcome], None]


def serve(channel: connection.Connection, task: Task, memory_bytes: int) -> None:
    """Do a task and send its outcomes; the main function of the process."""
    # Ctrl-C reaches the whole process group; only the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    work(task, memory_bytes, channel.send)


def work(task: Task, memory_bytes: int, tell: Tell) -> None:
    """Make the fits and then the tests of a task; what fails is told, and what needs it left out.

    memory_bytes: where the frames would take more, they stay on disk.
    """
    source = Source(task.stores, task.features, memory_bytes if task.load_bytes > memory_bytes else None)
    for fits in task.fits_by_set():
        _fit_all(task, source, fits, tell)
    for tests in task.tests_by_set():
        _test_all(task, source, tests, tell)


def _fit_all(task: Task, source: Source, fits: tuple[Fit, ...], tell: Tell) -> None:
    """Fit what learns from the same clips."""
    try:
        train, *rest = [load(source, each.choice, each.shuffle).data.to(task.device) for each in fits[0].sets]
    except AvfeatError as error:
        for fit in fits:
            tell(Outcome(fit.digest, str(error)))
        return
    attributes = source.attributes(fits[0].train.choice.manifest)
    for fit in fits:
        try:
            how = fit.recipe
            made = fit_probes(how.head, how.settings, how.seeds, train, rest[0] if rest else None, how.share)
            facts = {"attributes": attributes, "recipe": asdict(how), "train": str(fit.train.choice)}
            for seed, probe in zip(how.seeds, made, strict=True):
                probe.save(probe_path(task.out, fit.digest, seed), facts)
        except AvfeatError as error:
            tell(Outcome(fit.digest, str(error)))
        else:
            tell(Outcome(fit.digest))


def _test_all(task: Task, source: Source, tests: tuple[Trial, ...], tell: Tell) -> None:
    """Test on the same clips every probe that is there."""
    ready = [test for test in tests if test.fit.is_done(task.out)]
    for test in tests:
        if test not in ready:
            tell(Outcome(test.digest, "its probe could not be fitted."))
    if not ready:
        return
    try:
        loaded = load(source, ready[0].test.choice, ready[0].test.shuffle)
        loaded.data.check_labels(f"Test set {loaded.choice}")
    except AvfeatError as error:
        for test in ready:
            tell(Outcome(test.digest, str(error)))
        return
    data = loaded.data.to(task.device)
    for test in ready:
        try:
            # As they were written, so that a run that goes on after a kill has the very same probes.
            probes = [load_probe(probe_path(task.out, test.fit.digest, seed)) for seed in test.fit.recipe.seeds]
            _write(task, test, loaded, score_clips(probes, data))
        except AvfeatError as error:
            tell(Outcome(test.digest, str(error)))
        else:
            tell(Outcome(test.digest))


def _write(task: Task, test: Trial, loaded: Loaded, by_seed: NDArray[np.float64]) -> None:
    scores = Scores(loaded.data.clip_ids, loaded.data.labels.numpy(), by_seed)
    notes = {
        "test": str(loaded.choice),
        "manifest": loaded.key,
        "features": " + ".join(task.features),
        "left_out": str(loaded.count) if loaded.count.left_out else "",
    }
    write_scores(task.out, test.digest, test.fit.recipe.seeds, scores, notes)


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
