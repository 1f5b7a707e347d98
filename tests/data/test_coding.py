"""Names as numbers: dictionaries or strings, one chunk or many, looked up at once or table by table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2t.core.errors import T2TError
from t2t.data import coding
from t2t.data.coding import Coded, code, codes, distinct, positions
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
