"""Knowledge distillation: a student learns from the data and from a teacher's answers.

Hinton, Vinyals & Dean 2015 (arXiv:1503.02531) and what followed; distill_losses has the equations. Without a student
of its own the current model learns from the one that it was made of: recovery after pruning, or self-distillation.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationInfo, model_validator

from edgedl.core.config import sentence
from edgedl.models import Family, FamilyConfig
from edgedl.pipeline.compress.base import Alteration, Altered, Bench
from edgedl.pipeline.compress.distillation import Distillation, KerasFile

if TYPE_CHECKING:
    from edgedl.models import KerasModel

NEW_STUDENT: Mapping[str, Any] = {"epochs": 20, "learning_rate": 1e-3}
"""Training of a student that has learnt nothing yet, where nothing else is said."""


def _student(value: object, info: ValidationInfo) -> object:
    """A section with `file` is a file, every other a family; a name alone is a family's."""
    if isinstance(value, str):
        value = {"family": value}
    if isinstance(value, Mapping):
        kind: Any = KerasFile if "file" in value else FamilyConfig
        return TypeAdapter(kind).validate_python(value, context=info.context)
    return value


class Distill(Distillation, Alteration):
    """A student, trained by a teacher. teacher null: trained alike without one, its control."""

    method: Literal["distill"] = "distill"
    teacher: Literal["origin"] | KerasFile | None = Field(
        default="origin",
        description="origin: the uncompressed model that the chain began with. Or {file: …}: a Keras file, or a run's "
        "folder. null: none, the control.",
    )
    student: Annotated[FamilyConfig | KerasFile | None, BeforeValidator(_student)] = Field(
        default=None,
        description="Unless given, the model as the chain has made it so far. A family's section is built new; "
        "{file: …} goes on from a Keras file.",
    )

    @model_validator(mode="before")
    @classmethod
    def _new_students_learn_longer(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        section = cast(Mapping[str, Any], data)
        student, tune = section.get("student"), section.get("fine_tune", {})
        is_family = isinstance(student, (str, Family)) or (isinstance(student, Mapping) and "file" not in student)
        if is_family and isinstance(tune, Mapping):
            return {**section, "fine_tune": {**NEW_STUDENT, **cast(Mapping[str, Any], tune)}}
        return data

    @model_validator(mode="after")
    def _trains(self) -> Distill:
        if self.fine_tune is None:
            raise sentence("distillation is training: fine_tune cannot be null")
        if self.fine_tune.distill is not None:
            raise sentence("distill has its settings beside fine_tune, not in fine_tune.distill")
        return self

    def alter(self, model: KerasModel, bench: Bench) -> Altered:
        """Train the student. Raises ConfigError, ModelError."""
        from edgedl.pipeline.compress.fine_tune import fine_tune
        from edgedl.pipeline.compress.students import new_student

        assert self.fine_tune is not None
        settings = None
        if self.teacher is not None:
            settings = Distillation.model_validate({name: getattr(self, name) for name in Distillation.model_fields})
        student = model if self.student is None else new_student(self.student, bench)
        tune = self.fine_tune.model_copy(update={"distill": settings})
        history = fine_tune(student, bench, tune)
        return Altered(student, history=history, said=(self._words(bench, student),), is_new=self.student is not None)

    def control(self) -> Alteration | None:
        """The same student, trained alike without a teacher."""
        if self.teacher is None or self.fine_tune is None or not self.fine_tune.control:
            return None
        if self.student is None:
            return super().control()
        return Distill(student=self.student, teacher=None, fine_tune=self.fine_tune)

    def files(self) -> Mapping[str, Path]:
        """Of teacher and student."""
        given = {"teacher": self.teacher, "student": self.student}
        return {name: one.file for name, one in given.items() if isinstance(one, KerasFile)}

    def _words(self, bench: Bench, student: KerasModel) -> str:
        assert self.fine_tune is not None
        who = "the model itself"
        if isinstance(self.student, Family):
            who = f"a new {self.student.family}"
        elif self.student is not None:
            who = self.student.file.name
        taught = "without a teacher"
        if self.teacher is not None:
            teacher = "the uncompressed model" if self.teacher == "origin" else self.teacher.file.name
            taught = f"taught by {teacher}, alpha {self.alpha:g}"
            if bench.base.contract.outputs[0].content != "values":
                taught += f", temperature {self.temperature:g}"
            taught += "".join(f", {one}" for one in ("features", "attention") if getattr(self, one))
        share = f"{student.count_params():,} parameters ({bench.origin.parameters:,} before)"
        return f"{who}, {share}, {taught}, {self.fine_tune.epochs} epochs"
