"""Takes decisions of `edgedl check`, and keeps each with what other gates need of the same samples.

    python -m benchmarks.gate.record --work DIR [--models FOLDER] [--load busy,quiet] [--share 1.0]

One JSON line a decision in DIR/decisions.jsonl; what is there is not taken again. --models: a folder with MLPerf Tiny's
models; without it the stack alone. --share: of the decisions planned for each pair (2: twice as many). About 2 h.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from benchmarks.gate.loads import CORES, busy, wait_until_quiet
from benchmarks.gate.models import LAYERS, stack

from edgedl.core.artifacts import LatencyReport
from edgedl.pipeline.check.files import check
from edgedl.pipeline.check.limits import Limits

MAX_SLOWDOWN, BUDGET_S = 0.01, 60.0
"""Of every decision here, whatever the pair."""


@dataclass(frozen=True)
class Pair:
    """Two files, the work that the new one adds in percent, and how many decisions are planned under each load."""

    name: str
    old: Path
    new: Path
    added: float
    n: Mapping[str, int]


def pairs(work: Path, models: Path | None) -> list[Pair]:
    """What is decided on; 1,054 decisions are of a file against its copy."""
    folder = work / "models"
    base = stack(folder / "stack.tflite", LAYERS)
    real = {
        "KWS int8": ("keyword_spotting/trained_models/kws_ref_model.tflite", 119, 204),
        "ResNet-8 int8": ("image_classification/trained_models/pretrainedResnet_quant.tflite", 102, 153),
        "autoencoder float32": ("anomaly_detection/trained_models/ad01_fp32.tflite", 17, 17),
    }
    found = [
        Pair("stack", base, stack(folder / f"stack+{added}.tflite", LAYERS + added), added, _planned(*n))
        for added, *n in ((5, 102, 68), (2, 85, 51), (10, 26, 17))
    ]
    found.append(Pair("stack", base, _copied(base, folder), 0, _planned(*(187, 255) if models else (425, 629))))
    if models:
        found += [
            Pair(name, models / path, _copied(models / path, folder), 0, _planned(*n))
            for name, (path, *n) in real.items()
        ]
    return found


def _planned(busy: int, quiet: int) -> Mapping[str, int]:
    return {"busy": busy, "quiet": quiet}


def _copied(file: Path, folder: Path) -> Path:
    return Path(shutil.copy(file, folder / f"{file.stem}-copy.tflite"))


@dataclass(frozen=True)
class Decision:
    """One call of `check`. added: in percent. ratio: value, low, high. visible: of the noise floor.

    old, new: means of blocks of up to 20 inferences, and the smallest time of all; p10: of each block, by process, of
    old, new and old again; in microseconds.
    """

    pair: str
    added: float
    load: str
    seed: int
    outcome: str
    ratio: tuple[float, float, float]
    itself: tuple[float, float, float]
    visible: float
    processes: int
    seconds: float
    old: tuple[float, ...]
    new: tuple[float, ...]
    old_min: float
    new_min: float
    p10: tuple[tuple[tuple[float, ...], ...], ...]


def decide(pair: Pair, load: str, seed: int) -> Decision:
    """Call `check` once."""
    started = time.monotonic()
    verdict = check(pair.new, pair.old, Limits(max_slowdown=MAX_SLOWDOWN), budget_s=BUDGET_S, seed=seed)
    seconds = time.monotonic() - started
    finding, report, noise = verdict.findings[0], verdict.latency, verdict.noise
    assert report and noise and finding.interval
    (old, old_min), (new, new_min) = (_samples(report, index) for index in (0, 1))
    ratio, itself = ((one.value, one.low, one.high) for one in (finding.interval, noise.itself))
    p10 = tuple(
        tuple(tuple(round(sorted(block)[max(math.ceil(0.1 * len(block)) - 1, 0)], 3) for block in process)
              for process in model.timing.blocks_us)
        for model in report.models if model.timing
    )  # fmt: skip
    return Decision(
        pair.name, pair.added, load, seed, finding.outcome, ratio, itself, noise.visible, report.processes, seconds,
        old, new, old_min, new_min, p10,
    )  # fmt: skip


def _samples(report: LatencyReport, index: int) -> tuple[tuple[float, ...], float]:
    timing = report.models[index].timing
    assert timing
    blocks: Sequence[Sequence[float]] = [block for process in timing.blocks_us for block in process]
    return tuple(round(fmean(block), 3) for block in blocks), min(min(block) for block in blocks)


def main() -> None:
    """Take the decisions that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--load", default="busy,quiet")
    parser.add_argument("--share", type=float, default=1.0)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    log = options.work / "decisions.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = {(one["pair"], one["added"], one["load"], one["seed"]) for one in lines}
    planned = pairs(options.work, options.models)
    for load in options.load.split(","):
        with busy(CORES) if load == "busy" else contextlib.nullcontext(), log.open("a") as file:
            for pair in planned:
                for seed in range(round(options.share * pair.n[load])):
                    if (pair.name, pair.added, load, seed) in done:
                        continue
                    if load == "quiet":
                        wait_until_quiet()
                    decision = decide(pair, load, seed)
                    file.write(json.dumps(asdict(decision)) + "\n")
                    file.flush()
                    print(
                        f"{load} {pair.name} +{pair.added} % {seed + 1}: {decision.outcome} "
                        f"{decision.ratio[0]:.4f} {decision.seconds:.1f} s",
                        file=sys.stderr,
                    )


if __name__ == "__main__":
    main()
