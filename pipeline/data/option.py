"""`--data` on the command line: a data source in one word."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edgedl.core.errors import ConfigError
from edgedl.pipeline.data.checks import nearest

FORMS = (
    "digits",
    "npz:FILE",
    "idx:FOLDER",
    "image-folder:FOLDER",
    "image-folder:FOLDER:HEIGHTxWIDTH",
    "csv:FILE:TARGET",
    "audio-folder:FOLDER",
    "text:PATH",
    "tfds:NAME",
    "keras:NAME",
)
_PLAIN = {
    "npz": "file",
    "idx": "folder",
    "image-folder": "folder",
    "audio-folder": "folder",
    "text": "path",
    "tfds": "name",
}


def parse_data_option(text: str) -> dict[str, Any]:
    """A recipe's data mapping, e.g. `csv:iris.csv:species` -> {source: csv, file: iris.csv, target: species}.

    Paths and names are checked later, with the recipe. Raises ConfigError.
    """
    source, _, rest = text.partition(":")
    if text == "digits" or (source == "keras" and rest):
        return {"source": text}
    if source in _PLAIN and rest:
        key, sized = _PLAIN[source], re.fullmatch(r"(.+):(\d+)x(\d+)", rest)
        if source == "image-folder" and sized:
            return {"source": source, key: sized[1], "size": [int(sized[2]), int(sized[3])]}
        return {"source": source, key: rest}
    file, _, target = rest.rpartition(":")
    if source == "csv" and file and target:
        return {"source": source, "file": file, "target": target}
    known = {form.partition(":")[0]: form for form in FORMS}
    files = {f".{suffix}": form.replace("FILE", text) for suffix, form in known.items() if "FILE" in form}
    near = known.get(source) or files.get(Path(text).suffix) or known.get(nearest(source, known) or "")
    raise ConfigError(
        "--data does not name a data source",
        required=" or ".join(FORMS),
        received=repr(text),
        advice=f"Did you mean {near}?" if near else None,
    )
