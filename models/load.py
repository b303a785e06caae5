"""Reading Keras files: the kind is told from the content, never from the name.

Whatever the file, what comes out is a tf_keras model (design: one Keras inside). `bring_in` and `inspect_keras` run in
a child process: a model file is somebody else's input, and reading one can crash. models/guard.py looks at a file
before any of it is loaded.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgedl.core.artifacts import CarriedOver, TensorSpec
from edgedl.core.errors import ConfigError, EdgedlError, ModelError
from edgedl.core.files import write_atomically
from edgedl.core.isolation import Limits, run_isolated
from edgedl.core.model_facts import ModelFacts
from edgedl.models import guard
from edgedl.models.base import KerasModel, LoadOptions
from edgedl.models.identify import READABLE, KerasFile, identify

OBJECTS_SUFFIX = ".objects.json"
"""Beside a `model.keras` of ours that uses the user's own layers: where their code is."""


BARE = LoadOptions()


@dataclass(frozen=True)
class Loaded:
    """A tf_keras model, and how it came to be one."""

    model: KerasModel
    carried: CarriedOver | None = None


# ── loading ───────────────────────────────────────────────────────────────────────────────────────────────────────


def load_keras(path: Path) -> KerasModel:
    """The tf_keras model in the file, not compiled. Raises ModelError; native crashes are the caller's child's."""
    objects = path.with_name(path.name + OBJECTS_SUFFIX)
    names = tuple(json.loads(objects.read_text())) if objects.is_file() else ()
    return load_any(path, LoadOptions(custom_objects=names)).model


def load_any(path: Path, options: LoadOptions) -> Loaded:
    """Any Keras file as a tf_keras model, not compiled. Raises ModelError, ConfigError."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    found = identify(path)
    objects = {name.split(":")[1]: _import(name, "--custom-objects") for name in options.custom_objects}
    if found.kind == "weights" and options.builder is None:
        raise ModelError(
            f"{path} holds weights without their model",
            required=READABLE,
            advice="Name the function that builds the model: --builder MODULE:FUNCTION",
        )
    from edgedl.models import layers

    layers.register()
    try:
        if options.builder is not None:
            loaded = _load_weights(found, options.builder, objects)
        elif found.kind == "saved-model":
            loaded = _load_saved_model(found, options, objects)
        else:
            loaded = _load_file(found, options, objects)
    except EdgedlError:
        raise
    except RecursionError:
        raise guard.refuse(path, "its configuration is nested without end", trust_helps=False) from None
    except Exception as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(f"Keras cannot load {path}", required=READABLE, received=reason[:300]) from None
    _check_built(path, loaded.model)
    return loaded


def _import(name: str, option: str) -> Any:
    """What "module:name" names; the folder that the user stands in is looked in first. Raises ConfigError."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ConfigError(f"{option} cannot be read", required="MODULE:NAME", received=name)
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{option} {name} is not there", received=str(error)) from None


def _check_built(path: Path, model: KerasModel) -> None:
    import tf_keras

    if not isinstance(model, tf_keras.Model) or not model.built or not model.inputs:
        raise ModelError(
            f"{path} does not say the shapes of its inputs",
            required="a functional or sequential Keras model, built",
            received=type(model).__name__,
            advice="Build the model with an Input layer and save it again",
        )


def _load_file(found: KerasFile, options: LoadOptions, objects: Mapping[str, Any]) -> Loaded:
    """A .keras or .h5 file: with the Keras that wrote it; where that fails, with the other."""
    config = _checked_config(found, options, objects)
    keras_3 = found.version is not None and found.version.startswith("3")
    with tempfile.TemporaryDirectory(prefix="edgedl-") as folder:
        file = _named(found, Path(folder))
        roads = [_with_keras_3, _with_tf_keras] if keras_3 else [_with_tf_keras, _with_keras_3]
        try:
            return roads[0](found, file, config, options, objects)
        except EdgedlError:
            raise
        except Exception as error:
            try:
                return roads[1](found, file, config, options, objects)
            except Exception:  # the reason of the Keras that wrote the file is the one that helps
                raise error from None


def _checked_config(found: KerasFile, options: LoadOptions, objects: Mapping[str, Any]) -> dict[str, Any]:
    """The file's configuration, once the guard has seen the file. Raises ModelError."""
    import h5py

    path = found.path
    if found.kind == "h5":
        guard.check_h5(path, path)
        with h5py.File(path, "r") as file:
            text: Any = file.attrs["model_config"]
    else:
        with zipfile.ZipFile(path) as archive:
            names = {name.replace("\\", "/"): name for name in archive.namelist()}
            text = archive.read(names["config.json"])
            if "model.weights.h5" in names:
                with archive.open(names["model.weights.h5"]) as weights:
                    guard.check_h5(path, weights)
    config = guard.read_config(path, text)
    customs = guard.check_config(path, config, trust=options.trust)
    missing = [one for one in customs if one.name.rpartition(">")[2] not in objects]
    if missing and not (options.trust and all(one.module for one in missing)):
        one = missing[0]
        where = f" (layer {one.layer!r})" if one.layer else ""
        raise ModelError(
            f"{path.name} uses {one.name}{where}, whose code is not in Keras",
            required="the code of every layer",
            received=f"no {', '.join(sorted({one.name for one in missing}))}",
            advice=f"--custom-objects MODULE:{one.name.rpartition('>')[2]} names where it is",
        )
    return config


def _named(found: KerasFile, folder: Path) -> Path:
    """The file under a name that Keras goes by; a zip that Windows wrote, with its separators mended."""
    suffix = {"keras-2": ".keras", "keras-3": ".keras", "h5": ".h5"}[found.kind]
    named = folder / f"model{suffix}"
    if suffix == ".keras":
        with zipfile.ZipFile(found.path) as archive:
            if any("\\" in entry.filename for entry in archive.infolist()):
                with zipfile.ZipFile(named, "w") as mended:
                    for entry in archive.infolist():
                        mended.writestr(entry.filename.replace("\\", "/"), archive.read(entry))
                return named
    named.symlink_to(found.path.absolute())
    return named


def _with_keras_3(
    found: KerasFile, file: Path, config: Mapping[str, Any], options: LoadOptions, objects: Mapping[str, Any]
) -> Loaded:
    import keras

    from edgedl.models.carry import carry_over
    from edgedl.models.twins import stand_in

    twins = {name: one for name, one in objects.items() if _is_tf_keras(one)}
    known = {name: stand_in(one) if name in twins else one for name, one in objects.items()}
    shapes: list[tuple[int, ...]] = []
    with contextlib.suppress(Exception), keras.StatelessScope(initialize_variables=False):
        declared = keras.saving.deserialize_keras_object(dict(config), known, safe_mode=not options.trust)
        shapes = [tuple(one.shape) for one in declared.variables]
    _check_size(found.path, shapes)
    model = keras.saving.load_model(file, custom_objects=known, compile=False, safe_mode=not options.trust)
    return Loaded(*carry_over(model, found.words, twins))


def _with_tf_keras(
    found: KerasFile, file: Path, config: Mapping[str, Any], options: LoadOptions, objects: Mapping[str, Any]
) -> Loaded:
    import tensorflow as tf
    import tf_keras

    shapes: list[tuple[int, ...]] = []
    with contextlib.suppress(Exception), tf.Graph().as_default():
        declared: Any = tf_keras.models.model_from_config(dict(config), custom_objects=dict(objects))
        shapes = [tuple(one.shape) for one in declared.weights]
    _check_size(found.path, shapes)
    safe = {"safe_mode": not options.trust} if file.suffix == ".keras" else {}
    model: Any = tf_keras.models.load_model(file, custom_objects=dict(objects), compile=False, **safe)
    return _without_code(found, model, objects)


def _check_size(path: Path, shapes: list[tuple[int, ...]]) -> None:
    """Refuse what its layers declare and no machine holds, before they are made. Raises ModelError."""
    import psutil

    declared = 4 * sum(math.prod(shape) for shape in shapes)
    if declared > psutil.virtual_memory().total / 3:  # in the file, in memory, and once more while it is converted
        raise guard.refuse(path, f"its layers declare {declared:,} bytes of weights", trust_helps=False)


def _without_code(found: KerasFile, model: Any, objects: Mapping[str, Any]) -> Loaded:
    """The model as it is; frozen where it holds code that a saved file of ours would have to hold again."""
    import tf_keras

    _check_built(found.path, model)
    if not isinstance(model, (tf_keras.Sequential, tf_keras.Model)) or not model._is_graph_network:
        return _frozen(found, model, f"{type(model).__name__} is no graph of layers")
    config = {"class_name": type(model).__name__, "config": model.get_config()}
    try:
        customs = guard.check_config(found.path, config, trust=False)
    except ModelError:
        return _frozen(found, model, "it holds code of its own, which --trust has run")
    unknown = [one.name for one in customs if one.name.rpartition(">")[2] not in objects]
    return _frozen(found, model, f"{unknown[0]} was imported with --trust") if unknown else Loaded(model)


def _frozen(found: KerasFile, model: Any, reason: str) -> Loaded:
    import tensorflow as tf

    from edgedl.models.carry import around
    from edgedl.models.layers.frozen import freeze

    specs = [tf.TensorSpec(one.shape, one.dtype) for one in model.inputs]

    def call(*tensors: Any) -> list[Any]:
        given = list(tensors)
        return tf.nest.flatten(model(given if len(given) > 1 else given[0], training=False))

    carried = around(freeze(call, specs), specs, list(model.input_names), list(model.output_names), model.name)
    return Loaded(carried, CarriedOver(found.words, "frozen", None, None, (reason,)))


def _load_saved_model(found: KerasFile, options: LoadOptions, objects: Mapping[str, Any]) -> Loaded:
    """A folder that Keras 2 wrote, as its layers; any other, as its serving signature."""
    import tensorflow as tf
    import tf_keras

    if guard.check_saved_model(found.path, trust=options.trust):
        model: Any = tf_keras.models.load_model(found.path, custom_objects=dict(objects), compile=False)
        if isinstance(model, tf_keras.Model) and model.inputs and all(_is_of_keras(one) for one in model.layers):
            return _without_code(found, model, objects)
    loaded: Any = tf.saved_model.load(str(found.path))
    signatures = {name: one for name, one in loaded.signatures.items() if not name.startswith("__")}
    signature = signatures.get("serving_default") or signatures.get("serve") or next(iter(signatures.values()), None)
    if signature is None:
        raise ModelError(f"{found.path} has no signature", required="a serving signature", received="none")
    from edgedl.models.carry import around
    from edgedl.models.layers.frozen import freeze

    specs_by_name = signature.structured_input_signature[1]
    names, outputs = list(specs_by_name), sorted(signature.structured_outputs)
    specs = [specs_by_name[name] for name in names]

    def call(*tensors: Any) -> list[Any]:
        answered = signature(**dict(zip(names, tensors, strict=True)))
        return [answered[name] for name in outputs]

    model = around(freeze(call, specs), specs, names, outputs, found.path.name)
    return Loaded(model, CarriedOver("SavedModel", "frozen", None, None, ("it holds a signature, not Keras layers",)))


def _is_of_keras(layer: Any) -> bool:
    """Not one that was revived from the graph because its class is unknown."""
    return type(layer).__module__.startswith(("tf_keras.src.layers", "tf_keras.src.engine", "edgedl."))


def _load_weights(found: KerasFile, builder: str, objects: Mapping[str, Any]) -> Loaded:
    import keras
    import tf_keras

    from edgedl.models.carry import carry_over

    model = _import(builder, "--builder")()
    if not isinstance(model, (tf_keras.Model, keras.Model)):
        raise ConfigError(f"--builder {builder} gives no Keras model", received=type(model).__name__)
    with tempfile.TemporaryDirectory(prefix="edgedl-") as folder:
        model.load_weights(_weights_file(found, Path(folder)))
    if isinstance(model, tf_keras.Model):
        return _without_code(found, model, objects)
    return Loaded(*carry_over(model, f"Keras {keras.__version__} (builder {builder})"))


def _weights_file(found: KerasFile, folder: Path) -> Path:
    """Under the name that Keras goes by."""
    import h5py

    if found.kind in ("keras-2", "keras-3"):
        named = folder / "model.weights.h5"
        with zipfile.ZipFile(found.path) as archive:
            named.write_bytes(archive.read("model.weights.h5"))
        guard.check_h5(found.path, named)
        return named
    if found.path.suffix == ".index":
        return found.path.with_suffix("")
    guard.check_h5(found.path, found.path)
    with h5py.File(found.path, "r") as file:
        legacy = "layer_names" in file.attrs or "model_weights" in file
    named = folder / ("model.h5" if legacy else "model.weights.h5")
    named.symlink_to(found.path.absolute())
    return named


def _is_tf_keras(one: Any) -> bool:
    import tf_keras

    return isinstance(one, type) and issubclass(one, tf_keras.layers.Layer)


# ── in a child process ────────────────────────────────────────────────────────────────────────────────────────────


def inspect_keras(path: Path, options: LoadOptions = BARE) -> ModelFacts:
    """Layers, parameters, MACs of a Keras file, read in a child process. Raises ModelError, StageError."""
    return _in_child(_inspect, path, options)


def _in_child(function: Any, path: Path, *args: object) -> Any:
    identify(path)
    return run_isolated(
        function,
        path,
        *args,
        stage="reading",
        subject=path.name,
        limits=Limits(time_s=300),
        advice="The file may be damaged, or made by another version of Keras",
    )


def _inspect(path: Path, options: LoadOptions) -> ModelFacts:
    from edgedl.models.facts import facts_of_model, obstacles

    found, loaded = identify(path), load_any(path, options)
    facts = facts_of_model(loaded.model, path, found.kind)
    metadata = {"keras_version": found.version} if found.version else {}
    carried = (loaded.carried.words, *loaded.carried.notes) if loaded.carried else ()
    return replace(facts, metadata=metadata, notes=(*carried, *obstacles(loaded.model)))


@dataclass(frozen=True)
class BroughtIn:
    """A file of the user's, written again as `model.keras` of tf_keras."""

    parameters: int
    macs: int
    layers: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ends_in_softmax: bool
    carried: CarriedOver | None = None


def bring_in(path: Path, target: Path, options: LoadOptions = BARE) -> BroughtIn:
    """Load any Keras file and write it as a tf_keras file at `target`, in a child process."""
    return _in_child(_bring_in, path, target, options)


def _bring_in(path: Path, target: Path, options: LoadOptions) -> BroughtIn:
    from edgedl.models.facts import facts_of_model

    loaded = load_any(path, options)
    model = loaded.model
    model.save(target, save_format="keras")
    twins = [name for name in options.custom_objects if _is_tf_keras(_import(name, "--custom-objects"))]
    if twins:
        write_atomically(target.with_name(target.name + OBJECTS_SUFFIX), json.dumps(twins))
    facts = facts_of_model(model, target, "keras-2")
    layers = tuple(op.name for op in facts.ops)
    softmax = ends_in_softmax(model)
    return BroughtIn(facts.parameters, facts.macs, layers, facts.inputs, facts.outputs, softmax, loaded.carried)


def ends_in_softmax(model: KerasModel) -> bool:
    """Whether the first output is a softmax: its last layer's activation, a Softmax layer, or a frozen graph's op."""
    import tf_keras

    from edgedl.models.layers.frozen import Frozen

    last = model.outputs[0]._keras_history.layer  # the public API has no way from a tensor to its layer
    if isinstance(last, tf_keras.layers.Softmax):
        return True
    frozen = next((layer for layer in model.layers if isinstance(layer, Frozen)), None)
    if frozen is not None:
        return frozen.ends_in_softmax
    return getattr(last, "activation", None) is tf_keras.activations.softmax
