"""A run's folder: artifacts keyed by what determines them, so that nothing unchanged is done twice.

    runs/digits/
        recipe.yaml  run.json  report.html  report.json  edgedl.log  .lock
        train-1a2b3c4d/          manifest.json, model.keras, curves.png, …
        compress-int8-9f8e7d6c/  …
        .train-1a2b3c4d.partial/ work in progress: never read as a result; a stage may go on from it

An artifact's folder appears by one rename, when it is complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from edgedl.core.artifacts import MANIFEST, A, Artifact, Record, is_intact, load_artifact, save_artifact, to_json
from edgedl.core.console import reporter
from edgedl.core.errors import ConfigError, EdgedlError, InputError, ModelError, OutputError
from edgedl.core.files import is_refusal, output_errors, record_of, remove_folder, write_atomically
from edgedl.core.provenance import machine, versions

LOCK = ".lock"
LAYOUT = 1  # part of every key: raise it when what a stage writes changes its meaning


class RunStore:
    """The artifacts in one folder. Use `open_store`, which holds the lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reused: list[str] = []
        self._at_hand: dict[Path, Artifact] = {}

    def build(
        self,
        kind: type[A],
        stage: str,
        make: Callable[[Path], A],
        *,
        config: Mapping[str, Any],
        parents: Sequence[Artifact] = (),
        inputs: Mapping[str, str] | None = None,
        seed: int | None = None,
        resumable: bool = False,
    ) -> A:
        """The artifact that `stage` makes from these parents with this configuration: found, or made now.

        stage: the folder's readable part, e.g. "compress-int8". make: fills the folder it is given and returns the
        artifact, whose record and folder are completed here. inputs: hashes of what is neither parent nor
        configuration (data, a model file). resumable: keep the partial folder of an interrupted attempt.
        """
        asked = {
            "layout": LAYOUT,
            "stage": stage,
            "config": config,
            "parents": [parent.record.content_hash for parent in parents],
            "inputs": dict(inputs or {}),
            "seed": seed,
            "versions": versions(),
        }
        key = hashlib.sha256(canonical_json(asked).encode()).hexdigest()
        folder = self.folder / f"{stage}-{key[:8]}"
        at_hand = self._at_hand.get(folder)
        if isinstance(at_hand, kind):
            return at_hand
        found = self._find(folder, key, kind)
        if found is not None:
            self._at_hand[folder] = found
            self.reused.append(folder.name)
            with contextlib.suppress(OSError):
                os.utime(folder / MANIFEST)  # now the latest of its kind: see `artifacts`
            reporter().note(f"unchanged: {folder.name}")
            return found

        partial = self.folder / f".{folder.name}.partial"
        with output_errors(self.folder):
            if not resumable:
                remove_folder(partial)
            partial.mkdir(parents=True, exist_ok=True)
            for torn in partial.glob(".*"):
                torn.unlink()  # files that a killed attempt was about to rename
        started = time.monotonic()
        try:
            with storage_errors(partial):
                artifact = make(partial)
                record = Record(
                    key=key,
                    parents=tuple(parent.record.content_hash for parent in parents),
                    config=json.loads(canonical_json(config)),
                    seed=seed,
                    versions=versions(),
                    machine=machine(),
                    created_at=datetime.now(UTC).isoformat(timespec="seconds"),
                    seconds=round(time.monotonic() - started, 3),
                    files=tuple(
                        record_of(path, partial)
                        for path in sorted(partial.rglob("*"))
                        if path.is_file() and path.name != MANIFEST and "tensorboard" not in path.parts
                    ),
                )
                artifact = replace(artifact, record=replace(record, content_hash=_content_hash(artifact, record)))
                save_artifact(replace(artifact, folder=partial))
                remove_folder(folder)  # a damaged one with this key
                os.replace(partial, folder)
        except BaseException as error:
            if not resumable or isinstance(error, (ConfigError, ModelError)) or not _has_files(partial):
                remove_folder(partial)
            raise
        self._at_hand[folder] = finished = replace(artifact, folder=folder)
        return finished

    def _find(self, folder: Path, key: str, kind: type[A]) -> A | None:
        if not folder.is_dir():
            return None
        try:
            artifact = load_artifact(folder)
        except InputError as error:
            reporter().warn(f"{folder.name} is made again: {error}")
            return None
        if not isinstance(artifact, kind) or artifact.record.key != key:
            return None
        if not is_intact(artifact):
            reporter().warn(f"{folder.name} is made again: its files are not the ones that were recorded")
            return None
        return artifact

    def artifacts(self, kind: type[A]) -> list[A]:
        """All complete artifacts of that kind, the last made or found again at the end; not the damaged ones."""
        found: list[tuple[int, A]] = []
        for path in self.folder.glob(f"[!.]*/{MANIFEST}"):
            try:
                artifact = load_artifact(path.parent)
            except InputError as error:
                reporter().warn(f"{path.parent.name} is left out: {error}")
                continue
            if type(artifact) is kind:
                found.append((path.stat().st_mtime_ns, artifact))
        return [artifact for _, artifact in sorted(found, key=lambda one: one[0])]


def _has_files(folder: Path) -> bool:
    return any(path.is_file() for path in folder.rglob("*"))


@contextlib.contextmanager
def storage_errors(folder: Path) -> Generator[None]:
    """Turn a full disk or a refused write inside a stage into one OutputError; leave other errors alone.

    Native writers (Keras, TensorFlow) report a full disk in many shapes, so the disk itself is asked too.
    """
    try:
        yield
    except (EdgedlError, KeyboardInterrupt):
        raise
    except Exception as error:
        with output_errors(folder):
            if isinstance(error, OSError) and is_refusal(error):
                raise
            _probe(folder)
        raise


def _probe(folder: Path) -> None:
    probe = folder / ".probe"
    try:
        probe.write_bytes(b"\0" * 65536)
    finally:
        probe.unlink(missing_ok=True)


@contextlib.contextmanager
def open_store(folder: Path) -> Generator[RunStore]:
    """Hold the run's folder: one edgedl at a time writes into it. The system frees the lock when a process dies.

    Raises OutputError when the folder cannot be written to or another process holds it.
    """
    with output_errors(folder):
        fresh = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise OutputError(
                f"another edgedl is working in {folder}",
                advice="Wait for it to end, or choose another folder with --out",
            ) from None
    try:
        yield RunStore(folder)
    finally:
        if fresh and [path.name for path in folder.iterdir()] == [LOCK]:
            remove_folder(folder)  # nothing came of it
        lock.release()


def _content_hash(artifact: Artifact, record: Record) -> str:
    """Hash of files and typed content, without what differs from run to run (times, machine, folder)."""
    content = to_json(artifact)
    for volatile in ("record", "history"):
        content.pop(volatile, None)
    content["files"] = [(entry.name, entry.sha256) for entry in record.files if not entry.name.endswith(".png")]
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no white space: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def write_run_file(folder: Path, name: str, content: Mapping[str, Any]) -> None:
    """Write a JSON file into the run's folder."""
    write_atomically(folder / name, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
