"""The label matrix against a plain-Python model of it, on random tables."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2t.core.errors import T2TError
from t2t.data.labels import LABEL_SCHEMA
from t2t.training.matrix import ARRAYS, LabelMatrix, build_matrix

pytestmark = pytest.mark.unit

Row = tuple[str, str, str, float]
Tables = list[list[Row]]

# Names as people write them: empty space, slashes, line breaks, emoji, other scripts, teacher tokens.
names = st.one_of(
    st.sampled_from(["red star", "red  star", "<teacher:human> x", "a/b/../c", "tab\there", "two\nlines", "🎉🎉", "é"]),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8),
)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[str], list[str], list[str], Tables]:
    """Samples, topics and teachers that a matrix knows, and tables that know others as well."""
    kinds = [draw(st.lists(names, min_size=1, max_size=6, unique=True)) for _ in range(3)]
    pools = [[*kind, f"{kind[0]} (unknown)"] for kind in kinds]
    row = st.tuples(*map(st.sampled_from, pools), st.floats(0, 1, width=32))
    return *kinds, draw(st.lists(st.lists(row, max_size=15), max_size=4))


def arrow(rows: list[Row], chunks: int = 1) -> pa.Table:
    step = max(1, -(-len(rows) // chunks))
    parts = [rows[start : start + step] for start in range(0, len(rows), step)] or [[]]
    columns = [[list(column) for column in zip(*part, strict=True)] or [[]] * 4 for part in parts]
    return pa.concat_tables([pa.table(part, schema=LABEL_SCHEMA) for part in columns])


class Model:
    """What a label matrix is, in words of Python: of each sample, its known rows in the order of the tables."""

    def __init__(self, tables: Tables, samples: list[str], topics: list[str], teachers: list[str]):
        self.rows: dict[str, list[Row]] = defaultdict(list)
        for row in (row for table in tables for row in table):
            if row[0] in samples and row[1] in topics and row[2] in teachers:
                self.rows[row[0]].append(row)

    def __len__(self) -> int:
        return sum(map(len, self.rows.values()))


def rows_of(matrix: LabelMatrix, sample: int) -> list[Row]:
    span = range(matrix.indptr[sample], matrix.indptr[sample + 1])
    return [
        (
            matrix.sample_ids[sample],
            matrix.topics[matrix.topic[row]],
            matrix.teachers[matrix.teacher[row]],
            float(matrix.confidence[row]),
        )
        for row in span
    ]


def build(tables: Tables, samples: list[str], topics: list[str], teachers: list[str], chunks: int = 1) -> LabelMatrix:
    return build_matrix((arrow(table, chunks) for table in tables), samples, topics, teachers)


@settings(deadline=None, max_examples=150)
@given(worlds(), st.integers(1, 3))
def test_every_known_row_stands_exactly_once_under_its_sample(
    world: tuple[list[str], list[str], list[str], Tables], chunks: int
) -> None:
    samples, topics, teachers, tables = world
    model = Model(tables, samples, topics, teachers)
    if not len(model):
        with pytest.raises(T2TError, match="No label is left"):
            build(tables, samples, topics, teachers, chunks)
        return
    matrix = build(tables, samples, topics, teachers, chunks)
    # indptr: one more than samples, from 0 to the number of rows, never falling.
    assert matrix.indptr.shape == (len(samples) + 1,)
    assert matrix.indptr[0] == 0
    assert matrix.indptr[-1] == matrix.rows == len(model)
    assert (np.diff(matrix.indptr) >= 0).all()
    assert {len(getattr(matrix, name)) for name in ARRAYS[1:]} == {len(model)}
    for i, sample in enumerate(samples):
        # The same rows with their raw confidences, bit for bit, in the order of the tables.
        assert rows_of(matrix, i) == model.rows[sample]
    every = Counter(row[2] for rows in model.rows.values() for row in rows)
    assert matrix.rows_by_teacher() == {name: every[name] for name in teachers}


@settings(deadline=None, max_examples=80)
@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_tables_and_rows_changes_the_order_of_rows_only(
    world: tuple[list[str], list[str], list[str], Tables], random: object
) -> None:
    samples, topics, teachers, tables = world
    if not len(Model(tables, samples, topics, teachers)):
        return
    shuffled = [random.sample(table, len(table)) for table in random.sample(tables, len(tables))]  # type: ignore[attr-defined]
    first, second = (build(content, samples, topics, teachers) for content in (tables, shuffled))
    np.testing.assert_array_equal(first.indptr, second.indptr)
    for i in range(len(samples)):
        assert Counter(rows_of(first, i)) == Counter(rows_of(second, i))
    # One table or many, the same rows in the same order: the same matrix.
    joined = build([[row for table in tables for row in table]], samples, topics, teachers)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(first, name), getattr(joined, name))


@settings(deadline=None, max_examples=80)
@given(worlds(), st.data())
def test_leaving_out_a_teacher_leaves_out_its_rows_and_no_others(
    world: tuple[list[str], list[str], list[str], Tables], data: st.DataObject
) -> None:
    samples, topics, teachers, tables = world
    kept = data.draw(st.lists(st.sampled_from(teachers), min_size=1, unique=True))
    model = Model(tables, samples, topics, kept)
    if not len(model):
        return
    matrix = build(tables, samples, topics, kept)
    assert matrix.teachers == tuple(kept)
    for i, sample in enumerate(samples):
        assert rows_of(matrix, i) == model.rows[sample]


@settings(deadline=None, max_examples=25)
@given(worlds())
def test_what_is_saved_is_loaded(world: tuple[list[str], list[str], list[str], Tables]) -> None:
    samples, topics, teachers, tables = world
    if not len(Model(tables, samples, topics, teachers)):
        return
    matrix = build(tables, samples, topics, teachers)
    with tempfile.TemporaryDirectory() as folder:
        matrix.save(Path(folder) / "matrix")
        loaded = LabelMatrix.load(Path(folder) / "matrix")
        assert (list(loaded.sample_ids), list(loaded.topics), list(loaded.teachers)) == (samples, topics, teachers)
        for name in ARRAYS:
            found, expected = getattr(loaded, name), getattr(matrix, name)
            assert found.dtype == expected.dtype
            assert found.tobytes() == expected.tobytes()
        asked = np.arange(len(samples))[::-1].copy()
        for part, expected in zip(loaded.take(asked), matrix.take(asked), strict=True):
            np.testing.assert_array_equal(part, expected)
