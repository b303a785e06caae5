"""A recipe's mistakes: one line, with the key, what was required and what was received."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgedl.core.config import apply_settings, parse_yaml
from edgedl.core.errors import ConfigError
from edgedl.pipeline.recipe import Recipe, check_recipe, read_recipe, recipe_json, recipe_schema

GOOD: dict[str, Any] = {"data": {"source": "digits"}, "model": {"family": "mlp"}}


def refused(**changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        check_recipe(GOOD | changes)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trian": {}}, ["unknown key 'trian'", "did you mean 'train'?"]),
        ({"train": {"epoch": 3}}, ["train:", "did you mean 'epochs'?"]),
        ({"train": {"epochs": "many"}}, ["train.epochs", "valid integer", "'many'"]),
        ({"train": {"epochs": 0}}, ["train.epochs", "greater than 0", "received 0"]),
        ({"train": {"optimizer": {"name": "adm"}}}, ["train.optimizer.name", "'adamw'", "'adm'"]),
        ({"model": {"family": "mpl"}}, ["model", "'mlp'", "mpl"]),
        ({"model": {"family": "mlp", "hiden": [3]}}, ["model", "did you mean 'hidden'?"]),
        ({"model": {"file": "x.keras", "width": 1}}, ["model", "unknown key 'width'"]),
        ({"compress": ["int9"]}, ["compress", "int9"]),
        ({"compress": ["int8", "int8"]}, ["two variants are called 'int8'"]),
        ({"compress": [{"method": "int8", "calibration": {"n": 0}}]}, ["compress.0", "calibration.n", "greater"]),
        ({"export": ["tflight"]}, ["export.0", "'tflite'", "'tflight'"]),
        ({"seed": -1}, ["seed", "received -1"]),
        ({"data": {"source": "digit"}}, ["data", "digit"]),
    ],
)
def test_each_mistake_is_one_line_that_helps(changes: dict[str, Any], words: list[str]) -> None:
    text = refused(**changes)
    assert all(word in text for word in words), text


def test_what_is_required_and_absent_is_told() -> None:
    with pytest.raises(ConfigError, match="data: this key is required"):
        check_recipe({"model": {"family": "mlp"}})


def test_short_forms_are_the_long_ones() -> None:
    short = check_recipe(GOOD | {"compress": ["int8"], "export": ["tflite"], "train": {"schedule": "cosine"}})
    long = check_recipe(
        GOOD
        | {
            "compress": [{"method": "int8"}],
            "export": {"formats": ["tflite"]},
            "train": {"schedule": {"name": "cosine"}},
        }
    )
    assert short == long


def test_a_checked_recipe_checks_to_itself() -> None:
    recipe = check_recipe(GOOD | {"compress": ["int8", "float16"]})
    assert check_recipe(recipe_json(recipe)) == recipe


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("data: {source: npz, file: d.npz}\nmodel: {file: m.keras}\n")
    recipe = read_recipe(tmp_path / "r.yaml")
    assert recipe_json(recipe)["data"]["file"] == str(tmp_path / "d.npz")
    assert recipe_json(recipe)["model"]["file"] == str(tmp_path / "m.keras")


def test_settings_change_keys_and_list_entries() -> None:
    data = {"train": {"schedule": "cosine"}, "compress": ["int8"]}
    changed = apply_settings(data, ["train.epochs=3", "train.schedule.warmup_epochs=1", "compress.0.io=float"])
    assert changed["train"] == {"schedule": {"name": "cosine", "warmup_epochs": 1}, "epochs": 3}
    assert changed["compress"] == [{"method": "int8", "io": "float"}]
    assert data["compress"] == ["int8"]


@pytest.mark.parametrize("setting", ["epochs", "=3", "compress.5.io=float", "a=[1"])
def test_settings_that_cannot_be_read_are_told(setting: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        apply_settings({"compress": ["int8"]}, [setting])


@pytest.mark.parametrize(
    ("text", "words"),
    [("a: [", "line 1"), ("- a\n- b\n", "required keys and values"), ("", "keys and values, received nothing")],
)
def test_text_that_is_no_recipe_is_told(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_yaml(text, source="r.yaml")


def test_a_missing_recipe_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "digits.yaml").write_text("")
    with pytest.raises(ConfigError, match=r"Did you mean .*digits\.yaml"):
        read_recipe(tmp_path / "digit.yaml")


def test_every_key_of_the_schema_is_reachable_and_the_template_is_valid() -> None:
    assert '"compress"' in recipe_schema()
    template = Path(__file__).parents[2] / "pipeline" / "recipe_template.yaml"
    assert isinstance(read_recipe(template), Recipe)


def test_the_templates_values_are_the_defaults() -> None:
    template = recipe_json(read_recipe(Path(__file__).parents[2] / "pipeline" / "recipe_template.yaml"))
    plain = recipe_json(check_recipe({"data": {"source": "digits"}, "model": {"family": "cnn"}}))
    for section in ("model", "train", "export", "profile"):
        assert template[section] == plain[section]
    assert template["data"] == plain["data"]
