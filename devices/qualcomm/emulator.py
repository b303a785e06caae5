"""One ONNX file in ONNX Runtime with Qualcomm's execution provider, whose x86 library emulates the tensor processor.

This runs native code on somebody's file: call it in a child process only (see `edgedl.core.isolation`).
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedl.core.artifacts import DeviceParity
from edgedl.core.errors import ModelError, UnavailableError
from edgedl.devices.onnx_runtime import input_type, static_shape
from edgedl.devices.parity import parity
from edgedl.devices.qualcomm.socs import Soc
from edgedl.devices.session import random_input

if TYPE_CHECKING:
    import onnxruntime
    from numpy.typing import NDArray

PACKAGE, MODULE = "onnxruntime-qnn", "onnxruntime_qnn"
MOST_EXAMPLES = 16

_ERRORS_ONLY = 3
_FATAL_ONLY = 4


@dataclass(frozen=True)
class Placed:
    """A node that ONNX Runtime gave to a provider, or the reason why Qualcomm's did not take it."""

    name: str
    op: str
    on_npu: bool
    reason: str = ""


@dataclass(frozen=True)
class Emulated:
    """What the emulator made of a file.

    context_bytes: size of the context binary; None where nothing runs on the NPU. built_for: the chip and architecture
    that it names. parity: with ONNX Runtime's CPU.
    """

    placed: tuple[Placed, ...]
    context_bytes: int | None
    built_for: tuple[str, int] | None
    parity: DeviceParity


def emulate(path: Path, soc: Soc, seed: int, seconds: float, folder: Path) -> Emulated:
    """Compile the file for the chip into `folder`, then run it and the CPU on the same random inputs for `seconds`.

    Raises ModelError when ONNX Runtime cannot load it for that chip or cannot run it, UnavailableError when the
    emulator does not start.
    """
    npu = _opened(path, soc, folder / "context.onnx", folder)
    placed = _placed(npu, folder)
    binary = next(folder.glob("*.bin"), None)
    size = binary.stat().st_size if binary else None
    return Emulated(placed, size, built_for(binary), _compare(path, npu, seed, seconds))


def compile_for(path: Path, soc: Soc, target: Path, folder: Path) -> bool:
    """Write `target`, an ONNX file around the context binary that it names, which lies beside it. folder: for the rest.

    False where nothing of the file runs on the NPU, so there is no binary. Raises as `emulate`.
    """
    _opened(path, soc, target, folder)
    return target.exists()


def _opened(path: Path, soc: Soc, context: Path, folder: Path) -> onnxruntime.InferenceSession:
    """The file compiled for the chip, its context binary written, the provider's trace in `folder`."""
    import onnxruntime
    import onnxruntime_qnn

    onnxruntime.set_default_logger_severity(_FATAL_ONLY)
    name = onnxruntime_qnn.get_ep_name()  # the provider answers to no other
    onnxruntime.register_execution_provider_library(name, onnxruntime_qnn.get_library_path())
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    for key, value in {
        "session.record_ep_graph_assignment_info": "1",
        "ep.context_enable": "1",
        "ep.context_embed_mode": "0",
        "ep.context_file_path": str(context),
    }.items():
        options.add_session_config_entry(key, value)
    settings = {
        "backend_path": onnxruntime_qnn.get_qnn_htp_path(),
        "soc_model": str(soc.soc_model),
        "enable_framework_op_trace": "1",
        "framework_op_trace_dir": str(folder),
    }
    devices = [one for one in onnxruntime.get_ep_devices() if one.ep_name == name]
    if not devices:
        raise UnavailableError("Qualcomm's execution provider offers no device here", required="x86-64 Linux")
    options.add_provider_for_devices(devices[:1], settings)
    try:
        session = onnxruntime.InferenceSession(path, options)
    except Exception as error:  # its exceptions have no common base
        raise _refusal(path, soc, error) from None
    if not (folder / _TRACE).exists():
        raise UnavailableError(
            f"Qualcomm's emulator does not start for {soc.soc_type}",
            required=f"{PACKAGE} that knows chip number {soc.soc_model}",
            advice=f"Update {PACKAGE}",
        )
    return session


_TRACE = "qnn_op_trace.json"


def _refusal(path: Path, soc: Soc, error: Exception) -> ModelError:
    reason = " ".join(str(error).split()).removeprefix("[ONNXRuntimeError] : ")
    advice = None
    if not soc.float16:
        advice = f"The tensor processor of {soc.soc_type} takes integers only: use an int8 ONNX file (QDQ)"
    return ModelError(f"{path.name} does not load on {soc.words}", received=reason[:300], advice=advice)


def _placed(session: Any, folder: Path) -> tuple[Placed, ...]:
    """Every node as ONNX Runtime placed it, with the reason from the provider's own trace."""
    trace = json.loads((folder / _TRACE).read_text())
    reasons = {plain_name(node["node_name"]): node["reason"] for node in trace["unsupported_nodes"]}
    return tuple(
        Placed(
            plain_name(node.name),
            node.op_type,
            on_npu := part.ep_name != "CPUExecutionProvider",
            "" if on_npu else reasons.get(plain_name(node.name), ""),
        )
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    )


def plain_name(name: str) -> str:
    """A node's name as in the file: ONNX Runtime adds `_token_7` where it changes the layout."""
    return re.sub(r"_token_\d+$", "", name)


def built_for(binary: Path | None) -> tuple[str, int] | None:
    """The chip and architecture that a context binary names in its configuration; None where it names none."""
    found = re.search(rb"soc_type=(\w+);arch=(\d+)", binary.read_bytes()) if binary else None
    return (found[1].decode(), int(found[2])) if found else None


# --- accuracy ----------------------------------------------------------------------------------------------------


def _compare(path: Path, npu: Any, seed: int, seconds: float) -> DeviceParity:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    deadline = time.monotonic() + seconds
    expected: list[list[NDArray[Any]]] = []
    got: list[list[NDArray[Any]]] = []
    try:
        cpu: Any = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        inputs = cpu.get_inputs()
        while not got or (len(got) < MOST_EXAMPLES and time.monotonic() < deadline):
            first = seed + len(got) * len(inputs)
            feed = {
                one.name: random_input(static_shape(one.shape), input_type(one, path.name), first + index)
                for index, one in enumerate(inputs)
            }
            expected.append(list(cpu.run(None, feed)))
            got.append(list(npu.run(None, feed)))
    except ModelError:
        raise
    except Exception as error:  # its exceptions have no common base
        reason = " ".join(str(error).split()).removeprefix("[ONNXRuntimeError] : ")
        raise ModelError(f"ONNX Runtime cannot run {path.name}", received=reason[:300]) from None
    names = [one.name for one in cpu.get_outputs()]
    against = f"ONNX Runtime {onnxruntime.__version__} on this computer's CPU"
    return parity("the file's types", against, names, got, expected)
