"""Kinds `labels` and `annotations`: tables of confidences become label tables, or are refused."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from t2t.core.errors import DataError, T2TError
from t2t.data.dataset import Dataset, DatasetConfig
from t2t.data.labels import HUMAN, LABEL_SCHEMA
from t2t.teachers import Teacher, TeacherContext, build, kind_names, parse_entry
from t2t.teachers.kinds import labels

pytestmark = pytest.mark.unit

TOPICS = ("red circle", "blue square", "a spinning star")
ROWS = [
    ("a", "red circle", 1.0),
    ("a", "blue square", 0.25),
    ("b", "red circle", 0.0),
    ("c", "a spinning star", 0.125),
    ("d", "red circle", 0.5),
]


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    """Samples a to d; d is of the test split. The ground truth is one pair."""
    samples = pa.table({"sample_id": list("abcd"), "split": ["train", "train", "unlabeled", "test"]})
    human = pa.table(
        {
            "sample_id": ["a", "d"],
            "topic": ["red circle", "blue square"],
            "confidence": pa.array([1, 0.5], pa.float32()),
        }
    )
    (tmp_path / "tiny").mkdir()
    return Dataset(DatasetConfig(name="tiny", root="tiny"), tmp_path / "tiny", samples, human, TOPICS, frozenset())


def save(path: Path, rows: list[tuple[Any, Any, Any]]) -> Path:
    frame = pd.DataFrame(rows, columns=["sample_id", "topic", "confidence"])
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    return path


def make(dataset: Dataset, path: str | Path, **keys: Any) -> Teacher:
    entry = parse_entry({"id": "vendor", "kind": "labels", "path": str(path), **keys}, "vendor.yaml")
    return build(entry, TeacherContext(dataset, dataset.root / "work"))


def label(teacher: Teacher, dataset: Dataset, topics: tuple[str, ...] = TOPICS) -> list[tuple[str, str, str, float]]:
    tables = list(teacher.label(dataset.samples, topics))
    assert all(table.schema == LABEL_SCHEMA for table in tables)
    return [tuple(row.values()) for table in tables for row in table.to_pylist()]


# -- what it yields --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vendor.csv", "vendor.parquet"])
def test_the_rows_of_the_file_are_the_labels(dataset, name):
    teacher = make(dataset, save(dataset.root / name, ROWS))
    assert label(teacher, dataset) == [(sample, topic, "vendor", value) for sample, topic, value in ROWS]


def test_a_relative_path_starts_at_the_datasets_root(dataset):
    save(dataset.root / "vendor.csv", ROWS)
    assert len(label(make(dataset, "vendor.csv"), dataset)) == len(ROWS)


def test_only_the_samples_and_topics_asked_for_are_labeled(dataset):
    teacher = make(dataset, save(dataset.root / "vendor.csv", ROWS))
    train = dataset.split("train")
    tables = list(teacher.label(train, ("red circle",)))
    assert [table.select(["sample_id", "topic"]).to_pylist() for table in tables] == [
        [{"sample_id": "a", "topic": "red circle"}, {"sample_id": "b", "topic": "red circle"}]
    ]


def test_batches_are_bounded(dataset, monkeypatch):
    monkeypatch.setattr(labels, "BATCH_ROWS", 2)
    teacher = make(dataset, save(dataset.root / "vendor.csv", ROWS))
    tables = list(teacher.label(dataset.samples, TOPICS))
    assert [len(table) for table in tables] == [2, 2, 1]
    assert pa.concat_tables(tables)["confidence"].to_pylist() == [value for _, _, value in ROWS]


# -- what it refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("record", "row", "column", "says"),
    [
        (1, ("zz", "red circle", 0.5), "sample_id", "unknown sample 'zz'"),
        (2, ("b", "red circel", 0.5), "topic", "unknown topic 'red circel'. Did you mean 'red circle'?"),
        (3, ("c", "red circle", 1.0001), "confidence", "1.0001 is not a number from 0 to 1"),
        (4, ("d", "red circle", -1), "confidence", "-1.0 is not a number from 0 to 1"),
        (0, ("a", "red circle", float("-inf")), "confidence", "-inf is not a number from 0 to 1"),
        (4, ("a", "blue square", 0.5), "topic", "'a', 'blue square' stands twice"),
        (1, ("", "blue square", 0.5), "sample_id", "is empty"),
        (1, ("a", None, 0.5), "topic", "is empty"),
        (1, ("a", "blue square", None), "confidence", "is empty"),
    ],
)
def test_a_bad_row_is_refused_by_file_row_and_column(dataset, kind, record, row, column, says):
    rows: list[tuple[Any, Any, Any]] = list(ROWS)
    rows[record] = row
    path = save(dataset.root / f"vendor.{kind}", rows)
    with pytest.raises(DataError) as caught:
        label(make(dataset, path), dataset)
    line = record + (2 if kind == "csv" else 1)
    assert str(caught.value).startswith(f"{path}, row {line}, column {column!r}: ")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sample_id,topic,confidence\na,red circle,nan\n", "row 2, column 'confidence': nan is not a number from 0"),
        ("sample_id,topic,confidence\na,red circle,sure\n", "row 2, column 'confidence': 'sure' is not a number"),
        ("sample_id,topic,score\na,red circle,1\n", "column 'confidence' is missing. Known: sample_id, score, topic."),
        ("sample_id,topic,confidence\na,red circle\n", "row 2: 2 cells, but the header has 3"),
        ("", "the file is empty"),
    ],
)
def test_a_bad_file_is_refused(dataset, text, says):
    path = dataset.root / "vendor.csv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        label(make(dataset, path), dataset)
    assert str(caught.value).startswith(str(path))
    assert says in str(caught.value)


def test_faults_in_rows_that_nobody_asked_for_are_refused_too(dataset):
    """A file is trusted as a whole or not at all: what a later campaign asks for comes from the same file."""
    path = save(dataset.root / "vendor.csv", [*ROWS, ("d", "blue square", 7)])
    with pytest.raises(DataError, match=r"row 7, column 'confidence': 7\.0"):
        list(make(dataset, path).label(dataset.split("train"), ("red circle",)))


def test_a_missing_file_is_refused_when_the_teacher_is_built(dataset):
    with pytest.raises(DataError, match=r"none\.csv: no such file \(label file of teacher 'vendor'\)"):
        make(dataset, "none.csv")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"id": "v", "kind": "labels", "pth": "a.csv"}, "unknown key 'pth'. Did you mean 'path'?"),
        ({"id": "v", "kind": "labels"}, "key 'path' is missing"),
        ({"kind": "labels", "path": "a.csv"}, "key 'id' is missing"),
        ({"id": "a b", "kind": "labels", "path": "a.csv"}, "key 'id'"),
        ({"id": "../a", "kind": "labels", "path": "a.csv"}, "key 'id'"),
        ({"id": HUMAN, "kind": "labels", "path": "a.csv"}, "'human' is reserved for the ground truth"),
        ({"id": "v", "kind": "label", "path": "a.csv"}, "unknown kind 'label'. Did you mean 'labels'?"),
        ({"id": "v", "path": "a.csv"}, "key 'kind' is missing. Known: altered, annotations, "),
    ],
)
def test_bad_entries_are_refused(content, says):
    with pytest.raises(T2TError) as caught:
        parse_entry(content, "v.yaml")
    assert str(caught.value).startswith("v.yaml: ")
    assert says in str(caught.value)


def test_the_kinds_of_this_package_are_known():
    assert {"annotations", "labels", "student", "timm"} <= set(kind_names())


# -- the fingerprint -------------------------------------------------------------------------------------------------


def test_the_fingerprint_is_of_content_not_of_place_time_or_description(dataset):
    path = save(dataset.root / "vendor.csv", ROWS)
    before = make(dataset, path).fingerprint()
    os.utime(path, (1, 1))
    assert make(dataset, path).fingerprint() == before
    (dataset.root / "moved").mkdir()
    moved = path.rename(dataset.root / "moved" / "other-name.csv")
    assert make(dataset, moved, description="Paid by the clip.").fingerprint() == before
    assert len(before) == 64


def test_the_fingerprint_changes_with_the_files_content(dataset):
    path = save(dataset.root / "vendor.csv", ROWS)
    before = make(dataset, path).fingerprint()
    save(path, [*ROWS[:-1], ("d", "red circle", 0.51)])
    assert make(dataset, path).fingerprint() != before


def test_the_fingerprint_changes_with_the_entry(dataset):
    path = save(dataset.root / "vendor.csv", ROWS)
    assert make(dataset, path, id="other").fingerprint() != make(dataset, path).fingerprint()


# -- the ground truth ------------------------------------------------------------------------------------------------


def human(dataset: Dataset) -> Teacher:
    return build(parse_entry({"id": HUMAN, "kind": "annotations"}, "human.yaml"), TeacherContext(dataset, Path()))


def test_the_ground_truth_labels_as_human(dataset):
    assert label(human(dataset), dataset) == [("a", "red circle", HUMAN, 1.0), ("d", "blue square", HUMAN, 0.5)]
    assert label(human(dataset), dataset, ("blue square",)) == [("d", "blue square", HUMAN, 0.5)]
    (table,) = human(dataset).label(dataset.split("train"), TOPICS)
    assert table["sample_id"].to_pylist() == ["a"]


def test_the_ground_truths_fingerprint_is_of_its_rows_in_any_order(dataset):
    before = human(dataset).fingerprint()
    turned = replace(dataset, human=dataset.human.take([1, 0]))
    assert human(turned).fingerprint() == before
    grown = replace(dataset, human=dataset.human.slice(0, 1))
    assert human(grown).fingerprint() != before


def test_what_the_file_says_nothing_about_is_told(dataset):
    asked = make(dataset, save(dataset.root / "vendor.csv", ROWS[:3]))
    label(asked, dataset)
    assert asked.remarks == ["1 of 3 topics have no label: a spinning star.", "2 of 4 samples have no label."]
