"""What the training loop of edgedl costs over a bare `model.fit` on the same work.

    python benchmarks/training_overhead.py [--npz FILE] [--rounds 8] [--epochs 2]

Both train the same compiled model on the same normalised examples, in turn, in one process (A B B A …); edgedl's side
shuffles by its own seed, writes a checkpoint, TensorBoard's scalars and the history after every epoch, and reports
progress. Prints one JSON object: the ratio of times per round, its median with a bootstrap interval.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--npz", type=Path, help="images and labels; 20,000 random 28×28 images unless given")
    parser.add_argument("--examples", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--filters", type=int, nargs="+", default=[8, 16], help="of the CNN; fewer: shorter steps")
    parser.add_argument("--without-determinism", action="store_true", help="to see what determinism itself costs")
    options = parser.parse_args()

    import tensorflow as tf

    from edgedl.pipeline.data import examples_array, load_splits
    from edgedl.pipeline.recipe import check_recipe
    from edgedl.pipeline.tasks import TASKS
    from edgedl.pipeline.train.stage import compile_model, run_epochs

    tf.keras.utils.set_random_seed(0)
    if not options.without_determinism:
        tf.config.experimental.enable_op_determinism()  # as edgedl trains, for both
    with tempfile.TemporaryDirectory() as scratch:
        source = options.npz or random_images(Path(scratch) / "random.npz", options.examples)
        recipe = check_recipe(
            {
                "data": {"source": "npz", "file": str(source), "split": {"validation": 2000, "test": 100}},
                "model": {"family": "cnn", "filters": options.filters},
                "train": {"epochs": options.epochs},
            }
        )
        data = load_splits(recipe.data, recipe.data.split, 0)
        rules = TASKS[data.task]
        model = recipe.model.build("image", data.input.shape, rules.head(data))
        rate = compile_model(model, recipe.train, data, rules, from_logits=False)
        x, y, vx, vy = (
            part
            for split in (data.train, data.validation)
            for part in (
                examples_array(split, data.input, np.arange(len(split))),
                np.eye(len(data.labels), dtype=np.float32)[split.targets],
            )
        )

        def bare() -> None:
            size = recipe.train.batch_size
            model.fit(x, y, batch_size=size, epochs=options.epochs, validation_data=(vx, vy), verbose=0)

        def ours() -> None:
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                run_epochs(Path(folder), model, recipe.train, data, rules, [], rate, 0)

        bare(), ours()  # traces, caches
        times: dict[str, list[float]] = {"bare": [], "ours": []}
        for i in range(options.rounds):
            pair = [("bare", bare), ("ours", ours)]
            for name, work in pair if i % 2 else reversed(pair):
                started = time.perf_counter()
                work()
                times[name].append(time.perf_counter() - started)
    ratios = np.array(times["ours"]) / np.array(times["bare"])
    rng = np.random.default_rng(0)
    draws = [np.median(rng.choice(ratios, len(ratios))) for _ in range(2000)]
    print(
        json.dumps(
            {
                "filters": options.filters,
                "examples": len(x),
                "epochs": options.epochs,
                "median_ratio": float(np.median(ratios)),
                "interval_95": [float(q) for q in np.quantile(draws, [0.025, 0.975])],
                "ratio_of_minima": min(times["ours"]) / min(times["bare"]),
                "ratios": [round(float(r), 4) for r in ratios],
                "bare_s": [round(t, 3) for t in times["bare"]],
                "obtained": "measured",
            },
            indent=1,
        )
    )


def random_images(path: Path, n: int) -> Path:
    rng = np.random.default_rng(0)
    np.savez(path, x=rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), y=np.arange(n) % 10)
    return path


if __name__ == "__main__":
    main()
