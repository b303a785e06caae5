"""Calibration: other methods than min–max help where they should; data that cannot calibrate is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgedl
from edgedl.core.artifacts import CompressedModel, SplitRecord, TrainedModel
from edgedl.core.contract import Contract, InputContract, OutputContract
from edgedl.core.errors import ConfigError, DataError, ExitCode
from edgedl.export.inference import run_file, run_keras
from edgedl.pipeline.compress.base import Calibration
from edgedl.pipeline.compress.calibration.examples import draw_examples
from edgedl.pipeline.data import ArrayExamples, Splits

RNG = np.random.default_rng(4)
HOT = 14.0


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CompressedModel]:
    """A small CNN in int8; one pixel of one calibration image is far beyond all others, and so are its activations."""
    import tf_keras
    from tf_keras import layers

    tf_keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("outlier")
    given = tf_keras.Input((16, 16, 4), name="x")
    hidden = layers.Conv2D(4, 1, name="mixed")(given)
    hidden = layers.Conv2D(4, 3, activation="relu", name="body")(hidden)
    model = tf_keras.Model(given, layers.Dense(4, name="y")(layers.Flatten()(hidden)))
    x = RNG.normal(size=(280, 16, 16, 4)).astype(np.float32)
    x[0, 3, 3] = HOT
    test = RNG.normal(size=(60, 16, 16, 4)).astype(np.float32)
    for split, inputs in (("train", x), ("test", test)):
        np.savez(folder / f"{split}.npz", x=inputs, y=np.asarray(model(inputs)))
    arrays: dict[str, Any] = {
        f"{name}_{split}": np.load(folder / f"{split}.npz")[name] for split in ("train", "test") for name in "xy"
    }
    np.savez(folder / "data.npz", **arrays)
    data = {"source": "npz", "file": str(folder / "data.npz"), "split": {"validation": 10}}
    return {
        method: edgedl.compress(
            model,
            {"method": "int8", "io": "float", "calibration": {"n": 1000, "method": method}},
            data=data,
            out=folder / "run",
        )
        for method in ("min-max", "percentile", "mse", "entropy")
    }


def error(variant: CompressedModel) -> float:
    """Root mean squared error against the Keras model on images without the hot pixel."""
    keras = next(variant.folder.parent.glob("train-*")) / "model.keras"
    x = {"x": np.random.default_rng(9).normal(size=(40, 16, 16, 4)).astype(np.float32)}
    got, expected = run_file(variant.path(variant.model_file), x), run_keras(keras, x)
    (name,) = expected
    return float(np.sqrt(((got[name] - expected[name]) ** 2).mean()))


@pytest.mark.slow
@pytest.mark.tensorflow
def test_an_outlier_costs_less_with_every_other_method(variants: dict[str, CompressedModel]) -> None:
    errors = {method: error(variant) for method, variant in variants.items()}
    assert errors["percentile"] < 0.75 * errors["min-max"], errors
    assert errors["mse"] < 0.75 * errors["min-max"], errors
    assert errors["entropy"] < errors["min-max"], errors


@pytest.mark.slow
@pytest.mark.tensorflow
def test_the_method_is_in_the_result_and_the_draw_is_the_same(variants: dict[str, CompressedModel]) -> None:
    records = [one.calibration for one in variants.values()]
    assert [one and one.method for one in records] == ["min-max", "percentile 99.99", "mse", "entropy"]
    assert len({one and one.sha256 for one in records}) == 1
    assert any("percentile 99.99" in note and "narrower" in note for note in variants["percentile"].notes)
    sizes = {one.size_bytes for one in variants.values()}
    assert max(sizes) - min(sizes) < 100  # the same graph, without ops between different scales


@pytest.mark.slow
@pytest.mark.tensorflow
def test_the_outlier_is_told(variants: dict[str, CompressedModel]) -> None:
    for one in variants.values():
        assert one.calibration is not None
        assert all(found.kind == "outliers" for found in one.calibration.warnings)


def test_int16_ranges_are_not_cut() -> None:
    with pytest.raises(ConfigError, match=r"int16x8 is not calibrated by mse.*65,536"):
        edgedl.compress("nowhere.keras", "int16x8:calibration.method=mse")


@pytest.mark.parametrize("words", ["calibration.method=kl", "calibration.percentile=101", "calibration.n=0"])
def test_settings_that_mean_nothing(words: str) -> None:
    with pytest.raises(ConfigError) as error:
        edgedl.compress("nowhere.keras", f"int8:{words}")
    assert error.value.exit_code == ExitCode.BAD_INPUT


CONTRACT = Contract("regression", (InputContract("x", (3,)),), (OutputContract("y", (1,)),))


def splits(inputs: Any) -> Splits:
    examples = ArrayExamples(inputs, np.zeros((len(inputs), 1), np.float32))
    record = SplitRecord({"source": "made"}, "made", {"train": len(inputs)})
    return Splits(examples, examples, examples, "regression", InputContract("x", inputs.shape[1:]), (), record)


def test_calibration_data_that_cannot_calibrate(tmp_path: Path) -> None:
    path = tmp_path / "calibration.npz"
    good = RNG.normal(size=(20, 3)).astype(np.float32)
    for value in (np.nan, np.inf):
        bad = good.copy()
        bad[7, 1] = value
        with pytest.raises(DataError, match=f"not finite.*{value} in example 7") as error:
            draw_examples(path, Calibration(), CONTRACT, splits(bad), 0)
        assert error.value.exit_code == ExitCode.BAD_INPUT
    with pytest.raises(DataError, match=r"wrong shape.*\(3,\).*\(4,\)"):
        draw_examples(path, Calibration(), CONTRACT, splits(RNG.normal(size=(20, 4)).astype(np.float32)), 0)
    with pytest.raises(DataError, match="training examples"):
        draw_examples(path, Calibration(), CONTRACT, splits(good[:0]), 0)
    assert not path.exists()
    record = draw_examples(path, Calibration(n=500, seed=3), CONTRACT, splits(good), 0)
    assert (record.n, record.seed, record.method) == (20, 3, "min-max")


@pytest.mark.tensorflow
def test_data_of_another_shape_leaves_nothing_behind(trained: TrainedModel, tmp_path: Path) -> None:
    wrong = {"x": RNG.normal(size=(40, 9, 9, 1)).astype(np.float32), "y": np.arange(40) % 10}
    np.savez(tmp_path / "wrong.npz", **wrong)
    before = {one.name for one in trained.folder.parent.iterdir()}
    with pytest.raises(DataError, match="shape") as error:
        edgedl.compress(trained, "int8:calibration.n=30", data=f"npz:{tmp_path / 'wrong.npz'}")
    assert error.value.exit_code == ExitCode.BAD_INPUT
    left = {one.name for one in trained.folder.parent.iterdir()} - before
    assert not [name for name in left if name.startswith("compress")]
