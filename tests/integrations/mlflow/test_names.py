"""What a campaign's runs look like to people: names, lines, durations, links."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from t2t.integrations.mlflow import names, runs
from t2t.integrations.mlflow.store import create_store, store_path
from t2t.integrations.mlflow.tracker import DataInput, MLflowTracker, _rows

Make = Callable[[], MLflowTracker]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    database = store_path(tmp_path_factory.mktemp("store"))
    create_store(database)
    return database


@pytest.fixture
def make(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(template, store_path(tmp_path))
    return lambda: MLflowTracker(None, tmp_path, "tiny", "camp")


def started(make: Make, rounds: int) -> MLflowTracker:
    tracker = make()
    tracker.open({}, {})
    for k in range(rounds):
        tracker.start_round(k, {}, {})
    return tracker


def client(tracker: MLflowTracker) -> Any:
    return tracker.runs.client


def steps(tracker: MLflowTracker, run: str, key: str) -> list[tuple[int, float]]:
    """A metric's points as the store has them."""
    return sorted((metric.step, metric.value) for metric in client(tracker).get_metric_history(run, key))


def test_a_line_goes_on_from_rounds_that_an_older_version_logged(make: Make) -> None:
    """Their runs have the names of before; the campaign's line and its table of rounds take these too."""
    tracker = started(make, 3)
    child = tracker.run_id(0) or ""
    tracker.runs.metrics(child, [(0, {"pr_auc": 0.3, "pr_auc_low": 0.2, "validation_pr_auc": 0.35})])
    tracker.log_round(1, {names.PR_AUC: 0.4, names.VALIDATION: 0.45}, {}, {})
    parent = tracker.run_id() or ""
    assert steps(tracker, parent, names.PR_AUC) == [(0, 0.3), (1, 0.4)]
    assert steps(tracker, parent, names.VALIDATION) == [(0, 0.35), (1, 0.45)]
    assert [row["pr_auc"] for row in _rows(tracker.runs.rounds())][:2] == [0.3, 0.4]
    assert _rows(tracker.runs.rounds())[0]["pr_auc_low"] == 0.2
    tracker.log_round(2, {names.PR_AUC: 0.5}, {}, {})
    assert steps(tracker, parent, names.PR_AUC) == [(0, 0.3), (1, 0.4), (2, 0.5)]


def test_a_duration_is_that_of_the_work(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hours between two processes are nobody's work, nor is what a later process takes to tell of a round."""
    clock = [1_700_000_000_000]
    monkeypatch.setattr(runs, "_now", lambda: clock[0])

    def passes(seconds: float) -> None:
        clock[0] += int(seconds * 1000)

    def duration(tracker: MLflowTracker, run: str) -> float:
        info = client(tracker).get_run(run).info
        return float(info.end_time - info.start_time) / 1000

    first = make()
    first.open({}, {})
    passes(10)
    first.start_round(0, {}, {})
    first.finish_round(0, "FINISHED", {}, 7.5)
    passes(20)
    first.finish()
    assert duration(first, first.run_id() or "") == pytest.approx(30)
    assert duration(first, first.run_id(0) or "") == pytest.approx(7.5)
    passes(7200)
    again = make()
    again.open({}, {})
    passes(5)
    again.finish()
    assert duration(again, again.run_id() or "") == pytest.approx(35)
    # A round that is told of once it is over took what it took, and the campaign no less than its rounds.
    again = make()
    again.open({}, {})
    again.start_round(1, {}, {})
    again.finish_round(1, "FINISHED", {}, 600)
    again.finish()
    assert duration(again, again.run_id(1) or "") == pytest.approx(600)
    assert duration(again, again.run_id() or "") == pytest.approx(607.5)


def test_links_lead_to_the_chart_and_to_the_round(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = started(make, 1)
    assert tracker.url() is None  # no server
    monkeypatch.setattr(tracker.runs, "uri", "http://user:secret@mlflow.example:5000")
    experiment = f"http://mlflow.example:5000/#/experiments/{tracker.runs.experiment}"
    assert tracker.url() == f"{experiment}/runs?workflowType=machine_learning&compareRunsMode=CHART"
    assert tracker.url(0) == f"{experiment}/runs/{tracker.run_id(0)}?workflowType=machine_learning"


@pytest.mark.unit
def test_names_are_words_of_letters_that_mlflow_takes() -> None:
    known = ["pr_auc", "pr_auc_teacher/a_b", "validation_pr_auc_seen", "watch/class_share", "watch/agreement/a_b"]
    assert [names.readable(name) for name in known] == [
        "PR-AUC/test",
        "PR-AUC of teachers on test/a_b",
        "PR-AUC/validation seen topics",
        "watch/class share",
        "watch/agreement/a_b",
    ]
    assert names.readable("f1_at_0.9 (mean)") == "f1 at 0.9  mean "
    everything = [*names.NAMES.values(), *names.BY_TEACHER.values()]
    assert len(set(everything)) == len(everything)
    assert not [name for name in everything if names.LETTERS.search(name)]


def test_annotators_of_any_name_have_metrics_of_their_own(make: Make) -> None:
    """MLflow refuses some signs and paths, and a slash makes a section of charts."""
    tracker = started(make, 1)
    people = [
        f"human/{name}" for name in ("anna", "../x", "..", "a,b", "a;b", "🦊 fox", "team/anna", "team-anna", "Анна")
    ]
    metrics = {names.readable(f"rows/{name}"): float(at) for at, name in enumerate(people)}
    assert len(metrics) == len(people)
    assert names.readable("rows/human/anna") == "rows of teachers/human anna"
    assert all(name.count("/") == 1 for name in metrics)
    tracker.log_round(0, metrics, {}, {})
    tracker.log_inputs(0, [DataInput(name, f"git:lake/{name}", "abc") for name in people])
    run = client(tracker).get_run(tracker.run_id(0))
    assert {name: run.data.metrics[name] for name in metrics} == metrics
    assert {given.dataset.name for given in run.inputs.dataset_inputs} == set(people)
