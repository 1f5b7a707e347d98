"""The ledger: what is in the lake is what is done, and the best passed round is the champion."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from t2t.campaign.ledger import Ledger
from t2t.campaign.record import champion, rounds_table, stop_reason
from t2t.core.errors import T2TError
from t2t.lake import Lake, open_lake
from tests.helpers.records import record


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake("git", tmp_path)


def test_a_lake_without_rounds_has_none(lake: Lake) -> None:
    assert Ledger(lake, "jhmdb", "demo").records() == []


def test_a_record_comes_back_as_it_was_written(lake: Lake, tmp_path: Path) -> None:
    written = record(0, stop="all 1 rounds are done", run_id="r1")
    commit = Ledger(lake, "jhmdb", "demo").append(written)
    # Read by another process: nothing but the lake is asked.
    assert Ledger(open_lake("git", tmp_path), "jhmdb", "demo").records() == [written]
    assert lake.resolve("main") == commit
    entry = next(lake.log("main"))
    assert entry.message == "Ledger: demo round 0 passed"
    assert entry.metadata == {"campaign": "demo", "round": "0", "status": "passed"}
    assert [entry.path for entry in lake.list("main")] == ["jhmdb/campaigns/demo/ledger/round-000.json"]


def test_appending_again_changes_nothing(lake: Lake) -> None:
    ledger = Ledger(lake, "jhmdb", "demo")
    first = ledger.append(record(0, 0.5))
    assert ledger.append(record(0, 0.9)) == first
    assert lake.resolve("main") == first
    assert [found.score for found in ledger.records()] == [0.5]


def test_rounds_are_in_the_order_of_their_numbers(lake: Lake) -> None:
    ledger = Ledger(lake, "jhmdb", "demo")
    for k in (2, 1000, 0, 1):
        ledger.append(record(k))
    assert [found.round for found in ledger.records()] == [0, 1, 2, 1000]


def test_a_record_is_read_once_and_again_only_where_it_changed(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, other = Ledger(lake, "jhmdb", "demo"), Ledger(lake, "jhmdb", "demo")
    other.append(record(0, self_teacher=None))
    other.append(record(1))
    read: list[str] = []
    whole = type(lake).read
    monkeypatch.setattr(type(lake), "read", lambda self, ref, path: read.append(path) or whole(self, ref, path))
    assert ledger.records() == ledger.records() == [record(0, self_teacher=None), record(1)]
    assert len(read) == 2
    other.amend(record(0))
    lake.commit("main", {"something/else": b""}, "k", "m", {})
    assert ledger.records() == [record(0), record(1)]
    assert [path[-14:] for path in read[2:]] == ["round-000.json"]
    assert ledger.written(next(lake.log("main")).parents[0]) == ledger.records()


def test_campaigns_and_datasets_keep_apart(lake: Lake) -> None:
    places = [("jhmdb", "demo"), ("jhmdb", "demo-2"), ("other", "demo")]
    for i, (dataset, campaign) in enumerate(places):
        Ledger(lake, dataset, campaign).append(record(0, 0.1 * i, campaign=campaign))
    for i, (dataset, campaign) in enumerate(places):
        assert [found.score for found in Ledger(lake, dataset, campaign).records()] == [0.1 * i]


def test_an_unreadable_record_names_its_place_and_key(lake: Lake) -> None:
    content = record(0).model_dump(mode="json")
    content["statsu"] = content.pop("status")
    path = "jhmdb/campaigns/demo/ledger/round-000.json"
    lake.commit("main", {path: json.dumps(content).encode()}, "k", "m", {})
    with pytest.raises(T2TError, match=f"{path}.*'statsu'.*'status'"):
        Ledger(lake, "jhmdb", "demo").records()


@pytest.mark.parametrize(
    ("scores", "rejected", "expected"),
    [
        ([], [], None),
        ([0.5], [0], None),
        ([0.3, 0.5, 0.4], [], 1),
        ([0.3, 0.9, 0.4], [1], 2),
        ([0.5, 0.5, 0.5], [], 0),
    ],
)
def test_the_champion_is_the_best_passed_round_and_the_earliest_of_equals(
    scores: list[float], rejected: list[int], expected: int | None
) -> None:
    records = [record(k, score, "rejected" if k in rejected else "passed") for k, score in enumerate(scores)]
    best = champion(records)
    assert (best.round if best else None) == expected


@pytest.mark.parametrize(
    ("scores", "rejected", "reason"),
    [
        ([], [], None),
        ([0.5], [], None),
        ([0.5, 0.4], [], None),
        ([0.5, 0.4, 0.6], [], None),
        ([0.5, 0.4, 0.4], [], "no improvement on validation for 2 rounds (best: round 0)"),
        ([0.5, 0.6, 0.6, 0.9], [2, 3], "no improvement on validation for 2 rounds (best: round 1)"),
        ([0.1, 0.2, 0.3, 0.4, 0.5], [], "all 5 rounds are done"),
    ],
)
def test_when_a_campaign_stops(scores: list[float], rejected: list[int], reason: str | None) -> None:
    records = [record(k, score, "rejected" if k in rejected else "passed") for k, score in enumerate(scores)]
    assert stop_reason(records, rounds=5, patience=2) == reason


def test_the_table_has_a_row_for_each_round_and_marks_the_champion() -> None:
    rejected = record(2, 0.9, "rejected", self_teacher=None, run_id="r2")
    table = rounds_table([record(0, 0.4), record(1, 0.6, test={"pr_auc": 0.3, "pr_auc_unseen": 0.2}), rejected])
    assert table["round"].tolist() == [0, 1, 2]
    assert table.champion.tolist() == [False, True, False]
    assert table.status.tolist() == ["passed", "passed", "rejected"]
    assert table.pr_auc.tolist() == [0.2, 0.3, 0.45]
    assert table.validation_pr_auc.tolist() == [0.4, 0.6, 0.9]
    assert table.teachers.tolist() == [2, 2, 2]
    assert table.seconds.tolist() == [1.2, 1.2, 1.2]
    assert table.pr_auc_unseen.isna().tolist() == [True, False, True]
    assert table.run_id.tolist()[2] == "r2"
