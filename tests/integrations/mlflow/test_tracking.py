"""The run history, on a real MLflow store: nothing is there twice, and a killed run goes on in the same place."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from t2t.campaign.facts import RoundStart
from t2t.core.errors import T2TError
from t2t.data.embeddings.store import Embeddings
from t2t.evaluation import figures
from t2t.integrations.mlflow import names
from t2t.integrations.mlflow.observer import MLflowObserver
from t2t.integrations.mlflow.store import create_store, store_path
from t2t.integrations.mlflow.tracker import HEADLINE, DataInput, MLflowTracker, _rows
from t2t.lake.layout import CampaignLayout
from t2t.students.checkpoint import load
from tests.helpers.serving import TOPICS, clip, student_folder

Make = Callable[..., MLflowTracker]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all tests, since that takes seconds: made by two processes at once, beside a dead one's rest."""
    database = store_path(tmp_path_factory.mktemp("store"))
    database.with_name(".mlflow.db.99999.tmp").write_bytes(b"half a database")
    code = "from pathlib import Path; from t2t.integrations.mlflow.store import create_store; "
    code += f"create_store(Path({str(database)!r}))"
    makers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [maker.wait() for maker in makers] == [0, 0]
    return database


@pytest.fixture
def make(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(template, store_path(tmp_path))

    def tracker(campaign: str = "camp", **settings: Any) -> MLflowTracker:
        return MLflowTracker(None, tmp_path, "tiny", campaign, **settings)

    return tracker


def client(tracker: MLflowTracker) -> Any:
    import mlflow

    return mlflow.MlflowClient(tracker.uri, tracker.uri)


def started(make: Make, rounds: int = 1) -> MLflowTracker:
    tracker = make()
    tracker.open({}, {})
    for k in range(rounds):
        tracker.start_round(k, {}, {})
    return tracker


def checkpoint(folder: Path, content: bytes = b"weights") -> Path:
    (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(content)
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    return folder


def steps(tracker: MLflowTracker, run: str, key: str) -> list[tuple[int, float]]:
    return sorted((metric.step, metric.value) for metric in client(tracker).get_metric_history(run, key))


def test_importing_and_making_a_tracker_costs_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from t2t.integrations.mlflow.tracker import MLflowTracker\n"
        f"MLflowTracker(None, Path({str(tmp_path)!r}), 'd', 'c').ui_command()\n"
        "heavy = {'mlflow', 'pandas', 'matplotlib', 'torch', 'sqlalchemy'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert not store_path(tmp_path).exists()


def test_two_processes_make_one_whole_store(template: Path) -> None:
    assert sqlite3.connect(template).execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert sorted(path.name for path in template.parent.iterdir()) == [".mlflow.db.lock", "mlflow.db"]
    before = template.stat().st_mtime_ns
    create_store(template)
    assert template.stat().st_mtime_ns == before


def test_a_killed_campaign_goes_on_in_the_same_runs(make: Make) -> None:
    first = make()
    parent = first.open({"seed": 0}, {})
    child = first.start_round(0, {"steps": 10}, {"t2t.commit": COMMIT})
    first.log_curve(0, [(step, {"loss": 1 / (step + 1)}) for step in range(5)])

    again = make()  # the first one never finished anything: its runs are RUNNING
    assert again.open({"seed": 0}, {}) == parent
    assert again.start_round(0, {"steps": 10}, {}) == child
    again.log_curve(0, [(step, {"loss": 1 / (step + 1), "extra": 2.0}) for step in range(8)])
    assert steps(again, child, "loss") == [(step, 1 / (step + 1)) for step in range(8)]
    assert [step for step, _ in steps(again, child, "extra")] == list(range(8))

    run = client(again).get_run(child)
    assert run.info.status == "RUNNING"
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert run.data.tags["t2t.commit"] == COMMIT
    assert run.data.params == {"steps": "10"}
    assert len(client(again).search_runs([run.info.experiment_id])) == 2


@pytest.mark.parametrize("status", ["FAILED", "KILLED", "SCHEDULED"])
def test_a_failed_run_is_taken_up_and_a_finished_round_is_left_alone(make: Make, status: str) -> None:
    first = started(make, rounds=2)
    first.finish_round(0)
    first.finish_round(1, status)
    first.finish(status)
    ended = client(first).get_run(first.run_id(0)).info.end_time

    again = started(make, rounds=2)
    assert again.run_id(1) == first.run_id(1)
    again.finish_round(0)
    states = {k: client(again).get_run(again.run_id(k)).info for k in (None, 0, 1)}
    assert [states[k].status for k in (None, 0, 1)] == ["RUNNING", "FINISHED", "RUNNING"]
    assert states[0].end_time == ended


def test_the_gates_verdict_and_its_reason_are_on_the_pages_of_round_and_campaign(make: Make) -> None:
    tracker = started(make, rounds=3)
    tracker.finish_round(0, "FINISHED", {"t2t.status": "passed", "t2t.reason": "first round"})
    tracker.finish_round(1, "FINISHED", {"t2t.status": "rejected", "t2t.reason": "no-regression: worse"})
    tags = {"t2t.status": "waiting", "t2t.reason": "waits for a decision", "t2t.stop": "collapse: all the same"}
    tracker.finish_round(2, "SCHEDULED", tags)
    tracker.finish("SCHEDULED")
    notes = [client(tracker).get_run(tracker.run_id(k)).data.tags["mlflow.note.content"] for k in (None, 0, 1, 2)]
    assert notes[1] == "Round 0: **passed**. first round"
    assert notes[2] == "Round 1: **rejected**. no-regression: worse"
    assert "collapse: all the same" in notes[3]
    lines = notes[0].splitlines()
    assert [line.split("|")[-2].strip() for line in lines if line.startswith(("| 0", "| 1", "| 2"))] == [
        "",
        "rejected",
        "waiting",
    ]
    assert lines[-1] == "Stopped: collapse: all the same."
    assert client(tracker).get_run(tracker.run_id()).info.status == "SCHEDULED"


def test_a_round_is_started_once_and_anew_after_it_was_discarded(tmp_path: Path) -> None:
    calls: list[str] = []

    class Told:
        def start_round(self, k: int, params: Any, tags: Any) -> str:
            calls.append("start")
            return f"run-{len(calls)}"

        def log_inputs(self, k: int, inputs: Any) -> None: ...
        def discard_round(self, k: int) -> None: ...

    config = SimpleNamespace(dataset="tiny", model_dump=lambda **_: {})
    lake = SimpleNamespace(uri=lambda ref, path: f"{ref}/{path}")
    campaign: Any = SimpleNamespace(config=config, lake=lake, seed=int, layout=CampaignLayout("tiny", "camp"))
    observer = MLflowObserver(Told())  # type: ignore[arg-type]

    def start(commit: str) -> str:
        return observer.round_started(campaign, RoundStart(round=0, commit=commit, teachers=("human",)))

    assert [start("c0") for _ in range(2)] == ["run-1", "run-1"]
    assert start("c1") == "run-2"
    observer.discarded(campaign, 0)
    assert start("c1") == "run-3"


def test_campaigns_of_one_dataset_do_not_mix(make: Make) -> None:
    a, b = make("a"), make("b")
    a.finish("FAILED")  # an error before anything was opened
    assert a.run_id() is None
    a.open({}, {})
    b.open({}, {})
    assert a.run_id() != b.run_id()
    b.start_round(0, {}, {})
    assert a.run_id(0) is None
    with pytest.raises(T2TError, match="start_round"):
        a.log_curve(0, [(0, {"loss": 1.0})])


def test_first_parameters_stay_and_changes_are_told(make: Make) -> None:
    started(make).open({"training": {"rate": 0.001, "steps": 5}, "teachers": ["a", "b"], "long": "x" * 7000}, {})
    again = make()
    run = again.open({"training": {"rate": 0.01, "steps": 5}, "new": True}, {"who": "me"})
    data = client(again).get_run(run).data
    assert data.params.pop("long") == "x" * 5999 + "…"
    assert data.params == {"training.rate": "0.001", "training.steps": "5", "teachers": '["a", "b"]', "new": "True"}
    assert json.loads(data.tags["t2t.changed_params"]) == {"training.rate": "0.01"}
    assert data.tags["who"] == "me"
    assert data.tags["mlflow.source.name"] == "t2t run camp"


def test_more_than_one_batch_of_points_and_of_parameters(make: Make) -> None:
    tracker = make()
    tracker.open({f"p{i}": i for i in range(150)}, {})
    run = tracker.start_round(0, {}, {})
    tracker.log_curve(0, [(step, {"loss": float(step), "rate": 1.0}) for step in range(1200)])
    assert len(steps(tracker, run, "loss")) == 1200
    assert len(client(tracker).get_run(tracker.run_id()).data.params) == 150


def test_values_that_are_no_numbers_are_left_out(make: Make) -> None:
    tracker = started(make)
    tracker.log_curve(
        0, [(0, {"loss": float("nan")}), (1, {"loss": float("inf")}), (2, {"loss": float(np.float32(0.5))})]
    )
    assert steps(tracker, tracker.run_id(0) or "", "loss") == [(2, 0.5)]


def test_lake_commits_are_dataset_inputs_once(make: Make) -> None:
    labels = DataInput("labels", f"git+file:///work/lake.git@{COMMIT}/labels", COMMIT)
    gold = DataInput("human", f"lakefs://repo/{COMMIT}/human", COMMIT, "evaluation")
    started(make).log_inputs(0, [labels, labels])
    again = started(make)
    again.log_inputs(0, [labels, gold])
    inputs = client(again).get_run(again.run_id(0)).inputs.dataset_inputs
    found = {i.dataset.name: (json.loads(i.dataset.source)["uri"], i.dataset.digest, i.tags[0].value) for i in inputs}
    assert len(inputs) == 2
    assert found == {
        "labels": (labels.uri, COMMIT[:36], "training"),
        "human": (gold.uri, COMMIT[:36], "evaluation"),
    }
    from mlflow.data.dataset_source_registry import get_dataset_source_from_json, resolve_dataset_source

    source = get_dataset_source_from_json(inputs[0].dataset.source, inputs[0].dataset.source_type)
    assert source.uri == json.loads(inputs[0].dataset.source)["uri"]
    assert resolve_dataset_source(gold.uri).uri == gold.uri


def test_a_round_repeated_is_logged_once(make: Make, tmp_path: Path) -> None:
    known = {"pr_auc": 0.4, "pr_auc_low": 0.3, "pr_auc_high": 0.5, "pr_auc_seen": 0.45, "pr_auc_teacher/weak": 0.2}
    metrics = {names.readable(name): value for name, value in known.items()}
    table = pd.DataFrame({"topic": ["a", "b"], "pr_auc": [0.1, 0.2]})
    figure = figures.rounds(pd.DataFrame({"round": [0], "pr_auc": [0.4]}))
    for _ in range(2):
        tracker = started(make, rounds=2)
        tracker.log_round(1, metrics, {"pr_curves": figure}, {"per_topic": table, "topics": table})
    child, parent = tracker.run_id(1) or "", tracker.run_id() or ""
    for key in metrics:
        assert steps(tracker, child, key) == [(0, metrics[key])]
        assert steps(tracker, parent, key) == ([(1, metrics[key])] if key in HEADLINE else [])
    api = client(tracker)
    assert [f.path for f in api.list_artifacts(child, "figures")] == ["figures/pr_curves.png"]
    assert Path(api.download_artifacts(child, "figures/pr_curves.png")).read_bytes().startswith(b"\x89PNG")
    # In no folder, for the page that compares two rounds.
    assert {f.path for f in api.list_artifacts(child)} == {"figures", "tables", "pr_curves.png", "topics.csv"}
    assert pd.read_csv(api.download_artifacts(child, "topics.csv")).to_dict() == table.to_dict()
    topics = pd.read_json(api.download_artifacts(child, "tables/per_topic.json"), orient="split")
    assert topics.to_dict() == table.to_dict()
    rounds = pd.read_json(api.download_artifacts(parent, "tables/rounds.json"), orient="split")
    assert rounds["round"].tolist() == [0, 1]
    assert rounds["pr_auc"].tolist()[1] == 0.4
    tags = api.get_run(parent).data.tags
    assert json.loads(tags["mlflow.loggedArtifacts"]) == [{"path": "tables/rounds.json", "type": "table"}]
    note = tags["mlflow.note.content"]
    assert "| 1 | 0.400 | 0.300 to 0.500 | 0.450 |" in note
    assert (tmp_path / "mlartifacts" / "tiny" / child).is_dir()


def test_a_checkpoint_comes_back_equal_and_is_registered_once(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.artifacts import download_artifacts

    folder = checkpoint(tmp_path / "student")
    tracker = started(make)
    uri = tracker.log_checkpoint(0, folder, {"pr_auc": 0.4, "size": 7.0}, {"t2t.commit": COMMIT})
    tracker.log_round(0, {"pr_auc": 0.4}, {}, {})
    tracker.champion(0)
    again = started(make)
    assert again.log_checkpoint(0, folder, {"pr_auc": 0.4, "size": 7.0}, {"t2t.commit": COMMIT}) == uri

    api, child = client(again), again.run_id(0) or ""
    assert steps(again, child, "pr_auc") == [(0, 0.4)]
    model = api.get_logged_model(uri.removeprefix("models:/"))
    assert (str(model.status), model.source_run_id) == ("READY", child)
    assert sorted((m.key, m.value, m.step) for m in model.metrics) == [("pr_auc", 0.4, 0), ("size", 7.0, 0)]
    assert [output.model_id for output in api.get_run(child).outputs.model_outputs] == [model.model_id]
    version = api.get_model_version_by_alias("t2t-camp", "champion")
    assert (version.version, version.run_id) == (1, child)
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "t2t-camp", "version": 1}]
    assert {"t2t.round": "0", "t2t.campaign": "camp", "t2t.commit": COMMIT}.items() <= version.tags.items()
    assert len(api.search_model_versions("name = 't2t-camp'")) == 1

    # The way of anyone who has the store's address; `tracking_uri=` is ignored for a name with an alias.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", again.uri)
    back = Path(download_artifacts("models:/t2t-camp@champion", dst_path=str(tmp_path / "back")))
    for name in ("model.safetensors", "tokenizer/tokenizer.json"):
        assert (back / name).read_bytes() == (folder / name).read_bytes()


def test_a_students_checkpoint_is_served_by_its_alias_and_leads_to_the_lake(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    folder = student_folder(tmp_path / "student")
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    tags = {"t2t.commit": COMMIT, "t2t.identity": "vendor", "mlflow.note.content": f"Lake {COMMIT} " + "x" * 6000}
    tracker = started(make)
    uri = tracker.log_checkpoint(0, folder, {"pr_auc": 0.4}, tags)
    tracker.champion(0)
    assert started(make).log_checkpoint(0, folder, {"pr_auc": 0.4}, tags) == uri
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files
    version = client(tracker).get_model_version_by_alias("t2t-camp", "champion")
    assert version.description.startswith(f"Lake {COMMIT}")
    assert len(version.description) == 5000  # the registry's column has no more
    assert "mlflow.note.content" not in version.tags

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.uri)
    model = mlflow.pyfunc.load_model("models:/t2t-camp@champion")
    student = load(folder)
    one = clip(student.input_dim)
    found = model.predict(pd.DataFrame({"embedding": [one.astype(float).tolist()], "topics": [TOPICS]}))
    wanted = student.predict(Embeddings.of([one]), np.array([0]), TOPICS, "vendor")[0]
    np.testing.assert_allclose(found["confidences"][0], wanted, atol=1e-6)


def test_the_experiments_note_leads_to_the_chart(make: Make) -> None:
    tracker = started(make)
    experiment = client(tracker).get_experiment_by_name("tiny")
    note = experiment.tags["mlflow.note.content"]
    assert f"#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning&compareRunsMode=CHART" in note
    # What people write there stays.
    client(tracker).set_experiment_tag(experiment.experiment_id, "mlflow.note.content", "ours")
    started(make)
    assert client(tracker).get_experiment_by_name("tiny").tags["mlflow.note.content"] == "ours"


def test_a_checkpoint_cut_off_by_a_kill_is_completed(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint(tmp_path / "student")
    tracker = started(make)
    with monkeypatch.context() as patch:
        patch.setattr(
            type(tracker.runs.client._client), "finalize_logged_model", lambda *_: (_ for _ in ()).throw(SystemExit)
        )
        with pytest.raises(SystemExit):
            tracker.log_checkpoint(0, folder, {"pr_auc": 0.4})
    again = started(make)
    again.log_checkpoint(0, folder, {"pr_auc": 0.4})
    models = client(again).search_logged_models([client(again).get_run(again.run_id(0)).info.experiment_id])
    assert [str(model.status) for model in models] == ["READY"]
    assert len(client(again).search_model_versions("name = 't2t-camp'")) == 1


def test_the_champion_moves(make: Make, tmp_path: Path) -> None:
    tracker = started(make, rounds=3)
    for k in range(2):
        tracker.log_checkpoint(k, checkpoint(tmp_path / "student", bytes([k])), {"pr_auc": 0.4})
    tracker.champion(0)
    tracker.champion(1)
    api = client(tracker)
    assert api.get_model_version_by_alias("t2t-camp", "champion").run_id == tracker.run_id(1)
    assert [row["champion"] for row in _rows(tracker.runs.rounds())] == [False, True, False]
    parent = api.get_run(tracker.run_id()).data.tags
    assert parent["t2t.champion_round"] == "1"
    assert "Champion: round 1" in parent["mlflow.note.content"]
    tracker.champion(2)  # it has no student here: told, and the alias of another round's does not stay
    assert dict(api.get_registered_model("t2t-camp").aliases) == {}
    with pytest.raises(T2TError, match="no checkpoint files"):
        tracker.log_checkpoint(2, tmp_path / "nothing", {})


def test_without_a_champion_the_alias_and_the_mark_go(make: Make, tmp_path: Path) -> None:
    tracker = started(make, rounds=2)
    tracker.champion(None)  # nothing is registered yet
    tracker.log_checkpoint(0, checkpoint(tmp_path / "student", b"0"), {"pr_auc": 0.4})
    tracker.champion(0)
    tracker.champion(None)
    tracker.champion(None)
    api = client(tracker)
    assert dict(api.get_registered_model("t2t-camp").aliases) == {}
    assert [row["champion"] for row in _rows(tracker.runs.rounds())] == [False, False]
    assert api.get_run(tracker.run_id()).data.tags["t2t.champion_round"] == "none"
    assert "Champion" not in api.get_run(tracker.run_id()).data.tags["mlflow.note.content"]
    tracker.champion(0)
    assert api.get_model_version_by_alias("t2t-camp", "champion").run_id == tracker.run_id(0)


def test_retraining_a_round_registers_a_new_version(make: Make, tmp_path: Path) -> None:
    tracker = started(make)
    first = tracker.log_checkpoint(0, checkpoint(tmp_path / "student", b"one"), {"pr_auc": 0.4})
    second = tracker.log_checkpoint(0, checkpoint(tmp_path / "student", b"two"), {"pr_auc": 0.4})
    assert first != second
    tracker.champion(0)
    version = client(tracker).get_model_version_by_alias("t2t-camp", "champion")
    assert version.version == 2
    assert second.removeprefix("models:/") in version.source


def test_a_deleted_experiment_is_brought_back(make: Make) -> None:
    first = started(make)
    client(first).delete_experiment(client(first).get_run(first.run_id()).info.experiment_id)
    assert make().open({}, {}) == first.run_id()


def test_a_server_that_is_not_there_is_one_quick_error_without_the_password(tmp_path: Path) -> None:
    tracker = MLflowTracker("http://me:secret@127.0.0.1:9", tmp_path, "tiny", "camp")
    start = time.monotonic()
    with pytest.raises(T2TError, match=r"No MLflow server answers at http://127\.0\.0\.1:9") as error:
        tracker.open({}, {})
    assert time.monotonic() - start < 10
    assert "secret" not in str(error.value)


def test_the_environment_names_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://history.example:5000")
    assert MLflowTracker(None, tmp_path, "tiny", "camp").uri == "http://history.example:5000"
    assert MLflowTracker("sqlite:////elsewhere.db", tmp_path, "tiny", "camp").uri == "sqlite:////elsewhere.db"


def test_a_page_goes_to_the_campaigns_run_and_over_the_one_that_is_there(make: Make, tmp_path: Path) -> None:
    page = tmp_path / "camp.html"
    for text in ("first", "second"):
        page.write_text(text)
        if text == "first":
            assert not make().log_page(page)  # the campaign has no run yet
            started(make)
        tracker = make()
        assert tracker.log_page(page)
        run = tracker.run_id()
        assert [item.path for item in client(tracker).list_artifacts(run, "report")] == ["report/camp.html"]
        assert Path(client(tracker).download_artifacts(run, "report/camp.html")).read_text() == text


def test_looking_at_a_local_store(make: Make, tmp_path: Path) -> None:
    tracker = make()
    assert tracker.url() is None
    assert f"--backend-store-uri sqlite:///{tmp_path}/mlflow.db" in tracker.ui_command()
    assert "--host 127.0.0.1" in tracker.ui_command()
