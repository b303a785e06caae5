"""Running an exported file on this host, for its answers (its speed is the business of devices/).

In a child process: an exported file can abort the runtime that loads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.core.errors import ModelError
from edgedl.core.isolation import DEFAULT_LIMITS, Limits, run_isolated

Arrays = dict[str, NDArray[Any]]


def run_file(path: Path, inputs: Mapping[str, NDArray[Any]], *, limits: Limits = DEFAULT_LIMITS) -> Arrays:
    """Outputs by name, shape (n, …) float32, for inputs by name, shape (n, …) in the units of the float model.

    path: a .tflite or .onnx file. Integer inputs and outputs are quantised and dequantised here, with the file's own
    scales. Raises ModelError when the runtime refuses the file, StageError when the file takes the runtime down.
    """
    return run_isolated(
        _run_file,
        path,
        dict(inputs),
        stage="inference",
        subject=path.name,
        nursery="runtime",
        limits=limits,
        advice="The runtime cannot run this file; `edgedl inspect` shows its ops",
    )


def run_keras(
    path: Path, inputs: Mapping[str, NDArray[Any]], *, half_weights: bool = False, limits: Limits = DEFAULT_LIMITS
) -> Arrays:
    """The same for a Keras file, in float32. half_weights: its weights are rounded to float16 first."""
    return run_isolated(
        _run_keras, path, dict(inputs), half_weights, stage="inference", subject=path.name, limits=limits,
        advice="Look at the model with `edgedl inspect`",
    )  # fmt: skip


def _run_keras(path: Path, inputs: Arrays, half_weights: bool) -> Arrays:
    from edgedl.models.load import load_keras

    model = load_keras(path)
    if half_weights:
        for weight in model.weights:
            values = weight.numpy()
            if values.dtype == np.float32 and np.abs(values).max(initial=0.0) < np.finfo(np.float16).max:
                weight.assign(values.astype(np.float16).astype(np.float32))
    _check_names(path, list(model.input_names), inputs)
    found: Any = model.predict([inputs[name] for name in model.input_names], verbose=0, batch_size=64)
    outputs = found if isinstance(found, list) else [found]
    return dict(zip(model.output_names, outputs, strict=True))


def _run_file(path: Path, inputs: Arrays) -> Arrays:
    session = open_file(path)
    _check_names(path, list(session.sizes), inputs)
    return _in_batches(session.invoke, inputs, session.sizes)


@dataclass(frozen=True)
class Session:
    """An opened file. invoke: outputs of one batch, in the float model's units. sizes: batch size by input name."""

    invoke: Callable[[Arrays], Arrays]
    sizes: Mapping[str, int]


def open_file(path: Path) -> Session:
    """A .tflite or .onnx file, ready to run in this process (call it in a child). Raises ModelError."""
    return _open_tflite(path) if path.suffix == ".tflite" else _open_onnx(path)


def _open_tflite(path: Path) -> Session:
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_path=str(path))
        interpreter.allocate_tensors()
        runner = interpreter.get_signature_runner()
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"LiteRT cannot run {path.name}", received=str(error).strip().splitlines()[0][:300]) from None
    takes, gives = runner.get_input_details(), runner.get_output_details()

    def invoke(batch: Arrays) -> Arrays:
        interpreter.reset_all_variables()  # a fused LSTM would go on from the last example's state
        stored = runner(**{name: _quantize(batch[name], details) for name, details in takes.items()})
        return {name: _dequantize(stored[name], details) for name, details in gives.items()}

    return Session(invoke, {name: int(details["shape"][0]) for name, details in takes.items()})


def _quantize(values: NDArray[Any], details: Mapping[str, Any]) -> NDArray[Any]:
    scale, zero_point = details["quantization"]
    dtype = np.dtype(details["dtype"])
    if not scale or not np.issubdtype(dtype, np.integer):
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.round(values / scale) + zero_point, limits.min, limits.max).astype(dtype)


def _dequantize(stored: NDArray[Any], details: Mapping[str, Any]) -> NDArray[Any]:
    scale, zero_point = details["quantization"]
    if not scale or not np.issubdtype(stored.dtype, np.integer):
        return stored
    return ((stored.astype(np.float32) - zero_point) * scale).astype(np.float32)


def _open_onnx(path: Path) -> Session:
    import onnxruntime

    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no public base
        raise ModelError(
            f"ONNX Runtime cannot run {path.name}", received=str(error).strip().splitlines()[0][:300]
        ) from None
    takes = {one.name: one for one in session.get_inputs()}
    names = [one.name for one in session.get_outputs()]
    types = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}

    def invoke(batch: Arrays) -> Arrays:
        feed = {name: batch[name].astype(types.get(one.type, batch[name].dtype)) for name, one in takes.items()}
        found: Any = session.run(names, feed)
        return dict(zip(names, found, strict=True))

    sizes = {name: one.shape[0] if isinstance(one.shape[0], int) else 64 for name, one in takes.items()}
    return Session(invoke, sizes)


def _check_names(path: Path, takes: list[str], inputs: Arrays) -> None:
    if set(takes) != set(inputs):
        raise ModelError(f"{path.name} has other inputs", required=", ".join(inputs), received=", ".join(takes))


def _in_batches(invoke: Callable[[Arrays], Arrays], inputs: Arrays, sizes: Mapping[str, int]) -> Arrays:
    """Feed n examples in batches of the file's static size; a last, smaller batch is filled up and cut."""
    n, size = len(next(iter(inputs.values()))), max(1, *map(int, sizes.values()))
    parts: list[Arrays] = []
    for start in range(0, n, size):
        batch = {name: array[start : start + size] for name, array in inputs.items()}
        missing = size - len(next(iter(batch.values())))
        if missing:
            batch = {name: np.concatenate([a, np.repeat(a[-1:], missing, axis=0)]) for name, a in batch.items()}
        parts.append({name: array[: size - missing].copy() for name, array in invoke(batch).items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
