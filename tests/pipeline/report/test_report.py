import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from edgedl.core.artifacts import Finding, Quality, QualityChange, Run, Verdict
from edgedl.core.errors import OutputError
from edgedl.core.statistics import Interval
from edgedl.pipeline.report import write_report
from edgedl.pipeline.report.facts import report_facts

HOSTILE = "<script>alert('label')</script>"
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Tags, ids and text of a page; fails when an element is closed that is not open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def with_quality(run: Run, metric: str) -> Run:
    """The run with all qualities in another metric."""

    def other(quality: Quality | None) -> Quality | None:
        return quality and replace(quality, metric=metric, value=2.5, interval=Interval(2.5, 2.25, 2.75))

    def change(quality: QualityChange | None) -> QualityChange | None:
        return quality and replace(
            quality,
            before=other(quality.before),
            after=other(quality.after),
            loss=0.125,
            interval=Interval(0.125, 0, 1),
        )

    return replace(
        run,
        trained=replace(run.trained, quality=other(run.trained.quality)),
        compressed=tuple(replace(one, quality=change(one.quality)) for one in run.compressed),
        exported=tuple(replace(one, change=change(one.change)) for one in run.exported),
    )


@pytest.fixture(scope="module")
def page(run: Run) -> Page:
    return Page(write_report(run).read_text())


def test_the_page_needs_no_network_and_no_script(page: Page, run: Run):
    assert page.open == []
    assert not {"script", "link", "img", "iframe", "object", "base"} & set(page.tags)
    loaded = [value or "" for name, value in page.attributes if name in ("src", "href", "xlink:href", "action")]
    assert all(value.startswith("#") for value in loaded)
    html = (run.folder / "report.html").read_text()
    assert "@import" not in html
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert len(html) < 1_000_000


def test_names_of_strangers_are_escaped_in_text_and_charts(page: Page):
    assert "script" not in page.tags
    assert page.text.count(HOSTILE) >= 3  # as a label, as a class of the data, as a layer in a chart
    assert "$nine$" in page.text


def test_ids_are_unique_and_references_lead_somewhere(page: Page):
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    references = {(value or "")[1:] for name, value in page.attributes if name in ("href", "xlink:href")}
    assert references <= set(ids)


def test_everything_that_was_found_is_on_the_page(page: Page, run: Run):
    for wanted in (
        *(one.model_file for one in run.exported),
        *("98.06 %", "96.04–99.05 %", "n 360", "83.3 kB", "74.3 kB", "21.4 µs", "21.3–21.5 µs", "0.80×", "0.801–0.807"),
        *("34.7 dB", "99.50 %", "int8 loses 0.28 points, at most 0.5 are allowed", "30 epochs", "train_step 1"),
        *("int16x8: reference kernels", "1 op(s) stayed in float (SOFTMAX)", "family: ds-cnn", "tensorflow 2.21.0"),
        *("Intel Xeon, 2 cores", "1 of 21 results were there already", "CONV_2D · stem", "measured", "(raw − 0) / 16"),
    ):
        assert wanted in page.text, wanted


def test_the_data_file_holds_the_same_facts(page: Page, run: Run):
    data = json.loads((run.folder / "report.json").read_text())
    assert data == json.loads(json.dumps(report_facts(run)))
    int8 = next(row for row in data["variants"] if (row["variant"], row["format"]) == ("int8", "tflite"))
    assert int8["gzip_ratio"] == pytest.approx(25_544 / 74_310)
    assert int8["loss"]["interval"]["high"] > int8["loss"]["value"]
    assert int8["latency"][0]["against"] == "digits-float32.tflite"
    assert "blocks_us" not in data["latency"][0]["models"][0]["timing"]
    assert str(run.folder) not in (run.folder / "report.json").read_text()


def test_the_verdict_leads_with_what_was_gained(run: Run):
    facts = report_facts(run)
    assert facts["status"] == "good"
    assert facts["sentence"] == (
        "All 7 files give the Keras model's answers; "
        "the smallest, dynamic-range as tflite, is 3.1× smaller than float32, losing 0.28 points of accuracy, "
        "but 1.2× slower on cpu (measured); "
        "the fastest, int8 as tflite, is 1.2× faster than float32."
    )


def test_the_verdict_leads_with_what_failed(run: Run):
    parity = (replace(run.parity[0], passed=False, failures=("conv2d_3 diverges first",)), *run.parity[1:])
    failed = report_facts(replace(run, parity=parity))
    assert failed["status"] == "bad"
    assert "1 of 7 files do not give the Keras model's answers: digits-float32.tflite" in failed["sentence"]
    finding = Finding(
        "latency", "regressed", "int8 is 9 % slower, at most 5 % are allowed.", 17, 18.5, 1.09, 0.05, None, "µs"
    )
    verdict = Verdict(name="v", new="a", old="b", outcome="regressed", findings=(finding,))
    regressed = report_facts(replace(run, verdicts=(verdict,)))
    assert (regressed["status"], regressed["sentence"]) == (
        "bad",
        "1 check(s) failed: int8 is 9 % slower, at most 5 % are allowed.",
    )
    unclear = replace(verdict, findings=(replace(finding, outcome="inconclusive"),), outcome="inconclusive")
    assert report_facts(replace(run, verdicts=(unclear,)))["status"] == "open"


def test_failures_of_parity_are_named(run: Run, tmp_path: Path):
    parity = (replace(run.parity[0], passed=False, failures=("conv2d_3 diverges first",)), *run.parity[1:])
    failed = replace(run, folder=tmp_path, parity=parity, exported=(), compressed=(), latency=())
    text = Page(write_report(failed).read_text()).text
    assert "Why digits-float32.tflite fails" in text
    assert "conv2d_3 diverges first" in text


def test_a_bare_run_says_what_is_absent(bare_run: Run):
    page = Page(write_report(bare_run).read_text())
    assert page.open == []
    for wanted in ("not judged", "No limits were asked for", "No file was compared", "No device measured",
                   "was not trained in this run: model.keras", "brought without data", "not recorded"):  # fmt: skip
        assert wanted in page.text
    assert "svg" not in page.tags


def test_regression_speaks_of_errors(run: Run, tmp_path: Path):
    errors = replace(with_quality(run, "mae"), folder=tmp_path, latency=())
    facts = report_facts(errors)
    assert facts["headline"][0]["label"] == "Mean absolute error, float32"
    assert "with 0.125 more mae" in facts["sentence"]
    text = Page(write_report(errors).read_text()).text
    assert "mean absolute error; the area is the gzipped size" in text
    assert "2.25 to 2.75" in text


def test_variants_that_were_not_exported_are_listed(run: Run):
    only_float = tuple(one for one in run.exported if one.name == "float32")
    rows = report_facts(replace(run, exported=only_float, latency=(), parity=()))["variants"]
    assert [(row["variant"], row["file"]) for row in rows[2:]] == [
        (name, "model.tflite") for name in ("float16", "dynamic-range", "int8", "int16x8")
    ]


def test_several_devices_each_have_their_figures(run: Run, tmp_path: Path):
    phone = replace(run.latency[0], name="phone", device="arm64:cortex-a76", obtained="emulated")
    page = Page(write_report(replace(run, folder=tmp_path, latency=(run.latency[0], phone))).read_text())
    assert "p10 latency, µs, on arm64:cortex-a76 (emulated)" in page.text
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_a_device_that_times_nothing_shows_no_time_and_draws_no_sizes_as_costs(run: Run, tmp_path: Path):
    models = [
        replace(one, timing=None, memory=None, ops=tuple(replace(op, unit="MACs", runs_on="gpu") for op in one.ops))
        for one in run.latency[0].models
    ]
    gpu = replace(run.latency[0], name="gpu", device="gpu", hardware="SwiftShader", models=tuple(models))
    page = Page(write_report(replace(run, folder=tmp_path, latency=(replace(gpu, obtained="emulated"),))).read_text())
    assert "SwiftShader" in page.text
    assert "Cost per op" not in page.text
    assert "Fastest inference" not in page.text
    assert not re.search(r"p10 latency", page.text)


def test_a_place_that_cannot_be_written_to_is_one_error(run: Run, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        write_report(replace(run, folder=tmp_path / "file" / "run"))
