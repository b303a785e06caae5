"""The median of `edgedl profile` against that of LiteRT's own `litert-benchmark`, the two in turns, on the same file.

    python benchmarks/litert_benchmark.py FILE.tflite [--rounds 15] [--seconds 3]

Prints the ratio, edgedl's over LiteRT's, with a 95 % interval (bootstrap over rounds). LiteRT's tool rounds to 0.01 ms:
take a file of some milliseconds.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from edgedl import profile

RESAMPLES = 10_000


def main() -> None:
    """Measure, and say the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=3.0)
    given = parser.parse_args()
    runs = max(20, int(given.seconds * 1e3 / theirs_ms(given.file, 20)))
    ratios: list[float] = []
    for number in range(given.rounds):
        turns = [lambda: theirs_ms(given.file, runs), lambda: ours_ms(given.file, given.seconds)]
        first = number % 2
        times = {turn: turns[turn]() for turn in (first, 1 - first)}
        ratios.append(times[1] / times[0])
        print(f"round {number + 1}: LiteRT {times[0]:.2f} ms, edgedl {times[1]:.3f} ms", file=sys.stderr, flush=True)
    pick = random.Random(0)
    medians = sorted(median(pick.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    low, high = medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES)]
    ratio = f"{median(ratios):.4f} [{low:.4f}, {high:.4f}]"
    print(f"{given.file.name}: edgedl's median is {ratio} times litert-benchmark's")
    print(f"measured in {given.rounds} rounds of {given.seconds:g} s each")


def theirs_ms(path: Path, runs: int) -> float:
    """Median of one process of LiteRT's tool."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        tool = [sys.executable, "-m", "ai_edge_litert.tools.benchmark_litert_model"]
        words = ["--model", str(path), "--num_runs", str(runs), "--warmup_runs", "20", "--num_threads", "1"]
        subprocess.run([*tool, *words, "--result_json", str(answer)], check=True, capture_output=True)
        return float(json.loads(answer.read_text())["latency"]["median_ms"])


def ours_ms(path: Path, seconds: float) -> float:
    """Median of one session."""
    timing = profile(path, budget_s=seconds).models[0].timing
    assert timing is not None
    return timing.median_us.value / 1e3


if __name__ == "__main__":
    main()
