"""Every command that needs no training: what it prints for people, for programs, and its exit codes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from tests.pipeline.cli.conftest import Cli
from tests.tiny_models import dense_onnx, dense_tflite

from edgedl.core.artifacts import LatencyReport, json_schema
from edgedl.core.errors import InconclusiveError
from edgedl.pipeline.cli.main import COMMANDS
from edgedl.pipeline.recipe import check_recipe, read_recipe, recipe_schema

REPOSITORY = Path(__file__).parents[3]


# --- help and usage ----------------------------------------------------------------------------------------------


def test_help_names_every_command_and_exit_code(cli: Cli) -> None:
    said = cli("--help")
    assert (said.code, said.err) == (0, "")
    assert all(f"\n  {name} " in said.out for name in COMMANDS)
    assert "70 edgedl's fault" in said.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_json_and_quiet(cli: Cli, name: str) -> None:
    said = cli(name, "--help")
    assert said.code == 0
    assert f"edgedl {name}" in said.out
    assert "--json" in said.out
    assert "--quiet" in said.out


def test_without_a_command_help_and_exit_code_2(cli: Cli) -> None:
    said = cli()
    assert said.code == 2
    assert said.out == cli("--help").out
    assert said.err == ""


def test_version(cli: Cli) -> None:
    from importlib.metadata import version

    said = cli("--version")
    assert (said.code, said.out, said.err) == (0, f"edgedl {version('edgedl')}\n", "")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["trian"], ["No such command 'trian'", "edgedl --help"]),
        (["doctor", "--foo"], ["No such option: --foo", "edgedl doctor --help"]),
        (["run"], ["Missing argument 'RECIPE'"]),
        (["profile"], ["Missing argument"]),
        (["compress", "m.keras"], ["Missing option '--method'"]),
        (["verify", "m.tflite"], ["Missing option '--against'"]),
        (["check", "m.tflite"], ["nothing says what m.tflite is checked against", "--against"]),
        (["profile", "m.tflite", "--budget-s", "0"], ["--budget-s", "0.5"]),
        (["profile", "m.tflite", "--threads", "0"], ["--threads", "1"]),
        (["profile", "m.tflite", "--threads", "100000"], ["--threads", "256"]),
        (["profile", "m.tflite", "--device", ","], ["--device is empty"]),
        (["compress", "m.keras", "--method", ""], ["--method is empty"]),
        (["compress", "m.keras", "--method", "int8", "--budget", "size<=9KB"], ["--method and --budget exclude"]),
        (["compress", "m.keras", "--method", "int8", "--trials", "9"], ["--trials goes with --budget only"]),
        (["compress", "m.keras", "--budget", "size<=9KB", "--io", "float"], ["--io goes with --method only"]),
        (["compress", "m.keras", "--budget", "size<=9KB", "--trials", "0"], ["--trials", "greater than or equal to 1"]),
        (["compress", "m.keras", "--budget", "size<=9"], ["size is not understood", "60KB"]),
        (["compress", "m.keras", "--budget", "size<=9KB"], ["a search needs data", "--data"]),
        (["compress", "m.keras", "--budget", "size<=9KB", "--minimise", "sise"], ["--minimise", "'size'?"]),
        (["compress", "m.keras", "--method", "int9"], ["unknown method 'int9'", "'int8'"]),
        (["compress", "m.keras", "--method", "int8", "--io", "x"], ["io", "'integer' or 'float'"]),
        (["export", "m.keras", "--to", " "], ["--to is empty"]),
        (["export", "m.keras", "--to", "tflight"], ["no format 'tflight'", "tflite, onnx"]),
        (["export", "m.keras", "--batch", "0"], ["--batch", "number from 1"]),
        (["check", "a", "--against", "b", "--max-slowdown", "fast"], ["--max-slowdown", "5% or 0.05"]),
        (["check", "a", "--against", "b", "--max-slowdown", "nan%"], ["--max-slowdown"]),
        (["check", "a", "--against", "b", "--max-accuracy-drop", "1"], ["needs data", "--data"]),
        (["check", "a", "--against", "b", "--max-accuracy-drop", "1", "--data", "foo"], ["--data", "npz:FILE"]),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_line(cli: Cli, args: list[str], words: list[str]) -> None:
    said = cli(*args)
    said.refused(*words)
    assert said.out == ""
    again = cli(*args, "--json")
    assert again.content == {"error": again.refused(*words).removeprefix("edgedl: ").rstrip("\n"), "exit_code": 2}


# --- what becomes of errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (RuntimeError("a nut\nis loose"), 70, ["a fault of edgedl's own", "RuntimeError: a nut is loose", "report"]),
        (KeyboardInterrupt(), 130, ["interrupted", "goes on"]),
        (InconclusiveError("too noisy"), 4, ["too noisy"]),
        (PermissionError(13, "Permission denied", "m.tflite"), 2, ["cannot use m.tflite", "permission denied"]),
    ],
)
def test_an_error_is_one_line_and_its_exit_code(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, words: list[str]
) -> None:
    def broken() -> None:
        raise error

    monkeypatch.setattr("edgedl.devices.all_devices", broken)
    said = cli("devices")
    said.refused(*words, code=code)
    assert said.out == ""
    assert cli("devices", "--json").content["exit_code"] == code


def test_the_traceback_of_our_own_fault_lies_in_a_file(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgedl.devices.all_devices", lambda: 1 / 0)
    log = Path(cli("devices").err.split()[-1])
    assert "ZeroDivisionError" in log.read_text()
    log.unlink()


@pytest.mark.parametrize(
    "args", [["inspect", "a\nb"], ["report", "a\nb"], ["run", "a\nb.yaml"], ["inspect", "a" * 300]]
)
def test_odd_names_are_told_in_one_line(cli: Cli, args: list[str]) -> None:
    cli(*args).refused()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full (Linux)")
def test_a_full_disk_behind_standard_output_is_told() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "edgedl", "models"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "edgedl: cannot write the result: the disk behind standard output is full\n"


# --- init, recipe-schema -----------------------------------------------------------------------------------------


def test_init_writes_a_recipe_that_is_valid_and_commented(cli: Cli, tmp_path: Path) -> None:
    said = cli("init")
    assert said.code == 0
    assert "edgedl run recipe.yaml" in said.out
    text = (tmp_path / "recipe.yaml").read_text()
    assert read_recipe(tmp_path / "recipe.yaml").data.source == "digits"
    assert sum("#" in line for line in text.splitlines()) > 15


def test_init_replaces_nothing_unasked(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("mine")
    cli("init", "mine.yaml").refused("mine.yaml exists already", "--force")
    assert (tmp_path / "mine.yaml").read_text() == "mine"
    assert cli("init", "mine.yaml", "--force", "--json").content == {"written": "mine.yaml"}
    read_recipe(tmp_path / "mine.yaml")


def test_init_on_a_folder_is_refused(cli: Cli, tmp_path: Path) -> None:
    cli("init", tmp_path, "--force").refused("a folder, not a file")
    assert not any(tmp_path.iterdir())


def test_recipe_schema_knows_every_section(cli: Cli) -> None:
    said = cli("recipe-schema")
    assert said.out == cli("recipe-schema", "--json").out == recipe_schema() + "\n"
    schema = said.content
    assert set(schema["required"]) == {"data", "model"}
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(check_recipe({"data": {"source": "digits"}, "model": "mlp"}).model_dump())


@pytest.mark.parametrize("path", sorted((REPOSITORY / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_the_examples_hold_only_what_the_schema_describes(cli: Cli, path: Path) -> None:
    import yaml

    schema = cli("recipe-schema").content
    content = yaml.safe_load(path.read_text())
    assert set(content) <= set(schema["properties"])
    train = schema["$defs"]["Train"]["properties"]
    assert set(content.get("train", {})) <= set(train)
    read_recipe(path)


# --- doctor, devices, models -------------------------------------------------------------------------------------


def test_doctor_says_what_is_there(cli: Cli) -> None:
    content = cli("doctor", "--json").content
    assert {"tensorflow", "tf_keras", "onnxruntime"} <= {one["name"].replace("-", "_") for one in content["packages"]}
    assert content["devices"][0]["name"] == "cpu"
    said = cli("doctor")
    assert "everything that edgedl needs is installed" in said.out
    assert said.code == 0


def test_doctor_names_what_is_missing_and_what_brings_it(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgedl.core.provenance import Requirement, requirements

    gone = Requirement(name="numpy", installed=None, specifier="numpy>=99", fits=False)
    monkeypatch.setattr("edgedl.core.provenance.requirements", lambda: (*requirements(), gone))
    said = cli("doctor")
    assert said.code == 3
    assert "to mend: pip install 'numpy>=99'" in said.out
    assert "MISSING" in said.out


def test_devices_and_models_are_lists(cli: Cli) -> None:
    devices = cli("devices", "--json").content
    assert ("cpu", True) in [(one["name"], one["available"]) for one in devices]
    families = [one["family"] for one in cli("models", "--json").content]
    assert {"mlp", "resnet", "recurrent", "mamba", "ddpm"} <= set(families)
    assert "ds-cnn" in cli("models").out
    assert "cpu" in cli("devices", "--quiet").out


@pytest.mark.tensorflow
def test_sizes_of_the_zoo_at_an_input(cli: Cli) -> None:
    listed = cli("models", "--input", "32x3", "--json").content
    found = {(one["family"], *map(str, one["settings"].values())): one for one in listed}
    assert found["recurrent", "lstm"]["parameters"] == 4 * 32 * (3 + 32 + 1) + 33 * 10
    assert found["recurrent", "lstm"]["macs"] == 32 * 4 * 32 * (3 + 32) + 320
    assert found["resnet", "8"]["parameters"] is None
    assert "images of shape" in found["resnet", "8"]["reason"]
    cli("models", "--input", "32xtall").refused("--input", "96x96x3")


# --- files -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dense_tflite(tmp_path_factory.mktemp("files") / "small one ü.tflite", 1)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dense_tflite(tmp_path_factory.mktemp("files") / "large.tflite", 6)


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dense_onnx(tmp_path_factory.mktemp("files") / "m.onnx", 2)


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_inspect(cli: Cli, kind: str, request: pytest.FixtureRequest) -> None:
    file = request.getfixturevalue({"tflite": "large", "onnx": "onnx"}[kind])
    content = cli("inspect", file, "--json").content
    assert (content["kind"], content["precision"]) == (kind, "float32")
    assert content["parameters"] == 256 * 256 + 256
    assert content["macs"] == {"tflite": 6, "onnx": 2}[kind] * 256 * 256
    said = cli("inspect", file, "--quiet")
    assert (said.code, said.err) == (0, "")
    assert f"{kind}, float32" in said.out
    assert "input x: float32 [1, 256]" in said.out


def test_profile(cli: Cli, small: Path, large: Path) -> None:
    said = cli("profile", small, large, "--budget-s", "1", "--json", "--quiet")
    assert (said.code, said.err) == (0, "")
    (report,) = said.content
    assert (report["device"], report["obtained"]) == ("cpu", "measured")
    assert [one["file"] for one in report["models"]] == [small.name, large.name]
    assert report["models"][1]["timing"]["ratio"]["value"] > 1
    jsonschema.validate(report, json.loads(SCHEMA.read_text()))
    said = cli("profile", small, "--budget-s", "0.5", "--ops", "1")
    assert "costliest of 1 ops" in said.out


SCHEMA = Path(__file__).parents[3] / "docs/schemas/latency-report.json"


def test_the_published_schema_is_that_of_the_results() -> None:
    assert json.loads(SCHEMA.read_text()) == json_schema(LatencyReport), "`make schemas` writes it again"


def test_one_matrix_of_several_devices_and_why_one_has_no_figure(cli: Cli, small: Path, onnx: Path) -> None:
    said = cli("profile", small, onnx, "--device", "cpu,tpu", "--budget-s", "0.5", "--json", "--quiet")
    report, refused = said.content
    assert (said.code, report["device"], refused["device"], refused["exit_code"]) == (2, "cpu", "tpu", 2)
    assert said.err == f"edgedl: tpu: {refused['error']}\n"
    assert "does not run on tpu" in refused["error"]
    said = cli("profile", small, "--device", "cpu,tpu", "--budget-s", "0.5", "--quiet")
    assert said.code == 0
    assert re.search("file +cpu, measured +tpu, estimated", said.out)


def test_what_lies_in_the_users_folder_is_not_imported(small: Path, tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong numpy')")
    command = [str(Path(sys.executable).with_name("edgedl")), "profile", str(small), "--budget-s", "0.5"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_device_is_told_before_anything_is_measured(
    cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgedl.pipeline.matrix.profile", lambda *_, **__: pytest.fail("measured"))
    said = cli("profile", small, "--device", "cpu,toaster", "--json")
    said.refused("no device is called 'toaster'", "edgedl devices", code=3)
    assert said.content["exit_code"] == 3


def test_check_passes_regresses_and_writes_junit(cli: Cli, small: Path, large: Path, tmp_path: Path) -> None:
    limits = ["--max-slowdown", "none", "--max-size-growth", "0.1%"]
    same = cli("check", small, "--against", small, *limits, "--json")
    assert (same.code, same.content["outcome"]) == (0, "pass")
    worse = cli("check", large, "--against", small, *limits, "--junit", "out/junit.xml")
    assert worse.code == 1
    assert worse.out.startswith(f"regressed: {large} against {small}\n")
    suite = ElementTree.parse(tmp_path / "out" / "junit.xml").getroot()
    assert [node.tag for node in suite.iter() if node.tag in {"failure", "error"}] == ["failure"]


def test_a_junit_file_that_cannot_be_written_is_told(cli: Cli, small: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = cli("check", small, "--against", small, "--max-slowdown", "none", "--junit", "file/x.xml", "--json")
    said.refused("cannot write file/x.xml")
    assert set(said.content) == {"error", "exit_code"}


# --- train and run, before they start ----------------------------------------------------------------------------


def test_an_unknown_device_of_a_recipe_is_told_before_training(cli: Cli, recipe: Callable[..., Path]) -> None:
    said = cli("run", recipe(profile={"devices": ["cpu", "toaster"]}), "--out", "run")
    said.refused("no device is called 'toaster'", code=3)
    assert not Path("run").exists()


@pytest.mark.parametrize("verb", ["run", "train"])
def test_a_second_edgedl_in_the_folder_is_refused_and_harms_nothing(
    cli: Cli, recipe: Callable[..., Path], tmp_path: Path, verb: str
) -> None:
    from edgedl.core.store import open_store

    with open_store(tmp_path / "run"):
        (tmp_path / "run" / "recipe.yaml").write_text("first")
        cli(verb, recipe(), "--out", "run").refused("another edgedl is working in run", "--out")
        assert (tmp_path / "run" / "recipe.yaml").read_text() == "first"


@pytest.mark.parametrize("out", ["file", "file/deeper", "a" * 300])
def test_an_out_folder_that_cannot_be_is_refused(
    cli: Cli, recipe: Callable[..., Path], tmp_path: Path, out: str
) -> None:
    (tmp_path / "file").write_text("mine")
    cli("train", recipe(), "--out", out).refused("cannot write")
    assert (tmp_path / "file").read_text() == "mine"
