"""Every number of a study, for people's tables (`t2t.studies.shown`) and for programs: JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from t2t.core.config import Config
from t2t.studies.cells import Cell
from t2t.studies.numbers import CONTROL, SIZE, Number

if TYPE_CHECKING:
    from t2t.studies.rivals import Rivals

# What of champions is measured besides what the dataset has unseen topics for.
PARTS, ALL_PARTS = ("pr_auc",), ("pr_auc", "pr_auc_seen", "pr_auc_unseen")
PLAIN = ("seconds", "rows", "weights", "models", "round")


class RivalRow(Config):
    """A rival beside a cell. less: by measure, the student's less it."""

    name: str
    detail: str
    models: int
    numbers: dict[str, Number]
    less: dict[str, Number]


class CellRow(Config):
    """A cell: of its champions `numbers` and `less` (than the cell `against`, which has none) by measure; the same by
    round; its rivals."""

    name: str
    settings: dict[str, Any]
    x: float | None
    against: str
    campaigns: dict[int, str]
    numbers: dict[str, Number]
    less: dict[str, Number]
    rounds: dict[int, dict[str, Number]]
    rivals: tuple[RivalRow, ...]


class StudyTable(Config):
    """All numbers of a study, as `t2t study report` writes them.

    chance: by measure. missing, changed: cell and seed, and what it lacks, or which settings its campaign began
    otherwise with. left_out: baselines that no cell has, and why.
    """

    study: str
    description: str
    dataset: str
    campaign: str
    seeds: tuple[int, ...]
    unseen: bool
    cells: tuple[CellRow, ...]
    chance: dict[str, float]
    missing: tuple[tuple[str, str], ...]
    changed: tuple[tuple[str, str], ...]
    left_out: dict[str, str]


def measure(rivals: Rivals) -> StudyTable:
    """Every number of a study, its rivals' too."""
    results = rivals.results
    parts = ALL_PARTS if results.unseen else PARTS
    measures = [f"{split} {part}" for split in ("test", "validation") for part in parts]
    sizes = [f"{split} {SIZE}{size}" for split in ("test", "validation") for size in results.sizes]
    study = results.study
    return StudyTable(
        study=study.name,
        description=study.config.description,
        dataset=study.dataset,
        campaign=study.config.campaign,
        seeds=study.seeds,
        unseen=results.unseen,
        cells=tuple(_cell(rivals, cell, [*measures, *sizes]) for cell in study.cells),
        chance={name: level for name in measures if (level := results.chance(name)) is not None},
        missing=tuple(results.missing),
        changed=tuple(results.changed),
        left_out=rivals.left_out(),
    )


def _cell(rivals: Rivals, cell: Cell, measures: Sequence[str]) -> CellRow:
    results = rivals.results
    by_round = ("test pr_auc", "validation pr_auc", CONTROL)
    rounds = results.rounds(cell)
    return CellRow(
        name=cell.name,
        settings=cell.settings,
        x=cell.x,
        against=results.study.against(cell).name,
        campaigns={run.job.seed: run.job.campaign for run in results.of_cell(cell)},
        numbers=_known([*measures, *PLAIN], lambda name: results.number(cell, name)),
        less=_known([*measures, "seconds"], lambda name: results.difference(cell, name)),
        rounds={k: _known(by_round, lambda name, k=k: results.number(cell, name, k)) for k in rounds},  # type: ignore[misc]
        rivals=_rivals(rivals, cell, measures),
    )


def _rivals(rivals: Rivals, cell: Cell, measures: Sequence[str]) -> tuple[RivalRow, ...]:
    found: dict[str, RivalRow] = {}
    for name in measures:
        for one in rivals.beside(cell, name):
            row = found.setdefault(
                one.name, RivalRow(name=one.name, detail=one.detail, models=one.models, numbers={}, less={})
            )
            row.numbers[name] = one.number
            if one.less is not None:
                row.less[name] = one.less
    return tuple(found.values())


def _known(names: Sequence[str], number: Callable[[str], Number | None]) -> dict[str, Number]:
    found = {name: number(name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def as_json(table: StudyTable) -> str:
    return json.dumps(table.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"


COLUMNS = (
    "what",
    "cell",
    "round",
    "measure",
    "mean",
    "low",
    "high",
    "pairs",
    "against",
    "less",
    "less_low",
    "less_high",
)


def as_csv(table: StudyTable) -> str:
    """One row a cell (or rival beside a cell, or round of a cell) and measure, with a column for each seed."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*COLUMNS, *(f"seed_{seed}" for seed in table.seeds), "models"])

    def write(what: str, cell: str, k: str, name: str, number: Number, less: Number | None, against: str) -> list[Any]:
        differs = [less.mean, less.low, less.high] if less is not None else [None] * 3
        each = [number.seeds.get(seed) for seed in table.seeds]
        ends = [number.mean, number.low, number.high, number.pairs]
        return [what, cell, k, name, *ends, against if less is not None else "", *differs, *each]

    for row in table.cells:
        for name, number in row.numbers.items():
            writer.writerow([*write("cell", row.name, "", name, number, row.less.get(name), row.against), 1])
        for k, numbers in row.rounds.items():
            for name, number in numbers.items():
                writer.writerow([*write("round", row.name, str(k), name, number, None, ""), 1])
        for rival in row.rivals:
            for name, number in rival.numbers.items():
                # What is compared with a rival is the student: the sign is that of the student's gain.
                less = rival.less.get(name)
                writer.writerow(
                    [*write(f"rival {rival.name}", row.name, "", name, number, less, "student less it"), rival.models]
                )
    return buffer.getvalue()
