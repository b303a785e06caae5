"""Fits the Edge TPU's time model to Coral's published table, and writes `devices/edge_tpu_published.yaml`.

    python benchmarks/edge_tpu_estimate.py

Three constants are fitted by least absolute deviations of the logarithm; each network's error is that of a fit to the
others. Networks that keras.applications builds; converted in float32, weights counted as the bytes they have in int8.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.optimize import minimize

from edgedl.devices.edge_tpu import ON_CHIP_BYTES, PUBLISHED
from edgedl.pipeline.profile import model_file

TABLE_MS = {  # Coral, "Edge TPU performance benchmarks", table 1, column "Dev Board with Edge TPU"
    ("MobileNet", 224): 2.4,
    ("MobileNetV2", 224): 2.6,
    ("InceptionResNetV2", 299): 69,
    ("DenseNet121", 224): 25,
    ("ResNet50", 299): 56,
    ("ResNet50V2", 299): 59,
    ("ResNet152V2", 299): 151,
    ("VGG16", 224): 343,
    ("VGG19", 224): 357,
}


def counted(name: str, size: int) -> tuple[int, int, int]:
    """Ops, multiply–accumulates and int8 weight bytes of the TFLite file."""
    import tensorflow as tf
    import tf_keras

    network = getattr(tf_keras.applications, name)(weights=None, input_shape=(size, size, 3))
    inputs = tf_keras.Input((size, size, 3), batch_size=1)
    converter: Any = tf.lite.TFLiteConverter.from_keras_model(tf_keras.Model(inputs, network(inputs)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.tflite"
        path.write_bytes(converter.convert())
        ops = model_file(path).facts.ops
    tf_keras.backend.clear_session()
    return len(ops), sum(op.macs for op in ops), sum(op.parameters for op in ops)


def fit(work: NDArray[Any], times: NDArray[Any]) -> NDArray[Any]:
    """Seconds per op, per multiply–accumulate and per byte that is sent."""

    def apart(logarithms: NDArray[Any]) -> float:
        return float(np.abs(np.log(work @ np.exp(logarithms) / times)).sum())

    starts = [np.log([2e-5, 2e-12, 2e-9]) + np.random.default_rng(seed).normal(0, 1, 3) for seed in range(8)]
    tries = [minimize(apart, one, method="Nelder-Mead", options={"maxiter": 20000, "maxfev": 20000}) for one in starts]
    return np.exp(min(tries, key=lambda one: one.fun).x)


def main() -> None:
    """Count, fit, write and print."""
    rows: list[tuple[int, int, int]] = []
    for (name, size), published_ms in TABLE_MS.items():
        rows.append(counted(name, size))
        print(name, rows[-1], published_ms, "ms", flush=True)
    work = np.array([(ops, macs, max(0, size - ON_CHIP_BYTES)) for ops, macs, size in rows], float)
    times = np.array(list(TABLE_MS.values())) / 1e3
    constants = fit(work, times)
    errors: dict[str, float] = {}
    for index, (name, _) in enumerate(TABLE_MS):
        others = [row for row in range(len(times)) if row != index]
        errors[name] = round(float(work[index] @ fit(work[others], times[others]) / times[index] - 1), 3)
    PUBLISHED.write_text(words(constants.tolist(), errors))
    print(PUBLISHED.read_text())


def words(constants: Sequence[float], errors: dict[str, float]) -> str:
    """The file's text."""
    names = ("seconds_per_op", "seconds_per_mac", "seconds_per_byte")
    kept = {name: float(f"{value:.3g}") for name, value in zip(names, constants, strict=True)}
    head = "# Fitted to Coral's table of times on the Dev Board; written by benchmarks/edge_tpu_estimate.py.\n"
    return head + yaml.safe_dump(kept | {"errors": errors}, sort_keys=False)


if __name__ == "__main__":
    main()
