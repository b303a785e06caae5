"""TFLite files in LiteRT: the C API of `libLiteRt.so` (from the ai-edge-litert wheel) through ctypes.

The C API is what an Android or iOS app links, and it alone gives times per op. One thing it refuses, models that
keep state in variable tensors (LSTMs), runs in the wheel's Python `Interpreter` instead, with a note.

Everything here runs native code on somebody's file: call it in a child process only (see `edgedl.core.isolation`).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import os
import stat
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedl.core.errors import ModelError, UnavailableError
from edgedl.core.provenance import version_of
from edgedl.devices.session import OpTimes, Session, random_input

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = "LiteRT"
PACKAGE = "ai-edge-litert"
MODULE = "ai_edge_litert"
UNSUPPORTED = 5

STATUS = {  # litert_common.h
    1: "invalid argument", 2: "out of memory", 3: "runtime failure", 4: "missing input tensor", 5: "unsupported",
    6: "not found", 7: "timeout", 8: "wrong version", 9: "unknown", 10: "already exists", 100: "cancelled",
    500: "file I/O", 501: "invalid flatbuffer", 502: "dynamic loading", 503: "serialization", 504: "compilation",
    1000: "index out of bounds", 1001: "invalid type", 1002: "invalid graph", 1003: "graph modification",
    5000: "unsupported shape inference", 5001: "shape inference failed",
}  # fmt: skip
_DTYPES = {  # litert_model_types.h, the types that an app can feed
    1: "float32", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8", 10: "float16",
    11: "float64", 13: "uint64", 16: "uint32", 17: "uint16",
}  # fmt: skip
CPU, GPU = 1, 2
_READ, _WRITE = 0, 1


class _Layout(ctypes.Structure):
    _fields_ = (("bits", ctypes.c_uint32), ("dims", ctypes.c_int32 * 8), ("strides", ctypes.c_uint32 * 8))

    @property
    def rank(self) -> int:
        return self.bits & 0x7F


class _TensorType(ctypes.Structure):
    _fields_ = (("element_type", ctypes.c_int32), ("layout", _Layout))


class _MemoryUsage(ctypes.Structure):
    _fields_ = (("resident", ctypes.c_size_t), ("total", ctypes.c_size_t), ("in_use", ctypes.c_size_t))


class _Event(ctypes.Structure):
    _fields_ = (
        ("tag", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory_before", _MemoryUsage),
        ("memory_after", _MemoryUsage),
        ("index", ctypes.c_uint64),
        ("subgraph", ctypes.c_uint64),
        ("source", ctypes.c_int),
    )


_Handle, _Size = ctypes.c_void_p, ctypes.c_size_t
_HandleOut = ctypes.POINTER(ctypes.c_void_p)
_Release = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_keep = _Release(lambda _: None)  # option texts belong to Python

_FUNCTIONS: dict[str, tuple[Any, ...]] = {  # arguments; every one returns a status
    "CreateEnvironment": (ctypes.c_int, ctypes.c_void_p, _HandleOut),
    "CreateModelFromFile": (_Handle, ctypes.c_char_p, _HandleOut),
    "CreateOptions": (_HandleOut,),
    "SetOptionsHardwareAccelerators": (_Handle, ctypes.c_int),
    "CreateOpaqueOptions": (ctypes.c_char_p, ctypes.c_void_p, _Release, _HandleOut),
    "AddOpaqueOptions": (_Handle, _Handle),
    "CreateCompiledModel": (_Handle, _Handle, _Handle, _HandleOut),
    "CompiledModelIsNonCpuFullyAccelerated": (_Handle, ctypes.POINTER(ctypes.c_bool)),
    "GetModelSignature": (_Handle, _Size, _HandleOut),
    "GetNumSignatureInputs": (_Handle, ctypes.POINTER(_Size)),
    "GetNumSignatureOutputs": (_Handle, ctypes.POINTER(_Size)),
    "GetSignatureInputTensorByIndex": (_Handle, _Size, _HandleOut),
    "GetSignatureOutputTensorByIndex": (_Handle, _Size, _HandleOut),
    "GetRankedTensorType": (_Handle, ctypes.POINTER(_TensorType)),
    "GetCompiledModelInputBufferRequirements": (_Handle, _Size, _Size, _HandleOut),
    "GetCompiledModelOutputBufferRequirements": (_Handle, _Size, _Size, _HandleOut),
    "CreateManagedTensorBufferFromRequirements": (_Handle, ctypes.POINTER(_TensorType), _Handle, _HandleOut),
    "GetTensorBufferPackedSize": (_Handle, ctypes.POINTER(_Size)),
    "LockTensorBuffer": (_Handle, _HandleOut, ctypes.c_int),
    "UnlockTensorBuffer": (_Handle,),
    "RunCompiledModel": (_Handle, _Size, _Size, _HandleOut, _Size, _HandleOut),
    "CompiledModelGetProfiler": (_Handle, _HandleOut),
    "ResetProfiler": (_Handle,),
    "StartProfiler": (_Handle,),
    "StopProfiler": (_Handle,),
    "GetNumProfilerEvents": (_Handle, ctypes.POINTER(ctypes.c_int)),
    "GetProfilerEvents": (_Handle, ctypes.c_int, ctypes.POINTER(_Event)),
}
_RELEASES = ("CompiledModel", "Options", "Model", "Environment", "TensorBuffer")


class LiteRtError(Exception):
    """A call of the C API that failed: its status, and what the runtime said on standard error."""

    def __init__(self, function: str, status: int) -> None:
        super().__init__(f"{function}: {STATUS.get(status, f'status {status}')}")
        self.status = status


def version() -> str:
    """The installed runtime, e.g. "LiteRT 2.3.0"."""
    return f"{NAME} {version_of(PACKAGE)}"


def runtime_words(interface: str = "CompiledModel", *, xnnpack: bool) -> str:
    """What a file ran in, as a `ModelLatency` says it."""
    return f"{version()} {interface}, {'XNNPACK' if xnnpack else 'built-in kernels'}"


def load_runtime() -> None:
    """Load the library and create what it needs before any model; the price of having LiteRT in a process."""
    _environment()


@functools.cache
def _library() -> ctypes.CDLL:
    found = importlib.util.find_spec(MODULE)
    places = list(found.submodule_search_locations or ()) if found else []
    path = next((file for place in places if (file := Path(place, "libLiteRt.so")).exists()), None)
    if path is None:
        raise UnavailableError(f"LiteRT is not installed in {PACKAGE}", advice=f"`pip install {PACKAGE}` brings it")
    library = ctypes.CDLL(str(path))
    for name, arguments in _FUNCTIONS.items():
        function = getattr(library, f"LiteRt{name}")
        function.argtypes, function.restype = arguments, ctypes.c_int
    for name in _RELEASES:
        function = getattr(library, f"LiteRtDestroy{name}")
        function.argtypes, function.restype = (_Handle,), None
    return library


def _call(name: str, *arguments: Any) -> None:
    status = getattr(_library(), f"LiteRt{name}")(*arguments)
    if status:
        raise LiteRtError(name, status)


def _made(name: str, *arguments: Any) -> ctypes.c_void_p:
    """The handle that a function leaves in its last argument."""
    handle = ctypes.c_void_p()
    _call(name, *arguments, ctypes.byref(handle))
    return handle


def _count(name: str, *arguments: Any) -> int:
    number = _Size()
    _call(name, *arguments, ctypes.byref(number))
    return number.value


@functools.cache
def _environment() -> ctypes.c_void_p:
    return _made("CreateEnvironment", 0, None)


# --- sessions ----------------------------------------------------------------------------------------------------


def open_session(path: Path, *, threads: int, xnnpack: bool, seed: int) -> Session:
    """Load a TFLite file, ready to be invoked on random inputs. Raises ModelError when LiteRT cannot run it."""
    with runtime_errors(path):
        try:
            return CompiledModel(path, threads=threads, xnnpack=xnnpack, seed=seed)
        except LiteRtError as error:
            if error.status != UNSUPPORTED:
                raise
            return InterpreterModel(path, threads=threads, xnnpack=xnnpack, seed=seed)


def profile_ops(path: Path, *, threads: int, xnnpack: bool, seed: int, seconds: float) -> OpTimes:
    """Time every op of the file, for about `seconds`. Raises ModelError when LiteRT cannot run it."""
    from edgedl.devices import litert_ops

    with runtime_errors(path):
        try:
            model = CompiledModel(path, threads=threads, xnnpack=xnnpack, seed=seed, profiling=True)
        except LiteRtError as error:
            if error.status != UNSUPPORTED:
                raise
            return OpTimes((), ("no times per op: LiteRT's Interpreter does not give them",))
        runs = _profile(model, seconds)
        model.close()
    return litert_ops.tie(runs, litert_ops.read_graph(path))


def _profile(model: CompiledModel, seconds: float) -> list[list[tuple[int, int, int, str, int]]]:
    """Events (type, index, subgraph, tag, µs) of each profiled run, at least three of them after a first one."""
    model.invoke()
    deadline, runs = time.monotonic() + seconds, []
    while len(runs) < 3 or (time.monotonic() < deadline and len(runs) < 400):
        runs.append(model.profiled_invoke())
    return runs


class CompiledModel:
    """A model in LiteRT's `CompiledModel`, with its input and output buffers.

    accelerators: bits of `CPU` and `GPU`. gpu: options of its GPU path, as its option text has them.
    """

    notes: tuple[str, ...] = ()

    def __init__(
        self,
        path: Path,
        *,
        threads: int,
        xnnpack: bool,
        seed: int,
        profiling: bool = False,
        accelerators: int = CPU,
        gpu: str = "",
    ) -> None:
        self._path = path
        self.runtime = runtime_words(xnnpack=xnnpack)
        texts = {
            b"xnnpack": f'kernel_mode = "{"delegate" if xnnpack else "builtin"}"\nnum_threads = {threads}\n',
            b"runtime_options_string": f"enable_profiling = {'true' if profiling else 'false'}\n",
        }
        if accelerators & GPU:
            texts[b"gpu_options"] = gpu
        self._texts = [ctypes.create_string_buffer(text.encode()) for text in texts.values()]
        self._model = _made("CreateModelFromFile", _environment(), os.fsencode(path))
        options = _made("CreateOptions")
        _call("SetOptionsHardwareAccelerators", options, accelerators)
        for kind, text in zip(texts, self._texts, strict=True):
            opaque = _made("CreateOpaqueOptions", kind, ctypes.cast(text, ctypes.c_void_p), _keep)
            _call("AddOpaqueOptions", options, opaque)
        self._compiled = _made("CreateCompiledModel", _environment(), self._model, options)
        _library().LiteRtDestroyOptions(options)
        signature = _made("GetModelSignature", self._model, 0)
        self._inputs, self._input_types = self._buffers(signature, "Input")
        self._outputs, self._output_types = self._buffers(signature, "Output")
        self.fill(seed)
        arguments = self._compiled, 0, len(self._inputs), self._inputs, len(self._outputs), self._outputs
        self._run: Callable[[], int] = functools.partial(_library().LiteRtRunCompiledModel, *arguments)

    def _buffers(self, signature: ctypes.c_void_p, side: str) -> tuple[Any, list[_TensorType]]:
        count = _count(f"GetNumSignature{side}s", signature)
        buffers, types = (ctypes.c_void_p * count)(), []
        for index in range(count):
            kind = _TensorType()
            tensor = _made(f"GetSignature{side}TensorByIndex", signature, index)
            _call("GetRankedTensorType", tensor, ctypes.byref(kind))
            for axis, size in enumerate(_shape(kind)):  # a dynamic axis (-1) is measured at 1
                kind.layout.dims[axis] = max(size, 1)
            needs = _made(f"GetCompiledModel{side}BufferRequirements", self._compiled, 0, index)
            buffers[index] = _made(
                "CreateManagedTensorBufferFromRequirements", _environment(), ctypes.byref(kind), needs
            ).value
            types.append(kind)
        return buffers, types

    def fill(self, seed: int) -> None:
        """Give it the random inputs of another seed."""
        for index, kind in enumerate(self._input_types):
            self._fill(index, random_input(_shape(kind), _dtype(kind, self._path), seed + index))

    def _fill(self, index: int, value: NDArray[Any]) -> None:
        with _locked(self._inputs[index], _WRITE) as (address, size):
            data = value.tobytes()
            if len(data) != size:
                raise ModelError("an input of the model is not stored densely", received=f"{size} bytes")
            ctypes.memmove(address, data, size)

    def invoke(self) -> None:
        """Run one inference."""
        status = self._run()
        if status:
            raise _refusal(self._path, said(), LiteRtError("RunCompiledModel", status))

    def outputs(self) -> list[NDArray[Any]]:
        """What the last inference gave, in the order of the signature."""
        import numpy as np

        found: list[NDArray[Any]] = []
        for buffer, kind in zip(self._outputs, self._output_types, strict=True):
            with _locked(buffer, _READ) as (address, size):
                stored = np.frombuffer(ctypes.string_at(address, size), dtype=_DTYPES[kind.element_type])
                found.append(stored.reshape(_shape(kind)))
        return found

    def fetch(self) -> None:
        """Have the outputs where this process can read them; waits for a device that has not finished."""
        for buffer in self._outputs:
            with _locked(buffer, _READ):
                pass

    def profiled_invoke(self) -> list[tuple[int, int, int, str, int]]:
        """Run one inference; (event type, index, subgraph, tag, µs) of what LiteRT's profiler saw in it."""
        profiler = self.start_profiling()
        self.invoke()
        return self.stop_profiling(profiler)

    def start_profiling(self) -> ctypes.c_void_p:
        """Have the profiler see what runs from now on."""
        profiler = _made("CompiledModelGetProfiler", self._compiled)
        _call("ResetProfiler", profiler)
        _call("StartProfiler", profiler)
        return profiler

    def stop_profiling(self, profiler: ctypes.c_void_p) -> list[tuple[int, int, int, str, int]]:
        """What the profiler saw since it was started, an inference that failed included."""
        _call("StopProfiler", profiler)
        number = ctypes.c_int()
        _call("GetNumProfilerEvents", profiler, ctypes.byref(number))
        events = (_Event * number.value)()
        _call("GetProfilerEvents", profiler, number.value, events)
        return [(e.type, e.index, e.subgraph, e.tag.decode(errors="replace"), e.elapsed_us) for e in events]

    def is_fully_on_gpu(self) -> bool:
        """Whether no op is left to the CPU."""
        answer = ctypes.c_bool()
        _call("CompiledModelIsNonCpuFullyAccelerated", self._compiled, ctypes.byref(answer))
        return answer.value

    def close(self) -> None:
        """Release the model and its buffers."""
        for buffer in (*self._inputs, *self._outputs):
            _library().LiteRtDestroyTensorBuffer(buffer)
        _library().LiteRtDestroyCompiledModel(self._compiled)
        _library().LiteRtDestroyModel(self._model)


class InterpreterModel:
    """A model with state, in the wheel's Python Interpreter (the C API's loader refuses variable tensors)."""

    on = "Interpreter"
    notes: tuple[str, ...] = (
        "holds state in variable tensors, which LiteRT's CompiledModel refuses: ran in its Interpreter",
    )

    def __init__(
        self, path: Path, *, threads: int, xnnpack: bool, seed: int, delegates: Sequence[Any] | None = None
    ) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._path = path
        kernels = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        self.runtime = runtime_words(self.on, xnnpack=xnnpack)
        try:
            self._interpreter = Interpreter(
                str(path),
                num_threads=threads,
                experimental_op_resolver_type=kernels,
                experimental_delegates=delegates,
            )
            self._interpreter.allocate_tensors()
            for index, tensor in enumerate(self._interpreter.get_input_details()):
                value = random_input(tuple(tensor["shape"]), tensor["dtype"].__name__, seed + index)
                self._interpreter.set_tensor(tensor["index"], value)
        except (RuntimeError, ValueError) as error:
            raise self._refused(error) from None

    def _refused(self, error: Exception) -> ModelError:
        return ModelError(f"LiteRT cannot run {self._path.name}", received=" ".join(str(error).split()))

    def invoke(self) -> None:
        """Run one inference."""
        try:
            self._interpreter.invoke()
        except RuntimeError as error:
            raise self._refused(error) from None

    def outputs(self) -> list[NDArray[Any]]:
        """What the last inference gave."""
        return [self._interpreter.get_tensor(t["index"]) for t in self._interpreter.get_output_details()]

    def close(self) -> None:
        """Release the model."""
        del self._interpreter


def _shape(kind: _TensorType) -> tuple[int, ...]:
    return tuple(kind.layout.dims[: kind.layout.rank])


def _dtype(kind: _TensorType, path: Path) -> str:
    if kind.element_type not in _DTYPES:
        raise ModelError(
            f"an input of {path.name} has a type that cannot be fed",
            required=f"one of {', '.join(sorted(_DTYPES.values()))}",
            received=f"LiteRT's element type {kind.element_type}",
        )
    return _DTYPES[kind.element_type]


@contextlib.contextmanager
def _locked(buffer: int, mode: int) -> Generator[tuple[int, int]]:
    """Address and size in bytes of a tensor's memory."""
    handle = ctypes.c_void_p(buffer)
    size = _count("GetTensorBufferPackedSize", handle)
    address = ctypes.c_void_p()
    _call("LockTensorBuffer", handle, ctypes.byref(address), mode)
    try:
        yield address.value or 0, size
    finally:
        _call("UnlockTensorBuffer", handle)


# --- what the runtime says ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def runtime_errors(path: Path) -> Generator[None]:
    """Turn a failure of the runtime into one ModelError with the reason that it gave on standard error."""
    before = len(said())
    try:
        yield
    except LiteRtError as error:
        raise _refusal(path, said()[before:], error) from None


def said() -> str:
    """What native code has written to standard error, where that is a file (as it is in an isolated child)."""
    if not stat.S_ISREG(os.fstat(2).st_mode):
        return ""
    return Path("/proc/self/fd/2").read_bytes().decode(errors="replace")


def reason_in(said: str) -> str:
    """The first error line that says more than where in LiteRT's source it was raised; "" without one."""
    lines = [line.removeprefix("ERROR: ").strip() for line in said.splitlines() if line.startswith("ERROR: ")]
    return next((line for line in lines if not line.startswith("[")), lines[0] if lines else "")


def _refusal(path: Path, said: str, error: LiteRtError) -> ModelError:
    """The file and the reason."""
    reason = reason_in(said)
    return ModelError(f"LiteRT cannot run {path.name}", received=f"{reason} ({error})" if reason else str(error))
