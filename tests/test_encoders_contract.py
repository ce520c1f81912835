"""What every encoder promises, whatever it is made of."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from avfeat.encoders import ENCODERS, build_encoder, card_of, resolve
from avfeat.encoders.base import Encoder, Rows, check_rows
from avfeat.errors import TooShortError
from avfeat.landmarks import Track
from avfeat.timeline import RATE_HZ, SAMPLES_PER_FRAME
from avfeat.views import MOUTH, SOUND, TRACK, Views
from tests.tiny_models import TINY_PICTURES, TINY_SPEECH
from tests.tiny_native import TINY_NATIVE

TINY = TINY_SPEECH | TINY_PICTURES
# The published networks are too large for a test; tiny ones of their families stand in for them.
EVERY = [
    *(name for name in ENCODERS if not card_of(name).weights),
    *TINY,
    *(f"{family} random" for family in (*TINY, *TINY_NATIVE)),
]


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
            if family in TINY:
                folder = root / family
                text = f"hf:{folder if folder.exists() else TINY[family](folder)}"
            texts = [text, f"{text}@1"] if family in TINY else [text]
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
