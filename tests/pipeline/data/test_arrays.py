"""`npz` and `idx`: what is read, and each way in which a file can be wrong."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from edgedl.core.config import check
from edgedl.core.errors import ConfigError, DataError
from edgedl.pipeline.data import Idx, Npz, SourceConfig
from edgedl.pipeline.data.idx import read_idx

IMAGES = (np.arange(12 * 4 * 5) % 251).astype(np.uint8).reshape(12, 4, 5)
LABELS = (np.arange(12) % 3).astype(np.uint8)
SHARED = Path(__file__).parents[3].parent / "shared" / "data"


def npz(tmp_path: Path, **arrays: object) -> Path:
    np.savez(tmp_path / "data.npz", **arrays)  # pyright: ignore[reportArgumentType]
    return tmp_path / "data.npz"


# --- npz ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("x", "y"), [("x_train", "y_train"), ("x", "y"), ("images", "labels"), ("data", "target")])
def test_usual_names_are_found(tmp_path, x, y):
    raw = Npz(file=npz(tmp_path, **{x: IMAGES, y: LABELS})).load()
    assert raw.input.shape == (4, 5, 1)
    assert (raw.input.content, raw.input.color_space, raw.input.raw_range) == ("image", "grayscale", (0.0, 255.0))
    assert raw.labels == ("0", "1", "2")
    assert raw.normalize == "0..1"
    assert raw.test is None
    np.testing.assert_array_equal(raw.examples.raw(np.array([3, 1]))[..., 0], IMAGES[[3, 1]])


def test_own_test_split_and_named_keys(tmp_path):
    path = npz(tmp_path, a=IMAGES, b=LABELS, x_test=IMAGES[:4], y_test=LABELS[:4], other=np.ones(3))
    raw = Npz(file=path, x="a", y="b", labels=("ant", "bee", "cat")).load()
    assert raw.test is not None
    assert len(raw.test) == 4
    assert raw.labels == ("ant", "bee", "cat")


def test_keys_are_listed_when_none_is_usual(tmp_path):
    path = npz(tmp_path, foo=IMAGES, bar=LABELS)
    with pytest.raises(DataError, match=r"no array with a usual name for `x`.*keys foo, bar.*data\.x"):
        Npz(file=path).load()
    with pytest.raises(DataError, match=r"no array 'fo'.*Did you mean foo"):
        Npz(file=path, x="fo").load()


@pytest.mark.parametrize(
    ("targets", "task", "shape"),
    [
        (np.linspace(0, 1, 12), "regression", (12, 1)),
        (np.linspace(0, 1, 24).reshape(12, 2), "regression", (12, 2)),
        (LABELS.astype(np.float32), "classification", (12,)),
        (LABELS[:, None].astype(np.int64), "classification", (12,)),
        (np.eye(3)[LABELS], "classification", (12,)),
        (np.array(["cat", "ant", "bee"])[LABELS], "classification", (12,)),
        (LABELS == 1, "classification", (12,)),
    ],
)
def test_the_task_follows_from_the_targets(tmp_path, targets, task, shape):
    raw = Npz(file=npz(tmp_path, x=IMAGES, y=targets)).load()
    assert raw.task == task
    assert raw.examples.targets.shape == shape
    assert raw.examples.targets.dtype == (np.int64 if task == "classification" else np.float32)
    if targets.dtype.kind == "U":
        assert raw.labels == ("ant", "bee", "cat")
        assert [raw.labels[i] for i in raw.examples.targets] == targets.tolist()


def test_integers_can_be_regression(tmp_path):
    raw = Npz(file=npz(tmp_path, x=IMAGES, y=np.arange(12) * 10), task="regression").load()
    assert raw.examples.targets[:, 0].tolist() == list(range(0, 120, 10))


def test_what_is_an_image(tmp_path):
    def content(x: np.ndarray, **options: object) -> tuple[str, tuple[int, ...]]:
        source = check(Npz, {"file": str(npz(tmp_path, x=x, y=LABELS)), **options}, source="test")
        found = source.load().input
        return found.content, found.shape

    assert content(np.zeros((12, 8, 6), np.float64)) == ("features", (8, 6))
    assert content(np.zeros((12, 8, 6), np.float64), content="image") == ("image", (8, 6, 1))
    assert content(np.zeros((12, 8, 6, 3), np.float64)) == ("image", (8, 6, 3))
    assert content(np.zeros((12, 8, 6, 9), np.float64)) == ("features", (8, 6, 9))
    with pytest.raises(DataError, match=r"is not images.*received shape \(12, 8\)"):
        content(np.zeros((12, 8)), content="image")


BAD_NPZ = {
    "nan": ({"x": np.array([[1.0, 2], [np.nan, 3], [np.inf, 4]]), "y": [0, 1, 0]}, r"2 values.*nan at \[1, 0\]"),
    "nan target": ({"x": np.ones((3, 2)), "y": [0.5, np.nan, 1.5]}, r"\[y\] has 1 value that is.*nan at \[1\]"),
    "lengths": ({"x": IMAGES, "y": LABELS[:-1]}, "differ in length.*12 inputs, 11 targets"),
    "negative": ({"x": IMAGES, "y": LABELS.astype(int) - 1}, "4 labels out of range"),
    "gap": ({"x": IMAGES, "y": np.where(np.arange(12) == 7, 255, LABELS)}, r"1 label out of range.*255 at \[7\]"),
    "not integers": (
        {"x": IMAGES, "y": LABELS + 0.5, "task": "classification"},
        r"12 labels that are not integers.*0\.5",
    ),
    "one class": ({"x": IMAGES, "y": np.zeros(12, int)}, "one class only.*'0', 12 times"),
    "names": ({"x": IMAGES, "y": LABELS, "labels": ("a", "b")}, r"4 labels out of range.*0 to 1.*received 2 at \[2\]"),
    "text": ({"x": np.array([["a"], ["b"]]), "y": [0, 1]}, "not numeric"),
    "scalar": ({"x": np.array(3.0), "y": [0, 1]}, "has no axis"),
    "flat": ({"x": np.arange(12.0), "y": LABELS}, "has a single axis"),
    "empty": ({"x": np.zeros((0, 4)), "y": np.zeros(0, int)}, "is empty"),
    "half a test": ({"x": IMAGES, "y": LABELS, "x_test": IMAGES}, "test inputs only"),
    "test shape": (
        {"x": IMAGES, "y": LABELS, "x_test": IMAGES[:, :3], "y_test": LABELS},
        r"does not match.*\(3, 5, 1\)",
    ),
    "test label": ({"x": IMAGES, "y": LABELS, "x_test": IMAGES, "y_test": LABELS + 1}, "y_test.*4 labels out of range"),
    "double": ({"x": np.array([[1e300], [1]]), "y": [0, 1]}, "as 32-bit floats, has 1 value"),
}


@pytest.mark.parametrize("case", BAD_NPZ)
def test_bad_arrays(tmp_path, case):
    arrays, message = BAD_NPZ[case]
    options = {key: arrays[key] for key in ("task", "labels") if key in arrays}
    path = npz(tmp_path, **{key: value for key, value in arrays.items() if key not in options})
    with pytest.raises(DataError, match=message) as caught:
        Npz(file=path, **options).load()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pickled_objects_are_refused(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    path = npz(tmp_path, x=IMAGES, y=np.array([Bomb()] * 12, dtype=object))
    with pytest.raises(DataError, match=r"\[y\] holds pickled Python objects"):
        Npz(file=path).load()
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.98])
def test_truncated_npz(tmp_path, keep):
    path = npz(tmp_path, x=IMAGES, y=LABELS)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(DataError, match=r"not a whole .npz file"):
        Npz(file=path).load()


def test_damaged_npz(tmp_path):
    path = npz(tmp_path, x=IMAGES, y=LABELS)
    content = bytearray(path.read_bytes())
    content[200:210] = b"\xff" * 10
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read.*damaged"):
        Npz(file=path).load()


def test_missing_files_and_folders(tmp_path):
    path = npz(tmp_path, x=IMAGES, y=LABELS)
    with pytest.raises(DataError, match=r"does not exist.*Did you mean .*data\.npz"):
        Npz(file=tmp_path / "dat.npz").load()
    with pytest.raises(DataError, match=r"Its folder .* does not exist either"):
        Npz(file=tmp_path / "no" / "data.npz").load()
    with pytest.raises(DataError, match="is a folder: required a file"):
        Npz(file=tmp_path).load()
    with pytest.raises(DataError, match="is a file: required a folder"):
        Idx(folder=path).load()


# --- idx ---------------------------------------------------------------------------------------------------------


def idx_bytes(array: np.ndarray, kind: int = 0x08, shape: tuple[int, ...] | None = None) -> bytes:
    shape = array.shape if shape is None else shape
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape) + array.tobytes()


def write_mnist(folder: Path, *, zipped: bool, dots: bool = False) -> None:
    for part, n in (("train", 12), ("t10k", 6)):
        for what, array in (("images-idx3", IMAGES[:n]), ("labels-idx1", LABELS[:n])):
            name = f"{part}-{what}-ubyte".replace("-idx", ".idx" if dots else "-idx")
            content = idx_bytes(array)
            (folder / (name + ".gz" * zipped)).write_bytes(gzip.compress(content) if zipped else content)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dots", [True, False])
def test_a_folder_with_the_usual_names(tmp_path, zipped, dots):
    write_mnist(tmp_path, zipped=zipped, dots=dots)
    raw = Idx(folder=tmp_path).load()
    assert raw.input.shape == (4, 5, 1)
    assert raw.test is not None
    assert len(raw.test) == 6
    np.testing.assert_array_equal(raw.examples.raw(np.arange(12))[..., 0], IMAGES)
    np.testing.assert_array_equal(raw.examples.targets, LABELS)


def test_files_by_name(tmp_path):
    (tmp_path / "x").write_bytes(idx_bytes(IMAGES))
    (tmp_path / "y").write_bytes(idx_bytes(LABELS))
    raw = Idx(images=tmp_path / "x", targets=tmp_path / "y").load()
    assert raw.test is None
    assert len(raw.examples) == 12


@pytest.mark.parametrize(("kind", "dtype"), [(0x09, ">i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")])
def test_every_type(tmp_path, kind, dtype):
    values = np.array([[1, -2, 3], [4, 5, -6]]).astype(dtype)
    (tmp_path / "x").write_bytes(idx_bytes(values, kind))
    found = read_idx(tmp_path / "x")
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("options", [{}, {"images": "x"}, {"folder": "f", "images": "x", "targets": "y"}])
def test_files_are_named_in_one_way(options):
    with pytest.raises(ConfigError, match="`folder`, or `images` and `targets`"):
        check(SourceConfig, {"source": "idx", **options}, source="recipe")


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_and_overlong_idx(tmp_path, zipped):
    for content, message in (
        (idx_bytes(IMAGES)[:-1], "required 240 bytes of values"),
        (idx_bytes(IMAGES) + b"x", "required 240 bytes.*received more than 240"),
        (idx_bytes(IMAGES)[:9], "truncated in its header"),
        (b"", "not an IDX file"),
        (b"\x89PNG....", "not an IDX file.*89 50 4e 47"),
    ):
        path = tmp_path / "x"
        path.write_bytes(gzip.compress(content) if zipped else content)
        with pytest.raises(DataError, match=message):
            read_idx(path)


def test_truncated_gzip(tmp_path):
    content = gzip.compress(idx_bytes(np.random.default_rng(0).integers(0, 255, (50, 50), dtype=np.uint8)))
    (tmp_path / "x").write_bytes(content[:-30])
    with pytest.raises(DataError, match=r"damaged .gz file"):
        read_idx(tmp_path / "x")


@pytest.mark.parametrize("zipped", [True, False])
def test_absurd_sizes_are_refused_before_memory_is_taken(tmp_path, zipped):
    content = idx_bytes(IMAGES, shape=(2**31, 2**20, 2**12))
    (tmp_path / "x").write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(DataError, match="required 9223372036854775808 bytes of values, received a file of"):
        read_idx(tmp_path / "x")


def test_a_folder_without_the_usual_names(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"no file for the images and labels.*received a\.bin.*data\.images"):
        Idx(folder=tmp_path).load()


def test_two_candidates(tmp_path):
    write_mnist(tmp_path, zipped=False)
    (tmp_path / "emnist-train-images-idx3-ubyte").write_bytes(idx_bytes(IMAGES))
    with pytest.raises(DataError, match="two files for the images"):
        Idx(folder=tmp_path).load()


def test_mnist():
    path = SHARED / "mnist" / "mnist.npz"
    if not path.is_file():
        pytest.skip(f"needs MNIST at {path}")
    raw = Npz(file=path).load()
    assert (len(raw.examples), raw.input.shape, len(raw.labels)) == (60000, (28, 28, 1), 10)
    assert raw.test is not None
    assert len(raw.test) == 10000
