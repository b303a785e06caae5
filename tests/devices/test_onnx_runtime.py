from __future__ import annotations

from pathlib import Path

from tests.tiny_models import dense_onnx

from edgedl.core.isolation import run_isolated
from edgedl.devices.onnx_runtime import Node, owner, tie
from edgedl.devices.session import OpTimes, examine_file

FILE = (
    Node(0, "conv/Conv2D", "Conv", ("x",), ("c",)),
    Node(1, "relu/Relu", "Relu", ("c",), ("r",)),
    Node(2, "other/Conv2D", "Conv", ("r",), ("o",)),
    Node(3, "add/add", "Add", ("o", "r"), ("a",)),
    Node(4, "dense/MatMul", "MatMul", ("a",), ("m",)),
    Node(5, "dense/BiasAdd", "Add", ("m",), ("y",)),
)


def test_a_node_that_kept_its_name_is_itself():
    assert owner("relu/Relu", "Relu", None, FILE) == 1


def test_a_fused_node_belongs_to_the_one_of_its_kind_behind_the_tensor_it_leaves():
    assert owner("r_nchwc", "Conv", None, FILE) == 0
    gemm = Node(0, "dense/MatMul/MatMulAddFusion", "Gemm", ("a",), ("y",))
    assert owner(gemm.name, gemm.op, gemm, FILE) == 4
    fused = Node(0, "fused", "FusedConv", ("r", "r"), ("a",))
    assert owner(fused.name, fused.op, fused, FILE) == 2


def test_a_node_renamed_for_another_layout_is_found_by_its_old_name():
    moved = Node(1, "conv/Conv2D_token_4", "QLinearConv", ("t",), ("conv/Conv2D",))
    assert owner(moved.name, moved.op, moved, FILE) == 0
    assert owner("relu/Relu_token_1", "QLinearConv", None, FILE) is None


def test_two_nodes_equally_near_are_no_answer():
    file = (
        Node(0, "left", "Conv", ("x",), ("l",)),
        Node(1, "right", "Conv", ("x",), ("r",)),
        Node(2, "sum", "Add", ("l", "r"), ("y",)),
    )
    fused = Node(0, "fused", "FusedConv", ("x",), ("y",))
    assert owner(fused.name, fused.op, fused, file) is None


def test_layout_changes_of_the_optimizer_belong_to_no_node():
    reorder = Node(0, "ReorderOutput", "ReorderOutput", ("token",), ("r",))
    assert owner(reorder.name, reorder.op, reorder, FILE) is None


def test_only_the_profiled_runs_count():
    def event(name: str, dur: int, op: str):
        return {"cat": "Node", "name": f"{name}_kernel_time", "dur": dur, "args": {"op_name": op, "node_index": "0"}}

    events = [event("relu/Relu", 900, "Relu"), event("relu/Relu", 4, "Relu"), event("relu/Relu", 6, "Relu")]
    assert tie(events, 2, FILE, FILE) == OpTimes(tie(events[1:], 2, FILE, FILE).ops)
    assert tie(events, 2, FILE, FILE).ops[0].time_us == 5


def test_every_executed_node_of_a_chain_finds_its_own(tmp_path: Path):
    path = dense_onnx(tmp_path / "dense.onnx", layers=3, width=32)
    arguments = path, "onnx", 1, True, 0, 0.01
    found = run_isolated(examine_file, *arguments, stage="profiling", subject="dense", nursery="runtime").ops
    assert [(op.index, op.op) for op in found.ops] == [(0, "FusedGemm"), (3, "FusedGemm"), (6, "FusedGemm")]
    assert not list(tmp_path.glob("*.json"))
