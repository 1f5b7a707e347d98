"""The dataset contract: what is read, and each way in which people's tables are wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from t2t.dataset import Dataset, DatasetConfig, UnseenConfig, read_dataset
from t2t.errors import DataError, T2TError

Rows = list[dict[str, Any]]
TOPICS = ["red circle", "blue square", "a spinning star"]


def sample_rows() -> Rows:
    rows = []
    for name, group, split in [
        ("a", "g1", "train"),
        ("b", "g1", "train"),
        ("c", "g2", "unlabeled"),
        ("d", "g3", "validation"),
        ("e", "g4", "test"),
    ]:
        rows.append({"sample_id": name, "path": f"clips/{name}.mp4", "modality": "video", "group": group})
        rows[-1]["split"] = split
    return rows


def annotation_rows() -> Rows:
    triples = [("a", "red circle", 1.0), ("b", "blue square", 0.0), ("d", "red circle", 0.5), ("e", "red circle", 1.0)]
    return [{"sample_id": s, "topic": t, "annotator": "ann", "relevance": r} for s, t, r in triples]


def make(
    data: Path,
    samples: Rows | None = None,
    annotations: Rows | None = None,
    topics: str = "\n".join(TOPICS) + "\n",
    kind: str = "csv",
) -> DatasetConfig:
    """Writes the three files, and one file for each sample below `clips/`, into `<data>/tiny`."""
    root = data / "tiny"
    (root / "clips").mkdir(parents=True, exist_ok=True)
    for name in "abcde":
        (root / "clips" / f"{name}.mp4").write_bytes(b"not looked at")
    for name, rows in {
        "samples": sample_rows() if samples is None else samples,
        "annotations": annotation_rows() if annotations is None else annotations,
    }.items():
        frame = pd.DataFrame(rows)
        if kind == "csv":
            frame.to_csv(root / f"{name}.csv", index=False)
        else:
            frame.to_parquet(root / f"{name}.parquet")
    (root / "topics.txt").write_text(topics, encoding="utf-8")
    return DatasetConfig(name="tiny", root="tiny", samples=f"samples.{kind}", annotations=f"annotations.{kind}")


def refusal(config: DatasetConfig, data: Path) -> str:
    with pytest.raises(T2TError) as caught:
        read_dataset(config, data)
    return str(caught.value)


def pairs(dataset: Dataset) -> dict[tuple[str, str], float]:
    rows = dataset.human.to_pylist()
    return {(row["sample_id"], row["topic"]): row["confidence"] for row in rows}


# -- what is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_dataset_is_read(tmp_path, kind):
    dataset = read_dataset(make(tmp_path, kind=kind), tmp_path)
    assert dataset.topics == tuple(TOPICS) == dataset.seen
    assert dataset.unseen == frozenset()
    assert dataset.sample_ids() == ["a", "b", "c", "d", "e"]
    assert dataset.sample_ids("train", "test") == ["a", "b", "e"]
    assert dataset.samples["path"][2].as_py() == str(tmp_path / "tiny" / "clips" / "c.mp4")
    assert dataset.human.schema.field("confidence").type == pa.float32()
    assert pairs(dataset) == {
        ("a", "red circle"): 1.0,
        ("b", "blue square"): 0.0,
        ("d", "red circle"): 0.5,
        ("e", "red circle"): 1.0,
    }


def test_several_annotators_of_a_pair_are_averaged(tmp_path):
    rows = annotation_rows()
    for annotator, relevance in [("x", 0.0), ("y", 0.5)]:
        rows.append({"sample_id": "a", "topic": "red circle", "annotator": annotator, "relevance": relevance})
    dataset = read_dataset(make(tmp_path, annotations=rows), tmp_path)
    assert pairs(dataset)["a", "red circle"] == 0.5
    assert len(dataset.human) == 4


def test_further_columns_and_text_that_looks_like_numbers_are_kept(tmp_path):
    rows = sample_rows()
    for index, row in enumerate(rows):
        row |= {"sample_id": f"00{index}", "licence": "CC0"}
    annotations = [{"sample_id": "001", "topic": "red circle", "annotator": "007", "relevance": 1}]
    dataset = read_dataset(make(tmp_path, rows, annotations), tmp_path)
    assert dataset.sample_ids("train") == ["000", "001"]
    assert dataset.samples["licence"].to_pylist() == ["CC0"] * 5
    assert pairs(dataset) == {("001", "red circle"): 1.0}


@pytest.mark.parametrize("name", ["NA", "null", "nan", "True", "1e3"])
def test_names_that_other_readers_take_for_nothing_are_names(tmp_path, name):
    rows = sample_rows()
    rows[0]["sample_id"] = name
    annotations = [{"sample_id": name, "topic": "red circle", "annotator": "ann", "relevance": 1}]
    dataset = read_dataset(make(tmp_path, rows, annotations), tmp_path)
    assert pairs(dataset) == {(name, "red circle"): 1.0}


def test_tables_saved_by_a_spreadsheet_are_read(tmp_path):
    """A byte-order mark, carriage returns, quotes, and lines without end."""
    config = make(tmp_path)
    root = tmp_path / "tiny"
    root.joinpath("topics.txt").write_bytes(b"\xef\xbb\xbfred circle\r\nblue square\r\n\r\n")
    root.joinpath("annotations.csv").write_bytes(
        b'\xef\xbb\xbf"sample_id","topic","annotator","relevance"\r\n"a","red circle","Doe, J.","1"'
    )
    dataset = read_dataset(config, tmp_path)
    assert dataset.topics == ("red circle", "blue square")
    assert pairs(dataset) == {("a", "red circle"): 1.0}


def test_a_file_uri_is_a_path(tmp_path):
    outside = tmp_path / "other place" / "clip.mp4"
    outside.parent.mkdir()
    outside.write_bytes(b"")
    rows = sample_rows()
    rows[0]["path"] = outside.as_uri()
    assert "%20" in rows[0]["path"]
    dataset = read_dataset(make(tmp_path, rows), tmp_path)
    assert dataset.samples["path"][0].as_py() == str(outside)


# -- bad tables ------------------------------------------------------------------------------------------------------


def changed(rows: Rows, index: int, **cells: Any) -> Rows:
    rows[index] = rows[index] | cells
    return rows


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
        (b"sample_id;topic;annotator;relevance\na;red circle;x;1\n", "column 'sample_id' is missing"),
        (b"sample_id,topic,annotator,relevance\n\xff\xfe,red circle,x,1\n", "not readable as a table"),
    ],
    ids=["empty", "short row", "column twice", "semicolons", "not UTF-8"],
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


# -- the topic split -------------------------------------------------------------------------------------------------


def test_unseen_by_list(tmp_path):
    config = make(tmp_path).model_copy(update={"unseen": UnseenConfig(topics=("a spinning star", "red circle"))})
    dataset = read_dataset(config, tmp_path)
    assert dataset.unseen == {"a spinning star", "red circle"}
    assert dataset.seen == ("blue square",)


def test_a_listed_topic_that_does_not_exist_is_refused(tmp_path):
    config = make(tmp_path).model_copy(update={"unseen": UnseenConfig(topics=("red circel", "red circle"))})
    assert "Dataset 'tiny': unseen topics that are not in the topics file: red circel" in refusal(config, tmp_path)


def test_a_fraction_is_about_that_share_and_stable():
    topics = [f"topic {i}" for i in range(2000)]
    drawn = UnseenConfig(fraction=0.3).draw(topics)
    assert 0.25 < len(drawn) / len(topics) < 0.35
    assert UnseenConfig(fraction=0.3).draw(topics[::-1]) == drawn
    # A topic's lot does not depend on which other topics there are, and a larger fraction only adds.
    assert UnseenConfig(fraction=0.3).draw(topics[:100]) == drawn & set(topics[:100])
    assert drawn < UnseenConfig(fraction=0.4).draw(topics)
    assert UnseenConfig(fraction=0.3, seed=1).draw(topics) != drawn
    assert UnseenConfig(fraction=0).draw(topics) == frozenset()


def test_the_draw_is_the_same_on_every_machine_and_version():
    letters = list("abcdefghijklmnopqrstuvwxyz")
    assert "".join(sorted(UnseenConfig(fraction=0.2).draw(letters))) == "hy"


@pytest.mark.parametrize("values", [{}, {"topics": ["a"], "fraction": 0.1}, {"fraction": 1.0}, {"fraction": -0.1}])
def test_the_topic_split_is_given_one_way(values):
    with pytest.raises(ValueError):
        UnseenConfig(**values)


# -- the fingerprint -------------------------------------------------------------------------------------------------


def test_the_fingerprint_is_of_content_not_of_place(tmp_path):
    first = read_dataset(make(tmp_path / "here"), tmp_path / "here").fingerprint
    second = read_dataset(make(tmp_path / "there"), tmp_path / "there").fingerprint
    assert first == second


@pytest.mark.parametrize(
    "change",
    [
        {"samples": changed(sample_rows(), 2, split="test")},
        {"annotations": changed(annotation_rows(), 0, relevance=0.9)},
        {"topics": "\n".join([*TOPICS, "one more"])},
    ],
    ids=["samples", "annotations", "topics"],
)
def test_the_fingerprint_changes_with_each_file(tmp_path, change):
    before = read_dataset(make(tmp_path / "a"), tmp_path / "a").fingerprint
    assert read_dataset(make(tmp_path / "b", **change), tmp_path / "b").fingerprint != before


def test_the_fingerprint_changes_with_the_topic_split(tmp_path):
    config = make(tmp_path)
    before = read_dataset(config, tmp_path).fingerprint
    split = config.model_copy(update={"unseen": UnseenConfig(topics=("red circle",))})
    assert read_dataset(split, tmp_path).fingerprint != before
