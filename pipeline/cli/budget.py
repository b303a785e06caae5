"""What `edgedl compress --budget` shows: the front while it grows, and what came of the search."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

import typer

from edgedl.pipeline.cli.output import Output

if TYPE_CHECKING:
    from edgedl.models import ModelFileSection
    from edgedl.pipeline.search.budget import Budget
    from edgedl.pipeline.search.result import Candidate, SearchResult

SHOWN = 12


def search_within(
    say: Output,
    model: Callable[[], str | ModelFileSection],
    budget: str,
    minimise: str | None,
    options: dict[str, Any],
) -> None:
    """Search, show, and exit with what came of it. model: made only once the budget makes sense."""
    from edgedl.pipeline.search.budget import parse_budget

    wanted = parse_budget(budget, minimise)
    from edgedl.core.artifacts import to_json
    from edgedl.pipeline.search.verb import search

    with live_front(wanted) as watch:
        found = search(model(), wanted, watch=watch, **options)
    say.data({**to_json(found), "folder": str(found.folder), "exit_code": int(found.exit_code)})
    show(say, found)
    if found.exit_code:
        raise typer.Exit(found.exit_code)


def show(say: Output, found: SearchResult) -> None:
    """The front, the best or the nearest, and where everything lies."""
    from edgedl.pipeline.search.words import headings, row, summary

    shown = [found.candidate(number) for number in found.front]
    if found.best is not None and found.best not in found.front:
        shown.append(found.candidate(found.best))
    order = found.objectives[0]
    shown.sort(key=lambda one: one.figures[order].value)
    if shown:
        say.table(headings(found.objectives), [row(one, found.objectives) for one in shown], "Pareto front")
    if found.nearest:
        nearest = [row(found.candidate(number), found.objectives, test=False) for number in found.nearest]
        say.table(headings(found.objectives, test=False), nearest, "nearest to the budget")
    for sentence in found.obstacles:
        say.line(f"in the way: {sentence}")
    for sentence in summary(found):
        say.line(sentence)
    say.line(found.sentence)
    if (found.folder / "front.png").is_file():
        say.line(f"picture: {found.folder / 'front.png'}")
    say.line(f"result: {found.folder / 'result.json'}")
    if found.best_file is not None:
        say.line(f"best file: {found.best_file}")


@contextlib.contextmanager
def live_front(budget: Budget) -> Generator[Callable[[Sequence[Candidate], Sequence[int], int], None] | None]:
    """On a terminal a table of the front that moves; None elsewhere."""
    from edgedl.core.console import TerminalReporter, reporter

    teller = reporter()
    if not (isinstance(teller, TerminalReporter) and teller.console.is_terminal):
        yield None
        return
    from rich.live import Live

    with Live("", console=teller.console, transient=True, auto_refresh=False) as live:

        def watch(done: Sequence[Candidate], front: Sequence[int], planned: int) -> None:
            live.update(_table(budget, done, front, planned), refresh=True)

        yield watch


def _table(budget: Budget, done: Sequence[Candidate], front: Sequence[int], planned: int) -> Any:
    from rich import box
    from rich.table import Table

    from edgedl.pipeline.search.standing import best_of
    from edgedl.pipeline.search.words import headings, row

    best = best_of(done, budget)
    title = f"{len(done)} of {planned} trials; best so far: {best.chain if best else 'none within the budget'}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for heading in headings(budget.objectives, test=False):
        table.add_column(heading, overflow="fold")
    on_it = sorted(
        (one for one in done if one.number in front), key=lambda one: one.figures[budget.objectives[0]].value
    )
    for one in on_it[:SHOWN]:
        table.add_row(*row(one, budget.objectives, test=False), style="bold" if one is best else None)
    return table
