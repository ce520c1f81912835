"""AV-HuBERT through the whole path, at its real size with random weights: a store that says what is in it."""

from pathlib import Path

import numpy as np
import pytest

from avfeat.encoders import build_encoder, resolve, trimmed
from avfeat.errors import EncoderError
from avfeat.files import encode_files
from avfeat.manifest import DatasetInfo, Manifest, Row
from avfeat.media import write_video
from avfeat.options import Options
from avfeat.run import extract
from avfeat.store import open_store
from probes.heads.linear import LinearProbe
from probes.score import score_files
from tests.extracting import tone


def test_a_trimmed_feature_of_random_weights_is_stored_under_its_own_name_with_all_that_made_it(tmp_path: Path) -> None:
    sound = np.concatenate([np.zeros(2000, np.int16), tone(300, 0.2)])
    write_video(tmp_path / "late.mp4", [np.zeros((32, 32, 3), np.uint8)] * 8, fps=25, sound=sound, audio_codec="flac")
    write_video(tmp_path / "mute.mp4", [np.zeros((32, 32, 3), np.uint8)] * 8, fps=25, sound=0 * sound)
    manifest = Manifest.from_rows([Row("late", "late.mp4"), Row("mute", "mute.mp4")], DatasetInfo("made"))
    name = "avhubert-base-trimmed-random.a"
    extract(manifest, tmp_path, [name], tmp_path / "store", Options(device="cpu", workers=1), seed=7)
    feature = open_store(tmp_path / "store")["made"][name]
    late, mute = feature.index().to_pylist()
    assert late["first_seconds"] == pytest.approx(0.02 + 4 / 25)
    assert late["length"] == 4 and feature.clip("late").shape == (4, 768)
    ((_, again),) = encode_files([tmp_path / "late.mp4"], [name], like={name: feature.attributes})
    assert isinstance(again, dict)
    assert again[name].first_seconds == late["first_seconds"] and again[name].rows.shape == (4, 768)
    probe = LinearProbe().set_weights(np.ones(768), 0.0, (name,), (768,), {})
    probe.save(tmp_path / "probe.safetensors", {"attributes": {name: dict(feature.attributes)}})
    (scored,) = score_files(tmp_path / "probe.safetensors", [tmp_path / "late.mp4"])
    assert scored.first_seconds == late["first_seconds"] and scored.frames is not None and len(scored.frames) == 4
    assert mute["error"] == "TooShort" and "mute" in mute["detail"] and "silence" in mute["detail"]
    identity = feature.attributes["identity"]
    assert identity["provenance"]["weights"] == "random"
    assert identity["provenance"]["seed"] == 7
    assert identity["provenance"]["trim_silence"] is True
    assert "random numbers for weights" in feature.attributes["summary"] and not feature.attributes["self_supervised"]
    assert "non-commercial research only" in feature.attributes["licence_note"]


def test_trimming_silence_names_other_features_and_only_where_there_are_such() -> None:
    assert trimmed(["avhubert-large.av@3", "avhubert-base-random.a", "avhubert-base-trimmed.v"]) == [
        "avhubert-large-trimmed.av@3",
        "avhubert-base-trimmed-random.a",
        "avhubert-base-trimmed.v",
    ]
    for other in ("logmel", "hf:openai/whisper-tiny"):
        with pytest.raises(EncoderError, match=f"{other}.*for avhubert-base, avhubert-large"):
            trimmed([other])


def test_a_setting_that_does_not_exist_is_refused_before_anything_is_loaded() -> None:
    (request,) = resolve(["avhubert-base-random.av"], settings={"short_stream": "pad"})
    with pytest.raises(EncoderError, match="choose one of error, trim"):
        build_encoder(request)
