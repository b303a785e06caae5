#!/usr/bin/env python3
"""An `adb` without a phone: it runs the very commands it is given, Arm64 programs under QEMU.

The folder that FAKE_PHONE names stands for the phone: `root/` is its file system, `state.json` says what it is like:
serials (serial number → state), thermal (statuses told one after the other, the last for ever), khz (clocks by
processor), runs_by (the words that start an Arm64 program here), gone_after (commands after which the cable is out).
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

PHONE = Path(os.environ["FAKE_PHONE"])
STATE = json.loads((PHONE / "state.json").read_text())
PRELUDE = """
uname() { if [ "$1" = -m ]; then echo aarch64; else echo Linux 5.10.198-android13; fi; }
getprop() { echo Pixel of Paper; }
taskset() { echo "taskset $1" >> "$FAKE_PHONE/log"; shift; "$@"; }
dumpsys() {
  if [ "$1" = battery ]; then printf '  level: 83\\n  temperature: 314\\n'; else echo Thermal Status: THERMAL; fi
}
"""


def next_of(name: str, values: list) -> object:
    """The next of some values; a counter file remembers."""
    counter = PHONE / name
    seen = int(counter.read_text()) if counter.exists() else 0
    counter.write_text(str(seen + 1))
    return values[min(seen, len(values) - 1)]


def main(words: list[str]) -> int:
    if words == ["devices"]:
        print("List of devices attached")
        for serial, state in STATE["serials"].items():
            print(f"{serial}\t{state}")
        return 0
    assert words[0] == "-s", words
    serial, words = words[1], words[2:]
    if STATE["serials"].get(serial) != "device":
        print(f"adb: device '{serial}' not found", file=sys.stderr)
        return 1
    limit = STATE.get("gone_after")
    if limit is not None and next_of("commands", [False] * limit + [True]):
        print(f"error: device '{serial}' not found", file=sys.stderr)
        return 1
    root = PHONE / "root"
    if words[0] == "push":
        for path in words[1:-1]:
            shutil.copyfile(path, f"{root}{words[-1]}{Path(path).name}")
        return 0
    assert words[:2] == ["shell", "-T"], words
    script = words[2]
    with (PHONE / "log").open("a") as log:
        log.write(script + "\n")
    thermal = next_of("thermal", STATE["thermal"]) if "thermalservice" in script else 0
    script = script.replace("/data/local/tmp", f"{root}/data/local/tmp").replace("/sys/", f"{root}/sys/")
    script = re.sub(r"(\./ld-linux-aarch64\.so\.1)", STATE["runs_by"] + r" \1", script)
    words = ["sh", "-c", PRELUDE.replace("THERMAL", str(thermal)) + script]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout.replace(str(root), ""), end="")
    return done.returncode


sys.exit(main(sys.argv[1:]))
