"""Whatever is given wrongly: one line that names it, exit code 2, and nothing half-written."""

from __future__ import annotations

import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.pipeline.cli.conftest import Cli
from tests.tiny_models import dense_onnx, dense_tflite

from edgedl.pipeline.verbs import as_source, load_data

Recipe = Callable[..., Path]


def refused(cli: Cli, path: Path, *words: str, settings: tuple[str, ...] = ()) -> None:
    """Both verbs that take a recipe refuse this one, and leave no folder behind."""
    for verb in ("train", "run"):
        said = cli(verb, path, "--out", "run", *(part for one in settings for part in ("--set", one)), "--json")
        line = said.refused(*words)
        assert said.content == {"error": line.removeprefix("edgedl: ").rstrip("\n"), "exit_code": 2}
        assert not Path("run").exists()


# --- the recipe --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"trian": {}}, ["unknown key 'trian'", "did you mean 'train'?"]),
        ({"train": {"epoch": 3}}, ["train: unknown key 'epoch'", "did you mean 'epochs'?"]),
        ({"train": {"epochs": "many"}}, ["train.epochs", "valid integer", "'many'"]),
        ({"train": {"epochs": 10**30}, "data": {"source": "npz", "file": "none.npz"}}, ["none.npz"]),
        ({"train": {"optimizer": {"learning_rate": float("inf")}}}, ["learning_rate", "finite"]),
        ({"train": "fast"}, ["train: required keys and values, received 'fast'"]),
        ({"train": [1]}, ["train: required keys and values, received a list"]),
        ({"data": None}, ["data: this key is required and absent"]),
        ({"data": {}}, ["data: the key 'source' is required and absent"]),
        ({"data": "digits"}, ["data: required keys and values, received 'digits'"]),
        ({"data": {"source": "digit"}}, ["no data source 'digit'", "'digits'"]),
        ({"model": {"family": "ds-cn"}}, ["model: unknown family 'ds-cn'", "did you mean 'ds-cnn'?"]),
        ({"model": {}}, ["model: the key 'family' is required and absent"]),
        ({"compress": "int8"}, ["compress: required a list, received 'int8'"]),
        ({"compress": ["int9"]}, ["compress.0: unknown method 'int9'", "did you mean 'int8'?"]),
        ({"compress": [{"method": "int8", "name": "../up"}]}, ["compress.0.name", "'../up'"]),
        ({"export": ["tflight"]}, ["export.0", "'tflite'", "'tflight'"]),
        ({"name": "a/b"}, ["name", "'a/b'"]),
        ({"name": ".."}, ["name", "'..'"]),
        ({"seed": 2**40}, ["seed", "2147483648"]),
        ({"profile": {"threads": 100000}}, ["profile.threads", "256"]),
    ],
)  # fmt: skip
def test_recipe(cli: Cli, recipe: Recipe, sections: dict[str, Any], words: list[str]) -> None:
    refused(cli, recipe(**sections), *words)


@pytest.mark.parametrize("section", ["data", "model", "train", "compress", "export", "profile", "check", "name"])
def test_a_section_that_is_null(cli: Cli, recipe: Recipe, section: str) -> None:
    refused(cli, recipe(), f"{section}: required", "received nothing (null)", settings=(f"{section}=null",))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["required keys and values", "received nothing"]),
        ("- a", ["required keys and values", "received a list"]),
        ("a:\n\t- b", ["line 2 is not YAML"]),
        ("a: 1\n---\nb: 2", ["is not YAML"]),
        ('a: "\0"', ["is not YAML"]),
        ("a: &x [*x]", ["refers to itself"]),
        (b"\xff\xfe\0", ["a YAML text file"]),
    ],
)
def test_a_file_that_is_no_recipe(cli: Cli, tmp_path: Path, text: str | bytes, words: list[str]) -> None:
    path = tmp_path / "odd.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(cli, path, "odd.yaml", *words)


def test_no_file_at_all(cli: Cli, recipe: Recipe, tmp_path: Path) -> None:
    refused(cli, tmp_path, "cannot read")
    recipe()
    refused(cli, Path("recpe.yaml"), "no recipe at recpe.yaml", "Did you mean recipe.yaml?")
    refused(cli, Path("zzzzzzzz.yml"), "no recipe at", "edgedl init")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("", ["--set cannot be read", "key.key=value"]),
        ("=3", ["--set cannot be read"]),
        ("train.epochs", ["--set cannot be read"]),
        ("train.epochs=", ["train.epochs", "nothing (null)"]),
        ("train..epochs=3", ["unknown key ''"]),
        ("train.epochs=[", ["--set train.epochs", "not YAML"]),
        ("train.epochs=!!python/object/apply:os.system ['exit']", ["not YAML"]),
        ("train.epochs.x=3", ["train.epochs"]),
        ("a\nb=3", ["unknown key 'a b'"]),
        ("compress.0=int8", ["compress"]),
        ("data=3", ["data: required keys and values, received 3"]),
    ],
)
def test_settings(cli: Cli, recipe: Recipe, setting: str, words: list[str]) -> None:
    refused(cli, recipe(), *words, settings=(setting,))


# --- the data ----------------------------------------------------------------------------------------------------

IMAGES = np.zeros((30, 8, 8, 1), np.float32)
LABELS = np.arange(30) % 3


def npz(path: Path, x: Any = IMAGES, y: Any = LABELS) -> dict[str, str]:
    np.savez(path / "d.npz", x=x, y=y)
    return {"source": "npz", "file": "d.npz"}


def with_nan(path: Path) -> dict[str, str]:
    x = IMAGES.copy()
    x[7, 1, 2, 0] = np.nan
    return npz(path, x)


def truncated_npz(path: Path) -> dict[str, str]:
    section = npz(path)
    (path / "d.npz").write_bytes((path / "d.npz").read_bytes()[:500])
    return section


def empty_npz(path: Path) -> dict[str, str]:
    (path / "d.npz").write_bytes(b"")
    return {"source": "npz", "file": "d.npz"}


def folder_for_file(path: Path) -> dict[str, str]:
    (path / "d.npz").mkdir(exist_ok=True)
    return {"source": "npz", "file": "d.npz"}


def images(path: Path, **classes: int) -> dict[str, str]:
    for name, count in classes.items():
        (path / "images" / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.new("L", (8, 8), i).save(path / "images" / name / f"{i}.png")
    (path / "images").mkdir(exist_ok=True)
    return {"source": "image-folder", "folder": "images"}


def corrupt_image(path: Path) -> dict[str, str]:
    section = images(path, a=9, b=9)
    (path / "images" / "b" / "broken.png").write_bytes((path / "images" / "b" / "0.png").read_bytes()[:40])
    return section


def truncated_idx(path: Path) -> dict[str, str]:
    for name, values in (("images-idx3", np.zeros((30, 8, 8), np.uint8)), ("labels-idx1", LABELS.astype(np.uint8))):
        header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
        (path / f"train-{name}-ubyte").write_bytes((header + values.tobytes())[:500])
    return {"source": "idx", "folder": "."}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (lambda path: {"source": "npz", "file": "gone.npz"}, ["gone.npz does not exist"]),
        (lambda path: npz(path) | {"file": "dd.npz"}, ["dd.npz does not exist", "Did you mean", "/d.npz?"]),
        (lambda path: npz(path, y=LABELS * 0), ["d.npz", "one class only"]),
        (lambda path: npz(path, y=LABELS - 1), ["d.npz", "out of range", "-1 at [0]"]),
        (lambda path: npz(path, y=LABELS[:9]), ["30 inputs, 9 targets"]),
        (lambda path: npz(path) | {"split": {"test": 5000}}, ["leaves no training examples", "data.split"]),
        (with_nan, ["d.npz", "not finite", "[7, 1, 2, 0]"]),
        (truncated_npz, ["d.npz is not a whole .npz file"]),
        (empty_npz, ["d.npz is not a whole .npz file", "0 bytes"]),
        (folder_for_file, ["d.npz is a folder"]),
        (images, ["images has no folders in it"]),
        (lambda path: images(path, a=0, b=0), ["images/a has no images"]),
        (lambda path: images(path, a=9), ["one class only", "'a', 9 times"]),
        (corrupt_image, ["broken.png", "skip_bad"]),
        (truncated_idx, ["train-images-idx3-ubyte", "truncated"]),
    ],
)
def test_data(cli: Cli, recipe: Recipe, tmp_path: Path, data: Callable[[Path], Any], words: list[str]) -> None:
    refused(cli, recipe(data=data(tmp_path)), *words)


def test_a_recipe_that_cannot_be_followed_does_not_replace_the_one_before(
    cli: Cli, recipe: Recipe, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("former")
    cli("train", recipe(data=npz(tmp_path, y=LABELS * 0)), "--out", "run").refused("one class only")
    cli("train", recipe(model={"file": "gone.keras"}), "--out", "run").refused("gone.keras")
    assert (tmp_path / "run" / "recipe.yaml").read_text() == "former"


# --- model files -------------------------------------------------------------------------------------------------


def keras_zip(path: Path, version: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", f'{{"keras_version": "{version}"}}')
        archive.writestr("config.json", "{}")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A file of every wrong kind."""
    (tmp_path / "empty.tflite").write_bytes(b"")
    (tmp_path / "text.tflite").write_text("no model at all")
    whole = dense_tflite(tmp_path / "half.tflite", 2, 64)
    whole.write_bytes(whole.read_bytes()[:2000])
    (tmp_path / "odd.onnx").write_bytes(b"\x08\x09garbage")
    (tmp_path / "odd.keras").write_bytes(b"PK\x03\x04garbage")
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    "args", [["inspect"], ["profile"], ["verify", "--against", "m.keras"], ["check", "--against", "x"]]
)
@pytest.mark.parametrize(
    "name", ["gone.tflite", "empty.tflite", "text.tflite", "half.tflite", "odd.onnx", "odd.keras", "folder"]
)
def test_files(cli: Cli, files: Path, name: str, args: list[str]) -> None:
    before = sorted(files.rglob("*"))
    if args[0] == "check":
        args = ["check", "--against", name]
    cli(args[0], name, *args[1:]).refused(name)
    assert sorted(files.rglob("*")) == before


@pytest.mark.parametrize("name", ["gone.keras", "odd.keras", "empty.tflite", "text.tflite", "folder"])
def test_a_model_that_is_none(cli: Cli, recipe: Recipe, files: Path, name: str) -> None:
    refused(cli, recipe(model={"file": name}), name)
    for verb in (["compress", "--method", "float16"], ["export"]):
        cli(verb[0], name, *verb[1:], "--out", "run").refused(name)
        assert not Path("run").exists()


def test_half_a_model_of_keras_3(cli: Cli, tmp_path: Path) -> None:
    keras_zip(tmp_path / "three.keras", "3.9.0")
    cli("inspect", "three.keras").refused("Keras cannot load", "model.weights.h5")
    cli("export", "three.keras", "--out", "run").refused("Keras cannot load")
    assert not Path("run").exists()


def test_a_corrupt_image_is_left_out_when_asked(tmp_path: Path) -> None:
    section = corrupt_image(tmp_path) | {"folder": str(tmp_path / "images"), "skip_bad": True}
    splits = load_data(as_source(section), 0)
    (skipped,) = splits.record.skipped
    assert "broken.png: not an image" in skipped
    assert sum(splits.record.counts.values()) == 18


def test_an_op_that_nobody_knows(cli: Cli, tmp_path: Path) -> None:
    dense_onnx(tmp_path / "m.onnx", 1, 16, op="Frobnicate")
    said = cli("inspect", "m.onnx")
    assert said.code == 0
    assert "Frobnicate: no standard operator" in said.out
    cli("profile", "m.onnx").refused("m.onnx", "Frobnicate")


def test_a_folder_that_is_no_run(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    cli("report", "folder").refused("folder holds no finished run", "run.json", "No such file")
    cli("export", "folder").refused("folder is no model")
    cli("export", "folder", "--variant", "int8").refused("no variant 'int8'", "float32")
    (tmp_path / "folder" / "run.json").write_text("{")
    cli("report", "folder").refused("folder holds no finished run")
    shutil.copy(Path(__file__).parents[3] / "examples" / "digits.yaml", tmp_path / "folder" / "recipe.yaml")
    cli("export", "folder").refused("folder holds no finished model", "edgedl train")
