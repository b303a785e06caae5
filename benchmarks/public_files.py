"""Every .tflite and .onnx file under some folders on a device: a time, or the one line that says why there is none.

    python benchmarks/public_files.py FOLDER… [--device cpu] [--budget-s 0.5]

A fault of edgedl's own (anything but its own errors) ends the script.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from edgedl import profile
from edgedl.core.errors import EdgedlError


def main() -> None:
    """Profile all of them, one session each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--budget-s", type=float, default=0.5)
    given = parser.parse_args()
    files = sorted(
        path for folder in given.folders for kind in ("tflite", "onnx") for path in folder.rglob(f"*.{kind}")
    )
    tally: Counter[str] = Counter()
    for path in files:
        try:
            report = profile(path, device=given.device, budget_s=given.budget_s)
            speed = report.speed(report.models[0])
            said = f"{speed.value.value:,.1f} {speed.unit} ({speed.obtained})" if speed else "ran; no time"
            tally["profiled"] += 1
        except EdgedlError as error:
            said = " ".join(str(error).split())
            tally[f"refused, exit {int(error.exit_code)}"] += 1
        print(f"{path.name}: {said}", flush=True)
    print(f"{len(files)} files on {given.device}: " + ", ".join(f"{count} {what}" for what, count in tally.items()))


if __name__ == "__main__":
    main()
