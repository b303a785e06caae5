"""`text`: tables and folders of texts by class, and plain text to go on with; the vocabulary goes into every file."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from tests.shared_data import shared

from edgedl.core import text
from edgedl.core.contract import Contract, OutputContract, Task
from edgedl.core.errors import ConfigError, DataError
from edgedl.pipeline.data import Text, load_splits

TABLE = "label,text\n" + "".join(f'good,"so good, {i}"\nbad,it is bad {i}\n' for i in range(20))


def test_a_table(tmp_path: Path):
    (tmp_path / "a.csv").write_text(TABLE)
    raw = Text(path=tmp_path / "a.csv", length=12).load()
    assert (raw.task, raw.labels) == ("classification", ("bad", "good"))
    assert raw.examples.targets.tolist() == [1, 0] * 20
    assert (raw.input.shape, raw.input.dtype, raw.input.content) == ((12,), "int32", "text")
    assert raw.input.text is not None
    first = raw.examples.raw(np.array([0]))[0]
    assert text.decode(raw.input.text, first.tolist()) == "so good, 0"
    assert first[-2:].tolist() == [0, 0]


def test_tabs_without_header_and_with_loose_quotes(tmp_path: Path):
    (tmp_path / "a.tsv").write_text('1\tsay "no\n0\tyes\n' * 3)
    keys: dict[str, Any] = {"path": tmp_path / "a.tsv", "label_column": 0, "text_column": 1}
    raw = Text(**keys, header=False, length=9).load()
    assert len(raw.examples) == 6
    assert raw.input.text is not None
    assert text.decode(raw.input.text, raw.examples.raw(np.array([0]))[0].tolist()) == 'say "no'


def test_folders_and_zips(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for label in ("x", "y"):
            (tmp_path / "a" / label).mkdir(parents=True)
            for i in range(8):
                (tmp_path / "a" / label / f"{i // 2}_{i}.txt").write_text(f"{label} text {i}")
                packed.writestr(f"{label}/{i // 2}_{i}.txt", f"{label} text {i}")
    both = [Text(path=tmp_path / name, pattern=r"/(?P<group>\d)_").load() for name in ("a", "a.zip")]
    assert both[0].examples.fingerprint() == both[1].examples.fingerprint()
    assert both[0].groups is not None
    assert both[0].groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3] * 2


def test_next_tokens_of_three_stretches(tmp_path: Path):
    whole = "".join(chr(97 + i % 26) for i in range(1000))
    (tmp_path / "a.txt").write_text(whole)
    source = Text(path=tmp_path / "a.txt", length=10)
    splits = load_splits(source, source.split, 0)
    assert splits.task == "next-token"
    assert splits.labels == text.BYTES
    assert splits.record.counts == {"train": 69, "validation": 9, "test": 19}
    for part in (splits.train, splits.test):
        inputs = part.raw(np.arange(len(part)))
        np.testing.assert_array_equal(inputs[:, 1:], part.targets[:, :-1])
        np.testing.assert_array_equal(part.targets[:, -1] - 100, (inputs[:, -1] - 100 + 1) % 26)
    starts = sorted("".join(map(chr, window - 3)) for window in splits.test.raw(np.arange(19)))
    assert starts == sorted(whole[800:][i : i + 10] for i in range(0, 190, 10))


def test_a_vocabulary_is_learnt_from_the_training_stretch_or_given(tmp_path: Path):
    (tmp_path / "a.txt").write_text("apple pear " * 70 + "zebra quince " * 30)
    source = Text(path=tmp_path / "a.txt", tokens="wordpiece", length=4, split={"validation": 0.1, "test": 0.3})
    splits = load_splits(source, source.split, 0)
    assert "apple" in splits.labels
    assert not any("z" in token for token in splits.labels)
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\napple\npe\n##ar\n")
    given = Text(path=tmp_path / "a.txt", tokens="wordpiece", length=4, vocabulary=tmp_path / "vocab.txt").load()
    assert given.examples.raw(np.array([0]))[0].tolist() == [2, 3, 4, 2]
    assert given.test is not None
    assert (given.test.raw(np.arange(3)) == 1).all()


@pytest.mark.parametrize(
    ("name", "content", "keys", "message"),
    [
        ("a.csv", "label,words\n1,x\n", {}, "no column 'text'"),
        ("a.csv", "label,text\n1,\n", {}, "line 2 has no text"),
        ("a.csv", "label,text\n,x\n", {}, "line 2 has no class"),
        ("a.csv", "label,text\n", {}, "has no rows"),
        ("a.csv", "label,text\nx,y\nx,z\n", {}, "one class only"),
        ("a.txt", "short", {}, "shorter than a window: required 129 tokens"),
        ("a.txt", "x", {"task": "classification"}, "has no classes"),
        ("a.txt", "x" * 500, {"tokens": "wordpiece", "vocabulary": "v"}, r"no WordPiece vocabulary.*no \[UNK\]"),
    ],
)
def test_refusals(tmp_path: Path, name: str, content: str, keys: dict[str, Any], message: str):
    (tmp_path / name).write_text(content)
    (tmp_path / "v").write_text("[PAD]\nx\n")
    if "vocabulary" in keys:
        keys = keys | {"vocabulary": tmp_path / "v"}
    with pytest.raises(DataError, match=message):
        Text(path=tmp_path / name, **keys).load()


def test_refusals_of_files(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe" * 500)
    with pytest.raises(DataError, match="not a text file in UTF-8"):
        Text(path=tmp_path / "a.txt").load()
    with pytest.raises(DataError, match="does not exist"):
        Text(path=tmp_path / "b.txt").load()
    with pytest.raises(ConfigError, match="columns without names"):
        Text(path=tmp_path / "a.txt", header=False)


# --- the exported files ------------------------------------------------------------------------------------------


@pytest.mark.tensorflow
@pytest.mark.filterwarnings("ignore:Pydantic serializer")
def test_a_text_model_carries_its_vocabulary(tmp_path: Path):
    from edgedl.core.store import open_store
    from edgedl.export.metadata import read_metadata
    from edgedl.models import Family, Head, KerasModel
    from edgedl.pipeline.begin import begin
    from edgedl.pipeline.export import export_stage
    from edgedl.pipeline.recipe import check_recipe
    from edgedl.pipeline.verify import verify_stage

    class Bag(Family):
        """The mean of the words' vectors."""

        family: Literal["bag"] = "bag"
        tasks: ClassVar[tuple[Task, ...]] = ("classification",)

        def build(self, input_name: str, input_shape: tuple[int, ...], head: Head) -> KerasModel:
            import tf_keras
            from tf_keras import layers

            inputs = tf_keras.Input(input_shape, name=input_name, dtype="int32")
            x = layers.GlobalAveragePooling1D()(layers.Embedding(2000, 8)(inputs))
            return tf_keras.Model(inputs, head.attach(x))

    (tmp_path / "a.csv").write_text(TABLE)
    section = {"source": "text", "path": str(tmp_path / "a.csv"), "length": 8, "tokens": "wordpiece"}
    train = {"epochs": 20, "batch_size": 8, "optimizer": {"learning_rate": 0.05}}
    recipe = check_recipe({"data": section, "model": "mlp", "train": train}).model_copy(update={"model": Bag()})
    with open_store(tmp_path / "run") as store:
        trained, data = begin(store, recipe)
        assert trained.quality is not None
        assert trained.quality.value == 1.0
        assert data.input.text is not None
        vocabulary = data.input.text.vocabulary
        for format in ("tflite", "onnx"):
            exported = export_stage(store, trained, None, format, data=data)
            assert verify_stage(store, exported, trained, data=data, seed=0).passed
            if format == "tflite":
                with zipfile.ZipFile(exported.model_path) as packed:
                    assert tuple(packed.read("vocab.txt").decode().splitlines()) == vocabulary
                contract = read_metadata(exported.model_path).contract
                assert contract is not None
                assert contract.inputs[0].text == data.input.text
            else:
                beside = exported.model_path.parent / "vocab.txt"
                assert tuple(beside.read_text().splitlines()) == vocabulary


def test_models_of_other_data_have_no_vocabulary(tmp_path: Path):
    from edgedl.core.contract import InputContract
    from edgedl.export.metadata import vocabulary_of, write_vocabulary

    contract = Contract("classification", (InputContract("x", (3,)),), (OutputContract("y", (2,)),))
    write_vocabulary(contract, tmp_path)
    assert vocabulary_of(contract) == ()
    assert not list(tmp_path.iterdir())


# --- published sets ----------------------------------------------------------------------------------------------


def test_published_texts():
    plays = Text(path=shared("text/tinyshakespeare/input.txt"), length=64)
    splits = load_splits(plays, plays.split, 0)
    assert splits.task == "next-token"
    assert splits.record.counts["train"] > 10_000
    messages = Text(
        path=shared("no_licence_stated/text/sms_spam/sms.tsv"), header=False, label_column=0, text_column=1,
        tokens="wordpiece", vocabulary_size=1000,
    )  # fmt: skip
    splits = load_splits(messages, messages.split, 0)
    assert splits.labels == ("ham", "spam")
    assert splits.input.text is not None
    assert len(splits.input.text.vocabulary) == 1000
