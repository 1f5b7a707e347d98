"""How teachers with their labels enter the lake, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pyarrow as pa
import pytest

from t2t.campaign.freeze import commit_data
from t2t.core.errors import DataError, T2TError
from t2t.data.labels import HUMAN, LABEL_SCHEMA
from t2t.teachers import Teacher
from t2t.teachers.base import TeacherRef
from t2t.teachers.store import read_labels, registered
from tests.helpers.teachers import ANNOTATIONS, confidences, enter, human, keys, make, teacher

pytestmark = pytest.mark.unit

NOTHING = pa.table({name: pa.array([], pa.string()) for name in ("sample_id", "path", "reason")})


def test_entry_and_labels_enter_in_one_commit(lake, work, dataset):
    before = lake.resolve("main")
    found = enter(lake, work, dataset, teacher(dataset, a=0.5, b=0.25), metadata={"round": "0"})
    (commit, *rest) = lake.log("main")
    assert [parent.id for parent in rest] == [before]
    assert commit.parents == (before,)
    assert [entry.path for entry in lake.list("main")] == [
        "tiny/teachers/vendor/asked.parquet",
        "tiny/teachers/vendor/entry.json",
        "tiny/teachers/vendor/labels.parquet",
    ]
    assert confidences(lake, "main") == {"a": 0.5, "b": 0.25}
    assert read_labels(lake, "main", "tiny", "vendor").schema == LABEL_SCHEMA
    known = registered(lake, "tiny", "vendor")
    assert found == TeacherRef(id="vendor", fingerprint=known.fingerprint)
    assert (known.id, known.kind, known.rows) == ("vendor", "labels", 2)
    assert known.entry["path"] == "labels.csv"
    assert commit.metadata == {
        "dataset": "tiny",
        "teacher": "vendor",
        "fingerprint": found.fingerprint,
        "rows": "2",
        "round": "0",
    }


def test_registering_again_does_nothing(lake, work, dataset):
    first = enter(lake, work, dataset, teacher(dataset, a=0.5))
    head = lake.resolve("main")
    again = teacher(dataset, a=0.5)
    again.label = None  # type: ignore[assignment, method-assign]
    assert enter(lake, work, dataset, again) == first
    assert lake.resolve("main") == head


def test_the_same_id_with_other_content_is_refused(lake, work, dataset):
    first = enter(lake, work, dataset, teacher(dataset, a=0.5))
    head = lake.resolve("main")
    changed = teacher(dataset, a=0.75)
    with pytest.raises(T2TError, match="choose a new id") as caught:
        enter(lake, work, dataset, changed)
    message = str(caught.value)
    assert [
        part for part in ("'vendor'", first.fingerprint[:12], changed.fingerprint()[:12]) if part not in message
    ] == []
    assert lake.resolve("main") == head
    assert confidences(lake, "main") == {"a": 0.5}


def test_other_content_under_a_new_id_is_another_teacher(lake, work, dataset):
    enter(lake, work, dataset, teacher(dataset, a=0.5))
    enter(lake, work, dataset, teacher(dataset, "vendor-2", a=0.75))
    assert confidences(lake, "main") == {"a": 0.5}
    assert confidences(lake, "main", "vendor-2") == {"a": 0.75}


def test_a_teacher_on_a_branch_is_unknown_to_main_until_it_is_merged(lake, work, dataset):
    lake.branch("first-round-0")
    enter(lake, work, dataset, teacher(dataset, a=0.5), branch="first-round-0")
    assert registered(lake, "tiny", "vendor") is None
    assert registered(lake, "tiny", "vendor", "first-round-0").rows == 1
    lake.merge("first-round-0", "main", "m", "Merge", {})
    assert confidences(lake, "main") == {"a": 0.5}


def test_a_teacher_that_fails_half_way_leaves_nothing(lake, work, dataset):
    class Failing:
        def __init__(self, sound: Teacher):
            self.entry, self.fingerprint, self.sound = sound.entry, sound.fingerprint, sound

        def label(self, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
            yield from self.sound.label(samples, topics)
            raise DataError("labels.csv", "bad.", 7)

    head = lake.resolve("main")
    with pytest.raises(DataError, match="row 7"):
        enter(lake, work, dataset, Failing(teacher(dataset, a=0.5)))
    assert lake.resolve("main") == head
    assert registered(lake, "tiny", "vendor") is None
    assert [path.name for path in work.iterdir()] == ["lake.git"]


def test_files_on_their_way_are_removed(lake, work, dataset):
    enter(lake, work, dataset, teacher(dataset, a=0.5))
    commit_data(lake, dataset, NOTHING, work)
    assert [path.name for path in work.iterdir()] == ["lake.git"]


def test_two_datasets_keep_the_same_teacher_apart(lake, work, dataset):
    other = replace(dataset, config=dataset.config.model_copy(update={"name": "other"}))
    enter(lake, work, dataset, teacher(dataset, a=0.5))
    enter(lake, work, other, teacher(dataset, a=0.75))
    assert confidences(lake, "main") == {"a": 0.5}
    assert read_labels(lake, "main", "other", "vendor")["confidence"].to_pylist() == [0.75]


def test_the_ground_truth_may_grow_and_earlier_commits_keep_theirs(lake, work, dataset):
    enter(lake, work, dataset, human(dataset))
    before = lake.resolve("main")
    grown = make(dataset.root.parent, ANNOTATIONS + "b,red circle,x,0.5\n")
    enter(lake, work, grown, human(grown))
    assert confidences(lake, "main", HUMAN) == {"a": 1, "b": 0.5, "c": 0}
    assert confidences(lake, before, HUMAN) == {"a": 1, "c": 0}


def test_annotations_that_are_taken_back_are_the_ground_truth_again(lake, work, dataset):
    """The labels must be those of the fingerprint that is returned, though a commit of it stands in the log."""
    first = enter(lake, work, dataset, human(dataset))
    grown = make(dataset.root.parent, ANNOTATIONS + "b,red circle,x,0.5\n")
    enter(lake, work, grown, human(grown))
    back = make(dataset.root.parent)
    for _ in range(2):
        assert enter(lake, work, back, human(back)) == first
        assert registered(lake, "tiny", HUMAN).fingerprint == first.fingerprint
        assert confidences(lake, "main", HUMAN) == {"a": 1, "c": 0}
    assert len(keys(lake)) == 3
