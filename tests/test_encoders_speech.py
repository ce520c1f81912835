import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from avfeat.encoders import build_encoder, hf_speech, resolve
from avfeat.encoders.base import Encoder, FeatureName, Rows
from avfeat.encoders.hf_speech import SpeechEncoder, joined_pairs, step_count, unit_variance
from avfeat.errors import EncoderError, TooLongError, TooShortError, WeightsError
from avfeat.views import Views
from tests.tiny_models import TINY_SPEECH, tiny_wav2vec2

# Pre-norm and post-norm blocks, norms of the convolutions over channels and over the whole clip.
FORMS = [("layer", True), ("layer", False), ("group", False)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    root = tmp_path_factory.mktemp("speech")

    def get(family: str = "wav2vec2", norm: str = "layer", stable: bool = True) -> Path:
        folder = root / f"{family}-{norm}-{stable}".lower()
        return folder if folder.exists() else TINY_SPEECH[family](folder, norm=norm, stable=stable)

    return get


def _noise(samples: int, seed: int = 0) -> NDArray[np.float32]:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def _build(folder: Path, *layers: int | None, settings: Mapping[str, Any] | None = None) -> Encoder:
    texts = [f"hf:{folder}" if layer is None else f"hf:{folder}@{layer}" for layer in layers or (None,)]
    return build_encoder(*resolve(texts, settings=settings))


def _encode(encoder: Encoder, sound: NDArray[np.float32]) -> list[Rows]:
    encoding = encoder.begin()
    encoding.take(Views(sound=sound))
    given = encoding.finish(encoder.wanted)
    return [given[name] for name in encoder.wanted]  # type: ignore[misc]


def _hidden(folder: Path, sound: NDArray[np.float32]) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
    """Return the last hidden state and all inner ones as transformers itself gives them for one clip."""
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder)
    network = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        values = extractor(sound, sampling_rate=16000, return_tensors="pt").input_values
        output = network(values, output_hidden_states=True)
    return output.last_hidden_state[0].numpy(), [state[0].numpy() for state in output.hidden_states]


@given(st.integers(400, 400_000))
def test_rows_are_counted_by_the_formula(samples: int) -> None:
    steps = torch.zeros(step_count(samples), 1)
    assert len(joined_pairs(steps)) == (samples + 240) // 640


@pytest.mark.parametrize(
    ("samples", "steps", "rows"), [(400, 1, 1), (16000, 49, 25), (16719, 51, 26), (160000, 499, 250)]
)
def test_so_many_samples_give_so_many_steps_and_rows(
    folders: Callable[..., Path], samples: int, steps: int, rows: int
) -> None:
    assert step_count(samples) == steps
    (got,) = _encode(_build(folders()), _noise(samples))
    assert got.shape == (rows, 64)


def test_less_than_one_window_is_a_failed_clip_with_both_numbers(folders: Callable[..., Path]) -> None:
    with pytest.raises(TooShortError, match=r"399 samples.*400"):
        _encode(_build(folders()), _noise(399))


def test_sound_over_the_limit_is_a_failed_clip_unless_the_limit_is_raised(folders: Callable[..., Path]) -> None:
    with pytest.raises(TooLongError, match=r"lasts 1\.2 s.*takes 1 s"):
        _encode(_build(folders(), settings={"limit_seconds": "1"}), _noise(19200))
    assert len(_encode(_build(folders(), settings={"limit_seconds": 1.3}), _noise(19200))[0]) == 30


def test_a_row_is_two_steps_in_their_order_and_an_odd_last_one_is_repeated() -> None:
    odd, even = torch.arange(10.0).reshape(5, 2), torch.arange(12.0).reshape(6, 2)
    assert joined_pairs(odd).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 8, 9]]
    assert joined_pairs(even).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


@pytest.mark.parametrize("family", TINY_SPEECH)
@pytest.mark.parametrize(("norm", "stable"), FORMS)
def test_the_last_layer_and_inner_ones_are_what_transformers_gives(
    folders: Callable[..., Path], family: str, norm: str, stable: bool
) -> None:
    folder, sound = folders(family, norm, stable), _noise(9000)
    last, hidden = _hidden(folder, sound)
    rows, first, second = _encode(_build(folder, None, 1, 2), sound)
    steps = step_count(9000)
    assert last.shape == (steps, 32)
    for got, right in ((rows, last), (first, hidden[1]), (second, hidden[2])):
        assert np.abs(got.reshape(-1, 32)[:steps] - right).max() < 2e-6


@pytest.mark.parametrize("family", TINY_SPEECH)
def test_the_final_norm_is_where_the_setting_says(folders: Callable[..., Path], family: str) -> None:
    folder, sound = folders(family), _noise(6000)
    auto = _encode(_build(folder, None, 3, 1), sound)
    on = _encode(_build(folder, None, 3, 1, settings={"final_norm": "on"}), sound)
    off = _encode(_build(folder, None, 3, 1, settings={"final_norm": "off"}), sound)
    assert np.array_equal(auto[0], on[0]) and np.array_equal(auto[0], on[1])
    assert np.array_equal(auto[1], off[1]) and np.array_equal(auto[1], off[0]) and np.array_equal(auto[2], off[2])
    assert np.abs(on[0] - off[0]).max() > 0.1
    assert np.abs(on[2] - off[2]).max() > 0.1


def test_blocks_that_end_in_norms_of_their_own_have_no_final_one(folders: Callable[..., Path]) -> None:
    with pytest.raises(EncoderError, match="no final norm"):
        _build(folders(norm="group", stable=False), 1, settings={"final_norm": "on"})


def test_a_layer_alone_is_the_same_numbers_from_a_shorter_network(folders: Callable[..., Path]) -> None:
    sound = _noise(6000)
    short, whole = _build(folders(), 1), _build(folders(), None, 1)
    assert isinstance(short, SpeechEncoder) and isinstance(whole, SpeechEncoder)
    assert (len(short._network.layers), len(whole._network.layers)) == (1, 3)
    assert np.array_equal(_encode(short, sound)[0], _encode(whole, sound)[1])
    assert short.provenance == whole.provenance


@pytest.mark.parametrize(
    "sound",
    [_noise(8000), 1e-4 * _noise(8000), np.zeros(8000, np.float32), np.full(8000, 0.25, np.float32)],
    ids=["loud", "quiet", "silent", "constant"],
)
def test_sound_is_prepared_as_the_networks_own_code_does(sound: NDArray[np.float32]) -> None:
    own = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)(sound, sampling_rate=16000).input_values[0]
    ours = unit_variance(sound)
    assert ours.dtype == np.float32
    assert np.array_equal(ours, own)


def test_the_checkpoint_says_whether_sound_is_normalised(folders: Callable[..., Path], tmp_path: Path) -> None:
    folder = tiny_wav2vec2(tmp_path / "plain")
    description = folder / "preprocessor_config.json"
    description.write_text(description.read_text().replace('"do_normalize": true', '"do_normalize": false'))
    loud, quiet = _noise(6000), _noise(6000) / 8
    normalising, plain = _build(folders()), _build(folder)
    assert np.abs(_encode(normalising, loud)[0] - _encode(normalising, quiet)[0]).max() < 1e-3
    assert np.abs(_encode(plain, loud)[0] - _encode(plain, quiet)[0]).max() > 0.01
    description.unlink()
    with pytest.raises(WeightsError, match=r"holds no preprocessor_config\.json"):
        _build(folder)


@pytest.mark.parametrize(
    ("family", "norm"), [("wav2vec2", "layer"), ("wav2vec2", "group"), ("hubert", "layer"), ("wavlm", "group")]
)
def test_convolutions_in_pieces_give_what_they_give_in_one(
    folders: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, family: str, norm: str
) -> None:
    encoder = _build(folders(family, norm, norm == "layer"))
    # Louder at the end, so that a norm over one piece differs from a norm over all.
    sound = _noise(320 * 24 + 123) * np.linspace(0.1, 4, 320 * 24 + 123, dtype=np.float32)
    (whole,) = _encode(encoder, sound)
    for piece in (7, 23):
        monkeypatch.setattr(hf_speech, "_WHOLE_STEPS", 10)
        monkeypatch.setattr(hf_speech, "_PIECE_STEPS", piece)
        (pieces,) = _encode(encoder, sound)
        assert np.abs(pieces - whole).max() < 2e-5


def test_a_half_precision_file_gives_a_float32_network(folders: Callable[..., Path], tmp_path: Path) -> None:
    network = transformers.Wav2Vec2Model.from_pretrained(folders()).to(torch.bfloat16)
    folder = tmp_path / "half"
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True}))
    encoder = _build(folder)
    assert isinstance(encoder, SpeechEncoder)
    assert {tensor.dtype for tensor in encoder._network.module.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("config", "sentence"),
    [({"conv_stride": (5, 2, 2, 2, 2, 2, 1)}, "every 160"), ({"add_adapter": True}, "adapter: True")],
)
def test_a_network_with_other_steps_is_refused(tmp_path: Path, config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(EncoderError, match=sentence):
        resolve([f"hf:{tiny_wav2vec2(tmp_path / 'other', **config)}"])


def test_the_card_says_when_the_first_row_is() -> None:
    from avfeat.encoders import card_of

    card = card_of("xlsr-2b")
    assert card.first_seconds == pytest.approx(0.0225)
    assert card.output(FeatureName("xlsr-2b", "", 48)).width == 3840
