"""Run every measurement (``python -m bench``), print one line per ratio, keep them as JSON in bench/out."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
NOT_MEASUREMENTS = {"__init__", "__main__", "report", "mouths", "plain"}
"""``mouths`` compares crops, and needs clips of real faces; ``plain`` is what ``probe`` measures against."""


def main() -> None:
    """Run each file in a process of its own, so that none inherits another's memory or threads."""
    out = HERE / "out"
    out.mkdir(exist_ok=True)
    results = out / "results.jsonl"
    results.unlink(missing_ok=True)
    failed = []
    for path in sorted(HERE.glob("*.py")):
        if path.stem in NOT_MEASUREMENTS:
            continue
        environment = os.environ | {"AVFEAT_BENCH_JSON": str(results)}
        if subprocess.run([sys.executable, "-m", f"bench.{path.stem}"], env=environment).returncode:
            failed.append(path.stem)
    print(f"results in {results}", file=sys.stderr)
    if failed:
        sys.exit(f"these measurements stopped with an error: {', '.join(failed)}")


if __name__ == "__main__":
    main()
