"""What training begins with: a family's first weights, a file of the user's, or a backbone that has learnt before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgedl.core.artifacts import CarriedOver, TrainedModel
from edgedl.core.contract import Task
from edgedl.core.errors import ModelError
from edgedl.core.store import RunStore
from edgedl.models import Family, Head, KerasModel, TransferSection
from edgedl.models.load import BroughtIn, bring_in, load_keras
from edgedl.models.standardise import with_standardisation
from edgedl.models.transfer import build_transfer, load_backbone
from edgedl.pipeline.data import Splits
from edgedl.pipeline.data.base import FOLDING
from edgedl.pipeline.recipe import Recipe
from edgedl.pipeline.tasks import TaskRules

MODEL_FILE = "model.keras"
BACKBONE_FILE = ".backbone.keras"


@dataclass(frozen=True)
class Start:
    """What a model begins as.

    softmax: whether a classifier ends in one. data: with the model's own input name. carried: how a file was brought.
    """

    origin: str
    softmax: bool
    data: Splits
    carried: CarriedOver | None = None


def bring_start(folder: Path, recipe: Recipe, data: Splits, rules: TaskRules) -> Start:
    """Bring the Keras file that the recipe begins with, if it does, into the run's folder. Raises ModelError."""
    if isinstance(recipe.model, Family):
        return Start("trained here", True, data if rules.task in FOLDING else data.unfolded())
    data = data.unfolded()
    file = file_of(recipe)
    if isinstance(recipe.model, TransferSection):
        if file is not None:
            bring_in(file, folder / BACKBONE_FILE, recipe.model.backbone)
        return Start(f"transferred from {file.name if file else recipe.model.backbone.application}", True, data)
    assert file is not None
    brought = bring_in(file, folder / MODEL_FILE, recipe.model)
    _check_fits(brought, data, rules.head(data), file)
    if recipe.model.fine_tune and brought.carried is not None and brought.carried.road == "frozen":
        raise ModelError(
            f"{file.name} cannot be trained: its graph is frozen",
            required="a model of layers",
            received=", ".join(brought.carried.notes),
            advice="`fine_tune: false` takes its weights as they are",
        )
    return Start(file.name, brought.ends_in_softmax, data.named(brought.inputs[0].name), brought.carried)


def build_model(folder: Path, recipe: Recipe, data: Splits, head: Head) -> KerasModel:
    """The recipe's model with its first weights."""
    if isinstance(recipe.model, Family):
        model = recipe.model.build(data.input.name, data.input.shape, head)
        if data.folded is not None:
            return with_standardisation(model, data.input.name, data.folded.mean, data.folded.std)
        return model
    if isinstance(recipe.model, TransferSection):
        backbone = load_backbone(recipe.model.backbone, data.input.shape, folder / BACKBONE_FILE)
        return build_transfer(recipe.model.backbone, backbone, data.input, head)
    return load_keras(folder / MODEL_FILE)


def task_of(recipe: Recipe, data: Splits) -> Task:
    """What the recipe's model learns on this data. Raises ModelError when the two do not fit."""
    return recipe.model.task_for(data.task) if isinstance(recipe.model, Family) else data.task


def file_of(recipe: Recipe) -> Path | None:
    """The Keras file that the recipe's model begins with; of a run's folder, its trained model."""
    section = recipe.model.backbone if isinstance(recipe.model, TransferSection) else recipe.model
    if isinstance(section, Family) or section.file is None:
        return None
    models = RunStore(section.file).artifacts(TrainedModel) if section.file.is_dir() else []
    return models[-1].path(models[-1].model_file) if models else section.file


def _check_fits(brought: BroughtIn, data: Splits, head: Head, file: Path) -> None:
    if len(brought.inputs) != 1 or len(brought.outputs) != 1:
        raise ModelError(
            f"{file.name} cannot be trained or judged on this data",
            required="one input and one output",
            received=f"{len(brought.inputs)} inputs, {len(brought.outputs)} outputs",
        )
    takes, gives = brought.inputs[0].shape[1:], brought.outputs[0].shape[1:]
    fits = len(takes) == len(data.input.shape) and all(
        want in (-1, have) for want, have in zip(takes, data.input.shape, strict=True)
    )
    if not fits:
        raise ModelError(
            f"{file.name} does not take this data",
            required=f"input of shape {data.input.shape}, as the data has",
            received=f"input {brought.inputs[0].name} of shape {takes}",
        )
    if gives != (head.units,):
        raise ModelError(
            f"{file.name} does not answer this data's question",
            required=f"an output of shape ({head.units},)",
            received=f"output {brought.outputs[0].name} of shape {gives}",
        )
