from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedl.core.errors import ModelError
from edgedl.export.onnx_file import check_onnx_ops, inspect_onnx
from edgedl.export.onnx_metadata import embed_onnx_metadata


def weights(name: str, *shape: int, dtype: str = "float32") -> TensorProto:
    return numpy_helper.from_array(np.ones(shape, dtype), name)


def make(nodes: list, initializers: list, *, inputs=(1, 3, 8, 8), outputs=(1, 5), functions=(), opsets=(("", 18),)):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, inputs)],
        [helper.make_tensor_value_info("probs", TensorProto.FLOAT, outputs)],
        initializers,
    )
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets]
    return helper.make_model(graph, opset_imports=imports, functions=functions, producer_name="tests", ir_version=8)


def small_net() -> onnx.ModelProto:
    return make(
        [
            helper.make_node("Conv", ["image", "k", "b"], ["net/stem/BiasAdd:0"], "net/stem/Conv2D", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["net/stem/BiasAdd:0"], ["net/relu/Relu:0"], "net/relu/Relu"),
            helper.make_node("GlobalAveragePool", ["net/relu/Relu:0"], ["net/gap/Mean:0"], "net/gap/Mean"),
            helper.make_node("Flatten", ["net/gap/Mean:0"], ["flat"], "Flatten__3"),
            helper.make_node("Gemm", ["flat", "w", "c"], ["probs"], "net/logits/MatMul"),
        ],
        [weights("k", 4, 3, 3, 3), weights("b", 4), weights("w", 4, 5), weights("c", 5)],
    )


def test_nodes_in_order_with_their_figures(tmp_path: Path):
    onnx.save(small_net(), tmp_path / "net.onnx")
    facts = inspect_onnx(tmp_path / "net.onnx")
    assert [(op.op, op.layer, op.macs, op.parameters, op.weight_bytes) for op in facts.ops] == [
        ("Conv", "stem", 8 * 8 * 4 * 27, 112, 448),
        ("Relu", "relu", 0, 0, 0),
        ("GlobalAveragePool", "gap", 0, 0, 0),
        ("Flatten", None, 0, 0, 0),
        ("Gemm", "logits", 20, 25, 100),
    ]
    assert (facts.kind, facts.precision, facts.parameters) == ("onnx", "float32", 137)
    assert (facts.inputs[0].name, facts.inputs[0].shape, facts.inputs[0].dtype) == ("image", (1, 3, 8, 8), "float32")
    assert facts.outputs[0].name == "probs"


def test_quantize_dequantize_pairs_are_int8(tmp_path: Path):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = 2

        def get_next(self):
            self.left -= 1
            return {"image": np.random.default_rng(0).random((1, 3, 8, 8), "f4")} if self.left >= 0 else None

    onnx.save(small_net(), tmp_path / "net.onnx")
    quantize_static(
        tmp_path / "net.onnx",
        tmp_path / "int8.onnx",
        Reader(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
    )
    facts = inspect_onnx(tmp_path / "int8.onnx")
    conv = next(op for op in facts.ops if op.op == "Conv")
    assert facts.precision == "int8"
    assert (conv.precision, conv.layer, conv.macs, conv.parameters, conv.weight_bytes) == (
        *("int8", "stem", 6912, 112),
        108 + 4 * 4,  # int8 kernel, int32 bias
    )
    assert facts.parameters == 137


def test_float16_weights(tmp_path: Path):
    node = helper.make_node("Cast", ["w16"], ["w"], to=TensorProto.FLOAT)
    model = make(
        [node, helper.make_node("MatMul", ["image", "w"], ["probs"])],
        [weights("w16", 4, 5, dtype="float16")],
        inputs=(1, 4),
    )
    onnx.save(model, tmp_path / "half.onnx")
    facts = inspect_onnx(tmp_path / "half.onnx")
    assert (facts.precision, facts.ops[1].weight_bytes) == ("float16", 40)


def test_recurrent_macs(tmp_path: Path):
    model = make(
        [helper.make_node("LSTM", ["image", "W", "R"], ["", "probs"], hidden_size=6)],
        [weights("W", 1, 24, 3), weights("R", 1, 24, 6)],
        inputs=(5, 1, 3),
        outputs=(1, 1, 6),
    )
    onnx.save(model, tmp_path / "rnn.onnx")
    assert inspect_onnx(tmp_path / "rnn.onnx").macs == 0  # no first output: the shape of its steps is unknown
    model.graph.node[0].output[0] = "all"
    onnx.save(model, tmp_path / "rnn.onnx")
    assert inspect_onnx(tmp_path / "rnn.onnx").macs == 5 * (24 * 3 + 24 * 6)


def test_an_operator_that_nobody_knows_is_named(tmp_path: Path):
    model = small_net()
    model.graph.node[1].op_type = "Erfc"
    model.graph.node[1].name = "net/gelu/Erfc"
    path = tmp_path / "erfc.onnx"
    onnx.save(model, path)
    with pytest.raises(ModelError, match=r"an operator that no runtime knows: Erfc.*ai\.onnx 18.*layer 'gelu'"):
        check_onnx_ops(path)
    assert inspect_onnx(path).notes == ("1 × Erfc: no standard operator; no runtime knows it",)


def test_known_operators_pass(tmp_path: Path):
    function = helper.make_function(
        "mine", "Half", ["x"], ["y"], [helper.make_node("Identity", ["x"], ["y"])], [helper.make_opsetid("", 18)]
    )
    for name, op, domain, functions in [
        ("standard", "Relu", "", []),
        ("runtime", "FusedGelu", "com.microsoft", []),
        ("own", "Half", "mine", [function]),
    ]:
        model = make(
            [helper.make_node(op, ["image"], ["probs"], domain=domain)],
            [],
            functions=functions,
            opsets=(("", 18), *([(domain, 1)] if domain else [])),
        )
        onnx.save(model, tmp_path / f"{name}.onnx")
        check_onnx_ops(tmp_path / f"{name}.onnx")


def test_weights_in_another_file(tmp_path: Path):
    path = tmp_path / "net.onnx"
    onnx.save(small_net(), path, save_as_external_data=True, location="net.bin", size_threshold=0)
    facts = inspect_onnx(path)
    assert (facts.macs, facts.notes) == (6932, ("weights in net.bin",))
    assert facts.size_bytes == path.stat().st_size + (tmp_path / "net.bin").stat().st_size
    (tmp_path / "net.bin").unlink()
    with pytest.raises(ModelError, match=r"keeps its weights in another file.*net\.bin.*no such file"):
        inspect_onnx(path)


def test_metadata_and_layers_are_read_back(tiny_contract, tmp_path: Path):
    model = small_net()
    embed_onnx_metadata(model, tiny_contract, name="n", description="d", layers=("stem",), version="2")
    onnx.save(model, tmp_path / "net.onnx")
    facts = inspect_onnx(tmp_path / "net.onnx")
    assert [op.layer for op in facts.ops] == ["stem", None, None, None, None]
    assert facts.metadata["description"] == "d"
    assert facts.metadata["probs: labels"] == 'null, één, a "b"'


@pytest.mark.parametrize("keep", [1, 3, 0.5, -1])
def test_a_cut_off_file_is_one_clear_error(tmp_path: Path, keep: float):
    content = small_net().SerializeToString()
    path = tmp_path / "cut.onnx"
    path.write_bytes(content[: int(keep * len(content)) if keep == 0.5 else int(keep)])
    with pytest.raises(ModelError, match=r"cut\.onnx is no ONNX model, or a damaged one"):
        inspect_onnx(path)
