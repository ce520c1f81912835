import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from avfeat.encoders import build_encoder, card_of, describe, resolve
from avfeat.encoders.base import Encoder, Rows
from avfeat.errors import EncoderError, TooShortError
from avfeat.views import Views
from tests.tiny_models import tiny_whisper

WINDOW = 32_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_whisper(tmp_path_factory.mktemp("whisper") / "whisper")


def _noise(samples: int) -> NDArray[np.float32]:
    return (0.1 * np.random.default_rng(samples).standard_normal(samples)).astype(np.float32)


def _build(folder: Path, *suffixes: str, **settings: str) -> Encoder:
    return build_encoder(*resolve([f"hf:{folder}{suffix}" for suffix in suffixes or ("",)], settings=settings))


def _encode(encoder: Encoder, sound: NDArray[np.float32]) -> list[Rows]:
    encoding = encoder.begin()
    encoding.take(Views(sound=sound))
    given = encoding.finish(encoder.wanted)
    return [given[name] for name in encoder.wanted]  # type: ignore[misc]


def _own(folder: Path, sound: NDArray[np.float32]) -> tuple[Any, Any]:
    """Return the last and all inner states [100, 32] that transformers itself gives for one window."""
    spectra = transformers.WhisperFeatureExtractor.from_pretrained(folder)(
        sound, sampling_rate=16000, return_tensors="pt"
    )
    network = transformers.WhisperModel.from_pretrained(folder).eval().encoder
    with torch.inference_mode():
        given = network(spectra.input_features, output_hidden_states=True)
    return given.last_hidden_state[0].numpy(), [state[0].numpy() for state in given.hidden_states]


def test_steps_of_the_sound_are_those_of_the_networks_own_code_and_the_silence_behind_it_is_left_out(
    folder: Path,
) -> None:
    sound = _noise(20 * 640)
    last, hidden = _own(folder, sound)
    rows, first = _encode(_build(folder, "", "@1"), sound)
    assert last.shape == (100, 32) and rows.shape == first.shape == (20, 64)
    assert np.abs(rows.reshape(-1, 32) - last[:40]).max() < 1e-5
    assert np.abs(first.reshape(-1, 32) - hidden[1][:40]).max() < 1e-5


@pytest.mark.parametrize(("samples", "rows"), [(1, 1), (640, 1), (641, 2), (3200, 5), (WINDOW, 50), (WINDOW + 1, 51)])
def test_there_is_a_row_for_each_40_ms_begun(folder: Path, samples: int, rows: int) -> None:
    assert len(_encode(_build(folder), _noise(samples))[0]) == rows


def test_windows_lie_end_to_end_and_do_not_hear_each_other(folder: Path) -> None:
    encoder = _build(folder)
    sound = _noise(2 * WINDOW + 9600)
    (rows,) = _encode(encoder, sound)
    apart = [_encode(encoder, sound[start : start + WINDOW])[0] for start in range(0, len(sound), WINDOW)]
    assert np.array_equal(rows, np.concatenate(apart))


def test_the_final_norm_is_where_the_setting_says(folder: Path) -> None:
    sound = _noise(6400)
    auto = _encode(_build(folder, "", "@3", "@1"), sound)
    on = _encode(_build(folder, "", "@3", "@1", final_norm="on"), sound)
    off = _encode(_build(folder, "", "@3", "@1", final_norm="off"), sound)
    assert np.array_equal(auto[0], on[0]) and np.array_equal(auto[0], on[1])
    assert np.array_equal(auto[1], off[0]) and np.array_equal(auto[2], off[2])
    assert np.abs(on[0] - off[0]).max() > 0.1 and np.abs(on[2] - off[2]).max() > 0.1


def test_spectra_that_are_not_whispers_are_refused(folder: Path, tmp_path: Path) -> None:
    other = tiny_whisper(tmp_path / "other")
    description = other / "preprocessor_config.json"
    usual = json.loads(description.read_text())
    description.write_text(json.dumps(usual | {"hop_length": 200}))
    with pytest.raises(EncoderError, match="spectra that are not Whisper's: hop_length 200 instead of 160"):
        _build(other)
    description.write_text(json.dumps(usual | {"feature_size": 80}))
    with pytest.raises(EncoderError, match="feature_size 80 instead of 16"):
        _build(other)
    description.unlink()
    assert np.array_equal(_encode(_build(other), _noise(900))[0], _encode(_build(folder), _noise(900))[0])


def test_no_sample_is_a_failed_clip(folder: Path) -> None:
    with pytest.raises(TooShortError, match="holds no sample"):
        _encode(_build(folder), np.zeros(0, np.float32))


def test_what_was_trained_with_transcripts_is_not_called_self_supervised(folder: Path) -> None:
    assert not card_of("whisper-large-v3").self_supervised
    assert not card_of(f"hf:{folder}").self_supervised
    assert describe("whisper-large-v3")["self_supervised"] is False
    assert card_of("whisper-large-v3").first_seconds == pytest.approx(0.01)
