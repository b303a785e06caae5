from __future__ import annotations

import pytest
from tests.shared_data import shared

from edgedl.core.isolation import run_isolated
from edgedl.devices.litert_ops import Graph, GraphOp, parse, partition, tie
from edgedl.devices.session import examine_file


def chain(*ops: str) -> Graph:
    """A graph in which every op takes the one before; "+" marks a fused activation."""
    return Graph(0, tuple(GraphOp(op.rstrip("+"), (i,), (i + 1,), op.endswith("+")) for i, op in enumerate(ops)))


def owners(graph: Graph, *kernels: str) -> list[int | None]:
    return parse([f"{kernel} (NHWC, F32) GEMM" for kernel in kernels], range(len(graph.ops)), graph)


def test_one_op_may_be_several_kernels():
    graph = chain("CONV_2D+", "ADD+", "CONV_2D+", "FULLY_CONNECTED", "SOFTMAX")
    kernels = "Convolution", "Add", "Clamp", "Fully Connected", "Static Reshape", "Fully Connected", "Softmax"
    assert owners(graph, *kernels) == [0, 1, 1, 2, 3, 3, 4]


def test_a_reshape_and_the_helper_of_the_next_op_are_told_apart_by_their_number():
    graph = chain("AVERAGE_POOL_2D", "RESHAPE", "FULLY_CONNECTED")
    assert owners(graph, "Average Pooling", "Static Reshape", "Static Reshape", "Fully Connected") == [0, 1, 2, 2]
    assert owners(graph, "Average Pooling", "Static Reshape", "Fully Connected") == [0, 1, 2]


def test_dynamic_range_weights_bring_a_conversion_of_the_input():
    graph = chain("QUANTIZE", "FULLY_CONNECTED+", "DEQUANTIZE", "FULLY_CONNECTED")
    kernels = "Convert", "Static Reshape", "Fully Connected", "Convert", "Convert", "Static Reshape", "Fully Connected"
    assert owners(graph, *kernels) == [0, 1, 1, 2, 3, 3, 3]


def test_an_op_that_was_fused_away_has_no_kernel():
    graph = chain("PAD", "CONV_2D", "RELU", "MUL", "MEAN")
    assert owners(graph, "Convolution", "Mean Squared") == [1, 4]


def test_what_two_parses_explain_differently_is_nobodys():
    graph = chain("MUL", "MEAN", "CUSTOM", "ADD", "ADD")
    assert owners(graph, "Mean", "Add", "Add", "Add") == [1, 2, 3, 4]
    assert owners(chain("CUSTOM", "CUSTOM"), "Add", "Add") == [None, None]


def test_what_no_parse_explains_is_nobodys():
    assert owners(chain("CONV_2D", "SOFTMAX"), "Softmax", "Convolution") == [None, None]


def test_a_partition_takes_every_op_whose_inputs_are_there():
    # 0 ─► 1 (stays with TFLite) ─► 3 ; 0 ─► 2: op 2 joins the first partition although 1 comes before it
    ops = [((0,), (1,)), ((1,), (2,)), ((1,), (3,)), ((2, 3), (4,))]
    graph = Graph(0, tuple(GraphOp("ADD", inputs, outputs) for inputs, outputs in ops))
    assert partition(graph, {1}) == [[0, 2], [1], [3]]


def run_of(*events: tuple[int, int, str, int]) -> list[tuple[int, int, int, str, int]]:
    return [(kind, index, 0, tag, us) for kind, index, tag, us in events]


def test_kernels_of_several_partitions_find_their_ops_and_what_is_left_to_tflite_is_told():
    graph = chain("CONV_2D+", "AVERAGE_POOL_2D", "RESHAPE", "FULLY_CONNECTED", "SOFTMAX")
    once = run_of(
        (1, 0, "Invoke", 99),
        (8, 0, "Convolution (NHWC, QC8) IGEMM", 30),
        (2, 1, "AVERAGE_POOL_2D", 4),
        (8, 0, "Static Reshape (NC)", 0),
        (8, 1, "Static Reshape (NC)", 0),
        (8, 2, "Fully Connected (NC, QS8, QC8W) GEMM", 1),
        (2, 4, "SOFTMAX", 2),
        (32, 0, "Invoke", 2**32),
    )
    twice = [(*event[:4], event[4] + (event[0] == 8)) for event in once]
    found = tie([once, twice], graph)
    assert [op.index for op in found.ops] == [0, 1, 2, 3, 3, 4]
    assert [op.time_us for op in found.ops] == [30.5, 4, 0.5, 0.5, 1.5, 2]
    assert found.notes == ("2 of 5 ops run outside XNNPACK: AVERAGE_POOL_2D (1), SOFTMAX (4)",)


def test_ops_that_ran_in_an_unexpected_order_keep_only_what_the_profiler_itself_says():
    graph = chain("CONV_2D", "AVERAGE_POOL_2D", "SOFTMAX")
    events = run_of((2, 1, "AVERAGE_POOL_2D", 4), (8, 0, "Convolution (NHWC, F32) IGEMM", 5), (8, 0, "Softmax (NC)", 1))
    found = tie([events], graph)
    assert [op.index for op in found.ops] == [1, None, None]
    assert any("2 of 3 kernels" in note for note in found.notes)


def test_the_body_of_a_loop_is_part_of_the_loop():
    graph = chain("WHILE", "SOFTMAX")
    events = run_of((2, 0, "WHILE", 50), (2, 1, "SOFTMAX", 1))
    body = [(2, 0, 1, "LESS", 1), (8, 0, 2, "Add (ND)", 3)]
    assert [op.index for op in tie([[events[0], *body, *body, events[1]]], graph).ops] == [0, 1]


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("mlperf_tiny/image_classification/trained_models/pretrainedResnet.tflite", range(16)),
        ("mlperf_tiny/image_classification/trained_models/pretrainedResnet_quant.tflite", range(16)),
        ("mlperf_tiny/keyword_spotting/trained_models/kws_ref_model_float32.tflite", range(13)),
        ("mlperf_tiny/anomaly_detection/trained_models/ad01_int8.tflite", range(10)),
        ("ai_edge_quantizer_models/branching_conv_fc.tflite", range(9)),
        ("ai_edge_quantizer_models/mnist_quantized.tflite", (1, 2, 3, 5, 7, 8)),  # 0, 4, 6 unpack constant weights
    ],
)
@pytest.mark.parametrize("xnnpack", [True, False])
def test_every_kernel_of_real_models_finds_its_op(file: str, expected: range, xnnpack: bool):
    arguments = shared(file), "tflite", 1, xnnpack, 0, 0.01
    ops = run_isolated(examine_file, *arguments, stage="profiling", subject=file, nursery="runtime").ops.ops
    found = [op.index for op in ops]
    assert None not in found
    assert set(expected) <= set(found)
    assert found == sorted(found)
