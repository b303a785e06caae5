"""ONNX files in ONNX Runtime's CUDA or WebGPU execution provider.

Both are builds of ONNX Runtime under the same module name as the one for the CPU. `onnxruntime-gpu` is used where it is
installed in place of `onnxruntime`; the WebGPU build stands in a folder of edgedl's cache (`edgedl devices setup gpu`).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedl.core.artifacts import DeviceParity
from edgedl.core.errors import UnavailableError
from edgedl.core.provenance import version_of
from edgedl.devices import litert, onnx_runtime
from edgedl.devices.gpu import vulkan
from edgedl.devices.gpu.placement import Place
from edgedl.devices.native import cache_folder
from edgedl.devices.onnx_runtime import Node, OnnxModel, owner, read_graph
from edgedl.devices.parity import EXAMPLES, Outputs, parity
from edgedl.devices.session import Session

CUDA, WEBGPU, CPU = "CUDAExecutionProvider", "WebGpuExecutionProvider", "CPUExecutionProvider"
PACKAGES = {"onnxruntime-gpu": CUDA, "onnxruntime-webgpu": WEBGPU}
WEBGPU_VERSION = "1.27.0"
NO_KERNEL = "a part of another op, or computed when the file is loaded: no kernel of its own ran"
_INFORMATION = 1


@dataclass(frozen=True)
class OnnxBuild:
    """A build of ONNX Runtime with a GPU provider. folder: where its package is, None in this environment."""

    provider: str
    version: str
    folder: Path | None = None

    @property
    def words(self) -> str:
        """ "ONNX Runtime 1.27.0 WebGPU" """
        return f"{onnx_runtime.NAME} {self.version} {'CUDA' if self.provider == CUDA else 'WebGPU'}"


@dataclass(frozen=True)
class SeenOnnx:
    """What ONNX Runtime did with one file. adapters: those that the provider could choose from; empty for CUDA."""

    adapters: tuple[vulkan.Adapter, ...]
    ran: Ran
    parity: DeviceParity


@dataclass(frozen=True)
class Ran:
    """Where the nodes ran. places: by node of the file. copies: between GPU and CPU, in one inference. untied: kinds of
    kernels that are of no one node of the file, with their places."""

    places: tuple[Place, ...]
    copies: int
    untied: tuple[tuple[str, str], ...]


def webgpu_folder() -> Path:
    """Where the WebGPU build is, or would be put."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return cache_folder() / f"onnxruntime-webgpu-{WEBGPU_VERSION}-python{python}"


def build() -> OnnxBuild | None:
    """The build to use, None where there is none. Imports nothing."""
    for package, provider in PACKAGES.items():
        if version := version_of(package):
            return OnnxBuild(provider, version)
    folder = webgpu_folder()
    return OnnxBuild(WEBGPU, WEBGPU_VERSION, folder) if folder.is_dir() else None


def needed() -> OnnxBuild:
    """The build to use. Raises UnavailableError with what brings one."""
    if found := build():
        return found
    raise UnavailableError(
        "there is no ONNX Runtime for GPUs here, which .onnx files need",
        required=" or ".join(PACKAGES),
        received=f"{onnx_runtime.PACKAGE} {version_of(onnx_runtime.PACKAGE)}, for the CPU",
        advice="`edgedl devices setup gpu` brings the one for WebGPU; for CUDA, `pip install onnxruntime-gpu` in place "
        "of onnxruntime",
    )


def use(chosen: OnnxBuild) -> None:
    """Have this process import that build; ahead of the first import of onnxruntime."""
    if chosen.folder is not None:
        sys.path.insert(0, str(chosen.folder))


def load_runtime() -> None:
    """Load the build that `use` chose."""
    onnx_runtime.load_runtime()


def open_session(path: Path, *, threads: int, xnnpack: bool, seed: int) -> Session:
    """Load an ONNX file for the GPU. An inference ends when the outputs are back on the CPU, where they are bound."""
    del xnnpack
    return _model(path, threads, seed)


def _model(path: Path, threads: int, seed: int, **settings: Any) -> OnnxModel:
    import onnxruntime

    available = onnxruntime.get_available_providers()
    provider = next((name for name in (CUDA, WEBGPU) if name in available), None)
    if provider is None:
        raise UnavailableError("this ONNX Runtime has no GPU provider", received=", ".join(available))
    options = onnx_runtime.session_options(threads)
    for name, value in settings.items():
        setattr(options, name, value)
    model = OnnxModel(path, options, seed, (provider, CPU))
    if provider not in model.providers:
        raise UnavailableError(
            f"ONNX Runtime's {provider} does not start here", received=onnx_runtime.reason_in(litert.said())
        )
    return model


def examine(
    path: Path,
    names: Sequence[str],
    threads: int,
    seed: int,
    drivers: vulkan.Drivers,
    chosen: OnnxBuild,
    folder: Path,
) -> SeenOnnx:
    """Run the file on GPU and CPU: where each node ran, and how far the outputs are apart.

    names: of the outputs. folder: for the profile.
    """
    found: list[vulkan.Adapter] = []
    if chosen.provider == WEBGPU:
        found = vulkan.ready(drivers)
    use(chosen)
    load_runtime()
    settings = {
        "enable_profiling": True,
        "profile_file_prefix": str(folder / "profile"),
        "optimized_model_filepath": str(folder / "optimized.onnx"),
        "log_severity_level": _INFORMATION,
    }
    model = _model(path, threads, seed, **settings)
    outputs = _outputs(model, seed)
    events = json.loads(Path(model.end_profiling()).read_text())
    model.close()
    expected = _outputs(OnnxModel(path, onnx_runtime.session_options(threads), seed), seed)
    ran = place(read_graph(path), read_graph(folder / "optimized.onnx"), events, reasons(litert.said()))
    against = f"{onnx_runtime.NAME} {chosen.version} on this computer's CPU"
    return SeenOnnx(tuple(found), ran, parity("the file's types", against, names, outputs, expected))


def _outputs(model: OnnxModel, seed: int) -> Outputs:
    found: Outputs = []
    for example in range(EXAMPLES):
        model.fill(seed + 1000 * example)
        model.invoke()
        found.append(model.outputs())
    return found


def reasons(said: str) -> dict[str, str]:
    """Why nodes, by name, are not on the GPU, as ONNX Runtime's log has it."""
    found: dict[str, str] = {}
    for kind, name in re.findall(r"kernel not found in registries for Op type: (\S+) node name: (.*)", said):
        found[name.strip()] = f"the provider has no kernel for this {kind} (op, version and types)"
    for name in re.findall(r"orce fallback to CPU execution for node: (.+?) because", said):
        found[name.strip()] = "ONNX Runtime deems the CPU faster for it, overhead included"
    return found


def place(
    nodes: Sequence[Node], optimized: Sequence[Node], events: Sequence[Mapping[str, Any]], why: Mapping[str, str]
) -> Ran:
    """Where each node of the file ran, from the profile (Chrome trace events) of some inferences.

    A kernel is of the node that it computes, and of the one whose output it leaves (the Relu of a Conv + Relu).
    """
    executed = {node.name: node for node in optimized}
    makers = {tensor: node.index for node in nodes for tensor in node.outputs}
    providers: dict[int, set[str]] = {}
    untied: dict[str, tuple[str, str]] = {}
    copies: set[str] = set()
    for event in events:
        name, arguments = str(event["name"]).removesuffix("_kernel_time"), event.get("args", {})
        if event.get("cat") != "Node" or name == event["name"]:
            continue
        kind, provider = str(arguments["op_name"]), str(arguments.get("provider", ""))
        if kind.startswith("Memcpy"):
            copies.add(name)
            continue
        node = executed.get(name)
        tied = {owner(re.sub(r"_token_\d+$", "", name), kind, node, nodes)}
        tied |= {makers.get(tensor) for tensor in (node.outputs if node else ())}
        for index in tied:
            if index is not None:
                providers.setdefault(index, set()).add(provider)
        if tied == {None}:
            untied[name] = (kind, "cpu" if provider == CPU else "gpu")
    places = [
        Place("", NO_KERNEL)
        if not (ran := providers.get(node.index))
        else Place("cpu", why.get(node.name, ""))
        if ran == {CPU}
        else Place("gpu")
        for node in nodes
    ]
    return Ran(tuple(places), len(copies), tuple(untied.values()))
