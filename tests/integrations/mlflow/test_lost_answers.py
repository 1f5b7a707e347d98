"""MLflow's answers may get lost after the work was done, and people delete things: nothing is made twice, nothing ends
a campaign."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from t2t.core.errors import T2TError
from t2t.evaluation import figures
from t2t.integrations.mlflow import client as module
from t2t.integrations.mlflow.client import Client, Gone
from t2t.integrations.mlflow.store import create_store, load_mlflow, store_path
from t2t.integrations.mlflow.tracker import DataInput, MLflowTracker

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    database = store_path(tmp_path_factory.mktemp("store"))
    create_store(database)
    return database


@pytest.fixture
def make(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], MLflowTracker]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(module, "PAUSES", (0.0, 0.0))
    shutil.copy(template, store_path(tmp_path))
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "model.safetensors").write_bytes(b"weights")
    return lambda: MLflowTracker(None, tmp_path, "tiny", "camp")


class Lossy:
    """A client of which every method's first answer is lost, once the server has done the work."""

    def __init__(self, client: Any):
        self._client = client
        self.lost: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            answer = getattr(self._client, name)(*arguments, **keywords)
            if name not in self.lost:
                self.lost.append(name)
                raise load_mlflow().MlflowException(
                    f"API request to {name} failed with exception ('Connection aborted.')"
                )
            return answer

        return call


def lose(tracker: MLflowTracker) -> Lossy:
    """Has a tracker's answers get lost."""
    lossy = Lossy(tracker.runs.client._client)
    tracker.runs.__dict__["client"] = Client(lossy, tracker.uri)
    return lossy


def tell_all(tracker: MLflowTracker, work: Path) -> None:
    """A campaign of one round, from its opening to its end."""
    tracker.ready()
    tracker.open({"seed": 0}, {"t2t.lake": "git"})
    tracker.start_round(0, {"steps": 10}, {})
    tracker.log_inputs(0, [DataInput("data", f"git+file:///x@{COMMIT}/data", COMMIT, "data")])
    tracker.log_curve(0, [(step, {"loss": 1 / (step + 1)}) for step in range(3)])
    picture = figures.rounds(pd.DataFrame({"round": [0], "pr_auc": [0.5], "pr_auc_low": [0.4], "pr_auc_high": [0.6]}))
    tracker.log_round(0, {"pr_auc": 0.5}, {"rounds": picture}, {"topics": pd.DataFrame({"topic": ["a"]})})
    tracker.log_checkpoint(0, work / "student", {"pr_auc": 0.5}, {"mlflow.note.content": "A student."})
    tracker.champion(0)
    tracker.finish_round(0)
    tracker.finish()


def state(tracker: MLflowTracker) -> dict[str, Any]:
    """What is in the store, without ids and times."""
    api = tracker.runs.client._client
    experiments = [e for e in api.search_experiments() if e.name == "tiny"]
    runs = api.search_runs([e.experiment_id for e in experiments])
    return {
        "experiments": len(experiments),
        "runs": sorted((run.info.run_name, run.info.status) for run in runs),
        "inputs": sorted(len(run.inputs.dataset_inputs) for run in runs),
        "outputs": sorted(len(run.outputs.model_outputs) if run.outputs else 0 for run in runs),
        "points": [
            sorted((m.step, m.value) for m in api.get_metric_history(tracker.run_id(0), key))
            for key in ("loss", "pr_auc")
        ],
        "models": len(api.search_logged_models([e.experiment_id for e in experiments])),
        "versions": [str(v.version) for v in api.search_model_versions("name = 't2t-camp'")],
        "aliases": dict(api.get_registered_model("t2t-camp").aliases),
    }


def test_answers_that_get_lost_change_nothing(
    make: Callable[[], MLflowTracker], template: Path, tmp_path: Path
) -> None:
    calm = make()
    tell_all(calm, tmp_path)
    expected = state(calm)
    shutil.copy(template, store_path(tmp_path))
    tracker = make()
    lossy = lose(tracker)
    tell_all(tracker, tmp_path)
    assert {
        "create_experiment",
        "create_run",
        "log_inputs",
        "log_batch",
        "create_logged_model",
        "log_outputs",
        "create_registered_model",
        "create_model_version",
        "set_registered_model_alias",
        "set_terminated",
    } <= set(lossy.lost)
    tracker.runs.client._client = lossy._client
    assert state(tracker) == expected
    assert expected["versions"] == ["1"]
    assert expected["models"] == 1


def test_a_store_that_stays_away_is_one_line_and_is_not_waited_for_twice(make: Callable[[], MLflowTracker]) -> None:
    tracker = make()
    calls: list[str] = []

    class Away:
        def __getattr__(self, name: str) -> Callable[..., Any]:
            def call(*_: Any, **__: Any) -> Any:
                calls.append(name)
                raise load_mlflow().MlflowException("API request to x failed with exception refused")

            return call

    tracker.runs.__dict__["client"] = Client(Away(), "http://somewhere")
    with pytest.raises(T2TError, match=r"does not answer \(get_experiment_by_name\).*goes on where it stopped"):
        tracker.open({}, {})
    assert len(calls) == len(module.PAUSES) + 1
    with pytest.raises(T2TError):
        tracker.finish()
    assert len(calls) == len(module.PAUSES) + 2


def test_a_full_disk_is_not_waited_for(make: Callable[[], MLflowTracker]) -> None:
    tracker = make()
    calls: list[str] = []

    class Full:
        def __getattr__(self, name: str) -> Any:
            return self.full

        def full(self, *_: Any, **__: Any) -> Any:
            calls.append("asked")
            raise load_mlflow().MlflowException("(sqlite3.OperationalError) database or disk is full")

    tracker.runs.__dict__["client"] = Client(Full(), "sqlite:///x")
    with pytest.raises(T2TError, match="The disk is full"):
        tracker.open({}, {})
    assert calls == ["asked"]


def test_whatever_is_deleted_is_seen(make: Callable[[], MLflowTracker], tmp_path: Path) -> None:
    tracker = make()
    tell_all(tracker, tmp_path)
    api = tracker.runs.client._client
    assert make().whole(0)
    assert make().leads(0)

    api.delete_registered_model_alias("t2t-camp", "champion")
    assert make().whole(0)
    assert not make().leads(0)

    api.delete_registered_model("t2t-camp")
    assert not make().whole(0)
    again = make()
    again.champion(0)  # told, no error: nothing is registered
    again.log_checkpoint(0, tmp_path / "student", {"pr_auc": 0.5})
    again.champion(0)
    assert again.whole(0)
    assert again.leads(0)

    for folder in (tmp_path / "mlartifacts").rglob("models"):
        shutil.rmtree(folder)
    assert not make().whole(0)
    again = make()
    again.log_checkpoint(0, tmp_path / "student", {"pr_auc": 0.5})
    assert again.whole(0)

    model = api.search_logged_models([api.get_experiment_by_name("tiny").experiment_id])[0]
    api.delete_logged_model(model.model_id)
    assert not make().whole(0)
    again = make()
    again.log_checkpoint(0, tmp_path / "student", {"pr_auc": 0.5})
    again.champion(0)
    assert again.whole(0)
    assert again.leads(0)

    api.delete_run(again.run_id(0))
    assert not make().whole(0)
    with pytest.raises(Gone, match="no longer has what log_batch is about"):
        again.log_curve(0, [(9, {"loss": 0.1})])
