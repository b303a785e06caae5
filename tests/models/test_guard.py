"""Files that were made to harm are refused, and nothing of them runs."""

from __future__ import annotations

import io
import json
import resource
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from edgedl.core.errors import ModelError
from edgedl.models import LoadOptions
from edgedl.models.identify import identify
from edgedl.models.load import load_any

pytestmark = pytest.mark.tensorflow


def dense(**config: Any) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": "Dense", "config": {"name": "d", "units": 2, **config}}


def sequential(*layers: dict[str, Any], shape: tuple[int, ...] = (4,), version: str = "3.9.0") -> dict[str, Any]:
    """Configuration of a Sequential model."""
    given = {
        "batch_shape" if version[0] == "3" else "batch_input_shape": [None, *shape],
        "dtype": "float32",
        "name": "in",
    }
    first = {"module": "keras.layers", "class_name": "InputLayer", "config": given}
    return {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": [first, *layers]}}


def weights(*arrays: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for i, array in enumerate(arrays):
            file[f"layers/dense/vars/{i}"] = array
    return buffer.getvalue()


def write(path: Path, config: dict[str, Any], version: str = "3.9.0", stored: bytes | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", stored or weights(np.zeros((4, 2)), np.zeros(2)))
    return path


def refused(path: Path, words: str, **options: Any) -> str:
    with pytest.raises(ModelError, match=words) as caught:
        load_any(path, LoadOptions(**options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_python_bytecode_in_a_lambda_does_not_run(tmp_path: Path) -> None:
    import keras
    import tf_keras

    marker = tmp_path / "ran"
    body = f"lambda x: (open({str(marker)!r}, 'w'), x)[1]"
    for name, module, save in (
        ("three.keras", keras, {}),
        ("two.keras", tf_keras, {"save_format": "keras"}),
        ("two.h5", tf_keras, {"save_format": "h5"}),
        ("two.saved", tf_keras, {"save_format": "tf"}),
    ):
        layer = module.layers.Lambda(eval(body), output_shape=(4,))
        module.Sequential([module.Input((4,)), layer]).save(tmp_path / name, **save)
        marker.unlink(missing_ok=True)
        assert "--trust" in refused(tmp_path / name, "Python bytecode")
        assert not marker.exists(), name
        loaded = load_any(tmp_path / name, LoadOptions(trust=True))
        assert marker.exists(), name
        assert loaded.carried is not None
        assert loaded.carried.road == "frozen"


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"module": "os", "class_name": "system", "config": {"name": "x"}}, "not in Keras"),
        ({"module": "builtins", "class_name": "exec", "config": {"name": "x"}}, "builtins.exec, which is no layer"),
        ({"module": "keras.utils", "class_name": "get_file", "config": {"name": "x"}}, "keras.utils.get_file"),
        ({"module": "keras.config", "class_name": "enable_unsafe_deserialization", "config": {}}, "is no layer"),
        ({"module": "keras.layers", "class_name": "TFSMLayer", "config": {"name": "x"}}, "reads another SavedModel"),
        ({"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {"name": "x"}}, "unpickles"),
        (
            {
                "module": "keras.layers",
                "class_name": "StringLookup",
                "config": {"name": "x", "vocabulary": "/etc/hosts"},
            },
            "reads the file '/etc/hosts'",
        ),
        (dense(kernel_initializer={"module": "my.module", "class_name": "Boom", "config": {}}), "Boom.*not in Keras"),
        (dense(activation={"module": "builtins", "class_name": "__lambda__", "config": {}}), "Python bytecode"),
    ],
)
@pytest.mark.parametrize("version", ["3.9.0", "2.15.0"])
def test_what_is_no_layer_of_keras_is_refused(entry: dict[str, Any], words: str, version: str, tmp_path: Path) -> None:
    refused(write(tmp_path / "m.keras", sequential(entry, version=version), version), words)


def test_terabytes_are_refused_before_memory_is_touched(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(write(tmp_path / "a.keras", sequential(dense(units=10**12))), "declare .* bytes of weights")
    refused(
        write(tmp_path / "b.keras", sequential(dense(units=10**12), version="2.15.0"), "2.15.0"),
        "declare .* bytes of weights",
    )
    refused(write(tmp_path / "c.keras", sequential(dense(), shape=(10**6, 10**6, 3))), "one example of shape")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kilobytes


def test_arrays_that_are_not_stored_and_links_to_other_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["x"] = np.zeros(3)

    def stored(fill: Any) -> bytes:
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            fill(file)
        return buffer.getvalue()

    def huge(file: h5py.File) -> None:
        file.create_dataset("w", (10**6, 10**6), "f4", chunks=(1000, 1000), compression="gzip")

    def external(file: h5py.File) -> None:
        file["w"] = h5py.ExternalLink(str(secret), "x")

    def outside(file: h5py.File) -> None:
        file.create_dataset("w", (3,), "f8", external=[(str(secret), 0, 24)])

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(str(secret), "x", shape=(3,))
        file.create_virtual_dataset("w", layout)

    for fill, words in (
        (huge, "is not stored"),
        (external, "is a link"),
        (outside, "another file"),
        (virtual, "another"),
    ):
        refused(write(tmp_path / "m.keras", sequential(dense()), stored=stored(fill)), words)


def test_zips_that_leave_the_folder_or_inflate(tmp_path: Path) -> None:
    def zipped(name: str, extra: str, content: bytes = b"x", link: bool = False) -> Path:
        path = write(tmp_path / name, sequential(dense()))
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            entry = zipfile.ZipInfo(extra)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o120777 << 16) if link else 0
            archive.writestr(entry, content)
        return path

    refused(zipped("a.keras", "../../evil"), "leaves the folder")
    refused(zipped("b.keras", "/etc/evil"), "leaves the folder")
    refused(zipped("c.keras", "..\\evil"), "leaves the folder")
    refused(zipped("d.keras", "link", b"/etc/passwd", link=True), "is a link")
    refused(zipped("e.keras", "assets/zeros", bytes(100_000_000)), "unpacks from")
    declared = bytearray(zipped("f.keras", "assets/lie", b"abc").read_bytes())
    at = declared.rindex(b"PK\x01\x02") + 24  # uncompressed size in the last entry of the directory
    declared[at : at + 4] = (2**32 - 2).to_bytes(4, "little")
    (tmp_path / "f.keras").write_bytes(declared)
    refused(tmp_path / "f.keras", "unpacks from")


def test_nesting_without_end(tmp_path: Path) -> None:
    path = write(tmp_path / "m.keras", sequential(dense()))
    deep = '{"class_name": "Sequential", "config": ' + "[" * 200_000 + "]" * 200_000 + "}"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.0"}')
        archive.writestr("config.json", deep)
    refused(path, "nested without end")


def test_graphs_that_reach_outside_are_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    module: Any = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([1, 4], tf.float32, name="x")])
    def call(x: Any) -> dict[str, Any]:
        tf.io.write_file(str(tmp_path / "ran"), "here")
        return {"y": x}

    tf.saved_model.save(module, str(tmp_path / "m"), signatures=call)
    (tmp_path / "ran").unlink(missing_ok=True)
    refused(tmp_path / "m", "WriteFile.*outside the model")
    assert not (tmp_path / "ran").exists()


def test_separators_of_windows_are_mended(tmp_path: Path) -> None:
    import keras

    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(tmp_path / "a.keras")
    with zipfile.ZipFile(tmp_path / "a.keras") as archive, zipfile.ZipFile(tmp_path / "b.keras", "w") as odd:
        for name in archive.namelist():
            odd.writestr(name, archive.read(name))
        odd.writestr("assets\\note.txt", "x")
    assert identify(tmp_path / "b.keras").kind == "keras-3"
    assert load_any(tmp_path / "b.keras", LoadOptions()).model.count_params() == 10
