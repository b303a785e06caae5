"""`--data`, the recipe's data section, and that neither imports anything heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import TypeAdapter

from edgedl.core.config import check
from edgedl.core.errors import ConfigError
from edgedl.pipeline.data import CsvTable, ImageFolder, SourceConfig, parse_data_option


@pytest.mark.parametrize(
    ("text", "section"),
    [
        ("digits", {"source": "digits"}),
        ("npz:a/b.npz", {"source": "npz", "file": "a/b.npz"}),
        ("idx:folder", {"source": "idx", "folder": "folder"}),
        ("image-folder:photos", {"source": "image-folder", "folder": "photos"}),
        ("image-folder:photos:96x128", {"source": "image-folder", "folder": "photos", "size": [96, 128]}),
        ("csv:iris.csv:species", {"source": "csv", "file": "iris.csv", "target": "species"}),
        ("keras:mnist", {"source": "keras:mnist"}),
        ("audio-folder:words.zip", {"source": "audio-folder", "folder": "words.zip"}),
        ("text:mails.tsv", {"source": "text", "path": "mails.tsv"}),
        ("tfds:beans:1.0.0", {"source": "tfds", "name": "beans:1.0.0"}),
    ],
)
def test_each_form_is_a_data_section(text, section):
    assert parse_data_option(text) == section
    assert check(SourceConfig, section, source="--data").source == section["source"]


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("digit", "Did you mean digits?"),
        ("image-foldr:x", "Did you mean image-folder:FOLDER"),
        ("npz:", "Did you mean npz:FILE?"),
        ("csv:iris.csv", "Did you mean csv:FILE:TARGET?"),
        ("my.npz", "Did you mean npz:my.npz?"),
        ("my.csv", "Did you mean csv:my.csv:TARGET?"),
        ("", "required digits or npz:FILE"),
    ],
)
def test_anything_else_is_one_clear_line(text, advice):
    with pytest.raises(ConfigError) as caught:
        parse_data_option(text)
    assert advice in str(caught.value)


def test_paths_are_relative_to_the_recipe(tmp_path):
    section = {"source": "csv", "file": "a.csv", "target": "y"}
    source = check(SourceConfig, section, source="recipe", root=tmp_path)
    assert isinstance(source, CsvTable)
    assert source.file == tmp_path / "a.csv"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"source": "digit"}, r"no data source 'digit' \(did you mean 'digits'\?\)"),
        ({"source": "keras:imbd"}, "no data source 'keras:imbd'"),
        ({"source": "wav"}, "no data source 'wav' .*known: digits, npz, .*keras:mnist"),
        ({}, "source"),
        ({"source": "npz"}, r"data\.npz\.file|npz\.file|file: this key is required"),
        ({"source": "digits", "normalise": "none"}, "unknown key 'normalise'.*'normalize'"),
        ({"source": "image-folder", "folder": "x", "size": [0, 4]}, "greater than 0"),
        ({"source": "digits", "split": {"validation": 2.5}}, "a fraction between 0 and 1"),
    ],
)
def test_a_wrong_section_is_one_clear_line(section, message):
    with pytest.raises(ConfigError, match=message):
        check(SourceConfig, section, source="recipe")


def test_every_key_is_described():
    schema = TypeAdapter(SourceConfig).json_schema()
    for name, section in schema["$defs"].items():
        for key, entry in section["properties"].items():
            assert entry.get("description") or "$ref" in entry, f"{name}.{key}"
    assert schema["$defs"][ImageFolder.__name__]["properties"]["skip_bad"]["default"] is False


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from edgedl.pipeline.data import SourceConfig; from edgedl.core.config import check;"
        "check(SourceConfig, {'source': 'keras:mnist'}, source='x');"
        "print({'tensorflow', 'sklearn', 'PIL', 'pandas', 'scipy', 'tf_keras'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
