"""`csv`: tables, and each way in which one can be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgedl.core.errors import ConfigError, DataError
from edgedl.pipeline.data import CsvTable, load_splits
from edgedl.pipeline.data.base import SplitConfig

TABLE = "id,length,width,species\n" + "".join(f"r{i},{i}.5,{-i},{'ant' if i % 3 else 'bee'}\n" for i in range(30))


def table(tmp_path: Path, text: str, **options: object) -> CsvTable:
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    return CsvTable.model_validate({"file": path, "target": "species", **options})


def test_classes_from_text(tmp_path):
    raw = table(tmp_path, TABLE, ignore=("id",)).load()
    assert raw.task == "classification"
    assert raw.labels == ("ant", "bee")
    assert raw.input.feature_names == ("length", "width")
    assert raw.input.shape == (2,)
    assert raw.examples.raw(np.array([2])).tolist() == [[2.5, -2.0]]
    assert raw.examples.targets[:4].tolist() == [1, 0, 0, 1]


def test_standardised_by_the_training_split(tmp_path):
    source = table(tmp_path, TABLE, ignore=("id",))
    splits = load_splits(source, SplitConfig(validation=6, test=6), 0)
    rows = splits.train.raw(np.arange(18)).astype(np.float64)
    assert splits.input.mean == pytest.approx(rows.mean(axis=0))
    assert splits.input.std == pytest.approx(rows.std(axis=0))


@pytest.mark.parametrize(
    ("values", "options", "task", "labels"),
    [
        (["3", "5", "7"], {}, "classification", ("3", "5", "7")),
        (["1.0", "0", "1"], {}, "classification", ("0", "1")),
        (["0.1", "0.2", "0.3"], {}, "regression", ()),
        (["3", "5", "7"], {"task": "regression"}, "regression", ()),
        ([str(i) for i in range(21)], {}, "regression", ()),
        ([str(i) for i in range(21)], {"task": "classification"}, "classification", tuple(map(str, range(21)))),
        (["-1", "10", "2"], {}, "classification", ("-1", "2", "10")),
    ],
)
def test_the_task_follows_from_the_target(tmp_path, values, options, task, labels):
    raw = table(tmp_path, "a,species\n" + "".join(f"{i},{v}\n" for i, v in enumerate(values)), **options).load()
    assert (raw.task, raw.labels) == (task, labels)
    if task == "classification":
        assert [float(raw.labels[i]) for i in raw.examples.targets] == [float(value) for value in values]
    else:
        assert raw.examples.targets[:, 0] == pytest.approx([float(value) for value in values])


def test_quotes_blank_lines_byte_order_mark_and_delimiter(tmp_path):
    text = '\ufeff"a;b";species\n1;"x"\n\n 2 ;y\n'
    raw = table(tmp_path, text, delimiter=";").load()
    assert raw.input.feature_names == ("a;b",)
    assert raw.examples.raw(np.arange(2)).tolist() == [[1.0], [2.0]]


BAD = {
    "not a number": ("a,species\n1,x\nhello,y\n", {}, r"line 3, column 'a'.*'hello'.*data\.ignore: \[a\]"),
    "empty cell": ("a,species\n1,x\n,y\n", {}, "line 3, column 'a'.*an empty cell"),
    "nan": ("a,species\n1,x\nnan,y\n", {}, "line 3, column 'a'.*finite.*'nan'"),
    "too large": ("a,species\n1,x\n1e99,y\n", {}, "line 3, column 'a'"),
    "empty target": ("a,species\n1,x\n2,\n", {}, "line 3, column 'species'.*an empty cell"),
    "nearest column": ("a,specie\n1,x\n", {}, "no column 'species'.*Did you mean 'specie'"),
    "semicolons": ("a;species\n1;x\n", {}, 'set data.delimiter: ";"'),
    "ignore": ("a,species\n1,x\n", {"ignore": ("b",)}, "no column 'b'"),
    "no header": ("1,2\n3,4\n", {}, "has no header"),
    "ragged": ("a,species\n1,x\n1,2,x\n", {}, "line 3 has 3 cells: required 2"),
    "no rows": ("a,species\n", {}, "a header but no rows"),
    "empty": ("", {}, "is empty"),
    "twice": ("a,a,species\n1,2,x\n", {}, "two columns called 'a'"),
    "target only": ("species\nx\ny\n", {}, "no column beside the target"),
    "one class": ("a,species\n1,x\n2,x\n", {}, "one class only.*'x', 2 times"),
    "one number": ("a,species\n1,4\n2,4\n", {}, "one class only.*'4', 2 times"),
    "text for regression": ("a,species\n1,x\n2,y\n", {"task": "regression"}, "is text"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables(tmp_path, case):
    text, options, message = BAD[case]
    with pytest.raises(DataError, match=message) as caught:
        table(tmp_path, text, **options).load()
    assert "table.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_not_text(tmp_path):
    source = table(tmp_path, TABLE)
    source.file.write_bytes(b"a,species\n\xff\xfe,x\n")
    with pytest.raises(DataError, match="not a text file in UTF-8"):
        source.load()


def test_the_target_cannot_be_ignored(tmp_path):
    with pytest.raises(ConfigError, match="holds the target"):
        table(tmp_path, TABLE, ignore=("species",)).load()


def test_rows_of_a_group_stay_together(tmp_path):
    rows = "".join(
        f"{person},{10 * person + day},{'yes' if day % 2 else 'no'}\n" for person in range(8) for day in range(6)
    )
    (tmp_path / "a.csv").write_text("person,dose,better\n" + rows)
    source = CsvTable(file=tmp_path / "a.csv", target="better", group_by="person")
    splits = load_splits(source, source.split, 0)
    assert splits.input.feature_names == ("dose",)
    people = [
        set((part.raw(np.arange(len(part)))[:, 0] // 10).tolist())
        for part in (splits.train, splits.validation, splits.test)
    ]
    assert sum(map(len, people)) == len(set().union(*people)) == 8
    with pytest.raises(DataError, match="no column 'persn'"):
        CsvTable(file=tmp_path / "a.csv", target="better", group_by="persn").load()
    with pytest.raises(ConfigError, match=r"data\.group_by holds the target"):
        CsvTable(file=tmp_path / "a.csv", target="better", group_by="better").load()
