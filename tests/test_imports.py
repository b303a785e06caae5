"""What the fast commands may not import, which way imports go, and what is public."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import edgedl

ROOT = Path(__file__).parents[1]
HEAVY = ("tensorflow", "tf_keras", "keras", "numpy", "onnx", "sklearn")


def heavy_after(code: str) -> set[str]:
    probe = f"{code}\nimport sys\nprint(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_importing_edgedl_and_help_import_neither_tensorflow_nor_numpy() -> None:
    assert heavy_after("import edgedl") == set()
    show_help = "import sys\nfrom edgedl.pipeline.cli.main import app\nsys.argv = ['edgedl', '--help']\n"
    assert heavy_after(show_help + "app(standalone_mode=False)") == set()


@pytest.mark.parametrize("arguments", [["doctor"], ["devices"], ["recipe-schema"], ["models"], ["run", "absent.yaml"]])
def test_fast_commands_do_not_import_tensorflow(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom edgedl.pipeline.cli.main import app\n"
        f"sys.argv = ['edgedl', *{arguments!r}]\n"
        "try:\n    app(standalone_mode=False)\nexcept Exception:\n    pass\nprint()"
    )
    assert not heavy_after(code) & {"tensorflow", "tf_keras", "keras"}


def test_help_loads_little() -> None:
    """What makes it quick; a time would depend on who else computes."""
    code = (
        "import sys\nfrom edgedl.pipeline.cli.main import app\nsys.argv = ['edgedl', '--help']\n"
        "app(standalone_mode=False)\nprint(len(sys.modules), 'pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules, pydantic = done.stdout.splitlines()[-1].split()
    assert int(modules) < 300
    assert pydantic == "False"


def test_the_public_surface() -> None:
    verbs = ["audit", "check", "compress", "export", "generate", "profile", "run", "sample", "search", "sensitivity"]
    assert edgedl.__all__ == [*verbs, "train", "verify"]
    assert all(callable(getattr(edgedl, name)) for name in edgedl.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = edgedl.trian  # pyright: ignore[reportAttributeAccessIssue]


def test_the_verb_export_survives_the_import_of_the_subpackage_export() -> None:
    from edgedl.export import EXPORTERS

    assert EXPORTERS
    assert edgedl.export.__module__ == "edgedl.pipeline.verbs"


ALLOWED = {
    "core": {"core"},
    "models": {"models", "core"},
    "export": {"export", "models", "core"},
    "devices": {"devices", "core"},
    "pipeline": {"pipeline", "export", "devices", "models", "core"},
}
"""Imports go one way. (export reads Keras files through models.load.)"""


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_go_one_way(room: str) -> None:
    wrong = []
    for path in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = (
                [node.module or ""] if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names] if isinstance(node, ast.Import)
                else []
            )  # fmt: skip
            for module in modules:
                parts = module.split(".")
                if parts[0] == "edgedl" and len(parts) > 1 and parts[1] not in ALLOWED[room]:
                    wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert wrong == []
