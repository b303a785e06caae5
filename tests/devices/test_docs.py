"""What the pages say of the estimates is what the code computes."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from edgedl.devices import edge_tpu
from edgedl.devices.arm64 import estimate

DOCS = Path(__file__).parents[2] / "docs/devices"


def test_the_errors_of_the_arm64_estimate() -> None:
    page = (DOCS / "arm64.md").read_text()
    errors = estimate.errors()
    for one, error in zip(estimate.references(), errors, strict=True):
        row = f"| `{one.profile.name}` | {one.model} | {one.published_us / 1e3:.0f} ms | {error:+.0%} |"
        assert row in page
    assert f"Median error {median(map(abs, errors)):.0%}, largest {max(map(abs, errors)):.0%}." in page


def test_the_errors_of_the_edge_tpu_estimate() -> None:
    page = (DOCS / "accelerators.md").read_text()
    errors = edge_tpu.fitted()["errors"]
    for name, error in errors.items():
        assert f"| {name} | {error:+.0%} |" in page
    assert f"Median error {median(map(abs, errors.values())):.0%}" in page
