"""The Teacher2Task transform: a label table becomes N+1 tasks (paper, section 3.1).

Every row (teacher, sample, topic -> confidence) stays a training row of its own: nothing is averaged, voted,
thresholded or selected. The rows are kept as a CSR matrix, grouped by sample, because a dual-encoder needs a sample's
embedding only once for all its rows (DESIGN, section 8).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from t2t.core.errors import T2TError
from t2t.core.files import atomic_folder
from t2t.core.sums import damaged, write_sums
from t2t.data.coding import MOST_THREADS, Coded, code, strings
from t2t.data.growing import give_back
from t2t.data.scales import Scale, apply_scales

# Rows that are moved at a time.
BLOCK = 1 << 18
# Ranges of samples whose rows are moved one after the other, of so many rows or more.
PARTS, PART = 8, 1 << 22
# References to a column that nobody else has: a variable's, and that of the call that counts them.
ALONE = 2
ARRAYS = ("indptr", "topic", "teacher", "confidence")


@dataclass(frozen=True)
class LabelMatrix:
    """All training rows, grouped by sample.

    The rows of sample i are `indptr[i]` to `indptr[i + 1]`; within a sample they keep the order of the tables.

    indptr: int64 [samples + 1].
    topic: int32 [rows], index into `topics`.
    teacher: int16 [rows], index into `teachers`.
    confidence: float32 [rows], 0..1; raw, or on the common scale once it is `scaled`.
    sample_ids: as they were given, strings or an Arrow array of them; strings once the matrix was loaded.
    """

    sample_ids: Sequence[str] | pa.Array
    topics: tuple[str, ...]
    teachers: tuple[str, ...]
    indptr: np.ndarray
    topic: np.ndarray
    teacher: np.ndarray
    confidence: np.ndarray

    @property
    def rows(self) -> int:
        return len(self.confidence)

    def rows_by_teacher(self) -> dict[str, int]:
        counts = np.zeros(len(self.teachers), np.int64)
        for start in range(0, self.rows, BLOCK):  # counting makes int64 of what it counts
            counts += np.bincount(self.teacher[start : start + BLOCK], minlength=len(self.teachers))
        return {name: int(count) for name, count in zip(self.teachers, counts, strict=True)}

    def topics_with_rows(self) -> tuple[str, ...]:
        """Those of `topics` that any row is of."""
        there = np.zeros(len(self.topics), bool)
        there[self.topic] = True
        return tuple(self.topics[i] for i in np.flatnonzero(there))

    def take(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows of some samples.

        Args:
            samples: int64 [V], indices of samples.

        Returns:
            rows int64 [R], indices of rows, sample after sample; and owner int64 [R], each row's position in `samples`.
        """
        starts = self.indptr[samples]
        lengths = self.indptr[samples + 1] - starts
        owner = np.repeat(np.arange(len(samples)), lengths)
        ends = np.cumsum(lengths)
        rows = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)
        return rows, owner

    def scaled(self, scales: Mapping[str, Scale], taught: bool = False) -> LabelMatrix:
        """The matrix with each identity's confidences on the common scale. taught: as students are taught them."""
        known = {self.teachers.index(name): scale for name, scale in scales.items() if name in self.teachers}
        return replace(self, confidence=apply_scales(self.confidence, self.teacher, known, taught)) if known else self

    def without(self, teachers: Collection[str]) -> LabelMatrix:
        """The matrix without some identities, of the same samples."""
        left = tuple(name for name in self.teachers if name not in teachers)
        new = np.array([left.index(name) if name in left else -1 for name in self.teachers], np.int16)
        teacher = new[self.teacher]
        kept = teacher >= 0
        ends = np.concatenate([[0], np.cumsum(kept)])[self.indptr].astype(np.int64)
        return replace(
            self,
            teachers=left,
            indptr=ends,
            topic=self.topic[kept],
            teacher=teacher[kept],
            confidence=self.confidence[kept],
        )

    def save(self, folder: Path) -> None:
        """Writes the matrix as .npy files (which can be memory-mapped), atomically."""
        with atomic_folder(folder) as temporary:
            for name in ARRAYS:
                np.save(temporary / f"{name}.npy", getattr(self, name), allow_pickle=False)
            names = {
                "sample_ids": strings(self.sample_ids).to_pylist(),
                "topics": self.topics,
                "teachers": self.teachers,
            }
            (temporary / "names.json").write_text(json.dumps(names), encoding="utf-8")
            write_sums(temporary)

    @classmethod
    def load(cls, folder: Path) -> LabelMatrix:
        """Opens a saved matrix; the arrays stay on disk until they are touched. Raises T2TError when it is damaged."""
        problem = damaged(folder)
        if problem is not None:
            raise T2TError(f"{folder}: cannot be read ({problem}). Delete the folder: it is made again.")
        try:
            names = json.loads((folder / "names.json").read_text(encoding="utf-8"))
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS}
        except (OSError, ValueError, EOFError) as error:
            raise T2TError(f"{folder}: cannot be read ({error}). Delete the folder: it is made again.") from None
        return cls(names["sample_ids"], tuple(names["topics"]), tuple(names["teachers"]), **arrays)


def build_matrix(
    tables: Iterable[pa.Table], sample_ids: Sequence[str] | pa.Array, topics: Sequence[str], teachers: Sequence[str]
) -> LabelMatrix:
    """The matrix of label tables: `code`, then `assemble`, whose arguments and errors it has."""
    return assemble(code(tables, sample_ids, topics, teachers))


def assemble(coded: Coded) -> LabelMatrix:
    """Puts rows into the order of their samples: a counting sort, without a Python loop over rows.

    It takes the rows out of `coded`, column by column, so that at most one column is held twice. `coded` is used up,
    views of its columns, too.

    Raises T2TError when there is no row.
    """
    if not len(coded):
        raise T2TError("No label is left for training: no teacher has a row for a training sample and a seen topic.")
    # No block goes beyond its table: a teacher's rows mostly lie in the order of the samples already.
    blocks = [
        slice(start, min(start + BLOCK, end))
        for begin, end in pairwise([0, *coded.ends])
        for start in range(begin, end, BLOCK)
    ]
    threads = min(pa.cpu_count(), MOST_THREADS)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(partial(_sort, coded), blocks))
        indptr = _starts(coded, blocks)
        pieces = _pieces(coded, blocks, indptr)
        place = _places(coded, blocks, indptr)
        arrays = {}
        for name in ARRAYS[1:]:
            source = getattr(coded, name)
            setattr(coded, name, np.empty(0, source.dtype))
            arrays[name] = np.empty_like(source)
            # Somebody who kept the column, or a view of it, keeps its rows.
            last = sys.getrefcount(source) == ALONE
            move = partial(_move, source, arrays[name], place, last)
            for some in pieces:
                list(pool.map(move, (some[i::threads] for i in range(threads))))
            del source, move
    coded.sample = np.empty(0, np.int32)
    return LabelMatrix(coded.sample_ids, coded.topics, coded.teachers, indptr, **arrays)


def _starts(coded: Coded, blocks: Sequence[slice]) -> np.ndarray:
    """Where the rows of each sample begin, behind a zero: int64 [samples + 1]. With each row that gets its place its
    sample's moves on, until they are the ends, and the whole is `indptr`."""
    starts = np.zeros(len(coded.sample_ids) + 1, np.int64)
    for block in blocks:
        samples, _, lengths = _runs(coded.sample[block])
        if samples[-1] == len(starts) - 2:  # behind the last sample begins nothing
            samples, lengths = samples[:-1], lengths[:-1]
        starts[samples + 2] += lengths
    return np.cumsum(starts, out=starts)


def _pieces(coded: Coded, blocks: Sequence[slice], starts: np.ndarray) -> list[list[slice]]:
    """The blocks in pieces, one list for each range of samples. When their rows are moved, their old memory is given
    back: where there are many rows, no whole column is held twice."""
    parts = max(1, min(PARTS, len(coded) // PART))
    first = np.searchsorted(starts[1:], np.arange(1, parts) * (len(coded) // parts)).astype(np.int32)
    cuts = [[block.start, *(block.start + np.searchsorted(coded.sample[block], first)), block.stop] for block in blocks]
    return [[slice(int(cut[part]), int(cut[part + 1])) for cut in cuts] for part in range(parts)]


def _places(coded: Coded, blocks: Sequence[slice], starts: np.ndarray) -> np.ndarray:
    """Where each row goes in the matrix: [rows]. Makes `starts` the matrix's indptr.

    The samples are not needed any more, so that the places take their memory where they are small enough.
    """
    places = coded.sample.view(np.uint32) if len(coded) < 1 << 32 else np.empty(len(coded), np.int64)
    free = starts[1:]  # where the next row of each sample goes
    for block in blocks:
        samples, begins, lengths = _runs(coded.sample[block])
        places[block] = np.arange(block.stop - block.start) + np.repeat(free[samples] - begins, lengths)
        free[samples] += lengths
    return places


def _move(source: np.ndarray, target: np.ndarray, place: np.ndarray, last: bool, pieces: Iterable[slice]) -> None:
    """Moves rows to their places in `target`. last: nobody reads them in `source` again."""
    for rows in pieces:
        target[place[rows].astype(np.int64)] = source[rows]
        if last:
            give_back(source, rows.start, rows.stop)


def _sort(coded: Coded, block: slice) -> None:
    """Sorts a block of rows by sample, in place; the rows of a sample keep their order."""
    sample = coded.sample[block]
    if (sample[1:] >= sample[:-1]).all():
        return
    # Sorting numbers that end in the row is stable by itself, and takes a fifth of the time of a stable argsort.
    order = np.sort(sample.astype(np.int64) << 32 | np.arange(len(sample))) & 0xFFFFFFFF
    for column in coded.columns:
        column[block] = column[block][order]


def _runs(sample: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of samples in order: each one that occurs, its first row, and how many rows it has."""
    starts = np.concatenate([[0], np.flatnonzero(sample[1:] != sample[:-1]) + 1])
    return sample[starts], starts, np.diff(starts, append=len(sample))
