"""Running protocols over real small stores: what is made, what is shared, what an edit makes again."""

import random
import shutil
import time

import pytest

import avfeat
from avfeat.errors import NoFaceError, ProbeError
from avfeat.store import write_feature
from probes.protocol import read_protocol
from probes.results import read_results
from probes.run import run
from probes.tables.forms import FORMS
from probes.tables.grid import grid
from tests.running import (
    FITS,
    PROTOCOL,
    TESTS,
    kill_run,
    make_store,
    manifest_of,
    planted_rows,
    start_run,
    write,
    write_protocol,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def done(store, tmp_path_factory):
    """A finished run: its protocol's file, its folder, its report."""
    folder = tmp_path_factory.mktemp("done")
    protocol = write_protocol(folder)
    return protocol, folder / "out", run([protocol], [store], folder / "out")


def tables(protocol, out):
    filled = grid(read_protocol(protocol), read_results(out))
    return {ending: form(filled) for ending, form in FORMS.items()}


def inputs(out):
    return {cell.place: cell.inputs for cell in read_results(out).of("small")}


def changed(before, after):
    """The columns in which a cell has other inputs than before; it must then be all of its cells."""
    places = [place for place in after if before[place] != after[place]]
    assert len(places) == 3 * len({column for *_, column in places})
    return {column for *_, column in places}


def made(report):
    return report.fits, report.tests


def test_every_cell_is_filled_and_fits_are_shared_by_their_tests(done):
    _, _, report = done
    assert (report.filled, report.gaps, report.failed) == (12, [], 0)
    assert made(report) == (FITS, TESTS)


def test_the_numbers_are_those_of_the_scores_and_probes_that_were_kept(done, store):
    from sklearn.metrics import roc_auc_score

    from probes.loading import Choice, Source

    _, out, _ = done
    results = read_results(out)
    cell = results.cell("small", "two", "far_near")
    scores = results.scores(cell)
    assert cell.auc_of_seeds == pytest.approx([roc_auc_score(scores.labels, each) for each in scores.by_seed.T])
    assert cell.measures["auc"].value == pytest.approx(sum(cell.auc_of_seeds) / 2)
    data = Source([store], ["two"]).load(Choice("near", "test")).data
    assert data.clip_ids == scores.clip_ids
    for probe, own in zip(results.probes(cell), scores.by_seed.T, strict=True):
        assert probe.decision_function(data) == pytest.approx(own)


def test_late_fusion_is_the_mean_of_the_single_probes_scores(done):
    _, out, _ = done
    results = read_results(out)
    one, two, both = (results.scores(results.cell("small", row, "near_far")) for row in ("one", "two", "both"))
    assert both.by_seed == pytest.approx((one.by_seed + two.by_seed) / 2)


def test_a_mean_column_is_the_mean_of_its_columns(done):
    _, out, _ = done
    results = read_results(out)
    parts = [results.cell("small", "one", name).measures["auc"].value for name in ("near_far", "far_near")]
    assert results.cell("small", "one", "away").measures["auc"].value == pytest.approx(sum(parts) / 2)


def test_a_second_run_makes_nothing_and_changes_nothing(done, store):
    protocol, out, _ = done
    before = (out / "results.parquet").read_bytes()
    again = run([protocol], [store], out, jobs=2)
    assert (made(again), again.measured, again.filled) == ((0, 0), 0, 12)
    assert (out / "results.parquet").read_bytes() == before


def test_a_probe_or_scores_that_are_gone_are_made_again_and_the_same(done, store):
    protocol, out, _ = done
    run([protocol], [store], out)
    before = (out / "results.parquet").read_bytes()
    results = read_results(out)
    cell = results.cell("small", "both", "near_near")
    results.probe_paths(cell)[1].unlink()
    (out / "scores" / f"{cell.tests[0]}.parquet").unlink()
    report = run([protocol], [store], out)
    assert (made(report), report.filled) == ((1, 1), 12)
    assert (out / "results.parquet").read_bytes() == before
    assert read_results(out).scores(cell).by_seed.shape == (12, 2)


def test_two_processes_find_the_numbers_that_one_finds(done, store, tmp_path):
    protocol, out, _ = done
    run([protocol], [store], tmp_path / "out", jobs=2)
    assert (tmp_path / "out" / "results.parquet").read_bytes() == (out / "results.parquet").read_bytes()


def test_an_edited_setting_makes_again_what_it_decides(done, store, tmp_path):
    _, out, _ = done
    protocol = write_protocol(
        tmp_path, PROTOCOL.replace("plain: {settings: {solver: lbfgs", "plain: {settings: {pool: max")
    )
    before = inputs(out)
    report = run([protocol], [store], out)
    # near_near and far_near of three rows, and the mean that one of them is part of.
    assert (made(report), report.measured) == ((6, 6), 9)
    assert changed(before, inputs(out)) == {"near_near", "far_near", "away"}
    back = write_protocol(tmp_path)
    again = run([back], [store], out)
    assert made(again) == (0, 0)
    assert again.measured == 9


@pytest.mark.parametrize(
    ("clip", "change", "fits", "tests", "columns"),
    [
        # Clip 6 is in near's test split: near is a test set for near_near and far_near, three rows each.
        (6, {"label": 1}, 0, 6, {"near_near", "far_near", "away"}),
        # Clip 0 is in near's training split: three rows learn from it, near_near tests three of them, near_far two.
        (0, {"label": 1}, 3, 5, {"near_near", "near_far", "away"}),
        # Nothing depends on what a clip was made by.
        (6, {"method": "swap"}, 0, 0, set()),
    ],
)
def test_one_edited_row_of_a_manifest_makes_again_exactly_what_depends_on_it(
    done, store, tmp_path, clip, change, fits, tests, columns
):
    protocol, out, _ = done
    run([protocol], [store], out)
    _, labels = planted_rows()
    manifest_of("near", labels, changed={clip: change}).write(tmp_path / "near.parquet")
    text = PROTOCOL.replace("{manifest: near}", f"{{manifest: {tmp_path / 'near.parquet'}}}")
    before = inputs(out)
    report = run([write_protocol(tmp_path, text)], [store], out)
    assert made(report) == (fits, tests)
    assert changed(before, inputs(out)) == columns
    assert report.measured == 3 * len(columns)
    assert report.filled == 12


def test_rows_that_were_extracted_again_are_other_inputs(store, tmp_path):
    protocol = write_protocol(tmp_path)
    other = make_store(tmp_path)
    first = run([protocol], [other], tmp_path / "out")
    assert made(first) == (FITS, TESTS)
    shutil.rmtree(next(other.glob("far-*")) / "two")
    write(other, "far", "two", seed=77)
    report = run([protocol], [other], tmp_path / "out")
    # far_near of two and of both are fitted and tested anew, near_far of two is tested anew.
    assert made(report) == (2, 3)


def test_what_is_missing_is_said_in_the_cells_that_need_it(store, tmp_path):
    text = PROTOCOL.replace("features: [two]", "features: [three]").replace("{manifest: far}", "{manifest: afar}")
    report = run([write_protocol(tmp_path, text)], [store], tmp_path / "out")
    cells = {(cell.row, cell.column): cell for cell in report.cells}
    assert cells["one", "near_near"].status == "done"
    assert "no feature 'three'; it has one, two" in cells["two", "near_near"].reasons[0]
    assert cells["one", "far_near"].reasons == cells["one", "away"].reasons
    assert "The store has no manifest 'afar'; it has far-" in cells["one", "away"].reasons[0]
    assert report.filled == 2


def test_a_feature_that_is_missing_together_with_its_weights_says_so(store, tmp_path, monkeypatch):
    monkeypatch.setenv("AVFEAT_CACHE", str(tmp_path / "cache"))
    text = PROTOCOL.replace("features: [two]", "features: [avhubert-large.a]")
    report = run([write_protocol(tmp_path, text)], [store], tmp_path / "out")
    reason = next(cell for cell in report.cells if (cell.row, cell.column) == ("two", "near_near")).reasons[0]
    assert "no feature 'avhubert-large.a'; it has one, two. Nor can it be extracted here yet: its weights" in reason
    assert avfeat.lacking("avhubert-large-random.a") == avfeat.lacking("logmel") == avfeat.lacking("imported") == ""


def test_a_head_that_learns_from_real_clips_is_fitted_anew_for_those_alone_and_reads_as_many_features_as_it_can(
    store, tmp_path
):
    text = PROTOCOL.replace(
        "late: {settings: {solver: lbfgs, steps: 20}, seeds: [1, 2], join: late}",
        "late: {head: sync, settings: {sizes: [8, 4], epochs: 1}}",
    )
    first = run([write_protocol(tmp_path, text)], [store], tmp_path / "out")
    kinds = {cell.row: cell.status for cell in first.cells if cell.column == "near_far"}
    assert kinds == {"one": "none", "two": "none", "both": "done"}
    assert (first.filled, first.gaps, made(first)) == (8, [], (7, 7))
    _, labels = planted_rows()
    # A forged clip of the training split with another label is no real one less; a real one called fake is.
    for clip, label, fits, tests in ((1, None, 3, 3), (0, 1, 4, 4)):
        manifest_of("near", labels, changed={clip: {"label": label}}).write(tmp_path / "near.parquet")
        edited = text.replace("{manifest: near}", f"{{manifest: {tmp_path / 'near.parquet'}}}")
        report = run([write_protocol(tmp_path, edited)], [store], tmp_path / "out")
        assert made(report) == (fits, tests), clip


def test_a_set_of_one_class_fails_in_its_own_cells_only(tmp_path):
    store = make_store(tmp_path, features=("one",))
    arrays, labels = planted_rows(labels=[0] * 48)
    manifest = manifest_of("real", labels)
    rows = dict(zip(manifest.clip_ids, arrays, strict=True))
    rows["c006"] = NoFaceError("no face at all")
    write_feature(store, manifest, "one", rows, rate_hz=25.0, first_seconds=0.02)
    text = PROTOCOL.replace("{manifest: far}", "{manifest: real}").split("  - {name: two")[0]
    text += "columns:" + PROTOCOL.split("columns:")[1]
    report = run([write_protocol(tmp_path, text)], [store], tmp_path / "out")
    cells = {cell.column: cell for cell in report.cells}
    assert cells["near_near"].status == "done"
    assert "Training set: all 24 clips are real" in cells["far_near"].reasons[0]
    assert "Test set real:test: all 11 clips are real" in cells["near_far"].reasons[0]
    assert len(cells["away"].reasons) == 2


def test_results_of_other_protocols_stay_and_a_protocol_without_some_cells_loses_them(done, store, tmp_path):
    protocol, _, _ = done
    out = tmp_path / "out"
    run([protocol, write_protocol(tmp_path, name="other")], [store], out)
    fewer = PROTOCOL.replace("  - {name: both, features: [one, two], group: pair}\n", "")
    run([write_protocol(tmp_path, fewer, "other")], [store], out)
    results = read_results(out)
    assert (len(results.of("small")), len(results.of("other"))) == (12, 8)
    with pytest.raises(ProbeError, match=r"no results of table2 .of other, small"):
        results.of("table2")


def test_two_runs_never_share_a_folder(done, store):
    import fcntl

    protocol, out, _ = done
    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ProbeError, match="Another probes run is at work"):
            run([protocol], [store], out)


def test_a_run_killed_at_random_moments_ends_with_the_very_same_tables(done, store, tmp_path):
    protocol, whole, _ = done
    run([protocol], [store], whole)
    moments, ends = random.Random(3), set()
    for trial in range(3):
        out = tmp_path / str(trial)
        out.mkdir()
        for kill in range(3):
            before, ahead = written(out), moments.randint(1, 6)
            job = start_run(protocol, store, out, jobs=1 + kill % 2)
            while job.is_alive() and written(out) < before + ahead:
                time.sleep(0.001)
            ends.add(written(out))
            kill_run(job, out)
        run([protocol], [store], out, jobs=2)
        assert tables(protocol, out) == tables(protocol, whole)
        assert (out / "results.parquet").read_bytes() == (whole / "results.parquet").read_bytes()
        assert not list(out.rglob("*.part"))
    assert len(ends) > 4


def written(out):
    return sum(1 for each in out.rglob("*") if each.is_file())
