"""How often does `check` cry wolf? A file against its byte-identical copy, again and again, while the machine is busy.

    python benchmarks/check_false_alarms.py MODEL.tflite --n 50 --busy 2 --budget-s 10

Prints one JSON object: how often each outcome came, and the extremes of the ratio (which is truly 1).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator
from pathlib import Path

from edgedl.pipeline.check import check


@contextlib.contextmanager
def busy(loops: int) -> Generator[None]:
    """Keep that many cores busy with a loop each."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--n", type=int, default=50, help="sessions")
    parser.add_argument("--busy", type=int, default=os.cpu_count(), help="busy loops beside them")
    parser.add_argument("--budget-s", type=float, default=10.0, help="seconds a session may take")
    parser.add_argument("--max-slowdown", type=float, default=0.05)
    options = parser.parse_args()
    outcomes, ratios, seconds = Counter[str](), [], []
    with tempfile.TemporaryDirectory() as folder, busy(options.busy):
        copy = Path(shutil.copy(options.model, Path(folder) / f"copy{options.model.suffix}"))
        for seed in range(options.n):
            started = time.monotonic()
            verdict = check(
                copy, options.model, max_slowdown=options.max_slowdown, budget_s=options.budget_s, seed=seed
            )
            latency = verdict.findings[0]
            outcomes[latency.outcome] += 1
            ratios.append(latency.interval)
            seconds.append(time.monotonic() - started)
            print(f"{seed + 1}/{options.n} {latency.sentence}", file=sys.stderr, flush=True)
    halves = sorted((ratio.high - ratio.low) / 2 for ratio in ratios)
    tally = {
        "model": options.model.name,
        "sessions": options.n,
        "busy_loops": options.busy,
        "budget_s": options.budget_s,
        "max_slowdown": options.max_slowdown,
        "outcomes": dict(outcomes),
        "ratio_smallest": min(ratio.value for ratio in ratios),
        "ratio_largest": max(ratio.value for ratio in ratios),
        "intervals_without_1": sum(not ratio.low <= 1 <= ratio.high for ratio in ratios),
        "half_width_median": halves[len(halves) // 2],
        "half_width_largest": halves[-1],
        "seconds_mean": sum(seconds) / len(seconds),
    }
    print(json.dumps(tally, indent=1))
    return int(outcomes["regressed"] > 0)


if __name__ == "__main__":
    sys.exit(main())
