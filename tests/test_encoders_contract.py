"""What every encoder promises, whatever it is made of."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from avfeat.encoders import ENCODERS, build_encoder, card_of, resolve
from avfeat.encoders.base import DtypeCompute, Encoder, Rows, check_rows
from avfeat.encoders.computing import HalfEncoder, check_dtype
from avfeat.errors import SetupError, TooShortError
from avfeat.landmarks import Track
from avfeat.timeline import RATE_HZ, SAMPLES_PER_FRAME
from avfeat.views import MOUTH, SOUND, TRACK, Views
from tests.tiny_models import TINY_MODELS, TINY_SPEECH
from tests.tiny_native import TINY_NATIVE

# The published networks are too large for a test; tiny ones of their families stand in for them.
EVERY = [
    *(name for name in ENCODERS if not card_of(name).weights),
    *TINY_MODELS,
    *(f"{family} random" for family in (*TINY_MODELS, *TINY_NATIVE)),
]
NETWORKS = [*TINY_MODELS, *(f"{family} random" for family in TINY_NATIVE)]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Encoder]:
    root: Path = tmp_path_factory.mktemp("encoders")
    made: dict[str, Encoder] = {}

    def build(name: str) -> Encoder:
        if name not in made:
            family, _, random = name.partition(" ")
            if family in TINY_NATIVE:
                made[name] = TINY_NATIVE[family](3)
                return made[name]
            text = name
            if family in TINY_MODELS:
                folder = root / family
                text = f"hf:{folder if folder.exists() else TINY_MODELS[family](folder)}"
            texts = [text, f"{text}@1"] if family in TINY_MODELS else [text]
            made[name] = build_encoder(*resolve(texts, seed=3 if random else None))
        return made[name]

    return build


def _clip(encoder: Encoder, frames: int, seed: int = 0) -> Views:
    """Return a clip of so many frames as ``encoder`` wants to see it: noise, a shaking face."""
    random = np.random.default_rng(seed)
    pictures = {
        view: random.integers(0, 256, (frames, view.size_px, view.size_px, *([] if view == MOUTH else [3]))).astype(
            "u1"
        )
        for view in encoder.reads() - {SOUND, TRACK}
    }
    sound = (0.1 * random.standard_normal(SAMPLES_PER_FRAME * frames)).astype(np.float32)
    face = 100 * np.random.default_rng(0).standard_normal((68, 2))
    points = (200 + face + random.standard_normal((frames, 68, 2))).astype(np.float32)
    shapes = random.random((frames, 52)).astype(np.float32)
    seen = np.ones(frames, bool)
    return Views(0, pictures, sound, Track(points, shapes, seen, seen.astype(np.uint8), 400, 400))


def _encode(encoder: Encoder, clip: Views, block: int = 32) -> list[Rows]:
    """Give the clip in blocks, sound and track with the last, as extraction does."""
    encoding = encoder.begin()
    frames = len(clip.track.found) if clip.track else 0
    for start in range(0, frames, block):
        pictures = {view: given[start : start + block] for view, given in clip.pictures.items()}
        last = start + block >= frames
        encoding.take(Views(start, pictures, clip.sound if last else None, clip.track if last else None))
    given = encoding.finish(encoder.wanted)
    rows = []
    for name in encoder.wanted:
        value = given[name]
        assert isinstance(value, np.ndarray)
        rows.append(check_rows(encoder.card, name, value))
    return rows


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("frames", [1, 5, 33])
def test_a_clip_gives_a_row_for_each_frame_of_the_width_on_the_card(
    make: Callable[[str], Encoder], name: str, frames: int
) -> None:
    encoder = make(name)
    for name_of, rows in zip(encoder.wanted, _encode(encoder, _clip(encoder, frames)), strict=True):
        assert rows.shape == (frames * encoder.card.rate_hz / RATE_HZ, encoder.card.output(name_of).width)


@pytest.mark.parametrize("name", EVERY)
def test_the_time_on_the_card_is_within_10_ms_of_the_middle_of_the_first_row(
    make: Callable[[str], Encoder], name: str
) -> None:
    card = make(name).card
    assert card.rate_hz in (25, 12.5)
    assert abs(card.first_seconds - 0.5 / card.rate_hz) < 0.0101


@pytest.mark.parametrize("name", EVERY)
def test_the_same_clip_gives_the_same_bits(make: Callable[[str], Encoder], name: str) -> None:
    encoder = make(name)
    clip = _clip(encoder, 12)
    for once, twice in zip(_encode(encoder, clip), _encode(encoder, clip), strict=True):
        assert np.array_equal(once, twice)


@pytest.mark.parametrize("name", EVERY)
def test_neither_blocks_nor_other_clips_change_a_number(make: Callable[[str], Encoder], name: str) -> None:
    encoder = make(name)
    clip, other = _clip(encoder, 10), _clip(encoder, 7, seed=1)
    alone = _encode(encoder, clip)
    between = encoder.begin()
    between.take(other)
    in_blocks = _encode(encoder, clip, block=1)
    for one, two in zip(alone, in_blocks, strict=True):
        assert np.abs(one - two).max() < 1e-4
    assert all(
        np.array_equal(rows, right)
        for rows, right in zip(between.finish(encoder.wanted).values(), _encode(encoder, other), strict=True)
    )


@pytest.mark.parametrize("name", [name for name in EVERY if name != "landmarks"])
def test_another_clip_gives_other_numbers(make: Callable[[str], Encoder], name: str) -> None:
    encoder = make(name)
    for one, two in zip(_encode(encoder, _clip(encoder, 5)), _encode(encoder, _clip(encoder, 5, seed=1)), strict=True):
        assert np.abs(one - two).max() > 1e-3


@pytest.mark.parametrize("name", EVERY)
def test_names_and_provenance_say_whether_weights_are_random(make: Callable[[str], Encoder], name: str) -> None:
    encoder = make(name)
    random = name.endswith(" random")
    assert all(feature.is_random == random for feature in encoder.wanted)
    assert (encoder.provenance.get("seed") == 3) == random
    assert encoder.provenance["versions"]


@pytest.mark.parametrize("name", [name for name in EVERY if name.split()[0] in ("logmel", *TINY_SPEECH)])
def test_no_sound_at_all_is_a_failed_clip(make: Callable[[str], Encoder], name: str) -> None:
    encoder = make(name)
    encoding = encoder.begin()
    encoding.take(Views(sound=np.zeros(0, np.float32)))
    with pytest.raises(TooShortError):
        encoding.finish(encoder.wanted)


@pytest.mark.parametrize("name", EVERY)
def test_clips_that_go_through_together_get_the_rows_that_each_gets_alone(
    make: Callable[[str], Encoder], name: str
) -> None:
    encoder = make(name)
    clips = [_clip(encoder, frames, seed=frames) for frames in (3, 70, 40, 41, 1, 12)]
    encodings = [encoder.begin() for _ in clips]
    for encoding, clip in zip(encodings, clips, strict=True):
        encoding.take(clip)
    encoder.together(encodings)
    for encoding, clip in zip(encodings, clips, strict=True):
        given = encoding.finish(encoder.wanted)
        for feature, alone in zip(encoder.wanted, _encode(encoder, clip), strict=True):
            rows = given[feature]
            assert isinstance(rows, np.ndarray) and rows.shape == alone.shape
            assert np.abs(rows - alone).max() < 1e-4


# Of all rows of a clip, the length of the difference by the length of the rows; random tiny networks, noise.
TOLERANCE: dict[DtypeCompute, float] = {"bf16": 0.02, "fp16": 0.003}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_half_precision_is_within_its_tolerance_of_float32_and_says_so(
    make: Callable[[str], Encoder], name: str, dtype: DtypeCompute
) -> None:
    encoder = make(name)
    try:
        check_dtype("cpu", dtype)
    except SetupError as error:  # an older processor
        assert f"this CPU does not compute in {dtype}: use --dtype-compute fp32" in str(error)
        return
    half = HalfEncoder(encoder, "cpu", dtype)
    assert half.provenance["dtype_compute"] == dtype
    summed = set()  # what the blocks add to, from the first to the last
    handles = [
        block.register_forward_pre_hook(lambda _, given: summed.add(given[0].dtype)) for block in encoder.blocks()
    ]
    clip = _clip(encoder, 20)
    halved = _encode(half, clip)
    for handle in handles:
        handle.remove()
    assert summed == {torch.float32}
    for rows, exact in zip(halved, _encode(encoder, clip), strict=True):
        assert 0 < np.linalg.norm(rows - exact) < TOLERANCE[dtype] * np.linalg.norm(exact)


@pytest.mark.parametrize("name", NETWORKS)
def test_blocks_behind_the_last_one_asked_for_do_not_run(name: str, tmp_path: Path) -> None:
    family = name.split()[0]
    if family in TINY_MODELS:
        encoder = build_encoder(*resolve([f"hf:{TINY_MODELS[family](tmp_path / family)}@1"]))
    else:
        encoder = TINY_NATIVE[family](3)
        encoder.wanted = tuple(feature for feature in encoder.wanted if feature.layer == 1)
    assert [feature.layer for feature in encoder.wanted] == [1]
    ran: list[int] = []
    for number, block in enumerate(encoder.blocks()):
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
    _encode(encoder, _clip(encoder, 5))
    assert len(ran) == 1
