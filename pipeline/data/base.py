"""What every data source yields, so that nothing after it knows where the examples came from.

    source file ─► Source.load ─► RawData ─► split ─► Splits ─► stream (training), fetch (everything else)

Values stay *raw* (pixels, readings, table columns) until they are fetched or streamed; normalisation is in one place,
the `InputContract`, because the app has to repeat it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from edgedl.core.artifacts import SplitRecord
from edgedl.core.contract import InputContract, Task

if TYPE_CHECKING:
    import tensorflow as tf


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(Section):
    """The configuration of a data source; its type is the selector. One subclass a file."""

    source: str

    def load(self) -> RawData:
        """Read enough to know every example's target. Raises DataError."""
        raise NotImplementedError


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
        """The examples at `positions`, sharing storage with these."""
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

        held = tf.constant(self.inputs)
        return lambda positions: tf.gather(held, positions)

    def select(self, positions: NDArray[np.int64]) -> ArrayExamples:
        """The examples at `positions`."""
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
class RawData:
    """What a source found.

    examples: everything that may be split. test: the source's own test split, if it has one (never mixed in).
    input: how the app must prepare an input (name is set later, from the model). labels: class names, or () for
    regression. skipped: files that were left out because `skip_bad` was given, with the reason.
    """

    examples: Examples
    task: Task
    input: InputContract
    labels: tuple[str, ...] = ()
    test: Examples | None = None
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Splits:
    """Training, validation and test examples, and the record of how they were drawn."""

    train: Examples
    validation: Examples
    test: Examples
    task: Task
    input: InputContract
    labels: tuple[str, ...]
    record: SplitRecord
    seed: int = field(default=0)

    def named(self, name: str) -> Splits:
        """The same data for a model whose input is called `name`."""
        return replace(self, input=replace(self.input, name=name))


def normalize(raw: NDArray[Any], contract: InputContract) -> NDArray[np.float32]:
    """`(raw − mean) / std` per channel (last axis) as float32: what the model takes, shape as `raw`."""
    mean = np.asarray(contract.mean, dtype=np.float32)
    std = np.asarray(contract.std, dtype=np.float32)
    return ((raw.astype(np.float32) - mean) / std).astype(np.float32)
