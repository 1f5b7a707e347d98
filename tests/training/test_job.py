"""A training as JSON: what a worker reads comes to the same weights, and needs nothing of a campaign."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from t2t.core.errors import T2TError
from t2t.core.files import sha256
from t2t.data.embeddings.store import Embeddings, EmbeddingStore
from t2t.data.pairs import Pairs
from t2t.evaluation.metrics import average_precision
from t2t.students.checkpoint import save
from t2t.students.dual_encoder import Student
from t2t.training.config import TrainingConfig
from t2t.training.job import TrainJob, run
from t2t.training.loop import Trained, train
from t2t.training.processes import helpers
from tests.helpers.students import TOPICS, tiny_config, tiny_student
from tests.helpers.training import NOISY, toy
from tests.helpers.worlds import ROOT

ENCODER = sha256("an encoder")
SEED = 7


def validation(embeddings: Embeddings) -> tuple[Pairs, np.ndarray]:
    """Every other clip with all topics, last one first, and where they stand among the embeddings."""
    where = np.arange(len(embeddings))[::-2].copy()
    sample, topic = (index.ravel() for index in np.indices((len(where), len(TOPICS))))
    target = (where[sample] % len(TOPICS) == topic).astype(np.float32)
    names = tuple(f"v{i}" for i in where)
    return Pairs(names, TOPICS, sample, topic, target, np.full(len(target), np.nan, np.float32)), where


def written(folder: Path, **recipe: object) -> TrainJob:
    """The toy's training with all its files, as a round has it."""
    matrix, embeddings = toy()
    clips = [embeddings.gather(np.array([i]))[0][0, :count] for i, count in enumerate(embeddings.counts)]
    keys = [sha256(f"clip {i}") for i in range(len(clips))]
    # Two shards, neither in the order of the samples.
    store = EmbeddingStore(folder / "embeddings", ENCODER)
    for part in (range(len(clips) - 1, -1, -2), range(0, len(clips), 2)):
        store.write([keys[i] for i in part], [clips[i] for i in part])
    matrix.save(folder / "round" / "labels")
    settings = {"steps": 14, "batch_rows": 64, "evaluate_every": 5, "learning_rate": 0.01, **recipe}
    job = TrainJob(
        title="Round 0: training",
        folder=folder / "round",
        matrix=folder / "round" / "labels",
        store=folder / "embeddings",
        encoder=ENCODER,
        frames=embeddings.frames,
        recipe=TrainingConfig.model_validate(settings),
        seed=SEED,
        identity="cautious",
    )
    pairs, where = validation(embeddings)
    job.write(keys, pairs, [keys[i] for i in where])
    return job


def fresh() -> Student:
    return tiny_student(tiny_config({"dropout": 0.2}, scale=3.0), teachers=("human", "cautious"))


def directly(job: TrainJob) -> tuple[Student, Trained]:
    """The same training by the loop itself, on what is in memory."""
    matrix, embeddings = toy()
    pairs, where = validation(embeddings)
    student = fresh()
    trained = train(
        student,
        matrix,
        embeddings,
        job.recipe,
        SEED,
        lambda kept: average_precision(kept.predict_pairs(embeddings, where, pairs, "cautious")),
    )
    return student, trained


def assert_same(first: Student, second: Student) -> None:
    state = first.state_dict()
    assert state.keys() == second.state_dict().keys()
    for name, value in second.state_dict().items():
        assert torch.equal(state[name], value), name


@pytest.mark.parametrize("recipe", [{}, NOISY])
def test_a_job_comes_to_the_weights_of_the_loop_bit_for_bit(recipe: dict[str, object], tmp_path: Path) -> None:
    job = written(tmp_path, **recipe)
    expected, by_hand = directly(job)
    told: list[tuple[int, dict[str, float]]] = []
    student = fresh()
    start = {name: value.clone() for name, value in student.state_dict().items()}
    trained = run(job, student, lambda *point: told.append(point))
    assert trained == by_hand
    assert told == trained.curve
    assert [step for step, _ in told] == [5, 10, 14]
    assert_same(student, expected)
    assert not torch.equal(student.state_dict()["project.weight"], start["project.weight"])


def test_validation_is_padded_as_the_evaluation_is(tmp_path: Path) -> None:
    job = written(tmp_path).model_copy(update={"frames": 11})
    student, padded = fresh(), []
    predict = student.predict_pairs

    def watched(embeddings: Embeddings, *arguments: Any) -> Pairs:
        padded.append(embeddings.frames)
        return predict(embeddings, *arguments)

    student.predict_pairs = watched  # type: ignore[method-assign]
    run(job, student)
    assert padded == [11, 11, 11]


def test_a_job_goes_on_from_its_snapshot(tmp_path: Path) -> None:
    job = written(tmp_path, snapshot_steps=3, **NOISY)
    whole, first = directly(job)

    class Killed(Exception):
        pass

    def kill(step: int, point: dict[str, float]) -> None:
        if step == 10:
            raise Killed

    with pytest.raises(Killed):
        run(job, fresh(), kill)
    assert job.files.snapshot.is_file()
    student, told = fresh(), []
    assert run(job, student, lambda step, point: told.append(step)) == first
    # The point before the kill is told again.
    assert told == [5, 10, 14]
    assert_same(student, whole)


def test_a_job_is_json(tmp_path: Path) -> None:
    job = written(tmp_path, task_weight={"cautious": 2.0})
    text = job.model_dump_json()
    assert TrainJob.model_validate_json(text) == job
    assert TrainJob.model_validate(json.loads(json.dumps(job.model_dump(mode="json")))) == job
    content = json.loads(text)
    assert content["folder"] == str(tmp_path / "round")
    assert content["recipe"]["task_weight"] == {"cautious": 2.0}
    again = TrainJob.model_validate_json(text)
    assert (again.files.job, again.files.start, again.files.snapshot) == (
        tmp_path / "round" / "job",
        tmp_path / "round" / "start",
        tmp_path / "round" / "training.safetensors",
    )
    student, expected = fresh(), fresh()
    assert run(again, student) == run(job, expected)
    assert_same(student, expected)


def test_writing_again_replaces_the_inputs(tmp_path: Path) -> None:
    job = written(tmp_path)
    kept = {path.name: path.read_bytes() for path in job.files.job.rglob("*") if path.is_file()}
    inputs = {"keys.npy", "pair_keys.npy", "names.json", "sample.npy", "topic.npy", "target.npy"}
    assert set(kept) == inputs | {"sums.json"}
    pairs, where = validation(toy()[1])
    keys = np.load(job.files.job / "keys.npy", allow_pickle=False).astype(str).tolist()
    job.write(keys, pairs, [keys[i] for i in where])
    assert {path.name: path.read_bytes() for path in job.files.job.rglob("*") if path.is_file()} == kept


def test_a_damaged_matrix_is_refused_in_words(tmp_path: Path) -> None:
    job = written(tmp_path)
    (job.matrix / "names.json").write_text("{")
    with pytest.raises(T2TError, match=r"labels: cannot be read .* Delete the folder: it is made again\."):
        run(job, fresh())


FORBIDDEN = (
    "t2t.campaign",
    "t2t.lake",
    "t2t.teachers",
    "t2t.commands",
    "t2t.integrations",
    "t2t.data.embeddings.encoders",
    "t2t.data.embeddings.decode",
    "timm",
    "av",
    "prefect",
    "mlflow",
    "ray",
)


def modules_after(code: str) -> set[str]:
    """What a process has imported once it has run some code."""
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout.splitlines()[-1]))


def unwanted(modules: set[str]) -> list[str]:
    return sorted(name for name in modules if any(name == bad or name.startswith(f"{bad}.") for bad in FORBIDDEN))


def test_helpers_are_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    def start(command: list[str], **_: object) -> None:
        started.append(command)
        raise OSError("no processes here")

    monkeypatch.setattr("t2t.training.processes.subprocess.Popen", start)
    with pytest.raises(OSError, match="no processes here"), helpers(written(tmp_path), 2, "cpu", tmp_path):
        pass
    assert started == [[sys.executable, "-m", "t2t.training.worker"]]


def test_a_worker_knows_no_campaign_no_lake_and_no_encoder() -> None:
    modules = modules_after("import t2t.training.worker")
    assert "t2t.training.job" in modules
    assert not {"sklearn", "pandas", "scipy.stats"} & modules  # a helper measures nothing, and they take a second
    assert unwanted(modules) == []


def test_a_worker_needs_none_of_them_to_load_its_student_and_to_train(tmp_path: Path) -> None:
    job = written(tmp_path)
    save(fresh(), job.files.start)
    (tmp_path / "job.json").write_text(job.model_dump_json())
    code = f"""
from pathlib import Path
from t2t.training.worker import TrainJob, load, run
job = TrainJob.model_validate_json(Path({str(tmp_path / "job.json")!r}).read_text())
assert run(job, load(job.files.start)).best_step
"""
    modules = modules_after(code)
    assert "t2t.students.dual_encoder" in modules
    assert unwanted(modules) == []
