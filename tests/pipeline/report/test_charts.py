import xml.etree.ElementTree as ET
from pathlib import Path

from edgedl.core.artifacts import Run
from edgedl.pipeline.report.charts import curve_names, curve_svg, curves_png, op_bars_svg, tradeoff_svg
from edgedl.pipeline.report.facts import report_facts


def test_curves_as_a_picture(run: Run, tmp_path: Path):
    from PIL import Image

    path = tmp_path / "curves.png"
    curves_png(run.trained.history, path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width > 1.5 * image.height  # two panels
    for history in ([], [{"epoch": 1.0, "loss": 0.5}]):
        curves_png(history, path)
        assert path.stat().st_size > 0


def test_curves_are_of_quantities(run: Run):
    assert curve_names(run.trained.history) == ["loss", "accuracy"]
    assert curve_names([{"epoch": 1, "val_auc": 1, "loss": 1, "seconds": 2, "learning_rate": 3}]) == ["loss", "auc"]


def test_charts_are_well_formed_flexible_and_themed(run: Run):
    facts = report_facts(run)
    charts = [
        curve_svg(facts["training"]["history"], "loss"),
        tradeoff_svg(facts["variants"], 0),
        tradeoff_svg(facts["variants"], None),
        op_bars_svg(facts["latency"][0]["models"][0]["ops"], "a.tflite"),
    ]
    for svg in charts:
        root = ET.fromstring(svg)
        assert root.get("viewBox")
        assert root.get("width") is None
        assert root.get("aria-label")
        assert "var(--" in svg
    assert charts[0] == curve_svg(facts["training"]["history"], "loss")  # the same drawing, the same bytes


def test_no_figures_no_chart(bare_run: Run):
    variants = report_facts(bare_run)["variants"]
    assert tradeoff_svg(variants, 0) == tradeoff_svg(variants, None) == ""


def test_many_ops_end_in_one_bar():
    ops = [{"op": f"OP{i}", "layer": None, "cost": 20.0 - i, "unit": "us", "share": 0.05} for i in range(20)]
    svg = op_bars_svg(ops, "many")
    assert ">OP11<" in svg
    assert ">OP12<" not in svg
    assert ">8 more<" in svg
    assert "36.0 µs · 40 %" in svg
