"""A student of its own: built new, or from a file, with the names and the answer that the chain's contract promises."""

from __future__ import annotations

from typing import Any

from edgedl.core.contract import Contract
from edgedl.core.errors import ModelError
from edgedl.models import Family, KerasModel
from edgedl.pipeline.compress.base import Bench
from edgedl.pipeline.compress.distillation import KerasFile
from edgedl.pipeline.compress.distiller import load_file, trained_in

STUDENT_FILE = ".student.keras"


def new_student(section: Family | KerasFile, bench: Bench) -> KerasModel:
    """The student before its training. Raises ModelError where it does not fit the chain's model."""
    contract = bench.base.contract
    if isinstance(section, Family):
        model, softmax, words = _built(section, bench), True, f"the student {section.family}"
    elif (run := trained_in(section.file)) is not None:
        from edgedl.models.load import load_keras

        model = load_keras(run.path(run.model_file))
        softmax, words = run.contract.outputs[0].content == "probabilities", f"{run.name} of {section.file.name}"
    else:
        model, softmax = load_file(section, bench.folder / STUDENT_FILE)
        words = section.file.name
    _check(model, contract, words)
    return _in_the_contracts_words(model, contract, softmax=softmax, words=words)


def _built(section: Family, bench: Bench) -> KerasModel:
    from edgedl.pipeline.tasks import TASKS
    from edgedl.pipeline.train.start import build_model

    task = bench.base.contract.task
    if section.task_for(bench.data.task) != task:
        raise ModelError(f"model family {section.family} does not fit this chain", required=f"a family for {task}")
    recipe = bench.recipe.model_copy(update={"model": section})
    return build_model(bench.folder, recipe, bench.data, TASKS[task].head(bench.data))


def _check(model: KerasModel, contract: Contract, words: str) -> None:
    for what, own, wanted in (("inputs", model.inputs, contract.inputs), ("outputs", model.outputs, contract.outputs)):
        found, shapes = [tuple(one.shape[1:]) for one in own], [one.shape for one in wanted]
        if found != shapes:
            raise ModelError(
                f"teacher and student have different {what}: {words} cannot take the model's place",
                required=" and ".join(map(str, shapes)),
                received=" and ".join(map(str, found)),
            )


def _in_the_contracts_words(model: KerasModel, contract: Contract, *, softmax: bool, words: str) -> KerasModel:
    """The same model with the contract's names of input and outputs, and with or without a softmax as it says."""
    import tf_keras

    content = contract.outputs[0].content
    adds, drops = content == "probabilities" and not softmax, content == "logits" and softmax
    names = [one.name for one in contract.inputs], [one.name for one in contract.outputs]
    if not (adds or drops) and (list(model.input_names), list(model.output_names)) == names:
        return model
    if sorted(model.output_names) == sorted(names[1]) and not (adds or drops) and len(names[1]) > 1:
        return model
    functional = tf_keras.Model(model.inputs, model.outputs)  # a sequential model is cloned in another way
    renamed: dict[str, str] = dict(zip(functional.output_names, names[1], strict=True))

    def rebuilt(layer: Any) -> Any:
        config = layer.get_config()
        if layer.name in renamed and not adds:
            config["name"] = renamed[layer.name]
        if drops and layer.name == functional.output_names[0]:
            if "activation" not in config:
                raise ModelError(f"{words} ends in a softmax of its own", required="logits, as the chain's model gives")
            config["activation"] = "linear"
        return type(layer).from_config(config)

    inputs = [tf_keras.Input(one.shape, name=one.name, dtype=one.dtype) for one in contract.inputs]
    made: KerasModel = tf_keras.models.clone_model(functional, input_tensors=inputs, clone_function=rebuilt)
    made.set_weights(functional.get_weights())
    if adds:
        answer = tf_keras.layers.Softmax(dtype="float32", name=names[1][0])(made.outputs[0])
        made = tf_keras.Model(made.inputs, [answer, *made.outputs[1:]])
    return made
