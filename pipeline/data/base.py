"""What every data source yields, so that nothing after it knows where the examples came from.

    source file ─► Source.load ─► RawData ─► load_splits ─► Splits ─► stream (training), examples_array (all else)

Values stay *raw* (pixels, readings, table columns) until they are fetched or streamed; normalisation is in one place,
the `InputContract`, because the app has to repeat it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, PositiveInt, model_validator
from pydantic_core import PydanticCustomError

from edgedl.core.artifacts import SplitRecord
from edgedl.core.config import Section
from edgedl.core.contract import Contract, InputContract, Task
from edgedl.core.errors import ConfigError

if TYPE_CHECKING:
    import tensorflow as tf

Normalize = Literal["none", "0..1", "-1..1", "standard"]
"""How raw inputs become the model's: as they are; the raw range onto 0 to 1 or -1 to 1; or mean 0 and standard
deviation 1 for each channel (last axis), computed on the training split only."""


def _share(value: object) -> object:
    if isinstance(value, float) and 0.0 < value < 1.0:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise PydanticCustomError("share", "a fraction between 0 and 1, or a whole number of examples from 1")


Share = Annotated[int | float, BeforeValidator(_share)]


class SplitConfig(Section):
    """How much of the data is kept back. A split that the source brings itself is used as it is."""

    validation: Share = Field(
        default=0.1, description="For choosing the best epoch: a fraction of all examples (0.1), or a number (200)."
    )
    test: Share = Field(
        default=0.2, description="For judging the model: a fraction or a number. Unused if the source has its own."
    )

    @model_validator(mode="after")
    def _leaves_something(self) -> SplitConfig:
        total = sum(share for share in (self.validation, self.test) if isinstance(share, float))
        if total >= 1.0:
            raise ConfigError(
                "data.split leaves no training examples",
                required="fractions that add up to less than 1",
                received=f"validation {self.validation} + test {self.test}",
                advice="Try validation: 0.1, test: 0.2",
            )
        return self


class Source(Section):
    """The configuration of a data source; its type is the selector. One subclass a file."""

    source: str
    split: SplitConfig = Field(default=SplitConfig(), description="How much of the data validates and tests the model.")
    classes: tuple[str, ...] | None = Field(default=None, description="Only examples of these classes, by label.")
    normal: tuple[str, ...] | None = Field(
        default=None,
        description="For anomaly detection: train on these classes only; in the test all others are anomalies.",
    )
    examples_per_class: PositiveInt | None = Field(
        default=None, description="At most so many training examples of each class, drawn with the recipe's seed."
    )

    def load(self) -> RawData:
        """Read enough to know every example's target. Raises DataError."""
        raise NotImplementedError

    @property
    def folds(self) -> bool:
        """Whether the model, not the app, applies `mean` and `std`."""
        return False


class Examples(Protocol):
    """Some examples, addressed by position."""

    @property
    def targets(self) -> NDArray[Any]:
        """Shape (n,) class indices (int64), or (n, k) float32 values for regression."""
        ...

    def __len__(self) -> int:
        """How many."""
        ...

    def raw(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """The raw inputs at `positions`, shape (len(positions), *shape), in the order asked for."""
        ...

    def tensor_reader(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """A function for tf.data graphs: positions, shape (b,) int64 -> raw inputs, shape (b, *shape)."""
        ...

    def select(self, positions: NDArray[np.int64]) -> Examples:
        """The examples at `positions`."""
        ...

    def fingerprint(self) -> str:
        """Hash of inputs and targets, in order."""
        ...


@dataclass(frozen=True)
class ArrayExamples:
    """Examples held in memory. inputs: shape (n, *shape), any numeric type; targets as in `Examples`."""

    inputs: NDArray[Any]
    targets: NDArray[Any]

    def __len__(self) -> int:
        return len(self.inputs)

    def raw(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """The inputs at `positions`."""
        return self.inputs[positions]

    def tensor_reader(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """Gathers from one tensor that the tf.data graph captures (not a constant: no 2 GB limit)."""
        import tensorflow as tf

        with tf.device("CPU"):
            held = tf.constant(self.inputs)
        return lambda positions: tf.gather(held, positions)

    def select(self, positions: NDArray[np.int64]) -> ArrayExamples:
        """The examples at `positions`, copied."""
        return ArrayExamples(self.inputs[positions], self.targets[positions])

    def fingerprint(self) -> str:
        """SHA-256 over types, shapes and values."""
        import hashlib

        digest = hashlib.sha256()
        for array in (self.inputs, self.targets):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Relabelled:
    """Examples with other targets. targets: as in `Examples`, one for each of `examples`."""

    examples: Examples
    targets: NDArray[Any]

    def __len__(self) -> int:
        return len(self.examples)

    def raw(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """The inputs, unchanged."""
        return self.examples.raw(positions)

    def tensor_reader(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """The inputs, unchanged."""
        return self.examples.tensor_reader()

    def select(self, positions: NDArray[np.int64]) -> Relabelled:
        """The examples at `positions` with their new targets."""
        return Relabelled(self.examples.select(positions), self.targets[positions])

    def fingerprint(self) -> str:
        """Of the examples and of the new targets."""
        import hashlib

        targets = np.ascontiguousarray(self.targets)
        return hashlib.sha256(f"{self.examples.fingerprint()}{targets.dtype}".encode() + targets.data).hexdigest()


@dataclass(frozen=True)
class RawData:
    """What a source found.

    examples: everything that may be split. validation, test: the source's own splits, if it has them (never mixed in).
    input: how the app must prepare an input (name is set later, from the model); its `mean` and `std` are filled
    from `normalize` once the training split is known. labels: class names, or () for regression.
    skipped: files that were left out, with the reason. groups: shape (n,), whatever must not be torn apart by the split
    (a speaker's clips, a series' windows) has the same number; it belongs to `examples`.
    """

    examples: Examples
    task: Task
    input: InputContract
    normalize: Normalize
    labels: tuple[str, ...] = ()
    validation: Examples | None = None
    test: Examples | None = None
    skipped: tuple[str, ...] = ()
    groups: NDArray[np.int64] | None = None


FOLDING: frozenset[Task] = frozenset({"classification", "regression", "segmentation", "policy-value"})
"""Tasks whose models may standardise their input; the others answer in the input's own units, or are given more."""


@dataclass(frozen=True)
class Standardisation:
    """(raw − mean) / std per channel (last axis), as a fixed layer at the model's input: the app feeds raw values."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Splits:
    """Training, validation and test examples, and the record of how they were drawn.

    folded: what the model has to do first, because neither the stream nor the app does it (`input` says mean 0, std 1).
    """

    train: Examples
    validation: Examples
    test: Examples
    task: Task
    input: InputContract
    labels: tuple[str, ...]
    record: SplitRecord
    seed: int = field(default=0)
    folded: Standardisation | None = None

    def unfolded(self) -> Splits:
        """The same data, standardised before a model that does not do it itself."""
        if self.folded is None:
            return self
        return replace(self, input=replace(self.input, mean=self.folded.mean, std=self.folded.std), folded=None)

    def as_given(self, contract: Contract) -> Splits:
        """The same data as the model with this contract takes it: name, scaling, and who standardises."""
        given = contract.inputs[0]
        if contract.task in FOLDING and (given.mean, given.std) == (self.input.mean, self.input.std):
            return self.named(given.name)
        data = self.unfolded()
        if given.dtype.startswith("float"):
            scaled = replace(data.input, mean=given.mean, std=given.std, raw_range=given.raw_range)
            data = replace(data, input=scaled)
        return data.named(given.name)

    def named(self, name: str) -> Splits:
        """The same data for a model whose input is called `name`."""
        return replace(self, input=replace(self.input, name=name))


def normalize(raw: NDArray[Any], contract: InputContract) -> NDArray[Any]:
    """`(raw − mean) / std` per channel (`InputContract.scaling`) as float32: what the model takes, shape as `raw`.

    Integers that the model takes as such (tokens) are left alone.
    """
    if not contract.dtype.startswith("float"):
        return raw.astype(contract.dtype)
    mean, std = (values.astype(np.float32) for values in contract.scaling())
    return ((raw.astype(np.float32) - mean) / std).astype(np.float32)
