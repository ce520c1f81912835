"""Tasks in processes: bounded by memory, surviving the death of one, and the command over them."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from avfeat.errors import ProbeError
from probes.cli import app
from probes.protocol import read_protocol
from probes.results import read_results
from probes.run import run
from probes.run_book import Book
from probes.run_inputs import Inputs, code_digest, imported
from probes.run_plan import plan, tasks
from probes.run_pool import Ended, memory, outcomes
from tests.running import FITS, PROTOCOL, TESTS, make_store, write_protocol


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("pool"))


@pytest.fixture
def planned(store, tmp_path):
    wanted = plan(read_protocol(write_protocol(tmp_path)), Inputs([store]))
    return wanted, tasks(wanted, [store], tmp_path / "out", "cpu")


def test_tasks_are_by_features_and_know_the_memory_of_the_largest_sets_they_hold_at_once(planned):
    _, left = planned
    assert [task.features for task in left] == [("one", "two"), ("one",), ("two",)]
    assert (sum(len(task.fits) for task in left), sum(len(task.tests) for task in left)) == (FITS, TESTS)
    single = next(task for task in left if task.features == ("one",))
    rows = {}
    for name in ("near", "far"):
        from probes.loading import Choice, Source

        source = Source(single.stores, ["one"])
        rows[name] = sum(len(source.load(Choice(name, split)).data.frames) for split in ("train", "val"))
    # 6 numbers of 2 bytes and a norm of 4 for each row.
    assert single.load_bytes == max(rows.values()) * 16


@pytest.mark.parametrize(("bytes_", "at_once"), [(1, 1), (None, 2)])
def test_processes_run_side_by_side_as_far_as_their_memory_allows(planned, bytes_, at_once):
    _, left = planned
    most = 0
    for _, outcome in outcomes(left, 2, bytes_):
        running = len(multiprocessing.active_children())
        most = max(most, running)
        assert running <= 2
        assert isinstance(outcome, Ended) or not outcome.error
    assert most == at_once


def test_a_process_that_dies_leaves_gaps_that_say_so_and_the_next_run_fills_them(planned, store, tmp_path):
    wanted, left = planned
    book = Book(tmp_path / "out", wanted)
    lost = 0
    for task, outcome in outcomes(left, 1):
        if isinstance(outcome, Ended):
            lost += book.ended(task, outcome)
            continue
        book.note(task, outcome)
        if lost == 0 and task is left[0]:
            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGKILL)
    assert 0 < lost < FITS + TESTS
    gaps = book.close().gaps
    assert gaps and {cell.row for cell in gaps} == {"both"}
    assert "The process that worked on one + two died (signal 9, perhaps for lack of memory)" in gaps[0].reasons[0]
    report = run([write_protocol(tmp_path)], [store], tmp_path / "out")
    assert (report.filled, report.gaps) == (12, [])
    assert report.fits + report.tests <= lost


def test_at_least_one_job_is_needed_and_the_free_memory_is_known(planned):
    with pytest.raises(ProbeError, match="At least one job"):
        next(outcomes(planned[1], 0))
    assert 1 << 20 < memory("MemAvailable") < memory("MemTotal")


def test_the_command_fills_the_grid_and_prints_it(store, tmp_path):
    protocol, out = write_protocol(tmp_path), tmp_path / "out"
    done = CliRunner().invoke(app, ["run", str(protocol), "--stores", str(store), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "small: 12 of 12 cells filled" in done.stdout
    assert f"{FITS} fits and {TESTS} tests made now, 12 cells measured" in done.stdout
    shown = CliRunner().invoke(app, ["table", str(protocol), "--out", str(out)])
    assert shown.exit_code == 0
    assert shown.stdout.rstrip() == (out / "tables" / "small.md").read_text().rstrip()


def test_the_command_ends_with_3_and_says_what_is_missing_how_often(store, tmp_path):
    protocol = write_protocol(tmp_path, PROTOCOL.replace("{manifest: far}", "{manifest: afar}"))
    arguments = ["run", str(protocol), "--stores", str(store), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 3
    assert "small: 3 of 12 cells filled\n  9 empty: The store has no manifest 'afar'; it has far-" in done.stdout
    facts = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert (facts["filled"], facts["gaps"], facts["fits"], len(facts["cells"])) == (3, 9, 0, 12)


def test_a_wrong_name_or_folder_is_one_line_and_exit_code_1(store, tmp_path):
    for arguments, said in (
        (["run", "tabel2", "--stores", str(store)], "did you mean table2?"),
        (["run", "table2", "--stores", str(tmp_path)], "is not an avfeat store"),
        (["table", "table9"], "There is no protocol 'table9'"),
    ):
        done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
        assert done.exit_code == 1
        assert said in done.stderr and done.stderr.count("\n") == 1
    listed = CliRunner().invoke(app, ["protocols"]).stdout
    assert "table2" in listed and "14 by 10" in listed


def test_ctrl_c_stops_a_run_with_one_line_and_keeps_what_was_made(store, tmp_path):
    slow = PROTOCOL.replace("solver: lbfgs, steps: 20", "solver: adam, steps: 100000, patience: 100000")
    # Sets come in the order of their names: the fit on far is done soon, the one on near never.
    slow = slow.replace("far, test: near, probe: plain", "far, test: near, probe: quick")
    slow = slow.replace("probes:\n", "probes:\n  quick: {settings: {steps: 5}}\n")
    protocol, out = write_protocol(tmp_path, slow), tmp_path / "out"
    command = [sys.executable, "-m", "probes", "run", str(protocol), "--stores", str(store), "--out", str(out)]
    job = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until = time.monotonic() + 120
    while not list(out.glob("probes/*.safetensors")) and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(job.pid, signal.SIGINT)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 1
    assert errors.splitlines()[-1] == "Stopped: what was made is kept, the same command goes on."
    assert list(out.glob("probes/*.safetensors")) and not read_results(out).cells


def test_the_code_that_a_number_depends_on_is_all_that_its_fit_imports_and_no_page_or_table():
    names = set(dict(imported(["probes.loading", "probes.run_fit", "probes.heads.linear"])))
    assert {
        "probes.lbfgs",
        "probes.adam",
        "probes.objective",
        "probes.pooling",
        "probes.align",
        "probes.subsets",
    } <= names
    assert not {"probes.cli", "probes.protocol", "probes.results", "probes.run", "probes.tables.grid"} & names
    assert code_digest("probes.pooling") != code_digest("probes.pooling", "probes.adam")
