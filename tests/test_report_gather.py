"""A report over a real run: every number of the results is on the page, what is missing is said."""

import json
import re

import pytest
from typer.testing import CliRunner

from avfeat.errors import ProbeError
from avfeat.store import write_feature
from probes.cli import app
from probes.heads.linear import LinearProbe
from probes.loading import Choice, Source
from probes.report.clips import shown_clips
from probes.report.gather import gather
from probes.report.page import render
from probes.results import read_results
from probes.run import run
from probes.tables.grid import tenths
from tests.running import make_store, manifest_of, planted_rows, write_protocol


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished run: its store, its folder, its protocol's file."""
    folder = tmp_path_factory.mktemp("report")
    store, protocol = make_store(folder), write_protocol(folder)
    run([protocol], [store], folder / "out")
    return store, folder / "out", str(protocol)


def test_every_cell_is_a_number_of_the_table_and_columns_know_their_domain(done):
    store, out, protocol = done
    page = gather([store], out, [protocol], clips_per_set=0)
    [table] = page.tables
    assert [column.out_of_domain for column in table.columns] == [False, True, True, None]
    cells = {(cell.row, cell.column): cell for cell in read_results(out).cells}
    for words, numbers in table.rows:
        for column, number in zip(("near_near", "near_far", "far_near", "away"), numbers, strict=True):
            auc = cells[words[0], column].measures["auc"]
            assert number.value == tenths(100 * auc.value)
            assert number.text == f"{tenths(100 * auc.value)}"
            assert f"[{tenths(100 * auc.low)}, {tenths(100 * auc.high)}]" in number.small
    assert "12 of 12 cells are filled." in page.summary[0]
    assert re.search(r"Best away: (one|two|both), \d+\.\d\.", page.summary[0])


def test_what_could_not_be_filled_says_what_is_missing(done, tmp_path):
    store, out, _ = done
    [table] = gather([store], out, ["table2"]).tables
    assert {number.note for _, numbers in table.rows for number in numbers} == {"Not run yet: probes run table2."}
    assert table.missing == ("Not run yet: probes run table2.",)
    assert all(number.small.startswith("paper ") for _, numbers in table.rows for number in numbers)


def test_tables_with_numbers_come_first_and_empty_ones_are_folded_away(done):
    store, out, protocol = done
    page = gather([store], out, ["table2", protocol], clips_per_set=0)
    assert [table.filled for table in page.tables] == [12, 0]
    assert len(page.summary) == 1
    assert render(page).count("Not one cell is filled yet") == 1


def test_each_test_set_shows_a_real_clip_and_a_fake_one_with_a_line_for_each_row(done):
    store, out, protocol = done
    clips = gather([store], out, [protocol], clips_per_set=2).clips
    assert [clip.verdict[0].split(" · ")[0] for clip in clips] == ["real", "fake"] * 2
    assert all([line.feature for line in clip.lines] == ["one", "two", "both"] for clip in clips[2:])
    assert all("c0" in clip.missing for clip in clips), "the store has no media"


def test_frame_scores_begin_where_the_clips_own_rows_begin(tmp_path):
    arrays, labels = planted_rows()
    manifest = manifest_of("near", labels)
    rows = dict(zip(manifest.clip_ids, arrays, strict=True))
    facts = {"c006": {"first_seconds": 0.5}}
    write_feature(tmp_path, manifest, "trimmed", rows, rate_hz=25.0, first_seconds=0.02, facts=facts)
    data = Source([tmp_path], ["trimmed"]).load(Choice("near", "train")).data
    LinearProbe(steps=3).fit(data).save(tmp_path / "probe.safetensors")
    probes = {"trimmed": tmp_path / "probe.safetensors"}
    clips = shown_clips([tmp_path], probes, Choice("near"), ["c006", "c007"])
    assert [clip.lines[0].first_seconds for clip in clips] == [0.5, 0.02]


def test_clips_can_be_named_and_an_unknown_one_is_an_error(done):
    store, out, protocol = done
    known = gather([store], out, [protocol], clips=["c007"]).clips
    assert {clip.clip_id for clip in known} == {"c007"}
    with pytest.raises(ProbeError, match="nowhere"):
        gather([store], out, [protocol], clips=["nowhere"])


def test_an_audit_is_shown_and_its_shortcuts_and_leaks_stand_out(done, tmp_path):
    store, out, protocol = done
    nuisance = {"name": "leading silence", "auc": 0.97, "real": "0", "fake": "0.3", "unit": "s", "shortcut": True}
    found = {
        "manifest": "near-1",
        "clips": 48,
        "measured": 40,
        "balance": [{"split": "train", "real": 12, "fake": 12, "unknown": 0}],
        "leaks": [{"what": "speakers in several splits", "between": [["test", "train", 3]]}],
        "nuisances": [nuisance, nuisance | {"name": "frames per second", "auc": 0.5, "shortcut": False}],
        "warnings": [{"what": "segments after the end of the clip", "clips": ["c001"]}],
        "notes": ["the files were not looked at"],
    }
    (tmp_path / "audit.json").write_text(json.dumps(found))
    [facts] = gather([store], out, [protocol], audits=[tmp_path / "audit.json"], clips_per_set=0).audits
    grave = {name: text for name, text, weight in facts.rows if weight}
    assert grave["leading silence"].startswith("tells real from fake with AUC 0.97")
    assert grave["leak: speakers in several splits"] == "3 in test and train"
    assert len(grave) == 2
    (tmp_path / "audit.json").write_text("{}")
    with pytest.raises(ProbeError, match="is not what avfeat manifest audit --json prints"):
        gather([store], out, [protocol], audits=[tmp_path / "audit.json"])


def test_figures_are_taken_as_drawings_where_both_forms_are_there(done):
    store, out, protocol = done
    (out / "figures").mkdir()
    for name in ("figure5.png", "figure5.svg", "figure3.png"):
        (out / "figures" / name).write_bytes(b"<svg/>")
    figures = gather([store], out, [protocol], clips_per_set=0).figures
    assert [(figure.title, figure.kind) for figure in figures] == [
        ("figure3", "image/png"),
        ("figure5", "image/svg+xml"),
    ]


def test_the_command_writes_the_same_page_twice(done):
    store, out, protocol = done
    pages = []
    for _ in range(2):
        done_ = CliRunner().invoke(app, ["report", protocol, "--stores", str(store), "--out", str(out)])
        assert done_.exit_code == 0, done_.output
        pages.append((out / "report.html").read_bytes())
    assert pages[0] == pages[1]
    assert "1 tables" in done_.output


def test_a_folder_without_results_says_what_to_type(tmp_path, done):
    with pytest.raises(ProbeError, match="no results to report: probes run"):
        gather([done[0]], tmp_path)
