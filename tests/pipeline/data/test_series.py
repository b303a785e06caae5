"""`series`: windows, their targets, splits that windows do not reach over, and standardisation inside the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.shared_data import shared

from edgedl.core.errors import ConfigError, DataError
from edgedl.core.store import open_store
from edgedl.pipeline.data import Series, Splits, load_splits


def csv_file(path: Path, rows: int, *, label: Any = None, first: int = 0) -> Path:
    """Columns `a` (the row's number), `b` (its tenfold) and, if asked, `what`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["time,a,b" + (",what" if label else "")]
    for i in range(first, first + rows):
        lines.append(f"2024-01-01 00:{i // 60:02}:{i % 60:02},{i},{10 * i}" + (f",{label(i)}" if label else ""))
    path.write_text("\n".join(lines) + "\n")
    return path


def starts(splits: Splits) -> dict[str, list[int]]:
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return {name: sorted(part.raw(np.arange(len(part)))[:, 0, 0].astype(int).tolist()) for name, part in parts.items()}


def test_one_series_is_cut_in_time_and_windows_do_not_reach_over(tmp_path: Path):
    source = Series(
        path=csv_file(tmp_path / "a.csv", 100), time="time", length=10, stride=5, split={"validation": 0.2, "test": 0.3}
    )
    splits = load_splits(source, source.split, 0)
    assert splits.task == "reconstruction"
    assert splits.input.feature_names == ("a", "b")
    assert starts(splits) == {
        "train": [0, 5, 10, 15, 20, 25, 30, 35, 40],
        "validation": [50, 55, 60],
        "test": [70, 75, 80, 85, 90],
    }
    window = splits.test.raw(np.array([0]))[0]
    np.testing.assert_array_equal(window[:, 1], 10 * window[:, 0])


def test_the_class_of_a_window(tmp_path: Path):
    file = csv_file(tmp_path / "a.csv", 60, label=lambda i: "rest" if i % 20 < 12 else "move")
    classes = {
        how: Series(path=file, time="time", label="what", length=10, label_of_window=how).load()
        for how in ("majority", "last")
    }
    assert classes["majority"].labels == ("move", "rest")
    assert classes["majority"].examples.targets.tolist() == [1, 0, 1, 0]
    assert classes["last"].examples.targets.tolist() == [1, 0, 1, 0]
    five = Series(path=file, time="time", label="what", length=5, label_of_window="last").load()
    assert five.examples.targets.tolist() == [1, 1, 0, 0, 1, 1, 0, 0]


def test_values_later_are_targets(tmp_path: Path):
    raw = Series(path=csv_file(tmp_path / "a.csv", 50), time="time", columns=("a",), length=4, horizon=3).load()
    assert raw.task == "regression"
    last = raw.examples.raw(np.arange(len(raw.examples)))[:, -1, 0]
    np.testing.assert_array_equal(raw.examples.targets[:, 0], last + 3)


def test_many_series_are_split_whole(tmp_path: Path):
    for k in range(12):
        csv_file(tmp_path / ("up" if k % 2 else "down") / f"{k}.csv", 30, first=100 * k)
    source = Series(path=tmp_path, time="time", pattern="(?P<label>up|down)/", length=10)
    splits = load_splits(source, source.split, 0)
    assert splits.labels == ("down", "up")
    owners = {name: {start // 100 for start in found} for name, found in starts(splits).items()}
    assert sum(map(len, owners.values())) == 12
    assert len(set().union(*owners.values())) == 12
    for part in (splits.train, splits.test):
        numbers = part.raw(np.arange(len(part)))[:, 0, 0] // 100
        np.testing.assert_array_equal(part.targets, numbers % 2)


def test_a_column_tells_the_series_apart(tmp_path: Path):
    lines = ["id,v", *(f"{k},{100 * k + i}" for i in range(12) for k in range(5))]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    raw = Series(path=tmp_path / "a.csv", series="id", length=6).load()
    windows = raw.examples.raw(np.arange(10))[..., 0]
    assert raw.groups is not None
    np.testing.assert_array_equal(np.diff(windows, axis=1), 1)
    np.testing.assert_array_equal(windows[:, 0] // 100, raw.groups)


def test_anomalies_are_for_the_test_only(tmp_path: Path):
    csv_file(tmp_path / "data" / "x" / "m.csv", 100)
    spans = {
        "x/m.csv": [["2024-01-01 00:00:10", "2024-01-01 00:00:19"], ["2024-01-01 00:01:32", "2024-01-01 00:01:33"]]
    }
    (tmp_path / "spans.json").write_text(json.dumps(spans))
    source = Series(path=tmp_path / "data", time="time", anomalies=tmp_path / "spans.json", length=10)
    splits = load_splits(source, source.split, 0)
    assert splits.task == "anomaly-detection"
    assert starts(splits) == {"train": [0, 20, 30, 40, 50, 60], "validation": [70], "test": [80, 90]}
    assert splits.test.targets.tolist() == [0, 1]
    assert splits.record.skipped == ("1 anomalous windows in the train stretch: only normal ones are learnt",)


def test_anomalies_of_one_file_and_of_others(tmp_path: Path):
    file = csv_file(tmp_path / "m.csv", 100)
    spans = tmp_path / "spans.json"
    spans.write_text(json.dumps({"m.csv": [["2024-01-01 00:01:32", "2024-01-01 00:01:33"]]}))
    raw = Series(path=file, time="time", anomalies=spans, length=10).load()
    assert raw.test is not None
    assert raw.test.targets.tolist() == [0, 1]
    spans.write_text(json.dumps({"n.csv": []}))
    with pytest.raises(DataError, match=r"anomalies are of other files.*received n\.csv"):
        Series(path=file, time="time", anomalies=spans, length=10).load()
    with pytest.raises(ConfigError, match=r"needs data\.time"):
        Series(path=file, anomalies=spans, columns=("a",), length=10).load()


def test_npz_of_varying_lengths(tmp_path: Path):
    x = np.full((6, 8, 2), np.nan, np.float32)
    for k in range(6):
        x[k, : 3 + k] = k + np.arange(3 + k)[:, None]
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.array(list("pqpqpq")), x_test=x[:2] + 100, y_test=["p", "q"])
    raw = Series(path=tmp_path / "a.npz", length=5).load()
    assert raw.labels == ("p", "q")
    assert raw.examples.raw(np.array([0]))[0, :, 0].tolist() == [0, 1, 2, 2, 2]
    assert raw.test is not None
    assert raw.test.targets.tolist() == [0, 1]
    assert len(Series(path=tmp_path / "a.npz", length=5, short="drop").load().examples) == 4
    assert Series(path=tmp_path / "a.npz").load().input.shape == (8, 2)


@pytest.mark.parametrize(
    ("content", "keys", "message"),
    [
        ("a,b\n1,x\n", {}, r"row 2, column 'b': required a number, received 'x'"),
        ("a,b\n1,\n", {}, "an empty cell"),
        ("a,b\n1\n", {}, "row 2 has 1 cells: required 2"),
        ("a,b\n", {}, "has no rows"),
        ("a,b\n1,2\n", {"label": "c"}, r"no column 'c'"),
        ("a,b\n1,nan\n", {}, "not finite"),
        ("a,b\n" + "1,2\n" * 9, {"length": 20, "short": "drop"}, "no series is as long as a window"),
        ("a,what\n" + "1,x\n" * 50, {"label": "what"}, "one class only"),
    ],
)
def test_refusals(tmp_path: Path, content: str, keys: dict[str, Any], message: str):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        Series(path=tmp_path / "a.csv", **({"length": 5} | keys)).load()


def test_refusals_of_keys(tmp_path: Path):
    file = csv_file(tmp_path / "a.csv", 30)
    with pytest.raises(ConfigError, match=r"data\.length is needed.*series of 30 to 30 rows"):
        Series(path=file, time="time").load()
    with pytest.raises(ConfigError, match="several things of a window: required one, received horizon, anomalies"):
        Series(path=file, length=3, horizon=1, anomalies=file)
    with pytest.raises(DataError, match="does not exist"):
        Series(path=tmp_path / "none.csv", length=3).load()


# --- standardisation ---------------------------------------------------------------------------------------------


def test_standardisation_is_of_the_training_part(tmp_path: Path):
    file = csv_file(tmp_path / "a.csv", 100)
    keys: dict[str, Any] = {"path": file, "time": "time", "length": 10, "split": {"validation": 0.2, "test": 0.3}}
    apart, folded = (
        load_splits(source, source.split, 0)
        for source in (Series(**keys, fold_standardisation=False), Series(**keys, fold_standardisation=True))
    )
    expected = (np.arange(50).mean(), np.arange(50).std())
    np.testing.assert_allclose([apart.input.mean, apart.input.std], np.outer(expected, [1, 10]))
    assert apart.folded is None
    assert folded.folded is not None
    assert (folded.input.mean, folded.input.std) == ((0.0,), (1.0,))
    assert (folded.folded.mean, folded.folded.std) == (apart.input.mean, apart.input.std)
    assert folded.unfolded().input == apart.input


@pytest.mark.tensorflow
def test_a_model_that_is_fed_raw_values(tmp_path: Path):
    """Two recipes that differ in who standardises give the same model, up to rounding; every file takes raw values."""
    from edgedl.export.inference import run_file
    from edgedl.models.load import load_keras
    from edgedl.pipeline.begin import begin
    from edgedl.pipeline.export import export_stage
    from edgedl.pipeline.recipe import check_recipe

    rng = np.random.default_rng(0)
    x = (np.array([40.0, -3.0]) + np.array([5.0, 2.0]) * rng.standard_normal((120, 6, 2))).astype(np.float32)
    y = (x[:, :, 0].mean(axis=1) > 40).astype(int)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y)
    answers: dict[bool, Any] = {}
    for fold in (True, False):
        section = {"source": "series", "path": str(tmp_path / "a.npz"), "fold_standardisation": fold}
        recipe = check_recipe({"data": section, "model": {"family": "mlp"}, "train": {"epochs": 20, "batch_size": 16}})
        with open_store(tmp_path / str(fold)) as store:
            trained, data = begin(store, recipe)
            given = trained.contract.inputs[0]
            assert (given.mean == (0.0,)) is fold
            raw = data.test.raw(np.arange(len(data.test)))
            fed = raw if fold else ((raw - given.mean) / given.std).astype(np.float32)
            model = load_keras(trained.path(trained.model_file))
            assert ("standardise" in [layer.name for layer in model.layers]) is fold
            answers[fold] = model.predict(fed, verbose=0)
            if fold:
                for format in ("tflite", "onnx"):
                    exported = export_stage(store, trained, None, format, data=data)
                    found = run_file(exported.model_path, {given.name: fed})["probabilities"]
                    np.testing.assert_allclose(found, answers[fold], atol=1e-5)
            assert trained.quality is not None
            assert trained.quality.value > 0.7
    np.testing.assert_allclose(answers[True], answers[False], atol=1e-3)


def test_channels_that_int8_would_lose_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from edgedl.pipeline.data import split

    told: list[str] = []

    class Listening:
        def __getattr__(self, name: str) -> Any:
            return getattr(split_reporter, name)

        def warn(self, text: str) -> None:
            told.append(text)

    split_reporter = split.reporter()
    monkeypatch.setattr(split, "reporter", Listening)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 6, 2)) * np.array([1000.0, 0.1])
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.arange(60) % 2)
    source = Series(path=tmp_path / "a.npz")
    load_splits(source, source.split, 0)
    assert any("channel 1" in line and "fold_standardisation: false" in line for line in told)


# --- published sets ----------------------------------------------------------------------------------------------


def test_published_series():
    gun = Series(path=shared("ts_aeon/GunPoint.npz"))
    splits = load_splits(gun, gun.split, 0)
    assert splits.input.shape == (150, 1)
    assert splits.record.counts == {"train": 45, "validation": 5, "test": 150}
    motions = Series(path=shared("ts_aeon/BasicMotions.npz"), length=50, stride=25)
    splits = load_splits(motions, motions.split, 0)
    assert splits.input.shape == (50, 6)
    assert splits.record.counts["test"] == 120


def test_published_anomalies():
    source = Series(
        path=shared("nab/data/artificialWithAnomaly"),
        anomalies=shared("nab/labels/combined_windows.json"),
        time="timestamp",
        length=48,
        stride=24,
        split={"validation": 0.1, "test": 0.5},
    )
    splits = load_splits(source, source.split, 0)
    assert splits.task == "anomaly-detection"
    assert 0 < splits.test.targets.sum() < len(splits.test)
    assert not splits.train.targets.any()
