from pathlib import Path

import onnx
import pytest

from edgedl.core.errors import ModelError
from edgedl.export.inspect import inspect_file


def test_the_content_tells_the_kind_not_the_name(tiny_tflite: bytes, tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(tiny_tflite)
    assert inspect_file(tmp_path / "model.onnx").kind == "tflite"
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (1, 2)) for name in "xy"]
    onnx.save(
        onnx.helper.make_model(onnx.helper.make_graph([node], "g", values[:1], values[1:])), tmp_path / "m.tflite"
    )
    assert inspect_file(tmp_path / "m.tflite").kind == "onnx"


@pytest.mark.parametrize(
    ("content", "received"),
    [
        (b"", "an empty file"),
        (b"{}", "2 bytes that begin with b'{}'"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "16 bytes that begin with"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "a Git LFS pointer"),
        (b"\x08\x08garbage", "bytes that are no such message"),
    ],
)
def test_what_is_no_model_gets_one_clear_error(tmp_path: Path, content: bytes, received: str):
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        inspect_file(path)
    assert str(path) in str(caught.value)
    assert received in (caught.value.received or "")
    assert caught.value.required


def test_missing_file_folder_and_part_of_a_saved_model(tmp_path: Path):
    with pytest.raises(ModelError, match=r"there is no .*gone\.tflite"):
        inspect_file(tmp_path / "gone.tflite")
    (tmp_path / "a.tflite").touch()
    with pytest.raises(ModelError, match=r"a folder without saved_model\.pb\. Name a file in it: a\.tflite"):
        inspect_file(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01")
    with pytest.raises(ModelError, match=r"a part of a SavedModel\. Name its folder"):
        inspect_file(tmp_path / "saved_model.pb")
