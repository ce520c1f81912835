"""Probabilities that mean what they say: the fit against scikit-learn's, and what it does to a probe's file."""

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

from avfeat.errors import ProbeError
from avfeat.manifest import DatasetInfo, Manifest, Row
from avfeat.store import write_feature
from probes.calibrate import calibrate
from probes.calibration import best_line, best_temperature, probabilities
from probes.cli import app
from probes.featureset import FeatureSet
from probes.heads import head_class
from probes.heads.linear import LinearProbe
from probes.loading import Choice, Source
from probes.probe_file import load_probe, read_probe
from tests.ragged import write_planted


@pytest.mark.parametrize(("size", "middle"), [(1.0, 0.0), (0.01, 3.0), (40.0, -500.0)])
def test_line_and_unit_are_those_of_a_logistic_regression(size, middle):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=300)
    labels = (rng.uniform(size=300) < probabilities(truth - 0.4)).astype(int)
    line, unit = best_line(middle + size * truth, labels)
    plain = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(truth[:, None], labels)
    slope, offset = float(plain.coef_[0, 0]), float(plain.intercept_[0])
    assert unit == pytest.approx(2 * size / slope, rel=1e-4)
    assert line == pytest.approx(middle - size * offset / slope, abs=1e-3 * size)


def test_scores_that_no_line_mends_are_refused():
    with pytest.raises(ProbeError, match="separate the clips entirely"):
        best_line([-2.0, -1.0, 1.0, 2.0], [0, 0, 1, 1])
    with pytest.raises(ProbeError, match="no better than chance"):
        best_line([2.0, 1.0, -1.0, -2.0], [0, 0, 1, 1])


@pytest.fixture
def place(tmp_path):
    """A weak probe whose scores are 30 times too sure, and off by 8."""
    write_planted(tmp_path / "s", "near", clips=160, strength=0.6)
    weight = np.random.default_rng(1234).normal(size=12)
    probe = LinearProbe(pool="mean").set_weights(30 * weight, 8.0, ("logmel",), (12,), {})
    probe.save(tmp_path / "probe.safetensors", {"plan": "kept"})
    return tmp_path


def loaded(place, split):
    return Source([place / "s"], ["logmel"]).load(Choice("near", split)).data


def test_a_temperature_changes_the_probabilities_and_no_call(place):
    before = load_probe(place / "probe.safetensors")
    done = calibrate(place / "probe.safetensors", [place / "s"], "near:val")
    after, data = load_probe(place / "probe.safetensors"), loaded(place, "val")
    scores = before.decision_function(data)
    np.testing.assert_array_equal(after.decision_function(data), scores)
    np.testing.assert_array_equal(after.predict(data), before.predict(data))
    assert (after.line_, after.unit_) == (0.0, pytest.approx(best_temperature(scores, data.labels.numpy())))
    np.testing.assert_allclose(after.predict_proba(data)[:, 1], probabilities(scores, after.unit_))
    assert done.after.loss < done.before.loss
    facts = read_probe(place / "probe.safetensors")[2]
    assert facts["plan"] == "kept"
    assert (facts["calibration"]["chosen_on"], facts["calibration"]["clips"]) == ("near:val", 40)


def test_a_shift_moves_the_line_and_mends_more(place):
    plain = calibrate(place / "probe.safetensors", [place / "s"], "near:val", out=place / "plain.safetensors")
    shifted = calibrate(place / "probe.safetensors", [place / "s"], "near:val", shift=True, out=place / "b.safetensors")
    assert read_probe(place / "probe.safetensors")[2]["line"] == [0.0, 1.0]
    assert 8 < shifted.after.line < 30
    assert shifted.after.loss < plain.after.loss < plain.before.loss
    assert shifted.after.reliability.error < 0.2 < shifted.before.reliability.error
    again = calibrate(place / "b.safetensors", [place / "s"], "near:val", shift=True)
    assert (again.before.line, again.before.unit) == (shifted.after.line, shifted.after.unit)
    assert (again.after.line, again.after.unit) == pytest.approx((shifted.after.line, shifted.after.unit))


def test_a_probe_of_real_clips_is_always_shifted(tmp_path):
    rng = np.random.default_rng(0)
    clips = [rng.normal(size=(8, 12)).astype(np.float32) for _ in range(40)]
    data = FeatureSet.from_arrays(clips, [0] * 40, features=("sound", "face"), widths=(6, 6))
    head = head_class("sync")(sizes=(4, 4), tau=1, epochs=1).fit(data)
    head.save(tmp_path / "probe.safetensors")
    scores = head.decision_function(data)
    labels = (scores + scores.std() * rng.normal(size=40) > np.median(scores)).astype(int)
    rows = [Row(f"c{k:02}", f"c{k:02}.mp4", "val", int(label)) for k, label in enumerate(labels)]
    for name, columns in (("sound", slice(6)), ("face", slice(6, 12))):
        values = {row.clip_id: clip[:, columns] for row, clip in zip(rows, clips, strict=True)}
        manifest = Manifest.from_rows(rows, DatasetInfo("near"))
        write_feature(tmp_path / "s", manifest, name, values, rate_hz=25.0, first_seconds=0.02, dtype="float32")
    done = calibrate(tmp_path / "probe.safetensors", [tmp_path / "s"], "near")
    assert (done.after.line, done.after.unit) == pytest.approx(best_line(scores, labels), rel=1e-4)


def test_the_command_writes_the_file_and_a_figure(place):
    command = ["calibrate", place / "probe.safetensors", place / "s", "--on", "near:val"]
    done = CliRunner().invoke(app, [str(each) for each in (*command, "--reliability", place / "made" / "r.png")])
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.output.splitlines()] == [
        "near:val:", "line", "before", "after", "The", "wrote", "wrote",
    ]  # fmt: skip
    assert (place / "made" / "r.png").read_bytes().startswith(b"\x89PNG")
    facts = json.loads(CliRunner().invoke(app, [str(each) for each in (*command, "--json")]).stdout)
    assert facts["before"]["unit"] == pytest.approx(facts["after"]["unit"])
    bad = CliRunner().invoke(app, [str(each) for each in (*command, "--reliability", "r.bmp")])
    assert bad.exit_code == 1
    assert "r.bmp: a figure's name ends in .png" in bad.stderr
