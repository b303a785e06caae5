"""What zeros bring in a TFLite file, and TFLite's sparse encoding, which does not store them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgedl.core.artifacts import TrainedModel
from edgedl.core.errors import ModelError, StageError
from edgedl.core.files import gzip_size, write_atomically
from edgedl.core.isolation import Limits, run_isolated
from edgedl.core.provenance import version_of
from edgedl.core.tflite_schema import read_tflite
from edgedl.export.inference import run_file
from edgedl.export.inspect import inspect_file
from edgedl.export.metadata import embed_metadata, metadata_of
from edgedl.export.verify import random_inputs


def finish_sparse(path: Path, model: TrainedModel, *, encode: bool, limits: Limits) -> tuple[str, ...]:
    """Encode the file's zeros if asked and if the runtime then gives the same answers; sentences with the bytes.

    model: what was converted; its contract goes with the file. Raises StageError when the converter crashes.
    """
    facts = inspect_file(path)
    raw, compressed = facts.size_bytes, facts.gzip_bytes
    zeros = f"{100 * facts.zeros / facts.parameters:.1f} % of the weights and biases" if facts.zeros else "the zeros"
    dense = (
        f"{zeros} are zero: {raw:,} B, as without pruning, and {compressed:,} B gzipped (measured): smaller only when "
        "compressed; dense kernels multiply by zeros too, so latency is as before"
    )
    if not encode:
        return (dense,)
    candidate = path.with_name(f"sparse-{path.name}")
    try:
        refusal = _encode(path, candidate, model, limits)
        if refusal:
            return (dense, f"not in sparse encoding: {refusal}")
        candidate.replace(path)
    finally:
        candidate.unlink(missing_ok=True)
    return (
        f"{zeros} are zero and not stored (sparse encoding): {path.stat().st_size:,} B instead of {raw:,} B, "
        f"{gzip_size(path):,} B gzipped instead of {compressed:,} B; LiteRT gives the same answers (measured) at the "
        "latency of dense kernels, for which it unpacks them at loading",
    )


def _encode(path: Path, target: Path, model: TrainedModel, limits: Limits) -> str:
    """Write the encoded file. Why it should not be used; "" where it may."""
    content = path.read_bytes()
    name = path.name
    found = run_isolated(
        _sparsified, content, stage="sparse encoding", subject=name, limits=limits, advice="Use encoding: dense"
    )
    described, _ = metadata_of(content, read_tflite(content, name))
    contract = model.contract
    written = embed_metadata(
        found,
        contract,
        name=described.name,
        description=contract.description,
        layers=model.layers,
        version=version_of("edgedl") or "",
    )
    if len(written) >= len(content):
        return f"it would take {len(written):,} B"
    write_atomically(target, written)
    inputs = random_inputs(contract, N, 0)
    before = run_file(path, inputs, limits=limits)
    try:
        after = run_file(target, inputs, limits=limits)
    except (ModelError, StageError) as error:
        return f"LiteRT cannot run it ({error})"
    for output, values in before.items():
        if not np.allclose(after[output], values, rtol=0.0, atol=SAME * float(np.abs(values).max(initial=0.0))):
            return f"LiteRT gives other answers at {output}"
    return ""


SAME = 1e-5
"""Outputs may differ by this share of the largest: sparse kernels add up in another order."""


N = 16
"""Number of random inputs on which the encoded file has to agree."""


def _sparsified(content: bytes) -> bytes:
    from tensorflow.lite.python.convert import mlir_sparsify

    found: Any = mlir_sparsify(content)
    return bytes(found)
