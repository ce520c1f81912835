"""What AV-HuBERT's encoder adds to its network: views to rows against a bare forward pass on ready tensors.

The ratio is that of processor time, which another program on the same machine hardly changes; the time on the clock is
in the facts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch

from avfeat.encoders import build_encoder, resolve
from avfeat.encoders.avhubert.encoder import AvHubertEncoder
from avfeat.encoders.avhubert.preprocess import central, normalised
from avfeat.encoders.base import FeatureName
from avfeat.encoders.filterbank import stacked_filterbank
from avfeat.timeline import RATE_HZ, SAMPLES_PER_FRAME
from avfeat.views import MOUTH, Views
from bench.report import Ratio, report

COMMAND = "python -m bench.avhubert"


def seconds_of(call: Callable[[], Any]) -> tuple[float, float]:
    """Return processor time and time on the clock."""
    start, cpu = time.perf_counter(), time.process_time()
    call()
    return time.process_time() - cpu, time.perf_counter() - start


def measure(encoder: AvHubertEncoder, frames: int, rounds: int) -> tuple[list[Ratio], dict[str, list[float]]]:
    """Return the ratios, and for each the medians of ours and the bare pass on the clock, in ms per second of clip."""
    random = np.random.default_rng(0)
    mouths = random.integers(0, 256, (frames, 96, 96), np.uint8)
    sound = (0.1 * random.standard_normal(frames * SAMPLES_PER_FRAME)).astype(np.float32)
    views = Views(0, {MOUTH: mouths}, sound)
    audio = torch.from_numpy(stacked_filterbank(sound))[None]
    video = torch.from_numpy(normalised(central(mouths)))[None]
    name = encoder.card.name
    given = {"a": (audio, None), "v": (None, video), "av": (audio, video)}

    def encoded(streams: tuple[str, ...]) -> None:
        encoder.encode(views, [FeatureName(f"{name}-random", stream) for stream in streams])

    @torch.inference_mode()
    def bare(streams: tuple[str, ...]) -> None:
        for stream in streams:
            encoder.model(*given[stream])

    ratios, clock = [], {}
    for streams in (("av",), ("a",), ("v",), ("a", "v", "av")):
        bare(streams)
        times = [(*seconds_of(lambda: encoded(streams)), *seconds_of(lambda: bare(streams))) for _ in range(rounds)]  # noqa: B023
        medians = [statistics.median(each) * 1000 / (frames / RATE_HZ) for each in zip(*times, strict=True)]
        ours, theirs = medians[::2]
        what = f"{name}.{','.join(streams)} from views"
        target = ">= 0.8" if len(streams) == 1 else ">= 1"
        baseline = "bare forward" if len(streams) == 1 else "three bare forwards"
        ratios.append(Ratio(what, ours, theirs, "ms per second", baseline, theirs / ours, target, COMMAND))
        clock[what] = medians[1::2]
    return ratios, clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="avhubert-large")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of the clip")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    (request,) = resolve([f"{options.encoder}-random.av"])
    encoder = cast(AvHubertEncoder, build_encoder(request))
    ratios, clock = measure(encoder, round(options.seconds * RATE_HZ), options.rounds)
    facts = {"threads": torch.get_num_threads(), "seconds": options.seconds, "rounds": options.rounds}
    report(ratios, facts | {"on the clock": clock})


if __name__ == "__main__":
    main()
