from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgedl.core.artifacts import (
    CalibrationRecord,
    CompressedModel,
    Conditions,
    ExportedModel,
    Finding,
    FloatOp,
    LatencyReport,
    Memory,
    ModelLatency,
    OpCost,
    OutputParity,
    ParityReport,
    Quality,
    QualityChange,
    Quantization,
    Record,
    Run,
    SplitRecord,
    Timing,
    TrainedModel,
    Verdict,
)
from edgedl.core.contract import Contract, InputContract, OutputContract
from edgedl.core.files import FileRecord
from edgedl.core.statistics import Interval, wilson

HOSTILE = "<script>alert('label')</script>"
"""A label as a stranger's data set may have it."""

LABELS = ("zero", "one", "two", HOSTILE, "four", "five", "six", "seven", "eight", "$nine$")
CONTRACT = Contract(
    task="classification",
    inputs=(
        InputContract("image", (8, 8, 1), content="image", color_space="grayscale", raw_range=(0, 16), std=(16.0,)),
    ),
    outputs=(OutputContract("probabilities", (10,), content="probabilities", labels=LABELS),),
    description="Handwritten digits of 8 × 8 pixels.",
)
N = 360
OPS = (("CONV_2D", "stem"), ("DEPTHWISE_CONV_2D", "block_1_depthwise"), ("CONV_2D", "block_1_pointwise"),
       ("DEPTHWISE_CONV_2D", "block_2_depthwise"), ("CONV_2D", "block_2_pointwise"), ("MEAN", "gap"),
       ("FULLY_CONNECTED", "logits_with_a_rather_long_name_of_a_layer"), ("SOFTMAX", None))  # fmt: skip


def record(name: str, sha256: str = "", *parents: str) -> Record:
    return Record(
        key=f"{abs(hash(name)):x}",
        content_hash=f"{name.encode().hex():0<64}"[:64],
        parents=parents,
        seed=1,
        versions={"python": "3.11.2", "edgedl": "0.1.0", "tensorflow": "2.21.0", "ai-edge-litert": "2.3.0"},
        machine="Intel Xeon, 2 cores, Linux x86_64",
        created_at="2026-03-04T05:06:07+00:00",
        seconds=3.21,
        files=(FileRecord(f"{name}.bin", sha256, 1000, 800),) if sha256 else (),
    )


def judged(correct: int, of: str) -> Quality:
    interval = wilson(correct, N)
    return Quality("accuracy", interval.value, interval, N, "test", of)


def interval(value: float, spread: float) -> Interval:
    return Interval(value, value * (1 - spread), value * (1 + spread))


SCHEMES = {
    "float32": Quantization("float32", "float32", "float32"),
    "float16": Quantization("float16", "float16", "float32"),
    "dynamic-range": Quantization("dynamic-range", "int8", "float32"),
    "int8": Quantization("int8", "int8", "int8"),
    "int16x8": Quantization("int16x8", "int8", "int16"),
}
#            raw     gzip   correct  p10
FIGURES = {
    "float32": (83_256, 74_310, 353, 21.4),
    "float16": (44_120, 38_950, 353, 21.6),
    "dynamic-range": (31_904, 24_020, 352, 24.9),
    "int8": (33_808, 25_544, 352, 17.2),
    "int16x8": (34_012, 25_730, 353, 612.0),
}


def compressed_model(name: str, folder: Path) -> CompressedModel:
    raw, gzipped, correct, _ = FIGURES[name]
    needs = SCHEMES[name].needs_calibration
    return CompressedModel(
        name=name,
        record=record(f"compress-{name}"),
        folder=folder / f"compress-{name}",
        quantization=SCHEMES[name],
        contract=CONTRACT,
        size_bytes=raw,
        gzip_bytes=gzipped,
        float_size_bytes=83_256,
        float_gzip_bytes=74_310,
        quality=quality_change(correct, f"tflite {name}"),
        integer_ops=0.93 if needs else 0.0,
        float_ops=(FloatOp(7, "SOFTMAX", None, "no int16 kernel"),) if name == "int16x8" else (),
        calibration=CalibrationRecord(200, 1, "train", "ab" * 32, (0.0,), (1.0,)) if needs else None,
        notes=("reference kernels: 20 to 40 times slower than float32 on x86",) if name == "int16x8" else (),
    )


def quality_change(correct: int, of: str) -> QualityChange:
    before, after = judged(FIGURES["float32"][2], "keras float32"), judged(correct, of)
    loss = 100 * (before.value - after.value)
    return QualityChange(before, after, loss, Interval(loss, loss - 0.9, loss + 1.1))


def exported_model(name: str, format: str, folder: Path) -> ExportedModel:
    raw, gzipped, correct, _ = FIGURES[name]
    return ExportedModel(
        name=name,
        record=record(f"digits-{name}-{format}", f"{name}{format}"),
        folder=folder / f"export-{name}-{format}",
        format=format,
        precision=name,
        model_file=f"digits-{name}.{format}",
        contract=CONTRACT,
        inputs=(),
        outputs=(),
        size_bytes=raw + (4_210 if format == "onnx" else 0),
        gzip_bytes=gzipped + (1_100 if format == "onnx" else 0),
        layers=("stem",),
        change=quality_change(correct - (format == "onnx" and name == "int8"), f"{format} {name}"),
    )


def parity_report(one: ExportedModel) -> ParityReport:
    exact = one.precision == "float32"
    return ParityReport(
        name=one.name,
        record=record(f"verify-{one.name}-{one.format}"),
        file=one.model_file,
        against="model.keras",
        format=one.format,
        precision=one.precision,
        n=200,
        examples="200 test examples (seed 1)",
        outputs=(
            OutputParity(
                "probabilities",
                3.1e-7 if exact else 0.0421,
                2.0e-8 if exact else 0.0011,
                3.2e-7 if exact else 0.0421,
                131.2 if exact else 34.7,
                1.0 if exact else 0.995,
            ),
        ),
        judged_by="float32: relative error at most 1e-4; others: the top class agrees on at least 95 % of examples",
        passed=True,
    )


def latency_report(exported: list[ExportedModel], folder: Path) -> LatencyReport:
    rng = np.random.default_rng(0)
    models = []
    for i, one in enumerate(exported):
        p10 = FIGURES[one.name][3] * (1.35 if one.format == "onnx" else 1.0)
        weights = rng.dirichlet(np.ones(len(OPS)) * 2)
        models.append(
            ModelLatency(
                file=one.model_file,
                sha256=one.record.files[0].sha256,
                size_bytes=one.size_bytes,
                runtime="LiteRT 2.3.0" if one.format == "tflite" else "ONNX Runtime 1.31.1",
                timing=Timing(
                    blocks_us=(((p10, p10 * 1.1),) * 10,) * 10,
                    p10_us=interval(p10, 0.006),
                    median_us=interval(p10 * 1.04, 0.012),
                    p90_us=interval(p10 * 1.3, 0.05),
                    load_ms=1.2,
                    first_ms=0.31,
                    ratio=interval(p10 / FIGURES["float32"][3], 0.004) if i else None,
                ),
                memory=Memory(2_500_000, "peak resident memory above the runtime's", 38_500_000),
                ops=tuple(
                    OpCost(j, op, HOSTILE if (i, j) == (0, 5) else layer, float(p10 * share), "us", float(share))
                    for j, ((op, layer), share) in enumerate(zip(OPS, weights, strict=True))
                ),
                notes=("int16 kernels are reference kernels",) if one.name == "int16x8" else (),
            )
        )
    return LatencyReport(
        name="cpu",
        record=record("profile-cpu"),
        folder=folder / "profile-cpu",
        device="cpu",
        hardware="Intel Xeon, 2 cores, Linux x86_64",
        obtained="measured",
        runtimes={"LiteRT": "2.3.0"},
        models=tuple(models),
        conditions=Conditions(0.61, None, None, 1, True),
        processes=10,
        warm_up=20,
        stopped="precise enough",
        seconds=9.8,
    )


def trained_model(folder: Path) -> TrainedModel:
    history = tuple(
        {
            "epoch": float(epoch + 1),
            "loss": 2.2 * math.exp(-epoch / 5) + 0.05,
            "accuracy": 1 - 0.85 * math.exp(-epoch / 4),
            "val_loss": 2.3 * math.exp(-epoch / 5) + 0.09,
            "val_accuracy": 0.98 - 0.86 * math.exp(-epoch / 4),
            "seconds": 0.4,
            "learning_rate": 0.003,
        }
        for epoch in range(30)
    )
    counts = {"train": 1293, "validation": 144, "test": N}
    return TrainedModel(
        name="digits",
        record=record("train"),
        folder=folder / "train",
        contract=CONTRACT,
        data=SplitRecord(
            {"source": "digits", "split": {"validation": 0.1}},
            "5f" * 32,
            counts,
            {split: {label: count // 10 + i for i, label in enumerate(LABELS)} for split, count in counts.items()},
        ),
        quality=judged(353, "keras float32"),
        parameters=19_146,
        macs=612_864,
        history=history,
        traces={"train_step": 1, "test_step": 1},
        stopped="after 30 epochs",
        best_epoch=27,
    )


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A whole run, as the digits recipe leads to: five precisions, two formats, one device, one check."""
    return make_run(tmp_path_factory.mktemp("run"))


def make_run(folder: Path) -> Run:
    names = ("float16", "dynamic-range", "int8", "int16x8")
    exported = [exported_model("float32", format, folder) for format in ("tflite", "onnx")]
    exported += [exported_model(name, "tflite", folder) for name in names]
    exported.append(exported_model("int8", "onnx", folder))
    finding = Finding(
        "accuracy", "pass", "int8 loses 0.28 points, at most 0.5 are allowed", 0.9806, 0.9778, 0.28, 0.5,
        Interval(0.28, -0.6, 1.2), "points",
    )  # fmt: skip
    return Run(
        name="digits",
        folder=folder,
        recipe={"name": "digits", "seed": 1, "data": {"source": "digits"}, "model": {"family": "ds-cnn"}},
        trained=trained_model(folder),
        compressed=tuple(compressed_model(name, folder) for name in names),
        exported=tuple(exported),
        parity=tuple(parity_report(one) for one in exported),
        latency=(latency_report(exported, folder),),
        verdicts=(Verdict(name="int8", new="digits-int8.tflite", old="float32", outcome="pass", findings=(finding,)),),
        notes=("float16 is not written as onnx: it is exported as tflite only",),
        reused=("train",),
        seconds=71.3,
    )


@pytest.fixture
def bare_run(run: Run, tmp_path: Path) -> Run:
    """A regression model that was brought without data and exported once, nothing measured."""
    contract = Contract("regression", (InputContract("x", (4,)),), (OutputContract("y", (1,)),))
    trained = replace(
        run.trained,
        contract=contract,
        data=None,
        quality=None,
        history=(),
        traces={},
        stopped="",
        best_epoch=None,
        origin="model.keras",
        record=Record(),
    )
    exported = replace(run.exported[0], contract=contract, change=None)
    nothing = dict.fromkeys(("compressed", "parity", "latency", "verdicts", "notes", "reused"), ())
    return replace(run, folder=tmp_path, trained=trained, exported=(exported,), recipe={}, **nothing)
