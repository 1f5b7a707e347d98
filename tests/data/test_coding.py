"""Names as numbers: dictionaries or strings, one chunk or many, looked up at once or table by table."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2t.core.errors import T2TError
from t2t.data import coding, growing
from t2t.data.coding import Coded, code, codes, distinct, positions
from t2t.data.growing import LEAST, Growing, give_back
from t2t.data.labels import LABEL_SCHEMA, label_blocks, write_parquet

pytestmark = pytest.mark.unit

letters = st.sampled_from("abcdef")


@settings(deadline=None, max_examples=60)
@given(st.lists(letters | st.none(), max_size=9), st.lists(letters, max_size=6, unique=True))
def test_positions_are_those_of_a_list_whichever_side_has_fewer(wanted: list[str | None], names: list[str]) -> None:
    expected = [names.index(name) if name in names else -1 for name in wanted]
    found = positions(pa.array(wanted, pa.string()), pa.array(names, pa.string()))
    assert (found.tolist(), found.dtype) == (expected, np.int32)


@pytest.mark.parametrize("encoded", [False, True])
def test_a_column_is_coded_by_its_rows_whatever_its_chunks(encoded: bool) -> None:
    chunks = [pa.array(part, pa.string()) for part in (["b", "a", "b"], [], ["c", "a"])]
    column = pa.chunked_array([chunk.dictionary_encode() if encoded else chunk for chunk in chunks])
    assert codes(column, ["a", "b"]).tolist() == [1, 0, 1, -1, 0]
    assert distinct(column).to_pylist() == ["b", "a", "c"]
    assert codes(column.slice(2, 2), ["a", "b"]).tolist() == [1, -1]


def tables(teachers: int, rows: int = 40) -> list[pa.Table]:
    rng = np.random.default_rng(0)
    return [
        pa.table(
            [
                [f"s{i}" for i in rng.integers(12, size=rows)],
                [f"t{i}" for i in rng.integers(5, size=rows)],
                [f"teacher {number}"] * rows,
                rng.random(rows, np.float32),
            ],
            schema=LABEL_SCHEMA,
        )
        for number in range(teachers)
    ]


def coded(source: object) -> Coded:
    names = [f"s{i}" for i in range(10)], [f"t{i}" for i in range(4)], [f"teacher {i}" for i in range(3)]
    return code(source, *names)  # type: ignore[arg-type]


def test_blocks_of_a_file_give_the_rows_of_the_tables_whichever_names_are_in_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = coded(tables(4))
    assert 0 < len(whole) < 3 * 40
    assert whole.ends[-1] == whole.ends[-2] == len(whole)  # of the fourth teacher, nothing
    assert [len(whole.sample[whole.of(i)]) for i in range(3)] == np.diff(whole.ends, prepend=0).tolist()[:3]
    files = []
    for number, table in enumerate(tables(4)):
        files.append(tmp_path / f"{number}.parquet")
        write_parquet([table[:7], table[7:13], table[13:]], files[-1])
    blocks = [block for file in files for block in label_blocks(file, rows=10)]
    assert [len(block) for block in blocks] == [13, 27] * 4
    assert pa.types.is_dictionary(blocks[0]["sample_id"].type)
    # In a table of all samples' names, and in one of those that occur.
    for few in (0, 100):
        monkeypatch.setattr(coding, "FEW", few)
        for column, expected in zip(coded(blocks).columns, whole.columns, strict=True):
            assert column.dtype == expected.dtype
            np.testing.assert_array_equal(column, expected)


def test_an_error_while_a_table_is_read_ahead_reaches_the_caller() -> None:
    def broken() -> object:
        yield tables(1)[0]
        raise T2TError("unreadable")

    with pytest.raises(T2TError, match="unreadable"):
        coded(broken())


def rows_one_by_one(source: list[pa.Table], samples: list[str], topics: list[str], teachers: list[str]) -> list[tuple]:
    """The rows in plain Python, and table by table how many there are up to its end."""
    found, ends = [], []
    for table in source:
        for row in table.select(LABEL_SCHEMA.names).to_pylist():
            sample, topic, teacher, confidence = row.values()
            if sample in samples and topic in topics and teacher in teachers:
                found.append((samples.index(sample), topics.index(topic), teachers.index(teacher), confidence))
        ends.append(len(found))
    return [*found, tuple(ends)]


KINDS = {
    "string": pa.string(),
    "large_string": pa.large_string(),
    "string_view": pa.string_view(),
    "dictionary": pa.dictionary(pa.int32(), pa.string()),
    "narrow dictionary": pa.dictionary(pa.int8(), pa.string()),
    "large dictionary": pa.dictionary(pa.int32(), pa.large_string()),
}


@pytest.mark.parametrize("few", [0, 100])
@pytest.mark.parametrize("together", [1, 100, coding.TOGETHER])
@pytest.mark.parametrize("ids", [pa.string(), pa.large_string()])
def test_odd_tables_give_the_rows_of_plain_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: float, together: int, ids: pa.DataType
) -> None:
    """Every kind of text, empty tables, unknown names, nulls, doubled rows and ids, row groups of any size, whichever
    tables are coded together."""
    monkeypatch.setattr(coding, "FEW", few)
    monkeypatch.setattr(coding, "TOGETHER", together)
    rng, source = np.random.default_rng(1), []
    for number, (name, kind) in enumerate(KINDS.items()):
        count = 0 if name == "string_view" and few else 60
        columns = [
            [f"s{i}" if i else None for i in rng.integers(14, size=count)],
            [f"t{i}" if i else None for i in rng.integers(7, size=count)],
            [f"teacher {number % 4}"] * count,
        ]
        plain = pa.table([*columns, rng.random(count, np.float32)], schema=pa.schema(
            [field.with_nullable(True) for field in LABEL_SCHEMA]))  # fmt: skip
        plain = pa.concat_tables([plain, plain.slice(0, 5), plain.slice(0, 0)])
        for column in range(3):
            plain = plain.set_column(column, LABEL_SCHEMA.names[column], plain.column(column).cast(kind))
        source.append(plain)
        for size in (1, 7, 1000) if name == "string" else ():
            pa.parquet.write_table(plain, tmp_path / "labels.parquet", row_group_size=size)
            source += label_blocks(tmp_path / "labels.parquet", rows=20)
    samples = [f"s{i}" for i in range(12, -1, -1)]
    names = [*samples, "s3", "s5"], [f"t{i}" for i in range(5)], [f"teacher {i}" for i in (2, 0, 1)]
    found = code(source, pa.array(names[0], ids), *names[1:])
    rows = [tuple(value.item() for value in row) for row in zip(*found.columns, strict=True)]
    assert [*rows, tuple(found.ends)] == rows_one_by_one(source, *names)


def test_small_tables_are_coded_together_up_to_so_many_rows_or_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coding, "TOGETHER", 100)
    assert [len(some) for some in coding._together(tables(7))] == [3, 3, 1]
    # Cut from one table, few rows have all of its names: a thousand such would look all of them up a thousand times.
    column = pa.array(["s1"] * 2 + [f"s{i}" for i in range(10, 130)]).dictionary_encode()
    many = tables(1)[0].slice(0, 2).set_column(0, "sample_id", pa.chunked_array([column.slice(0, 2)]))
    assert [len(some) for some in coding._together([many, many, *tables(2)])] == [1, 1, 2]
    assert list(coding._together([])) == []


@pytest.mark.parametrize("rows", [0, 1, 5000])
def test_columns_grow_and_give_back_what_nobody_reads(rows: int) -> None:
    column, parts = Growing(np.int32), [np.full(rows, number, np.int32) for number in range(50)]
    for part in parts:
        column.append(part)
    array = column.array
    np.testing.assert_array_equal(array, np.concatenate(parts))
    give_back(array, rows * 10, rows * 20)
    np.testing.assert_array_equal(array[: rows * 10], np.concatenate(parts)[: rows * 10])
    np.testing.assert_array_equal(array[rows * 20 :], np.concatenate(parts)[rows * 20 :])
    give_back(np.arange(9), 0, 9)  # of an array of numpy's, nothing


def test_a_column_is_moved_only_where_it_has_no_room() -> None:
    column, size = Growing(np.int32), LEAST // 4
    first = column.more(size)
    assert not column.room(1)
    with pytest.raises(BufferError):
        column.more(1)  # it would leave the view behind
    first[:] = np.arange(size)
    del first
    column = Growing(np.int32)
    column.append(np.arange(size))
    column.append(np.arange(2))
    left = growing.MORE // 4 - size - 2
    assert column.room(left)
    assert not column.room(left + 1)
    np.testing.assert_array_equal(column.array, [*range(size), 0, 1])


@pytest.mark.parametrize(("few", "waiting", "release"), [(1.0, 1 << 22, 1), (0.0, 1 << 22, 500), (0.0, 300, 1 << 20)])
def test_threads_fill_columns_that_grow_meanwhile(
    monkeypatch: pytest.MonkeyPatch, few: float, waiting: int, release: int
) -> None:
    for name, value in {"TOGETHER": 50, "FEW": few, "WAITING": waiting, "RELEASE": release}.items():
        monkeypatch.setattr(coding, name, value)
    monkeypatch.setattr(growing, "LEAST", 1 << 10)
    monkeypatch.setattr(growing, "MORE", 0)
    fill, names = coding._fill, coding.Names

    def slow_fill(*lists: list[np.ndarray]) -> None:
        time.sleep(0.0005)
        fill(*lists)

    def slow_names(*some: object) -> object:
        time.sleep(0.01)
        return names(*some)

    slow_names.among = names.among  # type: ignore[attr-defined]
    monkeypatch.setattr(coding, "_fill", slow_fill)
    monkeypatch.setattr(coding, "Names", slow_names)
    source = tables(3) * 70
    wanted = [f"s{i}" for i in range(12)], [f"t{i}" for i in range(4)], ["teacher 0", "teacher 2"]
    found = code(source, *wanted)
    rows = [tuple(value.item() for value in row) for row in zip(*found.columns, strict=True)]
    assert [*rows, tuple(found.ends)] == rows_one_by_one(source, *wanted)
    assert len(rows) > 3000  # columns of more than a kilobyte


def test_what_goes_wrong_while_columns_are_filled_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(*_: object) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr(coding, "TOGETHER", 50)
    wanted = [f"s{i}" for i in range(12)], [f"t{i}" for i in range(4)], ["teacher 0", "teacher 2"]
    bad = tables(1)[0].set_column(3, "confidence", pa.array([2.0] * 40, pa.float32()))
    with pytest.raises(T2TError, match="which is no number from 0 to 1"):
        code([*tables(3) * 30, bad, *tables(3) * 30], *wanted)
    monkeypatch.setattr(coding, "_fill", torn)
    with pytest.raises(MemoryError, match="no more"):
        code(tables(3) * 30, *wanted)


@pytest.mark.parametrize(("threads", "rows", "most"), [(2, 10, 8), (3, 10, 12), (2, coding.MOST_WAITING, 2)])
def test_more_tables_wait_for_a_thread_where_they_are_small(threads: int, rows: int, most: int) -> None:
    table = pa.table({"sample_id": pa.nulls(rows)})
    begun: list[int] = []

    def things() -> Iterator[list[pa.Table]]:
        for number in range(40):
            begun.append(number)
            yield [table]

    with ThreadPoolExecutor(threads) as pool:
        done = coding._ahead(pool, threads, len, things())
        assert next(done) == 1
        assert len(begun) == most
        assert sum(done) == 39
