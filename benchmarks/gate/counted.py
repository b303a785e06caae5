"""Decisions by counted instructions, on a busy machine: +1 %, +0.33 % and a copy, with a limit of 0.1 %.

python -m benchmarks.gate.counted --work DIR [--devices arm64:cortex-a76,counters:callgrind] [--n 20]
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections import Counter
from pathlib import Path
from statistics import median

from benchmarks.gate.loads import CORES, busy
from benchmarks.gate.models import LAYERS_COUNTED, stack

from edgedl.core.files import write_atomically
from edgedl.pipeline.check.files import check
from edgedl.pipeline.check.limits import Limits

MAX_SLOWDOWN = 0.001


def main() -> None:
    """Decide, and write counted.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--devices", default="arm64:cortex-a76,counters:callgrind")
    parser.add_argument("--n", type=int, default=20)
    options = parser.parse_args()
    folder = options.work / "counted"
    base = stack(folder / "base.tflite", LAYERS_COUNTED)
    files = {
        "a copy": Path(shutil.copy(base, folder / "copy.tflite")),
        "+0.33 %": stack(folder / "plus-1.tflite", LAYERS_COUNTED + 1),
        "+1 %": stack(folder / "plus-3.tflite", LAYERS_COUNTED + 3),
    }
    found = []
    with busy(CORES):
        for device in options.devices.split(","):
            for name, new in files.items():
                outcomes, ratios, seconds = Counter[str](), set[float](), []
                for seed in range(options.n):
                    started = time.monotonic()
                    finding = check(new, base, Limits(max_slowdown=MAX_SLOWDOWN), device=device, seed=seed).findings[0]
                    seconds.append(time.monotonic() - started)
                    outcomes[finding.outcome] += 1
                    ratios.add(round(finding.change, 7))
                one = {"device": device, "work": name, "n": options.n, **outcomes, "ratios": sorted(ratios),
                       "seconds_median": median(seconds)}  # fmt: skip
                print(json.dumps(one), flush=True)
                found.append(one)
    write_atomically(options.work / "counted.json", json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
