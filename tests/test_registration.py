"""What enters the lake: data, teachers with their labels, campaigns; and what is refused."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from t2t.campaign import CampaignConfig
from t2t.dataset import HUMAN, Dataset, DatasetConfig, read_dataset
from t2t.errors import DataError, T2TError
from t2t.files import sha256
from t2t.lake import Lake, open_lake
from t2t.lake.tables import LABEL_SCHEMA, read_table
from t2t.ledger import TeacherRef
from t2t.progress import progress
from t2t.registration import (
    commit_data,
    freeze_campaign,
    label_commits,
    read_json,
    read_labels,
    register,
    registered,
)
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
        "tiny/teachers/vendor/asked.parquet",
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


# -- what is missing, and nothing else -------------------------------------------------------------------------------


class Counting:
    """A teacher that answers everything, of one confidence per pair, and remembers what it was asked."""

    def __init__(self, shard_samples: int | None = None, dies_at: int | None = None, extra: str = ""):
        self.entry = parse_entry({"id": "vendor", "kind": "labels", "path": f"any{extra}"}, "entry")
        self.shard_samples, self.dies_at = shard_samples, dies_at
        self.calls: list[tuple[list[str], list[str]]] = []

    def fingerprint(self) -> str:
        return sha256(self.entry.path)

    def label(self, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
        if len(self.calls) == self.dies_at:
            raise KeyboardInterrupt
        self.calls.append((samples["sample_id"].to_pylist(), list(topics)))
        with progress("Labeling", len(samples), "videos", part=True) as advance:
            rows = [(s, t, len(s + t) / 99) for s in samples["sample_id"].to_pylist() for t in topics]
            columns = [pa.array([row[i] for row in rows], LABEL_SCHEMA.types[j]) for i, j in ((0, 0), (1, 1), (2, 3))]
            columns.insert(2, pa.array(["vendor"] * len(rows)))
            yield pa.table(columns, schema=LABEL_SCHEMA)
            advance(len(samples))


def many(*names: str) -> pa.Table:
    return pa.table({"sample_id": list(names), "path": [f"{name}.mp4" for name in names]})


def ask(lake: Lake, work: Path, dataset: Dataset, teacher: Any, samples: pa.Table, *topics: str) -> None:
    register(lake, "main", dataset, teacher, samples, topics, work)


def pairs(lake: Lake, ref: str = "main") -> list[tuple[str, str]]:
    labels = read_labels(lake, ref, "tiny", "vendor")
    return list(zip(labels["sample_id"].to_pylist(), labels["topic"].to_pylist(), strict=True))


def content(lake: Lake, ref: str = "main") -> dict[str, bytes]:
    found = {}
    for entry in lake.list(ref):
        with lake.read(ref, entry.path) as file:
            found[entry.path] = file.read()
    return found


@pytest.mark.parametrize("shard", [None, 2])
def test_only_what_is_missing_is_asked_for(lake, work, dataset, shard):
    ask(lake, work, dataset, Counting(shard), many("a", "b"), "red")
    first, before = lake.resolve("main"), content(lake)
    later = Counting(shard)
    for _ in range(2):
        ask(lake, work, dataset, later, many("a", "c", "b"), "red", "blue")
    assert later.calls == [(["c"], ["red", "blue"]), (["a", "b"], ["blue"])]
    assert pairs(lake) == [("a", "red"), ("b", "red"), ("c", "red"), ("c", "blue"), ("a", "blue"), ("b", "blue")]
    known = registered(lake, "tiny", "vendor")
    assert (known["rows"], known["topics"]) == (6, ["red", "blue"])
    assert read_table(lake, "main", "tiny/teachers/vendor/asked.parquet")["sample_id"].to_pylist() == ["a", "b", "c"]
    assert len(set(keys(lake))) == 2
    assert label_commits(lake, "main", "tiny", ["vendor", "nobody"]) == {"vendor": lake.resolve("main"), "nobody": ""}
    # A round that read the first commit still reads what it read.
    assert content(lake, first) == before
    assert [path.name for path in work.iterdir()] == ["lake.git"]


def test_less_than_before_asks_nothing(lake, work, dataset):
    ask(lake, work, dataset, Counting(), many("a", "b"), "red", "blue")
    head = lake.resolve("main")
    less = Counting()
    ask(lake, work, dataset, less, many("b"), "blue")
    ask(lake, work, dataset, less, many(), "blue")
    assert less.calls == []
    assert lake.resolve("main") == head


@pytest.mark.parametrize("shard", [None, 2])
def test_a_teacher_without_anything_to_label_is_registered_once(lake, work, dataset, shard):
    for _ in range(2):
        ask(lake, work, dataset, Counting(shard), many(), "red")
    assert registered(lake, "tiny", "vendor")["rows"] == 0
    assert len(keys(lake)) == 1


def test_what_an_older_version_registered_is_not_labeled_twice(lake, work, dataset):
    ask(lake, work, dataset, Counting(), many("a"), "red", "blue")
    known = registered(lake, "tiny", "vendor")
    del known["topics"]
    old = open_lake("git", work / "old")
    files = {path: data for path, data in content(lake).items() if path.endswith("labels.parquet")}
    files["tiny/teachers/vendor/entry.json"] = json.dumps(known).encode()
    old.commit("main", files, f"teacher:tiny:vendor:{known['fingerprint']}", "m", {})
    later = Counting()
    for _ in range(2):
        ask(old, work, dataset, later, many("a", "b"), "red", "blue")
    assert later.calls == [(["b"], ["red", "blue"])]
    assert len(pairs(old)) == len(set(pairs(old))) == 4


def test_new_samples_without_annotations_are_no_news_of_the_ground_truth(lake, work, dataset):
    enter(lake, work, dataset, human(dataset))
    head = lake.resolve("main")
    register(lake, "main", dataset, human(dataset), many("a", "b", "c", "new"), dataset.topics, work)
    assert lake.resolve("main") == head
    # A sample that could not be read at first has its annotations from when it can.
    part = open_lake("git", work / "part")
    register(part, "main", dataset, human(dataset), many("a"), dataset.topics, work)
    assert confidences(part, "main", HUMAN) == {"a": 1}
    register(part, "main", dataset, human(dataset), many("a", "c"), dataset.topics, work)
    assert confidences(part, "main", HUMAN) == {"a": 1, "c": 0}


@pytest.mark.parametrize("dies_at", [0, 1, 2])
def test_labeling_goes_on_after_its_last_part(lake, work, dataset, dies_at, caplog):
    samples = many("a", "b", "c", "d", "e")
    calm = open_lake("git", work / "calm")
    whole = Counting(2)
    ask(calm, work, dataset, whole, samples, "red", "blue")
    assert [names for names, _ in whole.calls] == [["a", "b"], ["c", "d"], ["e"]]

    with pytest.raises(KeyboardInterrupt):
        ask(lake, work, dataset, Counting(2, dies_at), samples, "red", "blue")
    assert registered(lake, "tiny", "vendor") is None
    assert len(list(work.glob("labeling/*/part-*.parquet"))) == dies_at
    again = Counting(2)
    caplog.clear()
    with caplog.at_level(logging.INFO, "t2t"):
        ask(lake, work, dataset, again, samples, "red", "blue")
    assert again.calls == whole.calls[dies_at:]
    assert content(lake) == content(calm)
    assert not (work / "labeling").exists()
    # One line for the whole, which knows what was done before.
    assert [line.split(",")[0] for line in caplog.messages if line.startswith("Labeling")] == ["Labeling: 5/5 videos"]


def test_parts_of_other_labels_are_not_taken_for_these(lake, work, dataset):
    samples = many("a", "b", "c", "d")
    with pytest.raises(KeyboardInterrupt):
        ask(lake, work, dataset, Counting(2, 1), samples, "red")
    others = ((Counting(2, extra="2"), samples), (Counting(1), samples), (Counting(2), many("a", "d")))
    for number, (other, wanted) in enumerate(others):
        place = work / f"other-{number}"
        shutil.copytree(work / "labeling", place / "labeling")
        ask(open_lake("git", place), place, dataset, other, wanted, "red")
        assert sum(len(names) for names, _ in other.calls) == len(wanted)


@pytest.mark.parametrize("shard", [None, 2])
@pytest.mark.parametrize(("further", "calls"), [((), []), (("d",), [(["d"], ["red"])])])
def test_two_processes_neither_repeat_nor_lose_labels(lake, work, dataset, further, calls, shard):
    begun, waits = threading.Event(), threading.Event()

    class Slow(Counting):
        def label(self, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
            begun.set()
            assert waits.wait(30)
            yield from super().label(samples, topics)

    class Watch(logging.Handler):
        def emit(self, line: logging.LogRecord) -> None:
            if "waiting for it" in line.getMessage():
                waits.set()

    log, handler = logging.getLogger("t2t"), Watch()
    log.addHandler(handler)
    level = log.level
    log.setLevel(logging.INFO)
    second = Counting(shard)
    asks = many("b", "c", *further)
    try:
        with ThreadPoolExecutor() as pool:
            first = pool.submit(ask, lake, work, dataset, Slow(shard), many("a", "b", "c"), "red")
            assert begun.wait(30)
            other = pool.submit(ask, open_lake("git", work), work, dataset, second, asks, "red")
            first.result(30), other.result(30)
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    assert second.calls == calls
    assert len(keys(lake)) == 1 + len(calls)
    assert pairs(lake) == [(name, "red") for name in ("a", "b", "c", *further)]
    assert not (work / "labeling").exists()


def test_parts_that_a_kill_left_behind_a_commit_are_removed(lake, work, dataset):
    with pytest.raises(KeyboardInterrupt):
        ask(lake, work, dataset, Counting(2, 1), many("a", "b", "c"), "red")
    (left,) = work.glob("labeling/*")
    kept = work / "kept"
    shutil.copytree(left, kept)
    ask(lake, work, dataset, Counting(2), many("a", "b", "c"), "red")
    shutil.copytree(kept, left)
    idle = Counting(2)
    ask(lake, work, dataset, idle, many("a", "b", "c"), "red")
    assert idle.calls == []
    assert not (work / "labeling").exists()


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
        {"health": {"constant": "block", "min_distinct": 5}},
    ],
    ids=["more rounds", "more patience", "one more teacher", "description", "health"],
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


def test_a_newer_version_with_new_keys_has_not_changed_the_configuration(lake):
    frozen = json.loads(campaign().model_dump_json())
    del frozen["health"], frozen["gate"], frozen["training"]["noise"]
    lake.commit("main", {f"{PREFIX}campaign.json": json.dumps(frozen).encode()}, "k", "m", {})
    freeze_campaign(lake, PREFIX, campaign())
    with pytest.raises(T2TError, match="changed since: gate, training"):
        freeze_campaign(lake, PREFIX, campaign(gate="always", training={"noise": 0.5}))


def test_a_configuration_that_cannot_be_read_any_more_is_compared_as_it_is(lake):
    frozen = json.loads(campaign().model_dump_json()) | {"temperature": 1}
    lake.commit("main", {f"{PREFIX}campaign.json": json.dumps(frozen).encode()}, "k", "m", {})
    with pytest.raises(T2TError, match="changed since: temperature"):
        freeze_campaign(lake, PREFIX, campaign())


def test_a_retracted_teacher_may_be_taken_out(lake):
    freeze_campaign(lake, PREFIX, campaign(teachers=["vendor", "expert"]))
    freeze_campaign(lake, PREFIX, campaign(), retracted={"expert"})
    with pytest.raises(T2TError, match="changed since: teachers"):
        freeze_campaign(lake, PREFIX, campaign())
