"""Milliseconds from counts: how long a described processor would take for the instructions of one inference.

The model is the usual first-order one of processor design (Eyerman, Eeckhout, Karkhanis & Smith 2009, "A mechanistic
performance model for superscalar out-of-order processors", ACM TOCS 27(2), §3): cycles are those of the resource that
is busiest, issue slots, memory or vector units, plus what misses of the caches cost. One factor, the same for all
processors, stands for what the model leaves out (dependences, branch misses); it was fitted to published times.
"""

from __future__ import annotations

from edgedl.core.artifacts import Estimate, Instructions
from edgedl.core.statistics import Interval
from edgedl.devices.arm64.profiles import ArmProfile

LEFT_OUT = 1.0
"""Cycles really needed over those of the busiest resource."""


def cycles(counted: Instructions, profile: ArmProfile) -> float:
    """Estimated cycles of one inference. Needs a profile with a clock, as memory's latency is in nanoseconds."""
    assert profile.clock_mhz is not None
    pipes = profile.pipes
    busiest = max(
        counted.total / pipes.width, (counted.load + counted.store) / pipes.memory, counted.simd / pipes.vector
    )
    latencies = [cache.latency_cycles for cache in profile.caches[1:]]
    latencies.append(profile.memory_latency_ns * profile.clock_mhz / 1e3)
    misses = [cache.misses for cache in counted.caches]
    served = [here - below for here, below in zip(misses, [*misses[1:], 0], strict=True)]
    stalls = sum(count * latency for count, latency in zip(served, latencies, strict=True))
    return LEFT_OUT * busiest + (1 - pipes.hides_misses) * stalls


def estimated(counted: Instructions, profile: ArmProfile) -> Estimate:
    """Microseconds of one inference on a product."""
    assert profile.clock_mhz is not None
    latency_us = cycles(counted, profile) / profile.clock_mhz
    return Estimate(Interval(latency_us, latency_us, latency_us), "")
