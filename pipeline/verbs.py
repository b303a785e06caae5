"""The verbs of the Python API and of the command line: what each takes, and which stages it runs.

MODEL is any Keras file, a ModelFileSection (a file with its builder, custom objects or trust), a Keras model in memory,
a TrainedModel, or RUN: a folder that an earlier verb wrote.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

from edgedl.core.artifacts import (
    MANIFEST,
    Audit,
    CompressedModel,
    ExportedModel,
    ParityReport,
    QualityChange,
    Run,
    SensitivityReport,
    TrainedModel,
    Verdict,
)
from edgedl.core.config import check as check_config
from edgedl.core.console import reporter
from edgedl.core.errors import ConfigError, InputError, ModelError
from edgedl.core.isolation import DEFAULT_LIMITS, Limits
from edgedl.core.store import RunStore, open_store
from edgedl.models import ModelFileSection
from edgedl.pipeline.audit.config import AuditConfig
from edgedl.pipeline.begin import RECIPE_FILE, begin
from edgedl.pipeline.compress import Technique, TechniqueConfig, technique_in_words
from edgedl.pipeline.data import Source, SourceConfig, Splits, load_splits, parse_data_option
from edgedl.pipeline.profile import profile
from edgedl.pipeline.recipe import Recipe, check_recipe, read_recipe

__all__ = ["audit", "check", "compress", "export", "profile", "run", "sensitivity", "train", "verify"]

AnyModel: TypeAlias = Any
"""Path of a Keras file or of a run folder, a ModelFileSection, a Keras model, or a TrainedModel."""

AnyRecipe: TypeAlias = Recipe | Mapping[str, Any] | str | Path

AnyData: TypeAlias = Source | Mapping[str, Any] | str | Path | None
"""As in a recipe's data section; text is as for --data ("npz:FILE", "digits", a recipe's or run's path)."""


def train(recipe: AnyRecipe, *, out: Path | str | None = None) -> TrainedModel:
    """Train the recipe's model, or go on where a killed run stopped. out: the run's folder (runs/NAME)."""
    checked = as_recipe(recipe)
    with open_store(out_folder(out, checked.name)) as store:
        trained, _ = begin(store, checked)
        return trained


def run(recipe: AnyRecipe, *, out: Path | str | None = None) -> Run:
    """The whole pipeline on one recipe. out: the run's folder (runs/NAME)."""
    from edgedl.pipeline.run import run_recipe

    checked = as_recipe(recipe)
    with open_store(out_folder(out, checked.name)) as store:
        return run_recipe(store, checked)


def compress(
    model: AnyModel,
    method: str | Mapping[str, Any] | Technique,
    *,
    data: AnyData = None,
    out: Path | str | None = None,
    seed: int = 0,
    limits: Limits = DEFAULT_LIMITS,
) -> CompressedModel:
    """One variant of the model. method: a technique or a chain in words ("prune:sparsity=0.75+int8"), or its section.

    data: calibrates and judges the variant; a run brings its own data and seed. Raises ConfigError when the technique
    needs data and there is none.
    """
    from edgedl.pipeline.compress.stage import compress_stage

    technique = as_technique(method)
    with open_model(model, data=data, out=out, seed=seed) as work:
        return compress_stage(
            work.store,
            work.trained,
            technique,
            data=work.data,
            recipe=work.recipe,
            seed=work.seed,
            batch=work.batch,
            limits=limits,
        )


def sensitivity(
    model: AnyModel,
    *,
    data: AnyData = None,
    calibration: int = 200,
    out: Path | str | None = None,
    seed: int = 0,
    limits: Limits = DEFAULT_LIMITS,
) -> SensitivityReport:
    """What each layer of the model costs when it alone is int8, judged on the validation split.

    data: calibrates and judges; a run brings its own data and seed. calibration: number of training examples that show
    the ranges. Raises ConfigError without data or without a validation split.
    """
    from edgedl.pipeline.compress import Calibration
    from edgedl.pipeline.compress.sensitivity import sensitivity_stage

    wanted = check_config(Calibration, {"n": calibration}, source="--calibration")
    with open_model(model, data=data, out=out, seed=seed) as work:
        if work.data is None:
            raise ConfigError(
                "sensitivity needs data to judge by",
                advice="Give it with --data, for example --data digits or --data npz:FILE",
            )
        return sensitivity_stage(
            work.store,
            work.trained,
            data=work.data,
            calibration=cast(Any, wanted),
            seed=work.seed,
            batch=work.batch,
            limits=limits,
        )


def audit(
    variant: CompressedModel,
    config: AuditConfig | Mapping[str, Any] | None = None,
    *,
    data: AnyData = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Audit:
    """Compare a variant with the model that it began as beyond one accuracy number; exceeded limits are in the result.

    config: the run's own unless given. data: the run's own unless given. Raises ConfigError without test examples.
    """
    from edgedl.pipeline.audit.stage import audit_stage

    if variant.quality is None:
        raise ConfigError(
            "an audit needs test examples", advice="Compress with data: --data, for example --data npz:FILE"
        )
    given = None if config is None else cast(AuditConfig, check_config(AuditConfig, config, source="audit"))
    with open_model(variant, data=data) as work:
        asked = given or (work.recipe.audit if work.recipe else None) or AuditConfig()
        found = audit_stage(work.store, work.trained, variant, asked, data=work.data, seed=work.seed, limits=limits)
    if found is None:
        raise ConfigError("an audit needs test examples", required="data with a test split")
    return found


def export(
    model: AnyModel | CompressedModel,
    to: str = "tflite",
    *,
    data: AnyData = None,
    out: Path | str | None = None,
    batch: int | None = 1,
    limits: Limits = DEFAULT_LIMITS,
) -> ExportedModel:
    """The model in a format: float32 for a MODEL, the variant's own precision for a CompressedModel.

    to: tflite, onnx, saved-model, coreml, c-array, front-end, or a device that compiles (ethos-u55:128). batch: static
    batch size, None leaves it open; a CompressedModel keeps the one it was made with.
    """
    from edgedl.pipeline.export import export_stage, refusal

    variant = model if isinstance(model, CompressedModel) else None
    reason = refusal(variant, to)
    if reason is not None:
        raise ModelError(f"{variant.name if variant else 'the model'} cannot be written as {to}: {reason}")
    with open_model(model, data=data, out=out) as work:
        size = work.batch if variant else batch
        return export_stage(work.store, work.trained, variant, to, data=work.data, batch=size, limits=limits)


def verify(file: Path | str | ExportedModel, against: AnyModel, *, data: AnyData = None, seed: int = 0) -> ParityReport:
    """Compare a .tflite or .onnx file with its Keras model, on test examples or, without data, on random inputs."""
    from edgedl.export.inspect import inspect_file
    from edgedl.pipeline.verify import parity, parity_inputs

    path = file.model_path if isinstance(file, ExportedModel) else Path(file)
    facts = inspect_file(path)
    if facts.kind not in {"tflite", "onnx"}:
        raise ModelError(
            f"{path} cannot be verified",
            required="a .tflite or .onnx file",
            received=facts.kind,
            advice="Core ML predicts on Apple's systems alone" if facts.kind == "coreml" else None,
        )
    with tempfile.TemporaryDirectory(prefix="edgedl-") as scratch:
        with open_model(against, data=data, out=scratch, seed=seed) as work:
            trained, splits = work.trained, work.data
        inputs, examples = parity_inputs(trained.contract, splits, seed)
        return parity(
            path,
            trained.path(trained.model_file),
            facts.precision,
            trained.contract,
            inputs,
            examples,
            folder=path.parent,
            format=facts.kind,
            name=path.stem,
        )


def check(
    new: Path | str | ExportedModel,
    old: Path | str | ExportedModel,
    *,
    data: AnyData = None,
    device: str = "cpu",
    budget_s: float = 30.0,
    threads: int = 1,
    seed: int = 0,
    **limits: Any,
) -> Verdict:
    """Is the new file slower, bigger or worse than the old one?

    old: a file, `git:REVISION` (the new file as it was in an earlier commit), or a baseline (.json).
    limits: by the names of `edgedl.pipeline.check.limits.Limits`: `max_slowdown=0.05` (5 %, "auto" unless given),
    `max_size_growth`, `max_memory_growth`, `max_accuracy_drop` (points, judged on the test split of `data`) … None asks
    nothing.
    """
    from edgedl.pipeline.check.against import check_against
    from edgedl.pipeline.check.limits import Limits
    from edgedl.pipeline.judge import quality_change_of_files

    allowed = check_config(Limits, limits, source="check")
    if allowed.max_accuracy_drop is not None and data is None:
        raise ConfigError("a limit on accuracy needs data", advice="Give it with --data, for example --data digits")

    def lost(before: Path, after: Path) -> QualityChange | None:
        if allowed.max_accuracy_drop is None:
            return None
        return quality_change_of_files(before, after, load_data(as_source(data), seed))

    place = old if isinstance(old, str) else as_path(old)
    plan = {"budget_s": budget_s, "threads": threads, "seed": seed}
    return check_against(as_path(new), place, allowed, accuracy=lost, device=device, **plan)


# --- what the verbs are given ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """A run's folder, held; the model in it; the data to train, calibrate and judge with, and the recipe of both, where
    there is any."""

    store: RunStore
    trained: TrainedModel
    data: Splits | None
    seed: int
    batch: int | None
    recipe: Recipe | None = None


@contextlib.contextmanager
def open_model(
    model: AnyModel,
    *,
    data: AnyData = None,
    out: Path | str | None = None,
    seed: int = 0,
) -> Generator[Work]:
    """Hold the run folder that a MODEL lives in, or make one (`out`, runs/NAME) around a file or a model in memory."""
    made = model if isinstance(model, (TrainedModel, CompressedModel)) else None
    if made is not None:
        model = made.folder.parent
    folder = Path(model) if isinstance(model, (str, Path)) else None
    if folder is not None and (folder / RECIPE_FILE).is_file():
        with open_run(folder, data, made) as work:
            yield work
    elif folder is not None and is_run(folder):
        found = trained_model(RunStore(folder), made)
        if data is None:
            with open_store(folder) as store:
                yield Work(store, found, None, seed, 1)
        else:
            with open_file(ModelFileSection(file=found.path(found.model_file)), data, folder, seed, found.name) as work:
                yield work
    elif isinstance(model, (str, Path, ModelFileSection)):
        section = model if isinstance(model, ModelFileSection) else ModelFileSection(file=Path(model))
        with open_file(section, data, out, seed) as work:
            yield work
    else:
        with tempfile.TemporaryDirectory(prefix="edgedl-") as scratch:
            path = Path(scratch) / f"{getattr(model, 'name', 'model')}.keras"
            _save_in_memory(model, path)
            with open_file(ModelFileSection(file=path), data, out, seed) as work:
                yield work


def is_run(folder: Path) -> bool:
    """Whether an earlier verb wrote the folder. There is no recipe in it where a file was taken without data."""
    return (folder / RECIPE_FILE).is_file() or next(folder.glob(f"[!.]*/{MANIFEST}"), None) is not None


@contextlib.contextmanager
def open_run(folder: Path, data: AnyData, made: TrainedModel | CompressedModel | None) -> Generator[Work]:
    """A folder with a recipe: the model that `made` is or comes from, else the one last trained or found again; and its
    own data unless other data is given."""
    recipe = read_recipe(folder / RECIPE_FILE)
    with open_store(folder) as store:
        trained = trained_model(store, made)
        splits = load_data(as_source(data), recipe.seed) if data is not None else None
        if splits is None and trained.data is not None:
            splits = load_data(recipe.data, recipe.seed)
        if splits is not None:
            splits = splits.as_given(trained.contract)
        yield Work(store, trained, splits, recipe.seed, recipe.export.batch, recipe)


def trained_model(store: RunStore, made: TrainedModel | CompressedModel | None = None) -> TrainedModel:
    """The model of a run's folder that `made` is or comes from, else the latest. Raises InputError without one."""
    models = store.artifacts(TrainedModel)
    if made is not None:
        wanted = {made.record.content_hash, *made.record.parents}
        models = [one for one in models if one.record.content_hash in wanted]
    if not models:
        raise InputError(f"{store.folder} holds no finished model", advice="Run `edgedl train` on its recipe first")
    return models[-1]


@contextlib.contextmanager
def open_file(
    section: ModelFileSection, data: AnyData, out: Path | str | None, seed: int, name: str | None = None
) -> Generator[Work]:
    """A Keras file of the user's, brought into a run folder; with data, judged on its test split. name: of the model,
    the file's unless given."""
    from edgedl.models.identify import identify
    from edgedl.pipeline.train.stage import import_stage

    path = section.file
    identify(path)
    if name is None:
        name = "".join(letter if letter.isalnum() or letter in "_.-" else "-" for letter in path.stem) or "model"
    with open_store(out_folder(out, name)) as store:
        if data is None:
            yield Work(store, import_stage(store, section, name), None, seed, 1)
            return
        source = as_source(data)
        if getattr(source, "normalize", "said") is None and not isinstance(data, Source) and _recipe_in(data) is None:
            source = source.model_copy(update={"normalize": "none"})
            reporter().note(f"{path.name} is given the data as it is; `normalize` in a recipe's data says otherwise")
        model = section.model_copy(update={"fine_tune": False, "file": path.absolute()}).model_dump(mode="json")
        recipe = check_recipe({"name": name, "seed": seed, "data": source.model_dump(mode="json"), "model": model})
        trained, splits = begin(store, recipe)
        yield Work(store, trained, splits, seed, 1, recipe)


def _save_in_memory(model: Any, path: Path) -> None:
    roots = {kind.__module__.split(".")[0] for kind in type(model).__mro__}
    if "tf_keras" in roots:
        model.save(path, save_format="keras")
    elif "keras" in roots:
        model.save(path)
    else:
        raise ModelError(
            "this is no model that edgedl knows",
            required="a path, a TrainedModel, or a model of Keras 3 or tf_keras",
            received=f"{type(model).__module__}.{type(model).__name__}",
        )


def out_folder(out: Path | str | None, name: str) -> Path:
    """Where a run goes."""
    return Path(out) if out is not None else Path("runs") / name


def as_recipe(recipe: AnyRecipe) -> Recipe:
    """A recipe from a file, a mapping or itself. Raises ConfigError."""
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, Mapping):
        return check_recipe(recipe)
    return read_recipe(Path(recipe))


def as_technique(method: str | Mapping[str, Any] | Technique) -> Technique:
    """A technique from words (`prune:sparsity=0.75+int8`), its section or itself. Raises ConfigError."""
    if isinstance(method, Technique):
        return method
    section = technique_in_words(method) if isinstance(method, str) else method
    return cast(Technique, check_config(TechniqueConfig, section, source="compress"))


def as_source(data: AnyData) -> Source:
    """A data source from a section, or from text as --data takes it: npz:FILE …, a recipe, or a run's folder."""
    if isinstance(data, Source):
        return data
    if isinstance(data, Mapping):
        return cast(Source, check_config(SourceConfig, data, source="data"))
    if (recipe := _recipe_in(data)) is not None:
        return read_recipe(recipe).data
    return cast(Source, check_config(SourceConfig, parse_data_option(str(data)), source="--data"))


def _recipe_in(data: AnyData) -> Path | None:
    """The recipe that --data names, or that of the run."""
    if isinstance(data, Mapping):
        return None
    path = Path(str(data))
    path = path / RECIPE_FILE if (path / RECIPE_FILE).is_file() else path
    return path if path.suffix in {".yaml", ".yml"} else None


def load_data(source: Source, seed: int) -> Splits:
    """Read a source and draw its splits."""
    return load_splits(source, source.split, seed)


def as_path(file: Path | str | ExportedModel) -> Path:
    """The model file itself."""
    return file.model_path if isinstance(file, ExportedModel) else Path(file)


def variants_of(model: Path, name: str | None) -> list[CompressedModel | None]:
    """What `export` writes: float32 (None), and of a run's model the latest compressed variant of each name.

    name: only this one. Raises ConfigError when there is no such variant.
    """
    newest: dict[str, CompressedModel | None] = {"float32": None}
    if is_run(model):
        store = RunStore(model)
        trained = trained_model(store).record.content_hash
        variants = [one for one in store.artifacts(CompressedModel) if trained in one.record.parents]
        newest |= {one.name: one for one in variants}
    if name is None:
        return list(newest.values())
    if name not in newest:
        raise ConfigError(f"there is no variant {name!r} in {model}", required=" or ".join(newest), received=name)
    return [newest[name]]
