"""A distillation from its file to the encoder in its place: steps done once, kills, what changed meanwhile."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import timm
import torch
from safetensors.torch import load_file

import t2t
from t2t.campaign import encoders
from t2t.campaign.entries import open_dataset
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.data.embeddings.config import DistilledConfig
from t2t.data.embeddings.distilled import CARD, WEIGHTS, located, place_of
from t2t.data.embeddings.encoders import build_encoder
from t2t.distillation.distillation import Distillation
from t2t.distillation.entries import DistillationRun, read_distillation, settled
from t2t.distillation.measuring import _pruned, measured
from t2t.distillation.record import Evaluated, Prepared, Published, TrainedEncoder
from t2t.distillation.running import DistilledResult, run
from t2t.distillation.student import EncoderStudent
from t2t.distillation.watcher import Watcher
from t2t.lake import open_lake
from tests.helpers.distillations import SMALL, distillation_in


class Killed(BaseException):
    """What a kill looks like from inside."""


class Told(Watcher):
    """Notes what it is told; dies at a point of the training where it is asked to."""

    def __init__(self, dies_at: int | None = None):
        self.calls: list[str] = []
        self.points: dict[int, dict[str, float]] = {}
        self.dies_at = dies_at

    def ready(self, distillation: Distillation) -> None:
        self.calls.append("ready")

    def opened(self, distillation: Distillation, prepared: Prepared) -> None:
        self.calls.append("opened")

    def curve(self, distillation: Distillation, points: Any) -> None:
        self.points |= {step: dict(numbers) for step, numbers in points}
        if self.dies_at in self.points:
            raise Killed

    def failed(self, distillation: Distillation) -> None:
        self.calls.append("failed")

    def published(
        self, distillation: Distillation, trained: TrainedEncoder, evaluated: Evaluated, published: Published
    ) -> None:
        self.calls.append("published")


def opened(workspace: Workspace, *settings: str) -> Distillation:
    order = DistillationRun(distillation="small", settings=settings)
    return Distillation(read_distillation(workspace, order), workspace, "cpu")


@pytest.fixture(scope="module")
def made(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, DistilledResult, Told]:
    """A distillation that ran without a stop."""
    workspace, told = distillation_in(world, tmp_path_factory.mktemp("made")), Told()
    return workspace, run(opened(workspace), told), told


def bytes_of(workspace: Workspace) -> dict[str, bytes]:
    return {name: (place_of(workspace.work, "small") / name).read_bytes() for name in (CARD, WEIGHTS)}


def test_what_comes_of_it_is_in_its_place_in_the_lake_and_measured(
    made: tuple[Workspace, DistilledResult, Told],
) -> None:
    workspace, result, told = made
    assert result.folder == place_of(workspace.work, "small")
    assert told.calls == ["ready", "opened", "published"]
    assert sorted(told.points) == [2, 4, 6]
    assert {"loss/tokens/cls", "loss/tokens/patches", "loss/maps/cls", "loss/maps/patches"} <= set(told.points[6])
    noted = encoders.entries(open_lake("git", workspace.work))["small"]
    assert noted == result.card
    assert [(one.name, one.kind, one.model) for one in noted.teachers] == [
        ("tokens", "timm", "test_vit"),
        ("maps", "timm", "test_resnet"),
    ]
    assert noted.settings == settled(opened(workspace).config)
    # No label and no clip of the test split was looked at: 12 + 12 + 16 clips of two frames.
    assert noted.frame_count == 80
    assert result.table is None


def test_it_is_measured_beside_its_teachers(
    made: tuple[Workspace, DistilledResult, Told], world: Path, tmp_path: Path
) -> None:
    workspace = distillation_in(world, tmp_path, evaluation={**SMALL["evaluation"], "datasets": ["demo"]})
    at_work = opened(workspace)
    result = run(at_work)
    assert result.card.weights == made[1].card.weights
    assert result.table is not None
    assert {row.encoder for row in result.table.rows} == {"small", "tokens", "maps", "concatenation"}
    assert all(0 <= row.value.value <= 1 for row in result.table.rows)
    # Pruning takes weights of a copy.
    frames = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), np.uint8)
    student = at_work.trained_student
    before = _embedded(student, frames)
    assert not np.allclose(_embedded(_pruned(student, 0.9), frames), before)
    teacher = at_work.teachers[0]
    whole = teacher.tokens(frames).cls
    assert not torch.allclose(_pruned(teacher, 0.9).tokens(frames).cls, whole)
    assert torch.equal(teacher.tokens(frames).cls, whole)
    assert np.array_equal(_embedded(student, frames), before)


def _embedded(student: EncoderStudent, frames: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return student.embed(torch.from_numpy(frames)).numpy()


def test_the_encoder_is_used_at_once_and_gives_the_trained_students_numbers(
    made: tuple[Workspace, DistilledResult, Told],
) -> None:
    workspace, result, _ = made
    model = timm.create_model("test_resnet", num_classes=0)
    model.load_state_dict(load_file(result.folder / WEIGHTS), strict=True)  # no projector is in it
    encoder = build_encoder(located(DistilledConfig(name="small"), workspace.work))
    assert (encoder.dim, encoder.size) == (model.num_features, 32)
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    assert np.isfinite(encoder.encode(frames)).all()


def test_done_is_done(made: tuple[Workspace, DistilledResult, Told], monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, result, _ = made

    def not_again(*_: object) -> None:
        raise AssertionError("done a second time")

    for name in ("source", "teachers", "student", "train"):
        monkeypatch.setattr(Distillation, name, property(not_again))
    again = Told()
    assert run(opened(workspace), again) == result
    assert again.calls == []


def test_an_encoder_that_somebody_deleted_is_written_again(
    made: tuple[Workspace, DistilledResult, Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, result, _ = made
    before = bytes_of(workspace)
    shutil.rmtree(result.folder)
    monkeypatch.setattr(Distillation, "train", property(lambda *_: pytest.fail("trained again")))
    run(opened(workspace))
    assert bytes_of(workspace) == before


@pytest.mark.parametrize("dies_at", [2, 4, 6])
def test_a_kill_in_the_training_and_going_on_gives_the_same_bytes(
    made: tuple[Workspace, DistilledResult, Told], world: Path, tmp_path: Path, dies_at: int
) -> None:
    workspace = distillation_in(world, tmp_path)
    killed = Told(dies_at)
    with pytest.raises(Killed):
        run(opened(workspace), killed)
    assert killed.calls == ["ready", "opened", "failed"]
    assert not place_of(workspace.work, "small").exists()
    again = Told()
    run(opened(workspace), again)
    assert bytes_of(workspace) == bytes_of(made[0])
    assert again.points == made[2].points


def test_a_kill_between_any_two_steps_gives_the_same_bytes(
    made: tuple[Workspace, DistilledResult, Told], world: Path, tmp_path: Path
) -> None:
    workspace, done = distillation_in(world, tmp_path), []

    def dying(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        found = function(*arguments)
        if name not in done:
            done.append(name)
            raise Killed
        return found

    for _ in range(4):
        with pytest.raises(Killed):
            run(opened(workspace), step=dying)
    result = run(opened(workspace))
    assert done == ["prepare", "train", "evaluate", "publish"]
    assert bytes_of(workspace) == bytes_of(made[0])
    assert result.card == made[1].card
    keys = [commit.key for commit in open_lake("git", workspace.work).log("main")]
    assert sum(key.startswith("encoder:small:") for key in keys) == 1


def test_other_frames_or_teachers_under_way_are_refused(world: Path, tmp_path: Path) -> None:
    workspace = distillation_in(world, tmp_path)
    with pytest.raises(Killed):
        run(opened(workspace), Told(dies_at=2))
    notes = opened(workspace).notes
    prepared = notes.need(Prepared)
    notes.write(prepared.model_copy(update={"frames": "1" * 64}))
    with pytest.raises(T2TError, match="the frames of its datasets changed since it began"):
        run(opened(workspace))
    others = [one.model_copy(update={"fingerprint": "0" * 64}) for one in prepared.teachers[:1]]
    notes.write(prepared.model_copy(update={"teachers": (*others, *prepared.teachers[1:])}))
    with pytest.raises(T2TError, match="the teacher tokens changed since it began"):
        run(opened(workspace))


def test_it_is_not_measured_beside_another_teacher_than_it_learned_from(
    made: tuple[Workspace, DistilledResult, Told], world: Path, tmp_path: Path
) -> None:
    workspace = distillation_in(world, tmp_path)
    shutil.copytree(made[0].work, workspace.work)
    notes = opened(workspace).notes
    prepared = notes.need(Prepared)
    others = [one.model_copy(update={"fingerprint": "0" * 64}) for one in prepared.teachers[:1]]
    notes.write(prepared.model_copy(update={"teachers": (*others, *prepared.teachers[1:])}))
    for step in ("evaluated", "published"):
        (notes.folder / f"{step}.json").unlink()
    with pytest.raises(T2TError, match="the teacher tokens changed since it began"):
        run(opened(workspace))


def test_a_damaged_note_is_said(made: tuple[Workspace, DistilledResult, Told], world: Path, tmp_path: Path) -> None:
    workspace = distillation_in(world, tmp_path)
    shutil.copytree(made[0].work, workspace.work)
    path = opened(workspace).folder / "trained.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "steps": 7}))
    shutil.rmtree(place_of(workspace.work, "small"))
    with pytest.raises(T2TError, match=r"trained\.json: cannot be read"):
        run(opened(workspace))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("student.model=test_resnt", "student: timm has no model 'test_resnt'. Did you mean 'test_resnet'?"),
        ("teachers=[{name: a, kind: timm, model: test_vitt}]", "teacher 'a': timm has no model 'test_vitt'."),
    ],
)
def test_an_unknown_model_is_said_before_anything_is_opened(
    world: Path, tmp_path: Path, setting: str, said: str
) -> None:
    workspace = distillation_in(world, tmp_path)
    with pytest.raises(T2TError) as error:
        opened(workspace, setting).check_models()
    assert said in str(error.value)
    assert not workspace.work.exists()


def test_python_runs_it_without_a_server(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T2T_OBSERVERS", "")
    workspace = distillation_in(world, tmp_path)
    settings = ["training.steps=2"]
    result = t2t.run_distillation("small", workspace=workspace, name="short", settings=settings)
    assert (result.name, result.table, result.folder.name) == ("short", None, "short")
    with pytest.raises(T2TError, match=r"watcher is a t2t\.distillation\.watcher\.Watcher"):
        t2t.run_distillation("small", workspace=workspace, watcher="mlflow")  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_workers_share_each_batch_and_leave_one_encoder(
    made: tuple[Workspace, DistilledResult, Told], world: Path, tmp_path: Path
) -> None:
    workspace, told = distillation_in(world, tmp_path), Told()
    result = run(opened(workspace, "training.workers=2"), told)
    assert told.calls == ["ready", "opened", "published"]
    one, two = made[2].points[2], told.points[2]
    assert one.keys() == two.keys()
    # Means over a batch are added up in another order, and batch norm sees half a batch.
    assert two["loss"] == pytest.approx(one["loss"], rel=0.05)
    assert result.card.teachers == made[1].card.teachers
    assert not list(workspace.work.rglob("*.tmp"))


def test_copies_of_a_file_are_measured_each(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two samples of one file share its frames, and both are people's to judge by."""
    at_work = opened(distillation_in(world, tmp_path))
    dataset = open_dataset(at_work.workspace, "demo")
    number = dataset.samples["split"].to_pylist().index("test")
    paths = dataset.samples["path"].to_pylist()
    paths[number + 1] = paths[number]
    samples = dataset.samples.set_column(dataset.samples.column_names.index("path"), "path", pa.array(paths))
    at_work.__dict__ |= {"labeled": [replace(dataset, samples=samples)], "trained_student": at_work.student.eval()}
    seen: dict[str, Any] = {}

    def evaluate(tasks: list[Any], name: str, teachers: Any, features: Any, *_: Any, **__: Any) -> None:
        seen.update(task=tasks[0], features=features(name, tasks[0]))

    monkeypatch.setattr("t2t.distillation.measuring.evaluate", evaluate)
    measured(at_work)
    ids = dataset.samples["sample_id"].to_pylist()
    first, copy = (seen["task"].sample_ids.index(sample) for sample in ids[number : number + 2])
    assert np.array_equal(seen["features"][first], seen["features"][copy])
    assert len(np.unique(seen["features"], axis=0)) == len(seen["features"]) - 1


def test_a_dataset_that_cannot_be_measured_on_is_refused_before_anything_is_decoded(
    world: Path, tmp_path: Path
) -> None:
    # It was refused after the training, and its settings could not be changed any more.
    (tmp_path / "registry" / "datasets").mkdir(parents=True)
    shutil.copytree(world / "data" / "demo", tmp_path / "data" / "demo")
    shutil.copytree(world / "data" / "demo", tmp_path / "data" / "bare")
    entry = (world / "registry" / "datasets" / "demo.yaml").read_text()
    (tmp_path / "registry" / "datasets" / "demo.yaml").write_text(entry)
    bare = entry.replace("name: demo", "name: bare").replace("root: demo", "root: bare")
    (tmp_path / "registry" / "datasets" / "bare.yaml").write_text(bare)
    annotations = tmp_path / "data" / "bare" / "annotations.csv"
    annotations.write_text(annotations.read_text().splitlines()[0] + "\n")
    workspace = distillation_in(world, tmp_path, evaluation={**SMALL["evaluation"], "datasets": ["demo", "bare"]})
    at_work = opened(Workspace(workspace.registry, tmp_path / "data", workspace.work))
    with pytest.raises(T2TError, match="Dataset 'bare'"):
        run(at_work)
    assert not (workspace.work / "frames").exists()
    assert not (at_work.folder / "distillation.json").exists()


def test_a_teacher_that_is_retracted_is_not_learned_from_before_or_midway(world: Path, tmp_path: Path) -> None:
    workspace = distillation_in(world, tmp_path)
    run(opened(workspace))
    lake = open_lake("git", workspace.work)
    order = DistillationRun(distillation="small", name="next")
    following = Distillation(read_distillation(workspace, order), workspace, "cpu")
    with pytest.raises(Killed):
        run(following, Told(dies_at=2))
    encoders.retract(lake, "small", "maps", "a licence")
    words = r"'{}': the teacher maps is retracted \(a licence\).* t2t distill retract small maps --undo"
    with pytest.raises(T2TError, match=words.format("next")):
        run(following)
    third = DistillationRun(distillation="small", name="third", settings=("training.steps=3",))
    with pytest.raises(T2TError, match=words.format("third")):
        run(Distillation(read_distillation(workspace, third), workspace, "cpu"))
    assert not (workspace.work / "distillations" / "third" / "distillation.json").exists()
    encoders.retract(lake, "small", "maps", undo=True)
    # The same object goes on as a new one would: its student is not the one that was half trained.
    assert run(following).card.weights == encoders.entries(lake)["small"].weights


@pytest.mark.parametrize("file", [CARD, WEIGHTS])
def test_an_encoder_that_is_damaged_is_written_again(
    file: str, made: tuple[Workspace, DistilledResult, Told], tmp_path: Path
) -> None:
    workspace = Workspace(made[0].registry, made[0].data, tmp_path / "work")
    shutil.copytree(made[0].work, workspace.work)
    path = place_of(workspace.work, "small") / file
    path.write_bytes(path.read_bytes()[:-9] + b" " * 9)
    assert run(opened(workspace)).card == made[1].card
    assert bytes_of(workspace) == bytes_of(made[0])
