"""Budgets in words: what is understood, what is refused, and what it costs to find out."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedl.core.errors import ConfigError
from edgedl.pipeline.search.budget import QUANTITIES, Limit, parse_budget


def test_the_issue_s_own_budget() -> None:
    found = parse_budget("size<=60KB, latency<=0.5x, accuracy_drop<=0.5")
    assert found.limits == (
        Limit("size", 60_000.0),
        Limit("latency", 0.5, relative=True),
        Limit("loss", 0.5, points=True),
    )
    assert found.minimise == "size"
    assert found.objectives == ("size", "loss", "latency")
    assert found.words == "size<=60KB, latency<=0.5x, accuracy_drop<=0.5"


@pytest.mark.parametrize(
    ("text", "quantity", "value", "relative"),
    [
        ("size<=512B", "size", 512, False),
        ("size <= 60 KiB", "size", 61440, False),
        ("gzip≤0.1MB", "gzip", 100_000, False),
        ("gzip<=1MiB", "gzip", 1048576, False),
        ("size<=0.3x", "size", 0.3, True),
        ("latency<=250µs", "latency", 250, False),
        ("latency<=2ms", "latency", 2000, False),
        ("Latency<=1.5X", "latency", 1.5, True),
        ("instructions<=1.5M", "instructions", 1.5e6, False),
        ("macs<=0.7x", "macs", 0.7, True),
        ("parameters<=50k", "parameters", 50_000, False),
        ("loss<=0.02", "loss", 0.02, False),
        ("accuracy-drop<=0", "loss", 0, False),
        ("size<=1e2KB", "size", 1e5, False),
    ],
)
def test_units(text: str, quantity: str, value: float, relative: bool) -> None:
    (limit,) = parse_budget(text).limits
    assert (limit.quantity, limit.relative) == (quantity, relative)
    assert limit.value == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["--budget is empty"]),
        (" , ;", ["--budget is empty"]),
        ("small", ["this is no limit", "'small'"]),
        ("size<=60", ["size is not understood", "60KB"]),
        ("size<=60KG", ["size is not understood"]),
        ("size<=0KB", ["size more than 0"]),
        ("size<=-1KB", ["size more than 0", "'-1KB'"]),
        ("latency<=0x", ["latency more than 0"]),
        ("latency<=0us", ["latency more than 0"]),
        ("latency<=0", ["latency is not understood", "0.5x"]),
        ("latency<=nan", ["latency is not understood"]),
        ("latency<=1e999x", ["latency more than 0"]),
        ("accuracy_drop<=-0.5", ["0 or more"]),
        ("accuracy_drop<=0.5%", ["in points"]),
        ("accuracy_drop<=0.5x", ["in points"]),
        ("accuracy_drop<=0,5", ["this is no limit", "'5'"]),
        ("accuracy_drop<=100", ["asks nothing"]),
        ("size>=60KB", ["limited with >=", "upper limit"]),
        ("size<60KB", ["limited with <", "size<=…"]),
        ("size=60KB", ["upper limit"]),
        ("size<=60KB, size>=80KB", ["upper limit"]),
        ("size<=60KB, size<=80KB", ["size is limited twice", "size<=60KB and size<=80KB"]),
        ("loss<=1, accuracy_drop<=2", ["loss is limited twice"]),
        ("sise<=60KB", ["unknown quantity 'sise'", "did you mean 'size'?"]),
        ("watts<=3", ["unknown quantity 'watts'", "known: "]),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_told(text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_budget(text)
    assert all(word in str(refused.value) for word in words), str(refused.value)


def test_the_goal() -> None:
    assert parse_budget("size<=60KB").minimise == "loss"
    assert parse_budget("accuracy_drop<=1").minimise == "size"
    assert parse_budget("gzip<=9KB, accuracy_drop<=1").minimise == "gzip"
    assert parse_budget("gzip<=9KB, accuracy_drop<=1", "accuracy_drop").minimise == "loss"
    with pytest.raises(ConfigError, match="--minimise: unknown quantity 'speed'"):
        parse_budget("size<=60KB", "speed")


def test_an_absolute_and_a_relative_limit_are_two_questions() -> None:
    assert len(parse_budget("size<=60KB, size<=0.5x").limits) == 2


UNIT = {"parameters": "", "macs": "", "size": "B", "gzip": "B", "loss": "", "instructions": "", "latency": "us"}


@given(
    st.lists(st.sampled_from(list(QUANTITIES)), min_size=1, unique=True),
    st.data(),
)
def test_words_are_read_back(names: list[str], data: st.DataObject) -> None:
    value = st.floats(min_value=1e-3, max_value=1e9, allow_nan=False).map(lambda one: float(f"{one:.6g}"))
    parts = []
    for name in names:
        relative = name != "loss" and data.draw(st.booleans())
        parts.append(f"{name}<={data.draw(value):.6g}{'x' if relative else UNIT[name]}")
    found = parse_budget(", ".join(parts))
    again = parse_budget(found.words)
    assert again.objectives == found.objectives
    assert again.minimise == found.minimise
    for one, other in zip(found.limits, again.limits, strict=True):
        assert (one.quantity, one.relative) == (other.quantity, other.relative)
        assert one.value == pytest.approx(other.value, rel=1e-5)


@given(st.text(max_size=40))
def test_any_text_is_a_budget_or_one_clear_line(text: str) -> None:
    try:
        found = parse_budget(text)
    except ConfigError as error:
        assert str(error)
    else:
        assert all(limit.value >= 0 for limit in found.limits)
        assert "loss" in found.objectives
        assert len(found.objectives) >= 2


def test_a_wrong_budget_is_told_without_importing_anything_heavy() -> None:
    code = (
        "import sys\nfrom edgedl.pipeline.cli.main import app\n"
        "sys.argv = ['edgedl', 'compress', 'm.keras', '--budget', 'size<=0KB']\n"
        "try:\n    app(standalone_mode=False)\nexcept Exception as error:\n    print(type(error).__name__)\n"
        "print(sorted({'numpy', 'tensorflow', 'optuna', 'sqlalchemy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["ConfigError", "[]"]
