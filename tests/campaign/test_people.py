"""Annotators as identities of a campaign: whole rounds, retraction of one, and names that are data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from t2t.campaign.campaign import Campaign
from t2t.campaign.preflight import preflight
from t2t.campaign.steps.rows import next_rows
from t2t.commands.data import check_data
from t2t.commands.health import health_json, print_health
from t2t.commands.lineage import lineage
from t2t.commands.plan.estimate import Estimates
from t2t.commands.retract import retract_teacher
from t2t.commands.teachers import teachers_json
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.data.people import OTHER, identity_of
from t2t.lake.layout import DatasetLayout
from t2t.lake.tables import read_json
from t2t.students.checkpoint import load
from t2t.teachers.store import read_labels, registered
from tests.helpers.campaigns import prepared, run, tiny_at
from tests.helpers.people import peopled
from tests.helpers.worlds import ROOT

PEOPLE = {"identities": True, "least": 20}
# Each by turns; the shortest list in which every kind of name is.
ODD = ["anna", "../x", "🦊 fox, red", "other", "a:b", "x" * 300, "team/a'b"]

Made = Callable[..., Workspace]


@pytest.fixture
def place(world: Path, tmp_path: Path, embeddings: Path) -> Made:
    def make(people: dict[str, Any] | None = None, annotators: list[str] | None = None) -> Workspace:
        made = peopled(world, tmp_path, PEOPLE if people is None else people, annotators or [])
        made.work.mkdir(exist_ok=True)
        (made.work / "embeddings").symlink_to(embeddings)
        return made

    return make


def taught(at_work: Campaign) -> list[list[str]]:
    return [[teacher.id for teacher in record.teachers] for record in at_work.ledger.records()]


def confidences(at_work: Campaign, teacher: str) -> dict[tuple[str, str], float]:
    rows = read_labels(at_work.lake, "main", "demo", teacher).to_pylist()
    return {(row["sample_id"], row["topic"]): row["confidence"] for row in rows}


def test_each_annotator_is_a_task_beside_human(place: Made) -> None:
    at_work = tiny_at(place())
    records = run(at_work)
    assert taught(at_work) == [
        ["human", "human/ann", "human/ben", "vendor"],
        ["human", "human/ann", "human/ben", "vendor", "tiny-self-0"],
    ]
    assert records[-1].identity == "human"
    student = load(at_work.checkpoint(records[0]), "cpu")
    assert list(student.teachers) == ["human", "human/ann", "human/ben", "vendor"]
    # What a student of its own teaches is nobody's opinion of people.
    assert not any("human/" in key for key in [*records[-1].watch, *records[-1].test, *records[-1].scales])
    frame = pd.read_csv(at_work.dataset.root / "annotations.csv")
    ann = frame[frame["annotator"] == "ann"]
    assert confidences(at_work, "human/ann") == {
        (row.sample_id, row.topic): pytest.approx(row.relevance) for row in ann.itertuples()
    }
    entry = registered(at_work.lake, "demo", "human/ann")
    assert entry is not None
    assert (entry.kind, entry.entry["annotators"]) == ("annotations", 1)
    listed = {row["id"]: row for row in teachers_json(at_work.workspace)}
    assert listed["human/ann"]["labels"] == len(ann)
    assert lineage(at_work.workspace, "human/ann")["id"] == "human/ann"


def test_only_rows_of_the_training_split_and_of_seen_topics_are_trained_on(place: Made) -> None:
    at_work = prepared(tiny_at(place(), teachers_see_unseen=True))
    names = at_work.lineup.of_round(0)
    coded = next_rows(at_work, at_work.lake.resolve("main"), names)
    train, seen = set(at_work.ids("train")), set(at_work.dataset.seen)
    counts = {}
    for name in ("human", "human/ann", "human/ben"):
        rows = coded.of(names.index(name))
        assert {coded.sample_ids[at].as_py() for at in np.unique(coded.sample[rows])} <= train
        assert {coded.topics[at] for at in np.unique(coded.topic[rows])} <= seen
        counts[name] = rows.stop - rows.start
    assert counts == at_work.dataset.people_rows(at_work.samples("train")["sample_id"].combine_chunks())
    plan = Estimates(at_work.workspace, at_work.config, probe=False).plan()
    assert plan.rounds[0].teachers == len(names)


def test_a_dataset_without_people_leaves_what_it_always_left(place: Made) -> None:
    at_work = prepared(tiny_at(place({})))
    paths = {entry.path for entry in at_work.lake.list("main")}
    assert not any("people" in path or "=" in path for path in paths)
    assert at_work.lineup.of_round(0) == ["human", "vendor"]
    entry = registered(at_work.lake, "demo", "human")
    assert entry is not None
    assert sorted(entry.entry) == ["description", "id", "kind"]


def test_identities_may_come_and_go_between_rounds(place: Made) -> None:
    made = place({})
    run(tiny_at(made, rounds={"max": 1}))
    path = made.file("datasets", "demo")
    plain = path.read_text(encoding="utf-8")
    path.write_text(f"{plain}\npeople: {{identities: true, least: 20}}\n", encoding="utf-8")
    run(tiny_at(made, rounds={"max": 2}))
    path.write_text(plain, encoding="utf-8")
    at_work = tiny_at(made, rounds={"max": 3})
    run(at_work)
    assert taught(at_work) == [
        ["human", "vendor"],
        ["human", "human/ann", "human/ben", "vendor", "tiny-self-0"],
        ["human", "vendor", "tiny-self-0", "tiny-self-1"],
    ]


def test_one_annotator_is_retracted_and_comes_back(place: Made, capsys: pytest.CaptureFixture[str]) -> None:
    made = place()
    at_work = tiny_at(made, rounds={"max": 1})
    run(at_work)
    before, all_of_ben = confidences(at_work, "human"), confidences(at_work, "human/ben")
    ann = confidences(at_work, "human/ann")
    differ = [pair for pair in ann if ann[pair] != all_of_ben[pair]]
    assert differ  # slips of the demo's annotators
    retract_teacher(made, "human/ben", "demo", "slips")
    told = capsys.readouterr().out
    assert "round 0: passed to retracted" in told
    assert "human is put together without these answers" in told
    assert told.count("is retracted: slips") == 1
    again = tiny_at(made, rounds={"max": 1})
    assert again.dataset.left_out == ("ben",)
    records = run(again)
    assert [record.status for record in records] == ["retracted", "passed"]
    assert taught(again)[1] == ["human", "human/ann", "vendor"]
    now = confidences(again, "human")
    assert {pair: now[pair] for pair in ann} == ann
    assert {pair: value for pair, value in now.items() if pair not in ann} == {
        pair: value for pair, value in before.items() if pair not in ann
    }
    # What the first round read stands where it stood.
    old = read_labels(again.lake, records[0].commit, "demo", "human").to_pylist()
    assert {(row["sample_id"], row["topic"]): row["confidence"] for row in old} == before
    retract_teacher(made, "human/ben", "demo", undo=True)
    back = tiny_at(made, rounds={"max": 3})
    records = run(back)
    assert [record.status for record in records] == ["passed"] * 3
    assert taught(back)[2][:4] == ["human", "human/ann", "human/ben", "vendor"]
    assert confidences(back, "human") == before


def test_who_shares_human_other_is_retracted_by_their_own_name(place: Made) -> None:
    made = place({"identities": True, "least": 160}, ["anna", "ben", "cleo", "anna", "anna"])
    at_work = tiny_at(made, rounds={"max": 1})
    run(at_work)
    assert taught(at_work) == [["human", "human/anna", OTHER, "vendor"]]
    entry = registered(at_work.lake, "demo", OTHER)
    assert entry is not None
    assert entry.entry["annotators"] == 2
    shared = confidences(at_work, OTHER)
    retract_teacher(made, "human/ben", reason="left")
    again = tiny_at(made, rounds={"max": 2})
    records = run(again)
    # The student of the first round learned from people together, as every student has who learned from `human`.
    assert [record.status for record in records] == ["passed", "passed"]
    assert taught(again)[1][:4] == ["human", "human/anna", OTHER, "vendor"]
    now = confidences(again, OTHER)
    assert set(now) < set(shared)
    frame = pd.read_csv(again.dataset.root / "annotations.csv")
    ben = frame[frame["annotator"] == "ben"]
    alone = {(row.sample_id, row.topic) for row in ben.itertuples()} - set(
        frame[frame["annotator"] != "ben"][["sample_id", "topic"]].itertuples(index=False, name=None)
    )
    assert alone
    assert not alone & set(confidences(again, "human"))
    retract_teacher(made, "human/ben", undo=True)
    run(tiny_at(made, rounds={"max": 3}))
    assert confidences(again, OTHER) == shared


def test_names_are_data(place: Made, capsys: pytest.CaptureFixture[str]) -> None:
    made = place({"identities": True, "least": 5}, ODD)
    at_work = tiny_at(made, rounds={"max": 1})
    (record,) = run(at_work)
    wanted = sorted(identity_of(name) for name in ODD)
    assert [teacher.id for teacher in record.teachers] == ["human", *wanted, "vendor"]
    assert set(wanted) <= set(record.rows_by_teacher)
    places = [DatasetLayout("demo").teacher(name) for name in wanted]
    for layout in places:
        assert layout.labels.count("/") == 3
        assert layout.labels.isascii()
        assert len(layout.folder) < 255
        assert DatasetLayout("demo").teacher_of(layout.entry, "entry.json") == layout.id
        # No key is the beginning of another's.
        assert sum(layout.label_keys.startswith(other.label_keys) for other in places) == 1
    assert list(load(at_work.checkpoint(record), "cpu").teachers)[1:-1] == wanted
    print_health(made, "tiny")
    for name in wanted:
        retract_teacher(made, name)
    assert "t2t teachers retract 'human/🦊 fox, red' --undo" in capsys.readouterr().out
    assert len(tiny_at(made).dataset.left_out) == len(ODD)


def test_one_model_version_is_retracted_like_any_teacher(place: Made, capsys: pytest.CaptureFixture[str]) -> None:
    """What an import makes of a model's predictions: a teacher of kind `labels` for each version."""
    made = place({})
    labels = pd.read_csv(made.data / "demo" / "teachers" / "vendor.csv")
    for version, half in (("v1", labels[::2]), ("v2", labels[1::2])):
        half.to_csv(made.data / "demo" / "teachers" / f"model-{version}.csv", index=False)
        entry = {"id": f"model-{version}", "kind": "labels", "path": f"${{data}}/teachers/model-{version}.csv"}
        path = made.registry / "teachers" / f"model-{version}.yaml"
        path.write_text(yaml.safe_dump(entry), encoding="utf-8")
    both = ["model-v1", "model-v2"]
    run(tiny_at(made, teachers=both, rounds={"max": 1}))
    retract_teacher(made, "model-v1", reason="leaked")
    assert "round 0: passed to retracted" in capsys.readouterr().out
    at_work = tiny_at(made, teachers=both, rounds={"max": 1})
    run(at_work)
    assert taught(at_work) == [["human", *both], ["human", "model-v2"]]
    retract_teacher(made, "model-v1", undo=True)
    back = tiny_at(made, teachers=both, rounds={"max": 3})
    assert [record.status for record in run(back)] == ["passed"] * 3
    assert taught(back)[2][:3] == ["human", *both]


def test_the_lines_of_the_page_are_read(place: Made) -> None:
    page = (ROOT / "docs" / "teachers" / "annotations.md").read_text(encoding="utf-8")
    people = yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])["people"]
    made = place(people)
    path = made.data / "demo" / "annotations.csv"
    frame = pd.read_csv(path)
    frame.loc[frame["annotator"] == "ann", "relevance"] = frame["relevance"].where(frame.index % 7 > 0)
    frame.to_csv(path, index=False)
    dataset = tiny_at(made).dataset
    assert list(dataset.annotators) == ["human/ann", "human/ben"]
    rows = dataset.people_rows(dataset.split("train")["sample_id"].combine_chunks())
    assert rows["human/ann"] < rows["human/ben"] == rows["human"]
    assert 0 < dataset.human["confidence"][0].as_py() < 1


def test_too_many_identities_are_refused_before_any_is_registered(place: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2t.campaign.steps.prepare.MOST_TEACHERS", 3)
    at_work = tiny_at(place())
    with pytest.raises(T2TError, match=r"2 annotators have an identity, and a round can have 3 at most: set `people"):
        prepared(at_work)
    assert [entry.path for entry in at_work.lake.list("main")] == []


def test_a_missing_library_is_told_at_once(place: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    made = place({"combine": "mace"})
    monkeypatch.setattr("t2t.data.consensus.has_crowdkit", lambda: False)
    with pytest.raises(T2TError, match=r"pip install 'teacher2task\[people\]'"):
        preflight(made, tiny_at(made).config)


def test_what_annotators_are_worth_is_told_in_every_mode(place: Made, capsys: pytest.CaptureFixture[str]) -> None:
    made = place({})
    run(tiny_at(made, rounds={"max": 1}))
    found = health_json(made, "tiny")
    json.dumps(found)
    rows = {row["annotator"]: row for row in found["people"]}
    assert rows["ann"]["shared"] == rows["ann"]["answers"]
    assert 0.9 < rows["ann"]["low"] < rows["ann"]["agreement"] < rows["ann"]["high"] <= 1
    assert 0.9 < rows["ben"]["specificity"] <= 1
    print_health(made, "tiny")
    told = capsys.readouterr().out
    assert "Annotators: agreement with the others' majority" in told
    assert "ben" in told


def test_odd_annotators_are_told_by_the_data_check(place: Made, capsys: pytest.CaptureFixture[str]) -> None:
    made = place({"identities": True, "least": 20, "combine": "dawid-skene"})
    path = made.data / "demo" / "annotations.csv"
    frame = pd.read_csv(path)
    ann = frame[frame["annotator"] == "ann"]
    more = [frame]
    more += [ann.assign(annotator="contrary", relevance=1 - ann["relevance"])]
    more += [ann.assign(annotator="always", relevance=1.0)]
    pd.concat(more).to_csv(path, index=False)
    check_data(made, "demo")
    told = " ".join(capsys.readouterr().out.split())
    assert "Annotator contrary: the answers say the opposite of those of the others" in told
    assert "Annotator always always answers yes (468 answers" in told
    assert "Annotator ann:" not in told
    # They were shown more than they answered, which a model would have to know.
    assert "`people: {unanswered: abstain}`" in told


def test_nobody_is_retracted_where_annotators_have_no_identities(place: Made) -> None:
    made = place({})
    prepared(tiny_at(made))
    with pytest.raises(T2TError, match=r"people: \{identities: true\}"):
        retract_teacher(made, "human/ann")


def test_people_json_says_under_whom_each_annotator_is_trained(place: Made) -> None:
    at_work = prepared(tiny_at(place({"identities": True, "least": 10_000})))
    people = read_json(at_work.lake, "main", DatasetLayout("demo").people)
    assert people == {"human/agreed": None, "human/ann": OTHER, "human/ben": OTHER}
    assert at_work.lineup.of_round(0) == ["human", OTHER, "vendor"]


@pytest.mark.parametrize(
    ("people", "message"),
    [
        ("{identities: perhaps}", "people.identities"),
        ("{combine: median}", "people.combine"),
        ("{least: 0}", "people.least"),
        ("{unanswered: maybe}", "people.unanswered"),
        ("{annotators: [ann]}", "people.annotators"),
    ],
)
def test_what_the_file_says_of_people_is_checked(place: Made, people: str, message: str) -> None:
    made = place({})
    path = made.file("datasets", "demo")
    entry = yaml.safe_load(path.read_text(encoding="utf-8")) | {"people": yaml.safe_load(people)}
    path.write_text(yaml.safe_dump(entry), encoding="utf-8")
    with pytest.raises(T2TError) as caught:
        tiny_at(made).dataset  # noqa: B018
    assert message in str(caught.value)
    assert "demo.yaml" in str(caught.value)
