"""Tables as spreadsheets and other programs write them, and limits that are said before anything is decoded."""

from __future__ import annotations

import datetime
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from t2t.core.errors import DataError
from t2t.data.dataset import DatasetConfig, read_dataset
from t2t.data.limits import TableLimits
from t2t.data.tables import read_lines, read_table
from tests.helpers.datasets import make, pairs, refusal, sample_rows

pytestmark = pytest.mark.unit

COLUMNS = {"sample_id": pa.string(), "topic": pa.string(), "confidence": pa.float64()}
HEADER = "sample_id,topic,confidence"
ROW = [{"sample_id": "a", "topic": "b", "confidence": 0.5}]


def csv_of(folder: Path, text: str | bytes, limits: TableLimits | None = None) -> list[dict[str, Any]]:
    path = folder / "x.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_table(path, COLUMNS, limits).to_pylist()


@pytest.mark.parametrize(
    "text",
    [
        f"sep=,\n{HEADER}\na,b,0.5\n",
        f"\ufeffsep=,\r\n{HEADER}\r\na,b,0.5\r\n",
        f'"sep=,"\n{HEADER}\na,b,0.5\n',
        "sep=;\r\nsample_id;topic;confidence\r\na;b;0,5\r\n",
        "sample_id;topic;confidence\na;b;0,5\n",
        "sample_id\ttopic\tconfidence\na\tb\t0.5\n",
        "sample_id|topic|confidence\na|b|.5\n",
        '"sample_id";"topic";"confidence"\n"a";"b"; 0,5 \n',
        f"{HEADER},,\na,b,0.5,,\n,,,,\n",
        f"{HEADER}\na,b,0.5,,\n,,\n  \n",
        f"{HEADER}\na,b, 0.5\t\n",
        f"{HEADER}\na,b,5e-1\n",
    ],
)
def test_what_spreadsheets_write_is_read(tmp_path, text):
    assert csv_of(tmp_path, text) == ROW


@pytest.mark.parametrize(("word", "number"), [("True", 1), ("FALSE", 0), (" true ", 1), ("1", 1), ("0", 0)])
def test_truth_values_are_numbers(tmp_path, word, number):
    assert csv_of(tmp_path, f"{HEADER}\na,b,{word}\n")[0]["confidence"] == number


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"sep=,\n{HEADER}\na,b,x\n", ", row 3, column 'confidence': 'x' is not a number."),
        (f"{HEADER}\n,,\n\na,b,yes\n", ", row 4, column 'confidence': 'yes' is not a number."),
        (f"{HEADER},,\na,b,1,,\nc,d,1,,x\n", ", row 3: a value in cell 5, and the header has no name for it."),
        (f"{HEADER}\na,b,1,,z\n", ", row 2: 5 cells, but the header has 3."),
        (f'{HEADER}\na,b,"1,5"\n', "'1,5' is not a number. Write 1.5."),
    ],
)
def test_rows_are_counted_behind_what_is_passed_over(tmp_path, text, says):
    with pytest.raises(DataError) as caught:
        csv_of(tmp_path, text)
    assert says in str(caught.value)


def test_a_further_column_that_begins_with_numbers_may_go_on_with_words(tmp_path):
    """The reader takes a column's type from its first megabyte."""
    rows = "".join(f"sample-{i},b,1,{i}\n" for i in range(60_000))
    table = csv_of(tmp_path, f"{HEADER},note\n{rows}last,b,1,words\n")
    assert (len(table), table[-1]["note"], table[0]["note"]) == (60_001, "words", "0")


TEXTS = [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view()]


@pytest.mark.parametrize("kind", [*TEXTS, pa.dictionary(pa.int8(), pa.string())], ids=str)
def test_text_of_any_kind_is_text_in_columns_that_are_needed_and_in_further_ones(tmp_path, kind):
    config = make(tmp_path, kind="parquet")
    frame = pa.Table.from_pylist(sample_rows())
    columns = {name: frame[name].combine_chunks().cast(kind) for name in frame.column_names}
    notes = pa.array(["x", None, "y", "", "z"]).cast(kind)
    pq.write_table(pa.table({**columns, "note": notes}), tmp_path / "tiny" / "samples.parquet")
    dataset = read_dataset(config, tmp_path)
    assert all(dataset.samples[name].type == pa.string() for name in frame.column_names)
    assert dataset.samples["note"].type in (pa.string(), pa.binary())
    # What breaks for some kinds of text in Arrow: filters, and the tables of pandas.
    assert dataset.split("test")["sample_id"].to_pylist() == ["e"]
    assert dataset.samples.to_pandas()["split"].tolist() == frame["split"].to_pylist()


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        (pa.array([1, 2]), ["1", "2"]),
        (pa.array([datetime.date(2024, 1, 1), datetime.date(2024, 12, 31)]), ["2024-01-01", "2024-12-31"]),
    ],
    ids=["whole numbers", "days"],
)
def test_whole_numbers_and_days_are_names(tmp_path, ids, names):
    pq.write_table(pa.table({"sample_id": ids, "topic": ["b", "b"], "confidence": [0, 1]}), tmp_path / "x.parquet")
    assert read_table(tmp_path / "x.parquet", COLUMNS)["sample_id"].to_pylist() == names


# -- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [pa.string(), pa.string_view(), pa.binary(), pa.large_string()], ids=str)
def test_a_small_file_of_a_large_table_is_refused_before_it_is_decoded(tmp_path, kind):
    """180 KB that would be 2.8 GB: one text of 15,000 characters in each of 200,000 rows."""
    path, block = tmp_path / "bomb.parquet", pa.array(["x" * 15_000] * 1000).cast(kind)
    schema = pa.schema([("sample_id", kind), ("topic", pa.string()), ("confidence", pa.float64())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for _ in range(200):
            writer.write_table(pa.table([block, ["b"] * 1000, np.zeros(1000)], schema=schema))
    assert path.stat().st_size < 1_000_000
    before = pa.total_allocated_bytes()
    pool = pa.default_memory_pool()
    with pytest.raises(DataError, match=r"2,8\d\d MB once it is read, more than table_limits.megabytes \(2,048\)"):
        read_table(path, COLUMNS)
    assert pool.bytes_allocated() - before < 100 << 20
    with pytest.raises(DataError, match=r"200,000 rows, more than table_limits.rows \(1,000\) allows\..*rows: 200000"):
        read_table(path, COLUMNS, TableLimits(rows=1000))


def test_rows_are_counted_by_what_the_file_says_before_they_are_read(tmp_path):
    path = tmp_path / "rows.parquet"
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1_000_000, np.int8)), pa.array(["x"]))
    pq.write_table(pa.table({"sample_id": texts, "topic": texts, "confidence": np.zeros(1_000_000)}), path)
    with pytest.raises(DataError, match=r"\d+ MB once it is read, more than table_limits.megabytes \(8\)"):
        read_table(path, COLUMNS, TableLimits(megabytes=8))


def test_a_long_line_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "x.csv"
    with open(path, "wb") as file:
        file.write(f"{HEADER}\na,b,1\n".encode())
        file.seek(3_000_000_000, 1)  # a hole: it takes no disk
        file.write(b"\n")
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"2,862 MB, more than table_limits.megabytes \(2,048\) allows"):
            read_table(path, COLUMNS)
        with pytest.raises(DataError, match=r"row 3: a line of more than 1,024 KB, which table_limits.line_kilobytes"):
            read_table(path, COLUMNS, TableLimits(megabytes=4000))
        with pytest.raises(DataError, match="row 3: a line of more than 1,024 KB"):
            read_lines(path, TableLimits(megabytes=4000))
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_lines_up_to_the_limit_are_read_and_the_limit_can_be_set(tmp_path):
    text = f"{HEADER},note\n" + "".join(f"s{i},b,1,{'x' * 900}\n" for i in range(5000))
    assert len(csv_of(tmp_path, text, TableLimits(line_kilobytes=1))) == 5000
    long = text + f"last,b,1,{'x' * 1100}\n"
    with pytest.raises(DataError, match=r"row 5002: a line of more than 1 KB.*line_kilobytes: 4"):
        csv_of(tmp_path, long + text, TableLimits(line_kilobytes=1))
    assert len(csv_of(tmp_path, long, TableLimits(line_kilobytes=4))) == 5001


def test_a_datasets_entry_sets_its_limits(tmp_path):
    config = make(tmp_path)
    strict = config.model_copy(update={"table_limits": TableLimits(rows=2)})
    assert "samples.csv: 5 rows, more than table_limits.rows (2) allows." in refusal(strict, tmp_path)
    assert pairs(read_dataset(DatasetConfig(name="tiny", root="tiny"), tmp_path))


def test_more_columns_than_anybody_needs_are_refused(tmp_path):
    with pytest.raises(DataError, match="10,003 columns; 10,000 are the most"):
        csv_of(tmp_path, f"{HEADER}{''.join(f',c{i}' for i in range(10_000))}\n")
