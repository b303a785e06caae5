import pytest

from edgedl.pipeline.report import words


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (12.345, "12.3"), (0.04567, "0.0457"), (1234.5, "1234"), (-2.5, "−2.50"), (3.1e-7, "3.10e−07"),
     (float("nan"), "–"), (float("inf"), "–")],
)  # fmt: skip
def test_number(value: float, text: str):
    assert words.number(value) == text


def test_units_fit_the_size():
    assert [words.size(n) for n in (0, 999, 14_200, 3_456_789)] == ["0 B", "999 B", "14.2 kB", "3.46 MB"]
    assert [words.time(t) for t in (21.34, 4560, 2.5e6)] == ["21.3 µs", "4.56 ms", "2.50 s"]
    assert words.time_range({"low": 999.0, "high": 1010.0}) == "0.999–1.01 ms"
    assert [words.duration(s) for s in (3.21, 42, 200, 3900)] == ["3.2 s", "42 s", "3 min 20 s", "1 h 05 min"]
    assert words.count(200_000) == "200\u2009000"


def test_changes_have_a_sign():
    assert [words.change(v, "points") for v in (0.278, -0.3, 0.0, -0.001)] == ["+0.28", "−0.30", "0.00", "0.00"]
    assert [words.change(v, "mae") for v in (0.5, -0.5, 0.0)] == ["+0.500", "−0.500", "0"]


def test_quality_in_its_own_unit():
    accuracy = {"metric": "accuracy", "value": 0.9806, "interval": {"low": 0.96, "high": 0.99}}
    error = {"metric": "mae", "value": 12.34, "interval": {"low": 11.0, "high": 14.0}}
    assert (words.quality(accuracy), words.quality_range(accuracy)) == ("98.06 %", "96.00–99.00 %")
    assert (words.quality(error), words.quality_range(error)) == ("12.3", "11.0 to 14.0")
