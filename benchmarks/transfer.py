"""What transfer learning brings: pretrained on half of CIFAR-10's classes, moved to the others with 10 examples each.

    python benchmarks/transfer.py cifar10.npz [--seeds 3]

cifar10.npz: as benchmarks/cifar10_npz.py writes it. For every seed the same 50 images train a network from scratch, a
new head on the frozen backbone, and then its last layers too; all are judged on the same test images of those classes.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import edgedl

PRETRAINED = ["airplane", "automobile", "bird", "cat", "deer"]
MOVED_TO = ["dog", "frog", "horse", "ship", "truck"]
FAMILY = {"family": "cnn", "filters": [32, 64, 128], "dropout": 0.0}


def main() -> None:
    """Print accuracy with its 95 % interval for each road."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    npz = {"source": "npz", "file": str(options.file.absolute())}
    few = npz | {"classes": MOVED_TO, "examples_per_class": 10, "split": {"validation": 100}}
    with tempfile.TemporaryDirectory(prefix="edgedl-transfer-") as folder:
        base = Path(folder) / "pretrained"
        train("pretrained", base, npz | {"classes": PRETRAINED}, FAMILY, epochs=6, batch=64, seed=1)
        backbone: dict[str, Any] = {"file": str(base), "dropout": 0.0}
        thawed = backbone | {"unfreeze": {"last_layers": 4, "epochs": 30, "rate_factor": 0.3}}
        for seed in range(1, options.seeds + 1):
            roads = {"scratch": FAMILY, "frozen": {"backbone": backbone}, "unfrozen": {"backbone": thawed}}
            for name, model in roads.items():
                train(f"{name}-{seed}", Path(folder) / f"{name}-{seed}", few, model, epochs=60, batch=10, seed=seed)


def train(
    name: str, out: Path, data: dict[str, Any], model: dict[str, Any], *, epochs: int, batch: int, seed: int
) -> None:
    """One training, and its line."""
    settings = {"epochs": epochs, "batch_size": batch, "optimizer": {"learning_rate": 3e-3}, "schedule": "cosine"}
    recipe = {"name": name, "seed": seed, "data": data, "model": model, "train": settings}
    quality = edgedl.train(recipe, out=out).quality
    assert quality is not None
    low, high = quality.interval.low, quality.interval.high
    print(f"{name}: {quality.value:.2%} [{low:.2%}, {high:.2%}] of {quality.n} test images (measured)", flush=True)


if __name__ == "__main__":
    main()
