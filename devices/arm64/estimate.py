"""Milliseconds from counts: how long a described processor would take for the instructions of one inference.

The model is the usual first-order one of processor design (Eyerman, Eeckhout, Karkhanis & Smith 2009, "A mechanistic
performance model for superscalar out-of-order processors", ACM TOCS 27(2), section 3): cycles are those of the resource
that is busiest, issue slots, memory or vector units, plus the share of the caches' misses that is not hidden behind
other work. That share is the one thing fitted, for each core with published times (`published.yaml`); other cores get
the mean of the fitted ones. What an estimate for another core is worth is what the fit of one core says of the others.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

import yaml

from edgedl.core.artifacts import Estimate, Instructions
from edgedl.core.statistics import Interval
from edgedl.devices.arm64.profiles import ArmProfile, load

PUBLISHED = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class Work:
    """What an inference asks of a processor: instructions, and misses by level of cache, nearest first."""

    total: int
    memory: int
    vector: int
    misses: tuple[int, ...]


@dataclass(frozen=True)
class Reference:
    """A time that was measured by others, and the work of the same model as counted for the same processor."""

    model: str
    profile: ArmProfile
    published_us: float
    work: Work


def estimated(counted: Instructions, profile: ArmProfile) -> Estimate:
    """Microseconds of one inference on a product, which has a clock; bounds from the largest error on references."""
    assert counted.load is not None and counted.store is not None and counted.simd is not None  # QEMU's counter tells
    misses = tuple(cache.misses for cache in counted.caches)
    work = Work(counted.total, counted.load + counted.store, counted.simd, misses)
    shares, found = exposed_shares(), errors()
    latency_us = _latency_us(work, profile, shares.get(profile.core, fmean(shares.values())))
    worst = max(map(abs, found))
    fitted = "" if profile.core in shares else f"; no published time of a {profile.core} is among them"
    basis = (
        f"instructions, modelled cache misses and {profile.clock_mhz:g} MHz; median error {median(map(abs, found)):.0%}"
        f", largest {worst:.0%} on {len(found)} published times of cores that were not fitted{fitted}"
    )
    return Estimate(Interval(latency_us, latency_us * (1 - worst), latency_us * (1 + worst)), basis)


def errors() -> Sequence[float]:
    """By reference: the estimate over the published time, less one, with the share fitted on the other cores."""
    found: list[float] = []
    for one in references():
        share = fmean(share for core, share in exposed_shares().items() if core != one.profile.core)
        found.append(_latency_us(one.work, one.profile, share) / one.published_us - 1)
    return found


@functools.cache
def exposed_shares() -> dict[str, float]:
    """By core with published times: the share of misses' latency that is not hidden; the median over its references."""
    found: dict[str, list[float]] = {}
    for one in references():
        busy, stalls = _cycles(one.work, one.profile)
        cycles = one.published_us * _clock(one.profile)
        found.setdefault(one.profile.core, []).append((cycles - busy) / stalls)
    return {core: median(shares) for core, shares in found.items()}


@functools.cache
def references() -> Sequence[Reference]:
    """All of `published.yaml`."""
    return [
        Reference(
            one["model"],
            load(one["target"]),
            1e3 * one["published_ms"],
            Work(one["total"], one["load"] + one["store"], one["simd"], tuple(one["misses"])),
        )
        for one in yaml.safe_load(PUBLISHED.read_text())
    ]


def _latency_us(work: Work, profile: ArmProfile, share: float) -> float:
    busy, stalls = _cycles(work, profile)
    return (busy + share * stalls) / _clock(profile)


def _cycles(work: Work, profile: ArmProfile) -> tuple[float, float]:
    """Cycles of the busiest resource, and cycles that all misses would take one after the other."""
    pipes = profile.pipes
    busy = max(work.total / pipes.width, work.memory / pipes.memory, work.vector / pipes.vector)
    latencies = [cache.latency_cycles for cache in profile.caches[1:]]
    latencies.append(profile.memory_latency_ns * _clock(profile) / 1e3)
    served = [here - below for here, below in zip(work.misses, [*work.misses[1:], 0], strict=True)]
    return busy, sum(count * latency for count, latency in zip(served, latencies, strict=True))


def _clock(profile: ArmProfile) -> float:
    """Cycles a microsecond."""
    assert profile.clock_mhz is not None
    return profile.clock_mhz
