"""Answers that are added to a dataset's own files, and groups that get another split there."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from t2t.data.answers import Answer, append, merge, move_groups
from t2t.data.dataset import read_dataset
from t2t.data.limits import TableLimits
from tests.helpers.datasets import annotation_rows, make, pairs, sample_rows

NEW = [Answer("a", "blue square", "bo", 0.25, "x"), Answer("b", "red circle", 'says "hi", she', 1.0, "y")]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_answers_are_added_behind_what_is_there(tmp_path: Path, kind: str):
    config = make(tmp_path, kind=kind)
    path = tmp_path / "tiny" / config.annotations
    before = pairs(read_dataset(config, tmp_path))
    merged = merge(path, [*NEW, Answer("a", "red circle", "ann", 1.0)], TableLimits())
    assert (merged.new, merged.known, merged.conflicts) == (NEW, 1, [])
    append(path, merged.new)
    assert pairs(read_dataset(config, tmp_path)) == before | {("a", "blue square"): 0.25, ("b", "red circle"): 1.0}
    assert merge(path, NEW, TableLimits()).known == 2
    # With all their digits, or the same answers again would contradict themselves.
    third = [Answer("b", "blue square", "bo", 1 / 3, "z")]
    append(path, third)
    assert merge(path, third, TableLimits()).known == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "\ufeffnote;sample_id;topic;annotator;relevance\r\nhm;a;red circle;ann;0,5",
            "\r\n;a;blue square;bo;0.25\r\n",
        ),
        ("sep=|\nsample_id|topic|annotator|relevance\na|red circle|ann|1\n", "a|blue square|bo|0.25\n"),
        ('topic,sample_id,relevance,annotator\n"red circle",a,1,"ann"\n\n', "blue square,a,0.25,bo\n"),
    ],
)
def test_a_csv_file_stays_byte_for_byte_and_grows_in_its_own_way(tmp_path: Path, before: str, after: str):
    config = make(tmp_path)
    path = tmp_path / "tiny" / "annotations.csv"
    path.write_bytes(before.encode())
    append(path, NEW[:1])
    assert path.read_bytes() == (before + after).encode()
    assert pairs(read_dataset(config, tmp_path))[("a", "blue square")] == 0.25


def test_a_parquet_file_keeps_its_types_and_further_columns(tmp_path: Path):
    config = make(tmp_path, kind="parquet")
    path = tmp_path / "tiny" / "annotations.parquet"
    table = pa.table(
        {
            "sample_id": pa.array(["a"]).dictionary_encode(),
            "topic": pa.array(["red circle"], pa.large_string()),
            "annotator": pa.array(["ann"]),
            "relevance": pa.array([1], pa.int64()).cast(pa.float32()),
            "seconds": pa.array([3], pa.int32()),
        }
    )
    pq.write_table(table, path)
    append(path, NEW)
    after = pq.read_table(path)
    assert after.schema.remove_metadata() == table.schema.remove_metadata()
    assert after["seconds"].to_pylist() == [3, None, None]
    assert len(pairs(read_dataset(config, tmp_path))) == 3


def test_an_answer_of_the_same_person_that_differs_is_a_conflict(tmp_path: Path):
    config = make(tmp_path)
    merged = merge(
        tmp_path / "tiny" / config.annotations, [Answer("a", "red circle", "ann", 0.0, "here")], TableLimits()
    )
    assert merged.new == []
    assert "here: 'ann' said 0 of sample 'a' and topic 'red circle'" in merged.conflicts[0]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_groups_are_moved_whole_and_nothing_else_is(tmp_path: Path, kind: str):
    config = make(tmp_path, samples=[row | {"title": "x, y"} for row in sample_rows()], kind=kind)
    move_groups(tmp_path / "tiny" / config.samples, ["g2"], "train")
    frame = read_dataset(config, tmp_path).samples.to_pandas()
    assert dict(zip(frame["sample_id"], frame["split"], strict=True)) == {
        "a": "train",
        "b": "train",
        "c": "train",
        "d": "validation",
        "e": "test",
    }
    assert set(frame["title"]) == {"x, y"}


def test_a_samples_file_of_a_spreadsheet_keeps_its_marks(tmp_path: Path):
    config = make(tmp_path)
    path = tmp_path / "tiny" / "samples.csv"
    text = pd.DataFrame(sample_rows()).to_csv(index=False, sep=";", lineterminator="\r\n")
    path.write_bytes(("\ufeffsep=;\r\n" + text).encode())
    move_groups(path, ["g2"], "train")
    assert path.read_bytes() == ("\ufeffsep=;\r\n" + text.replace("g2;unlabeled", "g2;train")).encode()
    assert len(read_dataset(config, tmp_path).split("train")) == 3
    assert len(annotation_rows()) == 4
