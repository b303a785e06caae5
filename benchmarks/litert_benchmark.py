"""The median of `edgedl profile` against that of LiteRT's own `litert-benchmark`, interleaved, on the same file.

    python benchmarks/litert_benchmark.py FILE.tflite [--rounds 12] [--runs 300]

A shared host changes its speed by half within seconds, so two commands one after the other measure two machines. In a
round (a process of its own) both tools run as they are, LiteRT's `run_benchmark` and the session that `edgedl profile`
takes in each of its processes, but only one of them at a moment: each hands over to the other after a few of its own
inferences, always before its clock starts. Each tool's own timer, inputs, options and median are used. Prints the
ratio, edgedl's median over LiteRT's, with a 95 % interval (bootstrap over rounds). LiteRT's tool rounds to 0.01 ms:
take a file of some milliseconds.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from unittest import mock

from ai_edge_litert.tools import benchmark_litert_model as litert_benchmark

from edgedl.devices import session
from edgedl.devices.results import timing_of

RESAMPLES = 10_000
HAND_OVER = 5  # inferences
PROCESS_S = 0.5  # of edgedl's own measuring, as in a session of about a quarter of a minute


def main() -> None:
    """Measure, and say the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--runs", type=int, default=300, help="inferences of LiteRT's tool in a round")
    given = parser.parse_args()
    ratios: list[float] = []
    for number in range(given.rounds):
        with multiprocessing.get_context("spawn").Pool(1) as child:
            ours, theirs = child.apply(one_round, (given.file, given.runs, number))
        ratios.append(ours / theirs)
        print(f"round {number + 1}: LiteRT {theirs:.2f} ms, edgedl {ours:.3f} ms", file=sys.stderr, flush=True)
    pick = random.Random(0)
    medians = sorted(median(pick.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    low, high = medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES)]
    ratio = f"{median(ratios):.4f} [{low:.4f}, {high:.4f}]"
    print(f"{given.file.name}: edgedl's median is {ratio} times litert-benchmark's")
    print(
        f"measured in {given.rounds} processes, {given.runs} inferences of LiteRT's tool in each, about as many of ours"
    )


def one_round(path: Path, runs: int, number: int) -> tuple[float, float]:
    """Medians (ms) of edgedl and of LiteRT's tool, which take turns in this process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # LiteRT tells its loading there
    turns = Turns()
    answer: list[float] = []
    other = threading.Thread(target=lambda: answer.append(turns.run("litert", lambda: theirs_ms(path, runs))))
    theirs, mine = turns.clock("litert"), turns.clock("edgedl")
    with mock.patch.object(litert_benchmark, "time", theirs), mock.patch.object(session, "time", mine):
        other.start()
        ours = turns.run("edgedl", lambda: ours_ms(path, number, other))
        other.join()
    return ours, answer[0]


Run = Callable[[], float]


class Turns:
    """Two threads of which one runs at a moment."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._turn = "edgedl"
        self._ended: set[str] = set()

    def run(self, name: str, work: Run) -> float:
        """Do the work of one thread in its turns."""
        self._wait(name)
        try:
            return work()
        finally:
            with self._condition:
                self._ended.add(name)
                self._turn = other_of(name)
                self._condition.notify_all()

    def hand_over(self, name: str) -> None:
        """Let the other go on, and wait for the turn."""
        with self._condition:
            self._turn = other_of(name)
            self._condition.notify_all()
        self._wait(name)

    def _wait(self, name: str) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._turn == name or other_of(name) in self._ended)

    def clock(self, name: str) -> Clock:
        """A `time` module for one of the tools."""
        return Clock(self, name)


class Clock:
    """`time`, whose timers hand over before every fifth inference: a tool reads them before and after each."""

    def __init__(self, turns: Turns, name: str) -> None:
        self._turns, self._name, self._reads = turns, name, 0
        self.monotonic = time.monotonic

    def perf_counter(self) -> float:
        """Seconds."""
        return self.perf_counter_ns() / 1e9

    def perf_counter_ns(self) -> int:
        """Nanoseconds."""
        if self._reads % (2 * HAND_OVER) == 0:
            self._turns.hand_over(self._name)
        self._reads += 1
        return time.perf_counter_ns()


def other_of(name: str) -> str:
    """The other thread."""
    return "litert" if name == "edgedl" else "edgedl"


def theirs_ms(path: Path, runs: int) -> float:
    """Median of LiteRT's tool."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        answer = Path(folder) / "answer.json"
        words = ["--model", str(path), "--num_runs", str(runs), "--warmup_runs", "20", "--num_threads", "1"]
        with mock.patch.object(sys, "argv", ["litert-benchmark", *words, "--result_json", str(answer)]):
            arguments = litert_benchmark.parse_args()
        litert_benchmark.run_benchmark(arguments)
        return float(json.loads(answer.read_text())["latency"]["median_ms"])


def ours_ms(path: Path, number: int, until: threading.Thread) -> float:
    """Median of edgedl's sessions, taken as long as the other thread runs."""
    timed: list[session.Timed] = []
    while not timed or until.is_alive():
        task = session.TimingTask(((path, "tflite"),), 1, True, seed=number, order_seed=len(timed), seconds=PROCESS_S)
        timed.extend(session.time_files(task))
    return timing_of(timed, seed=0).median_us.value / 1e3


if __name__ == "__main__":
    main()
