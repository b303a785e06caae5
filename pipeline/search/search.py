"""The search itself: trial after trial until enough is known, then the best file, judged on the test split."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

from edgedl.core.artifacts import CompressedModel, QualityChange
from edgedl.core.console import reporter
from edgedl.core.errors import EdgedlError
from edgedl.core.files import output_errors
from edgedl.core.isolation import DEFAULT_LIMITS, Limits
from edgedl.core.store import RunStore
from edgedl.pipeline.search.budget import Budget
from edgedl.pipeline.search.front import pareto_front
from edgedl.pipeline.search.judging import Bar, bar_for, compress, judge_candidate
from edgedl.pipeline.search.result import FOLDER, Candidate, Outcome, SearchResult, save_result
from edgedl.pipeline.search.space import Space
from edgedl.pipeline.search.standing import best_of, nearest_to, obstacles, point_of
from edgedl.pipeline.search.trials import Trials, open_trials, storage_errors, trial_in_hand
from edgedl.pipeline.verbs import Work

BEST_FILE = "best.tflite"
FAULTS = 3
"""So many candidates that end in a fault of edgedl's own, and none that was judged, end the search."""


@dataclass(frozen=True)
class Plan:
    """How long to search, and where. trials: candidates in the whole study; minutes: of this call. latency_s: seconds
    of measuring for each candidate that gets so far. storage: Optuna's; the run's folder unless given."""

    trials: int = 30
    minutes: float | None = None
    storage: str | None = None
    latency_s: float = 6.0


@contextlib.contextmanager
def _quiet_tensorflow() -> Generator[None]:
    """Many models in one process make TensorFlow warn of retracing; that is what a search does."""
    log = logging.getLogger("tensorflow")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


Watch = Callable[[Sequence[Candidate], Sequence[int], int], None]
"""Told after every trial: all candidates, numbers of the front, how many trials are planned."""


def search_stage(
    work: Work,
    budget: Budget,
    space: Space,
    plan: Plan,
    *,
    limits: Limits = DEFAULT_LIMITS,
    watch: Watch | None = None,
) -> SearchResult:
    """Search the space for the budget, in the run's folder. Raises ConfigError, UnavailableError, OutputError.

    Interrupted at any point, the same call goes on from the last finished trial.
    """
    started = time.monotonic()
    folder = work.store.folder / FOLDER
    with output_errors(folder):
        folder.mkdir(exist_ok=True)
    # What is tried stays in a store of its own, so that it is no variant of the run; the run's lock holds for it too.
    bar = bar_for(replace(work, store=RunStore(folder)), budget, space, limits, plan.latency_s)
    asked = {"model": work.trained.record.content_hash, "data": bar.data.record.fingerprint, "batch": str(work.batch)}
    with storage_errors(), _quiet_tensorflow():
        trials = open_trials(folder, plan.storage, budget, space, work.seed, asked)
        stopped = _go_on(bar, trials, plan, started, watch)
        done = trials.finished()
        result = _conclude(bar, work.store, done, stopped, started)
    save_result(result)
    from edgedl.pipeline.search.picture import write_pictures

    write_pictures(result, budget)
    return result


def _go_on(bar: Bar, trials: Trials, plan: Plan, started: float, watch: Watch | None) -> str:
    """Try candidates until the plan is fulfilled; why it ended."""
    with reporter().progress("search", plan.trials) as progress:
        while True:
            done = trials.finished()
            front = front_of(done, bar.budget)
            progress.update(len(done), f"{len(front)} on the front")
            if watch is not None:
                watch(done, front, plan.trials)
            _refuse_only_faults(done)
            if len(done) >= plan.trials:
                return f"{len(done)} trials done"
            if plan.minutes is not None and time.monotonic() - started > 60 * plan.minutes:
                return f"{plan.minutes:g} minutes over"
            given = trials.next([one.refused for one in done if one.refused])
            if given is None:
                return "the whole space was tried"
            trial, chain = given
            with trial_in_hand(trials, trial):
                candidate = replace(_try(bar, chain, done), worker=trials.worker)
                trials.tell(trial, candidate)
            reporter().note(f"{len(done) + 1}/{plan.trials} {told(candidate)}")


def _try(bar: Bar, chain: str, done: Sequence[Candidate]) -> Candidate:
    """A fault of edgedl's own (or of a library's) costs the candidate, not the night's work."""
    try:
        return judge_candidate(bar, chain, done)
    except (EdgedlError, KeyboardInterrupt):
        raise
    except Exception as error:
        reporter().warn(f"{chain}: a fault of edgedl's own ({type(error).__name__}: {error})")
        return Candidate(chain, "failed", {}, reason=f"{FAULT} {type(error).__name__}: {error}")


FAULT = "a fault of edgedl's own:"


def _refuse_only_faults(done: Sequence[Candidate]) -> None:
    faults = [one for one in done if one.reason.startswith(FAULT)]
    if len(faults) >= FAULTS and not any(one.state == "judged" for one in done):
        raise EdgedlError(f"{len(faults)} candidates failed and none was judged", received=faults[-1].reason)


def front_of(done: Sequence[Candidate], budget: Budget) -> list[int]:
    """Numbers of the judged candidates that no other beats in every objective."""
    judged = [one for one in done if one.state == "judged"]
    return [judged[i].number for i in pareto_front([point_of(one, budget.objectives) for one in judged])]


def told(candidate: Candidate) -> str:
    """One candidate in a line."""
    from edgedl.pipeline.search.words import figure_words

    figures = ", ".join(
        f"{name} {figure_words(name, candidate.figures[name])}"
        for name in ("size", "gzip", "loss", "instructions", "latency")
        if name in candidate.figures
    )
    state = f"{candidate.state}: {candidate.reason}" if candidate.reason else candidate.state
    return f"{candidate.chain}: {state}" + (f" ({figures})" if figures else "")


# --- the end ---------------------------------------------------------------------------------------------------------


def _conclude(bar: Bar, run: RunStore, done: Sequence[Candidate], stopped: str, started: float) -> SearchResult:
    budget, folder = bar.budget, bar.work.store.folder
    front = front_of(done, budget)
    best = best_of(done, budget)
    file: str | None = None
    variant: str | None = None
    notes: list[str] = []
    test: QualityChange | None = None
    (folder / BEST_FILE).unlink(missing_ok=True)
    if best is not None:
        model = _best_model(bar, run, best, notes)
        with output_errors(folder):
            shutil.copyfile(model.path(model.model_file), folder / BEST_FILE)
        file, test = BEST_FILE, model.quality
        variant = str(model.folder.relative_to(run.folder))
        best = replace(best, test=test)
    outcome, sentence = _outcome(budget, best, test)
    shown = {*front, *([best.number] if best else [])}
    refused = {one.refused: one.reason for one in done if one.refused}
    notes += [f"{option} was left out once it had refused the model: {reason}" for option, reason in refused.items()]
    return SearchResult(
        name=bar.work.trained.name,
        folder=folder,
        budget=budget.words,
        minimise=budget.minimise,
        objectives=budget.objectives,
        seed=bar.work.seed,
        float32=bar.float32,
        candidates=tuple(
            best if best and one.number == best.number else one if one.number in shown else replace(one, test=None)
            for one in done
        ),
        front=tuple(front),
        best=best.number if best else None,
        file=file,
        variant=variant,
        outcome=outcome,
        sentence=sentence,
        nearest=tuple(one.number for one in nearest_to(done, budget)) if best is None else (),
        obstacles=tuple(obstacles(done, budget)) if best is None else (),
        space=len(bar.space.points()),
        stopped=stopped,
        seconds=round(time.monotonic() - started, 3),
        notes=tuple(notes),
    )


def _best_model(bar: Bar, run: RunStore, best: Candidate, notes: list[str]) -> CompressedModel:
    """The best candidate as a variant of the run, beside its controls where it was trained."""
    tried = compress(bar, best.chain)
    final = compress(bar, best.chain, store=run, control=True)
    one, other = (model.path(model.model_file).read_bytes() for model in (tried, final))
    if one != other:
        notes.append(
            "the best file, made again beside its control, differs in bytes from the one that was judged; the one "
            "that was judged is kept, without a control"
        )
        return tried
    return final


def _outcome(budget: Budget, best: Candidate | None, test: QualityChange | None) -> tuple[Outcome, str]:
    """Whether the budget is kept, on the test split too, in a sentence."""
    if best is None:
        return "nothing fits", f"nothing that was tried keeps {budget.words}"
    if best.undecided:
        return (
            "undecided",
            f"{best.chain} keeps the budget as far as can be told; undecided: {', '.join(best.undecided)}",
        )
    limit = next((limit for limit in budget.limits if limit.quantity == "loss"), None)
    kept = f"{best.chain} keeps {budget.words}"
    validation = best.validation
    if limit is None or test is None or validation is None or test.after.metric != validation.after.metric:
        return "fits", kept
    if test.loss <= limit.value:
        return "fits", f"{kept}, on the validation split that chose it and on the test split"
    told_loss = f"on the test split it loses {test.loss:.2g} ({test.interval.low:.2g} to {test.interval.high:.2g})"
    if test.interval.low > limit.value:
        return "broken on test", f"{best.chain} keeps {budget.words} on the validation split, but {told_loss}"
    return "fits", f"{kept} on the validation split; {told_loss}, more than the limit, which may be chance"
