from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import numpy as np
import pytest
from tests.tiny_models import dense_onnx, dense_tflite, model_file

from edgedl.core.artifacts import (
    Checked,
    Conditions,
    Figures,
    Gate,
    LatencyReport,
    ModelLatency,
    OpCost,
    Outcome,
    Quality,
    QualityChange,
    Speed,
    TensorSpec,
    Timing,
    Verdict,
)
from edgedl.core.config import check as check_config
from edgedl.core.errors import ConfigError, ModelError
from edgedl.core.model_facts import ModelFacts, ModelFile, OpFacts
from edgedl.core.statistics import Interval, exact, paired_difference, wilson
from edgedl.devices.sampling import FIRST_LOOK, LOOK_LEVEL, LOOKS, planned_looks, ratio_for_decision
from edgedl.devices.template import device as accelerator
from edgedl.pipeline.check.explain import explain, op_counts_in_words
from edgedl.pipeline.check.files import check
from edgedl.pipeline.check.interface import require_same_interface
from edgedl.pipeline.check.judge import (
    judge_accuracy,
    judge_counts,
    judge_figures,
    judge_latency,
    latency_outcome,
    noise_floor,
)
from edgedl.pipeline.check.limits import Limits
from edgedl.pipeline.check.outcome import exit_code, worst
from edgedl.pipeline.check.words import change_in_words, explanation_in_words, to_junit, to_markdown, to_sarif

# --- latency, from synthetic samples -----------------------------------------------------------------------------


def report_of(ratio: float, noise: float, processes: int = 10, itself: float | None = None) -> LatencyReport:
    """A session of (old, new) in which the processes' ratios scatter by `noise` around `ratio`.

    itself: the old file once more, by so much slower than itself.
    """
    rng = np.random.default_rng(4)
    own = np.exp(rng.normal(0, noise, processes))
    old = [[list(100 * (1 + rng.exponential(0.02, 10))) for _ in range(5)] for _ in range(processes)]
    new = [[[x * ratio * own[p] for x in block] for block in process] for p, process in enumerate(old)]
    again = [[[x * (itself or 1) * rng.normal(1, 1e-3) for x in block] for block in process] for process in old]
    return LatencyReport(
        name="old, new",
        device="cpu",
        hardware="a computer",
        obtained="measured",
        runtimes={},
        models=(
            latency_of("old", old),
            latency_of("new", new),
            *([latency_of("old", again)] if itself is not None else []),
        ),
        conditions=Conditions(None, None, None, 1, True),
        processes=processes,
        warm_up=0,
        stopped="budget used up",
        seconds=1.0,
    )


def latency_of(name: str, blocks: list[list[list[float]]]) -> ModelLatency:
    p10 = float(np.quantile(np.concatenate([b for process in blocks for b in process]), 0.1))
    interval = Interval(p10, p10, p10)
    samples = tuple(tuple(tuple(block) for block in process) for process in blocks)
    return ModelLatency(name, "", 1, "", (), timing=Timing(samples, interval, interval, interval, 0, 0))


@pytest.mark.parametrize(
    ("ratio", "noise", "outcome", "words"),
    [
        (1.00, 0.003, "pass", "within the 5 % allowed"),
        (1.10, 0.003, "regressed", "more than the 5 % allowed"),
        (0.80, 0.003, "improved", "faster by more than 5 %"),
        (1.049, 0.003, "inconclusive", "too close to the 5 % allowed to tell (budget used up)"),
        (1.10, 0.300, "inconclusive", "too close"),
    ],
)
def test_the_four_outcomes(ratio: float, noise: float, outcome: Outcome, words: str):
    finding = judge_latency(report_of(ratio, noise), 0.05)
    assert finding is not None
    assert finding.outcome == outcome
    assert words in finding.sentence
    for fact in ("500 and 500 inferences", "10 processes", "99% confidence", "measured on cpu"):
        assert fact in finding.sentence
    assert finding.interval is not None
    assert finding.interval.level == LOOK_LEVEL
    assert finding.limit == 1.05


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (1.051, 1.2, "regressed"),
        (1.001, 1.2, "regressed"),  # real, and the estimate of 1.1 matters
        (0.999, 1.2, "inconclusive"),  # it may be nothing
        (1.001, 1.09, "inconclusive"),  # real, but it may be within the limit or beyond
        (0.9, 1.05, "pass"),
        (0.96, 1.0501, "inconclusive"),
        (0.8, 0.9523, "improved"),
        (0.8, 0.999, "improved"),
        (0.91, 0.999, "pass"),
    ],
)
def test_is_it_real_and_does_it_matter(low: float, high: float, outcome: Outcome):
    assert latency_outcome(Interval((low + high) / 2, low, high), 0.05) == outcome


def test_a_single_process_decides_nothing():
    """However many rounds it has: nothing is known of how processes differ."""
    finding = judge_latency(report_of(2.0, 0.0, processes=1, itself=1.0), 0.05)
    assert finding is not None
    assert finding.outcome == "inconclusive"
    assert finding.sentence.endswith("in 1 process. The old file against itself: no bounds from a single process.")
    verdict = Verdict(name="m", new="new", old="old", outcome="inconclusive", findings=(finding,))
    sarif = to_sarif(Gate((Checked("m", "cpu", "m.tflite", verdict, "", 4),)))
    (result,) = json.loads(sarif, parse_constant=pytest.fail)["runs"][0]["results"]
    assert (result["properties"]["interval"]["low"], result["properties"]["interval"]["high"]) == (0, None)


def test_the_noise_floor_is_told_and_a_machine_that_contradicts_itself_decides_nothing():
    finding = judge_latency(report_of(1.10, 0.003, itself=1.0), 0.05)
    assert finding is not None
    assert finding.outcome == "regressed"
    told = re.search(r"The old file against itself: .* of ([\d.]+) % and more, nine in ten are seen", finding.sentence)
    assert told is not None
    assert 0.05 < float(told[1]) < 0.5
    broken = judge_latency(report_of(1.15, 0.003, itself=1.1), 0.05)
    assert broken is not None
    assert broken.outcome == "inconclusive"
    assert "this machine cannot tell" in broken.sentence
    assert noise_floor(report_of(1.0, 0.003)) is None


def test_the_smallest_visible_effect_is_found_nine_times_in_ten():
    """Of sessions with an effect of exactly `visible`, about nine in ten have an interval without 1."""
    rng = np.random.default_rng(6)
    found = visible = 0
    for _ in range(300):
        logs = rng.normal(0, 0.01, (2, 20))
        blocks = [[[[100.0]]] * 20, *([[[100 * math.exp(x)]] for x in one] for one in logs)]
        session = report_of(1.0, 0.0)
        models = tuple(latency_of("f", one) for one in blocks)
        floor = noise_floor(replace(session, models=(models[0], models[1], models[2])))
        assert floor is not None
        visible += floor.visible / 300
    for _ in range(300):
        logs = rng.normal(math.log1p(visible), 0.01, 20)
        found += ratio_for_decision([[[100 * math.exp(x)]] for x in logs], [[[100.0]]] * 20).low > 1
    assert 0.8 < found / 300 < 0.97


def test_what_auto_allows():
    timed = judge_latency(report_of(1.03, 0.001), "auto")
    assert timed is not None
    assert (timed.outcome, timed.limit) == ("pass", 1.05)
    counted = judge_counts(speed(103), speed(100), 0.01, "arm64:cortex-a76")
    assert (counted.outcome, counted.limit, counted.change) == ("regressed", 1.01, 1.03)
    assert judge_counts(speed(101), speed(100), 0.01, "a").outcome == "pass"
    assert judge_counts(speed(97), speed(100), 0.01, "a").outcome == "improved"
    session = report_of(1.0, 0.0)
    dumb = replace(session, models=tuple(replace(model, timing=None) for model in session.models))
    assert judge_latency(dumb, "auto") is None


def speed(instructions: int) -> Speed:
    return Speed(exact(instructions), "instructions", "instructions", 3, "emulated", None)


def test_false_alarms_stay_rare_over_all_looks():
    rng = np.random.default_rng(5)
    looks = sorted(planned_looks(25))
    assert len(looks) <= LOOKS
    assert looks[0] == FIRST_LOOK
    assert looks[-1] == 25
    alarms = 0
    for _ in range(100):  # sessions of a file against itself, judged at every look against no slowdown at all
        logs = rng.standard_t(5, (25, 1)) * 0.004
        new = [[[100 * math.exp(x)] for x in process] for process in logs]
        old = [[[100.0]]] * 25
        outcomes = [judge_at(new[:n], old[:n]) for n in looks]
        alarms += "regressed" in outcomes
    assert alarms <= 7  # at most 2.5 % are promised on this side; 100 sessions tell it to about ± 3


def judge_at(new: list[list[list[float]]], old: list[list[list[float]]]) -> Outcome:
    return latency_outcome(ratio_for_decision(new, old), 0.0)


# --- size and accuracy -------------------------------------------------------------------------------------------


def facts(size: int = 100, *inputs: TensorSpec) -> ModelFile:
    y = (TensorSpec("y", (1, 10), "float32"),)
    return ModelFile(Path("m.tflite"), ModelFacts("m.tflite", "tflite", size, size, inputs, y, (), 0, 0, "float32"))


@pytest.mark.parametrize(
    ("size", "limit", "outcome"),
    [(105, 0.05, "pass"), (106, 0.05, "regressed"), (90, 0.05, "improved"), (500, None, "pass")],
)
def test_size_is_exact(size: int, limit: float | None, outcome: Outcome):
    (finding,) = judge_figures(replace(FIGURES, size_bytes=size), FIGURES, Limits(max_size_growth=limit))
    assert (finding.outcome, finding.change, finding.interval) == (outcome, size / 100, None)


FIGURES = Figures(size_bytes=100, macs=1000, ops=5, boundaries=2)


@pytest.mark.parametrize(
    ("new", "limits", "outcomes"),
    [
        ({}, {}, {}),
        ({"macs": 1011}, {}, {"MACs": "pass"}),
        ({"macs": 1011}, {"max_macs_growth": 0.01}, {"MACs": "regressed"}),
        ({"ops": 7, "boundaries": 4}, {}, {"ops": "pass", "boundaries": "pass"}),
        ({"ops": 7, "boundaries": 4}, {"max_added_boundaries": 1}, {"ops": "pass", "boundaries": "regressed"}),
        ({"ops": 7}, {"max_added_ops": 2}, {"ops": "pass"}),
        ({"ops": 4}, {"max_added_ops": 0}, {"ops": "improved"}),
        ({"cpu_ops": 1}, {}, {"CPU ops": "regressed"}),
        ({"cpu_ops": 1}, {"max_added_cpu_ops": 1}, {"CPU ops": "pass"}),
        ({"memory_bytes": 120}, {"max_memory_growth": 0.1}, {"memory": "regressed"}),
        ({"memory_bytes": 120}, {}, {}),
    ],
)
def test_what_can_be_counted_has_exact_limits(
    new: dict[str, int], limits: dict[str, float], outcomes: dict[str, Outcome]
):
    old = replace(FIGURES, cpu_ops=0, memory_bytes=100, memory="tensor arena")
    size, *found = judge_figures(replace(old, **new), old, check_config(Limits, limits, source="limits"))
    told = {one.what: one.outcome for one in found}
    expected = {"CPU ops": "pass", **outcomes}  # no op may fall to the CPU unless a limit says so
    assert (size.what, told) == ("size", expected)


@pytest.mark.parametrize("text", ["5%", "0.05", 0.05])
def test_shares_are_read_as_people_write_them(text: object):
    assert check_config(Limits, {"max_slowdown": text, "max_size_growth": text}, source="l").max_slowdown == 0.05


def test_the_outputs_of_both_files_are_compared(tmp_path: Path):
    deep, flat = dense_tflite(tmp_path / "deep.tflite", 4, 32), dense_tflite(tmp_path / "flat.tflite", 3, 32)
    limits = Limits(max_slowdown=None, max_output_change=0.01)
    same, moved = check(deep, deep, limits), check(deep, flat, limits)
    assert (same.findings[-1].what, same.findings[-1].outcome, same.findings[-1].change) == ("outputs", "pass", 0.0)
    assert moved.outcome == "regressed"
    assert moved.findings[-1].change > 0.1


def test_ops_fallen_to_the_cpu_are_judged_though_no_slowdown_is_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("edgedl.pipeline.check.files.find_device", lambda _: (accelerator, "small-npu"))
    file = dense_tflite(tmp_path / "m.tflite", 2, 16)
    assert [one.what for one in check(file, file, Limits(max_slowdown=None)).findings] == ["size", "CPU ops"]
    asked_nothing = check(file, file, Limits(max_slowdown=None, max_added_cpu_ops=None))
    assert (asked_nothing.latency, [one.what for one in asked_nothing.findings]) == (None, ["size"])


def quality(correct: int, n: int) -> Quality:
    return Quality("accuracy", correct / n, wilson(correct, n), n, "test", "tflite int8")


@pytest.mark.parametrize(
    ("new", "old", "n", "outcome"),
    [
        (970, 970, 1000, "pass"),
        (966, 970, 1000, "pass"),
        (960, 970, 1000, "inconclusive"),  # a point is lost, but by chance as well as not
        (900, 970, 1000, "regressed"),
        (995, 950, 1000, "improved"),
    ],
)
def test_accuracy_on_different_examples(new: int, old: int, n: int, outcome: Outcome):
    finding = judge_accuracy((quality(new, n), quality(old, n)), 0.5)
    assert finding.outcome == outcome
    assert finding.change == pytest.approx((old - new) / n * 100)
    assert "points" in finding.sentence


def test_accuracy_on_the_same_examples_is_surer():
    before, after = [True] * 9700 + [False] * 300, [True] * 9600 + [False] * 400
    loss = paired_difference(before, after).scaled(100)
    change = QualityChange(quality(9700, 10_000), quality(9600, 10_000), loss.value, loss)
    assert judge_accuracy(change, 0.5).outcome == "regressed"
    assert judge_accuracy((change.after, change.before), 0.5).outcome == "inconclusive"


def test_a_smaller_error_is_better():
    def mae(value: float) -> Quality:
        return Quality("mae", value, Interval(value, value - 0.1, value + 0.1), 100, "test", "x")

    assert judge_accuracy((mae(2.0), mae(1.0)), 0.5).outcome == "regressed"
    assert judge_accuracy((mae(1.0), mae(2.0)), 0.5).outcome == "improved"


def test_the_worst_finding_decides():
    assert worst(["pass", "improved"]) == "improved"
    assert worst(["improved", "inconclusive", "pass"]) == "inconclusive"
    assert worst(["inconclusive", "regressed"]) == "regressed"


# --- the same interface ------------------------------------------------------------------------------------------

IMAGE = TensorSpec("image", (1, 8, 8, 3), "float32")
INT8 = TensorSpec("image", (1, 8, 8, 3), "int8", 0.5, 3)


@pytest.mark.parametrize(
    ("new", "old"),
    [
        (IMAGE, IMAGE),
        (INT8, IMAGE),
        (replace(INT8, name="image_int8"), IMAGE),
        (replace(IMAGE, shape=(-1, 8, 8, 3)), IMAGE),
    ],
)
def test_files_that_can_take_each_others_place(new: TensorSpec, old: TensorSpec):
    require_same_interface(facts(1, new), facts(1, old))


@pytest.mark.parametrize(
    ("new", "says"),
    [
        (replace(IMAGE, name="picture"), "inputs picture"),
        (replace(IMAGE, shape=(1, 8, 8, 1)), "[1, 8, 8, 1]"),
        (replace(IMAGE, shape=(1, 192)), "[1, 192]"),
        (TensorSpec("image", (1, 8, 8, 3), "int32"), "int32"),
    ],
)
def test_files_that_cannot(new: TensorSpec, says: str):
    with pytest.raises(ModelError, match="cannot take the place") as caught:
        require_same_interface(facts(1, new), facts(1, IMAGE))
    assert says in str(caught.value)


# --- the whole of it, on this computer ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Verdict:
    """The new file does half as much work again."""
    folder = tmp_path_factory.mktemp("planted")
    new, old = dense_tflite(folder / "new.tflite", layers=12), dense_tflite(folder / "old.tflite", layers=8)
    return check(new, old, Limits(max_size_growth=0.0), budget_s=10)


def gate_of(verdict: Verdict) -> Gate:
    return Gate((Checked("dense", "cpu", verdict.new, verdict, "", int(exit_code(verdict))),))


def test_a_planted_slowdown_is_found(planted: Verdict):
    latency, size, *_ = planted.findings
    assert latency.outcome == planted.outcome == "regressed"
    assert latency.change > 1.2
    assert size.outcome == "regressed"
    assert exit_code(planted) == 1
    assert planted.latency is not None
    assert planted.latency.stopped == "precise enough"


def test_the_ops_that_were_added_are_named_with_their_costs(planted: Verdict):
    added = [one for one in planted.explanation if one.kind == "new"]
    assert [one.op for one in added] == ["FULLY_CONNECTED"] * 4
    assert planted.op_counts == "+4 FULLY_CONNECTED"
    assert all(one.new_cost and one.unit == "us" and one.obtained == "measured" for one in added)
    lines = explanation_in_words(planted)
    assert lines[0] == "ops: +4 FULLY_CONNECTED"
    layers = r"dense_\d+, dense_\d+, dense_\d+ …"
    assert any(re.fullmatch(rf"4 FULLY_CONNECTED of {layers}: are new; \+[\d.]+ µs, measured", one) for one in lines)
    said = to_markdown(gate_of(planted))
    assert said.startswith("### ❌ dense on cpu: regressed\n")
    assert planted.findings[0].sentence in said
    assert "- ops: +4 FULLY_CONNECTED" in said


def facts_of(*ops: tuple[str, str | None, str]) -> ModelFacts:
    found = tuple(
        OpFacts(i, op, f"t{i}", layer, precision, (1, 8), 64, 8, 32) for i, (op, layer, precision) in enumerate(ops)
    )
    return ModelFacts("a.tflite", "tflite", 1, 1, (), (), found, 8, 64, "int8")


def test_an_op_put_in_between_moves_no_other():
    old = facts_of(
        ("CONV_2D", "a", "int8"), ("RELU", None, "int8"), ("CONV_2D", "b", "int8"), ("SOFTMAX", None, "int8")
    )
    new = facts_of(
        ("CONV_2D", "a", "int8"),
        ("DEQUANTIZE", None, "float32"),
        ("RELU", None, "float32"),
        ("QUANTIZE", None, "int8"),
        ("CONV_2D", "b", "int8"),
        ("SOFTMAX", None, "int8"),
    )
    found = explain(old, new)
    assert {(one.kind, one.op) for one in found} == {("new", "DEQUANTIZE"), ("new", "QUANTIZE"), ("changed", "RELU")}
    (relu,) = (one for one in found if one.op == "RELU")
    assert relu.differs == ("precision int8 → float32",)
    assert (relu.old_index, relu.new_index) == (1, 2)
    assert op_counts_in_words(old, new) == "+1 DEQUANTIZE, +1 QUANTIZE"
    assert explain(old, old) == ()
    back = explain(new, old)
    assert {(one.kind, one.op) for one in back} == {("gone", "DEQUANTIZE"), ("gone", "QUANTIZE"), ("changed", "RELU")}


def test_layers_under_other_names_are_matched_by_their_kind():
    """A model that was built anew has other names; its ops are the same all the same."""
    old = facts_of(*((kind, f"conv2d_{i}", "int8") for i, kind in enumerate(("CONV_2D", "ADD", "CONV_2D"))))
    new = facts_of(*((kind, f"conv2d_{i + 7}", "int8") for i, kind in enumerate(("CONV_2D", "ADD", "CONV_2D"))))
    assert explain(old, new) == ()


def costs(values: Sequence[float], unit: Literal["us", "instructions"]) -> ModelLatency:
    total = sum(values)
    ops = tuple(OpCost(i, "CONV_2D", None, value, unit, value / total) for i, value in enumerate(values))
    return ModelLatency("a.tflite", "", 1, "", ops)


def test_costs_come_with_the_largest_difference_first_and_small_times_are_noise():
    files = facts_of(*(("CONV_2D", f"c{i}", "int8") for i in range(7)))
    times = [10.0, 50.0, 30.0, 10.0, 20.0, 20.0, 20.0]
    slower = [10.1, 49.9, 45.0, 15.0, 20.1, 19.9, 20.0]
    session = replace(report_of(1.0, 0.0), models=(costs(times, "us"), costs(slower, "us")))
    assert [(one.layer, one.added) for one in explain(files, files, session)] == [("c2", 15.0), ("c3", 5.0)]
    busy = (costs(times, "us"), costs([1.4 * one for one in slower], "us"))
    assert [one.layer for one in explain(files, files, replace(session, models=busy))] == ["c2", "c3"]
    counted = (costs(times, "instructions"), costs([10.5, *times[1:]], "instructions"))
    (change,) = explain(files, files, replace(session, models=counted, obtained="emulated"))
    assert change_in_words(change) == "CONV_2D of c0: 10 → 10.5 instructions (+5.0 %), emulated"


def test_junit_tells_it_to_the_build_server(planted: Verdict):
    suite = ElementTree.fromstring(to_junit(gate_of(planted)).encode()).find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("4", "2")
    failure = suite.find("testcase[@name='latency']/failure")
    assert failure is not None
    assert failure.get("message") == planted.findings[0].sentence


def test_sarif_tells_it_to_code_scanning(planted: Verdict):
    log = json.loads(to_sarif(gate_of(planted)))
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    assert {"latency", "size", "accuracy", "failed"} <= {one["id"] for one in run["tool"]["driver"]["rules"]}
    assert [(one["ruleId"], one["level"]) for one in run["results"]] == [("latency", "error"), ("size", "error")]
    latency = run["results"][0]
    assert planted.findings[0].sentence in latency["message"]["text"]
    assert "+4 FULLY_CONNECTED" in latency["message"]["text"]
    assert latency["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].endswith("new.tflite")
    fine = replace(planted, findings=tuple(replace(one, outcome="pass") for one in planted.findings))
    assert json.loads(to_sarif(gate_of(fine)))["runs"][0]["results"] == []


def test_a_byte_identical_copy_is_measured_and_never_regressed(tmp_path: Path):
    old = dense_onnx(tmp_path / "old.onnx", layers=8)
    new = Path(shutil.copy(old, tmp_path / "new.onnx"))
    verdict = check(new, old, Limits(max_slowdown=0.10), budget_s=8)
    assert verdict.outcome in ("pass", "inconclusive")
    assert exit_code(verdict) == {"pass": 0, "inconclusive": 4}[verdict.outcome]
    assert verdict.latency is not None
    assert all(model.timing.n > 0 for model in verdict.latency.models)


def test_models_that_cannot_be_compared_and_limits_that_mean_nothing(tmp_path: Path):
    wide, narrow = dense_tflite(tmp_path / "wide.tflite", 1, 64), dense_tflite(tmp_path / "narrow.tflite", 1, 32)
    with pytest.raises(ModelError, match="cannot take the place"):
        check(wide, narrow)
    for wrong in (-0.1, "5 apples", float("nan"), 200):
        with pytest.raises(ConfigError, match="max_slowdown"):
            check_config(Limits, {"max_slowdown": wrong}, source="limits")
    with pytest.raises(ConfigError, match="accuracy cannot be checked"):
        check(wide, wide, Limits(max_accuracy_drop=0.5))
    assert model_file(wide).facts.inputs[0].name == "x"
