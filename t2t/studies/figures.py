"""A study's pictures: lines over what its cells differ in, with bands over samples and seeds, and rivals beside them.

Lines carry their names at their ends where there are few of them, so that nobody has to look from a legend and back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from t2t.core.errors import T2TError
from t2t.data.pairs import Pairs
from t2t.evaluation.figures import (
    BLUE,
    DASHES,
    GREY,
    INK,
    LINE,
    NARROW,
    TEACHERS,
    axes_of,
    pr_picture,
    teacher_styles,
)
from t2t.evaluation.metrics import average_precision
from t2t.studies.cells import Cell, shown_value
from t2t.studies.config import BY_CELL, BY_RECALL, BY_ROUND, BY_SIZE, FigureConfig, fits
from t2t.studies.numbers import PARTS, SIZE, Number, words
from t2t.studies.results import Results
from t2t.studies.rivals import Rivals

# Lines, rivals too, that are named at their ends; of more there is a legend below.
NAMED = 7
# How far apart two names are at least, in inches.
APART = 0.19
COLOURS = (BLUE, *TEACHERS)
# Rivals that are so near one another beside several lines of cells are drawn once.
SAME = 0.005
Others = dict[str, dict[str, dict[float, Number]]]
"""Rivals by name, by the line of cells that they stand beside, and by place."""
# Teachers' curves in one picture.
CURVES = 12
RIVAL_DASHES = ((0, (4, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (8, 3)), (0, (2, 4)))


@dataclass(frozen=True)
class Series:
    """One line: its name, and at each place of x a number. rival: which one it is of; empty for cells. of: the line
    of cells that the rival stands beside, where it is another one beside others."""

    name: str
    points: Mapping[float, Number]
    rival: str = ""
    of: str = ""


@dataclass(frozen=True)
class Axis:
    """What x is: its words, what its places are called, and whether they are numbers."""

    words: str
    names: Mapping[float, str]
    numbers: bool = True


def draw(rivals: Rivals, figure: FigureConfig) -> Figure:
    """A picture that the study asks for. Raises T2TError, in one line, where nothing of it is measured yet."""
    if figure.x == BY_RECALL:
        return curves(rivals.results, figure)
    lines, axis = series(rivals, figure)
    if not lines:
        raise T2TError(f"Nothing is measured yet of {figure.title!r} ({words(figure.y)} by {axis.words}).")
    if figure.label or figure.x == BY_CELL:
        # Of a number that each cell gives nobody else says what it is.
        axis = replace(axis, words=figure.label or figure.title)
    return lined(lines, axis, figure, rivals.results.chance(figure.y), rivals.names)


def series(rivals: Rivals, figure: FigureConfig) -> tuple[list[Series], Axis]:
    """The lines of a picture, the cells' and then the rivals', and its axis."""
    results = rivals.results
    cells = [cell for cell in results.study.cells if fits(cell.name, figure.cells)]
    if figure.x in (BY_ROUND, BY_SIZE):
        return _by_cell(rivals, figure, cells)
    places, axis = _places(cells, figure.x)
    entries = {entry.name: entry.line for entry in results.study.config.cells}
    by_name: dict[str, dict[float, Number]] = {}
    others: Others = {}
    for cell, place in zip(cells, places, strict=True):
        number = results.number(cell, figure.y)
        line = _line_of(cell, figure.x, entries.get(cell.base, "")) or "student"
        if number is not None:
            by_name.setdefault(line, {})[place] = number
            # What is asked does not hang on what is measured.
            for one in rivals.beside(cell, "test pr_auc" if figure.y == "models" else figure.y):
                asked = Number(mean=one.models, seeds={0: one.models})
                found = asked if figure.y == "models" else one.number
                others.setdefault(one.name, {}).setdefault(line, {})[place] = found
    lines = [Series(name, dict(sorted(points.items()))) for name, points in by_name.items()]
    return lines + _rivals(others), axis


def _rivals(others: Others) -> list[Series]:
    """The rivals' lines: one where a rival is the same beside all lines of cells, else one beside each."""
    found = []
    for name, beside in others.items():
        at: dict[float, list[Number]] = {}
        for points in beside.values():
            for place, number in points.items():
                at.setdefault(place, []).append(number)
        if all(max(n.mean for n in some) - min(n.mean for n in some) < SAME for some in at.values()):
            found.append(Series(name, {place: some[0] for place, some in sorted(at.items())}, rival=name))
        else:
            found += [
                Series(f"{name} ({line})", dict(sorted(points.items())), rival=name, of=line)
                for line, points in beside.items()
            ]
    return found


def _by_cell(rivals: Rivals, figure: FigureConfig, cells: Sequence[Cell]) -> tuple[list[Series], Axis]:
    """One line a cell, by round or by embedding size."""
    results, lines = rivals.results, []
    others: Others = {}
    places: set[float] = set()
    for cell in cells:
        points: dict[float, Number | None] = {}
        if figure.x == BY_ROUND:
            points = {float(k): results.number(cell, figure.y, k) for k in results.rounds(cell)}
        else:
            split = figure.y.partition(" ")[0]
            points = {float(size): results.number(cell, f"{split} {SIZE}{size}") for size in results.sizes}
            if any(points.values()):
                whole = results.number(cell, f"{split} pr_auc")
                # Of the smaller sizes the lake has no scores, so that a band of all sizes is one of seeds.
                points[float(getattr(cell.config.student, "dim", 0))] = Number.plain(whole.seeds) if whole else None
        known = {place: number for place, number in sorted(points.items()) if number is not None}
        if known:
            lines.append(Series(cell.name, known))
            places |= set(known)
            for one in rivals.beside(cell, figure.y):
                others.setdefault(one.name, {})[cell.name] = dict.fromkeys(known, one.number)
    lines += _rivals(others)
    words_of = "round" if figure.x == BY_ROUND else "embedding size"
    return lines, Axis(words_of, {place: f"{place:.0f}" for place in sorted(places)})


def _places(cells: Sequence[Cell], key: str) -> tuple[list[float], Axis]:
    """Where each cell stands on x, and what the axis says; what is no number stands in the order of the file."""
    values: list[Any] = [cell.x if key == BY_CELL else cell.point.get(key) for cell in cells]
    label = key.rpartition(".")[2].replace("_", " ")
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        numbers = [float(value) for value in values]
        few = sorted(set(numbers))
        return numbers, Axis(label, {value: f"{value:,g}" for value in few} if len(few) <= 8 else {})
    order: dict[str, float] = {}
    texts = [shown_value(value) for value in values]
    for text in texts:
        order.setdefault(text, float(len(order)))
    return [order[text] for text in texts], Axis(label, {place: text for text, place in order.items()}, numbers=False)


def _line_of(cell: Cell, key: str, line: str) -> str:
    """The line that a cell is a point of: its entry, and its values of the grid's other keys. line: as its entry says,
    for cells with a number each."""
    others = [f"{name.rpartition('.')[2]}={shown_value(value)}" for name, value in cell.point.items() if name != key]
    entry = line if key == BY_CELL else cell.base
    return ", ".join([*([entry] if entry else []), *others])


# -- drawing ------------------------------------------------------------------------------------------------------


def colours(lines: Sequence[Series]) -> dict[str, str]:
    """The colour of each line by its name: the cells' by their place, rivals are ink, or as the line beside them."""
    cells = [line.name for line in lines if not line.rival]
    found = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(cells)}
    return {line.name: found.get(line.of, INK) for line in lines if line.rival} | found


def lined(
    lines: Sequence[Series],
    axis: Axis,
    figure: FigureConfig,
    chance: float | None = None,
    rivals: Sequence[str] = (),
) -> Figure:
    """The lines as a picture.

    Args:
        chance: what y is by chance. rivals: all of the study's, so that each has the same dashes in every picture.
    """
    named = len(lines) <= NAMED
    made, axes = axes_of(NARROW, 3.9 if named else 3.9 + LINE * (len(lines) + 1))
    by_name = colours(lines)
    for i, line in enumerate(line for line in lines if not line.rival):
        _cells_line(axes, line, by_name[line.name], DASHES[(i // len(COLOURS)) % len(DASHES)])
    for line in lines:
        if line.rival:
            place = rivals.index(line.rival) if line.rival in rivals else 0
            _rivals_line(axes, line, by_name[line.name], RIVAL_DASHES[place % len(RIVAL_DASHES)])
    if chance is not None and not _far_below(chance, lines):
        axes.axhline(chance, color=GREY, linestyle=(0, (1, 2)), linewidth=1, label="chance")
    axes.margins(x=0.06, y=0.1)
    _ticks(axes, axis, figure.log, min(place for line in lines for place in line.points))
    # Names are other people's: a dollar sign begins no formula.
    axes.set_xlabel(axis.words, fontsize=11, parse_math=False)
    axes.set_ylabel(words(figure.y), fontsize=11)
    axes.set_title(figure.title, fontsize=13, loc="left", parse_math=False)
    if named:
        _name_ends(made, axes, lines, None if chance is None or _far_below(chance, lines) else chance)
    else:
        legend = made.legend(*axes.get_legend_handles_labels(), loc="outside lower left", frameon=False, fontsize=10)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return made


def _far_below(chance: float, lines: Sequence[Series]) -> bool:
    """Whether chance lies so far below all lines that a picture with it would show little else."""
    ends = [end for line in lines for number in line.points.values() for end in number.ends]
    return min(ends) - chance > max(ends) - min(ends)


def _cells_line(axes: Axes, line: Series, colour: str, dashes: str) -> None:
    """A line with its band and, small, each seed."""
    x, numbers = np.array(list(line.points)), list(line.points.values())
    mean = np.array([number.mean for number in numbers])
    low, high = np.array([number.ends for number in numbers]).T
    if len(x) > 1:
        axes.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0, zorder=2)
    else:
        axes.plot([x[0], x[0]], [low[0], high[0]], color=colour, linewidth=2, zorder=3)
    seeds = [(place, value) for place, number in line.points.items() for value in number.seeds.values()]
    axes.plot(*np.array(seeds).T, ".", color=colour, markersize=4, alpha=0.7, zorder=3)
    axes.plot(
        x, mean, color=colour, linestyle=dashes, linewidth=2.4, marker="o", markersize=5, label=line.name, zorder=4
    )


def _rivals_line(axes: Axes, line: Series, colour: str, dashes: Any) -> None:
    x, y = list(line.points), [number.mean for number in line.points.values()]
    look: dict[str, Any] = {"color": colour, "linestyle": dashes, "linewidth": 1.3, "label": line.name, "zorder": 3}
    if len(set(y)) == 1:
        axes.axhline(y[0], **look)
    else:
        axes.plot(x, y, **look)


def _ticks(axes: Axes, axis: Axis, log: bool, smallest: float) -> None:
    log = log and axis.numbers
    if log and smallest > 0:
        axes.set_xscale("log")
    elif log:
        # Nothing has a place on a scale of factors; it is put where 0 and 1 are as far apart as 1 and 2 are.
        axes.set_xscale("symlog", linthresh=1)
    if axis.names:
        axes.set_xticks(list(axis.names), list(axis.names.values()), parse_math=False)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        if sum(map(len, axis.names.values())) > 45:
            for label in axes.get_xticklabels():
                label.set(rotation=30, ha="right")


def _name_ends(figure: Figure, axes: Axes, lines: Sequence[Series], chance: float | None) -> None:
    """Names beside the right ends of the lines, moved apart where they would lie on one another."""
    ends = [(line.points[max(line.points)].mean, line.name, bool(line.rival)) for line in lines]
    ends += [(chance, "chance", True)] if chance is not None else []
    by_name = colours(lines)
    low, high = axes.get_ylim()
    step = APART / (figure.get_figheight() * 0.75) * (high - low)
    places = spread([value for value, _, _ in sorted(ends)], step)
    for place, (_, name, rival) in zip(places, sorted(ends), strict=True):
        axes.annotate(
            name,
            (1.01, (place - low) / (high - low)),
            xycoords="axes fraction",
            va="center",
            fontsize=9.5,
            color=GREY if rival else by_name[name],
            fontweight="normal" if rival else "bold",
            annotation_clip=False,
            parse_math=False,
        )


def spread(values: Sequence[float], step: float) -> list[float]:
    """Rising values moved so that neighbours are a step apart at least, each as little as may be.

    Values that are too near form a block that lies about its mean; blocks that come to touch are joined.
    """
    blocks: list[list[float]] = []
    for value in values:
        blocks.append([value])
        while len(blocks) > 1 and _start(blocks[-1], step) < _start(blocks[-2], step) + len(blocks[-2]) * step:
            last = blocks.pop()
            blocks[-1] += last
    return [_start(block, step) + i * step for block in blocks for i in range(len(block))]


def _start(block: Sequence[float], step: float) -> float:
    return float(np.mean(block)) - (len(block) - 1) * step / 2


# -- figure 5 -----------------------------------------------------------------------------------------------------


def curves(results: Results, figure: FigureConfig) -> Figure:
    """The student's curve of precision by recall on test against each teacher's (paper, figure 5): of the first cell in
    the picture that has a champion, with its first seed. Where it is not the first round, that one stands beside it."""
    for run in results.runs:
        record = run.champion
        if record is not None and fits(run.job.cell.name, figure.cells):
            break
    else:
        raise T2TError(f"Nothing is measured yet of {figure.title!r}: no cell in it has a round that passed.")
    part = figure.y.partition(" ")[2]
    part = part if part in PARTS else "pr_auc"
    pairs = results.pairs(record, "test", part)
    teachers = _best_few({name: results.scored.teacher(name, record, pairs) for name in record.outside}, pairs)
    first = run.record(0)
    scores, styles = dict(teachers), teacher_styles(teachers)
    if first is not None and first.round != record.round:
        earlier = results.pairs(first, "test", part)
        if len(earlier.score) == len(pairs.score):
            scores["student of round 0"], styles["student of round 0"] = earlier.score, (BLUE, "--")
    return pr_picture(pairs, record.identity, scores, f"{figure.title} ({run.job})", styles, below=True)


def _best_few(teachers: Mapping[str, np.ndarray], pairs: Pairs) -> dict[str, np.ndarray]:
    """Where there are more than a picture can hold, those with the highest PR-AUC of their own, in their order."""
    if len(teachers) <= CURVES:
        return dict(teachers)
    own: dict[str, float] = {}
    for name, score in teachers.items():
        says = ~np.isnan(score)
        own[name] = average_precision(pairs.where(says).with_score(score[says])) if says.any() else float("nan")
    best = sorted(own, key=lambda name: -np.nan_to_num(own[name]))[:CURVES]
    return {name: score for name, score in teachers.items() if name in best}
