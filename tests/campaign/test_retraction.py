"""Teachers that come later, go again, and come back: whole rounds without servers, and what the commands print."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from t2t.campaign.campaign import Campaign
from t2t.campaign.record import Record, champion, markdown_table
from t2t.commands.health import print_health
from t2t.commands.lineage import lineage, print_lineage
from t2t.commands.retract import retract_teacher
from t2t.commands.rounds import print_rounds
from t2t.commands.teachers import print_teachers
from t2t.core.errors import T2TError
from t2t.lake.tables import read_table
from t2t.teachers.retraction import retract
from t2t.teachers.store import read_labels, registered
from tests.helpers.campaigns import prepared, run, run_until
from tests.helpers.trackers import told
from tests.helpers.worlds import CAMPAIGN

BOTH = ["vendor", "colour-expert"]


def teachers(record: Record) -> list[str]:
    return [teacher.id for teacher in record.teachers]


def keys(at_work: Campaign, prefix: str) -> list[str]:
    return [commit.key for commit in at_work.lake.log("main") if commit.key.startswith(prefix)]


# -- later teachers ------------------------------------------------------------------------------------------------


def test_a_teacher_that_is_added_teaches_from_the_next_round_on(campaign):
    (before,) = run(campaign(rounds={"max": 1}))
    at_work = campaign(teachers=BOTH, rounds={"max": 3})
    records = run(at_work)
    # Its student became a teacher since, for the rounds that came after all; all else is as it was.
    later = ("self_teacher", "watch", "largest_topic")
    assert records[0].model_copy(update={name: getattr(before, name) for name in later}) == before
    assert [teachers(record) for record in records[1:]] == [
        ["human", *BOTH, "tiny-self-0"],
        ["human", *BOTH, "tiny-self-0", "tiny-self-1"],
    ]
    assert len(keys(at_work, "teacher:demo:colour-expert:")) == 1
    assert len(keys(at_work, "teacher:demo:vendor:")) == 1


def test_a_round_that_has_begun_goes_on_with_its_own_teachers(campaign):
    run_until(campaign(), "round 0: begin")
    records = run(campaign(teachers=BOTH))
    assert [teachers(record) for record in records] == [["human", "vendor"], ["human", *BOTH, "tiny-self-0"]]


def test_a_label_file_that_changes_between_rounds_is_refused_at_the_next_start(campaign, world, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(world / "data", data)
    run(campaign(data=data, rounds={"max": 1}))
    path = data / "demo" / "teachers" / "vendor.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    for _ in range(2):
        with pytest.raises(T2TError, match=r"'vendor'.*label file.*choose a new id"):
            prepared(campaign(data=data, rounds={"max": 2}))


def test_videos_that_come_later_are_labeled_by_the_students_before(campaign, world, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(world / "data", data)
    run(campaign(data=data, rounds={"max": 2}))
    lines = (data / "demo" / "samples.csv").read_text().splitlines()
    path = next(line.split(",")[1] for line in lines if line.endswith("unlabeled"))
    (data / "demo" / "samples.csv").write_text("\n".join([*lines, f"later,{path},video,later,unlabeled"]) + "\n")
    at_work = campaign(data=data, rounds={"max": 3})
    before = read_labels(at_work.lake, "main", "demo", "tiny-self-0")
    records = run(at_work)
    now = read_labels(at_work.lake, "main", "demo", "tiny-self-0")
    assert now.slice(0, len(before)) == before
    assert set(now.slice(len(before))["sample_id"].to_pylist()) == {"later"}
    assert records[2].rows_by_teacher["tiny-self-0"] == len(now)
    assert len(read_labels(at_work.lake, records[1].commit, "demo", "tiny-self-0")) == len(before)


# -- retracting ----------------------------------------------------------------------------------------------------


def test_a_retraction_takes_rounds_along_and_can_be_taken_back(campaign, capsys):
    first = campaign(rounds={"max": 1})
    run(first)
    at_work = campaign(teachers=BOTH, rounds={"max": 2})
    before = run(at_work)
    retract_teacher(at_work.workspace, "colour-expert", reason="trained on our test clips")
    printed = " ".join(capsys.readouterr().out.split())
    assert "Teacher colour-expert of dataset demo is retracted: trained on our test clips" in printed
    assert "round 1: passed to retracted, learned from colour-expert, which was retracted" in printed
    assert "t2t run tiny" in printed
    assert "self-training teacher" not in printed
    assert [record.status for record in at_work.ledger.records()] == ["passed", "retracted"]

    tracker, observer = told(0, 1)
    records = run(campaign(teachers=BOTH, rounds={"max": 2}), observer)
    assert [(record.round, record.status) for record in records] == [(0, "passed"), (1, "retracted"), (2, "passed")]
    # tiny-self-0 learned from the vendor only, so it teaches on.
    assert teachers(records[2]) == ["human", "vendor", "tiny-self-0"]
    assert tracker.tags[1]["t2t.status"] == "retracted"
    assert "colour-expert" in tracker.tags[1]["t2t.reason"]
    assert tracker.tables["rounds"].status.tolist() == ["passed", "retracted", "passed"]
    assert "colour-expert" not in records[2].test.keys() | set(tracker.tables["teachers"]["teacher"])
    assert run(campaign(teachers=BOTH, rounds={"max": 2})) == records

    assert retract(at_work.lake, "demo", "colour-expert", undo=True)
    back = at_work.ledger.records()
    assert back[:2] == before
    assert [record.status for record in back] == ["passed"] * 3
    assert champion(back) == max(back, key=lambda record: (record.score, -record.round))
    assert campaign(teachers=BOTH, rounds={"max": 2}).lineup.next_round() is None
    prolonged = campaign(teachers=BOTH, rounds={"max": 4, "patience": 9})
    assert teachers(run(prolonged)[3])[:3] == ["human", *BOTH]


def test_everything_that_learned_from_the_only_vendor_is_trained_again(campaign, capsys):
    training = {**yaml.safe_load(CAMPAIGN)["training"], "initialise": "previous"}
    at_work = campaign(training=training)
    before = run(at_work)
    best = champion(before)
    retract_teacher(at_work.workspace, "vendor")
    printed = " ".join(capsys.readouterr().out.split())
    assert "self-training teacher tiny-self-0 is out: it descends from vendor" in printed
    assert f"champion: round {best.round} to none" in printed
    assert "0 of 2 rounds stand; to train rounds 2 to 3" in printed
    retract_teacher(at_work.workspace, "vendor")
    assert "is retracted already" in capsys.readouterr().out

    records = run(campaign(training=training))
    assert [record.status for record in records] == ["retracted", "retracted", "passed", "passed"]
    assert [teachers(record) for record in records[2:]] == [["human"], ["human", "tiny-self-2"]]
    assert records[2].reason == "first round"
    # Nothing stands that round 2 could go on from, so it starts from scratch; round 3 goes on from it.
    scratch = campaign("scratch", teachers=[], rounds={"max": 1}, seed=0)
    assert records[2].weights_sha256 != before[1].weights_sha256
    scratch.seed = lambda k: 2  # type: ignore[method-assign]
    assert run_until(scratch, "round 0: publish").weights_sha256 == records[2].weights_sha256

    print_rounds(at_work.workspace, "tiny")
    printed = " ".join(capsys.readouterr().out.split())
    assert "Round 0 is retracted: it learned from vendor" in printed
    assert "retracted" in markdown_table(records)
    print_teachers(at_work.workspace)
    shown = capsys.readouterr().out
    rows = {name: line for line in shown.splitlines() for name in ("vendor", "tiny-self-2") if f" {name} " in line}
    assert "retracted" in rows["vendor"]
    assert "retracted" not in rows["tiny-self-2"]


def test_a_round_in_the_middle_begins_again_without_what_was_retracted(campaign):
    begun = campaign(teachers=BOTH, rounds={"max": 1})
    run_until(begun, "round 0: evaluate")
    retract(begun.lake, "demo", "colour-expert")
    (record,) = run(campaign(teachers=BOTH, rounds={"max": 1}))
    assert (record.status, teachers(record)) == ("passed", ["human", "vendor"])
    assert list(record.rows_by_teacher) == ["human", "vendor"]


def test_a_round_that_is_in_the_lake_already_ends_as_it_began(campaign, monkeypatch):
    begun = campaign(teachers=BOTH, rounds={"max": 1})
    run_until(begun, "round 0: evaluate")
    with monkeypatch.context() as patch:
        patch.setattr(type(begun.ledger), "append", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(begun)
    retract(begun.lake, "demo", "colour-expert")
    records = run(campaign(teachers=BOTH, rounds={"max": 1}))
    assert [record.status for record in records] == ["retracted", "passed"]
    assert [teachers(record) for record in records] == [["human", *BOTH], ["human", "vendor"]]


def test_a_retracted_teachers_files_are_not_needed(campaign, world, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(world / "data", data)
    at_work = campaign(data=data, rounds={"max": 1})
    run(at_work)
    retract(at_work.lake, "demo", "vendor")
    (data / "demo" / "teachers" / "vendor.csv").unlink()
    records = run(campaign(data=data, rounds={"max": 1}))
    assert [teachers(record) for record in records] == [["human", "vendor"], ["human"]]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"training": {"steps": 1, "task_weight": {"vendor": 0.5}}}, "training.task_weight.vendor"),
        ({"evaluation": {"identity": "vendor"}}, "evaluation.identity"),
        ({"self_training": {"identity": "vendor"}}, "self_training.identity"),
    ],
)
def test_settings_that_need_a_retracted_teacher_are_refused(campaign, changes, key):
    at_work = prepared(campaign(**changes))
    retract(at_work.lake, "demo", "vendor")
    with pytest.raises(T2TError, match=rf"{key} names 'vendor', which is retracted.*--undo"):
        prepared(campaign(**changes))


def test_what_cannot_be_retracted_is_said(campaign):
    at_work = prepared(campaign())
    for teacher, words in {
        "human": "ground truth",
        "vendro": "Did you mean 'vendor'",
        "shape-expert": "no labels in a lake yet",
    }.items():
        with pytest.raises(T2TError, match=words):
            retract_teacher(at_work.workspace, teacher)
    with pytest.raises(T2TError, match="no labels of dataset 'jhmdb'"):
        retract_teacher(at_work.workspace, "vendor", "jhmdb")
    other = replace(at_work.dataset, config=at_work.dataset.config.model_copy(update={"name": "second"}))
    at_work.lake.commit(
        "main",
        {
            "second/teachers/vendor/entry.json": json.dumps(
                {"id": "vendor", "fingerprint": "f", "rows": 0, "entry": {}}
            ).encode()
        },
        other.name,
        "",
        {},
    )
    with pytest.raises(T2TError, match="labeled demo, second: name one with --dataset"):
        retract_teacher(at_work.workspace, "vendor")
    retract_teacher(at_work.workspace, "vendor", "second")
    assert at_work.lineup.retracted() == {}


# -- lineage -------------------------------------------------------------------------------------------------------


def walk(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [node, *(found for child in node["from"] for found in walk(child))]


def test_a_checkpoint_is_followed_back_to_the_data(campaign, capsys):
    at_work = campaign()
    records = run(at_work)
    place = at_work.workspace
    tree = lineage(place, "tiny/1")
    assert (tree["kind"], tree["id"]) == ("checkpoint", records[1].weights_sha256)
    (made,) = tree["from"]
    assert made["id"] == "tiny/1"
    assert (made["facts"]["commit"], made["facts"]["data_commit"]) == (records[1].commit, records[1].data_commit)
    family = {node["id"]: node for node in made["from"]}
    assert list(family) == ["human", "vendor", "tiny-self-0"]
    for teacher in records[1].teachers:
        assert family[teacher.id]["facts"]["fingerprint"] == teacher.fingerprint
        assert family[teacher.id]["from"][0]["id"] == records[1].label_commits[teacher.id]
        assert [node["kind"] for node in walk(family[teacher.id]["from"][0])] == ["labels", "data"]
    assert family["vendor"]["from"][0]["facts"]["rows"] == registered(at_work.lake, "demo", "vendor").rows
    # The self-training teacher goes on with its own checkpoint, round and teachers; those are told once.
    _, student = family["tiny-self-0"]["from"]
    assert student["id"] == records[0].weights_sha256
    assert [(node["id"], node["repeated"]) for node in student["from"][0]["from"]] == [
        ("human", True),
        ("vendor", True),
    ]
    json.dumps(tree)

    best = champion(records)
    assert lineage(place, "tiny")["id"] == best.weights_sha256
    assert lineage(place, str(place.work / best.checkpoint)) == lineage(place, "tiny")
    assert lineage(place, "tiny-self-0")["from"][1]["id"] == records[0].weights_sha256
    retract(at_work.lake, "demo", "vendor")
    print_lineage(lineage(place, "tiny/1"))
    printed = " ".join(capsys.readouterr().out.split())
    assert "RETRACTED: learned from vendor" in printed
    assert "RETRACTED: descends from vendor" in printed
    assert "(see above)" in printed
    with pytest.raises(T2TError, match="no champion"):
        lineage(place, "tiny")


def test_unknown_targets_are_told_the_nearest(campaign, tmp_path):
    at_work = prepared(campaign())
    place = at_work.workspace
    with pytest.raises(T2TError, match="Did you mean 'vendor'"):
        lineage(place, "vendr")
    with pytest.raises(T2TError, match="no finished round 0"):
        lineage(place, "tiny/0")
    with pytest.raises(T2TError, match=r"no model\.safetensors"):
        lineage(place, str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"another's")
    with pytest.raises(T2TError, match="left these weights"):
        lineage(place, str(tmp_path))


def test_where_labels_were_read_outlives_a_late_kill(campaign, monkeypatch):
    at_work = campaign()
    start = prepared(at_work).lake.resolve("main")
    run_until(at_work, "round 0: evaluate")
    with monkeypatch.context() as patch:
        patch.setattr(type(at_work.lake), "merge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(at_work)
    assert at_work.lake.resolve("tiny-round-0") != start
    again = campaign()
    shutil.rmtree(again.files(0).folder)
    record = run_until(again, "round 0: publish")
    assert record.data_commit == start
    assert record.label_commits == {
        name: at_work.lake.find(start, keys(at_work, f"teacher:demo:{name}:")[0]).id for name in ("human", "vendor")
    }


# -- health --------------------------------------------------------------------------------------------------------


def test_the_health_of_labels_is_kept_with_the_round(campaign, capsys):
    at_work = campaign()
    tracker, observer = told()
    records = run(at_work, observer)
    for record in records:
        with at_work.lake.read(record.commit, f"demo/campaigns/tiny/round-{record.round:03}/health.csv") as file:
            report = pd.read_csv(file)
        assert dict(zip(report["teacher"], report["rows"], strict=True)) == record.rows_by_teacher
        assert report["pr_auc"].notna().tolist()[:2] == [False, True]
    pd.testing.assert_frame_equal(tracker.tables["health"], report)
    print_health(at_work.workspace, "tiny")
    printed = capsys.readouterr().out
    assert [name for name in ("human", "vendor", "tiny-self-0") if name not in printed] == []


def test_a_constant_teacher_blocks_where_the_campaign_says_so(campaign, world, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(world / "data", data)
    path = data / "demo" / "teachers" / "vendor.csv"
    frame = pd.read_csv(path)
    frame["confidence"] = 0.25
    frame.to_csv(path, index=False)
    changes: dict[str, Any] = {"data": data, "rounds": {"max": 1}, "health": {"constant": "block"}}
    blocked = campaign(**changes)
    with pytest.raises(T2TError, match=r"'vendor'.*1 distinct confidence.*t2t teachers retract vendor"):
        run(blocked)
    assert not blocked.files(0).labels.exists()
    # Both remedies work: to let it in, and to leave it out.
    (record,) = run(campaign(**{**changes, "health": {"constant": "warn"}}))
    assert teachers(record) == ["human", "vendor"]
    second = campaign("second", **changes)
    prepared(second)
    retract(second.lake, "demo", "vendor")
    (record,) = run(campaign("second", **changes))
    assert teachers(record) == ["human"]


def test_resumed_rounds_read_their_labels_once(campaign, monkeypatch):
    at_work = campaign(rounds={"max": 1})
    run_until(at_work, "round 0: train")
    shutil.rmtree(at_work.files(0).student)
    monkeypatch.setattr("t2t.campaign.steps.rows.health", None)
    (record,) = run(campaign(rounds={"max": 1}))
    assert record.status == "passed"


def test_self_labels_of_an_expensive_teacher_survive_a_kill(campaign, monkeypatch):
    """The student teacher is asked in parts; killed between two of them it goes on, with the same bytes."""
    import t2t.teachers.kinds.student as student

    monkeypatch.setattr(student.Teacher, "shard_samples", 6)
    calm = campaign("calm")
    run(calm)
    loads, real = [], student.tag
    import t2t.campaign.steps.evaluate as evaluate
    import t2t.students.checkpoint as checkpoint

    load = checkpoint.load
    for module in (checkpoint, evaluate, student):
        monkeypatch.setattr(module, "load", lambda *given: loads.append(1) or load(*given))
    calls: list[int] = []

    def dying(*given: Any) -> Any:
        calls.append(len(given[2]))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(student, "tag", dying)
    with pytest.raises(KeyboardInterrupt):
        run(campaign("killed"))
    at_work = campaign("killed")
    run(at_work)
    assert calls == [6, 6, 6, 4]
    # Two rounds are evaluated, and the teacher is opened once a process: not once a part.
    assert len(loads) == 4
    for path in ("labels.parquet", "asked.parquet", "entry.json"):
        name = f"demo/teachers/tiny-self-0/{path}"
        with calm.lake.read("main", name) as a, at_work.lake.read("main", name) as b:
            assert a.read() == b.read()
    assert not (at_work.workspace.work / "labeling").exists()
    assert len(read_table(at_work.lake, "main", "demo/teachers/tiny-self-0/asked.parquet")) == 16


def test_the_ledgers_files_are_those_that_were_written(campaign, tmp_path: Path):
    """A retraction changes how rounds count, never what stands in the lake of them."""
    at_work = campaign(rounds={"max": 1})
    run(at_work)
    before = {entry.path: entry.digest for entry in at_work.lake.list("main")}
    retract(at_work.lake, "demo", "vendor")
    after = {entry.path: entry.digest for entry in at_work.lake.list("main")}
    assert after.keys() - before.keys() == {"demo/teachers/vendor/retracted.json"}
    assert {path: after[path] for path in before} == before
