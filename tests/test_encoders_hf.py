import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from avfeat import encoders
from avfeat.encoders import build_encoder, card_of, hf, hf_config, hf_files, resolve
from avfeat.encoders.base import Encoder, FeatureName, Rows
from avfeat.encoders.hf_named import NAMED
from avfeat.encoders.hf_records import FAMILIES
from avfeat.errors import EncoderError, SetupError, WeightsError
from avfeat.views import SOUND, Views
from tests.tiny_models import TINY_MODELS, tiny_clip, tiny_wav2vec2


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVFEAT_CACHE", str(tmp_path / "avfeat-cache"))


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("checkpoints")

    def get(family: str) -> Path:
        return root / family if (root / family).exists() else TINY_MODELS[family](root / family)

    return get


@pytest.fixture
def copied(originals: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda family: Path(shutil.copytree(originals(family), tmp_path / family))


def _rows(encoder: Encoder) -> dict[str, Rows]:
    """Return the rows of noise: half a second of sound, or three pictures."""
    random = np.random.default_rng(0)
    views = Views(sound=random.standard_normal(8000).astype(np.float32))
    (view,) = encoder.reads()
    if view != SOUND:
        pictures = random.integers(0, 256, (3, view.size_px, view.size_px, 3)).astype(np.uint8)
        views = replace(views, pictures={view: pictures})
    encoding = encoder.begin()
    encoding.take(views)
    return {str(name): rows for name, rows in encoding.finish(encoder.wanted).items()}  # type: ignore[misc]


def _build(*texts: str, seed: int | None = None) -> Encoder:
    return build_encoder(*resolve(texts, seed=seed))


@pytest.mark.parametrize(
    ("text", "encoder", "name"),
    [
        ("hf:facebook/hubert-large-ll60k", "hf:facebook/hubert-large-ll60k", "facebook--hubert-large-ll60k"),
        ("hf:a/B.2_c@12", "hf:a/B.2_c", "a--b-2_c@12"),
        ("hf:google/siglip2:face@3", "hf:google/siglip2:face", "google--siglip2-face@3"),
        ("hf:/some where/My.Clip:frame", "hf:/some where/My.Clip:frame", "my-clip"),
        ("hf:/data/net@7", "hf:/data/net", "net@7"),
        ("hf:../x/y/net", "hf:../x/y/net", "net"),
    ],
)
def test_a_checkpoint_is_named_after_its_place(text: str, encoder: str, name: str) -> None:
    assert hf.parse(text) == (encoder, FeatureName.parse(name))


@pytest.mark.parametrize(
    "text", ["hf:", "hf:models", "hf:models/a/b", "hf:/data/clip-vit-l14", "hf:/x/net-random", "hf:/"]
)
def test_a_place_that_is_no_place_or_a_name_that_would_mislead_is_refused(text: str) -> None:
    with pytest.raises(EncoderError):
        hf.parse(text)


def test_features_and_layers_of_a_checkpoint_share_a_request(originals: Callable[[str], Path]) -> None:
    clip = f"hf:{originals('clip')}"
    requests = resolve([clip, f"{clip}:face@1", f"{clip}@2", clip], seed=4)
    assert [(request.encoder, [str(name) for name in request.wanted]) for request in requests] == [
        (clip, ["clip-random", "clip-random@2"]),
        (f"{clip}:face", ["clip-face-random@1"]),
    ]
    with pytest.raises(EncoderError, match="would both be called clip"):
        resolve([clip, f"{clip}:frame@1"])
    with pytest.raises(EncoderError, match="has 1 to 3"):
        resolve([f"{clip}@4"])


def test_sound_has_no_face(originals: Callable[[str], Path]) -> None:
    with pytest.raises(EncoderError, match="reads sound: leave out :face"):
        resolve([f"hf:{originals('hubert')}:face"])


def test_an_architecture_that_nobody_reads_here_is_named_with_those_that_are(tmp_path: Path) -> None:
    transformers.BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(EncoderError, match=r"'bert', which cannot be read here; these can: wav2vec2, hubert"):
        resolve([f"hf:{tmp_path / 'bert'}"])


@pytest.mark.parametrize("family", TINY_MODELS)
@pytest.mark.parametrize("damage", ["removed", "renamed"])
def test_a_tensor_that_is_not_there_is_named(copied: Callable[[str], Path], family: str, damage: str) -> None:
    folder = copied(family)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    beside = r"text_model|decoder|predictor"
    key = next(key for key in sorted(tensors) if not re.search(beside, key) and re.search(r"\.1\..*norm.*bias", key))
    taken = tensors.pop(key)
    if damage == "renamed":
        tensors[f"{key}_"] = taken
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(
        WeightsError, match=rf"lacks {re.sub('^(vision_model|model|videomae).', '', key)}: {family} cannot be built"
    ):
        _build(f"hf:{folder}")


@pytest.mark.parametrize("family", TINY_MODELS)
def test_a_tensor_that_nobody_knows_is_named(copied: Callable[[str], Path], family: str) -> None:
    folder = copied(family)
    file = folder / "model.safetensors"
    save_file(load_file(file) | {"surprise.weight": torch.zeros(2)}, file, {"format": "pt"})
    with pytest.raises(WeightsError, match=r"holds surprise\.weight, which"):
        _build(f"hf:{folder}")


def test_a_tensor_of_another_shape_is_named(copied: Callable[[str], Path]) -> None:
    folder = copied("dinov2")
    file = folder / "model.safetensors"
    save_file(load_file(file) | {"layernorm.weight": torch.zeros(5)}, file, {"format": "pt"})
    with pytest.raises(WeightsError, match=r"layernorm\.weight \(5,\) instead of \(32,\)"):
        _build(f"hf:{folder}")


def test_blocks_that_nobody_asked_for_are_not_even_read(copied: Callable[[str], Path]) -> None:
    for family in ("hubert", "clip"):
        folder = copied(family)
        file = folder / "model.safetensors"
        whole = load_file(file)
        outer = {key for key in whole if "encoder.layers.2." in key and "text_model" not in key}
        assert outer
        save_file({key: tensor for key, tensor in whole.items() if key not in outer}, file, {"format": "pt"})
        assert len(_rows(_build(f"hf:{folder}@1", f"hf:{folder}@2"))) == 2
        with pytest.raises(WeightsError, match=r"lacks encoder\.layers\.2\.[^ ]+, .* and 11 more"):
            _build(f"hf:{folder}")


def test_heads_of_other_tasks_are_left_out(tmp_path: Path, originals: Callable[[str], Path]) -> None:
    config = transformers.Wav2Vec2Config.from_pretrained(originals("wav2vec2"))
    for form in ("Wav2Vec2ForCTC", "Wav2Vec2ForPreTraining", "Wav2Vec2ForXVector", "Wav2Vec2ForSequenceClassification"):
        folder = tmp_path / form.lower()
        getattr(transformers, form)(config).save_pretrained(folder)
        shutil.copy(originals("wav2vec2") / "preprocessor_config.json", folder)
        assert len(_rows(_build(f"hf:{folder}@1"))) == 1


def test_damaged_and_absent_files_are_named(copied: Callable[[str], Path]) -> None:
    folder = copied("clip")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"clip: .*model\.safetensors cannot be read"):
        _build(f"hf:{folder}")
    file.unlink()
    with pytest.raises(WeightsError, match=r"holds neither model\.safetensors nor pytorch_model\.bin"):
        _build(f"hf:{folder}")
    (folder / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"config\.json cannot be read"):
        _build(f"hf:{folder}")
    (folder / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"holds no config\.json"):
        _build(f"hf:{folder}")


def test_sharded_files_are_all_read_and_hashed(originals: Callable[[str], Path], tmp_path: Path) -> None:
    network = transformers.CLIPModel.from_pretrained(originals("clip"))
    folder = tmp_path / "clip"
    network.save_pretrained(folder, max_shard_size="60KB")
    shutil.copy(originals("clip") / "preprocessor_config.json", folder)
    encoder = _build(f"hf:{folder}")
    shards = sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(shards) > 1
    assert [each["file"] for each in encoder.provenance["weights"]][2:] == shards
    assert np.array_equal(_rows(encoder)["clip"], _rows(_build(f"hf:{originals('clip')}"))["clip"])
    (folder / shards[0]).unlink()
    with pytest.raises(WeightsError, match=shards[0]):
        _build(f"hf:{folder}")


def test_the_older_form_of_weights_is_read_as_tensors_only(copied: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copied("wav2vec2")
    (right,) = _rows(_build(f"hf:{folder}")).values()
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    (rows,) = _rows(_build(f"hf:{folder}")).values()
    assert np.array_equal(rows, right)

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"masked_spec_embed": Evil()}, folder / "pytorch_model.bin", pickle_module=pickle)
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin cannot be read"):
        _build(f"hf:{folder}")
    assert not (tmp_path / "ran").exists()


def test_random_weights_are_decided_by_their_seed(originals: Callable[[str], Path]) -> None:
    for family in ("wav2vec2", "clip"):
        text = f"hf:{originals(family)}"
        torch.manual_seed(99)
        before = torch.random.get_rng_state()
        first, again, other = (_rows(_build(text, f"{text}@1", seed=seed)) for seed in (1, 1, 2))
        assert torch.equal(torch.random.get_rng_state(), before)
        assert set(first) == {f"{family}-random", f"{family}-random@1"}
        for name, rows in first.items():
            assert np.array_equal(rows, again[name])
            assert np.abs(rows - other[name]).max() > 0.01
        (alone,) = _rows(_build(f"{text}@1", seed=1)).values()
        assert np.array_equal(alone, first[f"{family}-random@1"])


def test_random_weights_need_no_tensors_and_are_recorded(copied: Callable[[str], Path]) -> None:
    folder = copied("clip")
    (folder / "model.safetensors").unlink()
    encoder = _build(f"hf:{folder}", seed=7)
    assert encoder.provenance["weights"] == "random"
    assert encoder.provenance["seed"] == 7
    assert encoder.provenance["config"]["num_hidden_layers"] == 3


def test_provenance_says_what_the_rows_were_made_with(originals: Callable[[str], Path]) -> None:
    provenance = _build(f"hf:{originals('clip')}").provenance
    hashes = {each["file"]: each["sha256"] for each in provenance["weights"]}
    assert set(hashes) == {"config.json", "preprocessor_config.json", "model.safetensors"}
    assert provenance["settings"] == {"final_norm": "auto", "fit": "squash"}
    assert set(provenance["versions"]) == {"torch", "transformers", "numpy", "pillow"}
    assert provenance["input"]["size"] == 28


MILLIONS = {
    "xlsr-2b": 2159,
    "xlsr-300m": 315,
    "hubert-large": 315,
    "wavlm-large": 315,
    "whisper-large-v3": 636,
    "clip-vit-l14": 303,
    "dinov2-large": 304,
    "siglip2-large": 315,
    "videomae-large": 303,
    "vjepa2-vitl": 303,
}
"""Parameters of the part that runs."""


@pytest.mark.parametrize(("name", "millions"), MILLIONS.items())
def test_a_named_record_is_the_published_network(name: str, millions: int) -> None:
    record = NAMED[name]
    family = FAMILIES[record.family]
    with torch.device("meta"):
        network = getattr(transformers, family.model)(
            getattr(transformers, family.config)(**record.config, **family.unbuilt)
        )
    running = network.get_submodule(family.part)
    assert sum(tensor.numel() for tensor in running.parameters()) // 1_000_000 == millions
    assert card_of(name).layers == network.config.num_hidden_layers
    factor = 2 if family.hears else 1
    assert card_of(name).outputs[""].width == factor * network.config.hidden_size


@pytest.fixture
def tiny_entry(monkeypatch: pytest.MonkeyPatch) -> str:
    """A named entry of the table, small enough to be built here."""
    config = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    record = replace(
        NAMED["clip-vit-l14"],
        repository="someone/tiny-clip",
        config=config | {"image_size": 28, "patch_size": 14},
        input=dict(NAMED["clip-vit-l14"].input) | {"size": 28},
    )
    monkeypatch.setitem(hf.NAMED, "tiny", record)
    monkeypatch.setitem(hf.CARDS, "tiny", hf.named_card("tiny", record))
    monkeypatch.setitem(hf.SETTINGS, "tiny", hf.settings_of(FAMILIES[record.family], record.view))
    monkeypatch.setitem(encoders.ENCODERS, "tiny", "avfeat.encoders.hf")
    return "tiny"


def test_a_named_encoder_takes_a_folder_that_holds_its_network(
    tiny_entry: str, originals: Callable[[str], Path], tmp_path: Path
) -> None:
    encoder = build_encoder(*resolve([tiny_entry, "tiny@2"], weights=originals("clip")))
    assert encoder.card == card_of("tiny")
    assert np.array_equal(_rows(encoder)["tiny"], _rows(_build(f"hf:{originals('clip')}"))["clip"])
    deeper = tiny_clip(tmp_path / "deeper", num_hidden_layers=4)
    with pytest.raises(WeightsError, match="is not tiny: it has num_hidden_layers 4 instead of 3; name it hf:"):
        build_encoder(*resolve([tiny_entry], weights=deeper))
    with pytest.raises(WeightsError, match="is not tiny: it has architecture Wav2Vec2Model instead of CLIPVisionModel"):
        build_encoder(*resolve([tiny_entry], weights=tiny_wav2vec2(tmp_path / "speech")))


def test_a_name_that_ends_in_random_has_seed_0(tiny_entry: str) -> None:
    (plain,) = resolve(["tiny-random@2"])
    assert (plain.encoder, plain.seed, [str(name) for name in plain.wanted]) == ("tiny", 0, ["tiny-random@2"])
    (seeded,) = resolve(["tiny-random", "tiny"], seed=5)
    assert (seeded.seed, [str(name) for name in seeded.wanted]) == (5, ["tiny-random"])
    assert [request.seed for request in resolve(["tiny", "tiny-random"])] == [None, 0]
    assert _rows(build_encoder(plain))["tiny-random@2"].shape == (3, 32)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of the hub, and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hf_files._snapshot.cache_clear()
    yield tmp_path / "hub"
    hf_files._snapshot.cache_clear()


def _publish(hub: Path, folder: Path, repository: str, commit: str) -> Path:
    """Put a folder into the hub's cache, laid out as its client does."""
    home = hub / f"models--{repository.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(commit)
    return Path(shutil.copytree(folder, home / "snapshots" / commit))


@pytest.mark.usefixtures("hub")
def test_what_cannot_be_downloaded_says_which_files_to_put_where(tiny_entry: str) -> None:
    files = r"put config\.json, preprocessor_config\.json and model\.safetensors .* into one folder"
    with pytest.raises(WeightsError, match=rf"someone/tiny-clip.*{files} and give it with --weights FOLDER"):
        build_encoder(*resolve([tiny_entry]))
    with pytest.raises(WeightsError, match=rf"other/net is not in the cache.*{files} and give it as hf:FOLDER"):
        resolve(["hf:other/net"])
    assert files.split(" ")[-1] in str(encoders.describe("tiny")["missing"])


def test_a_cached_repository_is_used_without_a_network(
    hub: Path, tiny_entry: str, originals: Callable[[str], Path]
) -> None:
    commit = "0123456789" * 4
    snapshot = _publish(hub, originals("clip"), "someone/tiny-clip", commit)
    assert encoders.describe("tiny")["available"]
    encoder = build_encoder(*resolve([tiny_entry]))
    assert encoder.provenance["revision"] == commit
    assert np.array_equal(_rows(encoder)["tiny"], _rows(_build("hf:someone/tiny-clip"))["someone--tiny-clip"])
    with (snapshot / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    with pytest.raises(WeightsError, match=r"model\.safetensors has changed"):
        build_encoder(*resolve([tiny_entry]))


def test_a_half_fetched_repository_is_not_taken_for_a_whole_one(
    hub: Path, tiny_entry: str, originals: Callable[[str], Path]
) -> None:
    snapshot = _publish(hub, originals("clip"), "someone/tiny-clip", "0123456789" * 4)
    (snapshot / "model.safetensors").unlink()
    assert not encoders.describe("tiny")["available"]
    with pytest.raises(WeightsError, match=r"gave config\.json and the tensors"):
        build_encoder(*resolve([tiny_entry]))


def test_a_version_that_misreads_weights_is_refused(
    monkeypatch: pytest.MonkeyPatch, originals: Callable[[str], Path]
) -> None:
    monkeypatch.setattr(hf_config, "version", lambda name: "5.17.0")
    with pytest.raises(SetupError, match=r"5\.17\.0 is older than 5\.18"):
        resolve([f"hf:{originals('clip')}"])
