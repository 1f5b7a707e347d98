"""A study's tables as people read them: in the terminal, in Markdown, on a page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from t2t.core.errors import one_line
from t2t.studies.numbers import CONTROL, SIZE, Number
from t2t.studies.tables import CellRow, StudyTable

DASH = "\N{EN DASH}"


@dataclass(frozen=True)
class Shown:
    """A table as people read it. columns: each with whether it is of numbers. best: the row to stand out, or None."""

    title: str
    note: str
    columns: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[str, ...], ...]
    best: int | None = None


def shown(table: StudyTable) -> list[Shown]:
    """The tables that have anything to show: cells, rounds, sizes, rivals."""
    made = [cells_table(table), _rounds(table), _sizes(table), _rivals_table(table)]
    return [one for one in made if one is not None]


def cells_table(table: StudyTable, narrow: bool = False) -> Shown:
    """One row a cell. narrow: for terminals, without what can be left out."""
    against = {row.against for row in table.cells}
    than = f"less {next(iter(against))}" if len(against) == 1 else "less the cell beside it"
    pairs = {row.numbers["test pr_auc"].pairs for row in table.cells if "test pr_auc" in row.numbers}
    columns = [("cell", False), ("test PR-AUC", True), ("95 %", False), (than, True), ("95 %", False)]
    columns += [("each seed", False), ("validation", True)]
    columns += [("seen", True), ("unseen", True)] if table.unseen and not narrow else []
    columns += [("pairs", True)] if len(pairs) > 1 else []
    columns += [] if narrow else [("best round", True), ("rows", True), ("weights, MB", True)]
    columns += [] if narrow else [("seconds", True)]
    rows = [_cell_row(table, row, len(against) > 1, len(pairs) > 1, narrow) for row in table.cells]
    counts = f"{len(table.seeds)} seed{'' if len(table.seeds) == 1 else 's'}"
    over = "samples and seeds" if len(table.seeds) > 1 else "samples"
    note = (
        f"PR-AUC over the human-labeled pairs of {table.dataset}, of the round that is best on validation: mean over "
        f"{counts}, with its 95 % interval over {over} (source videos are drawn, then samples in them, then seeds). "
        "Differences are paired: the same samples and seeds on both sides. What stands out is best on validation."
    )
    if "test pr_auc" in table.chance:
        note += f" By chance it is {table.chance['test pr_auc']:.3f} on test."
    if len(pairs) > 1:
        note += " Cells are not all measured on the same pairs (a closed vocabulary cannot be asked about others); "
        note += "their differences are on those that both have."
    measured = [
        (row.numbers["validation pr_auc"].mean, i)
        for i, row in enumerate(table.cells)
        if row.numbers.get("validation pr_auc")
    ]
    return Shown("Cells", note, tuple(columns), tuple(rows), max(measured)[1] if len(measured) > 1 else None)


def _cell_row(table: StudyTable, row: CellRow, named: bool, pairs: bool, narrow: bool) -> tuple[str, ...]:
    numbers, test = row.numbers, row.numbers.get("test pr_auc")
    less = row.less.get("test pr_auc")
    value = _signed(less)
    if less is not None and len(less.seeds) < len(table.seeds):
        value += f" ({len(less.seeds)} of {len(table.seeds)} seeds)"
    cells = [
        row.name,
        _three(test),
        _ends(test),
        f"{value} ({row.against})" if named and value else value,
        _ends(less, "+"),
    ]
    each = [f"{test.seeds[seed]:.3f}" if test is not None and seed in test.seeds else DASH for seed in table.seeds]
    cells += [" ".join(each), _three(numbers.get("validation pr_auc"))]
    if table.unseen and not narrow:
        cells += [_three(numbers.get(f"test pr_auc_{part}")) for part in ("seen", "unseen")]
    cells += [f"{test.pairs:,}" if test is not None and test.pairs is not None else DASH] if pairs else []
    if not narrow:
        best = numbers.get("round")
        rounds = sorted(set(best.seeds.values())) if best is not None else []
        cells += [
            ", ".join(f"{k:.0f}" for k in rounds) or DASH,
            _whole(numbers.get("rows")),
            _one(numbers.get("weights")),
        ]
        cells.append(_whole(numbers.get("seconds")))
    return tuple(cells)


def _rounds(table: StudyTable) -> Shown | None:
    last = max((k for row in table.cells for k in row.rounds), default=0)
    if not last:
        return None
    rows = []
    controlled = any(CONTROL in numbers for row in table.cells for numbers in row.rounds.values())
    for row in table.cells:
        for k, numbers in row.rounds.items():
            test, validation = numbers.get("test pr_auc"), numbers.get("validation pr_auc")
            count, over = len(test.seeds) if test is not None else 0, numbers.get(CONTROL)
            gains = " ".join(f"{value:+.3f}" for value in over.seeds.values()) if over is not None else ""
            cells = (row.name, str(k), str(count), _three(test), _ends(test), _three(validation))
            rows.append((*cells, *((_signed(over), gains) if controlled else ())))
    columns = (
        ("cell", False),
        ("round", True),
        ("seeds", True),
        ("test PR-AUC", True),
        ("95 %", False),
        ("validation", True),
        *((("over control", True), ("each seed", False)) if controlled else ()),
    )
    note = "Each round that is not retracted, over the seeds that have it: with one seed a campaign may stop earlier."
    if controlled:
        note += " Over control: on test, less the same training, as many steps, without students' labels."
    return Shown("Rounds", note, columns, tuple(rows))


def _sizes(table: StudyTable) -> Shown | None:
    sizes = sorted({int(name.rpartition("/")[2]) for row in table.cells for name in row.numbers if SIZE in name})
    if not sizes:
        return None
    rows = []
    for row in table.cells:
        some = [row.numbers.get(f"test {SIZE}{size}") for size in sizes]
        if any(some):
            rows.append((row.name, *map(_three, some), _three(row.numbers.get("test pr_auc"))))
    columns = (("cell", False), *((f"{size}", True) for size in sizes), ("whole", True))
    note = "PR-AUC on test by embedding size, mean over seeds: one training, the embedding cut off and normalised."
    return Shown("Embedding sizes", note, columns, tuple(rows))


def _rivals_table(table: StudyTable) -> Shown | None:
    part = "pr_auc_seen" if table.unseen else "pr_auc"
    rows = []
    for name in dict.fromkeys(rival.name for row in table.cells for rival in row.rivals):
        some = [(row, rival) for row in table.cells for rival in row.rivals if rival.name == name]
        for row, rival in some:
            number, less = rival.numbers.get(f"test {part}"), rival.less.get(f"test {part}")
            values = (_three(number), _ends(number), _signed(less), _ends(less, "+"))
            rows.append((name, row.name, *values, str(rival.models)))
    if not rows:
        return None
    columns = (
        ("rival", False), ("beside the cell", False), ("test PR-AUC", True), ("95 %", False), ("student less it", True),
        ("95 %", False), ("models asked", True),
    )  # fmt: skip
    topics = " of seen topics" if table.unseen else ""
    note = (
        f"What could be had instead, on the same human-labeled pairs{topics}. Models asked: how many have to answer "
        "about each new clip; the student is one model and asks no teacher. The differences are means over seeds."
    )
    return Shown("Rivals", note, columns, tuple(rows))


def markdown(one: Shown) -> str:
    """A table as Markdown, with its note below."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    rows = [
        tuple(f"**{plain(cell)}**" if cell and i == one.best and j == 0 else plain(cell) for j, cell in enumerate(row))
        for i, row in enumerate(one.rows)
    ]
    rule = "|" + "|".join("---:" if numeric else "---" for _, numeric in one.columns) + "|"
    return "\n".join([line([plain(name) for name, _ in one.columns]), rule, *map(line, rows), "", plain(one.note)])


def plain(text: str) -> str:
    """Text that Markdown takes for nothing else; an interval's brackets lead nowhere and stay."""
    return re.sub(r"([\\`*_<>|]|\[(?=[^\]]*\]\())", r"\\\1", one_line(text, 10_000))


def _three(number: Number | None) -> str:
    return DASH if number is None else f"{number.mean:.3f}"


def _one(number: Number | None) -> str:
    return DASH if number is None else f"{number.mean:,.1f}"


def _whole(number: Number | None) -> str:
    return DASH if number is None else f"{number.mean:,.0f}"


def _signed(number: Number | None) -> str:
    return "" if number is None else f"{number.mean:+.3f}"


def _ends(number: Number | None, sign: str = "") -> str:
    if number is None or number.low is None or number.high is None:
        return ""
    return f"[{number.low:{sign}.3f}, {number.high:{sign}.3f}]"
