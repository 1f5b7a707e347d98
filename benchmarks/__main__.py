"""python -m benchmarks [NAMES] [--full] [--save]: runs benchmarks, prints their tables, guards their ratios."""

from __future__ import annotations

import importlib
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.document import document
from benchmarks.harness import Guarded, Result, guard, stamped

BENCHMARKS = (
    "training", "quality", "labels", "tagging", "embedding", "evaluation", "engine", "listing", "startup", "gpu",
    "vlm", "steps",
)  # fmt: skip
MEASURED = Path(__file__).parent / "measured"

console = Console(width=120 if not sys.stdout.isatty() else None)


def main(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"Of {', '.join(BENCHMARKS)}; all of them by default.")
    ] = None,
    full: Annotated[bool, typer.Option(help="All sizes, more runs: up to an hour on two cores.")] = False,
    save: Annotated[bool, typer.Option(help="Keep the numbers, and write them into docs/performance.md.")] = False,
) -> None:
    """Each benchmark is a module of this folder with one function, `run(full) -> Result`."""
    logging.basicConfig(level=logging.WARNING)
    for name in names or []:
        if name not in BENCHMARKS:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(BENCHMARKS)}.")
    ratios: list[Guarded] = []
    for name in names or BENCHMARKS:
        result = importlib.import_module(f"benchmarks.{name}").run(full)
        if isinstance(result, str):
            console.print(f"{name}: skipped, {result}\n")
            continue
        result = stamped(result)
        show(result)
        path = MEASURED / f"{name}{'-full' if full else ''}.json"
        committed = Result.model_validate_json(path.read_text()) if path.is_file() else None
        ratios += guard(result, committed)
        if save:
            path.parent.mkdir(exist_ok=True)
            path.write_text(result.model_dump_json(indent=1) + "\n")
    if ratios:
        show_ratios(ratios)
    if save:
        document(MEASURED)
    elif any(not ratio.held for ratio in ratios):
        fallen = ", ".join(f"{ratio.benchmark}: {ratio.name}" for ratio in ratios if not ratio.held)
        console.print(f"[red]Fallen by more than a quarter against benchmarks/measured: {fallen}.[/red]")
        raise typer.Exit(1)


def show(result: Result) -> None:
    if result.measured:
        table = Table(title=result.title, title_justify="left")
        for column in (result.axis, "", "median s", "runs", result.unit, "peak memory"):
            table.add_column(column, justify="left" if column == "" else "right")
        for m in result.measured:
            memory = "" if m.memory is None else f"{m.memory / 2**20:,.0f} MiB"
            table.add_row(f"{m.size:,.0f}", m.side, f"{m.median:.3g}", str(len(m.seconds)), f"{m.rate:,.4g}", memory)
        console.print(table)
    for name, text in result.figures.items():
        console.print(f"  {name}: {text}")
    console.print()


def show_ratios(ratios: list[Guarded]) -> None:
    table = Table(title="Ratios: how many times better t2t is", title_justify="left")
    for column in ("benchmark", "against", "now", "committed", "to reach", ""):
        table.add_column(column, justify="right" if column in ("now", "committed", "to reach") else "left")
    for r in ratios:
        committed = "" if r.committed is None else f"{r.committed:.2f}"
        target = "" if r.target is None else f"{r.target:g}"
        reached = "" if r.target is None else "reached" if r.now >= r.target else "not reached"
        table.add_row(
            r.benchmark, r.name, f"{r.now:.2f}", committed, target, reached if r.held else "[red]fallen[/red]"
        )
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
