"""Two rounds of a campaign on a tiny world: the real Prefect flow and server, MLflow on SQLite, the Git lake."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.helpers.processes import left_behind
from tests.helpers.worlds import ROOT, command

COLUMNS = {"round", "teachers", "rows", "pr_auc", "pr_auc_low", "pr_auc_high", "pr_auc_seen", "pr_auc_unseen"}
COLUMNS |= {"champion", "run_id", "commit"}
STEPS = ("begin", "rows", "train", "evaluate", "gate", "publish")


@pytest.fixture(scope="module")
def done(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished campaign of two rounds: its work folder, and what the run printed."""
    work = tmp_path_factory.mktemp("done") / "work"
    line, environment = command(world, work, "run", "tiny")
    result = subprocess.run(line, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert result.returncode == 0, result.stdout + result.stderr
    assert left_behind(work) == []
    return work, result.stdout + result.stderr


def test_the_run_prints_progress_and_the_table_of_rounds(done):
    _, output = done
    for text in ("Embedding: 56/56 videos", "Registered teacher vendor", "Round 1: training: 30/30 steps", "champion"):
        assert text in output
    assert "t2t ui" in output
    assert "Traceback" not in output
    assert "Warning" not in output


def test_rounds_as_json_and_their_lake(done, t2t):
    work, _ = done
    rounds = json.loads(t2t("rounds", "tiny", "--json", work=work).stdout)
    assert [row["round"] for row in rounds] == [0, 1]
    assert [row["teachers"] for row in rounds] == [4, 5]
    assert sum(row["champion"] for row in rounds) == 1
    for row in rounds:
        assert set(row) >= COLUMNS
        assert 0 <= row["pr_auc_low"] <= row["pr_auc"] <= row["pr_auc_high"] <= 1
        subprocess.run(["git", "-C", work / "lake.git", "cat-file", "-e", row["commit"]], check=True)
    assert rounds[1]["rows"] > rounds[0]["rows"]
    subprocess.run(["git", "-C", work / "lake.git", "fsck", "--strict"], check=True, capture_output=True)


def test_the_students_labels_have_an_identity_of_their_own_in_one_commit(done):
    from t2t.lake import open_lake
    from t2t.lake.tables import read_table

    work, _ = done
    lake = open_lake("git", work)
    made = [commit for commit in lake.log("main") if ":tiny-self-0:" in commit.key]
    assert len(made) == 1
    before = {entry.path for entry in lake.list(made[0].parents[0])}
    new = sorted(entry.path for entry in lake.list(made[0].id) if entry.path not in before)
    assert new == [f"demo/teachers/tiny-self-0/{name}" for name in ("asked.parquet", "entry.json", "labels.parquet")]
    labels = read_table(lake, "main", new[2]).to_pandas()
    assert set(labels["teacher_id"]) == {"tiny-self-0"}
    assert labels["sample_id"].nunique() == 16  # the unlabeled videos, and only these
    assert labels["confidence"].between(0, 1).all()
    assert labels.groupby("sample_id").size().unique().tolist() == [20]  # top 10 and 10 random ones
    with lake.read("main", new[1]) as file:
        entry = json.load(file)
    assert [parent["id"] for parent in entry["entry"]["parents"]] == [
        "human",
        "colour-expert",
        "shape-expert",
        "vendor",
    ]
    # Unseen topics are kept out of what the student labels.
    unseen = pd.read_csv(Path(ROOT, "registry/datasets/demo.yaml"), sep="\0", header=None)[0].str.strip(" -").tolist()
    assert not set(labels["topic"]) & set(unseen)


def test_mlflow_has_a_run_for_the_campaign_and_one_for_each_round(done):
    import mlflow

    work, _ = done
    client = mlflow.MlflowClient(f"sqlite:///{work / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("demo")
    runs = client.search_runs([experiment.experiment_id])
    by_name = {run.info.run_name: run for run in runs}
    assert set(by_name) == {"tiny", "tiny-round-0", "tiny-round-1"}
    assert {run.info.status for run in runs} == {"FINISHED"}
    parent = by_name["tiny"].info.run_id
    points = client.get_metric_history(parent, "PR-AUC/test")
    assert [point.step for point in points] == [0, 1]
    child = by_name["tiny-round-1"]
    assert child.data.tags["mlflow.parentRunId"] == parent
    assert child.data.metrics["rows of teachers/tiny-self-0"] == 320
    assert [point.step for point in client.get_metric_history(child.info.run_id, "training/loss")] == [15, 30]
    files = [file.path for folder in ("figures", "tables") for file in client.list_artifacts(child.info.run_id, folder)]
    assert {"figures/pr_curves.png", "figures/rounds.png", "tables/topics.json", "tables/teachers.json"} <= set(files)
    inputs = {entry.dataset.name for entry in child.inputs.dataset_inputs}
    assert inputs == {"data", "human", "colour-expert", "shape-expert", "vendor", "tiny-self-0"}
    champion = client.get_model_version_by_alias("t2t-tiny", "champion")
    assert champion.run_id in {by_name["tiny-round-0"].info.run_id, child.info.run_id}


def test_prefect_recorded_one_flow_run_with_its_steps_and_artifacts(done):
    import sqlite3

    work, _ = done
    with sqlite3.connect(f"file:{work / 'prefect' / 'prefect.db'}?mode=ro", uri=True) as database:
        flows = database.execute("select name, state_type from flow_run").fetchall()
        tasks = {name for (name,) in database.execute("select name from task_run where state_type = 'COMPLETED'")}
        artifacts = {key for (key,) in database.execute("select key from artifact")}
    assert flows == [("tiny", "COMPLETED")]
    steps = {f"round {k}: {step}" for k in (0, 1) for step in STEPS}
    assert tasks >= steps | {"prepare", "round 0: promote"}
    assert artifacts == {"tiny-progress", "tiny-rounds", "tiny-mlflow"}


def test_a_finished_campaign_is_not_run_again_and_can_be_prolonged(done, t2t, tmp_path):
    import shutil
    import sqlite3

    work = tmp_path / "copy"
    shutil.copytree(done[0], work)
    before = json.loads(t2t("rounds", "tiny", "--json", work=work).stdout)
    again = t2t("run", "tiny", work=work)
    assert again.returncode == 0, again.stderr
    assert "training" not in again.stderr
    assert json.loads(t2t("rounds", "tiny", "--json", work=work).stdout) == before
    # Nothing is left to schedule: no server of its own is started, and Prefect has no run of it.
    with sqlite3.connect(f"file:{work / 'prefect' / 'prefect.db'}?mode=ro", uri=True) as database:
        assert database.execute("select count(*) from flow_run").fetchall() == [(1,)]
    # Embeddings are found, not made: a second run decodes nothing.
    assert "Embedding" not in again.stderr
    longer = t2t("run", "tiny", "--set", "rounds.max=3", work=work)
    assert longer.returncode == 0, longer.stderr
    # Prefect shows the rounds of before in the run that begins behind them.
    with sqlite3.connect(f"file:{work / 'prefect' / 'prefect.db'}?mode=ro", uri=True) as database:
        told = "select name, state_name from task_run where name like '%done before' order by name"
        found = database.execute(told).fetchall()
    assert found == [(f"round {k}: done before", "Done before") for k in (0, 1)]
    after = json.loads(t2t("rounds", "tiny", "--json", work=work).stdout)
    assert after[:2] == [{**row, "champion": after[i]["champion"]} for i, row in enumerate(before)]
    assert after[2]["teachers"] == 6
    changed = t2t("run", "tiny", "--set", "training.steps=31", work=work)
    assert changed.returncode == 1
    assert "training.steps" in changed.stderr or "training" in changed.stderr
    assert "--name" in changed.stderr


def test_commands_on_a_finished_campaign(done, t2t, world):
    work, _ = done
    clip = next((world / "data" / "demo" / "clips").glob("*.mp4"))
    scores = json.loads(
        t2t(
            "predict", "tiny", clip, "--topics", "red circle", "--topics", "a spinning star", "--json", work=work
        ).stdout
    )
    assert {row["topic"] for row in scores} == {"red circle", "a spinning star"}
    assert all(0 <= row["confidence"] <= 1 for row in scores)
    compared = t2t("compare", "tiny", "0", "1", work=work)
    assert compared.returncode == 0, compared.stderr
    for text in ("test pr_auc", "Topics that changed most", "Labels that changed most"):
        assert text in compared.stdout
    teachers = t2t("teachers", work=work).stdout
    assert "tiny-self-0" in teachers
    assert "student" in teachers
    missing = t2t("compare", "tiny", "0", "7", work=work)
    assert missing.returncode == 1
    assert "no round 7" in missing.stderr


def test_a_checkpoint_scores_the_same_wherever_it_is_loaded(done, world):
    import numpy as np

    from t2t.students.checkpoint import load, read_encoder
    from tests.helpers.embedding import embed_file

    folder = done[0] / "campaigns" / "tiny" / "round-001" / "student"
    clip = sorted((world / "data" / "demo" / "clips").glob("*.mp4"))[0]
    embeddings = embed_file(clip, read_encoder(folder))
    first, second = (load(folder).predict(embeddings, np.array([0]), ["red circle", "blue star"]) for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_ctrl_c_leaves_no_process_and_the_campaign_goes_on(world, t2t, tmp_path):
    work = tmp_path / "work"
    line, environment = command(world, work, "run", "tiny", "--set", "training.steps=5000")
    process = subprocess.Popen(
        line, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr
    for text in process.stderr:
        if "Round 0" in text and "rows" in text:
            break
    time.sleep(1)  # into the training loop
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to everything in the foreground
    rest = process.stderr.read()
    assert process.wait(60) == 130
    assert "Traceback" not in rest
    assert f"Stopped. Go on with: {shlex.join(['t2t', *line[line.index('t2t') + 1 :]])}\n" in rest
    assert left_behind(work) == []
    client_state = subprocess.run(["git", "-C", work / "lake.git", "fsck"], capture_output=True, text=True)
    assert client_state.returncode == 0, client_state.stderr


def test_an_error_leaves_no_process_and_says_what_is_wrong(t2t, tmp_path):
    failed = t2t("run", "tiny", "--set", "teachers=[colour-expert, vendr]")
    assert failed.returncode == 1
    assert "vendr" in failed.stderr
    assert "Did you mean 'vendor'?" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert left_behind(tmp_path / "work") == []
