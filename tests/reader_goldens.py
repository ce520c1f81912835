"""The golden cases of Auto-AVSR and BRAVEn: ours, those of ../shared, and those below AVFEAT_GOLDEN."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import HERE
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from avfeat.encoders.base import Card, Encoder, FeatureName, Output, Rows
from avfeat.encoders.lips import normalised
from avfeat.encoders.official import needed
from avfeat.encoders.relative import Branch
from avfeat.errors import ClipError
from avfeat.views import MOUTH_COLOUR, Views

SHARED = Path(__file__).resolve().parents[2] / "shared" / "golden"


@dataclass(frozen=True)
class Case:
    """One model of a golden set: ``<name>.json`` says what it is and where its tensors are."""

    folder: Path
    name: str

    @cached_property
    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.folder / f"{self.name}.json").read_text())
        return facts

    @cached_property
    def io(self) -> dict[str, Tensor]:
        return load_file(self.folder / f"{self.name}.io.safetensors")

    @property
    def is_video(self) -> bool:
        return bool(self.facts["modality"] == "video")

    def state(self) -> dict[str, Tensor]:
        """Return the official tensors, those of a shared front-end in their places."""
        state = load_file(self.folder / self.facts["weights_file"])
        if "frontend_weights_file" in self.facts:
            shared = load_file(self.folder / self.facts["frontend_weights_file"])
            for old, new in self.facts["frontend_weights_prefix_map"].items():
                parts = {new + key.removeprefix(old): each for key, each in shared.items() if key.startswith(old)}
                state |= {key: each.float() if each.is_floating_point() else each for key, each in parts.items()}
        return state

    def needed(self) -> dict[str, Tensor]:
        return needed(self.state())


def _folders(family: str) -> list[tuple[Path, Any]]:
    more = os.environ.get("AVFEAT_GOLDEN")
    further = sorted(path for path in Path(more).rglob(family) if path.is_dir()) if more else []
    return [(HERE / family, ()), (SHARED / family, pytest.mark.shared), *((folder, ()) for folder in further)]


def cases(family: str) -> list[Any]:
    """Return every case of a family as a pytest parameter; names may be anything, the JSON says what is in them."""
    found = []
    for folder, marks in _folders(family):
        for path in sorted(folder.glob("*.json")):
            if "weights_file" in json.loads(path.read_text()):
                name = f"{folder.parent.parent.name}-{path.stem}"
                found.append(pytest.param(Case(folder, path.stem), marks=marks, id=name))
    return found


def preprocessing(family: str) -> list[Any]:
    """Return the ``preprocessing`` tensors of every set that has them."""
    return [
        pytest.param(path, marks=marks, id=folder.parent.parent.name)
        for folder, marks in _folders(family)
        if (path := folder / "preprocessing.io.safetensors").is_file()
    ]


def check_pictures(io: Mapping[str, Tensor]) -> None:
    """Hold every prepared mouth of a set to the reference's."""
    prefix = "input/roi_rgb_uint8_"
    sizes = [key.removeprefix(prefix) for key in io if key.startswith(prefix)]
    assert sizes
    for size in sizes:
        wanted = io[f"output/video_{size}"]
        assert worst(normalised(io[prefix + size].numpy()), wanted.view(-1, *wanted.shape[-2:])) < 1e-6


def worst(found: Tensor | NDArray[np.float32], wanted: Tensor) -> float:
    """Return the largest difference, in units of the larger of 1 and the largest wanted value."""
    found = torch.as_tensor(found)
    assert found.shape == wanted.shape
    return float((found.double() - wanted.double()).abs().max()) / max(1.0, float(wanted.abs().max()))


def check_steps(branch: Branch, model_input: Tensor, wanted: Mapping[str, Tensor]) -> int:
    """Hold every step of a branch to the reference's: ``frontend``, ``proj``, ``block_i``, ``feature``."""
    blocks = len(branch.encoders)
    vectors = branch.frontend(model_input)
    found: dict[str, Tensor] = {"frontend": vectors, "proj": branch.embed(vectors)}
    outputs = branch.transform(vectors, {None, *range(1, blocks + 1)})
    found |= {f"block_{number - 1}": outputs[number] for number in range(1, blocks + 1)}
    assert outputs[None] is not None
    found["feature"] = outputs[None]
    checked = [name for name in found if name in wanted]
    for name in checked:
        assert worst(found[name], wanted[name]) < 5e-5, name
    return len(checked)


def narrow(card: Card, widths: Mapping[str, int], layers: int) -> Card:
    """Return a card for a small network."""
    outputs = {stream: Output(card.outputs[stream].reads, width) for stream, width in widths.items()}
    return replace(card, outputs=outputs, layers=layers)


def encode(
    encoder: Encoder,
    mouths: NDArray[np.uint8] | None,
    sound: NDArray[np.float32] | None,
    *streams: str,
    block: int = 32,
) -> dict[str, Rows | ClipError]:
    """Give a clip in blocks, sound with the last, as extraction does."""
    encoding = encoder.begin()
    for start in range(0, 0 if mouths is None else len(mouths), block):
        assert mouths is not None
        encoding.take(Views(start, {MOUTH_COLOUR: mouths[start : start + block]}))
    encoding.take(Views(sound=sound))
    names = [FeatureName.parse(f"{encoder.card.name}.{stream}") for stream in streams]
    found = encoding.finish(names)
    return {stream: found[name] for stream, name in zip(streams, names, strict=True)}
