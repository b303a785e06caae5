"""`tfds`: image classification sets of TensorFlow Datasets, by name. Needs the extra `edgedl[tfds]`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edgedl.core.config import InputPath
from edgedl.core.console import reporter
from edgedl.core.errors import DataError, UnavailableError
from edgedl.pipeline.data.base import ArrayExamples, RawData
from edgedl.pipeline.data.checks import listed, nearest
from edgedl.pipeline.data.image_folder import ImageSource, common_size, to_pixels


class Tfds(ImageSource):
    """A set of images with one label each. Images are resized once and held in memory."""

    source: Literal["tfds"] = Field(default="tfds", description="Image classification from TensorFlow Datasets.")
    name: str = Field(
        description="As TensorFlow Datasets has it, with configuration and version if wanted: beans:1.0.0."
    )
    folder: InputPath | None = Field(default=None, description="Where the sets lie; by default ~/tensorflow_datasets.")
    download: bool = Field(default=True, description="Fetch and prepare a set that is not there.")
    train_split: str = Field(default="train", description="As in its slicing language: train, train[:20%], …")
    validation_split: str = Field(default="validation", description="Used if the set has it.")
    test_split: str = Field(default="test", description="Used if the set has it.")
    image_key: str = Field(default="image", description="Name of the feature with the image.")
    label_key: str = Field(default="label", description="Name of the feature with the class.")

    def load(self) -> RawData:
        """Fetch, if need be, and read the set. Raises UnavailableError, DataError."""
        builder = self._builder()
        features = builder.info.features
        for key in (self.image_key, self.label_key):
            if key not in features:
                near = nearest(key, features)
                raise DataError(
                    f"tfds {self.name} has no feature {key!r}",
                    required="an image and a class",
                    received=listed(features),
                    advice=f"Did you mean {near}? Set data.image_key, data.label_key" if near else None,
                )
        labels = tuple(str(name) for name in getattr(features[self.label_key], "names", ()))
        if len(labels) < 2:
            raise DataError(
                f"tfds {self.name}: {self.label_key} has no named classes", received=str(features[self.label_key])
            )
        wanted = {"train": self.train_split, "validation": self.validation_split, "test": self.test_split}
        if (first := _plain(self.train_split)) not in builder.info.splits:
            raise DataError(f"tfds {self.name} has no split {first!r}", received=listed(builder.info.splits))
        there = {part: split for part, split in wanted.items() if _plain(split) in builder.info.splits}
        size = self.size or common_size(image.shape[:2] for image, _ in self._read(builder, there["train"]))
        found: set[tuple[int, int]] = set()
        parts = {part: self._part(builder, split, size, found) for part, split in there.items()}
        return RawData(
            examples=parts["train"],
            task="classification",
            input=self.contract(size, found),
            normalize=self.normalize,
            labels=labels,
            validation=parts.get("validation"),
            test=parts.get("test"),
        )

    def _builder(self) -> Any:
        try:
            import tensorflow_datasets as tfds  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise UnavailableError(
                "data source tfds needs TensorFlow Datasets",
                required="the package tensorflow-datasets",
                received=str(error),
                advice='pip install "edgedl[tfds]"',
            ) from None
        try:
            builder = tfds.builder(self.name, data_dir=str(self.folder) if self.folder else None)
            if self.download:
                builder.download_and_prepare()
        except Exception as error:  # its own, of the network, and of the file system
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise DataError(
                f"tfds {self.name} cannot be prepared",
                required="a set of the catalogue, and a network or a prepared copy in data.folder",
                received=lines[0][:300],
            ) from None
        return builder

    def _read(self, builder: Any, split: str) -> Iterator[tuple[NDArray[Any], int]]:
        """Images (height, width, channels) uint8 and their class, in the order of the files."""
        try:
            data = builder.as_dataset(split=split, shuffle_files=False)
        except (AssertionError, ValueError, OSError) as error:
            raise DataError(
                f"tfds {self.name}: split {split} cannot be read",
                received=(str(error).strip().splitlines() or ["?"])[0][:300],
                advice="Set data.download: true to prepare it",
            ) from None
        for example in data.as_numpy_iterator():
            yield np.asarray(example[self.image_key]), int(example[self.label_key])

    def _part(self, builder: Any, split: str, size: tuple[int, int], found: set[tuple[int, int]]) -> ArrayExamples:
        from PIL import Image

        resizing = self.resizing(size)
        n = int(builder.info.splits[split].num_examples)
        images: list[NDArray[np.uint8]] = []
        targets: list[int] = []
        with reporter().progress(f"Reading {self.name} {split}", n) as progress:
            for pixels, target in self._read(builder, split):
                found.add(pixels.shape[:2])
                image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
                images.append(to_pixels(image, resizing, self.color_space))
                targets.append(target)
                progress.update(len(images))
        if not images:
            raise DataError(f"tfds {self.name}: split {split} is empty")
        return ArrayExamples(np.stack(images), np.array(targets, np.int64))


def _plain(split: str) -> str:
    """`train` of `train[:20%]`."""
    return split.partition("[")[0]
