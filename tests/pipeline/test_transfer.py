"""Transfer learning: phases, frozen averages, where backbones come from. What it gains: benchmarks/transfer.py."""

from __future__ import annotations

import http.server
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgedl
from edgedl.core.artifacts import TrainedModel
from edgedl.core.contract import InputContract
from edgedl.core.errors import ConfigError, DataError, ModelError
from edgedl.models.base import Head
from edgedl.models.transfer import BACKBONE, Transfer, build_transfer, load_backbone, set_trainable
from edgedl.pipeline.recipe import check_recipe

pytestmark = pytest.mark.tensorflow

HALF, OTHER = ["0", "1", "2", "3", "4"], ["5", "6", "7", "8", "9"]
FEW = {"source": "digits", "classes": OTHER, "examples_per_class": 10}
FAMILY = {"family": "cnn", "filters": [16, 32], "dropout": 0.0}


def train(name: str, folder: Path, data: dict[str, Any], model: dict[str, Any], epochs: int) -> TrainedModel:
    optimizer = {"learning_rate": 0.005}
    recipe = {"name": name, "seed": 1, "data": data, "model": model}
    return edgedl.train(recipe | {"train": {"epochs": epochs, "batch_size": 16, "optimizer": optimizer}}, out=folder)


def model_file(run: Path) -> Path:
    return next(run.glob("train-*/model.keras"))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "pretrained"
    train("pretrained", folder, {"source": "digits", "classes": HALF}, FAMILY, 8)
    return folder


def test_frozen_first_then_the_last_layers_at_a_lower_rate(pretrained: Path, tmp_path: Path) -> None:
    backbone = {"file": str(pretrained), "dropout": 0.0, "unfreeze": {"last_layers": 2, "epochs": 4}}
    moved = train("moved", tmp_path / "moved", FEW, {"backbone": backbone}, 12)
    assert moved.data is not None
    assert moved.quality is not None
    assert moved.data.counts["train"] == 50
    assert set(moved.data.classes["train"].values()) == {10}
    assert moved.quality.interval.low > 0.4  # chance is 0.2
    assert [row.get("phase", 0) for row in moved.history] == [0] * 12 + [1] * 4
    assert set(moved.traces.values()) == {1}
    assert moved.history[12]["learning_rate"] == pytest.approx(0.0005)


@pytest.mark.slow
def test_a_run_killed_in_the_second_phase_goes_on_there(pretrained: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from edgedl.pipeline.train.callbacks import AfterEpoch

    model = {"backbone": {"file": str(pretrained), "unfreeze": {"last_layers": 2, "epochs": 3}}}
    whole = train("whole", tmp_path / "whole", FEW, model, 2)
    for stop_after in (2, 4):  # at the border of the phases, and inside the second
        folder = tmp_path / f"cut{stop_after}"
        after = AfterEpoch.on_epoch_end

        def killed(self: Any, epoch: int, logs: Any = None, stop: int = stop_after, after: Any = after) -> None:
            after(self, epoch, logs)
            if epoch + 1 == stop:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(AfterEpoch, "on_epoch_end", killed)
            train("whole", folder, FEW, model, 2)
        again = train("whole", folder, FEW, model, 2)
        assert [row["loss"] for row in again.history] == [row["loss"] for row in whole.history]
        first, second = (np.load(one.path("test-evidence.npz"))["evidence"] for one in (whole, again))
        assert np.array_equal(first, second)


def test_batch_norm_of_a_frozen_backbone_keeps_its_averages(pretrained: Path, tmp_path: Path) -> None:
    from edgedl.models.load import load_keras

    model = {"backbone": {"file": str(pretrained), "unfreeze": {"last_layers": 2, "epochs": 2}}}
    moved = load_keras(train("m", tmp_path / "m", FEW, model, 2).path("model.keras")).get_layer(BACKBONE)
    before = load_keras(model_file(pretrained))
    changed = {
        layer.name
        for layer in moved.layers
        if not all(map(np.array_equal, layer.get_weights(), before.get_layer(layer.name).get_weights()))
    }
    assert changed == {"stage2_conv1", "stage2_conv2"}


def test_an_application_gets_the_pixels_it_was_trained_on() -> None:
    import tf_keras

    section = Transfer(application="MobileNetV2", weights="none", alpha=0.35)
    for name, module in (("MobileNetV2", "mobilenet_v2"), ("VGG16", "vgg16"), ("DenseNet121", "densenet")):
        section = Transfer(application=name, weights="none")
        given = InputContract("image", (32, 32, 3), raw_range=(0.0, 255.0), mean=(10.0,), std=(50.0,))
        pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
        features = tf_keras.Sequential([tf_keras.layers.Input((32, 32, 3)), tf_keras.layers.GlobalAveragePooling2D()])
        model = build_transfer(section, tf_keras.Model(features.inputs, features.outputs, name=BACKBONE), given,
                               Head("classification", 2))  # fmt: skip
        wanted = getattr(tf_keras.applications, module).preprocess_input(pixels.copy())
        got = model.get_layer("as_pretrained")((pixels - 10.0) / 50.0).numpy()
        assert np.allclose(got, wanted, atol=1e-3), name


def test_grey_pixels_become_three_equal_colours() -> None:
    import tf_keras

    inputs = tf_keras.Input((8, 8, 3))
    given = InputContract("image", (8, 8, 1), raw_range=(0.0, 16.0))
    model = build_transfer(Transfer(application="MobileNetV2"), tf_keras.Model(inputs, inputs, name=BACKBONE), given,
                           Head("classification", 2))  # fmt: skip
    got = model.get_layer("as_pretrained")(np.full((1, 8, 8, 1), 16.0, np.float32)).numpy()
    assert np.allclose(got, 1.0, atol=1e-5)


def test_offline_the_error_says_what_to_do(monkeypatch: Any, tmp_path: Path) -> None:
    from tf_keras.src.applications import mobilenet_v2

    monkeypatch.setattr(mobilenet_v2, "BASE_WEIGHT_PATH", "http://127.0.0.1:9/")
    (tmp_path / ".keras").mkdir()  # without it, Keras would look in /tmp/.keras
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DataError, match=r"cannot be downloaded.*weights: none"):
        load_backbone(Transfer(application="MobileNetV2", alpha=0.35), (96, 96, 3), None)


def test_pretrained_weights_come_over_keras_own_download(monkeypatch: Any, tmp_path: Path) -> None:
    import tf_keras
    from tf_keras.src.applications import mobilenet_v2

    served = tmp_path / "served"
    served.mkdir()
    model = tf_keras.applications.MobileNetV2(
        include_top=False, weights=None, alpha=0.35, input_shape=(96, 96, 3), pooling="avg"
    )
    model.save_weights(served / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96_no_top.h5")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(served))

        def log_message(self, *args: Any) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "home" / ".keras").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(mobilenet_v2, "BASE_WEIGHT_PATH", f"http://127.0.0.1:{server.server_port}/")
    try:
        found = load_backbone(Transfer(application="MobileNetV2", alpha=0.35), (96, 96, 3), None)
    finally:
        server.shutdown()
    for mine, theirs in zip(found.get_weights(), model.get_weights(), strict=True):
        assert np.array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        ({}, "a `file` or an `application`"),
        ({"application": "MobilNet"}, "no application 'MobilNet'"),
        ({"application": "MobileNet", "freeze": False, "unfreeze": {"last_layers": 3}}, "needs `freeze: true`"),
    ],
)
def test_a_wrong_section_is_told_in_one_line(backbone: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_recipe({"data": {"source": "digits"}, "model": {"backbone": backbone}})


def test_a_cut_that_names_no_layer(pretrained: Path) -> None:
    with pytest.raises(ModelError, match="cut names no layer"):
        load_backbone(Transfer(file=pretrained, cut="nonsense"), (8, 8, 1), model_file(pretrained))


def test_only_the_chosen_classes_and_few_of_each() -> None:
    from edgedl.pipeline.data import Digits, load_splits

    source = Digits(source="digits", classes=("7", "2"), examples_per_class=4)
    found = load_splits(source, source.split, 0)
    assert found.labels == ("7", "2")
    assert found.record.classes["train"] == {"7": 4, "2": 4}
    everything = load_splits(Digits(source="digits"), source.split, 0)
    image = found.train.raw(np.array([0]))
    positions = np.arange(len(everything.train))
    everywhere = np.concatenate([part.raw(np.arange(len(part))) for part in
                                 (everything.train, everything.validation, everything.test)])  # fmt: skip
    targets = np.concatenate([everything.train.targets, everything.validation.targets, everything.test.targets])
    match = np.flatnonzero((everywhere == image).all(axis=(1, 2, 3)))
    assert {int(targets[i]) for i in match} == {(7, 2)[int(found.train.targets[0])]}
    assert len(positions) > 8
    with pytest.raises(DataError, match="no class"):
        load_splits(Digits(source="digits", classes=("7", "x")), source.split, 0)


def test_phases_of_a_backbone() -> None:
    import tf_keras

    x = inputs = tf_keras.Input((4,))
    for i in range(3):
        x = tf_keras.layers.BatchNormalization(name=f"bn{i}")(tf_keras.layers.Dense(4, name=f"d{i}")(x))
    backbone = tf_keras.Model(inputs, x, name=BACKBONE)
    section = Transfer(file=Path("x"), unfreeze={"last_layers": 2})  # type: ignore[arg-type]
    model = build_transfer(section, backbone, InputContract("x", (4,)), Head("classification", 2))
    assert {weight.name.split("/")[0] for weight in model.trainable_weights} == {"probabilities"}
    set_trainable(model, section, 1)
    assert {weight.name.split("/")[0] for weight in model.trainable_weights} == {"d1", "d2", "probabilities"}
