"""Keras files as people publish them: which tool makes at least one smaller file of each that still answers alike?

    python -m benchmarks.compress.wild FOLDER --work DIR [--json FILE] [--methods dynamic-range float16]

FOLDER holds .keras files. edgedl compresses without data (these files come without any) and its own `verify` judges.
The peers get the model as `keras.saving.load_model` reads it, or where that fails tf_keras; their files are run on the
same random inputs, and the largest difference is told relative to the largest answer. tfmot's wrapped models are not
trained: "accepted" is all that is asked. One process a file; a tool that takes it down is a row.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.compress.compare import ROOT
from numpy.typing import NDArray

from edgedl.core.files import gzip_size, write_atomically

EXAMPLES = 50
LAYERS = "benchmarks.compress.wild_layers:CastAndClipLayer"
NEEDS_LAYERS = ("GRU.keras",)
METHODS = ("dynamic-range", "float16")
OPEN_AXIS = 16  # length of an axis that the file leaves open
TIME_LIMIT_S = 1800

Result = dict[str, Any]


def main() -> None:
    """All files, all tools."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with .keras files (one such file in a child process)")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), help="edgedl's")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        work_on(given.folder, given.work, given.methods)
        return
    found: dict[str, dict[str, Result]] = {}
    for path in sorted(given.folder.glob("*.keras")):
        found[path.name] = results_of(path, given.work.absolute() / path.stem[-40:], given.methods)
        print(f"{path.name}: done", file=sys.stderr, flush=True)
        if given.json:
            write_atomically(given.json, json.dumps(found, indent=1, ensure_ascii=False))
    print(table(found))


def results_of(path: Path, work: Path, methods: Sequence[str]) -> dict[str, Result]:
    """What every tool did with the file; a process that dies is begun again after the tool that killed it."""
    work.mkdir(parents=True, exist_ok=True)
    kept = work / "results.json"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "benchmarks.compress.wild", str(path.absolute()), "--work", str(work), "--child"]
    for _ in range(len(PEERS) + len(methods) + 1):
        ran = subprocess.run(
            [*command, "--methods", *methods],
            check=False,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            timeout=TIME_LIMIT_S,
        )
        if ran.returncode == 0:
            break
    return json.loads(kept.read_text())


def work_on(path: Path, work: Path, methods: Sequence[str]) -> None:
    """In the child: every tool that was not tried yet. What is being tried is written down first."""
    kept = work / "results.json"
    found: dict[str, Result] = json.loads(kept.read_text()) if kept.is_file() else {}
    tools: dict[str, Callable[[], Result]] = {
        f"edgedl {method}": lambda method=method: edgedl_result(path, work, method) for method in methods
    }
    tools |= {name: lambda peer=peer: peer_result(path, work, peer) for name, peer in PEERS.items()}
    for name, tool in tools.items():
        if name in found:
            continue
        found[name] = {"refused": "the process died"}
        write_atomically(kept, json.dumps(found))
        try:
            found[name] = tool()
        except Exception as error:  # whatever a tool raises is its answer
            first = next((line for line in str(error).splitlines() if line.strip()), "")
            found[name] = {"refused": f"{type(error).__name__}: {first.strip()}"[:300]}
        write_atomically(kept, json.dumps(found, ensure_ascii=False))


def edgedl_result(path: Path, work: Path, method: str) -> Result:
    """Compress, then verify."""
    import edgedl
    from edgedl.models import ModelFileSection

    objects = (LAYERS,) if path.name.endswith(NEEDS_LAYERS) else ()
    section = ModelFileSection(file=path, custom_objects=objects)
    made = edgedl.compress(section, method, out=work / "run")
    file = made.path(made.model_file)
    report = edgedl.verify(file, section)
    return {
        "bytes": made.size_bytes,
        "gzip": made.gzip_bytes,
        "float_bytes": made.float_size_bytes,
        "verified": report.passed,
        "error": max(one.relative_error for one in report.outputs),
        "judged_by": report.judged_by,
        "notes": list(made.notes),
    }


# --- peers -------------------------------------------------------------------------------------------------------


def load(path: Path) -> Any:
    """As Keras 3 reads it, or where it cannot, tf_keras."""
    import keras

    objects = {}
    if path.name.endswith(NEEDS_LAYERS):
        from benchmarks.compress.wild_layers import CastAndClipLayer3

        objects = {"CastAndClipLayer": CastAndClipLayer3}
    try:
        return keras.saving.load_model(path, custom_objects=objects, compile=False)
    except (TypeError, ValueError) as error:
        import tf_keras

        try:
            return tf_keras.models.load_model(path, compile=False)
        except Exception:
            raise error from None  # what Keras 3 said


def peer_result(path: Path, work: Path, peer: Callable[[Any, Path], Path | None]) -> Result:
    """The peer's file, run beside the Keras model; {} where the tool took the model but makes no file by itself."""
    model = load(path)
    folder = work / "peer"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    made = peer(model, folder)
    if made is None:
        return {"accepted": True}
    inputs = random_inputs(model)
    reference = np.asarray(model.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0)[: len(inputs[0])])
    return {
        "bytes": made.stat().st_size,
        "gzip": gzip_size(made),
        "error": float(np.abs(run(made, inputs) - reference).max() / np.abs(reference).max()),
    }


def random_inputs(model: Any) -> list[NDArray[np.float32]]:
    """Standard normal values for every input."""
    rng = np.random.default_rng(0)
    shapes = [[size or OPEN_AXIS for size in one.shape[1:]] for one in model.inputs]
    return [rng.standard_normal((EXAMPLES, *shape)).astype(np.float32) for shape in shapes]


def run(path: Path, inputs: list[NDArray[np.float32]]) -> NDArray[Any]:
    """The first output to every example."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    takes, gives = interpreter.get_input_details(), interpreter.get_output_details()[0]
    found = []
    for i in range(EXAMPLES):
        interpreter.reset_all_variables()
        for one, given in zip(takes, inputs, strict=True):
            interpreter.set_tensor(one["index"], given[i : i + 1].astype(one["dtype"]))
        interpreter.invoke()
        found.append(interpreter.get_tensor(gives["index"]).copy())
    return np.concatenate(found)


def converter_dynamic(model: Any, folder: Path) -> Path:
    """LiteRT's guide: from_keras_model, Optimize.DEFAULT."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    path = folder / "model.tflite"
    path.write_bytes(converter.convert())
    return path


def quantizer_dynamic(model: Any, folder: Path) -> Path:
    """ai-edge-quantizer's README: its dynamic recipe on the converter's float file."""
    import tensorflow as tf
    from ai_edge_quantizer import quantizer, recipe

    plain, path = folder / "float.tflite", folder / "model.tflite"
    plain.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    tool = quantizer.Quantizer(str(plain))
    tool.load_quantization_recipe(recipe.dynamic_wi8_afp32())
    tool.quantize().export_model(str(path))
    return path


def tfmot_qat(model: Any, folder: Path) -> None:
    """Quantization-aware training; accepted is all that is asked."""
    import tensorflow_model_optimization as mot

    check_wrapped(mot.quantization.keras.quantize_model(model))


def tfmot_prune(model: Any, folder: Path) -> None:
    """Pruning; accepted is all that is asked."""
    import tensorflow_model_optimization as mot

    check_wrapped(mot.sparsity.keras.prune_low_magnitude(model))


def tfmot_cluster(model: Any, folder: Path) -> None:
    """Clustering; accepted is all that is asked."""
    import tensorflow_model_optimization as mot

    start = mot.clustering.keras.CentroidInitialization.KMEANS_PLUS_PLUS
    settings = {"number_of_clusters": 16, "cluster_centroids_init": start}
    check_wrapped(mot.clustering.keras.cluster_weights(model, **settings))


def check_wrapped(model: Any) -> None:
    """What tfmot gave back has layers of tfmot's in it. Raises ValueError."""
    wrapped = [one for one in getattr(model, "layers", ()) if "tensorflow_model_optimization" in type(one).__module__]
    if not wrapped:
        raise ValueError(f"nothing was wrapped: tfmot gave back {type(model).__name__}")


PEERS: Mapping[str, Callable[[Any, Path], Path | None]] = {
    "TFLite dynamic range": converter_dynamic,
    "ai-edge-quantizer dynamic wi8": quantizer_dynamic,
    "tfmot QAT": tfmot_qat,
    "tfmot pruning": tfmot_prune,
    "tfmot clustering": tfmot_cluster,
}


# --- words -------------------------------------------------------------------------------------------------------


def table(found: Mapping[str, Mapping[str, Result]]) -> str:
    """Markdown: a line a file, a column a tool."""
    tools = list(dict.fromkeys(tool for results in found.values() for tool in results))
    lines = ["| file | float bytes | " + " | ".join(tools) + " |", "|---" * (len(tools) + 2) + "|"]
    for name, results in found.items():
        plain = next((one["float_bytes"] for one in results.values() if "float_bytes" in one), None)
        cells = [in_words(results.get(tool, {"refused": "not tried"})) for tool in tools]
        lines.append(f"| {name} | {f'{plain:,}' if plain else '–'} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def in_words(result: Result) -> str:
    """One cell."""
    if "refused" in result:
        return f"refused: {result['refused'][:90]}".replace("|", "/")
    if "bytes" not in result:
        return "accepted"
    verdict = {True: "verified", False: "NOT verified", None: ""}[result.get("verified")]
    return f"{result['bytes']:,} B, off by {result['error']:.1e} {verdict}".strip()


if __name__ == "__main__":
    main()
