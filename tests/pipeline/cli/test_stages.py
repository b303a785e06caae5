"""The verbs that make, compare and measure models, as a user types them, on one tiny finished run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.pipeline.cli.conftest import Cli

import edgedl
from edgedl.core.artifacts import Run

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def run(tiny_run: Run, tmp_path: Path) -> Path:
    """A copy of the finished run, free to be changed, in a folder with an awkward name."""
    return Path(shutil.copytree(tiny_run.folder, tmp_path / "my run.v1 ü"))


@pytest.fixture
def recipe_file(tiny_recipe: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "tiny.v1.yaml"
    path.write_text(yaml.safe_dump(tiny_recipe))
    return path


def model_of(run: Path, name: str) -> Path:
    return next(run.glob(f"export-{name}-*/*.{name.rpartition('-')[2]}"))


def test_run_again_says_that_nothing_was_done(cli: Cli, run: Path, recipe_file: Path) -> None:
    said = cli("run", recipe_file, "--out", run)
    assert said.code == 0
    assert "unchanged and not done again: " in said.out
    assert "unchanged: train-" in said.err
    assert "accuracy" in said.out
    quiet = cli("run", recipe_file, "--out", run, "--quiet", "--json")
    assert (quiet.code, quiet.err) == (0, "")
    assert quiet.content == json.loads((run / "report.json").read_text())


def test_train(cli: Cli, run: Path, recipe_file: Path) -> None:
    said = cli("train", recipe_file, "--out", run, "--json")
    content = said.content
    assert Path(content["folder"]).parent == run
    assert content["quality"]["n"] == content["data"]["counts"]["test"]
    said = cli("train", recipe_file, "--out", run, "--quiet")
    assert (said.code, said.err) == (0, "")
    assert "traces: " in said.out


def test_a_recipe_that_fails_in_training_leaves_nothing(cli: Cli, recipe_file: Path) -> None:
    wrong = "train.early_stopping={metric: auc}"
    cli("train", recipe_file, "--out", "new", "--set", wrong).refused("early_stopping.metric", "loss or accuracy")
    assert not Path("new").exists()


def test_compress_export_and_their_variants(cli: Cli, run: Path) -> None:
    said = cli("compress", run, "--method", "int8,int8,float16", "--json")
    assert [one["name"] for one in said.content] == ["int8", "float16"]
    said = cli("export", run, "--variant", "float16", "--quiet")
    assert (said.code, said.err) == (0, "")
    assert "float16" in said.out
    assert "float32" not in said.out
    said = cli("export", run, "--to", "onnx")
    assert "skipped: " in said.out
    assert said.code == 0
    cli("export", run, "--variant", "int9").refused("no variant 'int9'", "int8")


@pytest.mark.slow
def test_a_file_compressed_without_data_is_exported_and_compressed_further(cli: Cli, run: Path) -> None:
    shutil.copyfile(next(run.glob("train-*/model.keras")), "mine.keras")
    cli("compress", "mine.keras", "--method", "dynamic-range", "--out", "bare", "--quiet")
    said = cli("export", "bare", "--variant", "dynamic-range", "--json")
    assert [one["precision"] for one in said.content] == ["dynamic-range"]
    cli("compress", "bare", "--method", "int8", "--out", "bare").refused("int8 needs data")
    (made,) = cli("compress", "bare", "--method", "int8", "--data", run, "--json").content
    assert made["quality"] is not None
    assert Path(made["folder"]).parent == Path("bare")


def test_export_knows_which_model_a_variant_came_from(cli: Cli, run: Path, recipe_file: Path) -> None:
    """Another model trained in the same folder does not take the variants of the first along."""
    first = cli("train", recipe_file, "--out", run, "--json").content["record"]["content_hash"]
    other = cli("train", recipe_file, "--out", run, "--set", "train.epochs=1", "--json").content["record"][
        "content_hash"
    ]
    assert other != first
    assert len(cli("export", run, "--json").content) == 1
    cli("export", run, "--variant", "int8").refused("no variant 'int8'")
    assert cli("train", recipe_file, "--out", run, "--json").content["record"]["content_hash"] == first
    found = cli("export", run, "--json").content
    assert {one["name"] for one in found} == {"float32", "int8", "dynamic-range"}
    assert all(first in one["record"]["parents"] for one in found)


def test_inspect_keras_and_saved_model(cli: Cli, run: Path, tmp_path: Path) -> None:
    import tf_keras

    file = next(run.glob("train-*/model.keras"))
    tf_keras.models.load_model(file, compile=False).save(tmp_path / "saved", save_format="tf")
    said = [cli("inspect", path, "--json") for path in (file, tmp_path / "saved")]
    assert [one.code for one in said] == [0, 0], [one.err for one in said]
    keras, saved = (one.content for one in said)
    assert (keras["kind"], saved["kind"]) == ("keras-2", "saved-model")
    assert keras["parameters"] == saved["parameters"] > 1000
    assert [one["name"] for one in keras["inputs"]] == ["image"]


def test_verify_passes_and_fails(cli: Cli, run: Path, tmp_path: Path) -> None:
    file = model_of(run, "float32-tflite")
    said = cli("verify", file, "--against", run, "--json")
    assert said.code == 0
    assert [one["passed"] for one in said.content] == [True]
    broken = tmp_path / "broken.tflite"
    data = bytearray(file.read_bytes())
    middle = len(data) // 2 // 4 * 4
    data[middle : middle + 400] = bytes(400)  # some weights
    broken.write_bytes(data)
    said = cli("verify", broken, "--against", run)
    assert said.code == 1
    assert "DIFFERS" in said.out


def test_check_of_accuracy(cli: Cli, run: Path) -> None:
    new, old = model_of(run, "int8-tflite"), model_of(run, "float32-tflite")
    said = cli(
        "check", new, "--against", old, "--max-slowdown", "none", "--max-accuracy-drop", "5", "--data", run, "--json"
    )  # fmt: skip
    assert said.code == 0
    assert [one["what"] for one in said.content["findings"]] == ["size", "accuracy"]


def test_report_is_made_again_and_tells_what_is_gone(cli: Cli, run: Path) -> None:
    (run / "report.html").unlink()
    said = cli("report", run, "--quiet")
    assert (said.code, said.err) == (0, "")
    assert (run / "report.html").is_file()
    gone = next(run.glob("verify-int8-*"))
    shutil.rmtree(gone)
    cli("report", run).refused(gone.name)


def test_a_run_that_lost_parts_is_mended(cli: Cli, run: Path, recipe_file: Path) -> None:
    shutil.rmtree(next(run.glob("verify-int8-tflite-*")))
    (next(run.glob("verify-int8-onnx-*")) / "manifest.json").write_text("{")
    next(run.glob("export-int8-tflite-*/*.tflite")).unlink()
    said = cli("run", recipe_file, "--out", run)
    assert said.code == 0
    assert said.err.count("is made again") == 2
    assert cli("report", run).code == 0


def test_odd_layer_names_go_all_the_way(cli: Cli, tmp_path: Path) -> None:
    import tf_keras
    from tf_keras import layers

    model = tf_keras.Sequential(
        [tf_keras.Input((4,), name="the_input"), layers.Dense(3, name="block/one"), layers.Dense(2, name="b.two-x")]
    )
    model.save(tmp_path / "odd name.v2.h5", save_format="h5")
    said = cli("export", "odd name.v2.h5", "--to", "tflite,onnx", "--out", "deep/run", "--json")
    assert said.code == 0, said.err
    for one in said.content:
        assert cli("verify", Path(one["folder"]) / one["model_file"], "--against", "odd name.v2.h5").code == 0


def test_a_model_of_the_users_is_given_arrays_as_they_are(cli: Cli, tmp_path: Path) -> None:
    """It was trained on pixels: to scale them would be somebody else's habit."""
    import numpy as np
    import tf_keras
    import yaml
    from tf_keras import layers

    model = tf_keras.Sequential([tf_keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(3, name="y")])
    model.save(tmp_path / "mine.keras", save_format="keras")
    x = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 1), np.uint8)
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(60) % 3)
    assert cli("compress", "mine.keras", "--data", "npz:d.npz", "--method", "int8", "--out", "a").code == 0
    assert yaml.safe_load((tmp_path / "a/recipe.yaml").read_text())["data"]["normalize"] == "none"
    (folder,) = (tmp_path / "a").glob("audit-reference-*")
    with np.load(folder / "answers.npz") as answers:
        assert np.abs(answers["test examples"]).max() > 20, "the audit, too, gives it pixels"
    section = {"source": "npz", "file": str(tmp_path / "d.npz"), "normalize": "0..1"}
    edgedl.compress(tmp_path / "mine.keras", "int8", data=section, out=tmp_path / "b")
    assert yaml.safe_load((tmp_path / "b/recipe.yaml").read_text())["data"]["normalize"] == "0..1"
