"""`image-folder`: a folder of images for each class, read from disk whenever a batch needs them.

What an image becomes is decided here, once, for training and evaluation alike, and the app has to do the same:
turned upright as its EXIF orientation says; the first frame; 16-bit grey to 8 bits by its high byte; transparency over
black; to RGB, or to grey by ITU-R 601-2 luma; then stretched to the size by Pillow's bilinear filter, which averages
over all the pixels it covers when it makes an image smaller ("antialias" in tf.image.resize).
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, PositiveInt

from edgedl.core.config import InputPath
from edgedl.core.console import reporter
from edgedl.core.contract import InputContract
from edgedl.core.errors import DataError
from edgedl.pipeline.data.base import Normalize, RawData, Source
from edgedl.pipeline.data.checks import existing_folder, listed, one_class_only

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


class ImageFolder(Source):
    """One folder a class, named as the class; or train/, val/ and test/ folders that each hold such folders."""

    source: Literal["image-folder"] = Field(default="image-folder", description="A folder of images for each class.")
    folder: InputPath = Field(description="The folder that holds the classes' folders.")
    size: Size | None = Field(
        default=None,
        description="[height, width] in pixels that every image is stretched to; needed if they differ in size.",
    )
    color_space: ColorSpace = Field(default="rgb", description="What every image is converted to.")
    normalize: Normalize = Field(default="0..1", description="How the pixels (0 to 255) become the model's input.")
    skip_bad: bool = Field(default=False, description="Leave out files that cannot be read, and record them.")

    def load(self) -> RawData:
        """Find the images and read each once, to be sure that all can be. Raises DataError."""
        folder = existing_folder(self.folder, "image folder")
        parts, labels, ignored = find_images(folder)
        checked, bad = _check_files([path for files in parts.values() for path, _ in files], self.skip_bad)
        for part, files in parts.items():
            if not any(path in checked for path, _ in files):
                raise DataError(f"{folder} ({part}) has no image that can be read", advice="Copy the images again")
        size = self.size or _common_size(checked)
        examples = {
            part: ImageFiles(
                paths=tuple(path for path, _ in files if path in checked),
                digests=tuple(checked[path].digest for path, _ in files if path in checked),
                targets=np.array([target for path, target in files if path in checked], dtype=np.int64),
                size=size,
                color_space=self.color_space,
            )
            for part, files in parts.items()
        }
        return RawData(
            examples=examples["train"],
            task="classification",
            input=InputContract(
                name="image",
                shape=(*size, 3 if self.color_space == "rgb" else 1),
                content="image",
                color_space=self.color_space,
                raw_range=(0.0, 255.0),
                resize="none" if {one.size for one in checked.values()} == {size} else "stretch",
            ),
            normalize=self.normalize,
            labels=labels,
            validation=examples.get("validation"),
            test=examples.get("test"),
            skipped=(*bad, *ignored),
        )


@dataclass(frozen=True)
class ImageFiles:
    """Images on disk. digests: SHA-256 of the files, as they were found; targets: (n,) class indices."""

    paths: tuple[Path, ...]
    digests: tuple[str, ...]
    targets: NDArray[np.int64]
    size: tuple[int, int]
    color_space: ColorSpace

    def __len__(self) -> int:
        return len(self.paths)

    def raw(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images at `positions`, decoded now: (b, height, width, channels). Raises DataError."""
        if not len(positions):
            return np.zeros((0, *self.size, 3 if self.color_space == "rgb" else 1), np.uint8)
        return np.stack([self._image(self.paths[int(position)]) for position in positions])

    def _image(self, path: Path) -> NDArray[np.uint8]:
        try:
            return read_image(path.read_bytes(), self.size, self.color_space)
        except Exception as error:
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
            paths=tuple(self.paths[i] for i in chosen),
            digests=tuple(self.digests[i] for i in chosen),
            targets=self.targets[positions],
            size=self.size,
            color_space=self.color_space,
        )

    def fingerprint(self) -> str:
        """SHA-256 over the files' hashes, the targets, the size and the colours."""
        digest = hashlib.sha256(f"{self.size} {self.color_space}".encode())
        digest.update("".join(self.digests).encode())
        digest.update(self.targets.tobytes())
        return digest.hexdigest()


# --- finding and checking ----------------------------------------------------------------------------------------


def find_images(folder: Path) -> tuple[dict[str, list[tuple[Path, int]]], tuple[str, ...], tuple[str, ...]]:
    """Files and their class for "train" (and "validation", "test" if there are such folders); class names, sorted;
    and the files that are no images. Raises DataError."""
    inner = {entry.name.lower(): entry for entry in _folders(folder)}
    roots = {part: inner[name] for part, names in _PARTS.items() for name in names if name in inner}
    if "train" not in roots or not any(_folders(roots["train"])):
        roots = {"train": folder}
    labels = tuple(entry.name for entry in _folders(roots["train"]))
    if not labels:
        count = sum(entry.suffix.lower() in SUFFIXES for entry in roots["train"].iterdir())
        raise DataError(
            f"image folder {roots['train']} has no folders in it",
            required="one folder for each class, named as the class",
            received=f"{count} images side by side" if count else "an empty folder",
            advice="Sort the images into folders, one a class",
        )
    parts: dict[str, list[tuple[Path, int]]] = {}
    others: list[Path] = []
    for part, root in roots.items():
        if unknown := [entry.name for entry in _folders(root) if entry.name not in labels]:
            raise DataError(
                f"{root} has a class that {roots['train']} has not",
                required=listed(labels),
                received=unknown[0],
            )
        parts[part] = []
        for target, label in enumerate(labels):
            files = sorted(_files(root / label)) if (root / label).is_dir() else []
            images = [path for path in files if path.suffix.lower() in SUFFIXES]
            others += [path for path in files if path.suffix.lower() not in SUFFIXES]
            if not images and part == "train":
                raise DataError(
                    f"image folder {root / label} has no images",
                    required=f"files that end in {', '.join(sorted(SUFFIXES))}",
                    received=f"{len(files)} other files" if files else "an empty folder",
                    advice="Remove the folder, or add images",
                )
            parts[part] += [(path, target) for path in images]
        if not parts[part]:
            raise DataError(f"image folder {root} has no images", advice="Remove the folder, or add images")
    if not labels[1:]:
        raise one_class_only(f"image folder {roots['train']}", labels[0], len(parts["train"]))
    if others:
        kinds = Counter(path.suffix.lower() or "no suffix" for path in others)
        named = listed(f"{count} × {suffix}" for suffix, count in kinds.most_common())
        reporter().warn(f"{len(others)} files in {folder} are no images by their suffix and are left out ({named})")
    return parts, labels, tuple(f"{path}: not an image by its suffix" for path in others)


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__")))


def _files(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith((".", "Thumbs.db")))


@dataclass(frozen=True)
class _Checked:
    """A file that can be read. size: height and width of the upright image."""

    digest: str
    size: tuple[int, int]


def _check_files(paths: list[Path], skip_bad: bool) -> tuple[dict[Path, _Checked], tuple[str, ...]]:
    """Read every file to its last pixel, in parallel. Returns the good ones and what is wrong with the others."""
    good: dict[Path, _Checked] = {}
    bad: list[str] = []
    with (
        reporter().progress("Checking the images", len(paths)) as progress,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        for done, (path, result) in enumerate(zip(paths, pool.map(_check_file, paths), strict=True), start=1):
            if isinstance(result, _Checked):
                good[path] = result
            else:
                bad.append(f"{path}: {result}")
            progress.update(done)
    if bad and not skip_bad:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise DataError(
            f"cannot read image {bad[0]}{more}",
            advice="Replace or remove the file, or leave such files out with data.skip_bad: true",
        )
    if bad:
        reporter().warn(f"{len(bad)} of {len(paths)} images cannot be read and are left out, the first is {bad[0]}")
    return good, tuple(bad)


def _check_file(path: Path) -> _Checked | str:
    """What the file is, or what is wrong with it."""
    try:
        content = path.read_bytes()
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


def _common_size(checked: dict[Path, _Checked]) -> tuple[int, int]:
    sizes = Counter(one.size for one in checked.values())
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


def read_image(content: bytes, size: tuple[int, int], color_space: ColorSpace) -> NDArray[np.uint8]:
    """Any image file as pixels (height, width, channels). Raises whatever Pillow raises on a damaged file."""
    from PIL.Image import Resampling

    image = _to_mode(_upright(content), "RGB" if color_space == "rgb" else "L")
    if image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), Resampling.BILINEAR)
    return np.asarray(image).reshape(*size, -1)


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
