"""Rounds without Prefect and MLflow: what is kept, what is refused, what is found again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from t2t.campaign import CampaignConfig
from t2t.config import parse
from t2t.errors import T2TError
from t2t.lake.tables import read_table
from t2t.registration import read_labels
from t2t.registry import Workspace
from t2t.rounds import Rounds
from tests.conftest import CAMPAIGN


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store of embeddings for all tests of this file: its content does not depend on who asks."""
    return tmp_path_factory.mktemp("embeddings")


@pytest.fixture
def campaign(world, tmp_path, embeddings):
    """Makes a campaign at work in a work folder of the test's own."""

    def make(work: str = "work", data: Path = world / "data", **changes: object) -> Rounds:
        content = {"name": "tiny", **yaml.safe_load(CAMPAIGN), "teachers": ["vendor"], **changes}
        place = Workspace.find(world / "registry", data, tmp_path / work)
        place.work.mkdir(exist_ok=True)
        if not (place.work / "embeddings").exists():
            (place.work / "embeddings").symlink_to(embeddings)
        return Rounds(parse(CampaignConfig, content, "test"), place)

    return make


def run(rounds: Rounds) -> list:
    rounds.prepare()
    while (k := rounds.next_round()) is not None:
        rounds.run_round(k)
    return rounds.ledger.records()


def test_a_rejected_round_stays_on_its_branch_and_its_student_never_teaches(campaign):
    rounds = campaign(gate="must-improve", rounds={"max": 3, "patience": 3})
    records = run(rounds)
    assert [record.status for record in records] == ["passed", "rejected", "rejected"]
    assert "must-improve" in records[1].reason
    assert records[1].self_teacher is None
    lake = rounds.lake
    assert lake.list("main", "demo/campaigns/tiny/round-000/")
    assert not lake.list("main", "demo/campaigns/tiny/round-001/")
    assert lake.list("tiny-round-1", "demo/campaigns/tiny/round-001/")
    # Round 2 learns from what passed only.
    assert [teacher.id for teacher in records[2].teachers] == ["human", "vendor", "tiny-self-0"]


def test_patience_ends_a_campaign_before_its_last_round(campaign):
    records = run(campaign(gate="must-improve", rounds={"max": 9, "patience": 1}))
    assert len(records) == 2
    assert records[-1].stop == "no improvement on validation for 1 rounds (best: round 0)"


@pytest.mark.parametrize(("retention", "last"), [("all", 3), ("latest", 1), ({"window": 2}, 2), ({"window": 0}, 0)])
def test_retention_decides_which_earlier_students_teach(campaign, retention, last):
    records = run(campaign(rounds={"max": 4, "patience": 9}, self_training={"retention": retention}))
    own = [teacher.id for teacher in records[3].teachers if teacher.id.startswith("tiny-self-")]
    assert own == [f"tiny-self-{k}" for k in range(3)][3 - last :]


def test_the_conventional_average_is_one_task(campaign):
    rounds = campaign(method="conventional-average", rounds={"max": 1})
    record = run(rounds)[0]
    assert list(record.rows_by_teacher) == ["human"]
    pairs = {
        (row["sample_id"], row["topic"])
        for teacher in ("human", "vendor")
        for row in read_labels(rounds.lake, "main", "demo", teacher).to_pylist()
        if row["sample_id"] in rounds._ids("train", "unlabeled") and row["topic"] in rounds.dataset.seen
    }
    assert record.rows == len(pairs)


def test_two_runs_with_one_seed_leave_the_same_labels_and_numbers(campaign):
    first, second = campaign("a"), campaign("b")
    for left, right in zip(run(first), run(second), strict=True):
        assert (left.test, left.validation, left.best_step) == (right.test, right.validation, right.best_step)
        assert left.weights_sha256 == right.weights_sha256
        assert left.teachers == right.teachers
    path = "demo/teachers/tiny-self-0/labels.parquet"
    with first.lake.read("main", path) as a, second.lake.read("main", path) as b:
        assert a.read() == b.read()
    other = campaign("c", seed=1)
    assert run(other)[0].weights_sha256 != first.ledger.records()[0].weights_sha256


def test_a_trained_round_is_found_and_not_trained_again(campaign):
    rounds = campaign()
    rounds.prepare()
    rounds.train(0)
    weights = rounds._round(0) / "student" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    records = run(campaign())
    assert weights.stat().st_mtime_ns == before
    assert len(records) == 2
    assert run(campaign()) == records


def test_warm_starts_differ_from_scratch(campaign):
    training = {**yaml.safe_load(CAMPAIGN)["training"], "initialise": "previous"}
    scratch, warm = run(campaign("a")), run(campaign("b", training=training))
    assert scratch[0].weights_sha256 == warm[0].weights_sha256
    assert scratch[1].weights_sha256 != warm[1].weights_sha256


def test_unseen_topics_stay_out_of_training_unless_teachers_may_see_them(campaign):
    hidden, shown = campaign("a", rounds={"max": 1}), campaign("b", rounds={"max": 1}, teachers_see_unseen=True)
    rows = [run(rounds)[0].rows_by_teacher for rounds in (hidden, shown)]
    assert rows[0]["human"] == rows[1]["human"] == 12 * 31  # never people's
    assert rows[1]["vendor"] > rows[0]["vendor"]


def test_unreadable_videos_go_to_quarantine_and_the_run_goes_on(campaign, world, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(world / "data", data)
    (data / "demo" / "clips" / "0020.mp4").write_bytes(b"no video")
    rounds = campaign(data=data, rounds={"max": 1})
    run(rounds)
    table = read_table(rounds.lake, "main", "demo/data/quarantine.parquet").to_pylist()
    assert [row["sample_id"] for row in table] == ["clip-0020"]
    assert table[0]["reason"]
    scored = read_table(rounds.lake, "main", "demo/campaigns/tiny/round-000/validation.parquet")
    assert "clip-0020" not in scored["sample_id"].to_pylist()
    (data / "demo" / "clips" / "0021.mp4").write_bytes(b"")
    with pytest.raises(T2TError, match=r"2 of 56"):
        campaign("other", data=data).prepare()


def test_labels_that_changed_on_disk_are_refused_under_the_same_id(campaign, world, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(world / "data", data)
    campaign(data=data).prepare()
    path = data / "demo" / "teachers" / "vendor.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(T2TError, match="choose a new id"):
        campaign(data=data).prepare()


def test_a_split_without_a_positive_is_refused_before_anything_is_trained(campaign, world, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(world / "data", data)
    path = data / "demo" / "annotations.csv"
    path.write_text(path.read_text().replace(",agreed,1.0", ",agreed,0.0"))
    rounds = campaign(data=data)
    with pytest.raises(T2TError, match="split 'validation' has a human relevance"):
        rounds.prepare()
    assert [entry.path for entry in rounds.lake.list("main")] == []


def test_metrics_are_those_of_the_scored_pairs_in_the_lake(campaign):
    from sklearn.metrics import average_precision_score

    rounds = campaign(rounds={"max": 1})
    record = run(rounds)[0]
    pairs = read_table(rounds.lake, record.commit, "demo/campaigns/tiny/round-000/test.parquet").to_pandas()
    assert len(pairs) == 16 * 39
    assert record.test["pr_auc"] == pytest.approx(average_precision_score(pairs["human"] >= 0.5, pairs["score"]))
    unseen = pairs[pairs["topic"].isin(rounds.dataset.unseen)]
    expected = average_precision_score(unseen["human"] >= 0.5, unseen["score"])
    assert record.test["pr_auc_unseen"] == pytest.approx(expected)
    metrics = json.loads((rounds._round(0) / "evaluation" / "metrics.json").read_text())
    assert metrics["test"]["pr_auc"] == record.test["pr_auc"]
