"""`tfds`: against a module that has the few functions that are used, and with the real one where it is installed."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgedl.core.errors import DataError, UnavailableError
from edgedl.pipeline.data import Tfds, load_splits

RNG = np.random.default_rng(0)


class Data:
    def __init__(self, examples: list[dict[str, Any]]) -> None:
        self.examples = examples

    def as_numpy_iterator(self) -> Any:
        return iter(self.examples)


class Builder:
    """Leaves of three kinds, in two sizes; 30 to learn and 9 to test."""

    def __init__(self) -> None:
        self.prepared = False
        label = SimpleNamespace(names=["healthy", "rust", "spot"])
        splits = {"train": SimpleNamespace(num_examples=30), "test": SimpleNamespace(num_examples=9)}
        self.info = SimpleNamespace(features={"image": None, "label": label}, splits=splits)

    def download_and_prepare(self) -> None:
        self.prepared = True

    def as_dataset(self, split: str, shuffle_files: bool) -> Data:
        assert not shuffle_files
        if not self.prepared:
            raise AssertionError("Dataset beans: could not find data in /x.\nPlease …")
        sizes = [(8, 8), (6, 10)]
        return Data(
            [
                {"image": np.full((*sizes[i % 2], 3), 40 * (i % 3) + 10, np.uint8), "label": np.int64(i % 3)}
                for i in range(self.info.splits[split].num_examples)
            ]
        )


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch) -> Builder:
    builder = Builder()

    def find(name: str, data_dir: str | None) -> Builder:
        if name != "beans":
            raise ValueError(f"Dataset {name} not found.\nlong help")
        return builder

    module = ModuleType("tensorflow_datasets")
    module.builder = find  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)
    return builder


def test_images_by_name(catalogue: Builder):
    source = Tfds(name="beans", size=(4, 4), resize="center-crop")
    splits = load_splits(source, source.split, 0)
    assert splits.labels == ("healthy", "rust", "spot")
    assert splits.record.counts == {"train": 27, "validation": 3, "test": 9}
    assert splits.input.resize == "center-crop"
    pixels = splits.test.raw(np.arange(9))
    assert pixels.shape == (9, 4, 4, 3)
    np.testing.assert_array_equal(pixels[:, 0, 0, 0], 40 * splits.test.targets + 10)


def test_what_is_refused(catalogue: Builder):
    with pytest.raises(DataError, match=r"differ in size.*data\.size"):
        Tfds(name="beans").load()
    with pytest.raises(DataError, match=r"tfds bean cannot be prepared.*received Dataset bean not found\.$"):
        Tfds(name="bean").load()
    with pytest.raises(DataError, match="no feature 'img': required an image and a class, received image, label"):
        Tfds(name="beans", image_key="img").load()
    with pytest.raises(DataError, match="no split 'learn'"):
        Tfds(name="beans", train_split="learn[:10%]").load()
    catalogue.prepared = False
    with pytest.raises(DataError, match=r"could not find data.*data\.download: true"):
        Tfds(name="beans", size=(4, 4), download=False).load()


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(UnavailableError, match=r"needs TensorFlow Datasets.*edgedl\[tfds\]"):
        Tfds(name="beans").load()
