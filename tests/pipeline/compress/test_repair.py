"""Sensitivity, mixed precision and repairs, end to end on a network that int8 ruins; asserted on the files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.pipeline.cli.conftest import Cli, cli  # noqa: F401  # a fixture
from tests.pipeline.compress.badly_scaled import trained_on_digits, with_bad_scales

import edgedl
from edgedl.core.artifacts import CompressedModel, SensitivityReport, load_artifact
from edgedl.core.errors import ConfigError, ModelError
from edgedl.export.inspect import inspect_file
from edgedl.pipeline.compress.repair.child import LAYER
from edgedl.pipeline.compress.repair.run import check_integers

pytestmark = pytest.mark.tensorflow

DATA = {"source": "digits", "split": {"validation": 300, "test": 300}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("repair")


@pytest.fixture(scope="module")
def bad(folder: Path) -> Path:
    """A network whose first two pairs of layers are badly scaled; the others are as trained."""
    path = folder / "bad.keras"
    with_bad_scales(trained_on_digits(folder), pairs=2).save(path, save_format="keras")
    return path


def compressed(bad: Path, method: str, out: str = "run") -> CompressedModel:
    return edgedl.compress(bad, method, data=DATA, out=bad.with_name(out))


@pytest.fixture(scope="module")
def report(bad: Path) -> SensitivityReport:
    return edgedl.sensitivity(bad, data=DATA, out=bad.with_name("run"))


def test_sensitivity_names_the_layers_that_int8_ruins(report: SensitivityReport) -> None:
    assert {row.layer for row in report.rows[:3]} == {"stem", "dw", "pw"}, "what the bad scales are in"
    assert report.plain_lost > 20
    assert report.n == 300
    assert report.plain.before.split == "validation"
    lost = [row.lost for row in report.rows]
    assert lost == sorted(lost, reverse=True)
    names = {row.layer for row in report.rows}
    assert names == {"stem", "dw", "pw", "mean", "probabilities", "SOFTMAX after probabilities"}
    calm = next(row for row in report.rows if row.layer == "probabilities")
    assert calm.lost < 2
    assert calm.sqnr_db is not None and calm.sqnr_db > 20
    assert (report.folder / report.picture).read_bytes().startswith(b"\x89PNG")
    assert load_artifact(report.folder) == report
    assert {path.name for path in report.folder.iterdir()} == {"manifest.json", "calibration.npz", "sensitivity.png"}


def test_mixed_keeps_the_worst_layers_in_float_and_no_other(bad: Path, report: SensitivityReport) -> None:
    found = compressed(bad, "mixed:keep=2")
    worst = [row.layer for row in report.rows[:2]]
    assert [one.layer for one in found.kept_float] == worst
    facts = inspect_file(found.path(found.model_file))
    precision = {op.layer: op.precision for op in facts.ops if op.op not in {"QUANTIZE", "DEQUANTIZE"} and op.layer}
    assert precision == {layer: "float32" if layer in worst else "int8" for layer in precision}
    assert facts.precision == "mixed"
    assert {op.layer for op in found.float_ops} == set(worst)
    assert all("kept in float" in op.reason for op in found.float_ops)
    plain = compressed(bad, "int8")
    assert found.quality is not None and plain.quality is not None
    assert found.quality.loss < plain.quality.loss - 10
    assert plain.size_bytes < found.size_bytes


@pytest.mark.slow
def test_mixed_within_a_limit_takes_as_few_layers_as_it_needs(bad: Path) -> None:
    found = compressed(bad, "mixed:max_loss=1")
    fewer = compressed(bad, f"mixed:keep={len(found.kept_float) - 1}")
    assert found.quality is not None and fewer.quality is not None
    assert found.quality.loss < 3
    assert any("layers stay float32" in note for note in found.notes)
    assert fewer.quality.loss > found.quality.loss
    verified = edgedl.verify(found.path(found.model_file), bad, data=DATA)
    assert verified.passed, verified.failures


@pytest.mark.slow
def test_equalisation_repairs_what_bad_scales_ruined(bad: Path) -> None:
    found = compressed(bad, "int8:repair.max_loss=1")
    first = found.tried[0]
    assert (first.repair, first.kept, first.n) == ("equalise", True, 300)
    assert first.lost_before > 20
    assert first.lost_after is not None and first.lost_after <= 1
    assert len(found.tried) == 1, "it stops within the limit"
    assert found.integer_ops == 1.0
    assert found.quality is not None and found.quality.loss < 3
    assert inspect_file(found.path(found.model_file)).precision == "int8"
    with pytest.raises(ModelError, match="repairs are in the TFLite file"):
        edgedl.export(found, "onnx")


@pytest.mark.slow
def test_rounding_survives_the_converter_to_the_last_integer(bad: Path) -> None:
    method = "int8:repair.max_loss=0:repair.repairs=[rounding]:repair.iterations=40"
    found = compressed(bad, method)
    (tried,) = found.tried
    assert tried.repair == "rounding"
    assert tried.lost_after is not None, tried.said  # the file's integers were compared on the way


@pytest.mark.slow
def test_rounding_with_one_seed_gives_one_file(bad: Path) -> None:
    method = "int8:repair.max_loss=0:repair.repairs=[rounding]:repair.iterations=40"
    found = compressed(bad, method)
    again = compressed(bad, method, out="again")
    assert again.path(again.model_file).read_bytes() == found.path(found.model_file).read_bytes()


def test_other_integers_in_the_file_are_an_error(bad: Path, tmp_path: Path) -> None:
    plain = compressed(bad, "int8")
    layers = ("stem", "dw", "pw", "probabilities")
    file, integers = plain.path(plain.model_file), tmp_path / "integers.npz"
    np.savez(integers, **{f"{LAYER}dw": np.ones((3, 3, 12, 1), np.int8)})
    with pytest.raises(ModelError, match="layer dw's weights otherwise"):
        check_integers(file, integers, layers)
    np.savez(integers, **{f"{LAYER}absent": np.ones((3, 3), np.int8)})
    with pytest.raises(ModelError, match="not in the file"):
        check_integers(file, integers, layers)


@pytest.mark.slow
def test_fallback_keeps_layers_in_float_where_nothing_else_is_allowed(bad: Path) -> None:
    found = compressed(bad, "int8:repair.max_loss=1:repair.repairs=[bias-correction,fallback]:io=float")
    assert [one.repair for one in found.tried] == ["bias-correction", "fallback"]
    assert found.tried[-1].kept
    assert found.kept_float
    assert all("kept in float" in op.reason for op in found.float_ops)
    assert {op.layer for op in found.float_ops} - {None} <= {one.layer for one in found.kept_float}
    assert 0 < found.integer_ops < 1


def test_no_repair_where_int8_loses_little(bad: Path) -> None:
    found = compressed(bad, "int8:repair.max_loss=100")
    assert not found.tried
    assert "within the limit of 100" in found.notes[-1]


def test_wrong_settings(bad: Path) -> None:
    with pytest.raises(ConfigError, match="two rules"):
        compressed(bad, "mixed:keep=1:max_loss=1")
    with pytest.raises(ConfigError, match="cannot keep 9 layers"):
        compressed(bad, "mixed:keep=9")
    with pytest.raises(ConfigError, match="equalize"):
        compressed(bad, "int8:repair.repairs=[equalize]")
    with pytest.raises(ConfigError, match="the only repair is equalise"):
        compressed(bad, "int8:dense_scales=per-tensor:repair.max_loss=1")
    with pytest.raises(ConfigError, match="needs data"):
        edgedl.sensitivity(bad, out=bad.with_name("without"))
    with pytest.raises(ModelError, match="mixed is a TFLite scheme"):
        edgedl.export(compressed(bad, "mixed:keep=2"), "onnx")


def test_on_the_command_line(cli: Cli, bad: Path, report: SensitivityReport) -> None:  # noqa: F811
    said = cli("sensitivity", bad.with_name("run"), "--json", "-q")
    assert said.code == 0
    assert [row["layer"] for row in said.content["rows"]] == [row.layer for row in report.rows]
    table = cli("sensitivity", bad.with_name("run"))
    assert "all in int8" in table.out and "300 validation examples" in table.out and "sensitivity.png" in table.out
    cli("sensitivity", bad, "--out", "elsewhere").refused("needs data")
    assert json.loads((report.folder / "manifest.json").read_text())["kind"] == "sensitivity"
