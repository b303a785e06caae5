"""A promise that the exported file does not keep is an error that names the layer; sparse tensors are read."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.tiny_models import dense_tflite

from edgedl.core.artifacts import TrainedModel, WeightPromise
from edgedl.core.contract import Contract
from edgedl.core.errors import StageError
from edgedl.core.tflite_schema import IDENTIFIER, read_tflite
from edgedl.pipeline.compress.promises import kept_promises
from edgedl.pipeline.compress.stored import densified

MODEL = TrainedModel(
    name="tiny",
    contract=Contract("regression", (), ()),
    data=None,
    quality=None,
    parameters=0,
    macs=0,
    layers=("dense_0",),
)
SHAPE = (256, 256)


def with_weights(path: Path, values: np.ndarray[Any, Any]) -> Path:
    """A file of one dense layer with these weights, (outputs, inputs) float32."""
    import flatbuffers

    model = read_tflite(dense_tflite(path, 1).read_bytes(), "tiny")
    model.buffers[1].data = np.frombuffer(values.astype("<f4").tobytes(), np.uint8)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    path.write_bytes(bytes(builder.Output()))
    return path


def promise(**promised: Any) -> WeightPromise:
    return WeightPromise("dense_0", "kernel", SHAPE, **promised)


def half_zero(pattern: str) -> np.ndarray[Any, Any]:
    values = np.random.default_rng(0).normal(size=SHAPE)
    if pattern == "2:4":
        values[:, 0::4] = values[:, 2::4] = 0.0
    else:
        values[:, :128] = 0.0
    return values


def test_kept_promises_tell_what_was_found(tmp_path: Path) -> None:
    found = kept_promises(with_weights(tmp_path / "m", half_zero("2:4")), [promise(sparsity=0.5, pattern="2:4")], MODEL)
    assert [(one.sparsity, one.kept, one.tensor) for one in found] == [(0.5, True, "w")]
    few = np.random.default_rng(0).choice([-1.0, 0.5, 2.0], SHAPE)
    found = kept_promises(with_weights(tmp_path / "m", few), [promise(clusters=3)], MODEL)
    assert [(one.distinct, one.per_channel) for one in found] == [(3, False)]


@pytest.mark.parametrize(
    ("values", "promised", "told"),
    [
        (half_zero("any"), {"sparsity": 0.6}, r"dense_0/kernel: required 60.0 % zeros, received 50.0 % zeros"),
        (half_zero("any"), {"sparsity": 0.4}, "required 40.0 % zeros, received 50.0 % zeros"),
        (half_zero("any"), {"sparsity": 0.5, "pattern": "2:4"}, "50.0 % zeros in pattern 2:4"),
        (np.zeros(SHAPE), {"sparsity": 0.5}, "received 100.0 % zeros"),
        (half_zero("any"), {"clusters": 16}, "required at most 16 distinct values"),
    ],
)
def test_broken_promises_are_errors(tmp_path: Path, values: Any, promised: Any, told: str) -> None:
    with pytest.raises(StageError, match=told):
        kept_promises(with_weights(tmp_path / "model.tflite", values), [promise(**promised)], MODEL)


def test_weights_that_are_not_in_the_file_are_an_error(tmp_path: Path) -> None:
    gone = WeightPromise("dense_0", "kernel", (256, 255), sparsity=0.5)
    with pytest.raises(StageError, match=r"dense_0/kernel are not in .*65,280 values, as promised: 50.0 % zeros"):
        kept_promises(with_weights(tmp_path / "m", half_zero("any")), [gone], MODEL)


def test_sparse_tensors_are_read_as_the_schema_says() -> None:
    """The example of schema.fbs, and the same in blocks of 2 × 2."""

    def level(size: int = 0, segments: Any = None, indices: Any = None) -> Any:
        pack = [None if one is None else SimpleNamespace(values=one) for one in (segments, indices)]
        return SimpleNamespace(
            format=int(segments is not None), denseSize=size, arraySegments=pack[0], arrayIndices=pack[1]
        )

    rows = [level(3), level(segments=[0, 2, 3, 3], indices=[0, 2, 1])]
    csr = SimpleNamespace(traversalOrder=[0, 1], blockMap=[], dimMetadata=rows)
    found = densified(np.array([1, 2, 3], np.int8), csr, (3, 4))
    assert found.tolist() == [[1, 0, 2, 0], [0, 3, 0, 0], [0, 0, 0, 0]]
    blocks = [level(2), level(segments=[0, 1, 2], indices=[1, 0]), level(2), level(2)]
    blocked = SimpleNamespace(traversalOrder=[0, 1, 2, 3], blockMap=[0, 1], dimMetadata=blocks)
    found = densified(np.arange(1, 9, dtype=np.float32), blocked, (4, 4))
    assert found.tolist() == [[0, 0, 1, 2], [0, 0, 3, 4], [5, 6, 0, 0], [7, 8, 0, 0]]
