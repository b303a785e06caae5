"""The variance schedules of diffusion models, for those who train them and those who sample from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedl.core.contract import NoiseSchedule

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def betas(schedule: NoiseSchedule) -> NDArray[np.float64]:
    """β_1 … β_T, shape (steps,).

    linear: evenly from first to last (Ho et al. 2020, §4); cosine: from ᾱ_t = f(t)/f(0) with
    f(t) = cos²((t/T + s)/(1 + s) · π/2) and s = 0.008, at most 0.999 (Nichol & Dhariwal 2021, eq. 17).
    """
    import numpy as np

    if schedule.kind == "linear":
        return np.linspace(schedule.first, schedule.last, schedule.steps, dtype=np.float64)
    t = np.arange(schedule.steps + 1) / schedule.steps
    kept = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - kept[1:] / kept[:-1], 0.999)


def alpha_bars(schedule: NoiseSchedule) -> NDArray[np.float64]:
    """ᾱ_t = Π (1 − β_s): the share of the example's variance that is left at step t (Ho et al. 2020, eq. 4)."""
    import numpy as np

    return np.cumprod(1 - betas(schedule), dtype=np.float64)
