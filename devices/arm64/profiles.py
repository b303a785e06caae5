"""Descriptions of Arm64 processors, one YAML file each in `profiles/`: cores (cortex-a76) and boards (raspberry-pi-5).

A core says which kernels XNNPACK chooses (by its part number and features), which caches it has and how much it can
execute at a time; a board adds its clock, and the sizes of caches that differ between products.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict

FOLDER = Path(__file__).parent / "profiles"


class Cache(BaseModel):
    """One level of data cache. latency_cycles: of a hit there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kib: int
    ways: int
    latency_cycles: float


class Pipes(BaseModel):
    """What a core can start per cycle: instructions in all, loads and stores (memory), 128-bit vector operations."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: float
    memory: float
    vector: float


def _by_level(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value  # pyright: ignore[reportUnknownVariableType]


class ArmProfile(BaseModel):
    """A processor to emulate.

    qemu_cpu: QEMU's `-cpu`. implementer, part: of the main identification register (MIDR_EL1). features: as Linux
    lists them in /proc/cpuinfo. caches: data caches, nearest first. memory_latency_ns: of a miss in all of them.
    clock_mhz: None for a core without a product. sources: where the figures are from.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    summary: str
    core: str
    qemu_cpu: str
    implementer: int
    part: int
    features: tuple[str, ...]
    caches: Annotated[tuple[Cache, ...], BeforeValidator(_by_level)]
    memory_latency_ns: float
    pipes: Pipes
    clock_mhz: float | None = None
    sources: tuple[str, ...]

    @property
    def is_product(self) -> bool:
        """Whether it has a clock, so that times can be estimated."""
        return self.clock_mhz is not None


def names() -> list[str]:
    """All profiles, cores first."""
    found = [load(path.stem) for path in sorted(FOLDER.glob("*.yaml"))]
    return [one.name for one in sorted(found, key=lambda one: (one.is_product, one.name))]


@functools.cache
def load(name: str) -> ArmProfile:
    """The profile of that name; a board's file names its core and gives only what differs."""
    given = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    if given["core"] != name:
        core = load(given["core"])
        given = core.model_dump() | given | {"sources": [*given["sources"], *core.sources]}
    return ArmProfile.model_validate(given | {"name": name})
