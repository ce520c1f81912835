"""A linear score taken apart into its patches, against the encoder's own rows and against slow, plain arithmetic."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from avfeat.encoders import build_encoder, fsfm, resolve
from avfeat.encoders.base import FeatureName, Output
from avfeat.encoders.fsfm import Sizes
from avfeat.encoders.fsfm_encoder import DEVIATION, MEAN, FsfmEncoder, Weights
from avfeat.encoders.fsfm_model import fresh_tensors
from avfeat.encoders.patch_encoder import PatchEncoder
from avfeat.errors import EncoderError
from tests.tiny_models import tiny_clip, tiny_dinov2, tiny_dinov2_registers, tiny_siglip

TOWERS = {"clip": tiny_clip, "dinov2": tiny_dinov2, "registers": tiny_dinov2_registers}
CASES = [
    *((family, suffix, {}) for family in TOWERS for suffix in ("", "@2")),
    *((family, suffix, {"final_norm": "on"}) for family in ("clip", "dinov2") for suffix in ("@1", "@3")),
    ("clip", "", {"final_norm": "off"}),
    *(("fsfm", suffix, {"pooling": pooling}) for pooling in ("mean", "class") for suffix in ("", "@1")),
    ("fsfm", "", {"fit": "resize256-centre224"}),
]


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., PatchEncoder]:
    root = tmp_path_factory.mktemp("towers")

    def get(family: str, suffix: str = "", settings: Any = None) -> PatchEncoder:
        if family == "fsfm":
            return tiny_fsfm(suffix, settings or {})
        folder = root / family
        if not folder.exists():
            TOWERS[family](folder)
        encoder = build_encoder(*resolve([f"hf:{folder}{suffix}"], settings=settings))
        assert isinstance(encoder, PatchEncoder)
        return encoder

    return get


def tiny_fsfm(suffix: str, settings: dict[str, str]) -> FsfmEncoder:
    own = {"pooling": "mean", "crop": "upright", "fit": "squash"} | settings
    sizes = Sizes(width=32, layers=3, heads=4, picture_px=224, patch_px=112)
    random = torch.Generator().manual_seed(2)
    tensors = {
        key: tensor + 0.3 * torch.randn(tensor.shape, generator=random)
        for key, tensor in fresh_tensors(sizes, 1).items()
    }
    view = fsfm.view(own["crop"], own["fit"])
    card = replace(fsfm.card(view), outputs={"": Output((view,), sizes.width)}, layers=sizes.layers)
    wanted = (FeatureName.parse(f"fsfm-vit-b16{suffix}"),)
    return FsfmEncoder(card, wanted, Weights(tensors, sizes, MEAN, DEVIATION, {}), own)


def pictures_for(encoder: PatchEncoder, count: int = 3) -> NDArray[np.uint8]:
    size = encoder.view.size_px
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


def linear(width: int = 32) -> tuple[NDArray[np.float32], float]:
    return np.random.default_rng(5).standard_normal(width).astype(np.float32), 0.75


@pytest.mark.parametrize(("family", "suffix", "settings"), CASES)
def test_shares_and_rest_sum_to_the_score_of_the_encoders_own_rows(
    encoders: Callable[..., PatchEncoder], family: str, suffix: str, settings: dict[str, str]
) -> None:
    encoder = encoders(family, suffix, settings)
    pictures = pictures_for(encoder)
    (name,) = encoder.wanted
    weight, bias = linear()
    rows = encoder.encode_pictures(pictures, [name])[name]
    scores = rows @ weight / np.linalg.norm(rows, axis=1) + bias
    found = encoder.explain_pictures(pictures, name, weight, bias)
    total = found.shares.sum(axis=(1, 2)) + sum(found.rest.values())
    assert found.shares.shape == (3, 2, 2) and found.gradcam.shape == (3, 2, 2)
    assert np.abs(found.scores - scores).max() < 1e-4
    assert np.abs(total - scores).max() < 1e-4
    assert np.abs(found.shares).max() > 1e-3


def test_the_shares_of_a_picture_do_not_depend_on_its_neighbours(encoders: Callable[..., PatchEncoder]) -> None:
    encoder = encoders("clip")
    pictures, (weight, bias) = pictures_for(encoder), linear()
    together = encoder.explain_pictures(pictures, encoder.wanted[0], weight, bias)
    for k in range(3):
        alone = encoder.explain_pictures(pictures[k : k + 1], encoder.wanted[0], weight, bias)
        assert np.abs(alone.shares[0] - together.shares[k]).max() < 1e-5
        assert np.abs(alone.gradcam[0] - together.gradcam[k]).max() < 1e-5


def test_explaining_leaves_the_encoder_as_it_was(encoders: Callable[..., PatchEncoder]) -> None:
    encoder = encoders("dinov2")
    pictures, (name,) = pictures_for(encoder), encoder.wanted
    before = encoder.encode_pictures(pictures, [name])[name]
    encoder.explain_pictures(pictures, name, *linear())
    assert np.array_equal(encoder.encode_pictures(pictures, [name])[name], before)


def test_clips_shares_are_those_of_plain_attention_with_the_messages_written_out(tmp_path: Path) -> None:
    folder = tiny_clip(tmp_path / "clip")
    (encoder,) = [build_encoder(*resolve([f"hf:{folder}"]))]
    assert isinstance(encoder, PatchEncoder)
    pictures, (weight, bias) = pictures_for(encoder, 1), linear()
    found = encoder.explain_pictures(pictures, encoder.wanted[0], weight, bias)
    network = transformers.CLIPVisionModel.from_pretrained(folder, attn_implementation="eager").eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False)
    values = processor(list(pictures), do_resize=False, do_center_crop=False, return_tensors="pt").pixel_values
    with torch.inference_mode():
        out = network(values, output_hidden_states=True, output_attentions=True)
        parts = dict(network.named_modules())
        layers = next(part for name, part in parts.items() if name.endswith("encoder.layers"))
        norm = next(part for name, part in parts.items() if name.endswith("post_layernorm"))
        final, vector = out.hidden_states[-1][0, 0].double(), out.pooler_output[0].double()
        spread = (final.var(correction=0) + norm.eps).sqrt() * vector.norm()
        direction = norm.weight.double() * torch.from_numpy(weight)
        direction = direction - direction.mean()
        shares = torch.zeros(5, dtype=torch.float64)
        for number, layer in enumerate(layers):
            states = layer.layer_norm1(out.hidden_states[number])[0]
            sent = layer.self_attn.v_proj(states)
            for token in range(5):
                weights = out.attentions[number][0, :, 0, token].repeat_interleave(8)
                message = layer.self_attn.out_proj.weight @ (weights * sent[token])
                shares[token] += direction @ message.double() / spread
    assert np.abs(found.shares.ravel() - shares[1:].numpy()).max() < 1e-5
    assert abs(found.rest["leading tokens"][0] - float(shares[0])) < 1e-5


def test_gradcam_is_the_gradient_at_the_tokens_that_enter_the_last_block(tmp_path: Path) -> None:
    folder = tiny_clip(tmp_path / "clip")
    (encoder,) = [build_encoder(*resolve([f"hf:{folder}"]))]
    assert isinstance(encoder, PatchEncoder)
    pictures, (weight, bias) = pictures_for(encoder, 1), linear()
    found = encoder.explain_pictures(pictures, encoder.wanted[0], weight, bias)
    network = transformers.CLIPVisionModel.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False)
    values = processor(list(pictures), do_resize=False, do_center_crop=False, return_tensors="pt").pixel_values
    out = network(values, output_hidden_states=True)
    for before in (out.hidden_states[2], out.hidden_states[3]):
        before.retain_grad()
    vector = out.pooler_output[0]
    (vector @ torch.from_numpy(weight) / vector.norm()).backward()
    tokens, gradient = out.hidden_states[2][0, 1:], out.hidden_states[2].grad[0, 1:]
    right = (tokens @ gradient.mean(dim=0)).relu().detach().numpy()
    assert np.abs(found.gradcam.ravel() - right).max() < 1e-5
    assert found.gradcam.max() > 0
    # Why not one block later: of the tokens that leave the last block only the class token is read.
    assert float(out.hidden_states[3].grad[0, 1:].abs().max()) == 0.0


def test_a_patch_that_the_score_looks_for_has_the_largest_share(encoders: Callable[..., PatchEncoder]) -> None:
    encoder = encoders("fsfm")
    (name,) = encoder.wanted
    plain = np.full((1, 224, 224, 3), 90, np.uint8)
    marked = plain.copy()
    marked[0, 112:, :112] = np.random.default_rng(0).integers(0, 256, (112, 112, 3))
    before, after = (encoder.encode_pictures(each, [name])[name][0] for each in (plain, marked))
    weight = (after / np.linalg.norm(after) - before / np.linalg.norm(before)).astype(np.float32)
    found = encoder.explain_pictures(marked, name, weight, 0.0)
    assert np.unravel_index(np.argmax(found.shares[0]), (2, 2)) == (1, 0)


def test_the_patches_of_a_smaller_middle_lie_in_the_middle(encoders: Callable[..., PatchEncoder]) -> None:
    assert encoders("fsfm").patch_box() == (0, 0, 224, 224)
    assert encoders("fsfm", settings={"fit": "resize256-centre224"}).patch_box() == (16, 16, 240, 240)
    assert encoders("clip").patch_box() == (0, 0, 28, 28)


def test_a_network_that_pools_by_attention_is_refused_by_name(tmp_path: Path) -> None:
    encoder = build_encoder(*resolve([f"hf:{tiny_siglip(tmp_path / 'siglip')}"]))
    assert isinstance(encoder, PatchEncoder)
    with pytest.raises(EncoderError, match="siglip has no class token"):
        encoder.explain_pictures(pictures_for(encoder), encoder.wanted[0], *linear())


def test_parts_that_miss_the_score_are_refused_and_not_shown(encoders: Callable[..., PatchEncoder]) -> None:
    encoder = encoders("clip")
    encoder._heads = 2  # type: ignore[attr-defined]
    with pytest.raises(EncoderError, match="miss its score"):
        encoder.explain_pictures(pictures_for(encoder), encoder.wanted[0], *linear())
