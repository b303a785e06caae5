"""edgedl: from a Keras model to a verified, measured model on a device, kept fast from then on.

    train ──► compress ──► export ──► verify ──► profile ──► check

Each verb returns a typed result (`edgedl.core.artifacts`); `run` does them all on one recipe; `search` finds the best
variant within a budget. `generate` and `sample` run exported language and diffusion models in their loops. Importing
this module imports nothing heavy: a verb is loaded when it is first used.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgedl.export.decoding import generate
    from edgedl.export.sampling import sample
    from edgedl.pipeline.search.verb import search
    from edgedl.pipeline.verbs import audit, check, compress, export, profile, run, sensitivity, train, verify

__all__ = [
    "audit",
    "check",
    "compress",
    "export",
    "generate",
    "profile",
    "run",
    "sample",
    "search",
    "sensitivity",
    "train",
    "verify",
]

_ELSEWHERE = {
    "generate": "edgedl.export.decoding",
    "sample": "edgedl.export.sampling",
    "search": "edgedl.pipeline.search.verb",
}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module(_ELSEWHERE.get(name, "edgedl.pipeline.verbs")), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("edgedl")
    raise AttributeError(f"module 'edgedl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


class _Package(ModuleType):
    """`edgedl.export` is the verb also after the subpackage of that name was imported, which would take its place."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
