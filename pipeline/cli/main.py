"""The `edgedl` command: its verbs, and what becomes of errors."""

from __future__ import annotations

import errno
import json
import os
import sys
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from edgedl.core.errors import EdgedlError, ExitCode, own_fault
from edgedl.pipeline.cli import (
    check,
    check_history,
    compress,
    devices,
    doctor,
    export,
    init,
    inspect,
    models,
    profile,
    recipe_schema,
    report,
    run,
    sensitivity,
    train,
    verify,
)

HELP = """From a Keras model to a verified, measured model on a device, kept fast from then on.

train ─► compress ─► export ─► verify ─► profile ─► check

Exit codes: 0 fine · 1 a check failed · 2 bad input · 3 device or tool not there · 4 inconclusive · 70 edgedl's fault
"""

COMMANDS = {
    "run": run, "train": train, "compress": compress, "sensitivity": sensitivity, "export": export, "verify": verify,
    "profile": profile, "check": check, "check history": check_history,
    "inspect": inspect, "report": report, "init": init, "doctor": doctor,
    "models": models, "devices": devices, "recipe-schema": recipe_schema,
}  # fmt: skip
"""The one list where a new command adds its line; each module has one function, `command`."""


class _Verbs(TyperGroup):
    """`edgedl check history`: a verb of two words beside `edgedl check NEW`, which takes files."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        two = " ".join(args[:2])
        return super().resolve_command(ctx, [two, *args[2:]] if two in self.commands else args)


app = typer.Typer(help=HELP, rich_markup_mode=None, pretty_exceptions_enable=False, cls=_Verbs)
for _name, _module in COMMANDS.items():
    app.command(_name)(_module.command)


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        from importlib.metadata import version as version_of

        print(f"edgedl {version_of('edgedl')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(ExitCode.BAD_INPUT)


def main() -> NoReturn:
    """Run the command line; every error becomes one line and its exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    try:
        code = app(standalone_mode=False) or ExitCode.FINE
        if code == ExitCode.INTERRUPTED:  # the command-line library has taken the KeyboardInterrupt
            raise KeyboardInterrupt
        sys.stdout.flush()
        sys.exit(code)
    except EdgedlError as error:
        sys.exit(_fail(str(error), error.exit_code))
    except KeyboardInterrupt:
        _leave(_fail("interrupted; the same command goes on from here", ExitCode.INTERRUPTED))
    except BrokenPipeError:
        _drop_stdout()
        sys.exit(ExitCode.FINE)
    except Exception as error:
        sys.exit(_unexpected(error))


def _fail(text: str, code: ExitCode) -> ExitCode:
    line = " ".join(text.split())  # a file's name or another library's message may hold line breaks
    print(f"edgedl: {line}", file=sys.stderr)
    if "--json" in sys.argv:
        print(json.dumps({"error": line, "exit_code": int(code)}, ensure_ascii=False))
    return code


def _leave(code: ExitCode) -> NoReturn:
    """End at once: TensorFlow's threads are still at work, and taking the interpreter down under them can abort it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _drop_stdout() -> None:
    """What nobody can take is not written again when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _unexpected(error: Exception) -> ExitCode:
    if hasattr(error, "format_message"):  # a usage error of the command-line library
        usage = getattr(error, "ctx", None)
        hint = f". See `{usage.command_path} --help`" if usage is not None else ""
        return _fail(f"{error.format_message().rstrip('.')}{hint}", ExitCode.BAD_INPUT)  # pyright: ignore
    if type(error).__name__ == "Abort":
        return _fail("interrupted", ExitCode.INTERRUPTED)
    if isinstance(error, OSError):
        from edgedl.core.files import as_output_error, is_refusal

        if error.filename is None and error.errno == errno.ENOSPC:
            _drop_stdout()
            return _fail("cannot write the result: the disk behind standard output is full", ExitCode.BAD_INPUT)
        if error.filename is not None and is_refusal(error):
            refused = as_output_error(error, error.filename, doing="use")
            return _fail(str(refused), ExitCode.BAD_INPUT)
    return _fail(str(own_fault(error)), ExitCode.OWN_FAULT)
