"""Which ops an Edge TPU takes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tests.shared_data import shared
from tests.tiny_models import dense_onnx, dense_tflite, model_file

from edgedl.core.errors import ModelError
from edgedl.devices import SamplingPlan
from edgedl.devices.edge_tpu import ON_CHIP_BYTES, device, estimate
from edgedl.devices.edge_tpu_ops import TpuOp, TpuTensor, placed, refusal
from edgedl.export.inspect import inspect_file

PARTNERS = ("keras_lstm_mnist_ptq", "mobilenet_v1_0.25_128_quant", "tools/split_concat")


def op(kind: str, shape: tuple[int, ...] = (1, 8, 8, 4), *, constant: object = None, reads: int = 0, **options: object):
    """An int8 op that reads tensor `reads` and writes the next."""
    given = TpuTensor(shape, "int8", None)
    second = () if constant is None else (TpuTensor(np.shape(constant), "int32", np.asarray(constant)),)
    return TpuOp(kind, SimpleNamespace(**options), (given, *second), (given,), (reads,), (reads + 1,))


@pytest.mark.parametrize("name", PARTNERS)
def test_the_ops_that_googles_compiler_mapped_map(name: str) -> None:
    whole, partner = (shared(f"coral_test_data/{name}{suffix}.tflite") for suffix in ("", "_edgetpu"))
    left = [op.op for op in inspect_file(partner).ops if op.op != "edgetpu-custom-op"]
    (model,) = device.profile([model_file(whole)], SamplingPlan()).models
    assert [op.op for op in model.ops if op.runs_on == "cpu"] == left
    assert model.estimate is not None


@pytest.mark.parametrize(
    ("one", "says"),
    [
        (op("CONV_2D", dilationWFactor=2, dilationHFactor=1), "different dilations"),
        (op("CONV_2D", dilationWFactor=2, dilationHFactor=2), ""),
        (op("DEPTHWISE_CONV_2D", dilationWFactor=2, dilationHFactor=2), "is dilated"),
        (op("AVERAGE_POOL_2D", fusedActivationFunction=1), "fused activation"),
        (op("MEAN", constant=[1, 2]), ""),
        (op("MEAN", constant=[3]), "other axes than x and y"),
        (op("SUM", constant=[0, 1]), "reduces the batch"),
        (op("PAD", constant=[[0, 0], [1, 1], [1, 1], [0, 0]]), ""),
        (op("PAD", constant=[[0, 0], [0, 0], [0, 0], [0, 4]]), "pads other axes"),
        (op("SOFTMAX", (1, 10)), ""),
        (op("SOFTMAX", (4, 10)), "more than one dimension"),
        (op("SOFTMAX", (1, 20_000)), "16,000"),
        (op("PACK", axis=0), "batch dimension"),
        (op("ADD", (2, 3, 4, 5)), "more than three dimensions"),
        (op("ADD", (1, -1, 4, 5)), "dynamic size"),
        (op("HARD_SWISH"), "ReLU6 maps"),
        (op("GATHER"), "not in the Edge TPU's list"),
    ],
)
def test_the_documented_constraints(one: TpuOp, says: str) -> None:
    assert says in refusal(one)
    assert bool(says) == bool(refusal(one))


def test_an_unsupported_op_cuts_the_graph() -> None:
    chain = [op("ADD", reads=0), op("GELU", reads=1), op("ADD", reads=2), op("ADD", reads=9)]
    first, gelu, behind, beside = placed(chain)
    assert (first, beside) == ("", "")
    assert "not in the Edge TPU's list" in gelu
    assert "cuts the graph" in behind


def test_a_float_model_does_not_map_and_says_why(tmp_path: Path) -> None:
    (model,) = device.profile([model_file(dense_tflite(tmp_path / "m.tflite", 2))], SamplingPlan()).models
    assert {op.runs_on for op in model.ops} == {"cpu"}
    assert "float32: quantize" in model.ops[0].note
    assert model.estimate is None
    with pytest.raises(ModelError, match="required a file in the format tflite"):
        device.profile([model_file(dense_onnx(tmp_path / "m.onnx", 1))], SamplingPlan())


def test_weights_beyond_the_chip_cost_time() -> None:
    fits = [SimpleNamespace(macs=10**9, weight_bytes=ON_CHIP_BYTES)]
    streams = [SimpleNamespace(macs=10**9, weight_bytes=2 * ON_CHIP_BYTES)]
    assert estimate(streams).latency_us.value > 2 * estimate(fits).latency_us.value


def test_the_compiler_decides_where_it_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = "Operator           Count      Status\n\nFULLY_CONNECTED    2          Mapped to Edge TPU\n"
    fake = tmp_path / "edgetpu_compiler"
    fake.write_text(f"#!/bin/sh\ncat <<'END'\n{table}END\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (model,) = device.profile([model_file(dense_tflite(tmp_path / "m.tflite", 2))], SamplingPlan()).models
    assert {op.runs_on for op in model.ops} == {"tpu"}
    assert str(fake) in device.status().detail
