"""What a search found: typed, and saved as JSON in its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edgedl.core.artifacts import Obtained, QualityChange, from_json, to_json
from edgedl.core.errors import ExitCode, InputError
from edgedl.core.files import write_atomically
from edgedl.core.statistics import Interval
from edgedl.pipeline.search.budget import Quantity

FOLDER = "search"
"""Below the run's folder."""
RESULT_FILE = "result.json"

State = Literal["judged", "stopped", "failed"]


@dataclass(frozen=True)
class Figure:
    """One quantity of one candidate.

    value: bytes, a count, µs (median) or the loss. interval: of the value; ratio: to float32's; None where there is
    none. Both are single points where they are exact.
    """

    value: float
    obtained: Obtained
    interval: Interval | None = None
    ratio: Interval | None = None


@dataclass(frozen=True)
class Candidate:
    """One chain that was tried.

    chain: as `--method` takes it. state: judged in all that the budget asks, stopped before (`reason` says why and
    `figures` holds what was known), or failed. validation: the loss that selected; test: the final judgement, only of
    the best and of the front. broken, undecided: limits. folder: of the artifact, in this folder of the run that made
    it (`worker`). made: artifacts made for it; all others that it needed were there. refused: the technique, with its
    settings, that cannot take the model as it is.
    """

    chain: str
    state: State
    figures: Mapping[Quantity, Figure]
    broken: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()
    reason: str = ""
    refused: str = ""
    validation: QualityChange | None = None
    test: QualityChange | None = None
    folder: str | None = None
    worker: str = ""
    made: int = 0
    seconds: float = 0.0
    number: int = 0

    @property
    def fits(self) -> bool | None:
        """Whether it keeps every limit; None where a limit is undecided."""
        if self.state != "judged" or self.broken:
            return False
        return None if self.undecided else True


Outcome = Literal["fits", "undecided", "broken on test", "nothing fits"]


@dataclass(frozen=True)
class SearchResult:
    """The end of a search.

    budget, minimise: as checked. objectives: what was traded off. float32: the figures that ratios refer to.
    candidates: in the order tried. front: numbers of those that no other beats in every objective. best: number of the
    one that keeps the budget on the validation split and is best in `minimise`; file: its copy. outcome: see
    `exit_code`. nearest: where nothing fits, numbers of those that miss it by least; obstacles: what stands in the
    way, in sentences. variant: folder (beside this one) of the best one's artifact. space: how many chains there are.
    stopped: why the search ended.
    """

    name: str
    folder: Path
    budget: str
    minimise: Quantity
    objectives: tuple[Quantity, ...]
    seed: int
    float32: Mapping[Quantity, Figure]
    candidates: tuple[Candidate, ...]
    front: tuple[int, ...]
    best: int | None
    file: str | None
    variant: str | None
    outcome: Outcome
    sentence: str
    nearest: tuple[int, ...]
    obstacles: tuple[str, ...]
    space: int
    stopped: str
    seconds: float
    notes: tuple[str, ...] = field(default=())

    def candidate(self, number: int) -> Candidate:
        """The candidate with that number."""
        return next(one for one in self.candidates if one.number == number)

    @property
    def best_file(self) -> Path | None:
        """The best file within the budget."""
        return self.folder / self.file if self.file else None

    @property
    def exit_code(self) -> ExitCode:
        """0 where a file fits; 4 where a limit on it is undecided; 1 where none does, or not on the test split."""
        codes = {"fits": ExitCode.FINE, "undecided": ExitCode.INCONCLUSIVE}
        return codes.get(self.outcome, ExitCode.CHECK_FAILED)


def save_result(result: SearchResult) -> None:
    """Write the result into its folder."""
    content = to_json(result)
    del content["folder"]
    write_atomically(result.folder / RESULT_FILE, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def load_result(folder: Path) -> SearchResult:
    """Read the result of a run's `search` folder. Raises InputError."""
    try:
        content = json.loads((folder / RESULT_FILE).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} holds no result of a search", received=type(error).__name__) from None
    return from_json(SearchResult, {**content, "folder": str(folder)})
