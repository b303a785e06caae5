"""How often does `edgedl check` cry wolf, and how often does it miss one? docs/gate.md has the answers.

    python -m benchmarks.gate.record --work DIR [--models ../shared/data/mlperf_tiny]     # decisions, resumable
    python -m benchmarks.gate.counted --work DIR                                          # the same with counters
    python -m benchmarks.gate.table --work DIR --docs docs                                # docs/gate.json, plots

models: files that differ by a known amount of work. loads: a busy machine. peers: other gates on the same samples.
"""
