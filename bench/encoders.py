"""What encoders add to their networks: views to rows against a bare forward pass; and what changes how they compute.

Seeded random weights; base width, and as few blocks as show what a block costs. Each pair of sides runs in turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avfeat.encoders import build_encoder, resolve
from avfeat.encoders.base import Encoder, Request
from avfeat.encoders.branches import BranchEncoder
from avfeat.encoders.fsfm_encoder import FsfmEncoder
from avfeat.encoders.hf_load import Network
from avfeat.timeline import RATE_HZ, SAMPLES_PER_FRAME
from avfeat.views import SOUND, Views
from bench.report import Ratio, report

COMMAND = "python -m bench.encoders"
ROUNDS = 3
BASE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 4, "num_attention_heads": 12}
CONFIGS: dict[str, dict[str, Any]] = {
    "wav2vec2": BASE
    | {"model_type": "wav2vec2", "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
    "clip": BASE | {"model_type": "clip_vision_model", "image_size": 224, "patch_size": 16},
    "videomae": BASE | {"model_type": "videomae", "image_size": 224, "num_frames": 16, "use_mean_pooling": False},
}
FRAMES = {"wav2vec2": 100, "clip": 8, "videomae": 16, "fsfm-vit-b16": 4, "auto-avsr": 25}
"""Of one clip."""


def request_of(name: str, root: Path) -> Request:
    if name not in CONFIGS:
        (request,) = resolve([f"{name}-random.v" if name == "auto-avsr" else f"{name}-random"])
        return request
    folder = root / name
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIGS[name]))
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True}))
    (request,) = resolve([f"hf:{folder}"], seed=0)
    return request


def clip_of(encoder: Encoder, frames: int, seed: int = 0) -> Views:
    random = np.random.default_rng(seed)
    pictures = {
        view: random.integers(0, 256, (frames, view.size_px, view.size_px, 3), np.uint8)
        for view in encoder.reads() - {SOUND}
    }
    return Views(0, pictures, (0.1 * random.standard_normal(frames * SAMPLES_PER_FRAME)).astype(np.float32))


def encode(encoder: Encoder, clips: list[Views], together: bool = False) -> None:
    encodings = [encoder.begin() for _ in clips]
    for encoding, clip in zip(encodings, clips, strict=True):
        encoding.take(clip)
    if together:
        encoder.together(encodings)
    for encoding in encodings:
        encoding.finish(encoder.wanted)


def bare(encoder: Encoder, frames: int) -> Callable[[], Any]:
    """Return a forward pass of the encoder's module over ready tensors of the size of one clip."""
    if isinstance(encoder, BranchEncoder):
        branch: Any = encoder.networks["v"]
        video = torch.randn(1, frames, 88, 88)
        return lambda: branch.transform(branch.frontend(video))
    if isinstance(encoder, FsfmEncoder):
        faces = torch.randn(frames, 3, 224, 224)
        return lambda: encoder._network(faces, {12})
    network: Network = encoder._network  # type: ignore[attr-defined]
    (view,) = encoder.reads()
    shape = (frames * SAMPLES_PER_FRAME,) if view == SOUND else (frames, 3, view.size_px, view.size_px)
    pictures_alone = view != SOUND and not hasattr(encoder, "span")
    values = torch.randn(*shape) if pictures_alone else torch.randn(1, *shape)
    return lambda: network.module(values)


def compared(ours: Callable[[], Any], theirs: Callable[[], Any], seconds: float) -> tuple[float, float]:
    """Return the median milliseconds per second of media of both, in turns."""
    sides: tuple[list[float], list[float]] = ([], [])
    for call in (ours, theirs):
        call()
    for _ in range(ROUNDS):
        for side, call in zip(sides, (ours, theirs), strict=True):
            start = time.perf_counter()
            with torch.inference_mode():
                call()
            side.append(time.perf_counter() - start)
    first, second = (1000 * statistics.median(side) / seconds for side in sides)
    return first, second


def ratio(what: str, name: str, baseline: str, times: tuple[float, float], target: str) -> Ratio:
    command = f"{COMMAND} {name}"
    return Ratio(f"{name} {what}", times[0], times[1], "ms per second", baseline, times[1] / times[0], target, command)


def measure(name: str, root: Path, compiled: bool) -> list[Ratio]:
    request, frames = request_of(name, root), FRAMES[name]
    encoder = build_encoder(request)
    clips, seconds = [clip_of(encoder, frames)], frames / RATE_HZ
    times = compared(lambda: encode(encoder, clips), bare(encoder, frames), seconds)
    rows = [ratio("from views", name, "bare forward", times, ">= 0.8")]
    others: dict[str, Request] = {"in bf16": replace(request, dtype_compute="bf16")}
    if compiled:
        others["compiled"] = replace(request, compile=True)
    for what, changed in others.items():
        other = build_encoder(changed)
        times = compared(lambda: encode(other, clips), lambda: encode(encoder, clips), seconds)  # noqa: B023
        rows.append(ratio(what, name, "float32", times, "none"))
    if name == "wav2vec2":
        many = [clip_of(encoder, each, each) for each in (25, 40, 60, 90)]
        seconds = sum(len(clip.sound) for clip in many if clip.sound is not None) / RATE_HZ / SAMPLES_PER_FRAME
        times = compared(lambda: encode(encoder, many, together=True), lambda: encode(encoder, many), seconds)
        rows.append(ratio("four clips together", name, "one after another", times, "none: for GPUs"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(FRAMES), help="of " + ", ".join(FRAMES))
    parser.add_argument("--compile", action="store_true", help="compiled blocks too: minutes more")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.names:
            facts = {"threads": torch.get_num_threads(), "rounds": ROUNDS}
            report(measure(name, Path(folder), options.compile), facts)


if __name__ == "__main__":
    main()
