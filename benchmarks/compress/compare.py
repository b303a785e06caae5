"""The peers' files and edgedl's chains on one work: one table, the Pareto front, and where a peer is ahead.

    python -m benchmarks.compress.compare resnet8 kws … --data DIR --work DIR [--chains "int8" "prune+qat" …]
        [--peers "TFLite int8" …] [--json FILE]

Whatever was made and judged is kept in --work by its content, so that a run that was stopped goes on. A maker that
fails is a row with its reason.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.compress.judge import Judgement, Point, answers, beaten_by_peers, front, judge
from benchmarks.compress.peers import EDGEDL, PEERS, TOLD, arrays
from benchmarks.compress.works import WORKS, Work, fingerprint, load_work
from numpy.typing import NDArray

from edgedl.core.files import sha256_of, write_atomically
from edgedl.core.statistics import Interval

ROOT = Path(__file__).parents[2]
CHAINS = ("int8", "dynamic-range", "float16", "fine-tune+int8")
PACKAGES = ("tensorflow", "tensorflow-model-optimization", "ai-edge-quantizer", "onnxruntime", "tf2onnx")
FLOAT = "TFLite float32"


@dataclass(frozen=True)
class Row:
    """One maker's file on one work. refused: why there is none. seconds: to make it, on this host."""

    work: str
    who: str
    chain: str
    found: Judgement | None
    refused: str = ""
    seconds: float = 0.0
    said: Sequence[str] = ()

    @property
    def maker(self) -> str:
        """As on the command line."""
        return f"{self.who} {self.chain}"


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("works", nargs="+", choices=WORKS)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public files")
    parser.add_argument("--work", type=Path, required=True, help="folder for what is made; kept")
    parser.add_argument(
        "--chains", nargs="*", default=list(CHAINS), help="edgedl's, in words: prune:sparsity=0.75+int8"
    )
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS)
    parser.add_argument("--json", type=Path, help="where to leave the results")
    given = parser.parse_args()
    rows: list[Row] = []
    for name in given.works:
        data = str(given.data.absolute())
        if module("benchmarks.compress.works", name, "--data", data, "--work", str(given.work.absolute())):
            sys.exit(f"{name} cannot be built")
        folder = given.work.absolute() / name
        found = compare(folder, given.peers, given.chains)
        print(f"\n## {name}\n\n{load_work(folder).said}\n\n{table(found)}\n\n{verdict(found)}", flush=True)
        rows += found
        if given.json:
            known = json.loads(given.json.read_text()) if given.json.is_file() else {"versions": {}, "rows": []}
            kept = [one for one in known["rows"] if one["work"] != name]
            known = {"versions": {one: version(one) for one in PACKAGES}, "rows": kept + [asdict(one) for one in found]}
            write_atomically(given.json, json.dumps(known, indent=1, ensure_ascii=False))


def compare(folder: Path, peers: Sequence[str], chains: Sequence[str]) -> list[Row]:
    """All rows of a work, the float model's first."""
    work = load_work(folder)
    makers = [FLOAT, *(one for one in peers if one != FLOAT), *(f"{EDGEDL}{chain}" for chain in chains)]
    places = {maker: place_of(folder, work, maker) for maker in makers}
    make(folder, places)
    base = file_in(places[FLOAT])
    if base is None:
        sys.exit(f"{work.name} has no float file to compare with")
    _, (x, y) = arrays(work)
    answered = answers(base, x)
    rows = [row_of(work, maker, place, judged_in(folder, answered, x, y, work)) for maker, place in places.items()]
    for title, (file, against) in work.published.items():
        judging = judged_in(folder, answered if against is None else answers(Path(against), x), x, y, work)
        rows.insert(1, Row(work.name, "published", title, judging(Path(file))))
    return rows


Judging = Callable[[Path], Judgement]


def row_of(work: Work, maker: str, place: Path, judging: Judging) -> Row:
    """What a maker left in its place, judged."""
    who, chain = ("edgedl", maker.removeprefix(EDGEDL)) if maker.startswith(EDGEDL) else maker.split(" ", 1)
    told, path = json.loads((place / TOLD).read_text()), file_in(place)
    if path is None or told["refused"]:
        return Row(work.name, who, chain, None, told["refused"], told["seconds"])
    found = judging(path)
    return Row(work.name, who, chain, found, "", told["seconds"], [*told.get("said", ()), *told.get("notes", ())])


def file_in(place: Path) -> Path | None:
    """The model that a maker left, if it did."""
    return next((one for one in (place / "model.tflite", place / "model.onnx") if one.is_file()), None)


def place_of(folder: Path, work: Work, maker: str) -> Path:
    """Where a maker's file goes: named by the work's content, the maker and the versions that it stands on.

    edgedl is asked anew whenever its own code has changed; its store then knows which steps are still right.
    """
    own = [code_hash()] if maker.startswith(EDGEDL) else [version(one) for one in PACKAGES]
    key = hashlib.sha256(json.dumps([fingerprint(work), maker, own]).encode()).hexdigest()[:12]
    return folder / "made" / f"{''.join(c if c.isalnum() else '-' for c in maker)[:60]}-{key}"


def make(folder: Path, places: Mapping[str, Path]) -> None:
    """Have everything made that is not there; a process that a maker takes down is begun again after it."""
    while missing := [f"{maker}={place}" for maker, place in places.items() if not (place / TOLD).is_file()]:
        print(f"{folder.name}: {len(missing)} to make", file=sys.stderr, flush=True)
        module("benchmarks.compress.peers", str(folder), *missing)


def code_hash() -> str:
    """Of edgedl's compression and what it stands on."""
    parts = ("core", "models", "export", "pipeline")
    files = sorted(one for part in parts for one in (ROOT / part).rglob("*.py"))
    return hashlib.sha256("".join(sha256_of(one) for one in files).encode()).hexdigest()[:12]


def module(name: str, *words: str) -> int:
    """Run a module in a process of its own, with Keras 2 as tfmot needs it; its exit code. What it says is shown."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_USE_LEGACY_KERAS": "1"}
    command = [sys.executable, "-m", name, *words]
    return subprocess.run(command, check=False, env=environment, cwd=ROOT, stdout=sys.stderr).returncode


def judged_in(folder: Path, answered: NDArray[Any], x: NDArray[Any], y: NDArray[Any], work: Work) -> Judging:
    """How to judge a file; what is judged is kept by its content and that of what it is judged with."""
    judging = hashlib.sha256((Path(__file__).with_name("judge.py")).read_bytes())
    for array in (answered, x, y):
        judging.update(np.ascontiguousarray(array).tobytes())
    title = judging.hexdigest()[:12]

    def judged(path: Path) -> Judgement:
        kept = folder / "judged" / f"{sha256_of(path)[:16]}-{title}.json"
        if not kept.is_file():
            kept.parent.mkdir(exist_ok=True)
            found = judge(path, answered, x, y, work.classifies)
            print(f"{path.parent.name}: {found.file_bytes:,} B, loss {found.loss}", file=sys.stderr, flush=True)
            write_atomically(kept, json.dumps(asdict(found)))
        told = json.loads(kept.read_text())
        return Judgement(**{**told, "quality": Interval(**told["quality"]), "loss": Interval(**told["loss"])})

    return judged


# --- words -------------------------------------------------------------------------------------------------------


def points(rows: Sequence[Row], size: str) -> list[Point]:
    """The rows that have a file. size: "file_bytes" or "gzip_bytes"."""
    return [Point(one.maker, getattr(one.found, size), one.found.loss.value) for one in rows if one.found]


def table(rows: Sequence[Row]) -> str:
    """Markdown. ● stands on the front of (gzip bytes, loss), ○ on that of (bytes, loss)."""
    plain = rows[0].found
    assert plain is not None
    marks = {"●": front(points(rows, "gzip_bytes")), "○": front(points(rows, "file_bytes"))}
    of_scores = plain.worst is not None
    title = "mean and largest distance of a score" if of_scores else "accuracy | loss, points"
    head = f"| | who | what | bytes | gzip -9 | {title} | instructions |\n|{'---|' * (7 + (not of_scores))}"
    lines = [head]
    for row in rows:
        if row.found is None:
            lines.append(f"| | {row.who} | {row.chain} | refused: {row.refused} |" + " |" * (3 + (not of_scores)))
            continue
        found = row.found
        mark = "".join(sign for sign, names in marks.items() if row.maker in names)
        quality = (
            f"{interval(found.quality, 1, 4)}, {found.worst:.4f}"
            if of_scores
            else f"{interval(found.quality, 100, 1)} % | {interval(found.loss, 1, 2)}"
        )
        ratio = "–"
        if found.instructions and plain.instructions:
            ratio = f"{found.instructions:,} ({found.instructions / plain.instructions:.3f})"
        sizes = f"{found.file_bytes:,} | {found.gzip_bytes:,}"
        lines.append(f"| {mark} | {row.who} | {row.chain} | {sizes} | {quality} | {ratio} |")
    return "\n".join(lines)


def interval(one: Interval, factor: float, digits: int) -> str:
    """ "88.1 [86.0, 90.0]"."""
    return "{:.{d}f} [{:.{d}f}, {:.{d}f}]".format(*(v * factor for v in (one.value, one.low, one.high)), d=digits)


def verdict(rows: Sequence[Row]) -> str:
    """Where a peer's file is smaller and more accurate than edgedl's, and none of edgedl's answers it."""
    lines = []
    for size, words in (("gzip_bytes", "gzip bytes"), ("file_bytes", "bytes")):
        ours, theirs = (points([r for r in rows if (r.who == "edgedl") == own], size) for own in (True, False))
        ahead = beaten_by_peers(ours, theirs)
        for peer, beaten in ahead:
            names = ", ".join(one.name.removeprefix("edgedl ") for one in beaten)
            lines.append(f"- {words}: {peer.name} ({peer.size:,}, {peer.loss:+.3g}) is ahead of edgedl's {names}")
        if not ahead and ours:
            lines.append(f"- {words}: no peer's file is smaller and more accurate than all of edgedl's")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
