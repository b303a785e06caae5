"""The works that compression is compared on: a Keras model of somebody's, and examples to fine-tune and to judge with.

    python -m benchmarks.compress.works NAME --data DIR --work DIR

DIR of --data holds the public files (see docs/compress/benchmarks.md); a work becomes DIR/NAME/work.json, data.npz (x,
y: training and validation; x_test, y_test: judging) and, for the models trained here, a run with the origin.
"""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from edgedl.core.files import sha256_of, write_atomically

CIFAR_LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
WORDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes", "_silence_", "_unknown_")
SEED = 0


@dataclass(frozen=True)
class Work:
    """One work.

    origin: Keras file or SavedModel folder. data: .npz. labels: empty where values are reconstructed. normalize: as in
    a recipe. train: the recipe's train section, which fine-tuning goes by. published: files that came with the model,
    by name; a value is (file, file whose answers it is compared with, or None for the origin's).
    said: what a reader has to know of the data.
    """

    name: str
    origin: str
    data: str
    labels: tuple[str, ...]
    normalize: str
    validation: int
    train: Mapping[str, Any] = field(default_factory=dict[str, Any])
    published: Mapping[str, tuple[str, str | None]] = field(default_factory=dict[str, tuple[str, str | None]])
    said: str = ""

    @property
    def classifies(self) -> bool:
        """Whether it is judged by accuracy; else by how far its reconstruction scores are from the origin's."""
        return bool(self.labels)

    def source(self) -> dict[str, Any]:
        """The recipe's data section."""
        source: dict[str, Any] = {"source": "npz", "file": self.data, "normalize": self.normalize}
        source |= {"labels": list(self.labels)} if self.labels else {"task": "regression", "content": "features"}
        return source | {"split": {"validation": self.validation}}

    def recipe(self) -> dict[str, Any]:
        """The origin as it is, ready to be compressed."""
        model = {"file": self.origin, "fine_tune": False}
        return {"name": self.name, "seed": SEED, "data": self.source(), "model": model, "train": dict(self.train)}


def load_work(folder: Path) -> Work:
    """The work that `build` left in a folder."""
    return Work(**json.loads((folder / "work.json").read_text()))


# --- MLPerf Tiny -------------------------------------------------------------------------------------------------


def resnet8(data: Path, folder: Path) -> Work:
    """ResNet-8 on exact CIFAR-10 images."""
    x, y = exact_cifar(data)
    order = np.random.default_rng(SEED).permutation(len(x))
    test, rest = order[:2000], order[2000:]
    np.savez(folder / "data.npz", x=x[rest], y=y[rest], x_test=x[test], y_test=y[test])
    published = data / "mlperf_tiny/image_classification/trained_models"
    return Work(
        name="resnet8",
        origin=str(published / "pretrainedResnet.h5"),
        data=str(folder / "data.npz"),
        labels=CIFAR_LABELS,
        normalize="none",
        validation=200,
        train={"batch_size": 64, "augment": {"flip": "horizontal", "shift": 0.1}},
        published={"int8": (str(published / "pretrainedResnet_quant.tflite"), None)},
        said="The 4,000 exact images are of CIFAR-10's training set, which this model has seen: 1,800 fine-tune, 200 "
        "choose, 2,000 judge. Its accuracy on them is 5 points above that on unseen images: what fine-tuning loses "
        "here may be what was learnt by heart, and a gain here is none on unseen images.",
    )


def kws(data: Path, folder: Path) -> Work:
    """The DS-CNN keyword spotter on Speech Commands."""
    sounds, y = spoken_words(data)
    rng = np.random.default_rng(SEED)
    order = rng.permutation(len(sounds))
    test, rest = order[:1000], order[1000:]
    x_train, y_train = varied(sounds[rest], y[rest], VARIANTS, rng)
    np.savez(folder / "data.npz", x=mfcc(x_train), y=y_train, x_test=mfcc(sounds[test]), y_test=y[test])
    published = data / "mlperf_tiny/keyword_spotting/trained_models"
    return Work(
        name="kws",
        origin=str(published / "kws_ref_model"),
        data=str(folder / "data.npz"),
        labels=tuple(word.strip("_") for word in WORDS),
        normalize="none",
        validation=240,
        train={"batch_size": 32},
        published={"int8": (str(published / "kws_ref_model.tflite"), None)},
        said="Sounds of Speech Commands' test set, unseen by the model: 1,140 with 7 variants of each (shifted by up "
        "to 0.1 s, another of them faintly behind it) fine-tune, less 240 that choose; 1,000 judge.",
    )


def anomaly(data: Path, folder: Path) -> Work:
    """The autoencoder that hears machines."""
    sound = "mlperf_tiny/reference_submissions/anomaly_detection/datasets/dcase01"
    frames = np.fromfile(data / sound / "normal_id_01_00000000_hist_librosa.bin", np.float32).reshape(-1, 128)
    half = len(frames) // 2
    x, x_test = (
        np.stack([part[i : i + 5].ravel() for i in range(len(part) - 4)]) for part in (frames[:half], frames[half:])
    )
    np.savez(folder / "data.npz", x=x, y=x, x_test=x_test, y_test=x_test)
    published = data / "mlperf_tiny/anomaly_detection/trained_models"
    return Work(
        name="anomaly",
        origin=str(published / "ad01.h5"),
        data=str(folder / "data.npz"),
        labels=(),
        normalize="none",
        validation=16,
        train={"batch_size": 32},
        published={
            "float32": (str(published / "ad01_fp32.tflite"), None),
            "int8": (str(published / "ad01_int8.tflite"), str(published / "ad01_fp32.tflite")),
        },
        said="One public sound of a normal machine: its first half calibrates, its second judges, 96 windows each. "
        "There are no anomalies and so no AUC: files are judged by how far their scores (mean squared error of a "
        "window, dB²) are from the float model's. The published files are of another training run than the h5 and the "
        "published int8 file is compared with its own float file.",
    )


# --- trained here ------------------------------------------------------------------------------------------------


def mnist(data: Path, folder: Path) -> Work:
    """A DS-CNN of 70 thousand parameters on MNIST."""
    with np.load(data / "mnist/mnist.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    x, y = arrays["x_train"][:20000], arrays["y_train"][:20000]
    judging = {"x_test": arrays["x_test"][:4000], "y_test": arrays["y_test"][:4000]}
    np.savez(folder / "origin.npz", x=x, y=y, **judging)
    np.savez(folder / "data.npz", x=x[:6000], y=y[:6000], **judging)
    work = Work(
        name="mnist",
        origin="",
        data=str(folder / "data.npz"),
        labels=tuple("0123456789"),
        normalize="0..1",
        validation=1000,
        train={"batch_size": 64},
        said="Trained on 18,000 of the first 20,000 images; 5,000 of them fine-tune, 1,000 choose, 4,000 test images "
        "judge.",
    )
    train = {"epochs": 6, "batch_size": 64, "optimizer": {"learning_rate": 3e-3}, "schedule": "cosine"}
    data_of_origin = work.source() | {"file": str(folder / "origin.npz"), "split": {"validation": 2000}}
    model = {"family": "ds-cnn", "width": 2.0}
    return trained_here(work, folder, {"name": "mnist", "data": data_of_origin, "model": model, "train": train})


def cifar(data: Path, folder: Path) -> Work:
    """A ResNet-8 of the zoo, trained on lossy images and judged on exact ones that it has not seen."""
    x, y = exact_cifar(data)
    lossy_x, lossy_y = lossy_cifar(data, left_out=y)
    np.savez(folder / "origin.npz", x=lossy_x, y=lossy_y, x_test=x, y_test=y)
    np.savez(folder / "data.npz", x=lossy_x[:13000], y=lossy_y[:13000], x_test=x, y_test=y)
    recipe = yaml.safe_load((Path(__file__).parents[2] / "examples/cifar10-resnet8.yaml").read_text())
    recipe["data"] |= {"file": str(folder / "origin.npz"), "labels": list(CIFAR_LABELS)}
    return trained_here(
        Work(
            name="cifar",
            origin="",
            data=str(folder / "data.npz"),
            labels=CIFAR_LABELS,
            normalize="0..1",
            validation=1000,
            train={"batch_size": 64, "augment": {"flip": "horizontal", "shift": 0.0625}},
            said="examples/cifar10-resnet8.yaml, trained on 44,000 images that were saved as JPEG; 12,000 of the "
            "46,000 fine-tune, 1,000 choose; 4,000 exact images that no model here has seen judge.",
        ),
        folder,
        recipe,
    )


def trained_here(work: Work, folder: Path, recipe: Mapping[str, Any]) -> Work:
    """The work with an origin of its own: the model of the run in `folder`/origin, trained now if there is none."""
    import edgedl
    from edgedl.core.artifacts import TrainedModel
    from edgedl.core.store import RunStore

    place = folder / "origin"
    found = RunStore(place).artifacts(TrainedModel) if place.is_dir() else []
    trained = found[-1] if found else edgedl.train(recipe, out=place)
    return replace(work, origin=str(trained.path(trained.model_file)))


# --- data --------------------------------------------------------------------------------------------------------


def exact_cifar(data: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The first 4,000 training images without loss, (4000, 32, 32, 3)."""
    with np.load(data / "cifar10_lossless_5k/cifar10_lossless_train_first4000.npz") as archive:
        return archive["x"], archive["y"].astype(np.int64)


def lossy_cifar(data: Path, left_out: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """46,000 images saved as JPEG, without the first of each class that `left_out` counts: the exact ones."""
    from PIL import Image

    x, y = [], []
    counts = np.bincount(left_out, minlength=len(CIFAR_LABELS))
    with zipfile.ZipFile(data / "no_licence_stated/cifar10_jpg/cifar10_train_jpg.zip") as archive:
        for number, label in enumerate(CIFAR_LABELS):
            files = sorted(name for name in archive.namelist() if PurePosixPath(name).parent.name == label)
            for name in files[counts[number] :]:
                x.append(np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")))
                y.append(number)
    order = np.random.default_rng(SEED).permutation(len(x))
    return np.stack(x)[order], np.array(y)[order]


VARIANTS = 8


def spoken_words(data: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Sounds of a second, (n, 16000), each with 1 as its largest value, and the words' numbers."""
    import tensorflow as tf

    with zipfile.ZipFile(data / "speech_commands_v2_test/sc12_dev.zip") as archive:
        names = [name for name in sorted(archive.namelist()) if name.endswith(".wav")]
        sounds = [tf.audio.decode_wav(archive.read(name), 1, 16000).audio[:, 0] for name in names]
    numbers = {word: number for number, word in enumerate(WORDS)}
    scaled = np.stack([(one / tf.maximum(tf.reduce_max(one), 1e-6)).numpy() for one in sounds])
    return scaled, np.array([numbers[PurePosixPath(name).parent.name] for name in names])


def varied(
    sounds: NDArray[np.float32], y: NDArray[np.int64], n: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Each sound, and n - 1 variants of it: shifted by up to 0.1 s, another sound at most a fifth as loud behind it."""
    found = [sounds]
    for _ in range(n - 1):
        behind = sounds[rng.permutation(len(sounds))] * rng.uniform(0.0, 0.2, (len(sounds), 1)).astype(np.float32)
        both = [np.roll(one, shift) for one, shift in zip(sounds, rng.integers(-1600, 1601, len(sounds)), strict=True)]
        mixed = np.stack(both) + behind
        found.append(mixed / np.maximum(mixed.max(axis=1, keepdims=True), 1e-6))
    return np.concatenate(found), np.tile(y, n)


def mfcc(sounds: NDArray[np.float32]) -> NDArray[np.float32]:
    """MFCCs (n, 49, 10, 1) as MLPerf Tiny's get_dataset.py computes them."""
    import tensorflow as tf

    mel = tf.signal.linear_to_mel_weight_matrix(40, 257, 16000, 20.0, 4000.0)
    found = []
    for start in range(0, len(sounds), 256):
        spectra = tf.abs(tf.signal.stft(sounds[start : start + 256], 480, 320, 512, tf.signal.hann_window))
        coefficients = tf.signal.mfccs_from_log_mel_spectrograms(tf.math.log(tf.tensordot(spectra, mel, 1) + 1e-6))
        found.append(coefficients[..., :10, None].numpy())
    return np.concatenate(found)


WORKS: Mapping[str, Callable[[Path, Path], Work]] = {
    "resnet8": resnet8,
    "kws": kws,
    "anomaly": anomaly,
    "mnist": mnist,
    "cifar": cifar,
}


def build(name: str, data: Path, work: Path) -> Path:
    """Make a work's folder unless it is there; its path."""
    folder = work.absolute() / name
    if not (folder / "work.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        made = WORKS[name](data.absolute(), folder)
        write_atomically(folder / "work.json", json.dumps(asdict(made), indent=1))
    return folder


def fingerprint(work: Work) -> str:
    """Hash of origin and data, and how it is trained on."""
    origin = Path(work.origin)
    files = [origin] if origin.is_file() else sorted(one for one in origin.rglob("*") if one.is_file())
    hashes = (sha256_of(one)[:12] for one in [Path(work.data), *files])
    return "-".join([*hashes, json.dumps(work.train, sort_keys=True)])


def main() -> None:
    """Build one work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=WORKS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    given = parser.parse_args()
    print(build(given.name, given.data, given.work))


if __name__ == "__main__":
    main()
