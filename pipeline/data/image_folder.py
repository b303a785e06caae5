"""`image-folder`: a folder (or zip) of images for each class, read whenever a batch needs them.

What an image becomes is decided here, once, for training and evaluation alike, and the app has to do the same:
turned upright as its EXIF orientation says; the first frame; 16-bit grey to 8 bits by its high byte; transparency over
black; to RGB, or to grey by ITU-R 601-2 luma; then to the size (`Resizing`), as the exported file's contract says.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, PositiveInt

from edgedl.core.config import InputPath
from edgedl.core.console import reporter
from edgedl.core.contract import InputContract, Interpolation
from edgedl.core.errors import ConfigError, DataError
from edgedl.pipeline.data.base import Normalize, RawData, Source
from edgedl.pipeline.data.checks import listed, one_class_only
from edgedl.pipeline.data.files import FileTree, file_tree

if TYPE_CHECKING:
    import tensorflow as tf
    from PIL.Image import Image

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})

_PARTS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}

ColorSpace = Literal["rgb", "grayscale"]


def _square(value: object) -> object:
    """`96` is short for `[96, 96]`."""
    return (value, value) if isinstance(value, int) else value


Size = Annotated[
    tuple[PositiveInt, PositiveInt],
    BeforeValidator(_square, json_schema_input_type=PositiveInt | tuple[PositiveInt, PositiveInt]),
]


class ImageSource(Source):
    """What every source of image files asks: how images become the model's input."""

    size: Size | None = Field(
        default=None,
        description="[height, width] in pixels that every image gets; needed if they differ in size.",
    )
    resize: Literal["stretch", "fit-pad", "center-crop"] = Field(
        default="stretch",
        description="stretch: the whole image, its aspect ratio not kept; fit-pad: the whole image in the middle of "
        "black; center-crop: its middle, filling the size.",
    )
    interpolation: Interpolation = Field(default="bilinear", description="The filter; box is the plain average.")
    antialias: bool = Field(
        default=True,
        description="Average over all pixels that shrinking covers (Pillow, PIL; tf.image.resize's antialias). false: "
        "sample at pixel centres, as most mobile frameworks do.",
    )
    color_space: ColorSpace = Field(default="rgb", description="What every image is converted to.")
    normalize: Normalize = Field(default="0..1", description="How the pixels (0 to 255) become the model's input.")

    def resizing(self, size: tuple[int, int]) -> Resizing:
        """How images become that size. Raises ConfigError."""
        if self.interpolation == "box" and not self.antialias:
            raise ConfigError("data.interpolation: box is an average", required="data.antialias: true")
        return Resizing(size, self.resize, self.interpolation, self.antialias)

    def contract(self, size: tuple[int, int], found: set[tuple[int, int]]) -> InputContract:
        """The input of images that are resized to `size` from the sizes that were found."""
        return InputContract(
            name="image",
            shape=(*size, 3 if self.color_space == "rgb" else 1),
            content="image",
            color_space=self.color_space,
            raw_range=(0.0, 255.0),
            resize="none" if found == {size} else self.resize,
            interpolation=self.interpolation,
            antialias=self.antialias,
        )


class ImageFolder(ImageSource):
    """One folder a class, named as the class; or train/, val/ and test/ folders that each hold such folders."""

    source: Literal["image-folder"] = Field(default="image-folder", description="A folder of images for each class.")
    folder: InputPath = Field(description="The folder, or the zip, that holds the classes' folders.")
    skip_bad: bool = Field(default=False, description="Leave out files that cannot be read, and record them.")

    def load(self) -> RawData:
        """Find the images and read each once, to be sure that all can be. Raises DataError."""
        tree = file_tree(self.folder, "image folder")
        parts, labels, ignored = find_images(tree)
        checked, bad = _check_files(tree, [name for files in parts.values() for name, _ in files], self.skip_bad)
        for part, files in parts.items():
            if not any(name in checked for name, _ in files):
                raise DataError(f"{tree.root} ({part}) has no image that can be read", advice="Copy the images again")
        size = self.size or common_size(one.size for one in checked.values())
        resizing = self.resizing(size)
        examples = {
            part: ImageFiles(
                tree=tree,
                names=tuple(name for name, _ in files if name in checked),
                digests=tuple(checked[name].digest for name, _ in files if name in checked),
                targets=np.array([target for name, target in files if name in checked], dtype=np.int64),
                resizing=resizing,
                color_space=self.color_space,
            )
            for part, files in parts.items()
        }
        return RawData(
            examples=examples["train"],
            task="classification",
            input=self.contract(size, {one.size for one in checked.values()}),
            normalize=self.normalize,
            labels=labels,
            validation=examples.get("validation"),
            test=examples.get("test"),
            skipped=(*bad, *ignored),
        )


@dataclass(frozen=True)
class Resizing:
    """How an image of any size becomes (height, width); as `InputContract` says."""

    size: tuple[int, int]
    how: Literal["stretch", "fit-pad", "center-crop"] = "stretch"
    interpolation: Interpolation = "bilinear"
    antialias: bool = True


@dataclass(frozen=True)
class ImageFiles:
    """Images on disk. digests: SHA-256 of the files, as they were found; targets: (n,) class indices."""

    tree: FileTree
    names: tuple[str, ...]
    digests: tuple[str, ...]
    targets: NDArray[np.int64]
    resizing: Resizing
    color_space: ColorSpace

    def __len__(self) -> int:
        return len(self.names)

    def raw(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images at `positions`, decoded now: (b, height, width, channels). Raises DataError."""
        if not len(positions):
            return np.zeros((0, *self.resizing.size, 3 if self.color_space == "rgb" else 1), np.uint8)
        return np.stack([self._image(self.names[int(position)]) for position in positions])

    def _image(self, name: str) -> NDArray[np.uint8]:
        try:
            return read_image(self.tree.read(name), self.resizing, self.color_space)
        except Exception as error:
            path = self.tree.path(name)
            raise DataError(f"{path} could be read before and cannot now", received=_reason(error)) from error

    def tensor_reader(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """Decodes with Pillow inside the tf.data graph, so that every reader gets the same pixels."""
        import tensorflow as tf

        def read(positions: tf.Tensor) -> tf.Tensor:
            return tf.numpy_function(self.raw, [positions], tf.uint8, stateful=False)

        return read

    def select(self, positions: NDArray[np.int64]) -> ImageFiles:
        """The images at `positions`."""
        chosen = [int(position) for position in positions]
        return ImageFiles(
            tree=self.tree,
            names=tuple(self.names[i] for i in chosen),
            digests=tuple(self.digests[i] for i in chosen),
            targets=self.targets[positions],
            resizing=self.resizing,
            color_space=self.color_space,
        )

    def fingerprint(self) -> str:
        """SHA-256 over the files' hashes, the targets, the size and its policy, and the colours."""
        digest = hashlib.sha256(f"{self.resizing} {self.color_space}".encode())
        digest.update("".join(self.digests).encode())
        digest.update(self.targets.tobytes())
        return digest.hexdigest()


# --- finding and checking ----------------------------------------------------------------------------------------


def find_images(tree: FileTree) -> tuple[dict[str, list[tuple[str, int]]], tuple[str, ...], tuple[str, ...]]:
    """Files and their class for "train" (and "validation", "test" if there are such folders); class names, sorted;
    and the files that are no images. Raises DataError."""
    inner = {name.lower(): name for name in tree.folders_in()}
    roots = {part: inner[name] for part, names in _PARTS.items() for name in names if name in inner}
    if "train" not in roots or not tree.folders_in(roots["train"]):
        roots = {"train": ""}
    labels = tree.folders_in(roots["train"])
    if not labels:
        count = sum(_suffix(name) in SUFFIXES for name in tree.files_in(roots["train"]))
        raise DataError(
            f"image folder {tree.path(roots['train'])} has no folders in it",
            required="one folder for each class, named as the class",
            received=f"{count} images side by side" if count else "an empty folder",
            advice="Sort the images into folders, one a class",
        )
    parts: dict[str, list[tuple[str, int]]] = {}
    others: list[str] = []
    for part, root in roots.items():
        where = tree.path(root)
        if unknown := [name for name in tree.folders_in(root) if name not in labels]:
            raise DataError(
                f"{where} has a class that {tree.path(roots['train'])} has not",
                required=listed(labels),
                received=unknown[0],
            )
        parts[part] = []
        for target, label in enumerate(labels):
            folder = f"{root}/{label}" if root else label
            files = tree.files_in(folder)
            images = [name for name in files if _suffix(name) in SUFFIXES]
            others += [name for name in files if _suffix(name) not in SUFFIXES]
            if not images and part == "train":
                raise DataError(
                    f"image folder {tree.path(folder)} has no images",
                    required=f"files that end in {', '.join(sorted(SUFFIXES))}",
                    received=f"{len(files)} other files" if files else "an empty folder",
                    advice="Remove the folder, or add images",
                )
            parts[part] += [(name, target) for name in images]
        if not parts[part]:
            raise DataError(f"image folder {where} has no images", advice="Remove the folder, or add images")
    if not labels[1:]:
        raise one_class_only(f"image folder {tree.path(roots['train'])}", labels[0], len(parts["train"]))
    if others:
        kinds = Counter(_suffix(name) or "no suffix" for name in others)
        named = listed(f"{count} × {suffix}" for suffix, count in kinds.most_common())
        reporter().warn(f"{len(others)} files in {tree.root} are no images by their suffix and are left out ({named})")
    return parts, labels, tuple(f"{tree.path(name)}: not an image by its suffix" for name in others)


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


@dataclass(frozen=True)
class _Checked:
    """A file that can be read. size: height and width of the upright image."""

    digest: str
    size: tuple[int, int]


def _check_files(tree: FileTree, names: list[str], skip_bad: bool) -> tuple[dict[str, _Checked], tuple[str, ...]]:
    """Read every file to its last pixel, in parallel. Returns the good ones and what is wrong with the others."""
    good: dict[str, _Checked] = {}
    bad: list[str] = []
    with (
        reporter().progress("Checking the images", len(names)) as progress,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        results = pool.map(lambda name: _check_file(tree, name), names)
        for done, (name, result) in enumerate(zip(names, results, strict=True), start=1):
            if isinstance(result, _Checked):
                good[name] = result
            else:
                bad.append(f"{tree.path(name)}: {result}")
            progress.update(done)
    if bad and not skip_bad:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise DataError(
            f"cannot read image {bad[0]}{more}",
            advice="Replace or remove the file, or leave such files out with data.skip_bad: true",
        )
    if bad:
        reporter().warn(f"{len(bad)} of {len(names)} images cannot be read and are left out, the first is {bad[0]}")
    return good, tuple(bad)


def _check_file(tree: FileTree, name: str) -> _Checked | str:
    """What the file is, or what is wrong with it."""
    try:
        content = tree.read(name)
        image = _upright(content)
        _to_mode(image, "RGB")
    except Exception as error:  # Pillow's readers raise whatever the damage leads them to
        return _reason(error)
    return _Checked(hashlib.sha256(content).hexdigest(), (image.height, image.width))


def _reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not an image, or its first bytes are damaged"
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def common_size(found: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """The one size (height, width) of all. Raises DataError when they differ."""
    sizes = Counter(found)
    if len(sizes) > 1:
        height, width = max(sizes, key=lambda size: sizes[size])
        raise DataError(
            "the images differ in size",
            required="data.size: [height, width]",
            received=listed((f"{count} × {h}×{w}" for (h, w), count in sizes.most_common()), most=4),
            advice=f"Most would fit data.size: [{height}, {width}]; smaller makes a faster model",
        )
    return next(iter(sizes))


# --- decoding ----------------------------------------------------------------------------------------------------


def read_image(content: bytes, resizing: Resizing, color_space: ColorSpace) -> NDArray[np.uint8]:
    """Any image file as pixels (height, width, channels). Raises whatever Pillow raises on a damaged file."""
    return to_pixels(_upright(content), resizing, color_space)


def to_pixels(image: Image, resizing: Resizing, color_space: ColorSpace) -> NDArray[np.uint8]:
    """Any upright image as pixels (height, width, channels)."""
    image = resized(_to_mode(image, "RGB" if color_space == "rgb" else "L"), resizing)
    return np.asarray(image).reshape(*resizing.size, -1)


def resized(image: Image, resizing: Resizing) -> Image:
    """An image of exactly the size. What is cut off, or left black, is the same on both sides, to a pixel."""
    from PIL import Image

    height, width = resizing.size
    if image.size == (width, height):
        return image
    if resizing.how == "stretch":
        return _scaled(image, (width, height), (0.0, 0.0, float(image.width), float(image.height)), resizing)
    wide, high = width / image.width, height / image.height
    if resizing.how == "center-crop":
        scale = max(wide, high)
        shown_width, shown_height = width / scale, height / scale
        left, top = (image.width - shown_width) / 2, (image.height - shown_height) / 2
        return _scaled(image, (width, height), (left, top, left + shown_width, top + shown_height), resizing)
    scale = min(wide, high)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    canvas = Image.new(image.mode, (width, height), 0)
    whole = (0.0, 0.0, float(image.width), float(image.height))
    canvas.paste(_scaled(image, inner, whole, resizing), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return canvas


def _scaled(image: Image, size: tuple[int, int], box: tuple[float, float, float, float], resizing: Resizing) -> Image:
    """The part `box` (left, top, right, bottom; pixels are from 0 to 1) at `size` (width, height)."""
    from PIL.Image import Resampling, Transform

    resampling = Resampling[resizing.interpolation.upper()]
    if resizing.antialias:
        return image.resize(size, resampling, box)
    left, top, right, bottom = box
    step_x, step_y = (right - left) / size[0], (bottom - top) / size[1]
    return image.transform(size, Transform.AFFINE, (step_x, 0, left, 0, step_y, top), resampling)


def _upright(content: bytes) -> Image:
    from PIL import Image, ImageOps

    image = Image.open(io.BytesIO(content))
    image.load()
    return ImageOps.exif_transpose(image)


def _to_mode(image: Image, mode: Literal["RGB", "L"]) -> Image:
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    if "transparency" in image.info or image.mode in ("LA", "PA", "La", "RGBa", "RGBA"):
        above = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), above)
    return image.convert("RGB").convert(mode) if image.mode not in (mode, "L") else image.convert(mode)


def _eight_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """16-bit grey levels by their high byte. Raises ValueError for wider ones, whose range nobody knows."""
    if pixels.dtype.kind == "f" or pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError(f"pixels of type {pixels.dtype} beyond 16 bits; convert it to 8 or 16 bits")
    return (pixels.astype(np.uint16) >> 8).astype(np.uint8)
