"""`image-folder`: pixels from every kind of file, folders of every shape, and files that are broken."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Literal
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

from edgedl.core.errors import ConfigError, DataError
from edgedl.pipeline.data import ImageFolder, image_folder, load_splits
from edgedl.pipeline.data.image_folder import Resizing, resized

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (6, 4, 3), dtype=np.uint8)
SHARED = Path(__file__).parents[3].parent / "shared" / "data"


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def read_image(content: bytes, size: tuple[int, int], color_space: Literal["rgb", "grayscale"]) -> np.ndarray:
    return image_folder.read_image(content, Resizing(size), color_space)


def fill(root: Path, *, n: int = 5, classes: tuple[str, ...] = ("ant", "bee"), size: tuple[int, int] = (6, 4)) -> Path:
    """n images for each class; the k-th of class c has the value 10·c + k everywhere."""
    for target, label in enumerate(classes):
        (root / label).mkdir(parents=True)
        for k in range(n):
            pixels = np.full((*size, 3), 10 * target + k, np.uint8)
            (root / label / f"{k}.png").write_bytes(encoded(Image.fromarray(pixels)))
    return root


# --- pixels ------------------------------------------------------------------------------------------------------


def test_rgb_is_exact():
    np.testing.assert_array_equal(read_image(encoded(Image.fromarray(COLOURS)), (6, 4), "rgb"), COLOURS)


def test_grey_of_rgb_is_luma():
    luma = COLOURS @ np.array([299, 587, 114]) / 1000
    grey = read_image(encoded(Image.fromarray(COLOURS)), (6, 4), "grayscale")
    assert grey.shape == (6, 4, 1)
    assert np.abs(grey[..., 0] - luma).max() <= 1


def test_grey_becomes_three_equal_channels():
    grey = COLOURS[..., 0]
    found = read_image(encoded(Image.fromarray(grey)), (6, 4), "rgb")
    np.testing.assert_array_equal(found, np.stack([grey] * 3, axis=-1))


def test_transparency_is_over_black():
    alpha = np.zeros((6, 4, 1), np.uint8)
    alpha[:3] = 255
    found = read_image(encoded(Image.fromarray(np.concatenate([COLOURS, alpha], axis=-1))), (6, 4), "rgb")
    np.testing.assert_array_equal(found[:3], COLOURS[:3])
    assert not found[3:].any()


def test_palettes():
    image = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(6, 4)).convert("P")
    image.putpalette([value for i in range(256) for value in (i, 2 * i % 256, 7)])
    found = read_image(encoded(image), (6, 4), "rgb")
    np.testing.assert_array_equal(found[..., 1], 2 * np.arange(24).reshape(6, 4))
    assert (found[..., 2] == 7).all()
    clear = read_image(encoded(image, transparency=5), (6, 4), "rgb")
    assert not clear[1, 1].any()
    np.testing.assert_array_equal(clear[0], found[0])


def test_sixteen_bits_keep_the_high_byte():
    pixels = (np.arange(24, dtype=np.uint16) * 2700).reshape(6, 4)
    found = read_image(encoded(Image.fromarray(pixels)), (6, 4), "grayscale")
    np.testing.assert_array_equal(found[..., 0], pixels >> 8)


def test_cmyk_jpeg_and_one_bit():
    flat = Image.new("CMYK", (4, 6), (0, 255, 255, 0))
    assert np.abs(read_image(encoded(flat, "JPEG"), (6, 4), "rgb").astype(int) - [255, 0, 0]).max() <= 3
    bits = Image.fromarray(COLOURS[..., 0] > 128)
    np.testing.assert_array_equal(
        read_image(encoded(bits), (6, 4), "grayscale")[..., 0], np.where(COLOURS[..., 0] > 128, 255, 0)
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [(1, lambda a: a), (3, lambda a: a[::-1, ::-1]), (6, lambda a: np.rot90(a, -1)), (8, np.rot90)],
)
def test_exif_orientation_is_applied(kind, orientation, upright):
    stored = np.kron(np.array([[[250, 0, 0], [0, 250, 0]], [[0, 0, 250], [250, 250, 250]]]), np.ones((16, 8, 1)))
    stored = stored.astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(
        Image.fromarray(stored), kind, exif=exif, **({"quality": 100, "subsampling": 0} if kind == "JPEG" else {})
    )
    expected = upright(stored)
    found = read_image(content, expected.shape[:2], "rgb")
    assert np.abs(found.astype(int) - expected).max() <= 8


def test_resizing_averages_what_it_covers():
    fine = np.zeros((64, 64, 3), np.uint8)
    fine[::2] = 200
    found = read_image(encoded(Image.fromarray(fine)), (8, 16), "rgb")
    assert found.shape == (8, 16, 3)
    assert np.abs(found.astype(int) - 100).max() <= 12


RAMP = Image.fromarray(np.tile(np.arange(0, 240, 2, dtype=np.uint8), (60, 1)))  # 120 wide, 60 high; value = 2·x


def test_fit_pad_keeps_the_whole_image_on_black():
    found = np.asarray(resized(RAMP, Resizing((40, 40), "fit-pad")))
    assert not found[:10].any()
    assert not found[30:].any()
    assert (np.diff(found[20].astype(int)) > 0).all()
    assert found[20, 0] <= 4
    assert found[20, -1] >= 234


def test_center_crop_fills_the_size_with_the_middle():
    found = np.asarray(resized(RAMP, Resizing((30, 30), "center-crop"))).astype(float)
    expected = 2 * (30 + 2 * (np.arange(30) + 0.5) - 0.5)  # pixels 30 to 90, two by two
    np.testing.assert_allclose(found[15], expected, atol=1.5)
    tall = np.asarray(resized(RAMP.transpose(Image.Transpose.ROTATE_90), Resizing((30, 30), "center-crop")))
    np.testing.assert_allclose(tall[::-1, 15], expected, atol=1.5)


def test_without_antialiasing_pixels_are_sampled():
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::8] = 255
    smooth = np.asarray(resized(Image.fromarray(stripes), Resizing((8, 8))))
    sampled = np.asarray(resized(Image.fromarray(stripes), Resizing((8, 8), antialias=False)))
    assert 20 < smooth[:, 1:-1].mean() < 45
    assert not sampled.any()  # between pixels 3 and 4 of every 8: bilinear sees two black ones


@pytest.mark.tensorflow
@pytest.mark.parametrize("antialias", [True, False])
def test_resizing_is_what_tensorflow_does(antialias):
    import tensorflow as tf

    picture = RNG.integers(0, 256, (50, 70, 3), dtype=np.uint8)
    found = np.asarray(resized(Image.fromarray(picture), Resizing((20, 30), antialias=antialias)))
    expected = tf.image.resize(picture, (20, 30), "bilinear", antialias=antialias).numpy()
    assert np.abs(found - expected).max() <= 1.5


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "box"])
def test_every_filter_keeps_a_flat_image(interpolation):
    flat = Image.new("RGB", (33, 17), (10, 200, 30))
    for how in ("stretch", "center-crop"):
        found = np.asarray(resized(flat, Resizing((8, 9), how, interpolation)))
        assert (found == [10, 200, 30]).all()


def test_the_policy_is_in_the_contract_and_the_fingerprint(tmp_path):
    folder = fill(tmp_path / "data")
    sources = [
        ImageFolder(folder=folder, size=(5, 5), resize=how, interpolation=filter, antialias=smooth)
        for how, filter, smooth in [
            ("stretch", "bilinear", True),
            ("fit-pad", "bilinear", True),
            ("center-crop", "bicubic", False),
        ]
    ]
    raws = [source.load() for source in sources]
    assert [(raw.input.resize, raw.input.interpolation, raw.input.antialias) for raw in raws] == [
        ("stretch", "bilinear", True),
        ("fit-pad", "bilinear", True),
        ("center-crop", "bicubic", False),
    ]
    assert len({raw.examples.fingerprint() for raw in raws}) == 3
    with pytest.raises(ConfigError, match=r"box is an average: required data\.antialias: true"):
        ImageFolder(folder=folder, interpolation="box", antialias=False).load()


def test_big_photographs_are_held_one_by_one(tmp_path):
    """14 of 3024 × 3024 are 384 MB of pixels; a process that reads them with two workers grows by a few of them."""
    folder = fill(tmp_path / "data", n=7)
    for path in sorted(folder.rglob("*.png")):
        shade = int(path.stem) * 10
        big = Image.new("RGB", (3024, 3024), (shade, shade, shade))
        path.with_suffix(".jpg").write_bytes(encoded(big, "JPEG", quality=20))
        path.unlink()
    code = f"""
import os, resource, numpy as np
os.cpu_count = lambda: 2
from pathlib import Path
from edgedl.pipeline.data import ImageFolder
from PIL import Image; import PIL.JpegImagePlugin
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
raw = ImageFolder(folder=Path({str(folder)!r}), size=(32, 32)).load()
pixels = raw.examples.raw(np.arange(14))
assert pixels.shape == (14, 32, 32, 3) and pixels.max() > 50
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 260  # MB: two workers, each with an image and its copies


# --- folders -----------------------------------------------------------------------------------------------------


def test_a_folder_for_each_class(tmp_path):
    raw = ImageFolder(folder=fill(tmp_path / "data")).load()
    assert raw.labels == ("ant", "bee")
    assert raw.input.shape == (6, 4, 3)
    assert raw.input.resize == "none"
    values = raw.examples.raw(np.arange(10))[:, 0, 0, 0]
    assert [(int(value) // 10, int(value) % 10) for value in values] == [(c, k) for c in (0, 1) for k in range(5)]
    assert raw.examples.targets.tolist() == [0] * 5 + [1] * 5


def test_a_zip_is_read_in_place_and_is_the_same(tmp_path):
    folder = fill(tmp_path / "data")
    with ZipFile(tmp_path / "data.zip", "w") as packed:
        for path in sorted(folder.rglob("*.png")):
            packed.write(path, path.relative_to(folder))
        packed.writestr("__MACOSX/ant/._0.png", b"x")
    plain, zipped = (ImageFolder(folder=one).load() for one in (folder, tmp_path / "data.zip"))
    assert zipped.labels == plain.labels
    assert zipped.examples.fingerprint() == plain.examples.fingerprint()
    np.testing.assert_array_equal(zipped.examples.raw(np.arange(10)), plain.examples.raw(np.arange(10)))
    (tmp_path / "cut.zip").write_bytes((tmp_path / "data.zip").read_bytes()[:300])
    with pytest.raises(DataError, match=r"cut\.zip is a file: required a folder"):
        ImageFolder(folder=tmp_path / "cut.zip").load()


def test_train_val_and_test_folders(tmp_path):
    fill(tmp_path / "train", n=6)
    fill(tmp_path / "Val", n=3)
    fill(tmp_path / "test", n=4, classes=("bee",))
    source = ImageFolder(folder=tmp_path)
    splits = load_splits(source, source.split, 0)
    assert splits.record.counts == {"train": 12, "validation": 6, "test": 4}
    assert splits.record.classes["test"] == {"ant": 0, "bee": 4}


def test_the_split_and_its_fingerprint_follow_the_files(tmp_path):
    source = ImageFolder(folder=fill(tmp_path / "data", n=20))
    first = load_splits(source, source.split, 0)
    again = load_splits(source, source.split, 0)
    assert first.record == again.record
    np.testing.assert_array_equal(first.test.raw(np.arange(8)), again.test.raw(np.arange(8)))
    (tmp_path / "data" / "ant" / "3.png").write_bytes(encoded(Image.fromarray(np.full((6, 4, 3), 99, np.uint8))))
    assert load_splits(source, source.split, 0).record.fingerprint != first.record.fingerprint


def test_images_that_differ_in_size(tmp_path):
    fill(tmp_path / "data")
    fill(tmp_path / "data" / "more", classes=("x",), n=1, size=(12, 10))
    (tmp_path / "data" / "more" / "x").rename(tmp_path / "data" / "cat")
    (tmp_path / "data" / "more").rmdir()
    with pytest.raises(DataError, match=r"differ in size.*10 × 6×4, 1 × 12×10.*data\.size: \[6, 4\]"):
        ImageFolder(folder=tmp_path / "data").load()
    raw = ImageFolder(folder=tmp_path / "data", size=(5, 5)).load()
    assert raw.input.resize == "stretch"
    assert raw.examples.raw(np.array([10, 0])).shape == (2, 5, 5, 3)


def test_a_corrupt_image_is_named_and_can_be_left_out(tmp_path):
    fill(tmp_path / "data", n=6)
    whole = encoded(Image.fromarray(np.kron(COLOURS, np.ones((20, 20, 1), np.uint8))), "JPEG")
    (tmp_path / "data" / "ant" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "data" / "bee" / "not.png").write_bytes(b"hello")
    (tmp_path / "data" / "bee" / "zero.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"cut\.jpg.*truncated.*and 2 more.*skip_bad: true"):
        ImageFolder(folder=tmp_path / "data").load()
    source = ImageFolder(folder=tmp_path / "data", skip_bad=True)
    splits = load_splits(source, source.split, 0)
    assert sum(splits.record.counts.values()) == 12
    assert [Path(line.split(":")[0]).name for line in splits.record.skipped] == ["cut.jpg", "not.png", "zero.png"]
    for part in (splits.train, splits.validation, splits.test):
        assert set(part.raw(np.arange(len(part)))[:, 0, 0, 0].tolist()) <= {*range(6), *range(10, 16)}


def test_nothing_but_corrupt_images(tmp_path):
    for label in ("ant", "bee"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "x.png").write_bytes(b"no")
    with pytest.raises(DataError, match="no image that can be read"):
        ImageFolder(folder=tmp_path, skip_bad=True).load()


def test_other_files_are_left_out_and_recorded(tmp_path):
    fill(tmp_path / "data", n=6)
    (tmp_path / "data" / "ant" / "notes.txt").write_text("hi")
    (tmp_path / "data" / "ant" / ".DS_Store").write_text("hi")
    raw = ImageFolder(folder=tmp_path / "data").load()
    assert len(raw.examples) == 12
    assert raw.skipped == (f"{tmp_path / 'data' / 'ant' / 'notes.txt'}: not an image by its suffix",)


def test_empty_folders_are_named(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        ImageFolder(folder=tmp_path / "none").load()
    with pytest.raises(DataError, match=r"no folders in it.*received an empty folder"):
        ImageFolder(folder=tmp_path).load()
    (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(COLOURS)))
    with pytest.raises(DataError, match="received 1 images side by side"):
        ImageFolder(folder=tmp_path).load()
    fill(tmp_path, classes=("ant",))
    with pytest.raises(DataError, match=r"one class only.*'ant', 5 times"):
        ImageFolder(folder=tmp_path).load()
    (tmp_path / "bee").mkdir()
    with pytest.raises(DataError, match=r"bee has no images"):
        ImageFolder(folder=tmp_path).load()


def test_a_test_folder_with_an_unknown_class(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "test", classes=("ant", "wasp"))
    with pytest.raises(DataError, match=r"class that .*train has not: required ant, bee, received wasp"):
        ImageFolder(folder=tmp_path).load()


def test_a_file_that_disappears_later(tmp_path):
    raw = ImageFolder(folder=fill(tmp_path / "data")).load()
    (tmp_path / "data" / "ant" / "0.png").unlink()
    with pytest.raises(DataError, match=r"0\.png could be read before"):
        raw.examples.raw(np.array([0]))


def test_photographs_as_people_have_them():
    archive = SHARED / "sign_digits" / "sign_digits_dev.zip"
    if not archive.is_file():
        pytest.skip(f"needs the sign language digits at {archive}")
    source = ImageFolder(folder=archive, size=(32, 24), color_space="grayscale", resize="center-crop")
    splits = load_splits(source, source.split, 0)
    assert splits.train.raw(np.arange(3)).shape == (3, 32, 24, 1)
    assert splits.input.resize == "center-crop"
    assert len(splits.labels) == 10
