"""What the field's tools make of a work, each as its own guide shows it; and edgedl's chains, beside them.

    python -m benchmarks.compress.peers WORK_FOLDER MAKER=OUT_FOLDER …

OUT_FOLDER gets model.tflite or model.onnx, and told.json. Makers that train take the work's training examples with the
epochs, learning rates and batch sizes of tfmot's combined-optimization tutorials.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.compress.works import SEED, Work, load_work
from numpy.typing import NDArray

from edgedl.core.files import write_atomically

CALIBRATION = 200  # examples, for every tool that calibrates
EDGEDL = "edgedl:"


@dataclass(frozen=True)
class Bench:
    """What a maker works with. x: training inputs as the model takes them, (n, …) float32; y: their targets."""

    work: Work
    model: Any
    x: NDArray[np.float32]
    y: NDArray[Any]
    folder: Path

    def calibration(self) -> NDArray[np.float32]:
        """The same examples for every tool."""
        positions = np.random.default_rng(SEED).permutation(len(self.x))[:CALIBRATION]
        return self.x[np.sort(positions)]

    @property
    def loss(self) -> str:
        """What the model was trained with."""
        return "sparse_categorical_crossentropy" if self.work.classifies else "mse"


def open_bench(work: Work, folder: Path) -> Bench:
    """The Keras model as edgedl's loader reads it, which spares the peers their own troubles with loading."""
    from edgedl.models.base import LoadOptions
    from edgedl.models.load import load_any

    data, _ = arrays(work)
    return Bench(work, load_any(Path(work.origin), LoadOptions()).model, *data, folder)


Arrays = tuple[NDArray[np.float32], NDArray[Any]]


def arrays(work: Work) -> tuple[Arrays, Arrays]:
    """Training and test examples, as edgedl splits them and as the model takes them."""
    from edgedl.pipeline.data import examples_array
    from edgedl.pipeline.verbs import as_source, load_data

    data = load_data(as_source(work.source()), SEED).unfolded()
    train, test = (
        (examples_array(part, data.input, np.arange(len(part))), part.targets) for part in (data.train, data.test)
    )
    return train, test


# --- TFLite's converter ------------------------------------------------------------------------------------------


def tflite(bench: Bench, kind: str) -> None:
    """LiteRT's guide "Post-training quantization": dynamic range, float16, or full integer with integer inputs."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(bench.model)
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind == "int8":
        converter.representative_dataset = lambda: ([one[None]] for one in bench.calibration())
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    (bench.folder / "model.tflite").write_bytes(converter.convert())


# --- TensorFlow Model Optimization -------------------------------------------------------------------------------


def tfmot(bench: Bench, sparsity: float | None, clusters: int | None) -> None:
    """Pruning, clustering and preserving QAT: the tutorials "PQAT", "CQAT" and "PCQAT" of tfmot's guide."""
    import tensorflow as tf
    import tensorflow_model_optimization as mot
    import tf_keras

    tf_keras.utils.set_random_seed(SEED)
    model = bench.model

    def train(wrapped: Any, rate: float, epochs: int, batch: int, callbacks: list[Any]) -> None:
        wrapped.compile(optimizer=tf_keras.optimizers.Adam(rate), loss=bench.loss)
        wrapped.fit(bench.x, bench.y, epochs=epochs, batch_size=batch, callbacks=callbacks, verbose=0)

    if sparsity is not None:
        prune = mot.sparsity.keras
        # The tutorials' frequency is 100 steps; with fewer steps than that nothing at all would be pruned.
        steps = 3 * -(-len(bench.x) // 32)
        schedule = prune.ConstantSparsity(sparsity, begin_step=0, frequency=min(100, max(1, steps // 10)))
        pruned = prune.prune_low_magnitude(model, pruning_schedule=schedule)
        train(pruned, 1e-5, 3, 32, [prune.UpdatePruningStep()])
        model = prune.strip_pruning(pruned)
    if clusters is not None:
        from tensorflow_model_optimization.python.core.clustering.keras.experimental import cluster

        settings: dict[str, Any] = {"number_of_clusters": clusters}
        settings["cluster_centroids_init"] = mot.clustering.keras.CentroidInitialization.KMEANS_PLUS_PLUS
        clustered = cluster.cluster_weights(model, preserve_sparsity=sparsity is not None, **settings)
        train(clustered, 1e-3, 3, 32, [])
        model = mot.clustering.keras.strip_clustering(clustered)
    combine, quantize = mot.experimental.combine, mot.quantization.keras
    if clusters is not None:
        scheme = combine.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity=sparsity is not None)
        aware = quantize.quantize_apply(quantize.quantize_annotate_model(model), scheme)
    elif sparsity is not None:
        scheme = combine.Default8BitPrunePreserveQuantizeScheme()
        aware = quantize.quantize_apply(quantize.quantize_annotate_model(model), scheme)
    else:
        aware = quantize.quantize_model(model)
    train(aware, 1e-3, 1, 128, [])
    converter = tf.lite.TFLiteConverter.from_keras_model(aware)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    (bench.folder / "model.tflite").write_bytes(converter.convert())


# --- ai-edge-quantizer -------------------------------------------------------------------------------------------


def ai_edge(bench: Bench, recipe: str, algorithm: str | None = None) -> None:
    """A ready-made recipe on the converter's float file, as in its README. algorithm: of scales, its own by default."""
    from ai_edge_quantizer import algorithm_manager, quantizer
    from ai_edge_quantizer import recipe as recipes

    tflite(bench, "float32")
    path = bench.folder / "model.tflite"
    tool = quantizer.Quantizer(str(path))
    options = {"algorithm_key": algorithm_manager.AlgorithmName[algorithm]} if algorithm else {}
    tool.load_quantization_recipe(getattr(recipes, recipe)(**options))
    ranges = None
    if tool.need_calibration:
        (name,) = signature_inputs(path)
        ranges = tool.calibrate({"serving_default": [{name: one[None]} for one in bench.calibration()]})
    made = tool.quantize(ranges)
    path.unlink()
    made.export_model(str(path))


def signature_inputs(path: Path) -> list[str]:
    """Names of the inputs of a file's signature."""
    from ai_edge_litert.interpreter import Interpreter

    return list(Interpreter(str(path)).get_signature_runner("serving_default").get_input_details())


# --- ONNX Runtime ------------------------------------------------------------------------------------------------


def onnx_static(bench: Bench) -> None:
    """tf2onnx's command line, then `quant_pre_process` and `quantize_static` with their defaults (QDQ, per tensor)."""
    import onnx
    import tensorflow as tf
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    saved, plain, ready = (bench.folder / name for name in ("saved", "plain.onnx", "ready.onnx"))
    tf.saved_model.save(bench.model, str(saved))
    command = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", str(saved), "--output", str(plain)]
    subprocess.run(command, check=True, capture_output=True)
    quant_pre_process(str(plain), str(ready))
    name = onnx.load(str(plain)).graph.input[0].name

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.examples: Iterator[NDArray[np.float32]] = iter(bench.calibration())

        def get_next(self) -> dict[str, Any] | None:
            one = next(self.examples, None)
            return None if one is None else {name: one[None]}

    quantize_static(str(ready), str(bench.folder / "model.onnx"), Reader())
    shutil.rmtree(saved)
    plain.unlink()
    ready.unlink()


PEERS: Mapping[str, Callable[[Bench], None]] = {
    "TFLite float32": lambda bench: tflite(bench, "float32"),
    "TFLite dynamic range": lambda bench: tflite(bench, "dynamic"),
    "TFLite float16": lambda bench: tflite(bench, "float16"),
    "TFLite int8": lambda bench: tflite(bench, "int8"),
    "ai-edge-quantizer wi8": lambda bench: ai_edge(bench, "weight_only_wi8_afp32"),
    "ai-edge-quantizer wi4": lambda bench: ai_edge(bench, "weight_only_wi4_afp32"),
    "ai-edge-quantizer wi4 MSE": lambda bench: ai_edge(bench, "weight_only_wi4_afp32", "MSE"),
    "ai-edge-quantizer wi4 OCTAV": lambda bench: ai_edge(bench, "weight_only_wi4_afp32", "OCTAV"),
    "ai-edge-quantizer static int8": lambda bench: ai_edge(bench, "static_wi8_ai8"),
    "onnxruntime static QDQ": onnx_static,
    "tfmot QAT": lambda bench: tfmot(bench, None, None),
    "tfmot PQAT 50 %": lambda bench: tfmot(bench, 0.5, None),
    "tfmot PQAT 75 %": lambda bench: tfmot(bench, 0.75, None),
    "tfmot CQAT 16 clusters": lambda bench: tfmot(bench, None, 16),
    "tfmot PCQAT 50 %, 8 clusters": lambda bench: tfmot(bench, 0.5, 8),
}


def edgedl_chain(work: Work, chain: str, run: Path, folder: Path) -> dict[str, Any]:
    """A chain in words, in the work's run; what edgedl says of it."""
    import edgedl
    from edgedl.pipeline.compress.words import step_words

    made = edgedl.compress(edgedl.train(work.recipe(), out=run), chain)
    shutil.copyfile(made.path(made.model_file), folder / "model.tflite")
    return {"said": [words for step in made.steps for words in step_words(step)], "notes": list(made.notes)}


TOLD = "told.json"


def make(work_folder: Path, maker: str, folder: Path) -> None:
    """Leave the maker's file in `folder`, and in told.json how long it took (s), what was said, or why it failed.

    told.json is there from the start, so that it speaks also of a maker that takes the process down.
    """
    folder.mkdir(parents=True, exist_ok=True)
    told: dict[str, Any] = {"refused": "the process died", "seconds": 0.0}
    write_atomically(folder / TOLD, json.dumps(told))
    work, begun = load_work(work_folder), time.monotonic()
    try:
        if maker.startswith(EDGEDL):
            told |= edgedl_chain(work, maker.removeprefix(EDGEDL), work_folder / "run", folder)
        else:
            PEERS[maker](open_bench(work, folder))
        told["refused"] = ""
    except Exception as error:  # whatever a tool raises is its answer
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        told["refused"] = f"{type(error).__name__}: {first}"[:300]
        traceback.print_exc()
    told["seconds"] = round(time.monotonic() - begun, 1)
    write_atomically(folder / TOLD, json.dumps(told))


def main() -> None:
    """Several makers, one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("makers", nargs="+")
    given = parser.parse_args()
    for one in given.makers:
        maker, _, folder = one.rpartition("=")
        make(given.work, maker, Path(folder))


if __name__ == "__main__":
    main()
