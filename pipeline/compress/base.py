"""What every compression technique has in common.

Two kinds. An `Alteration` makes another Keras model of a Keras model (pruned, clustered, distilled, fine-tuned); a
`Scheme` says in which numbers the exported file stores and computes. A chain is any number of alterations, then at
most one scheme: `{method: prune-channels, keep_macs: 0.5, then: [qat, int8]}`. A configuration's type selects it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, SerializeAsAny, model_validator

from edgedl.core.artifacts import (
    LayerSensitivity,
    Quantization,
    RepairTried,
    SkippedLayer,
    TrainedModel,
    WeightPromise,
)
from edgedl.core.config import Section
from edgedl.core.isolation import Limits
from edgedl.pipeline.compress.distillation import Distillation, KerasFile

if TYPE_CHECKING:
    from edgedl.models import KerasModel
    from edgedl.pipeline.data import Splits
    from edgedl.pipeline.recipe import Recipe


class Calibration(Section):
    """Which training examples show the ranges of the activations, and how a range comes of what was seen."""

    n: int = Field(default=200, ge=1, description="Number of training examples, drawn without replacement.")
    seed: int | None = Field(default=None, description="Seed of the draw; the recipe's seed unless given.")
    method: Literal["min-max", "percentile", "mse", "entropy"] = Field(
        default="min-max",
        description="All that was seen; or cut where a percentile lies, the squared error or the loss of information "
        "is smallest: better where few values are far larger than all others.",
    )
    percentile: float = Field(
        default=99.99, ge=50, le=100, description="Of the magnitudes seen, in per cent; of method percentile."
    )

    @property
    def in_words(self) -> str:
        """ "min-max", "percentile 99.99" …"""
        return f"percentile {self.percentile:g}" if self.method == "percentile" else self.method


class FineTune(Section):
    """Training that goes on with the weights there are; what is not said here is the recipe's `train`."""

    epochs: PositiveInt = Field(default=5, description="Passes over the training data.")
    batch_size: PositiveInt | None = Field(default=None, description="The recipe's unless given.")
    learning_rate: PositiveFloat = Field(
        default=1e-4, description="Adam's highest rate; 1e-3 unless given where weights or channels are removed."
    )
    schedule: Literal["constant", "cosine"] = Field(default="cosine", description="The rate over the run.")
    batch_norm: Literal["train", "freeze"] = Field(
        default="train",
        description="freeze: BatchNorm layers stay as they are and compute as in inference: for few examples, or "
        "others than the model was trained on.",
    )
    control: bool = Field(
        default=True,
        description="Fine-tune the model once more in the same way without compression, to tell what compression did "
        "from what training did.",
    )
    distill: Distillation | None = Field(default=None, description="Learn from a teacher too, unless null.")


def _techniques(value: object) -> object:
    from edgedl.pipeline.compress import techniques_of

    return techniques_of(value)


class Technique(Section):
    """One entry of the recipe's `compress` list."""

    method: str
    name: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", description="The variant's own name."
    )
    then: Annotated[tuple[SerializeAsAny[Technique], ...], BeforeValidator(_techniques)] = Field(
        default=(), description="What is done next, each a technique: a chain ends with at most one number format."
    )

    @property
    def variant(self) -> str:
        """The name that folders and tables show."""
        return self.name or "+".join(one.method for one in self.chain())

    def chain(self) -> Sequence[Technique]:
        """This technique and all that follow, in order."""
        return (self, *(later for one in self.then for later in one.chain()))

    @property
    def needs_data(self) -> bool:
        """Whether it cannot be done without examples."""
        return False


# --- number formats ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Conversion:
    """One model on its way into a TFLite file of a scheme.

    saved_model, float_tflite: the model in float32. keras: its file. calibration: .npz with one array (n, *shape) per
    input. fake_quant: a SavedModel with learnt ranges (QAT), which is converted instead where there is one.
    bench: what a scheme can judge candidates with (on the validation split); None without data.
    """

    saved_model: Path
    float_tflite: Path
    keras: Path
    trained: TrainedModel
    name: str
    folder: Path
    limits: Limits
    calibration: Path | None = None
    fake_quant: Path | None = None
    bench: Bench | None = None


@dataclass(frozen=True)
class Converted:
    """What a scheme says about the file it wrote.

    notes: what was skipped, fell back or was tried, in sentences. tried, kept_float: as in `CompressedModel`.
    """

    notes: tuple[str, ...] = ()
    tried: tuple[RepairTried, ...] = ()
    kept_float: tuple[LayerSensitivity, ...] = ()


class Scheme(Technique):
    """A number format, and how a model is brought into it."""

    strip: bool = Field(
        default=False,
        description="Leave out what only people read: metadata, labels and the names of inner tensors. Some kB less; "
        "profiles of that file know ops, not layers.",
    )

    def quantization(self) -> Quantization:
        """What the converters carry out."""
        raise NotImplementedError

    @property
    def needs_data(self) -> bool:
        """Activations in integers have to be seen."""
        return self.quantization().needs_calibration

    def convert(self, job: Conversion, target: Path) -> Converted:
        """Write the .tflite file; what was skipped, fell back or was tried.

        Raises ModelError when TFLite cannot hold the model; StageError when the converter crashes.
        """
        from edgedl.export.tflite import convert_tflite

        wanted = self.quantization()
        learnt = job.fake_quant if wanted.activations == "int8" else None
        convert_tflite(
            learnt or job.saved_model,
            target,
            wanted,
            job.trained.contract,
            name=job.name,
            layers=job.trained.layers,
            calibration=job.calibration,
            limits=job.limits,
        )
        return Converted()


# --- alterations -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bench:
    """What an alteration works with.

    origin: the model that the chain began with. base: the one that is altered, which may have been altered before.
    folder: of the artifact that is being made; files left there are kept. recipe: its `train` section fine-tunes.
    """

    origin: TrainedModel
    base: TrainedModel
    data: Splits
    recipe: Recipe
    seed: int
    folder: Path
    limits: Limits


@dataclass(frozen=True)
class Altered:
    """What an alteration made.

    model: plain tf_keras layers in float32, without wrappers of any toolkit. promises: what the exported file has to
    show. fake_quant: a SavedModel in the bench's folder whose ranges were learnt (QAT). said: what was done, in
    sentences with figures. is_new: it is another model, of which nothing holds that earlier steps promised.
    """

    model: KerasModel
    promises: tuple[WeightPromise, ...] = ()
    skipped: tuple[SkippedLayer, ...] = ()
    history: tuple[Mapping[str, float], ...] = ()
    said: tuple[str, ...] = ()
    fake_quant: str | None = None
    figures: Mapping[str, float] = field(default_factory=dict[str, float])
    is_new: bool = False


class Alteration(Technique):
    """A technique that makes another Keras model."""

    training: ClassVar[Mapping[str, Any]] = {}
    """Settings of `fine_tune` that serve this technique better than its defaults, where nothing else is said."""

    fine_tune: FineTune | None = Field(default=FineTune(), description="null: no training after it.")

    @model_validator(mode="before")
    @classmethod
    def _trains_as_serves_it(cls, data: Any) -> Any:
        tune = cast(Mapping[str, Any], data).get("fine_tune", {}) if isinstance(data, Mapping) else None
        return {**data, "fine_tune": {**cls.training, **tune}} if isinstance(tune, Mapping) else data

    @property
    def needs_data(self) -> bool:
        """Training needs examples."""
        return True

    def alter(self, model: KerasModel, bench: Bench) -> Altered:
        """Alter `model`, which is the alteration's own copy. Raises ConfigError, ModelError."""
        raise NotImplementedError

    def finish(self, path: Path, model: TrainedModel, limits: Limits) -> tuple[str, ...]:
        """Last hand at the chain's .tflite file, made of `model`, before it is judged; what was done, in sentences."""
        return ()

    def control(self) -> Alteration | None:
        """What it stands beside: the same training without the technique, where there is any and it is asked for."""
        if self.fine_tune is None or not self.fine_tune.control:
            return None
        (alike,) = cast(tuple[Alteration], _techniques([{"method": "fine-tune", "fine_tune": self.fine_tune}]))
        return alike

    def files(self) -> Mapping[str, Path]:
        """Model files that it reads, by a name of their own: their content decides whether it is done again."""
        teacher = self.fine_tune.distill.teacher if self.fine_tune and self.fine_tune.distill else None
        return {"teacher": teacher.file} if isinstance(teacher, KerasFile) else {}

    def implied_scheme(self) -> Technique | None:
        """The number format that this alteration is for, where the chain names none."""
        return None
