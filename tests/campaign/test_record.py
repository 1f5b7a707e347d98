"""What descends from what, and what a retraction therefore takes along: on hand-made records, then in a lake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from t2t.campaign.ledger import Ledger
from t2t.campaign.record import champion, last_passed, rounds_table, standing, stop_reason
from t2t.core.errors import T2TError
from t2t.lake import Lake, open_lake
from t2t.teachers.base import TeacherRef
from t2t.teachers.retraction import all_marks, descended, marks, parents, retract, retracted
from tests.helpers.records import record

FAMILY = {
    "human": [],
    "vendor": [],
    "expert": [],
    "demo-self-0": ["human", "vendor"],
    "demo-self-1": ["human", "expert", "demo-self-0"],
    "other-self-0": ["human", "expert"],
}


def of(k: int, *teachers: str, score: float = 0.5, status: str = "passed", **changes: object):
    refs = tuple(TeacherRef(id=name, fingerprint="f") for name in ("human", *teachers))
    return record(k, score, status, teachers=refs, **changes)


# -- pure --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marked", "out"),
    [
        ([], {}),
        (["vendor"], {"vendor": "vendor", "demo-self-0": "vendor", "demo-self-1": "vendor"}),
        (["expert"], {"expert": "expert", "demo-self-1": "expert", "other-self-0": "expert"}),
        (["demo-self-1"], {"demo-self-1": "demo-self-1"}),
        (["gone"], {"gone": "gone"}),
    ],
)
def test_all_that_learned_from_a_retracted_teacher_is_out_with_its_reason(marked, out):
    assert descended(FAMILY, marked) == out


def test_descent_is_found_whatever_the_order_of_the_teachers():
    backwards = dict(reversed(FAMILY.items()))
    assert descended(backwards, ["vendor"]) == descended(FAMILY, ["vendor"])


def test_a_round_that_learned_from_what_is_out_does_not_stand():
    written = [of(0, "vendor"), of(1, "expert"), of(2, "expert", "demo-self-0", stop="all 3 rounds are done")]
    now = standing(written, descended(FAMILY, ["vendor"]))
    assert [found.status for found in now] == ["retracted", "passed", "retracted"]
    assert now[0].reason == "learned from vendor, which was retracted; was passed: first round"
    assert now[1] is written[1]
    assert now[2].stop is None
    assert [found.round for found in now if found.status == "retracted"] == [0, 2]
    assert [found.status for found in written] == ["passed"] * 3


def test_nothing_retracted_changes_nothing():
    written = [of(0, "vendor"), of(1, "vendor", status="rejected")]
    assert standing(written, {}) == written
    assert not any(found.status == "retracted" for found in written)


def test_retracted_rounds_do_not_count_for_champion_and_stopping():
    written = [of(0, "expert", score=0.4), of(1, "vendor", score=0.9), of(2, "vendor", score=0.8)]
    assert champion(written).round == 1
    assert stop_reason(written, rounds=3, patience=9) == "all 3 rounds are done"
    now = standing(written, {"vendor": "vendor"})
    assert champion(now).round == 0
    assert stop_reason(now, rounds=3, patience=1) is None
    later = [*now, of(3, "expert", score=0.3)]
    assert stop_reason(later, rounds=3, patience=1) == "no improvement on validation for 1 rounds (best: round 0)"
    assert stop_reason([*later, of(4, "expert", score=0.5)], rounds=3, patience=9) == "all 3 rounds are done"
    assert champion(standing([of(0, "vendor")], {"vendor": "vendor"})) is None


def test_a_warm_start_goes_on_from_the_last_round_that_passed_and_stands():
    written = [of(0, "expert"), of(1, "vendor"), of(2, "expert", status="rejected")]
    assert last_passed(written).round == 1
    assert last_passed(standing(written, {"vendor": "vendor"})).round == 0
    assert last_passed(standing(written[1:], {"vendor": "vendor"})) is None


def test_the_table_shows_retracted_rounds():
    table = rounds_table(standing([of(0, "vendor", score=0.9), of(1, "expert")], {"vendor": "vendor"}))
    assert table.status.tolist() == ["retracted", "passed"]
    assert table.champion.tolist() == [False, True]


# -- marks in a lake ---------------------------------------------------------------------------------------------


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = open_lake("git", tmp_path)
    for teacher, learned_from in FAMILY.items():
        entry = {"parents": [{"id": name, "fingerprint": "f"} for name in learned_from]} if learned_from else {}
        content = json.dumps({"id": teacher, "fingerprint": "f", "rows": 1, "entry": entry}).encode()
        lake.commit("main", {f"jhmdb/teachers/{teacher}/entry.json": content}, teacher, teacher, {})
    return lake


def test_a_mark_is_made_once_and_taken_back_once(lake: Lake) -> None:
    assert retract(lake, "jhmdb", "vendor", "a broken export") is True
    head = lake.resolve("main")
    assert marks(lake, "jhmdb")["vendor"].reason == "a broken export"
    assert retract(lake, "jhmdb", "vendor", "again") is False
    assert lake.resolve("main") == head
    assert retracted(lake, "jhmdb") == descended(FAMILY, ["vendor"])
    assert retract(lake, "jhmdb", "vendor", undo=True) is True
    assert retract(lake, "jhmdb", "vendor", undo=True) is False
    assert (marks(lake, "jhmdb"), retracted(lake, "jhmdb")) == ({}, {})
    assert all_marks(lake, "jhmdb")["vendor"].retracted is False
    # What was is still to be read, and a third change of mind is a commit too.
    assert list(retracted(lake, "jhmdb", head)) == ["vendor", "demo-self-0", "demo-self-1"]
    assert retract(lake, "jhmdb", "vendor") is True
    assert {name: list(learned_from) for name, learned_from in parents(lake, "jhmdb").items()} == FAMILY


def test_what_cannot_be_retracted_is_said(lake: Lake) -> None:
    head = lake.resolve("main")
    with pytest.raises(T2TError, match="ground truth"):
        retract(lake, "jhmdb", "human")
    with pytest.raises(T2TError, match=r"'vendro'.*Did you mean 'vendor'"):
        retract(lake, "jhmdb", "vendro")
    assert lake.resolve("main") == head


def test_a_dataset_has_its_own_marks(lake: Lake) -> None:
    retract(lake, "jhmdb", "vendor")
    assert marks(lake, "other") == {}


def test_a_ledger_reads_its_rounds_as_they_count_now(lake: Lake) -> None:
    ledger = Ledger(lake, "jhmdb", "demo")
    for written in (of(0, "vendor"), of(1, "expert", "demo-self-0"), of(2, "other-self-0")):
        ledger.append(written)
    retract(lake, "jhmdb", "vendor")
    assert [found.status for found in ledger.records()] == ["retracted", "retracted", "passed"]
    assert [found.status for found in ledger.written()] == ["passed"] * 3
    retract(lake, "jhmdb", "vendor", undo=True)
    assert ledger.records() == ledger.written()


def test_a_record_of_an_older_version_is_read(lake: Lake) -> None:
    content = record(0).model_dump(mode="json")
    del content["data_commit"], content["label_commits"]
    path = "jhmdb/campaigns/demo/ledger/round-000.json"
    lake.commit("main", {path: json.dumps(content).encode()}, "k", "m", {})
    (found,) = Ledger(lake, "jhmdb", "demo").records()
    assert (found.data_commit, found.label_commits) == ("", {})


def test_of_many_teachers_the_best_on_validation_are_told_of():
    names = [f"w{i:02}" for i in range(30)]
    own = {f"pr_auc_teacher/{name}": i / 100 for i, name in enumerate(names)}
    many = of(0, *names, "demo-self-0", validation={"pr_auc": 0.5, **own})
    assert many.foremost() == names[10:]
    assert many.shown(2) == ["human", "w28", "w29", "demo-self-0"]
    assert of(0, "b", "a").shown() == ["human", "b", "a"]
    # Neither student of a round that has two is an outside teacher.
    two = of(1, "b", "demo-self-0", "demo-self-0-b")
    assert two.outside == two.foremost() == ["b"]
    assert two.shown(0) == ["human", "demo-self-0", "demo-self-0-b"]
