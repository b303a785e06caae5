"""Does the search find what an exhaustive grid finds? Share of the grid's hypervolume after a share of its trials.

    python benchmarks/compress/search_hypervolume.py --out DIR --seeds 20 --share 0.25

Every chain of a reduced space is judged once on digits (kept in DIR/grid.json, so a killed run goes on). Then the
search's own code (`pipeline/search/trials.py`) proposes chains for every seed and is told what the grid found. Two
objectives: gzipped bytes (share of float32's) and loss on the validation split (points). Hypervolume up to float32's
size and 10 points; and, harder to please, up to the worst corner of the grid's own front. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import edgedl
from edgedl.core.artifacts import from_json, to_json
from edgedl.core.isolation import DEFAULT_LIMITS
from edgedl.pipeline.search.budget import Budget
from edgedl.pipeline.search.front import hypervolume, pareto_front
from edgedl.pipeline.search.judging import bar_for, judge_candidate
from edgedl.pipeline.search.result import Candidate
from edgedl.pipeline.search.search import told
from edgedl.pipeline.search.space import SLOTS, Point, Slot, Space, space_for
from edgedl.pipeline.search.standing import point_of
from edgedl.pipeline.search.trials import Trials, by_surrogate
from edgedl.pipeline.verbs import open_model

RECIPE: dict[str, Any] = {
    "name": "digits",
    "seed": 1,
    "data": {"source": "digits", "split": {"validation": 0.3, "test": 0.2}},
    "model": {"family": "cnn", "filters": [16, 32]},
    "train": {"epochs": 12, "optimizer": {"learning_rate": 0.005}},
}
REDUCED = {
    "channels": ("prune-channels:keep_macs=0.6",),
    "sparsity": ("prune:sparsity=0.5", "prune:sparsity=0.8"),
    "format": ("dynamic-range", "int8", "weight-only-int4:scale=mse"),
}
"""Options of the space's slots; those of techniques that are not there drop out."""
BUDGET = Budget((), "gzip")


def grid(out: Path, space: Space) -> dict[str, Candidate]:
    """Every chain judged, found in the file or judged now."""
    path = out / "grid.json"
    found: dict[str, Candidate] = {}
    if path.is_file():
        found = {chain: from_json(Candidate, one) for chain, one in json.loads(path.read_text()).items()}
    chains = [space.words(point) for point in space.points()]
    missing = [chain for chain in chains if chain not in found]
    if missing:
        trained = edgedl.train(RECIPE, out=out)
        with open_model(trained) as work:
            bar = bar_for(work, BUDGET, space, DEFAULT_LIMITS, 1.0)
            for chain in missing:
                found[chain] = judge_candidate(bar, chain, [])
                path.write_text(json.dumps({name: to_json(one) for name, one in found.items()}))
                print(f"{len(found)}/{len(chains)} {told(found[chain])}", file=sys.stderr, flush=True)
    return {chain: found[chain] for chain in chains}


def searched(
    space: Space,
    known: dict[str, Candidate],
    trials: int,
    seed: int,
    propose: Callable[[Trials, Mapping[str, Point], int], str],
) -> list[Candidate]:
    """What so many trials of the search see, with the grid's figures."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["minimize" for _ in BUDGET.objectives])
    work = Trials(study, space, BUDGET, seed, "benchmark", propose)
    done: list[Candidate] = []
    while len(done) < trials and (given := work.next()) is not None:
        trial, chain = given
        work.tell(trial, known[chain])
        done.append(known[chain])
    return done


def volume(candidates: list[Candidate], reference: tuple[float, ...]) -> float:
    """Of the judged ones."""
    return hypervolume([point_of(one, BUDGET.objectives) for one in candidates if one.state == "judged"], reference)


def by_optuna(make: Callable[[int], Any]) -> Callable[[Trials, Mapping[str, Point], int], str]:
    """What one of Optuna's samplers proposes. make: it, from a seed."""

    def proposed(trials: Trials, left: Mapping[str, Point], seed: int) -> str:
        import optuna

        states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
        for attempt in range(20):
            copy = optuna.create_study(directions=trials.study.directions, sampler=make(seed + attempt))
            copy.add_trials(trials.study.get_trials(deepcopy=False, states=states))
            words = trials.space.words(trials.space.choose(copy.ask().suggest_categorical))
            if words in left:
                return words
        return random.Random(seed).choice(list(left))

    return proposed


def proposers() -> dict[str, Callable[[Trials, Mapping[str, Point], int], str]]:
    """The search's own, and what it was chosen from. All of them see the same anchors and singles first."""
    import optuna

    return {
        "search": by_surrogate,
        "tpe": by_optuna(lambda seed: optuna.samplers.TPESampler(seed=seed, n_startup_trials=8)),
        "nsga-ii": by_optuna(lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=8)),
        "random": lambda trials, left, seed: random.Random(seed).choice(list(left)),
    }


def reduced() -> Space:
    """The small space, of the techniques that are there."""
    slots: list[Slot] = [replace(slot, options=REDUCED[slot.name]) for slot in SLOTS if slot.name in REDUCED]
    return replace(space_for(BUDGET.objectives, slots), epochs=(2, 6), rates=(0.002,))


def main() -> int:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--share", type=float, default=0.25, help="of the grid's trials")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    space = reduced()
    known = grid(options.out, space)
    everything = list(known.values())
    points = [point_of(one, BUDGET.objectives) for one in everything if one.state == "judged"]
    front = [points[i] for i in pareto_front(points)]
    references = {
        "float32 and 10 points": (1.0, 10.0),
        "the front's worst corner": tuple(max(values) * 1.01 + 1e-9 for values in zip(*front, strict=True)),
    }
    trials = int(options.share * len(known))
    result: dict[str, Any] = {
        "chains": len(known),
        "failed": sum(one.state == "failed" for one in everything),
        "grid_seconds": round(sum(one.seconds for one in everything)),
        "trials": trials,
        "seeds": options.seeds,
        "front": sorted(front),
        "reached": {},
    }
    for name, make in proposers().items():
        runs = [searched(space, known, trials, seed, make) for seed in range(options.seeds)]
        for where, reference in references.items():
            shares = sorted(volume(done, reference) / volume(everything, reference) for done in runs)
            result["reached"][f"{name}, up to {where}"] = {
                "median": round(statistics.median(shares), 4),
                "least": round(shares[0], 4),
                "at_95_percent": sum(share >= 0.95 for share in shares),
            }
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
