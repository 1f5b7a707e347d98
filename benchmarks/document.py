"""Writes the measured numbers into docs/performance.md, between its markers, and draws a figure of each benchmark.

The prose of the page is written by hand; `<!-- measured: training -->` ... `<!-- end -->` is replaced.
"""

from __future__ import annotations

import re
from itertools import cycle
from pathlib import Path
from textwrap import fill

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmarks.contest import Guard
from benchmarks.harness import Result
from t2t.evaluation.figures import BLUE, GREY, VERMILION, axes_of

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
PICTURES = PAGE.parent / "performance"
MARKED = re.compile(r"(<!-- measured: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
# The committed ratios' file, which is no benchmark's.
GUARD = "guard"
COLOURS = (BLUE, VERMILION, "#009E73", "#E69F00", "#CC79A7", GREY, "#56B4E9", "black")


def document(measured: Path) -> None:
    """Brings the page up to date with the committed results in `measured`."""
    files = {path.stem: path.read_text() for path in sorted(measured.glob("*.json"))}
    guard = Guard.model_validate_json(files.pop(GUARD)) if GUARD in files else None
    results = {name: Result.model_validate_json(text) for name, text in files.items()}
    for result in results.values():
        if len({m.size for m in result.measured}) >= 3:
            PICTURES.mkdir(exist_ok=True)
            growth(result).savefig(PICTURES / f"{result.name}.png")
        for panel, sides in result.curves.items():
            PICTURES.mkdir(exist_ok=True)
            over_time(result, panel, sides).savefig(PICTURES / f"{result.name}-{panel}.png")

    def block(match: re.Match[str]) -> str:
        name = match[2]
        if name == GUARD and guard:
            return f"{match[1]}{guard_table(guard)}{match[3]}"
        found = results.get(f"{name}-full") or results.get(name)
        text = "Not measured yet.\n" if found is None else table(found)
        for picture in [name, *(f"{name}-{panel}" for panel in (found.curves if found else {}))]:
            if (PICTURES / f"{picture}.png").is_file():
                text += f"\n![{found.title if found else name}](performance/{picture}.png)\n"
        return f"{match[1]}{text}{match[3]}"

    PAGE.write_text(MARKED.sub(block, PAGE.read_text()))


def table(result: Result) -> str:
    """A result as Markdown."""
    lines = []
    if result.measured:
        memory = any(m.memory is not None for m in result.measured)
        lines += [f"| {result.axis} | | seconds | runs | {result.unit} |" + (" peak memory, MiB |" if memory else "")]
        lines += ["|---:|---|---:|---:|---:|" + ("---:|" if memory else "")]
        for m in result.measured:
            peak = "" if m.memory is None else f"{m.memory / 2**20:,.0f}"
            side = m.side if m.scaled_from is None else f"{m.side}, scaled from {m.scaled_from:,.0f}"
            row = f"| {m.size:,.0f} | {side} | {m.median:.3g} | {len(m.seconds)} | {_number(m.rate)} |"
            lines.append(row + (f" {peak} |" if memory else ""))
        lines.append("")
    if result.ratios:
        lines += ["| t2t against | ratio | to reach |", "|---|---:|---:|"]
        for name, ratio in result.ratios.items():
            target = result.targets.get(name)
            lines.append(f"| {name} | {ratio:.2f} | {'' if target is None else f'{target:.2g}'} |")
        lines.append("")
    lines += [f"- {name}: {text}" for name, text in result.figures.items()]
    slopes = {side: result.slope(side) for side in result.sides()}
    told = [f"{side} {slope:.2f}" for side, slope in slopes.items() if slope is not None]
    if told:
        lines.append(f"- slope in log-log, seconds by {result.axis}: {', '.join(told)}")
    lines += ["", _made_by(result), ""]
    return "\n".join(lines)


def guard_table(guard: Guard) -> str:
    """The committed ratios as Markdown."""
    lines = ["| | t2t against | ratio | interval | bound | runs |", "|---|---|---:|---:|---:|---:|"]
    for benchmark, ratios in guard.ratios.items():
        for name, ratio in ratios.items():
            of = ratio.interval
            bound = "" if ratio.bound is None else f"{ratio.bound:.3g}"
            row = f"| {benchmark} | {name} | {of.value:.3g} | {of.low:.3g} to {of.high:.3g} | {bound} | {of.turns} |"
            lines.append(row)
    return "\n".join([*lines, "", _made_by(guard), ""])


def _made_by(found: Result | Guard) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in found.versions.items())
    return f"{found.machine}; {versions}. `{found.command}`"


def growth(result: Result) -> Figure:
    """Seconds by size of every side, both logarithmic."""
    figure, axes = axes_of(7.2, 3.8)
    for side, colour in zip(result.sides(), cycle(COLOURS), strict=False):
        points = sorted((m.size, m.median) for m in result.measured if m.side == side and m.scaled_from is None)
        slope = result.slope(side)
        label = side if slope is None else f"{side} (slope {slope:.2f})"
        wide = 2.6 if side.startswith("t2t") else 1.5
        axes.plot(*zip(*points, strict=True), color=colour, marker="o", linewidth=wide, label=label)
    axes.set(xscale="log", yscale="log")
    sizes = sorted({m.size for m in result.measured})
    axes.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(result.axis, fontsize=11)
    axes.set_ylabel("seconds", fontsize=11)
    axes.set_title(fill(result.title, 64), fontsize=12, loc="left")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=10)
    return figure


def over_time(result: Result, panel: str, sides: dict[str, list[float]]) -> Figure:
    """Each side's values by share of the time."""
    figure, axes = axes_of(7.2, 3.8)
    for (side, values), colour in zip(sides.items(), cycle(COLOURS), strict=False):
        at = [100 * (i + 1) / len(values) for i in range(len(values))]
        axes.plot(at, values, color=colour, marker="o", linewidth=2.6 if side.startswith("t2t") else 1.5, label=side)
    axes.set_xlabel(result.axis, fontsize=11)
    axes.set_ylabel(result.unit, fontsize=11)
    axes.set_title(f"{result.title}: {panel}", fontsize=12, loc="left")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=10)
    return figure


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
