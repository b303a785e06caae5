"""Energy of this computer's processor, where Linux tells it (RAPL counters under /sys/class/powercap).

The counters are of whole processor packages: what else runs, and what the package draws when idle, is in them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path("/sys/class/powercap")


def energy_per_call_uj(call: Callable[[], None], seconds: float, root: Path = ROOT) -> float | None:
    """Microjoules of all packages while `call` runs again and again for about so long, by call.

    None where there is no counter or this user may not read it (most systems let only root), or none moved.
    """
    before = _read(root)
    if not before:
        return None
    calls, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        call()
        calls += 1
    after = _read(root)
    spent = sum((after[name][0] - start) % range_uj for name, (start, range_uj) in before.items() if name in after)
    return spent / calls if spent and calls else None


def _read(root: Path) -> dict[str, tuple[int, int]]:
    """Of each package: the counter in µJ, and where it wraps."""
    found: dict[str, tuple[int, int]] = {}
    for zone in sorted(root.glob("intel-rapl:*")):  # AMD's processors go by the same name
        try:
            if (zone / "name").read_text().startswith("package"):
                counter, wraps = (int((zone / name).read_text()) for name in ("energy_uj", "max_energy_range_uj"))
                found[zone.name] = counter, wraps + 1
        except (OSError, ValueError):
            continue
    return found
