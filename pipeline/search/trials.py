"""The trials of one search in an Optuna study, which a killed search goes on from and several processes share.

Every process has a run folder of its own (`--out`), because a folder has one writer; what they share is the storage.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedl.core.artifacts import from_json, to_json
from edgedl.core.errors import ConfigError, OutputError
from edgedl.pipeline.search.budget import Budget, Limit
from edgedl.pipeline.search.front import hypervolume
from edgedl.pipeline.search.result import Candidate, Figure
from edgedl.pipeline.search.space import FORMAT, Point, Space, option_of
from edgedl.pipeline.search.standing import point_of, worth
from edgedl.pipeline.search.surrogate import propose

if TYPE_CHECKING:
    import optuna

STUDY_FILE = "study.db"
USELESS_LOSS = 10.0
"""Points: where no limit is set, a file that loses more is worth nothing."""
PATIENCE_S = 10.0
"""A trial that has not said its chain for so long was killed before it could."""


def open_storage(storage: str) -> Any:
    """Optuna's storage: a database's URL (`sqlite:///FILE`, `postgresql://…`), or a file for a journal.

    Raises ConfigError when there is none at that place.
    """
    import optuna
    import sqlalchemy.exc

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    advice = "For example --storage sqlite:///search.db, or a file's path for a journal (for folders on a network)"
    try:
        if "://" not in storage:
            from optuna.storages.journal import JournalFileBackend

            return optuna.storages.JournalStorage(JournalFileBackend(storage))
        waits = {"connect_args": {"timeout": 60}} if storage.startswith("sqlite") else {}
        for attempt in range(5):
            try:
                return optuna.storages.RDBStorage(storage, engine_kwargs=waits)
            except (sqlalchemy.exc.OperationalError, sqlalchemy.exc.IntegrityError):
                if attempt == 4:  # others make the same tables at the same moment
                    raise
                time.sleep(0.2 * (attempt + 1))
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise ConfigError(f"--storage {storage} cannot be used", received=reason, advice=advice) from None
    raise AssertionError


@dataclass
class Trials:
    """A study and who works on it.

    seed: the same seed, history and space lead to the same next trial, also after a restart. worker: this process's
    run folder, as one word. propose: one of the chains that are left, from a seed.
    """

    study: optuna.Study
    space: Space
    budget: Budget
    seed: int
    worker: str
    propose: Callable[[Trials, Mapping[str, Point], int], str]

    def finished(self) -> list[Candidate]:
        """All candidates, of every process, in the order in which they were begun."""
        found: dict[str, Candidate] = {}
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state.is_finished() and "candidate" in trial.user_attrs:
                one = from_json(Candidate, trial.user_attrs["candidate"])
                found.setdefault(one.chain, one)
        return [replace(one, number=number) for number, one in enumerate(found.values(), 1)]

    def next(self, refused: Sequence[str] = ()) -> tuple[optuna.trial.Trial, str] | None:
        """A trial and its chain, or None where nothing is left. refused: options that the model cannot take."""
        taken = self._taken()
        left = {
            words: point
            for point in self.space.points()
            if (words := self.space.words(point)) not in taken and not uses(words, refused)
        }
        while left:
            words = self._proposed(left, len(taken))
            trial = self._begun(left[words], words)
            self._wait_for_words(trial.number)
            if words not in self._taken(before=trial.number):
                return trial, words
            self.give_up(trial)
            del left[words]  # another process was quicker
        return None

    def _proposed(self, left: Mapping[str, Point], n: int) -> str:
        """The next chain: anchors, then singles, then what is proposed by what they did."""
        for points in (self.space.anchors, self._singles):
            found = (self.space.words(point) for point in points())
            if (planned := next((words for words in found if words in left), None)) is not None:
                return planned
        return self.propose(self, left, _number(f"{self.seed}/{n}"))

    def _singles(self) -> list[Point]:
        """Each technique alone, before the number format whose own file dominates the most of what the formats span."""
        formats = {self.space.words(point): point for point in self.space.anchors()}
        known = {
            one.chain: point_of(one, self.budget.objectives)
            for one in self.finished()
            if one.chain in formats and one.state == "judged"
        }
        if not known:
            return []
        worst = [max(values) for values in zip(*known.values(), strict=True)]
        least = [min(values) for values in zip(*known.values(), strict=True)]
        beyond = [high + 0.01 * (high - low) for high, low in zip(worst, least, strict=True)]
        best = max(known, key=lambda chain: hypervolume([known[chain]], beyond))
        return self.space.singles(formats[best][FORMAT])

    def _begun(self, point: Point, words: str) -> optuna.trial.Trial:
        """A trial of that point, for every process to see."""
        import optuna

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # experimental, like the others
            self.study.sampler = optuna.samplers.PartialFixedSampler(dict(point), optuna.samplers.RandomSampler(0))
        trial = self.study.ask()
        trial.set_user_attr("worker", self.worker)
        trial.set_user_attr("chain", words)
        self.space.choose(trial.suggest_categorical)
        return trial

    def _wait_for_words(self, before: int) -> None:
        """Until the trials of other processes that were begun earlier say which chain they try."""
        while any(
            trial.number < before
            and not trial.state.is_finished()
            and "chain" not in trial.user_attrs
            and abs((datetime.now() - (trial.datetime_start or datetime.min)).total_seconds()) < PATIENCE_S
            for trial in self.study.get_trials(deepcopy=False)
        ):
            time.sleep(0.02)

    def _taken(self, before: int | None = None) -> set[str]:
        """Chains that are done or in some process's hands; before: only of trials with a lower number."""
        return {
            trial.user_attrs["chain"]
            for trial in self.study.get_trials(deepcopy=False)
            if "chain" in trial.user_attrs and (not trial.state.is_finished() or "candidate" in trial.user_attrs)
            if before is None or trial.number < before
        }

    def tell(self, trial: optuna.trial.Trial, candidate: Candidate) -> None:
        """Keep what came of the trial: the next proposals learn from it."""
        trial.set_user_attr("candidate", to_json(candidate))
        self._finish(trial, candidate)

    def _finish(self, trial: optuna.trial.Trial | int, candidate: Candidate) -> None:
        from optuna.trial import TrialState

        if candidate.state == "judged":
            self.study.tell(trial, list(point_of(candidate, self.budget.objectives)))
        else:
            self.study.tell(trial, state=TrialState.PRUNED)

    def settle(self) -> None:
        """Close what a killed process left open in this folder, whose lock is held now."""
        from optuna.trial import TrialState

        for trial in self.study.get_trials(deepcopy=False):
            if trial.state.is_finished() or trial.user_attrs.get("worker") != self.worker:
                continue
            if "candidate" in trial.user_attrs:
                self._finish(trial.number, from_json(Candidate, trial.user_attrs["candidate"]))
            else:
                self.study.tell(trial.number, state=TrialState.FAIL)

    def give_up(self, trial: optuna.trial.Trial) -> None:
        """The trial was interrupted: its chain is free again."""
        from optuna.trial import TrialState

        self.study.tell(trial, state=TrialState.FAIL)


def _number(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)


def uses(words: str, options: Sequence[str]) -> bool:
    """Whether one of the options is in the chain."""
    return any(option_of(part) in options for part in words.split("+"))


def by_surrogate(trials: Trials, left: Mapping[str, Point], seed: int) -> str:
    """What `surrogate.propose` makes of all that was found out so far, in trials that were stopped too."""
    objectives = trials.budget.objectives
    points = {trials.space.words(point): point for point in trials.space.points()}
    done = [one for one in trials.finished() if one.chain in points]
    known = {
        one.chain: (
            points[one.chain],
            [worth(name, one.figures[name]) if name in one.figures else None for name in objectives],
        )
        for one in done
        if one.state != "failed"
    }
    return propose(known, left, _references(trials.budget, done), seed)


def _references(budget: Budget, done: Sequence[Candidate]) -> list[list[float]]:
    """Up to where a point is of use: the limits; and, where nothing is within them, what is better than float32."""
    wide: list[float] = []
    strict: list[float] = []
    for name in budget.objectives:
        figures = [one.figures[name] for one in done if name in one.figures]
        most = 1.0
        if name == "loss":
            shares = any(one.validation is not None and one.validation.before.is_share for one in done)
            most = USELESS_LOSS if shares else max((one.value for one in figures), default=1.0)
        limit = next((one for one in budget.limits if one.quantity == name), None)
        wide.append(most)
        strict.append(most if limit is None else _in_worth(limit, figures, most))
    return [strict, wide]


def _in_worth(limit: Limit, figures: Sequence[Figure], most: float) -> float:
    """The limit in the terms of `worth`."""
    known = next((one for one in figures if one.ratio is not None), None)
    if limit.relative or known is None or known.ratio is None:
        return limit.value if limit.relative or limit.quantity == "loss" else most
    return limit.value * known.ratio.value / known.value


def open_trials(
    folder: Path, storage: str | None, budget: Budget, space: Space, seed: int, asked: Mapping[str, str]
) -> Trials:
    """The study of exactly this question, gone on with or begun. asked: hashes of the model, the data and the like."""
    import optuna

    kept = open_storage(storage or f"sqlite:///{folder.absolute() / STUDY_FILE}")
    question = [
        budget.words,
        budget.minimise,
        str(seed),
        _described(space),
        *(f"{key}={asked[key]}" for key in sorted(asked)),
    ]
    name = f"edgedl-{hashlib.sha256(chr(10).join(question).encode()).hexdigest()[:16]}"
    study = optuna.create_study(
        storage=kept, study_name=name, directions=["minimize" for _ in budget.objectives], load_if_exists=True
    )
    found = Trials(study, space, budget, seed, _worker(folder), by_surrogate)
    found.settle()
    return found


def _described(space: Space) -> str:
    """What makes it another space."""
    return repr([(slot.name, slot.options) for slot in space.slots] + [space.epochs, space.rates])


def _worker(folder: Path) -> str:
    """This folder, and no other on any machine, without naming the place."""
    import platform

    return hashlib.sha256(f"{platform.node()}:{folder.absolute()}".encode()).hexdigest()[:12]


@contextlib.contextmanager
def storage_errors() -> Generator[None]:
    """A storage that is lost or full on the way is one clear error."""
    import sqlalchemy.exc

    try:
        yield
    except sqlalchemy.exc.SQLAlchemyError as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise OutputError("the search's storage cannot be written to", received=reason) from None


@contextlib.contextmanager
def trial_in_hand(trials: Trials, trial: optuna.trial.Trial) -> Generator[None]:
    """Give the trial back when the work on it is interrupted."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):
            trials.give_up(trial)
        raise
