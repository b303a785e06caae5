"""What other gates say of the same samples, by their documented rules.

Each is asked twice: with the old file's samples of the same session (which no peer takes: it is the best they could
have), and as they are used, with the old file's samples of the session before (a result that was stored).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from scipy.stats import mannwhitneyu


@dataclass(frozen=True)
class Samples:
    """One file in one session. blocks: means of blocks of up to 20 inferences; smallest: of all inferences; in µs."""

    blocks: Sequence[float]
    smallest: float


Gate = Callable[[Samples, Samples], bool]
"""From (old, new) to whether it fails the build."""


def ratio_of_means(threshold: float) -> Gate:
    """github-action-benchmark: fails where the new value is over `fail-threshold` times the stored one.

    Its tools give a mean per iteration. Default 200 %; its README shows others.
    """
    return lambda old, new: fmean(new.blocks) / fmean(old.blocks) > threshold


def ratio_of_minima(threshold: float) -> Gate:
    """pytest-benchmark, `--benchmark-compare-fail=min:5%`: fails where the smallest time grew by more than that."""
    return lambda old, new: new.smallest / old.smallest > threshold


def asv(factor: float) -> Gate:
    """asv continuous: medians differ by more than `factor` and Mann–Whitney's U finds p < 0.002 (its defaults: 1.1)."""

    def fails(old: Samples, new: Samples) -> bool:
        over = median(new.blocks) / median(old.blocks) > factor
        return over and float(mannwhitneyu(old.blocks, new.blocks).pvalue) < 0.002

    return fails


PEERS: Mapping[str, Gate] = {
    "github-action-benchmark, 200 % (default)": ratio_of_means(2.0),
    "github-action-benchmark, 105 %": ratio_of_means(1.05),
    "github-action-benchmark, 101 %": ratio_of_means(1.01),
    "pytest-benchmark, min:5%": ratio_of_minima(1.05),
    "pytest-benchmark, min:1%": ratio_of_minima(1.01),
    "asv, factor 1.1 (default)": asv(1.1),
    "asv, factor 1.01": asv(1.01),
}
