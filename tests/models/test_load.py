"""Keras files are told by their content; what is not one is refused in a line; figures are counted by hand here."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedl.core.errors import ModelError
from edgedl.models.identify import identify
from edgedl.models.load import bring_in, inspect_keras

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One model, written in every way that Keras 2 knows, under misleading names."""
    import tf_keras
    from tf_keras import layers

    folder = tmp_path_factory.mktemp("models")
    image = tf_keras.Input((8, 8, 2), name="image")
    x = layers.Conv2D(4, 3, name="conv")(image)  # 6×6×4 outputs, kernel 3×3×2×4
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False, name="depth")(x)  # 3×3×4
    x = layers.Flatten()(x)
    inner = tf_keras.Sequential([tf_keras.Input((36,)), layers.Dense(5, name="inside")], name="inner")
    model = tf_keras.Model(image, layers.Softmax(name="answer")(inner(x)))
    paths = {"keras-2": folder / "a.h5", "h5": folder / "b.keras", "saved-model": folder / "c.keras.d"}
    model.save(folder / "a.keras", save_format="keras")
    (folder / "a.keras").rename(paths["keras-2"])
    model.save(folder / "b.h5", save_format="h5")
    (folder / "b.h5").rename(paths["h5"])
    model.save(paths["saved-model"], save_format="tf")
    return paths


@pytest.mark.parametrize("kind", ["keras-2", "h5", "saved-model"])
def test_the_kind_is_told_from_the_content_and_all_kinds_are_one_model(kind: str, files: dict[str, Path]) -> None:
    assert identify(files[kind]).kind == kind
    facts = inspect_keras(files[kind])
    assert facts.parameters == (72 + 4) + 36 + (180 + 5)
    assert facts.macs == 36 * 72 + 9 * 36 + 180
    assert [(one.name, one.shape) for one in facts.inputs] == [("image", (-1, 8, 8, 2))]
    assert {"conv", "depth", "inside", "answer"} <= {op.name for op in facts.ops}


def test_bringing_in_keeps_the_answers_and_sees_the_softmax(files: dict[str, Path], tmp_path: Path) -> None:
    brought = bring_in(files["saved-model"], tmp_path / "model.keras")
    assert brought.ends_in_softmax
    assert identify(tmp_path / "model.keras").kind == "keras-2"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs", "git lfs pull"),
        (b"\x1c\0\0\0TFL3", "already exported"),
        (b"PK\x03\x04rubbish", "no whole .keras file"),
        (b"hello", "begin with"),
    ],
)
def test_what_is_no_keras_model_is_told(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "m.keras").write_bytes(content)
    with pytest.raises(ModelError, match=words):
        identify(tmp_path / "m.keras")


def test_a_damaged_model_is_one_line(files: dict[str, Path], tmp_path: Path) -> None:
    content = files["h5"].read_bytes()
    (tmp_path / "half.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError) as caught:
        inspect_keras(tmp_path / "half.h5")
    assert "\n" not in str(caught.value)


def test_attention_is_counted(tmp_path: Path) -> None:
    import tf_keras

    x = tf_keras.Input((5, 6))
    model = tf_keras.Model(x, tf_keras.layers.MultiHeadAttention(2, 4)(x, x))
    model.save(tmp_path / "m.keras", save_format="keras")
    assert inspect_keras(tmp_path / "m.keras").macs == 5 * 4 * (6 * 8) + 2 * 5 * 5 * 8
