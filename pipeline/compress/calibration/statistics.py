"""What every tensor of a float32 TFLite model does on the calibration examples, seen with LiteRT in a child process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.core.errors import ModelError
from edgedl.core.isolation import DEFAULT_LIMITS, Limits, run_isolated
from edgedl.core.tflite_schema import listed, op_names, read_tflite, text
from edgedl.pipeline.compress.calibration.ranges import Histogram, Sketch


@dataclass(frozen=True)
class TensorStatistics:
    """One float32 tensor of the primary subgraph over all examples.

    op, layer: what computes it ("" for an input of the model), and the Keras layer that the op came from. fused: the
    op's activation ("RELU6", "NONE"). output: whether it is an output of the model. first_half: smallest and largest
    value in every second example. lows, highs: by channel (last axis), shape (channels,); empty for a tensor without.
    """

    name: str
    op: str
    layer: str | None
    fused: str
    output: bool
    histogram: Histogram
    first_half: tuple[float, float]
    lows: NDArray[np.float32]
    highs: NDArray[np.float32]


def collect(
    model: Path | bytes,
    calibration: Path,
    *,
    name: str,
    layers: Sequence[str] = (),
    limits: Limits = DEFAULT_LIMITS,
) -> tuple[TensorStatistics, ...]:
    """Statistics of all float32 tensors that are computed or fed, in the order of the graph.

    model: a float32 .tflite file, or its content. calibration: .npz with one array (n, *shape) per input name. layers:
    names of the Keras layers. Tensors inside loops (other subgraphs) are not seen. Raises ModelError, StageError.
    """
    return run_isolated(
        _collect,
        model.read_bytes() if isinstance(model, Path) else model,
        calibration,
        tuple(layers),
        stage="calibration statistics",
        subject=name,
        nursery="runtime",
        limits=limits,
        advice="Use calibration method min-max, which TFLite's own calibrator does",
    )


@dataclass
class _Gatherer:
    """Statistics of one tensor while examples come in."""

    half: list[float] = field(default_factory=lambda: [np.inf, -np.inf])
    sketch: Sketch = field(default_factory=Sketch)
    lows: NDArray[np.float32] | None = None
    highs: NDArray[np.float32] | None = None

    def add(self, values: NDArray[np.float32], *, first_half: bool) -> None:
        self.sketch.add(values)
        by_channel = values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values.reshape(-1, 1)
        low, high = by_channel.min(axis=0), by_channel.max(axis=0)
        self.lows = low if self.lows is None else np.minimum(self.lows, low)
        self.highs = high if self.highs is None else np.maximum(self.highs, high)
        if first_half:
            self.half = [min(self.half[0], float(low.min())), max(self.half[1], float(high.max()))]


@dataclass(frozen=True)
class _Source:
    op: str
    layer: str | None
    fused: str


def _collect(content: bytes, calibration: Path, layers: tuple[str, ...]) -> tuple[TensorStatistics, ...]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    sources = _sources(content, layers)
    try:
        interpreter = Interpreter(
            model_content=content,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,  # a delegate hides tensors
        )
        interpreter.allocate_tensors()
        runner = interpreter.get_signature_runner()
    except (ValueError, RuntimeError) as error:
        raise ModelError("LiteRT cannot run the float32 model", received=str(error).strip()[:300]) from None
    with np.load(calibration, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    details = {one["index"]: one for one in interpreter.get_tensor_details() if one["dtype"] == np.float32}
    outputs = {one["index"] for one in interpreter.get_output_details()}
    gatherers = {index: _Gatherer() for index in sources if index in details}
    sizes = {key: int(one["shape"][0]) for key, one in runner.get_input_details().items()}
    for i in range(len(next(iter(arrays.values())))):
        # A file with a batch of several is fed the same example in each place.
        runner(**{key: np.repeat(array[i : i + 1], sizes[key], axis=0) for key, array in arrays.items()})
        for index, gatherer in gatherers.items():
            values = _tensor(interpreter, index)
            if values is not None and values.size:
                gatherer.add(values, first_half=i % 2 == 0)
    return tuple(
        _statistics(str(details[index]["name"]), sources[index], gatherer, output=index in outputs)
        for index, gatherer in gatherers.items()
        if gatherer.lows is not None
    )


def _tensor(interpreter: Any, index: int) -> NDArray[np.float32] | None:
    """A copy of the tensor's values; None where the runtime keeps none (an optional or unused one)."""
    try:
        return interpreter.get_tensor(index)
    except ValueError:
        return None


def _statistics(name: str, source: _Source, gatherer: _Gatherer, *, output: bool) -> TensorStatistics:
    assert gatherer.lows is not None and gatherer.highs is not None
    return TensorStatistics(
        name=name,
        op=source.op,
        layer=source.layer,
        fused=source.fused,
        output=output,
        histogram=gatherer.sketch.histogram(),
        first_half=(gatherer.half[0], gatherer.half[1]),
        lows=gatherer.lows,
        highs=gatherer.highs,
    )


def _sources(content: bytes, layers: Sequence[str]) -> Mapping[int, _Source]:
    """Tensor index → what it comes from, for inputs and for all that ops compute."""
    from ai_edge_litert import schema_py_generated as schema

    from edgedl.export.layers import layer_of

    model = read_tflite(content, "the float32 model")
    graph, names = model.subgraphs[0], op_names(model)
    activations = {value: key for key, value in vars(schema.ActivationFunctionType).items() if not key.startswith("_")}
    found = {int(index): _Source("", None, "NONE") for index in listed(graph.inputs)}
    for op in listed(graph.operators):
        fused = activations.get(getattr(op.builtinOptions, "fusedActivationFunction", 0), "NONE")
        constants = [index for index in listed(op.inputs) if index >= 0 and _is_constant(model, graph, index)]
        candidates = [text(graph.tensors[index].name) for index in [*listed(op.outputs)[:1], *constants]]
        layer = next((one for name in candidates if (one := layer_of(name, layers))), None)
        found.update({int(index): _Source(names[op.opcodeIndex], layer, fused) for index in listed(op.outputs)})
    return found


def _is_constant(model: Any, graph: Any, index: int) -> bool:
    data = model.buffers[graph.tensors[index].buffer].data
    return data is not None and len(data) > 0
