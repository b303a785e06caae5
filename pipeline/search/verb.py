"""The verb `search`: the best file within a budget."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedl.core.errors import ConfigError
from edgedl.pipeline.begin import RECIPE_FILE
from edgedl.pipeline.search.budget import Budget, parse_budget

if TYPE_CHECKING:
    from edgedl.core.artifacts import TrainedModel
    from edgedl.core.isolation import Limits
    from edgedl.pipeline.search.result import SearchResult
    from edgedl.pipeline.search.search import Watch
    from edgedl.pipeline.verbs import Work


def search(
    model: Any,
    budget: str | Budget,
    *,
    minimise: str | None = None,
    data: Any = None,
    trials: int = 30,
    minutes: float | None = None,
    storage: str | None = None,
    out: Path | str | None = None,
    seed: int = 0,
    latency_s: float = 6.0,
    limits: Limits | None = None,
    watch: Watch | None = None,
) -> SearchResult:
    """The best variant of the model within a budget such as "size<=60KB, latency<=0.5x, accuracy_drop<=0.5".

    model, data, out, seed: as in `compress`; a run brings its own data and seed, and `out` makes a copy of it to search
    in. minimise: the goal within the limits (size, gzip, latency, accuracy_drop …). trials: candidates in all; minutes:
    of this call. storage: an Optuna storage that several processes, each with an `out` of its own, work on together.
    latency_s: seconds of measuring per candidate. watch: told after every trial. The same call goes on where a killed
    one stopped. Raises ConfigError for a budget that makes no sense or data that is not there.
    """
    wanted = parse_budget(budget, minimise) if isinstance(budget, str) else budget
    _check(trials, minutes, latency_s)
    if data is None and isinstance(model, (str, os.PathLike)) and not (Path(model) / RECIPE_FILE).is_file():
        raise ConfigError(
            "a search needs data to train, calibrate and judge with", advice="Give it with --data, e.g. --data npz:FILE"
        )
    if storage is not None:
        from edgedl.pipeline.search.trials import open_storage

        open_storage(storage)  # a wrong one is told before the model is loaded
    from edgedl.core.isolation import DEFAULT_LIMITS
    from edgedl.pipeline.search.search import Plan, search_stage
    from edgedl.pipeline.search.space import space_for

    space = space_for(wanted.objectives)
    plan = Plan(trials, minutes, storage, latency_s)
    with _opened(model, data, out, seed) as work:
        return search_stage(work, wanted, space, plan, limits=limits or DEFAULT_LIMITS, watch=watch)


def _check(trials: int, minutes: float | None, latency_s: float) -> None:
    if trials < 1:
        raise ConfigError("a search needs trials", required="--trials of 1 or more", received=str(trials))
    for name, value in (("--minutes", minutes), ("--latency-s", latency_s)):
        if value is not None and not 0 < value < float("inf"):
            raise ConfigError(f"{name} makes no sense", required="more than 0", received=f"{value:g}")


@contextlib.contextmanager
def _opened(model: Any, data: Any, out: Path | str | None, seed: int) -> Generator[Work]:
    """The model's run; a copy of it in `out` where the model is a run and that is another place."""
    from edgedl.core.artifacts import TrainedModel
    from edgedl.pipeline.verbs import is_run, open_model

    run = model.folder.parent if isinstance(model, TrainedModel) else None
    if run is None and isinstance(model, (str, os.PathLike)) and is_run(Path(model)):
        run = Path(model)
    if run is not None and out is not None and Path(out).resolve() != run.resolve():
        made = model if isinstance(model, TrainedModel) else None
        model = _copied(run, Path(out), made)
    with open_model(model, data=data, out=out, seed=seed) as work:
        yield work


def _copied(run: Path, out: Path, made: TrainedModel | None) -> Path:
    """The run's recipe and trained model in another folder, so that two processes search at once."""
    from edgedl.core.files import output_errors
    from edgedl.core.store import RunStore
    from edgedl.pipeline.verbs import trained_model

    trained = trained_model(RunStore(run), made)
    with output_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        if not (out / trained.folder.name).exists():
            partial = out / f".{trained.folder.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(trained.folder, partial)
            partial.replace(out / trained.folder.name)
        if (run / RECIPE_FILE).is_file() and not (out / RECIPE_FILE).exists():
            shutil.copyfile(run / RECIPE_FILE, out / RECIPE_FILE)
    return out
