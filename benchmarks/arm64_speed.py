"""How long `arm64` takes for a file, and how much of an inference its costs per op account for.

    python benchmarks/arm64_speed.py FILE.tflite FILE.onnx … [--target raspberry-pi-5] [--times 3]

The time is that of a session of the file alone, the shortest of some: on a machine that does nothing else, they differ
little. Sums of costs are exact, and the same every time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import edgedl


def main() -> None:
    """Profile every file, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--target", default="raspberry-pi-5")
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    print(f"{'file':32} {'seconds':>8} {'instructions':>14} {'ops':>5} {'in ops':>9} {'between':>9}")
    for path in options.files:
        reports = [edgedl.profile(path, device=f"arm64:{options.target}") for _ in range(options.times)]
        (model,) = reports[0].models
        total = model.instructions.total if model.instructions else 0
        if {report.models[0].instructions for report in reports} != {model.instructions}:
            print(f"{path.name}: counts or cache misses differ from one session to the next")
        ops = [op for op in model.ops if op.op != "between the kernels"]
        inside = sum(op.cost for op in ops) / total
        seconds = min(report.seconds for report in reports)
        print(f"{path.name:32} {seconds:8.1f} {total:14,} {len(ops):5} {inside:9.3%} {1 - inside:9.3%}", flush=True)


if __name__ == "__main__":
    main()
