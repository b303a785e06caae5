"""Keras layers of edgedl's own, one kind a file, each registered under the package name `edgedl`.

They are made of operations that every exporter knows, and hold no Python code in the saved file. Importing a module
here imports tf_keras; `register` imports them all, so that a file that uses one can be loaded.
"""

from __future__ import annotations

import importlib
import pkgutil


def register() -> None:
    """Make all layers here known to tf_keras's loading."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
