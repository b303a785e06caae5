"""How every run begins: its data, its recipe beside it, its trained model."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import yaml

from edgedl.core.artifacts import TrainedModel
from edgedl.core.errors import EdgedlError
from edgedl.core.files import write_atomically
from edgedl.core.store import RunStore
from edgedl.pipeline.data import Splits, load_splits
from edgedl.pipeline.recipe import Recipe, recipe_json
from edgedl.pipeline.train.stage import train_stage

RECIPE_FILE = "recipe.yaml"


def begin(store: RunStore, recipe: Recipe) -> tuple[TrainedModel, Splits]:
    """Read the data, keep the recipe in the run's folder, where later verbs find it, and train.

    Raises ConfigError, DataError, ModelError; the folder then keeps the recipe that it had.
    """
    data = load_splits(recipe.data, recipe.data.split, recipe.seed)
    with kept_recipe(store, recipe):
        trained = train_stage(store, recipe, data)
    return trained, data.as_given(trained.contract)


@contextlib.contextmanager
def kept_recipe(store: RunStore, recipe: Recipe) -> Generator[None]:
    """Write the checked recipe into the folder; put the former one back when this one cannot be followed."""
    path = store.folder / RECIPE_FILE
    former = path.read_bytes() if path.is_file() else None
    write_atomically(path, yaml.safe_dump(recipe_json(recipe), sort_keys=False))
    try:
        yield
    except EdgedlError:
        if former is None:
            path.unlink(missing_ok=True)
        else:
            write_atomically(path, former)
        raise
