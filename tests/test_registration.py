"""What enters the lake: data, teachers with their labels, campaigns; and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from t2t.campaign import CampaignConfig
from t2t.dataset import HUMAN, Dataset, DatasetConfig, read_dataset
from t2t.errors import DataError, T2TError
from t2t.lake import Lake, open_lake
from t2t.lake.tables import LABEL_SCHEMA, read_table
from t2t.ledger import TeacherRef
from t2t.registration import commit_data, freeze_campaign, read_json, read_labels, register, registered
from t2t.teachers import Teacher, TeacherContext, build, parse_entry

SAMPLES = """sample_id,path,modality,group,split
a,a.mp4,video,g1,train
b,a.mp4,video,g2,unlabeled
c,a.mp4,video,g3,test
"""
ANNOTATIONS = "sample_id,topic,annotator,relevance\na,red circle,x,1\nc,red circle,x,0\n"
NOTHING = pa.table({name: pa.array([], pa.string()) for name in ("sample_id", "path", "reason")})
PREFIX = "tiny/campaigns/first/"


@pytest.fixture
def work(tmp_path) -> Path:
    return tmp_path / "work"


@pytest.fixture
def lake(work) -> Lake:
    return open_lake("git", work)


def make(data: Path, annotations: str = ANNOTATIONS) -> Dataset:
    root = data / "tiny"
    root.mkdir(parents=True, exist_ok=True)
    for name, text in {
        "samples.csv": SAMPLES,
        "annotations.csv": annotations,
        "topics.txt": "red circle\nblue square\n",
        "a.mp4": "not looked at",
    }.items():
        (root / name).write_text(text)
    return read_dataset(DatasetConfig(name="tiny", root="tiny"), data)


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    return make(tmp_path / "data")


def teacher(dataset: Dataset, teacher_id: str = "vendor", **confidence: float) -> Teacher:
    """Kind `labels`: its confidence of "red circle" for each named sample."""
    rows = [f"{sample},red circle,{value}\n" for sample, value in confidence.items()]
    (dataset.root / "labels.csv").write_text("".join(["sample_id,topic,confidence\n", *rows]))
    entry = parse_entry({"id": teacher_id, "kind": "labels", "path": "labels.csv"}, "entry")
    return build(entry, TeacherContext(dataset, Path()))


def human(dataset: Dataset) -> Teacher:
    return build(parse_entry({"id": HUMAN, "kind": "annotations"}, "entry"), TeacherContext(dataset, Path()))


def enter(lake: Lake, work: Path, dataset: Dataset, teacher: Teacher, branch: str = "main", **more: Any) -> TeacherRef:
    return register(lake, branch, dataset, teacher, dataset.samples, dataset.topics, work, **more)


def confidences(lake: Lake, ref: str, teacher_id: str = "vendor") -> dict[str, float]:
    labels = read_labels(lake, ref, "tiny", teacher_id)
    return dict(zip(labels["sample_id"].to_pylist(), labels["confidence"].to_pylist(), strict=True))


def keys(lake: Lake, ref: str = "main") -> list[str]:
    return [commit.key for commit in lake.log(ref) if commit.key]


# -- teachers --------------------------------------------------------------------------------------------------------


def test_entry_and_labels_enter_in_one_commit(lake, work, dataset):
    before = lake.resolve("main")
    found = enter(lake, work, dataset, teacher(dataset, a=0.5, b=0.25), metadata={"round": "0"})
    (commit, *rest) = lake.log("main")
    assert [parent.id for parent in rest] == [before]
    assert commit.parents == (before,)
    assert [entry.path for entry in lake.list("main")] == [
        "tiny/teachers/vendor/entry.json",
        "tiny/teachers/vendor/labels.parquet",
    ]
    assert confidences(lake, "main") == {"a": 0.5, "b": 0.25}
    assert read_labels(lake, "main", "tiny", "vendor").schema == LABEL_SCHEMA
    known = registered(lake, "tiny", "vendor")
    assert found == TeacherRef(id="vendor", fingerprint=known["fingerprint"])
    assert (known["id"], known["kind"], known["rows"]) == ("vendor", "labels", 2)
    assert known["entry"]["path"] == "labels.csv"
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
    assert registered(lake, "tiny", "vendor", "first-round-0")["rows"] == 1
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
        assert registered(lake, "tiny", HUMAN)["fingerprint"] == first.fingerprint
        assert confidences(lake, "main", HUMAN) == {"a": 1, "c": 0}
    assert len(keys(lake)) == 3


@pytest.mark.parametrize(("ref", "path"), [("main", "none.json"), ("none", "tiny/teachers/vendor/entry.json")])
def test_json_that_is_not_there_is_none(lake, ref, path):
    assert read_json(lake, ref, path) is None


# -- data ------------------------------------------------------------------------------------------------------------


def test_data_enters_without_this_machines_paths(lake, work, dataset):
    unreadable = pa.table({"sample_id": ["b"], "path": ["/here/b.mp4"], "reason": ["no video stream"]})
    commit = commit_data(lake, replace(dataset, unseen=frozenset({"blue square"})), unreadable, work)
    assert [entry.path for entry in lake.list(commit, "tiny/data/")] == [
        "tiny/data/human.parquet",
        "tiny/data/quarantine.parquet",
        "tiny/data/samples.parquet",
        "tiny/data/topics.json",
    ]
    assert read_table(lake, commit, "tiny/data/samples.parquet").column_names == [
        "sample_id",
        "modality",
        "group",
        "split",
    ]
    assert read_table(lake, commit, "tiny/data/human.parquet").to_pylist() == dataset.human.to_pylist()
    assert read_table(lake, commit, "tiny/data/quarantine.parquet").to_pylist() == [
        {"sample_id": "b", "reason": "no video stream"}
    ]
    with lake.read(commit, "tiny/data/topics.json") as file:
        assert json.load(file) == [
            {"topic": "red circle", "unseen": False},
            {"topic": "blue square", "unseen": True},
        ]


def test_the_same_data_again_changes_nothing_and_other_data_does(lake, work, dataset):
    first = commit_data(lake, dataset, NOTHING, work)
    assert commit_data(lake, dataset, NOTHING, work) == first
    grown = make(dataset.root.parent, ANNOTATIONS + "b,red circle,x,0.5\n")
    second = commit_data(lake, grown, NOTHING, work)
    assert second != first
    assert len(read_table(lake, "main", "tiny/data/human.parquet")) == 3
    assert len(read_table(lake, first, "tiny/data/human.parquet")) == 2


def test_data_that_is_taken_back_is_there_again(lake, work, dataset):
    commit_data(lake, dataset, NOTHING, work)
    grown = make(dataset.root.parent, ANNOTATIONS + "b,red circle,x,0.5\n")
    commit_data(lake, grown, NOTHING, work)
    back = make(dataset.root.parent)
    third = commit_data(lake, back, NOTHING, work)
    assert len(read_table(lake, "main", "tiny/data/human.parquet")) == 2
    assert commit_data(lake, back, NOTHING, work) == third == lake.resolve("main")


def test_the_quarantines_content_counts_and_its_paths_do_not(lake, work, dataset):
    commits = []
    for name, folder in (("a", "/here"), ("b", "/here"), ("b", "/moved")):
        quarantine = pa.table({"sample_id": [name], "path": [f"{folder}/{name}.mp4"], "reason": ["empty"]})
        commits.append(commit_data(lake, dataset, quarantine, work))
    assert commits[0] != commits[1] == commits[2]
    assert read_table(lake, "main", "tiny/data/quarantine.parquet")["sample_id"].to_pylist() == ["b"]


# -- campaigns -------------------------------------------------------------------------------------------------------


def campaign(**changes: Any) -> CampaignConfig:
    content = {"name": "first", "dataset": "tiny", "teachers": ["vendor"], "encoder": {"kind": "pixels"}}
    return CampaignConfig.model_validate(content | changes)


def test_a_campaign_is_frozen_at_its_first_start(lake):
    freeze_campaign(lake, PREFIX, campaign())
    head = lake.resolve("main")
    frozen = read_json(lake, "main", f"{PREFIX}campaign.json")
    assert CampaignConfig.model_validate(frozen) == campaign()
    freeze_campaign(lake, PREFIX, campaign())
    assert lake.resolve("main") == head


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"training": {"steps": 77}}, "training"),
        ({"encoder": {"kind": "pixels", "frames": 3}}, "encoder"),
        ({"dataset": "other"}, "dataset"),
        ({"seed": 1}, "seed"),
        ({"gate": "must-improve", "teachers_see_unseen": True}, "gate, teachers_see_unseen"),
        ({"self_training": {"top_k": 1}}, "self_training"),
        ({"teachers": []}, "teachers"),
        ({"teachers": ["other"]}, "teachers"),
    ],
)
def test_a_changed_configuration_is_refused_by_its_keys(lake, changes, named):
    freeze_campaign(lake, PREFIX, campaign())
    head = lake.resolve("main")
    with pytest.raises(T2TError) as caught:
        freeze_campaign(lake, PREFIX, campaign(**changes))
    message = str(caught.value)
    assert message.startswith(f"Campaign 'first' has begun with another configuration; changed since: {named}. ")
    assert "--name" in message
    assert lake.resolve("main") == head


@pytest.mark.parametrize(
    "changes",
    [
        {"rounds": {"max": 9}},
        {"rounds": {"max": 9, "patience": 9}},
        {"teachers": ["vendor", "appearance"]},
        {"description": "Told better."},
    ],
    ids=["more rounds", "more patience", "one more teacher", "description"],
)
def test_a_campaign_may_be_prolonged_and_have_more_teachers(lake, changes):
    freeze_campaign(lake, PREFIX, campaign())
    freeze_campaign(lake, PREFIX, campaign(**changes))
    with pytest.raises(T2TError, match="changed since: seed"):
        freeze_campaign(lake, PREFIX, campaign(**changes, seed=5))


def test_another_name_is_another_campaign(lake):
    freeze_campaign(lake, PREFIX, campaign())
    freeze_campaign(lake, "tiny/campaigns/second/", campaign(name="second", seed=1))
    assert read_json(lake, "main", "tiny/campaigns/second/campaign.json")["seed"] == 1
    assert read_json(lake, "main", f"{PREFIX}campaign.json")["seed"] == 0
