"""The chips that can stand behind `qualcomm:`, from `socs.yaml`, which names its sources."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

FILE = Path(__file__).parent / "socs.yaml"


class Soc(BaseModel):
    """A chip. soc_model, soc_type: its number and name in Qualcomm's library. htp_arch: version of its tensor
    processor. vtcm_mib: memory of that. float16: whether float models run there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    summary: str
    soc_model: int
    soc_type: str
    htp_arch: int
    vtcm_mib: int
    float16: bool

    @property
    def words(self) -> str:
        """ "Snapdragon 8 Gen 2 (SM8550, HTP v73, 8 MiB VTCM)" """
        return f"{self.summary} ({self.soc_type}, HTP v{self.htp_arch}, {self.vtcm_mib} MiB VTCM)"


@functools.cache
def socs() -> Mapping[str, Soc]:
    """All chips by name."""
    given = yaml.safe_load(FILE.read_text())["socs"]
    return {name: Soc.model_validate(facts | {"name": name}) for name, facts in given.items()}
