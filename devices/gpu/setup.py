"""`edgedl devices setup gpu`: ONNX Runtime for WebGPU, in a folder of its own.

It has the module name of the ONNX Runtime that edgedl measures the CPU with, so the two cannot share an environment.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from edgedl.devices.gpu import onnx_gpu
from edgedl.devices.native.runtime import pip


def set_up() -> list[str]:
    """Bring it, where it is missing; a sentence for each thing done. Raises StageError with pip's first error."""
    if found := onnx_gpu.build():
        return [f"{found.words} is there"]
    target = onnx_gpu.webgpu_folder()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        partial = Path(folder) / "packages"
        wanted = f"onnxruntime-webgpu=={onnx_gpu.WEBGPU_VERSION}"
        pip("install", "--no-deps", "--only-binary", ":all:", "--target", str(partial), wanted)
        try:
            partial.rename(target)
        except OSError:  # another edgedl was faster
            if not target.is_dir():
                raise
    return [f"ONNX Runtime {onnx_gpu.WEBGPU_VERSION} for WebGPU is in {target}"]
