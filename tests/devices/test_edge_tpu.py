"""Which ops an Edge TPU takes."""

from __future__ import annotations

import subprocess
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tests.shared_data import shared
from tests.tiny_models import dense_onnx, dense_tflite, model_file

from edgedl.core import isolation
from edgedl.core.errors import ModelError, UnavailableError
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


def compiler(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that prints what edgetpu_compiler prints; what it writes is the file as it was."""
    table = "Operator           Count      Status\n\nFULLY_CONNECTED    2          Mapped to Edge TPU\n"
    fake = folder / "edgetpu_compiler"
    fake.write_text(f'#!/bin/sh\ncp "$4" "$3/$(basename "$4" .tflite)_edgetpu.tflite"\ncat <<\'END\'\n{table}END\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return fake


def test_the_compiler_decides_where_it_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = compiler(tmp_path, monkeypatch)
    report = device.profile([model_file(dense_tflite(tmp_path / "m.tflite", 2))], SamplingPlan())
    assert report.obtained == "estimated"
    assert {op.runs_on for op in report.models[0].ops} == {"tpu"}
    assert str(fake) in device.status().detail


RUNTIME = """
#include <stdint.h>
#include <stdlib.h>
/* A delegate (tensorflow/lite/core/c/common.h, TfLiteDelegate) that is asked, and takes nothing. */
struct delegate { void *data; int (*prepare)(void *, void *); void *a, *b, *c; int64_t flags; void *d; };
static int prepare(void *context, void *delegate) { (void)context; (void)delegate; return 0; }
void *tflite_plugin_create_delegate(char **keys, char **values, size_t n, void (*report)(const char *)) {
  (void)keys; (void)values; (void)n;
  if (getenv("NO_EDGE_TPU")) { report("no device"); return 0; }
  struct delegate *made = calloc(1, sizeof *made);
  made->prepare = prepare;
  return made;
}
void tflite_plugin_destroy_delegate(void *delegate) { free(delegate); }
"""


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    """A library with the entry points of libedgetpu: what is tested is the way there and back."""
    source, library = tmp_path / "edgetpu.c", tmp_path / "libedgetpu.so"
    source.write_text(RUNTIME)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    compiler(tmp_path, monkeypatch)
    monkeypatch.setenv("EDGEDL_EDGETPU", str(library))
    isolation._close_nurseries()  # the next one sees the environment as it is now
    yield library
    isolation._close_nurseries()


def test_with_compiler_and_runtime_files_are_timed_through_the_delegate(runtime: Path, tmp_path: Path) -> None:
    assert not device.undisturbed
    files = [model_file(dense_tflite(tmp_path / f"{layers}.tflite", layers)) for layers in (2, 8)]
    report = device.profile(files, SamplingPlan(budget_s=2.0))
    assert report.obtained == "measured"
    assert report.runtimes["libedgetpu"] == str(runtime)
    small, large = report.models
    assert "Edge TPU" in small.runtime
    assert large.timing is not None
    assert large.timing.ratio is not None
    assert large.timing.ratio.low > 1
    assert small.estimate is None
    assert {op.unit for op in small.ops} == {"MACs"}


def test_without_an_edge_tpu_the_runtime_s_word_arrives(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_EDGE_TPU", "1")
    with pytest.raises(UnavailableError, match=r"finds no Edge TPU.*no device.*plugged in"):
        device.profile([model_file(dense_tflite(tmp_path / "m.tflite", 2))], SamplingPlan(budget_s=2.0))
