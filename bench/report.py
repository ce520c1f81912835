"""One line per ratio: name, ours, baseline, ratio, and the command that measures this one alone."""

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ratio:
    """Ours against a named baseline of the same run; ``ratio`` above 1 means that ours is better."""

    name: str
    ours: float
    baseline: float
    unit: str
    baseline_name: str
    ratio: float
    target: str
    command: str


def report(ratios: list[Ratio], facts: dict[str, object] | None = None) -> None:
    """Print the lines and, when AVFEAT_BENCH_JSON names a file, append them to it as JSON lines."""
    for row in ratios:
        print(
            f"{row.name}: ours {row.ours:.4g} {row.unit}, {row.baseline_name} {row.baseline:.4g} {row.unit}, "
            f"ratio {row.ratio:.3g} (bar {row.target})  [{row.command}]",
            flush=True,
        )
    target = os.environ.get("AVFEAT_BENCH_JSON")
    if target:
        with Path(target).open("a") as file:
            for row in ratios:
                file.write(json.dumps(asdict(row) | {"facts": facts or {}}) + "\n")
    elif facts:
        print(json.dumps(facts), file=sys.stderr)
