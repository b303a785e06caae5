"""The recipe: what one run does, checked before anything heavy is imported. `edgedl recipe-schema` publishes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, TypeAdapter, ValidationInfo, model_validator

from edgedl.core.config import InputPath, Section, apply_settings, check, read_yaml, sentence
from edgedl.models import FamilyConfig, ModelFileSection, TransferSection
from edgedl.pipeline.audit.config import AuditConfig, audit_section
from edgedl.pipeline.check.limits import Limits
from edgedl.pipeline.compress import TechniqueConfig
from edgedl.pipeline.data import SourceConfig
from edgedl.pipeline.data.augment import Augment

Seed: TypeAlias = Annotated[int, Field(ge=0, lt=2**31)]


def _by_name(value: object) -> object:
    """`cosine` is short for `{name: cosine}`."""
    return {"name": value} if isinstance(value, str) else value


class Optimizer(Section):
    """How the weights follow the gradient."""

    name: Literal["sgd", "adam", "adamw"] = Field(
        default="adam",
        description="sgd with momentum (Sutskever et al. 2013), adam (Kingma & Ba 2015), "
        "adamw (Loshchilov & Hutter 2019).",
    )
    learning_rate: PositiveFloat = Field(default=1e-3, description="The schedule's highest rate.")
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0, description="SGD only.")
    nesterov: bool = Field(default=False, description="SGD only.")
    weight_decay: float | None = Field(
        default=None,
        ge=0.0,
        description="Decoupled weight decay (Loshchilov & Hutter 2019, eq. 9 and 12), of sgd and adamw; "
        "unless given 0 for sgd, 0.004 for adamw.",
    )
    clip_norm: PositiveFloat | None = Field(default=None, description="Clip the global norm of the gradient.")


class Schedule(Section):
    """The learning rate over the run, step by step."""

    name: Literal["constant", "cosine", "step"] = Field(
        default="constant",
        description="cosine: down to 0 over the run (Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5).",
    )
    warmup_epochs: float = Field(
        default=0.0, ge=0.0, description="Linear rise from 0 at the start (Goyal et al. 2017)."
    )
    every_epochs: PositiveInt = Field(default=10, description="step only: epochs between drops.")
    factor: float = Field(
        default=0.1, gt=0.0, lt=1.0, description="step only: the rate is multiplied by this at each drop."
    )


class EarlyStopping(Section):
    """Stop when the validation set says so, and keep the best epoch's weights."""

    metric: str = Field(default="loss", description="A metric on the validation set: loss, or one of `metrics`.")
    patience: PositiveInt = Field(default=10, description="Epochs without improvement before stopping.")
    min_delta: float = Field(default=0.0, ge=0.0, description="A smaller change is no improvement.")
    restore_best: bool = Field(default=True, description="Go back to the best epoch's weights at the end.")


Loss: TypeAlias = Literal["auto", "cross-entropy", "focal", "mse", "mae", "huber"]
Metric: TypeAlias = Literal["accuracy", "top5", "auc", "precision", "recall", "mae", "mse", "rmse"]


class Train(Section):
    """Training in TensorFlow's static graph: one trace per step function for the whole run."""

    epochs: PositiveInt = Field(default=20, description="Passes over the training data, at most.")
    batch_size: PositiveInt = Field(default=64)
    optimizer: Annotated[Optimizer, BeforeValidator(_by_name)] = Optimizer()
    schedule: Annotated[Schedule, BeforeValidator(_by_name)] = Schedule()
    loss: Loss = Field(default="auto", description="auto: cross-entropy for classes, mse for values.")
    metrics: tuple[Metric, ...] | Literal["auto"] = Field(
        default="auto", description="auto: accuracy for classes, mae for values."
    )
    early_stopping: EarlyStopping | None = Field(default=None, description="Off unless given.")
    augment: Augment = Augment()
    class_weights: Literal["balanced"] | dict[str, PositiveFloat] | None = Field(
        default=None, description="balanced: n / (classes × examples of the class); or a weight per label."
    )
    label_smoothing: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="Szegedy et al. 2016, arXiv:1512.00567, §7."
    )
    mixed_precision: Literal["off", "float16", "bfloat16"] = Field(
        default="off", description="Compute in half precision, keep float32 weights (Micikevicius et al. 2018)."
    )
    jit_compile: bool = Field(default=False, description="Compile the step with XLA.")
    steps_per_execution: PositiveInt = Field(default=1, description="Training steps in one call of the graph.")


class Profile(Section):
    """Which devices measure, and for how long."""

    devices: tuple[str, ...] = Field(default=("cpu",), description="`edgedl devices` lists them; empty: no profiling.")
    budget_s: PositiveFloat = Field(default=10.0, description="Seconds of sampling per device, for all files together.")
    threads: PositiveInt = Field(default=1, le=256)
    xnnpack: bool = Field(default=True, description="LiteRT's optimised kernels, as apps use them by default.")


class Check(Limits):
    """Limits; a file beyond one makes the run end with exit code 1. Accuracy is held against float32, the rest against
    a baseline.
    """

    against: InputPath | None = Field(
        default=None, description="Folder with baseline files of the same names as the exported ones."
    )
    budget_s: PositiveFloat = Field(default=30.0, description="Seconds of paired sampling per file, at most.")


def _technique(value: object) -> object:
    """`int8` is short for `{method: int8}`."""
    return {"method": value} if isinstance(value, str) else value


Format: TypeAlias = Literal["tflite", "onnx", "saved-model", "coreml", "c-array", "front-end"]


class Export(Section):
    """Which formats every variant is written in."""

    formats: tuple[Format, ...] = Field(default=("tflite", "onnx"))
    batch: PositiveInt | None = Field(
        default=1, description="Static batch size of the exported files; null leaves it open."
    )


def _formats(value: object) -> object:
    """`[tflite, onnx]` is short for `{formats: [tflite, onnx]}`."""
    return {"formats": value} if isinstance(value, (list, tuple)) else value


def _model_section(value: object, info: ValidationInfo) -> object:
    """A section with `file` is a file, one with `backbone` transfer learning, every other a family.

    So errors speak of the one that was meant.
    """
    if isinstance(value, str):
        value = {"family": value}
    if isinstance(value, Mapping):
        kind: Any = ModelFileSection if "file" in value else TransferSection if "backbone" in value else FamilyConfig
        return TypeAdapter(kind).validate_python(value, context=info.context)
    return value


class Recipe(Section):
    """One run: data and model, and how the model is trained, compressed, exported, measured and checked."""

    name: str = Field(
        default="model", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="Names the run's folder and files."
    )
    description: str = Field(
        default="", description="One sentence for the people who embed the model; travels in every file."
    )
    seed: Seed = Field(default=0, description="Seed of everything random: split, initial weights, order, augmentation.")
    data: SourceConfig
    model: Annotated[FamilyConfig | ModelFileSection | TransferSection, BeforeValidator(_model_section)]
    train: Train = Train()
    compress: tuple[Annotated[TechniqueConfig, BeforeValidator(_technique)], ...] = Field(
        default=(), description="Variants beside float32; a bare name is short for {method: name}."
    )
    audit: Annotated[AuditConfig | None, BeforeValidator(audit_section)] = Field(
        default=AuditConfig(),
        description="Compare every variant with the uncompressed model beyond its accuracy; false leaves it out.",
    )
    export: Annotated[Export, BeforeValidator(_formats)] = Export()
    profile: Profile = Profile()
    check: Check = Check()

    @model_validator(mode="after")
    def _variants_have_names_of_their_own(self) -> Recipe:
        names = ["float32", *(technique.variant for technique in self.compress)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            message = f"two variants are called '{twice[0]}'; give one of them a `name`"
            raise sentence(message)
        return self


def read_recipe(path: Path, settings: Sequence[str] = ()) -> Recipe:
    """The recipe in the file, with --set settings put in. Paths in it are relative to the file's folder.

    Raises ConfigError.
    """
    data = apply_settings(read_yaml(path), list(settings))
    return check_recipe(data, source=str(path), root=path.parent)


def check_recipe(data: Mapping[str, Any], *, source: str = "recipe", root: Path | None = None) -> Recipe:
    """A mapping as a Recipe; its paths are relative to `root`. Raises ConfigError naming key and requirement."""
    return check(Recipe, data, source=source, root=root)


def recipe_json(recipe: Recipe) -> dict[str, Any]:
    """The checked recipe with its defaults, as plain JSON types."""
    return recipe.model_dump(mode="json")


def recipe_schema() -> str:
    """JSON schema of a recipe, for editors."""
    schema = Recipe.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2, ensure_ascii=False)
