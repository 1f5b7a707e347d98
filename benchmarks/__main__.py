"""python -m benchmarks [NAMES]: guards t2t's ratios; with --full (or --quick) it measures and prints tables.

The guard's own tests: `--repeat 10` on an idle machine and `--repeat 5 --busy` may raise no alarm, and with
`--slow-down 1.4` every ratio of every run has to fall. `--save --repeat 5` commits what later runs are held against.
"""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.contest import ALLOWED, Committed, Guard
from benchmarks.document import GUARD, document
from benchmarks.guard import CONTESTS, Found, guard
from benchmarks.harness import Result, machine, stamped, versions

BENCHMARKS = (
    "training", "quality", "labels", "tagging", "embedding", "evaluation", "engine", "listing", "startup", "gpu",
    "vlm", "steps",
)  # fmt: skip
MEASURED = Path(__file__).parent / "measured"
# As a program that computes and moves memory: products of matrices that fit no cache.
BUSY = "import numpy as np\na = np.ones((1500, 1500))\nwhile True: a @ a"

console = Console(width=120 if not sys.stdout.isatty() else None)


def main(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"Of {', '.join(BENCHMARKS)}; all of them by default.")
    ] = None,
    full: Annotated[bool, typer.Option(help="Tables of all sizes: up to an hour on two cores. Nothing fails.")] = False,
    quick: Annotated[bool, typer.Option(help="Tables of the small sizes. Nothing fails.")] = False,
    save: Annotated[bool, typer.Option(help="Keep the numbers, and write them into docs/performance.md.")] = False,
    repeat: Annotated[int, typer.Option(min=1, help="Guard so many times in a row, and count the alarms.")] = 1,
    busy: Annotated[bool, typer.Option(help="Guard beside another busy process.")] = False,
    slow_down: Annotated[
        float, typer.Option(min=1, help="t2t's sides take so many times their CPU: every ratio has to fall.")
    ] = 1.0,
) -> None:
    """Guards the ratios of `benchmarks/guard.py`, or prints the tables of this folder's modules."""
    logging.basicConfig(level=logging.WARNING)
    for name in names or []:
        if name not in BENCHMARKS:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(BENCHMARKS)}.")
    if full or quick:
        tables(names or list(BENCHMARKS), full, save)
        return
    if save and (busy or slow_down > 1):
        raise typer.BadParameter("What is kept is measured on an idle machine, without --busy and --slow-down.")
    chosen = [name for name in names or BENCHMARKS if name in CONTESTS]
    with beside(busy):
        # What is to be kept is measured until it is known, not until it is above what was.
        runs = list(guarded(chosen, repeat, slow_down, Guard() if save else committed_ratios()))
    if save:
        keep(runs)
    elif summary(runs, slow_down) | missing(chosen, runs[0]):
        raise typer.Exit(1)


def tables(names: list[str], full: bool, save: bool) -> None:
    for name in names:
        result = importlib.import_module(f"benchmarks.{name}").run(full)
        if isinstance(result, str):
            console.print(f"{name}: skipped, {result}\n")
            continue
        result = stamped(result)
        show(result)
        if save:
            MEASURED.mkdir(exist_ok=True)
            (MEASURED / f"{name}{'-full' if full else ''}.json").write_text(result.model_dump_json(indent=1) + "\n")
    if save:
        document(MEASURED)


@contextmanager
def beside(busy: bool) -> Iterator[None]:
    """Another process that computes without end, where it is wanted."""
    if not busy:
        yield
        return
    other = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def guarded(names: list[str], repeat: int, slow_down: float, committed: Guard) -> Iterator[list[Found]]:
    """The ratios of each run, shown as they come."""
    for number in range(1, repeat + 1):
        start = time.perf_counter()
        ratios: list[Found] = []
        for part in guard(names, committed, slow_down):
            ratios += part.ratios
            console.print(f"{part.benchmark}: {part.seconds:.0f} s", style="dim")
        show_ratios(ratios, f"Run {number} of {repeat}, {time.perf_counter() - start:.0f} s")
        yield ratios


def committed_ratios() -> Guard:
    path = MEASURED / f"{GUARD}.json"
    return Guard.model_validate_json(path.read_text()) if path.is_file() else Guard()


def keep(runs: list[list[Found]]) -> None:
    """Commits the ratios of these runs in the place of the benchmarks' earlier ones."""
    if len(runs) < 3:
        raise typer.BadParameter("A committed interval takes at least three runs: --save --repeat 5.")
    committed = committed_ratios()
    for benchmark in dict.fromkeys(found.benchmark for found in runs[0]):
        committed.ratios[benchmark] = {}
    for found in runs[0]:
        values = [other.interval.value for run in runs for other in run if other[:2] == found[:2]]
        committed.ratios[found.benchmark][found.name] = Committed(runs=values)
    committed.machine, committed.versions = machine(), versions()
    committed.command = f"python -m benchmarks {' '.join(sys.argv[1:])}"
    MEASURED.mkdir(exist_ok=True)
    (MEASURED / f"{GUARD}.json").write_text(committed.model_dump_json(indent=1) + "\n")
    document(MEASURED)


def summary(runs: list[list[Found]], slow_down: float) -> bool:
    """Says which ratios fell, of how many runs; returns whether the guard failed, or missed a slow-down."""
    guarded = [found for run in runs for found in run if found.bound is not None]
    fell = Counter(f"{found.benchmark}: {found.name}" for found in guarded if found.fell)
    alarms = sum(any(found.fell for found in run) for run in runs)
    told = ", ".join(
        f"{name}" + (f" ({count} of {len(runs)})" if len(runs) > 1 else "") for name, count in fell.items()
    )
    console.print(f"{len(guarded)} ratios in {len(runs)} runs; {fell.total()} fell, in {alarms} runs.")
    if slow_down > 1:
        held = Counter(f"{found.benchmark}: {found.name}" for found in guarded if not found.fell)
        missed = ", ".join(f"{name} ({count} of {len(runs)})" for name, count in held.items())
        console.print(
            f"A slow-down of {slow_down:g} was " + (f"missed: {missed}." if held else "caught by all of them.")
        )
        return bool(held)
    if fell:
        console.print(f"[red]Fallen below the committed interval by more than {ALLOWED:.2f} times: {told}.[/red]")
    return bool(fell)


def missing(names: list[str], run: list[Found]) -> bool:
    """Says which committed ratios a run does not have: what was measured once may not vanish without a word."""
    committed = committed_ratios().ratios
    there = {found[:2] for found in run}
    gone = [f"{name}: {other}" for name in names for other in committed.get(name, {}) if (name, other) not in there]
    if gone:
        console.print(f"[red]Committed, and not measured here: {', '.join(gone)}.[/red]")
    return bool(gone)


def show(result: Result) -> None:
    if result.measured:
        table = Table(title=result.title, title_justify="left")
        for column in (result.axis, "", "median s", "runs", result.unit, "peak memory"):
            table.add_column(column, justify="left" if column == "" else "right")
        for m in result.measured:
            memory = "" if m.memory is None else f"{m.memory / 2**20:,.0f} MiB"
            table.add_row(f"{m.size:,.0f}", m.side, f"{m.median:.3g}", str(len(m.seconds)), f"{m.rate:,.4g}", memory)
        console.print(table)
    for name, ratio in result.ratios.items():
        target = result.targets.get(name)
        console.print(f"  against {name}: {ratio:.2f}" + ("" if target is None else f" (to reach {target:.2g})"))
    for name, text in result.figures.items():
        console.print(f"  {name}: {text}")
    console.print()


def show_ratios(ratios: list[Found], title: str) -> None:
    table = Table(title=f"{title}: how many times less CPU t2t takes, one thread", title_justify="left")
    for column in ("benchmark", "against", "now", "interval", "turns", "bound", ""):
        table.add_column(column, justify="left" if column in ("benchmark", "against", "") else "right")
    for r in ratios:
        found = r.interval
        bound = "" if r.bound is None else f"{r.bound:.3g}"
        verdict = "not committed" if r.bound is None else "[red]fallen[/red]" if r.fell else "held"
        between = f"{found.low:.3g} to {found.high:.3g}"
        table.add_row(r.benchmark, r.name, f"{found.value:.3g}", between, str(found.turns), bound, verdict)
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
