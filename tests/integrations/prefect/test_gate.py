"""A campaign that waits for a person, through the real flow and server: run, decide, run again."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from t2t.campaign.decision import decide
from t2t.campaign.ledger import Ledger
from t2t.integrations.mlflow.tracker import MLflowTracker
from t2t.lake import open_lake


def states(work: Path) -> list[tuple[str, str]]:
    """Type and name of the state of every Prefect run, oldest first."""
    with sqlite3.connect(work / "prefect" / "prefect.db") as database:
        return database.execute("select state_type, state_name from flow_run order by start_time").fetchall()


def runs(work: Path) -> list[tuple[str, str | None]]:
    """MLflow status and `t2t.status` of the campaign's run and of round 0's."""
    tracker = MLflowTracker(f"sqlite:///{work / 'mlflow.db'}", work, "demo", "tiny")
    found = [tracker.runs.client.get_run(tracker.run_id(k)) for k in (None, 0)]
    return [(run.info.status, run.data.tags.get("t2t.status")) for run in found]


def test_a_campaign_waits_for_a_person_and_goes_on_without_training_again(t2t, tmp_path):
    work = tmp_path / "work"
    line = ("run", "tiny", "--set", "gate=manual", "--set", "rounds.max=1")
    first = t2t(*line)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "waiting" in first.stdout
    assert "t2t decide tiny 0 --pass" in first.stdout
    assert "Traceback" not in first.stdout + first.stderr
    assert states(work) == [("COMPLETED", "Waiting")]
    assert runs(work) == [("SCHEDULED", None), ("SCHEDULED", "waiting")]

    ledger = Ledger(open_lake("git", work), "demo", "tiny")
    assert ledger.records() == []
    # As `t2t decide tiny 0 --pass` does.
    decide(ledger, "tiny", 0, passed=True, reason="good enough")

    second = t2t(*line)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "Round 0: the student is trained already." in second.stderr
    assert "Round 0: training" not in second.stderr
    assert states(work) == [("COMPLETED", "Waiting"), ("COMPLETED", "Completed")]
    assert runs(work) == [("FINISHED", None), ("FINISHED", "passed")]
    (record,) = ledger.records()
    assert record.status == "passed"
    assert "good enough" in record.reason
