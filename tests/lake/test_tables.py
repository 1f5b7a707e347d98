"""Parquet tables on their way into the lake and out of it."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from t2t.data.labels import LABEL_SCHEMA, write_parquet
from t2t.lake import open_lake
from t2t.lake.tables import read_json, read_table

pytestmark = pytest.mark.unit


def labels(*confidences: float | None, start: int = 0) -> pa.Table:
    ids = [f"s{start + i}" for i in range(len(confidences))]
    columns = {"sample_id": ids, "topic": ["a"] * len(ids), "teacher_id": ["t"] * len(ids)}
    return pa.table(columns | {"confidence": pa.array(confidences, pa.float64())})


def test_a_table_is_written_with_the_declared_schema_in_zstd(tmp_path):
    path = tmp_path / "labels.parquet"
    assert write_parquet(labels(0.25, 0.5), path, LABEL_SCHEMA) == 2
    file = pq.ParquetFile(path)
    assert file.schema_arrow == LABEL_SCHEMA
    group = file.metadata.row_group(0)
    assert {group.column(i).compression for i in range(group.num_columns)} == {"ZSTD"}
    assert file.read()["confidence"].to_pylist() == [0.25, 0.5]


def test_without_a_schema_the_first_table_gives_it(tmp_path):
    path = tmp_path / "t.parquet"
    assert write_parquet(pa.table({"n": [1, 2]}), path) == 2
    assert pq.read_schema(path) == pa.schema([("n", pa.int64())])


@pytest.mark.parametrize(
    "table",
    [
        labels(0.5).drop_columns(["topic"]),
        labels(0.5).append_column("more", pa.array([1])),
        labels(0.5).select(["topic", "sample_id", "teacher_id", "confidence"]),
        labels(0.5).rename_columns(["sample", "topic", "teacher_id", "confidence"]),
        labels(0.5).set_column(3, "confidence", pa.array(["high"])),
        labels(0.5, None),
        labels(0.5).set_column(0, "sample_id", pa.array([None], pa.string())),
    ],
    ids=["missing", "further", "order", "other name", "not a number", "null confidence", "null sample"],
)
def test_tables_of_another_schema_are_refused_and_leave_nothing(tmp_path, table):
    path = tmp_path / "labels.parquet"
    with pytest.raises(ValueError):
        write_parquet([labels(0.1), table], path, LABEL_SCHEMA)
    assert list(tmp_path.iterdir()) == []


def test_the_refusal_names_both_lists_of_columns(tmp_path):
    with pytest.raises(ValueError, match=r"columns \['x'\], expected \['sample_id', 'topic', 'teacher_id', 'conf"):
        write_parquet(pa.table({"x": [1]}), tmp_path / "labels.parquet", LABEL_SCHEMA)


def test_an_iterator_is_written_as_it_comes(tmp_path):
    """The second table is asked for only after the first one was written, so memory holds one."""
    alive = []

    def tables():
        for i in range(4):
            alive.append(i)
            yield labels(0.1, 0.2, 0.3, start=3 * i)

    path = tmp_path / "labels.parquet"
    assert write_parquet(tables(), path, LABEL_SCHEMA) == 12
    assert alive == [0, 1, 2, 3]
    assert pq.ParquetFile(path).num_row_groups == 4
    assert pq.read_table(path)["sample_id"].to_pylist() == [f"s{i}" for i in range(12)]


def test_an_error_on_the_way_keeps_what_was_there(tmp_path):
    path = tmp_path / "labels.parquet"
    write_parquet(labels(0.5), path, LABEL_SCHEMA)
    before = path.read_bytes()

    def tables():
        yield labels(0.1)
        raise RuntimeError("teacher fell ill")

    with pytest.raises(RuntimeError, match="fell ill"):
        write_parquet(tables(), path, LABEL_SCHEMA)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_no_table_makes_an_empty_one_of_the_schema(tmp_path):
    path = tmp_path / "labels.parquet"
    assert write_parquet(iter(()), path, LABEL_SCHEMA) == 0
    assert pq.read_table(path).schema == LABEL_SCHEMA
    with pytest.raises(ValueError, match="no table to write and no schema"):
        write_parquet([], tmp_path / "other.parquet")


def test_the_same_rows_give_the_same_bytes(tmp_path):
    rows = [i / 1000 for i in range(1000)]
    table = labels(*rows)
    chunked = pa.concat_tables([table.slice(0, 300), table.slice(300)])
    for name, each in {"a": table, "b": labels(*rows), "chunked": chunked}.items():
        write_parquet(each, tmp_path / name, LABEL_SCHEMA)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "chunked").read_bytes()
    write_parquet(labels(*rows[:-1], 0.5), tmp_path / "other", LABEL_SCHEMA)
    assert (tmp_path / "other").read_bytes() != (tmp_path / "a").read_bytes()


def test_the_same_rows_in_the_lake_have_the_same_digest(tmp_path):
    lake = open_lake("git", tmp_path / "work")
    for name in ("one", "two"):
        write_parquet(labels(0.5, 0.25), tmp_path / name, LABEL_SCHEMA)
    lake.commit("main", {name: tmp_path / name for name in ("one", "two")}, "k", "Labels", {})
    first, second = lake.list("main")
    assert first.digest == second.digest


def test_a_table_is_read_from_a_commit_with_the_columns_asked_for(tmp_path):
    lake = open_lake("git", tmp_path / "work")
    write_parquet(labels(0.5, 0.25), tmp_path / "t", LABEL_SCHEMA)
    commit = lake.commit("main", {"demo/labels.parquet": tmp_path / "t"}, "k1", "Labels", {})
    write_parquet(labels(1.0), tmp_path / "t", LABEL_SCHEMA)
    lake.commit("main", {"demo/labels.parquet": tmp_path / "t"}, "k2", "Other labels", {})
    assert read_table(lake, commit, "demo/labels.parquet").schema == LABEL_SCHEMA
    assert read_table(lake, commit, "demo/labels.parquet")["confidence"].to_pylist() == [0.5, 0.25]
    assert read_table(lake, "main", "demo/labels.parquet", ["confidence"]).to_pydict() == {"confidence": [1.0]}


@pytest.mark.parametrize(("ref", "path"), [("main", "none.json"), ("none", "tiny/teachers/vendor/entry.json")])
def test_json_that_is_not_there_is_none(lake, ref, path):
    assert read_json(lake, ref, path) is None
