"""The command as a user types it, over stores written by the store's own writer."""

import json
import os
import signal
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import typer
from sklearn.metrics import average_precision_score, roc_auc_score
from typer.testing import CliRunner

from avfeat.manifest import DatasetInfo, Manifest, Row
from avfeat.options import Options
from avfeat.run import extract
from avfeat.store import open_store, write_feature
from probes.cli import app
from probes.heads.linear import LinearProbe
from probes.probe_file import load_probe, read_probe, write_probe
from tests.ragged import planted_arrays, write_planted


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("probes") / "store"
    write_planted(path, "near", spoil=("c0000", "c0009"))
    write_planted(path, "far", seed=5, clips=40)
    write_planted(path, "mute", seed=6, clips=8, speakers=0)
    return path


def call(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


def fit(store, tmp_path, *more):
    return call("fit", store, "--manifest", "near", "--feature", "logmel", "-o", tmp_path / "probe.safetensors", *more)


def test_fit_prints_a_table_and_says_which_clips_were_left_out(store, tmp_path):
    done = fit(store, tmp_path, "--test", "near:test", "--test", "far")
    assert done.exit_code == 0, done.output
    assert "train near:train: 58 of 60 clips used; left out: 2 NoFace (e.g. c0000: no face" in done.output
    assert "val near:val: 30 of 30 clips used" in done.output
    lines = done.output.splitlines()
    table = lines.index(next(line for line in lines if line.startswith("test set")))
    assert lines[table].split() == ["test", "set", "AUC", "AP", "EER"]
    assert [line.split()[0] for line in lines[table + 1 : table + 3]] == ["near:test", "far"]


def test_the_numbers_are_those_of_the_written_probe_on_the_test_clips(store, tmp_path):
    done = fit(store, tmp_path, "--test", "far", "--json")
    facts = json.loads(done.stdout)
    probe = load_probe(Path(facts["probe"]))
    group = open_store(store)["far"]
    rows = list(group.manifest().rows())
    scores = probe.decision_function([group["logmel"].clip(row.clip_id) for row in rows])
    labels = [row.label for row in rows]
    found = facts["tests"]["far"]["metrics"]
    assert found["auc"]["value"] == pytest.approx(roc_auc_score(labels, scores))
    assert found["ap"]["value"] == pytest.approx(average_precision_score(labels, scores))
    assert found["auc"]["low"] <= found["auc"]["value"] <= found["auc"]["high"]
    assert found["auc"]["value"] > 0.8
    assert probe.facts_["attributes"]["logmel"]["rate_hz"] == 25.0
    assert probe.facts_["train"]["digest"] == open_store(store)["near"].manifest().digest


def test_without_test_the_manifests_own_test_split_is_used(store, tmp_path):
    facts = json.loads(fit(store, tmp_path, "--json").stdout)
    assert list(facts["tests"]) == ["near:test"]
    assert facts["tests"]["near:test"]["clips"]["used"] == 30


def test_seeds_poolings_and_decays_are_fitted_at_once_and_the_best_on_validation_is_written(store, tmp_path):
    done = fit(
        store, tmp_path, "--seeds", 2, "--pool", "max", "--pool", "lse", "--weight-decay", 0.01, "--weight-decay", 0.1,
        "--solver", "adam", "--steps", 4, "--json",
    )  # fmt: skip
    facts = json.loads(done.stdout)
    assert len(facts["fitted"]) == 8 == len(facts["tests"]["near:test"]["auc_of_all"])
    best = min(facts["fitted"], key=lambda one: one["loss"])
    written = load_probe(tmp_path / "probe.safetensors")
    assert (written.pool, written.seed, written.weight_decay) == (best["pool"], best["seed"], best["weight_decay"])
    assert written.solver == "adam"


def test_settings_of_a_head_are_given_by_name_or_by_the_flag_of_that_name(store, tmp_path):
    by_flags = fit(store, tmp_path, "--pool", "max", "--solver", "adam", "--steps", 3, "--weight-decay", 0.01, "--json")
    one = load_probe(tmp_path / "probe.safetensors")
    by_name = fit(
        store, tmp_path, "--set", "pool=max", "--solver", "adam", "--set", "steps=3", "--set", "weight_decay=0.01"
    )
    two = load_probe(tmp_path / "probe.safetensors")
    assert (by_flags.exit_code, by_name.exit_code) == (0, 0), by_name.output
    np.testing.assert_array_equal(one.weight_, two.weight_)
    assert (two.pool, two.steps, two.weight_decay) == ("max", 3, 0.01)
    assert (
        "linear: class weight none, pool max, seed 43, solver adam, steps 3, weight decay 0.01, loss" in by_name.output
    )


def test_other_heads_are_fitted_with_their_own_settings(store, tmp_path):
    done = fit(store, tmp_path, "--head", "mlp", "--set", "sizes=8,4", "--set", "epochs=3", "--pool", "max")
    assert done.exit_code == 0, done.output
    assert (
        "mlp: class weight none, epochs 3, learning rate 0.001, patience 10, pool max, seed 43, sizes 8, 4, loss"
        in (done.output)
    )
    probe = load_probe(tmp_path / "probe.safetensors")
    assert (probe.kind, probe.sizes, probe.epochs, probe.pool) == ("mlp", (8, 4), 3, "max")
    assert probe.facts_["parameters"]["sizes"] == [8, 4]


def test_a_head_of_real_clips_learns_from_a_set_without_fakes(tmp_path):
    for feature in ("logmel", "face"):
        write_planted(tmp_path / "s", "near", feature=feature, clips=40)
        write_planted(tmp_path / "s", "real", feature=feature, clips=12, fakes=False)
    call_fit = ["fit", tmp_path / "s", "--manifest", "real", "--feature", "face", "-o", tmp_path / "probe.safetensors"]
    settings = ["--head", "sync", "--set", "sizes=8,4", "--set", "epochs=2", "--set", "tau=2"]
    done = call(*call_fit, "--feature", "logmel", *settings, "--test", "near:test", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["tests"]["near:test"]["clips"]["used"] == 10
    untestable = call(*call_fit, "--feature", "logmel", *settings, "--test", "real:test")
    assert "Test set real:test: all 2 clips are real; both real and fake clips are needed." in untestable.stderr
    alone = call(*call_fit, *settings, "--test", "near:test")
    assert "The head sync reads 2 features, but 1 is named: face." in alone.stderr
    linear = call(*call_fit, "--test", "near:test")
    assert "Training set: all 8 clips are real" in linear.stderr


def test_intervals_by_speaker_and_other_metrics(store, tmp_path):
    done = fit(store, tmp_path, "--metric", "tpr@0.1", "--metric", "auc", "--intervals-by", "speaker", "--json")
    assert list(json.loads(done.stdout)["tests"]["near:test"]["metrics"]) == ["tpr@0.1", "auc"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--train", "dev"], "no clip in split 'dev'"),
        (["--feature", "xlsr"], "has no feature 'xlsr'; it has logmel"),
        (["--test", "favc"], "no manifest 'favc'; it has far-"),
        (["--pool", "median"], "no pooling 'median'"),
        (["--metric", "f1"], "no metric 'f1'"),
        (["--train", "one"], "all 4 clips are fake"),
        (["--head", "forest"], "no head 'forest'; choose from linear"),
        (["--set", "decay=1"], "linear has no setting 'decay'; it has class_weight, device, patience, pool"),
        (["--set", "steps=many"], "linear: steps is 'many'; give a whole number or none"),
        (["--set", "weight_decay=inf"], "linear: weight_decay is 'inf'; give a number"),
        (["--set", "steps=2", "--pool", "max", "--pool", "min"], "Several values of pool"),
        (["--set", "pool=min", "--pool", "max"], "pool is given twice"),
        (["--head", "mlp", "--set", "sizes=8,many"], "mlp: sizes is '8,many'; give whole numbers such as 64,32"),
        (["--head", "mlp", "--steps", "3"], "mlp has no setting 'steps'; it has class_weight, device, epochs"),
        (["--intervals-by", "speaker", "--test", "mute"], "no clip has a speaker"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_1(store, tmp_path, arguments, sentence):
    if "one" in arguments:
        rows = [Row(f"c{k}", f"c{k}.mp4", "one" if k < 4 else "val", 1 if k < 4 else k % 2) for k in range(8)]
        manifest = Manifest.from_rows(rows, DatasetInfo("single"))
        values = {row.clip_id: np.ones((3, 12)) for row in rows}
        write_feature(tmp_path / "s", manifest, "logmel", values, rate_hz=25.0, first_seconds=0.02)
        done = call(
            "fit", tmp_path / "s", "--manifest", "single", "--feature", "logmel", "-o", tmp_path / "p", *arguments
        )
    else:
        done = fit(store, tmp_path, *arguments)
    assert done.exit_code == 1
    assert sentence in done.stderr
    assert done.stderr.strip().count("\n") == 0
    assert not (tmp_path / "probe.safetensors").exists()


def test_a_wrong_command_is_exit_code_2(store, tmp_path):
    assert fit(store, tmp_path, "--solver", "sgd").exit_code == 2
    assert call("fit", store).exit_code == 2


def test_an_interrupted_fit_writes_its_best_probe(tmp_path):
    write_planted(tmp_path / "store", "near", clips=400, width=64, strength=0.1)
    command = [
        sys.executable, "-m", "probes", "fit", tmp_path / "store", "--manifest", "near", "--feature", "logmel",
        "--solver", "adam", "--steps", "100000", "--patience", "100000", "-o", tmp_path / "probe.safetensors",
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    ) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if line.startswith("epoch"):
                break
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=120)
    assert run.returncode == 1
    assert "Interrupted: the best probe so far was written" in err
    assert "ended by interrupted" in out
    assert load_probe(tmp_path / "probe.safetensors").weight_.shape == (64,)


def write_tone(path, hertz, seconds, noise=0.0, seed=0):
    t = np.arange(int(16_000 * seconds)) / 16_000
    tone = 0.3 * np.sin(2 * np.pi * hertz * t) + noise * np.random.default_rng(seed).normal(size=len(t))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((tone.clip(-1, 1) * 32767).astype("<i2").tobytes())


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """Low tones are real, high ones fake; a probe over their log filterbank."""
    folder = tmp_path_factory.mktemp("tones")
    rows = []
    for k in range(16):
        write_tone(folder / f"t{k:02}.wav", 2000 + 30 * k if k % 2 else 300 + 10 * k, 0.4 + 0.05 * k, 0.02, k)
        rows.append(Row(f"t{k:02}", f"t{k:02}.wav", "train" if k < 12 else "val", k % 2))
    manifest = Manifest.from_rows(rows, DatasetInfo("tones"))
    extract(manifest, folder, ["logmel"], folder / "store", Options(device="cpu", workers=1))
    done = call(
        "fit", folder / "store", "--manifest", "tones", "--feature", "logmel", "-o", folder / "probe.safetensors"
    )
    assert done.exit_code == 0, done.output
    return folder


def test_new_files_get_the_scores_that_stored_ones_get(tones):
    done = call("score", tones / "probe.safetensors", tones / "t00.wav", tones / "t13.wav", "--frames", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    probe = load_probe(tones / "probe.safetensors")
    feature = open_store(tones / "store")["tones"]["logmel"]
    for name, facts in zip(("t00", "t13"), found, strict=True):
        rows = feature.clip(name)
        assert facts["score"] == pytest.approx(probe.decision_function([rows])[0], abs=2e-2)
        np.testing.assert_allclose(facts["frames"]["scores"], probe.frame_scores([rows])[0], atol=2e-2)
        assert facts["frames"]["step_seconds"] == 0.04
    assert found[0]["score"] < 0 < found[1]["score"]


def test_a_calibrated_probe_gives_its_probability_and_says_so(tones, tmp_path):
    probe = tmp_path / "probe.safetensors"
    load_probe(tones / "probe.safetensors").save(probe, load_probe(tones / "probe.safetensors").facts_)
    plain = call("score", probe, tones / "t13.wav")
    assert plain.output.strip().endswith("(not calibrated)")
    head, tensors, facts = read_probe(probe)
    write_probe(probe, head, tensors, {**facts, "line": [0.5, 4.0], "calibration": {}})
    found = json.loads(call("score", probe, tones / "t13.wav", "--json").stdout)[0]
    assert found["probability"] == pytest.approx(1 / (1 + np.exp(-2 * (found["score"] - 0.5) / 4)))
    assert (found["line"], found["calibrated"]) == (0.5, True)
    assert (
        f"probability of fake {found['probability']:.4f} (calibrated)" in call("score", probe, tones / "t13.wav").output
    )


def test_a_file_that_cannot_be_scored_is_a_line_and_exit_code_3(tones, tmp_path):
    (tmp_path / "text.mp4").write_text("not media")
    done = call("score", tones / "probe.safetensors", tmp_path / "text.mp4", tones / "t01.wav")
    assert done.exit_code == 3
    first, second = done.output.splitlines()
    assert "text.mp4  Unreadable: " in first
    assert "t01.wav  score " in second and "probability of fake" in second


def test_a_probe_of_unknown_features_scores_stored_ones_only(tmp_path, tones):
    arrays, labels = planted_arrays()
    LinearProbe(steps=3).fit(arrays, labels).save(tmp_path / "bare.safetensors")
    done = call("score", tmp_path / "bare.safetensors", tones / "t01.wav")
    assert done.exit_code == 1
    assert "does not say how its features were made" in done.stderr


def test_help_answers_without_the_heavy_libraries():
    heavy = "{'torch', 'sklearn', 'scipy', 'zarr', 'pyarrow', 'numpy'}"
    code = f"import sys; from probes.cli import app; print({heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def commands():
    """Every command by its words, those of groups too."""
    found = {}
    for name, command in typer.main.get_command(app).commands.items():
        inner = getattr(command, "commands", None)
        found |= {f"{name} {each}": one for each, one in inner.items()} if inner else {name: command}
    return found


def test_every_command_has_an_example_and_those_of_a_study_print_json():
    every = commands()
    for name, command in every.items():
        assert command.epilog.startswith(f"Example: probes {name}"), name
    for name in ("fit", "sweep", "eval", "compare", "calibrate", "score", "import-checkpoint", "fuse"):
        assert "--json" in {option for each in every[name].params for option in each.opts}, name


def test_fuse_says_as_json_what_it_wrote(tmp_path):
    for name in ("a", "b"):
        LinearProbe().set_weights(np.ones(3), 0.0, (name,), (3,), {}).save(tmp_path / f"{name}.safetensors")
    done = call("fuse", tmp_path / "a.safetensors", tmp_path / "b.safetensors", "-o", tmp_path / "both", "--json")
    assert json.loads(done.stdout) == {
        "probe": str(tmp_path / "both"), "head": "late-fusion", "features": ["a", "b"], "widths": [3, 3],
    }  # fmt: skip


def test_eval_gives_a_written_probe_the_numbers_that_fit_gave_it(store, tmp_path):
    fitted = json.loads(fit(store, tmp_path, "--test", "far", "--json").stdout)["tests"]["far"]["metrics"]
    done = call("eval", tmp_path / "probe.safetensors", store, "--test", "far", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["far"]["metrics"] == fitted
    table = call("eval", tmp_path / "probe.safetensors", store, "--test", "far", "--metric", "tpr@0.1")
    assert "TPR@0.1" in table.output and "far: 40 of 40 clips used" in table.output


@pytest.mark.parametrize(
    ("test", "sentence"),
    [
        ("wide", "frames are logmel (8 wide), but the probe reads logmel (12 wide)"),
        ("bare", "has no feature 'logmel'; it has face"),
        ("real", "Test set real: all 8 clips are real; both real and fake clips are needed."),
        ("near:dev", "no clip in split 'dev'; its splits are"),
    ],
)
def test_what_a_probe_cannot_be_tested_on_is_one_sentence(tmp_path, test, sentence):
    write_planted(tmp_path / "s", "near", clips=8)
    write_planted(tmp_path / "s", "wide", clips=8, width=8)
    write_planted(tmp_path / "s", "bare", clips=8, feature="face")
    write_planted(tmp_path / "s", "real", clips=8, fakes=False)
    LinearProbe().set_weights(np.ones(12), 0.0, ("logmel",), (12,), {}).save(tmp_path / "probe.safetensors")
    for command in ("eval", "compare"):
        files = [tmp_path / "probe.safetensors"] * (1 if command == "eval" else 2)
        done = call(command, *files, tmp_path / "s", "--test", test)
        assert done.exit_code == 1
        assert sentence in done.stderr
        assert done.stderr.strip().count("\n") == 0
