"""A stripped file: smaller, the same answers, and still read by every runtime."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np

import edgedl
from edgedl.core.artifacts import TrainedModel
from edgedl.export.inference import run_file
from edgedl.export.inspect import inspect_file
from edgedl.export.tflite_strip import strip_tflite
from edgedl.export.verify import random_inputs


def test_what_people_read_is_gone_and_the_answers_are_not(trained: TrainedModel, tmp_path: Path) -> None:
    run = shutil.copytree(trained.folder.parent, tmp_path / "run")
    plain, bare = (edgedl.compress(run, words) for words in ("int8", "int8:strip=true"))
    before, after = (one.folder / one.model_file for one in (plain, bare))
    assert bare.size_bytes == after.stat().st_size < plain.size_bytes - 1500
    assert bare.gzip_bytes < plain.gzip_bytes
    assert any("names of inner tensors were left out" in one for one in bare.notes)
    assert zipfile.is_zipfile(before)
    assert not zipfile.is_zipfile(after)
    old, new = inspect_file(before), inspect_file(after)
    assert [one.name for one in (*new.inputs, *new.outputs)] == [one.name for one in (*old.inputs, *old.outputs)]
    assert [one.op for one in new.ops] == [one.op for one in old.ops]
    assert new.parameters == old.parameters
    inputs = random_inputs(trained.contract, 20, seed=0)
    for name, value in run_file(before, inputs).items():
        assert np.array_equal(run_file(after, inputs)[name], value)
    assert edgedl.verify(after, trained).passed
    assert strip_tflite(after) == 0
    assert any("outputs equal the CPU's" in one for one in edgedl.profile(after, device="micro").models[0].notes)
