"""Votes for classes by number, beside the true class and the samples as vectors: how weak-supervision benchmarks such
as WRENCH come.

A folder with `classes.txt` (their names, the first is number 0) and, for each of the splits train, valid and test,
`<split>_vectors.npy` [rows, dim], `<split>_votes.csv` (a column for each labeling function: a class's number, or -1
where it abstains) and `<split>_gold.csv` (one column, the true class's number).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from t2t.core.errors import DataError, T2TError, listed
from t2t.data.limits import TableLimits
from t2t.data.tables import read_lines, read_table
from t2t.data.vector_files import open_vectors

PARTS = ("train", "valid", "test")
ABSTAINED = -1


@dataclass(frozen=True)
class Part:
    """One split. vectors: its file. votes: int64 [rows, functions], -1 where one abstains. gold: int64 [rows], or None
    where nobody knows (of `train` it need not be there, and is not used)."""

    vectors: Path
    votes: np.ndarray
    gold: np.ndarray | None


@dataclass(frozen=True)
class Votes:
    """A whole folder. dim: numbers of a vector."""

    classes: tuple[str, ...]
    functions: tuple[str, ...]
    dim: int
    parts: dict[str, Part]


def read_votes(folder: Path, limits: TableLimits | None = None) -> Votes:
    """Reads and checks a folder. Raises DataError for a file that is missing, other numbers of rows or functions, a
    vote or truth that is no class's number."""
    limits = limits or TableLimits()
    classes = tuple(line.strip() for line in read_lines(folder / "classes.txt", limits) if line.strip())
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise DataError(folder / "classes.txt", "two or more classes are needed, each once and one a line.")
    parts: dict[str, Part] = {}
    functions: tuple[str, ...] = ()
    dim = 0
    for name in PARTS:
        file = open_vectors(folder / f"{name}_vectors.npy")
        votes_file = folder / f"{name}_votes.csv"
        names, votes = _numbers(votes_file, limits, classes, ABSTAINED)
        if functions and names != functions:
            raise DataError(
                votes_file, f"its functions are not those of {PARTS[0]}_votes.csv: {listed(list(names), 3)}."
            )
        functions = names
        gold_file, gold = folder / f"{name}_gold.csv", None
        if name != "train":
            columns, truth = _numbers(gold_file, limits, classes, 0)
            if len(columns) != 1:
                raise DataError(gold_file, f"{len(columns)} columns; the true class's number alone is needed.")
            gold = truth[:, 0]
        _refuse_lengths(
            file.path, len(file.values), {votes_file: len(votes)} | ({} if gold is None else {gold_file: len(gold)})
        )
        if file.values.ndim != 2 or (dim and file.values.shape[1] != dim):
            found = f"vectors of the shape {list(file.values.shape[1:])}"
            raise DataError(file.path, f"{found}; [rows, {dim or 'dim'}] is needed, as in the other splits.")
        dim = int(file.values.shape[1])
        parts[name] = Part(file.path, votes, gold)
    return Votes(classes, functions, dim, parts)


def _refuse_lengths(path: Path, rows: int, others: dict[Path, int]) -> None:
    for other, count in others.items():
        if count != rows:
            raise DataError(other, f"{count:,} rows, and {path.name} has {rows:,}.")


def _numbers(
    path: Path, limits: TableLimits, classes: tuple[str, ...], least: int
) -> tuple[tuple[str, ...], np.ndarray]:
    """A table of classes' numbers: its columns, and int64 [rows, columns]."""
    header = next(iter(read_lines(path, limits)), "")
    names = [name.strip().strip('"') for name in header.split(",")]
    try:
        table = read_table(path, {name: pa.int64() for name in names}, limits)
    except DataError as error:
        silent = f", {ABSTAINED} where a function abstains" if least < 0 else ""
        raise T2TError(f"{error} Each cell is a class's number, from 0{silent}.") from None
    values = np.stack([table[name].to_numpy() for name in names], axis=1).astype(np.int64)
    bad = np.argwhere((values < least) | (values >= len(classes)))
    if len(bad):
        row, column = bad[0]
        what = "no class's number" + (" and not -1 (abstains)" if least < 0 else "")
        raise DataError(
            path, f"{values[row, column]} is {what}; classes.txt has {len(classes)}.", int(row) + 2, names[column]
        )
    return tuple(names), values
