"""The Teacher2Task transform: every row that may be trained on is in the matrix once, untouched, and no other is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2t.core.errors import T2TError
from t2t.data.coding import code
from t2t.data.labels import HUMAN, LABEL_SCHEMA
from t2t.training import matrix as matrix_module
from t2t.training.baselines import conventional_average
from t2t.training.matrix import ARRAYS, LabelMatrix, assemble, build_matrix

pytestmark = pytest.mark.unit

Row = tuple[str, str, str, float]
SAMPLES = ["s0", "s1", "s2", "s3"]
TOPICS = ["red ball", "blue box", "rain"]
TEACHERS = [HUMAN, "colour", "shape"]

# One name of each kind is known to no matrix: rows of it have to be left out.
rows = st.tuples(
    st.sampled_from([*SAMPLES, "elsewhere"]),
    st.sampled_from([*TOPICS, "unseen"]),
    st.sampled_from([*TEACHERS, "stranger"]),
    st.floats(0, 1, width=32),
)


def table(content: list[Row]) -> pa.Table:
    columns = zip(*content, strict=True) if content else ([], [], [], [])
    return pa.table([list(column) for column in columns], schema=LABEL_SCHEMA)


def rows_of(matrix: LabelMatrix, sample: int) -> list[Row]:
    """A sample's rows with their names, in the matrix's order."""
    found, owner = matrix.take(np.array([sample]))
    assert (owner == 0).all()
    return [
        (
            matrix.sample_ids[sample],
            matrix.topics[matrix.topic[row]],
            matrix.teachers[matrix.teacher[row]],
            float(matrix.confidence[row]),
        )
        for row in found
    ]


def known(row: Row) -> bool:
    return row[0] in SAMPLES and row[1] in TOPICS and row[2] in TEACHERS


@settings(deadline=None)
@given(st.lists(st.lists(rows, max_size=12), max_size=4))
def test_the_matrix_holds_the_tables_rows_and_no_others(tables: list[list[Row]]) -> None:
    expected: dict[str, list[Row]] = {sample: [] for sample in SAMPLES}
    for row in (row for content in tables for row in content if known(row)):
        expected[row[0]].append(row)
    kept = sum(map(len, expected.values()))
    if not kept:
        with pytest.raises(T2TError, match="No label is left"):
            build_matrix(map(table, tables), SAMPLES, TOPICS, TEACHERS)
        return
    matrix = build_matrix(map(table, tables), SAMPLES, TOPICS, TEACHERS)
    assert matrix.rows == kept == matrix.indptr[-1]
    assert {sample: rows_of(matrix, i) for i, sample in enumerate(SAMPLES)} == expected
    every = [row for content in expected.values() for row in content]
    assert matrix.rows_by_teacher() == {name: sum(row[2] == name for row in every) for name in TEACHERS}


@settings(deadline=None)
@given(st.lists(rows.filter(known), min_size=1, max_size=20), st.lists(st.integers(0, 3), max_size=6))
def test_take_gives_each_samples_rows_in_the_order_that_samples_are_asked(content: list[Row], asked: list[int]) -> None:
    matrix = build_matrix([table(content)], SAMPLES, TOPICS, TEACHERS)
    found, owner = matrix.take(np.array(asked, np.int64))
    expected = [
        (row, position)
        for position, sample in enumerate(asked)
        for row in range(matrix.indptr[sample], matrix.indptr[sample + 1])
    ]
    assert list(zip(found.tolist(), owner.tolist(), strict=True)) == expected


def test_the_arrays_have_the_declared_types_and_conflicting_labels_stay_rows_of_their_own() -> None:
    content = [("s1", "rain", "shape", 0.25), ("s1", "rain", "colour", 1.0), ("s1", "rain", "colour", 0.5)]
    matrix = build_matrix([table(content)], SAMPLES, TOPICS, TEACHERS)
    assert [getattr(matrix, name).dtype for name in ARRAYS] == [np.int64, np.int32, np.int16, np.float32]
    assert matrix.indptr.tolist() == [0, 0, 3, 3, 3]
    assert matrix.confidence.tolist() == [0.25, 1.0, 0.5]


def test_a_table_in_several_chunks_is_read_whole() -> None:
    parts = [[("s0", "rain", HUMAN, 1.0)], [("s3", "rain", HUMAN, 0.5), ("s0", "blue box", "shape", 0.0)]]
    chunked = pa.concat_tables(map(table, parts))
    assert chunked["topic"].num_chunks == 2
    matrix = build_matrix([chunked], SAMPLES, TOPICS, TEACHERS)
    assert rows_of(matrix, 0) == [parts[0][0], parts[1][1]]
    assert rows_of(matrix, 3) == [parts[1][0]]


def test_saved_and_loaded_is_the_same_matrix_and_is_memory_mapped(tmp_path: Path) -> None:
    content = [("s2", "rain", "shape", 0.1), ("s0", "red ball", HUMAN, 1.0), ("s2", "blue box", HUMAN, 0.0)]
    matrix = build_matrix([table(content)], SAMPLES, TOPICS, TEACHERS)
    folder = tmp_path / "matrix"
    matrix.save(folder)
    loaded = LabelMatrix.load(folder)
    assert (list(loaded.sample_ids), loaded.topics, loaded.teachers) == (SAMPLES, tuple(TOPICS), tuple(TEACHERS))
    for name in ARRAYS:
        array = getattr(loaded, name)
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable
        assert array.dtype == getattr(matrix, name).dtype
        np.testing.assert_array_equal(array, getattr(matrix, name))
    assert rows_of(loaded, 2) == rows_of(matrix, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["matrix"]


def test_saving_again_replaces_the_matrix(tmp_path: Path) -> None:
    for confidence in (0.25, 0.75):
        content = [("s0", "rain", HUMAN, confidence)]
        build_matrix([table(content)], SAMPLES, TOPICS, TEACHERS).save(tmp_path / "matrix")
    assert LabelMatrix.load(tmp_path / "matrix").confidence.tolist() == [0.75]


@pytest.mark.parametrize("confidence", [float("nan"), -0.01, 1.01, float("inf"), None])
def test_confidences_that_are_none_are_refused(confidence: float | None) -> None:
    fields = [field.with_nullable(True) for field in LABEL_SCHEMA]
    bad = pa.table([["s0", "s1"], ["rain"] * 2, [HUMAN] * 2, [0.5, confidence]], schema=pa.schema(fields))
    with pytest.raises(
        T2TError, match=r"Teacher 'human' has .* for sample 's1' and topic 'rain' in the lake, which is no number"
    ):
        build_matrix([bad], SAMPLES, TOPICS, TEACHERS)


def test_a_bad_confidence_outside_of_training_refuses_nothing() -> None:
    content = [("s0", "rain", HUMAN, 0.5), ("elsewhere", "rain", HUMAN, 2.0)]
    assert build_matrix([table(content)], SAMPLES, TOPICS, TEACHERS).rows == 1


def test_no_tables_at_all_are_refused() -> None:
    with pytest.raises(T2TError, match="No label is left"):
        build_matrix([], SAMPLES, TOPICS, TEACHERS)


def averaged(tables: list[list[Row]]) -> LabelMatrix:
    return conventional_average(build_matrix(map(table, tables), SAMPLES, TOPICS, TEACHERS))


@settings(deadline=None)
@given(st.lists(rows.filter(known), min_size=1, max_size=30, unique_by=lambda row: row[:3]))
def test_the_conventional_average_is_pandas_group_by_mean_and_people_are_right(content: list[Row]) -> None:
    # Two tables, so that a pair's labels lie in different ones.
    got = averaged([content[::2], content[1::2]])
    frame = pd.DataFrame(content, columns=LABEL_SCHEMA.names)
    human = frame[frame.teacher_id == HUMAN].set_index(["sample_id", "topic"]).confidence
    others = frame[frame.teacher_id != HUMAN].groupby(["sample_id", "topic"]).confidence.mean()
    expected = pd.concat([human, others[~others.index.isin(human.index)]])
    found = [row for i in range(len(SAMPLES)) for row in rows_of(got, i)]
    assert got.teachers == (HUMAN,)
    assert len(found) == got.rows == len(expected)
    for sample, topic, _, confidence in found:
        assert confidence == pytest.approx(expected[sample, topic], rel=1e-6, abs=1e-7)


def test_the_conventional_average_has_one_order_and_the_types_of_a_matrix() -> None:
    content = [(sample, topic, name, 0.5) for name in ("shape", "colour") for topic in TOPICS for sample in SAMPLES]
    human = ("s1", "red ball", HUMAN, 1.0)
    first, second = averaged([content, [human]]), averaged([content[::-1], [human]])
    for name in ARRAYS:
        assert (
            getattr(first, name).dtype == getattr(build_matrix([table(content)], SAMPLES, TOPICS, TEACHERS), name).dtype
        )
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert rows_of(first, 0) == [("s0", topic, HUMAN, 0.5) for topic in sorted(TOPICS)]
    assert rows_of(first, 1) == [human, ("s1", "blue box", HUMAN, 0.5), ("s1", "rain", HUMAN, 0.5)]


@pytest.mark.parametrize("parts", [1, 3, 8])
def test_rows_moved_range_by_range_are_those_of_a_stable_sort(monkeypatch: pytest.MonkeyPatch, parts: int) -> None:
    monkeypatch.setattr(matrix_module, "PART", 10_000 // parts)
    monkeypatch.setattr(matrix_module, "PARTS", parts)
    monkeypatch.setattr(matrix_module, "BLOCK", 3000)
    rng, names = np.random.default_rng(0), [f"s{i}" for i in range(500)]
    tables, teachers = [], [f"teacher {i}" for i in range(4)]
    for number in range(4):
        sample = rng.integers(550, size=4000) if number % 2 else np.sort(rng.integers(480, size=4000))
        columns = [[f"s{i}" for i in sample], [TOPICS[i] for i in rng.integers(len(TOPICS), size=4000)]]
        columns += [[teachers[number]] * 4000, rng.random(4000, np.float32)]
        tables.append(pa.table(columns, schema=LABEL_SCHEMA))
    coded = code(tables, names, TOPICS, teachers)
    order = np.argsort(coded.sample, kind="stable")
    expected = [column[order] for column in coded.columns[1:]]
    given: list[np.dtype] = []
    monkeypatch.setattr(matrix_module, "give_back", lambda source, start, stop: given.append(source.dtype))
    kept = coded.confidence[5:]
    before = kept.copy()
    matrix = assemble(coded)
    # Memory that nobody reads again goes back, and a view keeps its column's.
    assert set(given) == {np.dtype(np.int32), np.dtype(np.int16)}
    assert matrix.indptr.tolist() == [0, *np.cumsum(np.bincount(np.concatenate([[], *[
        [int(i[1:]) for i in table["sample_id"].to_pylist() if int(i[1:]) < 500] for table in tables
    ]]).astype(int), minlength=500))]  # fmt: skip
    for name, column in zip(ARRAYS[1:], expected, strict=True):
        assert (getattr(matrix, name).dtype, getattr(matrix, name).tobytes()) == (column.dtype, column.tobytes())
    # Within a block rows are sorted in place; none is lost to somebody who kept the column.
    np.testing.assert_array_equal(np.sort(kept), np.sort(before))
