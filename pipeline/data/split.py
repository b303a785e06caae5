"""From a source to training, validation and test examples: stratified, seeded, recorded."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.core.artifacts import SplitRecord
from edgedl.core.console import reporter
from edgedl.core.contract import InputContract
from edgedl.core.errors import DataError
from edgedl.pipeline.data.base import (
    Examples,
    Normalize,
    RawData,
    Relabelled,
    Share,
    Source,
    SplitConfig,
    Splits,
    Standardisation,
)
from edgedl.pipeline.data.checks import listed

_CHUNK = 256  # examples read at once for statistics

Positions = NDArray[np.int64]


def load_splits(source: Source, split: SplitConfig, seed: int) -> Splits:
    """Load `source` and draw its splits. The same data, split and seed give the same splits on every machine.

    Raises DataError for data that cannot be used or is too little to be split.
    """
    where = f"data source {source.source}"
    raw = source.load()
    if source.classes is not None:
        raw = only_classes(raw, source.classes, where)
    train, validation, test = draw(raw, split, seed, where)
    if source.examples_per_class is not None:
        train = few_of_each(train, source.examples_per_class, raw, seed, where)
    if source.normal is not None:
        raw, (train, validation, test) = only_normal(raw, (train, validation, test), source.normal, where)
    parts = {"train": train, "validation": validation, "test": test}
    for name, part in parts.items():
        if raw.task == "classification":
            _mention_absent_classes(name, part, raw.labels)
    record = SplitRecord(
        source=source.model_dump(mode="json") | {"split": split.model_dump(mode="json")},
        fingerprint=hashlib.sha256("".join(part.fingerprint() for part in parts.values()).encode()).hexdigest(),
        counts={name: len(part) for name, part in parts.items()},
        classes={name: class_counts(part, raw.labels) for name, part in parts.items()} if raw.labels else {},
        skipped=raw.skipped,
    )
    fitted = fit_input(train, raw.input, raw.normalize, where)
    folded = Standardisation(fitted.mean, fitted.std) if source.folds else None
    if folded is not None:
        _mention_coarse_steps(train, folded, where)
        fitted = replace(fitted, mean=(0.0,), std=(1.0,))
    return Splits(
        train=train,
        validation=validation,
        test=test,
        task=raw.task,
        input=fitted,
        labels=raw.labels,
        record=record,
        seed=seed,
        folded=folded,
    )


def only_classes(raw: RawData, classes: tuple[str, ...], where: str) -> RawData:
    """The examples of these classes, which are numbered anew in the order given. Raises DataError."""
    if raw.task != "classification":
        raise DataError(f"{where} has no classes to choose from", required="labelled examples", received=raw.task)
    if unknown := [label for label in classes if label not in raw.labels]:
        raise DataError(
            f"{where} has no class {listed(unknown)}", required=f"classes such as {listed(raw.labels[:10])}"
        )
    if len(set(classes)) < 2:
        raise DataError(f"{where}: data.classes leaves nothing to tell apart", required="two classes or more")
    numbers = np.full(len(raw.labels), -1)
    numbers[[raw.labels.index(label) for label in classes]] = np.arange(len(classes))

    def chosen(examples: Examples | None) -> Examples | None:
        if examples is None:
            return None
        kept = examples.select(np.flatnonzero(numbers[examples.targets] >= 0))
        return Relabelled(kept, numbers[kept.targets])

    examples = chosen(raw.examples)
    assert examples is not None
    groups = None if raw.groups is None else raw.groups[numbers[raw.examples.targets] >= 0]
    rest = {"validation": chosen(raw.validation), "test": chosen(raw.test), "groups": groups}
    return replace(raw, examples=examples, labels=tuple(classes), **rest)


def only_normal(
    raw: RawData, parts: tuple[Examples, Examples, Examples], normal: tuple[str, ...], where: str
) -> tuple[RawData, tuple[Examples, Examples, Examples]]:
    """Training and validation without anomalies, the test with all; targets: 1 for an anomaly. Raises DataError."""
    if raw.task != "classification":
        raise DataError(f"{where} has no classes, of which some are normal", received=raw.task)
    if unknown := [label for label in normal if label not in raw.labels]:
        raise DataError(
            f"{where} has no class {listed(unknown)}", required=f"classes such as {listed(raw.labels[:10])}"
        )
    if len(set(normal)) == len(raw.labels):
        raise DataError(f"{where}: data.normal leaves no class that is an anomaly")
    anomalous = ~np.isin(np.arange(len(raw.labels)), [raw.labels.index(label) for label in normal])

    def told(part: Examples, *, all_of_them: bool) -> Examples:
        kept = part if all_of_them else part.select(np.flatnonzero(~anomalous[part.targets]))
        return Relabelled(kept, anomalous[kept.targets].astype(np.int64))

    train, validation, test = (told(part, all_of_them=i == 2) for i, part in enumerate(parts))
    return replace(raw, task="anomaly-detection", labels=()), (train, validation, test)


def few_of_each(train: Examples, n: int, raw: RawData, seed: int, where: str) -> Examples:
    """At most `n` training examples of each class."""
    if raw.task != "classification":
        raise DataError(f"{where} has no classes: data.examples_per_class does not fit", received=raw.task)
    order = np.random.default_rng(seed).permutation(len(train))
    of_each = [order[train.targets[order] == number][:n] for number in range(len(raw.labels))]
    return train.select(np.sort(np.concatenate(of_each)))


def draw(raw: RawData, split: SplitConfig, seed: int, where: str) -> tuple[Examples, Examples, Examples]:
    """Training, validation and test examples; a split that the source has is used as it is.

    Stratified by class (scikit-learn's StratifiedShuffleSplit), plain random for regression; where there are groups,
    group by group. Raises DataError.
    """
    n = len(raw.examples)
    at_least = max(1, len(raw.labels)) if raw.task == "classification" else 1
    n_test = 0 if raw.test is not None else count_of(split.test, n, at_least)
    n_validation = 0 if raw.validation is not None else count_of(split.validation, n, at_least)
    strata = raw.examples.targets if raw.task == "classification" else None
    if raw.groups is not None:
        train_positions, validation_positions, test_positions = _cut_groups(
            raw.groups, strata, n_validation, n_test, seed, where
        )
    else:
        _check_enough(strata, raw.labels, n=n, n_validation=n_validation, n_test=n_test, where=where)
        rest, test_positions = _cut(np.arange(n), n_test, strata, seed)
        train_positions, validation_positions = _cut(rest, n_validation, strata, seed)
    return (
        raw.examples.select(train_positions),
        raw.validation if raw.validation is not None else raw.examples.select(validation_positions),
        raw.test if raw.test is not None else raw.examples.select(test_positions),
    )


def count_of(share: Share, n: int, at_least: int) -> int:
    """How many of `n` examples a fraction (but at least so many) or a number of the recipe means."""
    return share if isinstance(share, int) else max(at_least, round(share * n))


def _cut(positions: Positions, n_out: int, strata: NDArray[Any] | None, seed: int) -> tuple[Positions, Positions]:
    """Divide into (rest, drawn), both in random order."""
    if not n_out:
        return positions, positions[:0]
    from sklearn.model_selection import train_test_split

    stratify = None if strata is None else strata[positions]
    rest, drawn = train_test_split(positions, test_size=n_out, random_state=seed, stratify=stratify)
    return np.asarray(rest, dtype=np.int64), np.asarray(drawn, dtype=np.int64)


FEW_GROUPS = 6
"""With fewer, a group for the validation alone costs the training more than it tells: it is drawn from those that are
learnt. The test never is."""


def _cut_groups(
    groups: NDArray[np.int64], strata: NDArray[Any] | None, n_validation: int, n_test: int, seed: int, where: str
) -> tuple[Positions, Positions, Positions]:
    """Training, validation and test positions, of which the test, and from six groups on the validation, are whole
    groups. Raises DataError when there is only one."""
    every = np.arange(len(groups))
    rest, test = _cut_whole(every, groups, n_test, seed, where)
    if len(np.unique(groups)) < FEW_GROUPS:
        train, validation = _cut(rest, n_validation, strata, seed)
    else:
        train, validation = _cut_whole(rest, groups, n_validation, seed, where)
    return train, validation, test


def _cut_whole(
    positions: Positions, groups: NDArray[np.int64], n_out: int, seed: int, where: str
) -> tuple[Positions, Positions]:
    """Divide into (rest, drawn): whole groups in random order until there are `n_out`.

    A group is drawn when half of it is still wanted, so the part may miss its size by half a group; none stays empty.
    """
    if not n_out:
        return positions, positions[:0]
    rng = np.random.default_rng(seed)
    names, sizes = np.unique(groups[positions], return_counts=True)
    if len(names) < 2:
        raise DataError(
            f"{where} has one group only, which cannot be split",
            required="two groups (speakers, series or what they are) or more",
            advice="Split by example instead: leave the groups out of the recipe",
        )
    order = rng.permutation(len(names))
    have = np.cumsum(sizes[order])
    drawn = max(1, min(len(names) - 1, int((have - sizes[order] / 2 <= n_out).sum())))
    out = np.isin(groups[positions], names[order[:drawn]])
    return rng.permutation(positions[~out]), rng.permutation(positions[out])


def _check_enough(
    strata: NDArray[Any] | None, labels: tuple[str, ...], *, n: int, n_validation: int, n_test: int, where: str
) -> None:
    asked = f"validation {n_validation} + test {n_test} of {n} examples"
    if n_validation + n_test >= n:
        raise DataError(
            f"{where} leaves no training examples", received=asked, advice="Make data.split smaller, or add examples"
        )
    if strata is None:
        return
    counts = np.bincount(strata, minlength=len(labels))
    needed = 1 + (n_validation > 0) + (n_test > 0)
    if needed > 1 and (few := [f"{labels[i]!r} ({counts[i]})" for i in np.flatnonzero(counts < needed)]):
        raise DataError(
            f"{where} has too few examples of {listed(few)} to be split",
            required=f"at least {needed} of every class",
            advice="Add examples, or leave the class out",
        )
    smallest = min([n - n_validation - n_test, *(drawn for drawn in (n_validation, n_test) if drawn)])
    if needed > 1 and smallest < len(labels):
        raise DataError(
            f"{where} cannot be split with every class in every part",
            required=f"at least {len(labels)} examples (the number of classes) in each part",
            received=asked,
            advice="Change data.split, or add examples",
        )


def class_counts(examples: Examples, labels: tuple[str, ...]) -> dict[str, int]:
    """How many examples of each class, by its name (of a language model: tokens; of a segmentation: pixels)."""
    counts = np.bincount(examples.targets.reshape(-1), minlength=len(labels))
    return {label: int(count) for label, count in zip(labels, counts, strict=True)}


def _mention_absent_classes(name: str, examples: Examples, labels: tuple[str, ...]) -> None:
    counts = class_counts(examples, labels) if labels else {}
    if absent := [label for label, count in counts.items() if not count]:
        reporter().warn(f"the {name} split has no example of {listed(absent)}")


# --- normalisation -----------------------------------------------------------------------------------------------


def fit_input(train: Examples, contract: InputContract, normalize: Normalize, where: str) -> InputContract:
    """The contract with `mean` and `std` (and a missing `raw_range` of images) taken from the training examples."""
    low_high = contract.raw_range
    if low_high is None and (normalize in ("0..1", "-1..1") or contract.content == "image"):
        low_high = _observed_range(train)
    if normalize == "none":
        mean, std = (0.0,), (1.0,)
    elif normalize == "standard":
        per_bin = contract.audio is not None and contract.shape[-1] == 1
        mean, std = _mean_and_std(train, where, per_bin=per_bin)
    else:
        low, high = low_high or (0.0, 1.0)
        if not high > low:
            raise DataError(
                f"{where}: all training inputs have the value {low:g}",
                required="inputs that differ",
                advice="Check them",
            )
        mean, std = ((low,), (high - low,)) if normalize == "0..1" else (((low + high) / 2,), ((high - low) / 2,))
    return replace(contract, raw_range=low_high, mean=mean, std=std)


_COARSE = 0.1


def _mention_coarse_steps(train: Examples, folded: Standardisation, where: str) -> None:
    """Warn when 8 bits over all raw values (and 0) leave a channel only a few steps: int8 quantizes the model's input
    with one scale, before the folded standardisation."""
    low, high = _observed_range(train)
    step = (max(high, 0.0) - min(low, 0.0)) / 255
    if step > _COARSE * min(folded.std):
        channel = int(np.argmin(folded.std))
        reporter().warn(
            f"{where}: raw values from {low:g} to {high:g} leave channel {channel} (standard deviation "
            f"{folded.std[channel]:.3g}) steps of {step:.3g} in an int8 model; data.fold_standardisation: false keeps "
            "them fine, and the app then standardises"
        )


def _chunks(examples: Examples) -> Iterator[NDArray[Any]]:
    with reporter().progress("Measuring the training inputs", len(examples)) as progress:
        for start in range(0, len(examples), _CHUNK):
            yield examples.raw(np.arange(start, min(start + _CHUNK, len(examples))))
            progress.update(start + _CHUNK)


def _observed_range(examples: Examples) -> tuple[float, float]:
    low, high = math.inf, -math.inf
    for chunk in _chunks(examples):
        low, high = min(low, float(chunk.min())), max(high, float(chunk.max()))
    return low, high


def _mean_and_std(
    examples: Examples, where: str, *, per_bin: bool = False
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per channel (last axis, or of sound features the one before it), in one pass: chunks combined as in Chan, Golub &
    LeVeque 1979, equation 2.1."""
    count = 0
    mean, squares = np.zeros(1), np.zeros(1)
    for chunk in _chunks(examples):
        rows = chunk.reshape(-1, chunk.shape[-2 if per_bin else -1]).astype(np.float64)
        new_mean = rows.mean(axis=0)
        total = count + len(rows)
        squares = squares + ((rows - new_mean) ** 2).sum(axis=0) + (new_mean - mean) ** 2 * (count * len(rows) / total)
        mean = mean + (new_mean - mean) * (len(rows) / total)
        count = total
    std = np.sqrt(squares / count)
    if constant := np.flatnonzero(std <= 1e-12 * np.maximum(np.abs(mean), 1.0)).tolist():
        reporter().warn(f"{where}: input channel {listed(constant)} never changes in the training split")
        std[constant] = 1.0
    return tuple(mean.tolist()), tuple(std.tolist())
