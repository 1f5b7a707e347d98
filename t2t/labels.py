"""The Teacher2Task transform: a label table becomes N+1 tasks (paper, section 3.1).

Every row (teacher, sample, topic -> confidence) stays a training row of its own: nothing is averaged, voted,
thresholded or selected. The rows are kept as a CSR matrix, grouped by sample, because a dual-encoder needs a sample's
embedding only once for all its rows (DESIGN, section 8).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from t2t.dataset import HUMAN
from t2t.errors import T2TError
from t2t.files import atomic_folder

# Identities are counted in int16.
MOST_TEACHERS = 32_767
ARRAYS = ("indptr", "topic", "teacher", "confidence")


@dataclass(frozen=True)
class LabelMatrix:
    """All training rows, grouped by sample.

    The rows of sample i are `indptr[i]` to `indptr[i + 1]`; within a sample they keep the order of the tables.

    indptr: int64 [samples + 1].
    topic: int32 [rows], index into `topics`.
    teacher: int16 [rows], index into `teachers`.
    confidence: float32 [rows], 0..1, raw.
    """

    sample_ids: Sequence[str]
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
        counts = np.bincount(self.teacher, minlength=len(self.teachers))
        return {name: int(count) for name, count in zip(self.teachers, counts, strict=True)}

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

    def save(self, folder: Path) -> None:
        """Writes the matrix as .npy files (which can be memory-mapped), atomically."""
        with atomic_folder(folder) as temporary:
            for name in ARRAYS:
                np.save(temporary / f"{name}.npy", getattr(self, name), allow_pickle=False)
            names = {"sample_ids": list(self.sample_ids), "topics": self.topics, "teachers": self.teachers}
            (temporary / "names.json").write_text(json.dumps(names), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> LabelMatrix:
        """Opens a saved matrix; the arrays stay on disk until they are touched. Raises T2TError when it is damaged."""
        try:
            names = json.loads((folder / "names.json").read_text(encoding="utf-8"))
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS}
        except (OSError, ValueError, EOFError) as error:
            raise T2TError(f"{folder}: cannot be read ({error}). Delete the folder: it is made again.") from None
        return cls(names["sample_ids"], tuple(names["topics"]), tuple(names["teachers"]), **arrays)


def build_matrix(
    tables: Iterable[pa.Table], sample_ids: Sequence[str], topics: Sequence[str], teachers: Sequence[str]
) -> LabelMatrix:
    """Builds the matrix from label tables without a Python loop over rows.

    Rows of samples, topics or teachers that are not named are left out: that is how the splits and the topic-split
    protocol keep labels out of training.

    Args:
        tables: tables of LABEL_SCHEMA (`t2t.lake.tables`), for instance one for each teacher.
        sample_ids: the samples that may be trained on, in the order of the matrix.
        topics: the topics that may be trained on.
        teachers: the identities, at most 32,767.

    Raises:
        T2TError: when no row is left, a confidence is NaN or outside 0..1, or there are too many identities.
    """
    if len(teachers) > MOST_TEACHERS:
        raise T2TError(f"{len(teachers):,} identities; a label matrix holds {MOST_TEACHERS:,}: leave some out.")
    value_sets = [pa.array(names, pa.string()) for names in (sample_ids, topics, teachers)]
    coded = [_codes(table, value_sets) for table in tables]
    sample = np.concatenate([part[0] for part in coded]) if coded else np.empty(0, np.int32)
    if not len(sample):
        raise T2TError("No label is left for training: no teacher has a row for a training sample and a seen topic.")
    order = np.argsort(sample, kind="stable")
    counts = np.bincount(sample, minlength=len(sample_ids))
    indptr = np.zeros(len(sample_ids) + 1, np.int64)
    np.cumsum(counts, out=indptr[1:])
    topic, teacher, confidence = (np.concatenate([part[i] for part in coded])[order] for i in (1, 2, 3))
    refuse_outside(confidence)
    return LabelMatrix(sample_ids, tuple(topics), tuple(teachers), indptr, topic, teacher, confidence)


def refuse_outside(confidence: np.ndarray) -> None:
    """Raises T2TError where a confidence is NaN or outside 0..1."""
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise T2TError("A label's confidence is NaN or outside 0..1; `t2t teachers check` finds the file and row.")


def _codes(table: pa.Table, value_sets: list[pa.Array]) -> list[np.ndarray]:
    columns = [
        pc.index_in(table[name], value_set=values)
        for name, values in zip(("sample_id", "topic", "teacher_id"), value_sets, strict=True)
    ]
    known = pc.and_(pc.and_(columns[0].is_valid(), columns[1].is_valid()), columns[2].is_valid())
    kept = [column.filter(known).to_numpy() for column in (*columns, table["confidence"])]
    return [kept[0].astype(np.int32), kept[1].astype(np.int32), kept[2].astype(np.int16), kept[3].astype(np.float32)]


def conventional_average(tables: Iterable[pa.Table]) -> pa.Table:
    """The baseline that Teacher2Task replaces: one label a pair, the mean of the teachers', or the human's own.

    Kept under its own name to be compared with; the engine's own method never does this.

    Returns: a table of LABEL_SCHEMA whose only identity is `human`.
    """
    table = pa.concat_tables(tables)
    is_human = pc.equal(table["teacher_id"], HUMAN)
    human = table.filter(is_human)
    mean = (
        table.filter(pc.invert(is_human))
        .group_by(["sample_id", "topic"], use_threads=False)
        .aggregate([("confidence", "mean")])
        .rename_columns({"confidence_mean": "confidence"})
    )
    mean = mean.join(human.select(["sample_id", "topic"]), ["sample_id", "topic"], join_type="left anti")
    ids = pa.repeat(pa.scalar(HUMAN), len(mean))
    mean = pa.table([mean["sample_id"], mean["topic"], ids, mean["confidence"].cast(pa.float32())], human.schema)
    # A hash join gives its rows in no fixed order; sorting keeps a run repeatable.
    return pa.concat_tables([human, mean.sort_by([("sample_id", "ascending"), ("topic", "ascending")])])
