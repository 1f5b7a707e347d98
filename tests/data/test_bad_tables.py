"""The dataset contract: each way in which people's tables are wrong."""

from __future__ import annotations

import os

import pandas as pd
import pytest

from t2t.core.errors import DataError, T2TError
from t2t.data.dataset import DatasetConfig, read_dataset
from tests.helpers.datasets import Rows, annotation_rows, changed, make, pairs, refusal, sample_rows

pytestmark = pytest.mark.unit


def without(rows: Rows, column: str) -> Rows:
    return [{key: value for key, value in row.items() if key != column} for row in rows]


# name: (samples, annotations, file, record counted from 0 or None, column or None, what the message says)
BAD: dict[str, tuple[Rows | None, Rows | None, str, int | None, str | None, str]] = {
    "unknown sample": (
        None,
        changed(annotation_rows(), 2, sample_id="zz"),
        "annotations",
        2,
        "sample_id",
        "unknown sample 'zz'. Known: a, b, c, d, e.",
    ),
    "unknown topic": (
        None,
        changed(annotation_rows(), 1, topic="blue sqare"),
        "annotations",
        1,
        "topic",
        "unknown topic 'blue sqare'. Did you mean 'blue square'?",
    ),
    "relevance above 1": (
        None,
        changed(annotation_rows(), 3, relevance=1.5),
        "annotations",
        3,
        "relevance",
        "1.5 is not a number from 0 to 1",
    ),
    "relevance below 0": (
        None,
        changed(annotation_rows(), 0, relevance=-0.01),
        "annotations",
        0,
        "relevance",
        "-0.01 is not a number from 0 to 1",
    ),
    "infinite relevance": (
        None,
        changed(annotation_rows(), 0, relevance=float("inf")),
        "annotations",
        0,
        "relevance",
        "inf is not a number from 0 to 1",
    ),
    "annotation twice": (
        None,
        [*annotation_rows(), annotation_rows()[0]],
        "annotations",
        4,
        "annotator",
        "'a', 'red circle', 'ann' stands twice",
    ),
    "empty annotator": (
        None,
        changed(annotation_rows(), 1, annotator=""),
        "annotations",
        1,
        "annotator",
        "is empty",
    ),
    "no relevance": (
        None,
        without(annotation_rows(), "relevance"),
        "annotations",
        None,
        None,
        "column 'relevance' is missing. Known: annotator, sample_id, topic.",
    ),
    "misspelt column": (
        [{**without([row], "modality")[0], "modalty": "video"} for row in sample_rows()],
        None,
        "samples",
        None,
        None,
        "column 'modality' is missing. Did you mean 'modalty'?",
    ),
    "sample twice": (
        changed(sample_rows(), 1, sample_id="a"),
        None,
        "samples",
        1,
        "sample_id",
        "'a' stands twice",
    ),
    "group in two splits": (
        changed(sample_rows(), 4, group="g1"),
        None,
        "samples",
        4,
        "group",
        "group 'g1' is in two splits, 'train' and 'test'",
    ),
    "unknown split": (
        changed(sample_rows(), 3, split="validaton"),
        None,
        "samples",
        3,
        "split",
        "unknown split 'validaton'. Did you mean 'validation'?",
    ),
    "unknown modality": (
        changed(sample_rows(), 0, modality="audio"),
        None,
        "samples",
        0,
        "modality",
        "unknown modality 'audio'",
    ),
    "missing video": (
        changed(sample_rows(), 2, path="clips/none.mp4"),
        None,
        "samples",
        2,
        "path",
        "'clips/none.mp4': no such file",
    ),
    "folder instead of a video": (
        changed(sample_rows(), 2, path="clips"),
        None,
        "samples",
        2,
        "path",
        "'clips': no such file",
    ),
    "path above the root": (
        changed(sample_rows(), 1, path="../secret.mp4"),
        None,
        "samples",
        1,
        "path",
        "'../secret.mp4' leads outside of",
    ),
    "path out and in again elsewhere": (
        changed(sample_rows(), 1, path="clips/../../tiny-other/a.mp4"),
        None,
        "samples",
        1,
        "path",
        "leads outside of",
    ),
    "absolute path": (
        changed(sample_rows(), 1, path="/etc/hostname"),
        None,
        "samples",
        1,
        "path",
        "'/etc/hostname' leads outside of",
    ),
    "foreign scheme": (
        changed(sample_rows(), 4, path="http://example.org/a.mp4"),
        None,
        "samples",
        4,
        "path",
        "allowed schemes are file",
    ),
    "empty sample id": (
        changed(sample_rows(), 3, sample_id=""),
        None,
        "samples",
        3,
        "sample_id",
        "is empty",
    ),
    "empty group": (
        changed(sample_rows(), 3, group=""),
        None,
        "samples",
        3,
        "group",
        "is empty",
    ),
}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("fault", BAD)
def test_bad_tables_are_refused_by_file_row_and_column(tmp_path, fault, kind):
    samples, annotations, file, record, column, says = BAD[fault]
    (tmp_path / "secret.mp4").write_bytes(b"")
    (tmp_path / "tiny-other").mkdir()
    (tmp_path / "tiny-other" / "a.mp4").write_bytes(b"")
    message = refusal(make(tmp_path, samples, annotations, kind=kind), tmp_path)
    where = str(tmp_path / "tiny" / f"{file}.{kind}")
    if record is not None:
        # In a CSV file people see the header as line 1.
        where += f", row {record + (2 if kind == 'csv' else 1)}, column {column!r}"
    assert message.startswith(f"{where}: ")
    assert says in message


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_relevance_that_is_nothing_is_refused(tmp_path, kind):
    rows = changed(annotation_rows(), 1, relevance=None)
    message = refusal(make(tmp_path, annotations=rows, kind=kind), tmp_path)
    assert f"annotations.{kind}, row {3 if kind == 'csv' else 2}, column 'relevance': " in message


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("column", ["sample_id", "topic", "annotator"])
def test_an_annotation_without_a_name_is_refused(tmp_path, column, kind):
    rows = changed(annotation_rows(), 1, **{column: None})
    message = refusal(make(tmp_path, annotations=rows, kind=kind), tmp_path)
    assert f"annotations.{kind}, row {3 if kind == 'csv' else 2}, column {column!r}: is empty" in message


def test_categories_of_another_writer_are_text(tmp_path):
    config = make(tmp_path, kind="parquet")
    frame = pd.DataFrame(annotation_rows()).astype({"topic": "category", "sample_id": "category"})
    frame["annotator"] = pd.Categorical([1, 2, 1, 2])
    frame.to_parquet(tmp_path / "tiny" / "annotations.parquet")
    assert pairs(read_dataset(config, tmp_path))["d", "red circle"] == 0.5


def test_lists_are_no_names(tmp_path):
    config = make(tmp_path, kind="parquet")
    rows = [{**row, "annotator": ["x", "y"]} for row in annotation_rows()]
    pd.DataFrame(rows).to_parquet(tmp_path / "tiny" / "annotations.parquet")
    assert "row 1, column 'annotator': ['x', 'y'] is not a string" in refusal(config, tmp_path)


def test_nan_is_no_relevance(tmp_path):
    config = make(tmp_path)
    (tmp_path / "tiny" / "annotations.csv").write_text("sample_id,topic,annotator,relevance\na,red circle,x,NaN\n")
    assert "row 2, column 'relevance': nan is not a number from 0 to 1" in refusal(config, tmp_path)


def test_a_word_is_no_relevance(tmp_path):
    rows = [{**row, "relevance": "high" if index == 2 else "0.5"} for index, row in enumerate(annotation_rows())]
    assert "row 4, column 'relevance': 'high' is not a number" in refusal(make(tmp_path, annotations=rows), tmp_path)


def test_a_fault_in_many_rows_is_told_once_with_their_number(tmp_path):
    rows = [{**row, "sample_id": "zz"} for row in annotation_rows()]
    assert "(3 more rows have the same fault.)" in refusal(make(tmp_path, annotations=rows), tmp_path)


@pytest.mark.parametrize(
    ("content", "row"),
    [
        ("sample_id,topic,annotator,relevance\n\n\na,red circle,x,0.5\n\na,red circle,y,7\n", 6),
        ('sample_id,topic,annotator,relevance\na,red circle,"x\ny",0.5\na,red circle,y,7\n', 4),
    ],
    ids=["blank lines", "a cell of two lines"],
)
def test_rows_are_counted_as_a_text_editor_counts_lines(tmp_path, content, row):
    config = make(tmp_path)
    (tmp_path / "tiny" / "annotations.csv").write_text(content)
    assert f"annotations.csv, row {row}, column 'relevance': 7.0 is not" in refusal(config, tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b"sample_id,topic,annotator,relevance\na,red circle,x\n", ", row 2: 3 cells, but the header has 4"),
        (b"sample_id,topic,annotator,relevance,topic\na,red circle,x,1,y\n", "column 'topic' stands twice"),
        (b"sample_id#topic#annotator#relevance\na#red circle#x#1\n", "column 'sample_id' is missing"),
        (b"sample_id,topic,annotator,relevance\n\xff\xfe,red circle,x,1\n", "not readable as a table"),
    ],
    ids=["empty", "short row", "column twice", "unknown separator", "not UTF-8"],
)
def test_files_that_are_no_tables_are_refused(tmp_path, content, says):
    config = make(tmp_path)
    (tmp_path / "tiny" / "annotations.csv").write_bytes(content)
    message = refusal(config, tmp_path)
    assert message.startswith(str(tmp_path / "tiny" / "annotations.csv"))
    assert says in message


def test_a_parquet_file_that_is_none_is_refused(tmp_path):
    config = make(tmp_path, kind="parquet")
    (tmp_path / "tiny" / "samples.parquet").write_bytes(b"PAR1 half a file")
    assert refusal(config, tmp_path).startswith(f"{tmp_path / 'tiny' / 'samples.parquet'}: not readable as a table")


def test_a_table_without_samples_is_refused(tmp_path):
    config = make(tmp_path)
    (tmp_path / "tiny" / "samples.csv").write_text("sample_id,path,modality,group,split\n")
    assert "samples.csv: no samples" in refusal(config, tmp_path)


@pytest.mark.parametrize("file", ["samples.csv", "annotations.csv", "topics.txt"])
def test_a_missing_file_is_named(tmp_path, file):
    config = make(tmp_path)
    (tmp_path / "tiny" / file).unlink()
    with pytest.raises(DataError, match="no such file") as caught:
        read_dataset(config, tmp_path)
    assert str(tmp_path / "tiny" / file) in str(caught.value)


def test_a_missing_folder_tells_where_to_point(tmp_path):
    with pytest.raises(T2TError, match=r"'tiny': folder .* does not exist\. Set T2T_DATA"):
        read_dataset(DatasetConfig(name="tiny", root="tiny"), tmp_path)


def test_a_link_out_of_the_root_is_refused(tmp_path):
    config = make(tmp_path)
    (tmp_path / "secret.mp4").write_bytes(b"")
    clip = tmp_path / "tiny" / "clips" / "a.mp4"
    clip.unlink()
    os.symlink(tmp_path / "secret.mp4", clip)
    assert "row 2, column 'path': 'clips/a.mp4' leads outside of" in refusal(config, tmp_path)


@pytest.mark.parametrize(
    ("topics", "says"),
    [
        ("red circle\n\nblue square\n", "row 2: empty topic"),
        ("red circle\n   \nblue square\n", "row 2: empty topic"),
        ("red circle\nblue square\nred circle\n", "row 3: topic 'red circle' stands already in row 1"),
        ("red circle\nblue square\n red circle\t\n", "row 3: topic 'red circle' stands already in row 1"),
        ("", "no topics"),
        ("\n\n", "no topics"),
    ],
)
def test_bad_topics_are_refused_by_row(tmp_path, topics, says):
    message = refusal(make(tmp_path, topics=topics), tmp_path)
    assert message.startswith(str(tmp_path / "tiny" / "topics.txt"))
    assert says in message


def test_topics_that_are_not_utf8_are_refused(tmp_path):
    config = make(tmp_path)
    (tmp_path / "tiny" / "topics.txt").write_bytes("größe\n".encode("latin-1"))
    assert "topics.txt: not UTF-8" in refusal(config, tmp_path)
