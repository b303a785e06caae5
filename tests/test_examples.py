"""Every recipe of examples/ is one that `edgedl run` takes, and every family has one."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedl.models import FAMILIES, Family
from edgedl.pipeline.recipe import read_recipe

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "examples").rglob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_read(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.name
    assert recipe.description


def test_every_family_has_a_recipe_in_the_zoo() -> None:
    models = [read_recipe(path).model for path in (ROOT / "examples" / "zoo").glob("*.yaml")]
    shown = {model.family for model in models if isinstance(model, Family)}
    assert shown == {family.model_fields["family"].default for family in FAMILIES}
