"""Which model families run in which format and precision: trained, converted, compared with Keras, and timed here.

    python benchmarks/support_matrix.py [NAME …]      rows are the recipes of examples/zoo (all, or those named)

Every cell is done by the same stages as `edgedl run`; one that fails does not stop the others. Results are kept in
docs/support-matrix.json, so that rows can be done again one by one, and written as docs/support-matrix.md.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from edgedl.core.artifacts import CompressedModel, ExportedModel
from edgedl.core.errors import EdgedlError
from edgedl.export.verify import MOST_ROUNDING, TOLERANCES
from edgedl.pipeline.compress.stage import compress_stage
from edgedl.pipeline.export import export_stage
from edgedl.pipeline.profile import profile
from edgedl.pipeline.verbs import Work, as_technique, open_model, train
from edgedl.pipeline.verify import verify_stage

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "examples" / "zoo"
KEPT = ROOT / "docs" / "support-matrix.json"
PAGE = ROOT / "docs" / "support-matrix.md"

FLOAT16_TOLERANCE = TOLERANCES["float16"].relative_error or 0.0

CELLS = (
    ("float32", "tflite"),
    ("float16", "tflite"),
    ("dynamic-range", "tflite"),
    ("int8", "tflite"),
    ("int16x8", "tflite"),
    ("float32", "onnx"),
    ("int8", "onnx"),
)
BUDGET_S = 4.0

Row = dict[str, Any]


def main(names: list[str]) -> None:
    """Do the rows, one by one, and write the page after each."""
    known = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    if wrong := sorted(set(names) - set(known)):
        sys.exit(f"no recipe {', '.join(wrong)} in {RECIPES}; there are {', '.join(known)}")
    rows: dict[str, Row] = json.loads(KEPT.read_text()) if KEPT.is_file() else {}
    for name in names or known:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="edgedl-matrix-") as folder:
            rows[name] = row(name, Path(folder) / name)
        rows[name]["seconds"] = round(time.monotonic() - started)
        KEPT.write_text(json.dumps({key: rows[key] for key in sorted(rows)}, indent=1, ensure_ascii=False) + "\n")
        PAGE.write_text(page({key: rows[key] for key in sorted(rows)}))
        failed = [key for key, cell in rows[name]["cells"].items() if not cell["passed"]]
        print(name, rows[name]["metric"], rows[name]["quality"], "failed:", failed, flush=True)


def row(name: str, folder: Path) -> Row:
    """One family: its quality in Keras, and all cells."""
    trained = train(RECIPES / f"{name}.yaml", out=folder)
    assert trained.quality is not None
    quality = trained.quality
    cells: dict[str, Row] = {}
    files: dict[str, ExportedModel] = {}
    with open_model(trained) as work:
        for precision, format in CELLS:
            key = f"{format} {precision}"
            try:
                files[key] = exported = make(work, precision, format)
                parity = verify_stage(work.store, exported, trained, data=work.data, seed=work.seed)
                cells[key] = {
                    "passed": parity.passed,
                    "reason": "; ".join(parity.failures),
                    "relative_error": max(one.relative_error for one in parity.outputs),
                    "size_bytes": exported.size_bytes,
                    "loss": exported.change.loss if exported.change else None,
                }
            except EdgedlError as error:
                cells[key] = {"passed": False, "reason": str(error)}
        for key, file in files.items():
            try:
                timing = profile(file, budget_s=BUDGET_S).models[0].timing
                assert timing is not None
                cells[key]["latency_us"] = timing.median_us.value
            except EdgedlError as error:
                cells[key] |= {"passed": False, "reason": str(error)}
    return {
        "metric": quality.metric,
        "quality": quality.value,
        "n": quality.n,
        "is_share": quality.is_share,
        "parameters": trained.parameters,
        "macs": trained.macs,
        "cells": cells,
    }


def make(work: Work, precision: str, format: str) -> ExportedModel:
    """The exported file of one cell."""
    variant: CompressedModel | None = None
    if precision != "float32":
        variant = compress_stage(
            work.store, work.trained, as_technique(precision), data=work.data, seed=work.seed, batch=work.batch
        )
    return export_stage(work.store, work.trained, variant, format, data=work.data, batch=work.batch)


def page(rows: dict[str, Row]) -> str:
    """The Markdown page."""
    from edgedl.core.provenance import version_of

    reasons: list[str] = []
    lines = [
        "# Support matrix",
        "",
        "Written by `make matrix` (`benchmarks/support_matrix.py`): each recipe of `examples/zoo` was trained,",
        "exported with built-in ops only, compared with its Keras model on test examples, and timed on one thread of",
        "this computer's CPU. A cell holds the median latency (`measured`; the machine is shared, so compare within a",
        "row, and roughly) and what the task lost on the test split. ✗ points to the reason below.",
        "",
        "Versions: " + ", ".join(f"{name} {version_of(name)}" for name in
                                 ("tensorflow", "tf-keras", "ai-edge-litert", "tf2onnx", "onnxruntime")) + ".",
        "",
        "| recipe | parameters | Keras | " + " | ".join(f"{format} {precision}" for precision, format in CELLS) + " |",
        "|---|--:|---|" + "---|" * len(CELLS),
    ]  # fmt: skip
    for name, one in rows.items():
        cells = [_cell(one, one["cells"][f"{format} {precision}"], reasons) for precision, format in CELLS]
        value = f"{one['quality']:.1%}" if one["is_share"] else f"{one['quality']:.3g}"
        keras = f"{one['metric']} {value} (n = {one['n']})"
        link = f"[{name}](../examples/zoo/{name}.yaml)"
        lines.append("| " + " | ".join((link, f"{one['parameters']:,}", keras, *cells)) + " |")
    lines += [
        "",
        f"\\* above the tolerance of {FLOAT16_TOLERANCE:g}, and passed because it is at most {MOST_ROUNDING:g} times "
        "what rounding the weights to float16 does to the Keras model itself.",
    ]
    if waiting := [path.stem for path in sorted(RECIPES.glob("*.yaml")) if path.stem not in rows]:
        lines += ["", f"Not done yet: {', '.join(waiting)}."]
    if reasons:
        lines += ["", "## Reasons", "", *(f"{i}. {reason}" for i, reason in enumerate(reasons, start=1))]
    return "\n".join(lines) + "\n"


NEAREST = ("tflite int8", "tflite dynamic-range", "tflite float16", "tflite float32", "onnx float32")


def _cell(row: Row, cell: Row, reasons: list[str]) -> str:
    if not cell["passed"]:
        road = next((key for key in NEAREST if row["cells"][key]["passed"]), "none")
        reason = f"{cell['reason']} — nearest road that works: {road}"
        if reason not in reasons:
            reasons.append(reason)
        return f"✗ [{reasons.index(reason) + 1}](#reasons)"
    text = f"{cell['latency_us']:,.0f} µs"
    if cell is row["cells"]["tflite float16"] and cell["relative_error"] > FLOAT16_TOLERANCE:
        text += f" (relative error {cell['relative_error']:.2g}\\*)"
    if cell.get("loss") is not None:
        text += f", {0.0 - cell['loss']:+.2f} points" if row["is_share"] else f", {cell['loss']:+.2g}"
    return text


if __name__ == "__main__":
    main(sys.argv[1:])
