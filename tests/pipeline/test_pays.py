"""What a technique brings on a target, in plain sentences."""

from __future__ import annotations

import re

import pytest

from edgedl.core.artifacts import (
    Conditions,
    Instructions,
    LatencyReport,
    ModelLatency,
    Record,
    Timing,
)
from edgedl.core.statistics import Interval, exact
from edgedl.pipeline.pays import does_not_pay


def report(*models: ModelLatency) -> LatencyReport:
    return LatencyReport(
        name="files", record=Record(), device="a-device", hardware="", obtained="measured", runtimes={}, models=models,
        conditions=Conditions(None, None, None, threads=1, xnnpack=True), processes=1, warm_up=0, stopped="",
        seconds=0.0,
    )  # fmt: skip


def model(file: str, size: int, **more: object) -> ModelLatency:
    return ModelLatency(**{"file": file, "sha256": "", "size_bytes": size, "runtime": "", "ops": (), **more})


def timed(ratio: Interval | None) -> Timing:
    return Timing((((1.0,),),), exact(1.0), exact(1.0), exact(1.0), 0.0, 0.0, ratio)


@pytest.mark.parametrize(
    ("ratio", "size", "says"),
    [
        (Interval(0.5, 0.4, 0.6), 100, ""),
        (Interval(0.99, 0.97, 1.01), 25, "not faster than float.tflite on a-device: 0.99 times its time, 0.97 to 1.01"),
        (Interval(1.2, 1.1, 1.3), 25, "slower than.*1.20 times.*measured.*size alone .25%"),
        (Interval(1.2, 1.1, 1.3), 100, "slower than.*brings nothing here"),
    ],
)
def test_a_file_that_is_not_faster_is_told(ratio: Interval, size: int, says: str) -> None:
    found = does_not_pay(
        report(model("float.tflite", 100, timing=timed(None)), model("int8.tflite", size, timing=timed(ratio)))
    )
    assert len(found) == bool(says)
    for sentence in found:
        assert re.search(says, sentence)


def test_counts_are_compared_too() -> None:
    counts = [Instructions(n, 0, 0, 0, 0, 0, 0, 0, (), 1, 0) for n in (100, 150)]
    found = does_not_pay(report(*(model(f"{n}", 100, instructions=one) for n, one in enumerate(counts))))
    assert found == ["1 is slower than 0 on a-device: 1.50 times its instructions (measured); it brings nothing here"]


def test_zeros_that_do_not_help_are_told() -> None:
    slow = timed(Interval(1.0, 0.99, 1.01))
    pruned = model("pruned.tflite", 100, timing=slow, sparsity=0.75)
    (sentence,) = does_not_pay(report(model("dense.tflite", 100, timing=timed(None)), pruned))
    assert "75% of its weights are zeros, which does not help here" in sentence
    (sentence,) = does_not_pay(report(model("dense.tflite", 100), model("a.tflite", 100, timing=slow, sparsity=0.02)))
    assert "zeros" not in sentence
