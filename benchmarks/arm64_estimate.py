"""Counts the models of published single-thread times, and writes `devices/arm64/published.yaml` and how well it fits.

    python benchmarks/arm64_estimate.py

Weights are random, as they were in the published measurement. Takes about ten minutes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import edgedl
from edgedl.devices.arm64 import estimate

HEADER = """\
# Times that others measured, and what edgedl counts for the same models; written by benchmarks/arm64_estimate.py.
# XNNPACK, README.md, table of single-threaded performance on mobile phones, float32, 27 March 2020.
"""
TIMES_MS = {
    "pixel-2-big": {"MobileNet V1 1.0": 86, "MobileNet V2 1.0": 53, "MobileNet V3 Large": 42, "MobileNet V3 Small": 14},
    "pixel-3a-big": {
        "MobileNet V1 1.0": 88,
        "MobileNet V2 1.0": 55,
        "MobileNet V3 Large": 44,
        "MobileNet V3 Small": 14,
    },
}


def networks() -> Iterator[tuple[str, Any]]:
    """The networks, 224 × 224, without weights of anybody."""
    import tf_keras

    made: dict[str, Callable[[], Any]] = {
        "MobileNet V1 1.0": lambda: tf_keras.applications.MobileNet(weights=None),
        "MobileNet V2 1.0": lambda: tf_keras.applications.MobileNetV2(weights=None),
        "MobileNet V3 Large": lambda: tf_keras.applications.MobileNetV3Large(weights=None, include_preprocessing=False),
        "MobileNet V3 Small": lambda: tf_keras.applications.MobileNetV3Small(weights=None, include_preprocessing=False),
    }
    for name, make in made.items():
        inputs = tf_keras.Input((224, 224, 3), name="image")
        yield name, tf_keras.Model(inputs, make()(inputs))


def main() -> None:
    """Count, write, and print errors."""
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for number, (name, network) in enumerate(networks()):
            network.save(Path(folder) / f"{number}.keras", save_format="keras")
            files[name] = edgedl.export(Path(folder) / f"{number}.keras", out=Path(folder) / f"run-{number}").model_path
        for target, times in TIMES_MS.items():
            for name, published_ms in times.items():
                (model,) = edgedl.profile(files[name], device=f"arm64:{target}").models
                counted = model.instructions
                assert counted is not None
                misses = [cache.misses for cache in counted.caches]
                lines.append(
                    f"- {{target: {target}, model: {name}, published_ms: {published_ms}, total: {counted.total}, "
                    f"load: {counted.load}, store: {counted.store}, simd: {counted.simd},\n   misses: {misses}}}\n"
                )
                print(target, name, f"{counted.total:,} instructions", flush=True)
    estimate.PUBLISHED.write_text(HEADER + "".join(lines))
    for one, error in zip(estimate.references(), estimate.errors(), strict=True):
        print(f"{one.profile.name:14} {one.model:22} {one.published_us / 1e3:5.0f} ms, error {error:+.0%}")


if __name__ == "__main__":
    main()
