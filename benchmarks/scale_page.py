"""What `benchmarks.scale` measured, as a table on the screen, as docs/scale.md and as its picture."""

from __future__ import annotations

import json
from math import log10
from pathlib import Path

from matplotlib.figure import Figure
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from benchmarks.harness import machine

MEASURED = Path(__file__).parent / "measured" / "scale" / "run.json"
PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
PICTURE = PAGE.parent / "performance" / "scale.png"
BEGIN, END = "<!-- run -->\n", "<!-- end run -->"
# Stages in the order in which a campaign first meets them.
STAGES = (
    "making the data",
    "imports",
    "reading the dataset",
    "embeddings",
    "registering teachers",
    "label table",
    "training",
    "around the training",
    "evaluation",
    "gate",
    "labeling",
    "registering labels",
    "lake commits",
    "MLflow",
    "ledger and the rest",
    "report",
)
console = Console(width=150)


class Stage(BaseModel):
    """What a stage took, over all rounds. seconds, cpu: its own. peak, anonymous: the most resident memory of the
    process tree while it ran, bytes; what is mapped from files counts in `peak` only."""

    seconds: float = 0.0
    cpu: float = 0.0
    peak: int = 0
    anonymous: int = 0
    by_round: dict[str, float] = {}


class Ran(BaseModel):
    """A size that was run. disk: bytes by what they are; rounds: PR-AUC on test, rows and steps of each round."""

    samples: int
    topics: int
    teachers: int
    rows: int
    stages: dict[str, Stage]
    disk: dict[str, int]
    rounds: list[dict[str, float]]
    load: list[float]

    def total(self, of: str) -> float:
        return sum(getattr(stage, of) for name, stage in self.stages.items() if name != "making the data")


def slope(small: float, large: float, ratio: float) -> float | None:
    """d log(cost) / d log(size); None where either is too small to say."""
    return log10(large / small) / log10(ratio) if min(small, large) >= 0.5 else None


def rows_of(runs: list[Ran]) -> list[list[str]]:
    """A row a stage: of every size its seconds, CPU seconds and memory, then the slopes of time and CPU time."""
    known = [*STAGES, *(name for ran in runs for name in ran.stages)]
    table = []
    for name in dict.fromkeys(known):
        found = [ran.stages.get(name, Stage()) for ran in runs]
        if all(stage.seconds < 0.05 for stage in found):
            continue
        row = [name]
        for stage in found:
            memory = f"{stage.peak / 2**30:.2f}" if stage.peak else ""
            row += [f"{stage.seconds:.1f}", f"{stage.cpu:.1f}", memory]
        table.append([*row, *_slopes(runs, [stage.seconds for stage in found], [stage.cpu for stage in found])])
    totals = ["all but the data"]
    for ran in runs:
        peak = max(stage.peak for stage in ran.stages.values())
        totals += [f"{ran.total('seconds'):.1f}", f"{ran.total('cpu'):.1f}", f"{peak / 2**30:.2f}"]
    wall, cpu = ([ran.total(of) for ran in runs] for of in ("seconds", "cpu"))
    return [*table, [*totals, *_slopes(runs, wall, cpu)]]


def _slopes(runs: list[Ran], *costs: list[float]) -> list[str]:
    if len(runs) < 2:
        return []
    ratio = runs[-1].samples / runs[-2].samples
    found = [slope(cost[-2], cost[-1], ratio) for cost in costs]
    return ["" if value is None else f"{value:.2f}" for value in found]


def head(runs: list[Ran]) -> list[str]:
    columns = ["stage"]
    for ran in runs:
        columns += [f"{ran.samples:,}: s", "CPU s", "peak GiB"]
    return [*columns, *(["slope", "of CPU"] if len(runs) > 1 else [])]


def show(runs: list[Ran]) -> None:
    table = Table()
    for number, column in enumerate(head(runs)):
        table.add_column(column, justify="right" if number else "left")
    for row in rows_of(runs):
        table.add_row(*row)
    console.print(table)
    for ran in runs:
        console.print(f"{ran.samples:,} samples, disk in MB:", {k: round(v / 1e6) for k, v in ran.disk.items()})
        console.print("rounds:", [{k: round(v, 4) for k, v in one.items()} for one in ran.rounds], "load", ran.load)


def markdown(runs: list[Ran]) -> str:
    columns = head(runs)
    lines = ["| " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows_of(runs)]
    names = list(runs[0].disk)
    lines += ["", "| disk, MB | " + " | ".join(f"{ran.samples:,}" for ran in runs) + " | slope |"]
    lines += ["|---|" + "---:|" * (len(runs) + 1)]
    for name in names:
        sizes = [ran.disk[name] for ran in runs]
        grown = _slopes(runs, [float(size) for size in sizes]) or [""]
        lines.append(f"| {name} | " + " | ".join(f"{size / 1e6:,.0f}" for size in sizes) + f" | {grown[0]} |")
    lines += ["", "| PR-AUC on test, 95 % | " + " | ".join(f"{ran.samples:,}" for ran in runs) + " | rows |"]
    lines += ["|---|" + "---:|" * (len(runs) + 1)]
    for k in range(max(len(ran.rounds) for ran in runs)):
        cells = [
            f"{one['pr_auc']:.4f} [{one['low']:.4f}, {one['high']:.4f}]" if (one := _round(ran, k)) else ""
            for ran in runs
        ]
        last = _round(runs[-1], k)
        lines.append(f"| round {k} | " + " | ".join(cells) + f" | {last['rows'] if last else 0:,.0f} |")
    return "\n".join(lines) + "\n"


def _round(ran: Ran, k: int) -> dict[str, float]:
    return ran.rounds[k] if k < len(ran.rounds) else {}


def figure(runs: list[Ran]) -> Figure:
    """CPU seconds by size, log-log, a line a stage, and the line of what grows in proportion."""
    from t2t.evaluation.figures import GREY, axes_of

    shown = [name for name in STAGES[2:] if all(ran.stages.get(name, Stage()).cpu >= 0.5 for ran in runs)]
    picture, axes = axes_of(7.0, 5.0)
    sizes = [ran.samples for ran in runs]
    for number, name in enumerate(shown):
        seconds = [ran.stages[name].cpu for ran in runs]
        look = "-o" if number < 10 else "--s"
        axes.plot(sizes, seconds, look, color=f"C{number % 10}", markersize=4, label=name)
    total = [ran.total("cpu") for ran in runs]
    axes.plot(sizes, total, "-o", color="black", linewidth=2.5, label="the whole campaign")
    axes.plot(sizes, [total[-1] * size / sizes[-1] for size in sizes], ":", color=GREY, label="in proportion")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("samples (100 label rows of teachers each)")
    axes.set_ylabel("CPU seconds, all rounds")
    picture.legend(loc="outside right upper", frameon=False, fontsize=9)
    return picture


def write(runs: list[Ran]) -> None:
    """Brings docs/scale.md and its picture up to date."""
    PICTURE.parent.mkdir(exist_ok=True)
    figure(runs).savefig(PICTURE)
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{markdown(runs)}{END}{rest.partition(END)[2]}")


def keep_numbers(runs: list[Ran]) -> None:
    content = {"machine": machine(), "runs": [ran.model_dump() for ran in runs]}
    MEASURED.parent.mkdir(exist_ok=True)
    MEASURED.write_text(json.dumps(content, indent=1) + "\n")
    write(runs)
