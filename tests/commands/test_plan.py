"""What a run would do, held against what the run then does."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from t2t.campaign.campaign import Campaign
from t2t.campaign.recipe import planned_recipe
from t2t.cli import app
from t2t.commands.plan import probe, rates
from t2t.commands.plan.estimate import plan
from t2t.commands.plan.model import UNKNOWN, Plan
from t2t.commands.plan.show import amount, duration, print_plan
from t2t.commands.tables import console
from t2t.commands.teachers import print_teachers
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.data.embeddings.embed import SHARD_SAMPLES
from t2t.data.embeddings.store import EmbeddingStore
from t2t.teachers.retraction import retract
from t2t.teachers.store import read_labels, registrations
from tests.helpers.campaigns import run, tiny_at


@pytest.fixture(scope="module")
def place(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world's data with a registry of its own, to be added to."""
    folder = tmp_path_factory.mktemp("plan")
    shutil.copytree(world / "registry", folder / "registry")
    shutil.copytree(world / "data", folder / "data")
    return folder


def campaign(place: Path, work: Path, name: str = "tiny", **changes: object) -> Campaign:
    return tiny_at(Workspace.find(place / "registry", place / "data", work), name=name, **changes)


def planned(at: Campaign, /, **changes: object) -> Plan:
    return plan(at.workspace, at.config.model_copy(update=changes))


def files(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def before(place: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """The plan of a campaign that has not begun."""
    work = tmp_path_factory.mktemp("work") / "work"
    return planned(campaign(place, work)), work


@pytest.fixture(scope="module")
def done(place: Path, before: tuple[Plan, Path]) -> Campaign:
    """That campaign, run to its end."""
    at_work = campaign(place, before[1])
    run(at_work)
    return at_work


def test_a_campaign_that_has_not_begun(before: tuple[Plan, Path]) -> None:
    found, work = before
    assert not work.exists()
    assert (found.embedding.total, found.embedding.done) == (56, 0)
    assert found.embedding.seconds
    assert "tried just now" in found.embedding.measured
    by_name = {one.what: one for one in found.labeling}
    assert list(by_name) == ["human", "vendor", "new students"]
    assert by_name["vendor"].left == 56 * 39
    assert by_name["vendor"].note.startswith("read from a file of ")
    # Nobody has trained here, so some steps were tried.
    assert all(one.seconds is not None and one.seconds > 0 for one in found.rounds)
    assert "its training to step 30, by 10 steps tried just now" in found.measured
    assert found.unmeasured == []
    assert found.free > 0


def test_without_trying_it_is_said_that_nobody_knows(place: Path, tmp_path: Path) -> None:
    at_work = campaign(place, tmp_path / "work")
    found = plan(at_work.workspace, at_work.config, probe=False)
    assert found.unmeasured == ["embedding", "round 0", "round 1"]
    assert [one.seconds for one in found.rounds] == [None, None]
    assert [one.rows for one in found.rounds] == [one.rows for one in planned(at_work).rounds]
    with console.capture() as capture:
        print_plan(found)
    text = " ".join(capture.get().split())
    assert f"A round's time: {UNKNOWN}." in text
    assert "what is not measured yet: embedding, round 0, round 1." in text


def test_it_counts_as_the_table_of_teachers_does(done: Campaign, before: tuple[Plan, Path]) -> None:
    found = planned(done)
    held = {registration.id: registration.rows for _, registration in registrations(done.lake)}
    assert set(held) == {"human", "vendor", "tiny-self-0"}
    assert {one.what: one.labels for one in found.labeling} == held
    # The vendor answers a part of what it is asked, and that many labels were promised.
    vendor = next(one for one in found.labeling if one.what == "vendor")
    assert held["vendor"] < vendor.done == 56 * 39
    promised = next(one for one in before[0].labeling if one.what == "vendor")
    assert (promised.labels, promised.note) == (0, f"read from a file of {held['vendor']:,} labels")
    with console.capture() as capture:
        print_plan(found)
        print_teachers(done.workspace)
    assert capture.get().count(f"{held['vendor']:,}") == 2


def test_a_control_and_more_rows_take_longer(place: Path, tmp_path: Path) -> None:
    at_work = campaign(place, tmp_path / "work", rounds={"max": 2, "control": True})
    first, second = (one.seconds for one in planned(at_work).rounds)
    assert first is not None
    assert second is not None
    assert second >= 2 * first


def test_the_control_of_rounds_done_before_counts_too(done: Campaign) -> None:
    # A record's seconds are without its control's.
    mean = np.mean([record.seconds for record in done.ledger.records()])
    rounds = done.config.rounds.model_copy(update={"max": 2, "control": True})
    found = planned(done, name="controlled", rounds=rounds)
    assert [one.seconds for one in found.rounds] == [pytest.approx(mean), pytest.approx(2 * mean)]
    assert found.measured == "mean of 2 rounds of tiny; twice, where a control is trained beside it"


def test_a_step_is_timed_as_the_training_takes_it(done: Campaign) -> None:
    recipe = planned_recipe(done.config, 4, 147, 28, {"human": 300, "vendor": 400})
    rate = probe.try_steps(recipe, done.dataset, 4, 147, {"human": 300, "vendor": 400}, "cpu")
    assert rate is not None
    assert rate.training(recipe.training) == pytest.approx(rate.begin + 30 * rate.step + 2 * rate.look)
    sooner = recipe.training.model_copy(update={"stop_after": 10})
    assert rate.training(sooner) == pytest.approx(rate.begin + 10 * rate.step + rate.look)
    # Nothing to learn from, and nothing that may be fetched.
    assert probe.try_steps(recipe, done.dataset, 4, 147, {"human": 0}, "cpu") is None
    far = recipe.student.model_copy(update={"text": recipe.student.text.model_copy(update={"pretrained": "t5-small"})})
    assert probe.try_steps(replace(recipe, student=far), done.dataset, 4, 147, {"human": 9}, "cpu") is None


def test_a_slow_trial_ends_when_its_time_is_up(done: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SECONDS", 0.0)
    recipe = planned_recipe(done.config, 4, 147, 28, {"human": 300, "vendor": 400})
    rate = probe.try_steps(recipe, done.dataset, 4, 147, {"human": 300, "vendor": 400}, "cpu")
    assert rate is not None
    assert rate.step > 0  # of the one step that it took


def test_it_is_what_the_run_then_does(before: tuple[Plan, Path], done: Campaign) -> None:
    found, _ = before
    records = done.ledger.records()
    assert [one.round for one in found.rounds] == [record.round for record in records]
    assert [one.rows for one in found.rounds] == [record.rows for record in records]
    assert [one.teachers for one in found.rounds] == [len(record.teachers) for record in records]
    assert all(one.exact for one in found.rounds)
    tagged = read_labels(done.lake, "main", "demo", "tiny-self-0")
    assert next(one for one in found.labeling if one.what == "new students").left == len(tagged)

    work = done.workspace.work
    store = sum(path.stat().st_size for path in (work / "embeddings").rglob("*.safetensors"))
    assert found.bytes["embeddings"] == pytest.approx(store, rel=0.1)
    matrices = sum(path.stat().st_size for path in work.glob("campaigns/tiny/round-*/labels/*.npy"))
    assert found.bytes["training rows"] == pytest.approx(matrices, rel=0.1)
    students = sum(path.stat().st_size for path in work.glob("campaigns/tiny/round-*/student/**/*") if path.is_file())
    assert found.bytes["checkpoints"] == pytest.approx(2 * students, rel=0.2)


def test_a_finished_campaign_has_nothing_left_and_looking_writes_nothing(done: Campaign) -> None:
    work = done.workspace.work
    (done.workspace.work / "embeddings" / ".1-a.safetensors.1.tmp").write_bytes(b"what a killed writer left")
    state = files(work)
    found = planned(done)
    assert files(work) == state
    assert found.embedding.left == 0
    assert [(one.what, one.left) for one in found.labeling] == [("human", 0), ("vendor", 0), ("tiny-self-0", 0)]
    assert (found.rounds_done, found.rounds, found.stop) == (2, [], "all 2 rounds are done")
    assert (found.seconds, found.needed) == (0, 0)


def test_a_prolonged_campaign_is_timed_by_its_own_rounds(done: Campaign) -> None:
    records = done.ledger.records()
    found = planned(done, rounds=done.config.rounds.model_copy(update={"max": 4}))
    assert [one.round for one in found.rounds] == [2, 3]
    assert [one.teachers for one in found.rounds] == [4, 5]
    # Its last student teaches now, too.
    each = found.rounds[1].rows - found.rounds[0].rows
    assert found.rounds[0].rows == records[1].rows + each
    assert next(one for one in found.labeling if one.what == "new students").left == 2 * each
    assert found.rounds[0].seconds == pytest.approx(np.mean([record.seconds for record in records]))
    assert found.measured == "mean of its last 2 rounds"


def test_another_campaign_is_timed_by_one_with_the_same_recipe(done: Campaign) -> None:
    mean = np.mean([record.seconds for record in done.ledger.records()])
    training = done.config.training.model_copy(update={"steps": 90})
    found = planned(done, name="longer", training=training)
    assert found.rounds[0].seconds == pytest.approx(3 * mean)
    assert found.measured == "mean of 2 rounds of tiny, scaled by steps"
    assert found.embedding.left == 0
    student = done.config.student.model_copy(update={"dim": 8})
    assert "tried just now" in planned(done, name="other", student=student).measured


def test_new_clips_are_embedded_and_labeled_by_the_teachers_that_are_there(
    done: Campaign, place: Path, tmp_path: Path
) -> None:
    shutil.copytree(place / "data", tmp_path / "data")
    shutil.copytree(place / "registry", tmp_path / "registry")
    shutil.copytree(done.workspace.work, tmp_path / "work")
    root = tmp_path / "data" / "demo"
    # The clips of before lie elsewhere now, so that the store does not remember them: it would hash them first.
    with open(root / "samples.csv", "a") as table:
        for number in range(3):
            shutil.copy(root / "clips" / "0000.mp4", root / "clips" / f"new-{number}.mp4")
            table.write(f"new-{number},clips/new-{number}.mp4,video,new-scene,unlabeled\n")
    at_work = campaign(tmp_path, tmp_path / "work", rounds={"max": 3})
    found = planned(at_work)
    assert found.embedding.total == 59
    left = {one.what: one.left for one in found.labeling}
    assert left["vendor"] == 3 * 39
    assert left["tiny-self-0"] == 3 * 20
    assert found.rounds[0].seconds is not None
    assert "tiny-self-0" in found.unmeasured


def test_a_run_that_would_be_refused_is_refused_here(done: Campaign, place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "data", tmp_path / "data")
    labels = tmp_path / "data" / "demo" / "teachers" / "vendor.csv"
    labels.write_text("\n".join(labels.read_text().splitlines()[:-1]) + "\n")
    workspace = Workspace.find(place / "registry", tmp_path / "data", done.workspace.work)
    with pytest.raises(T2TError, match="'vendor' is registered with other content"):
        plan(workspace, done.config)


def test_a_retracted_teacher_is_left_out(done: Campaign, tmp_path: Path, place: Path) -> None:
    shutil.copytree(done.workspace.work, tmp_path / "work")
    at_work = campaign(place, tmp_path / "work")
    retract(at_work.lake, "demo", "vendor", "wrong")
    found = planned(at_work)
    assert [one.what for one in found.labeling] == ["human", "new students"]
    assert [one.teachers for one in found.rounds] == [1, 2]
    assert "Retracted, and left out: vendor." in found.notes


@pytest.fixture
def asked(place: Path, tmp_path: Path) -> Iterator[Callable[..., str]]:
    def invoke(*words: str) -> str:
        line = ["--registry", str(place / "registry"), "--data-root", str(place / "data")]
        with console.capture() as capture:
            result = CliRunner().invoke(app, [*line, "--work", str(tmp_path / "work"), "plan", "tiny", *words])
        assert result.exit_code == 0, result.output + str(result.exception)
        return result.stdout + capture.get()

    yield invoke
    assert not (tmp_path / "work").exists()


def test_the_command_tries_teachers_that_look_at_videos(asked: Callable[..., str]) -> None:
    found = json.loads(asked("--json", "--set", "rounds.max=3"))
    labeling = {one["what"]: one for one in found["labeling"]}
    for name in ("colour-expert", "shape-expert"):
        assert labeling[name]["left"] == 56 * 39
        assert labeling[name]["seconds"] > 0
        assert "tried just now" in labeling[name]["measured"]
    assert len(found["rounds"]) == 3
    assert found["unmeasured"] == []
    assert found["rounds"][2]["seconds"] >= found["rounds"][0]["seconds"] > 0
    # An expert knows a part of the topics, which was seen when it was tried: 28 clips, 31 topics, 12 clips of people's.
    assert not found["rounds"][0]["exact"]
    assert 12 * 31 < found["rounds"][0]["rows"] < 12 * 31 + 3 * 28 * 31


def test_the_table_says_where_its_times_come_from(before: tuple[Plan, Path]) -> None:
    with console.capture() as capture:
        print_plan(before[0])
    text = " ".join(capture.get().split())
    assert "56 samples" in text
    assert "A round's time: its training to step 30, by 10 steps tried just now" in text
    assert "Altogether about" in text
    assert "are free in" in text


def test_durations_and_sizes_are_readable() -> None:
    assert [duration(s) for s in (None, 0.4, 59.4, 60, 200, 3 * 3600 + 125, 200_000)] == [
        UNKNOWN,
        "0 s",
        "59 s",
        "1 min 0 s",
        "3 min 20 s",
        "3 h 2 min",
        "2 d 7 h",
    ]
    assert [amount(size) for size in (None, 0, 999, 1000, 1_234_567, 999_600_000)] == [
        "not known",
        "0 bytes",
        "999 bytes",
        "1 kB",
        "1.23 MB",
        "1 GB",
    ]


def test_the_store_tells_how_long_embedding_takes(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path, "f" * 64)
    clip = np.zeros((1, 4), np.float16)

    def shards(sizes: list[int], gaps: list[float]) -> None:
        now = 1_700_000_000.0
        for number, (size, gap) in enumerate(zip(sizes, gaps, strict=True)):
            known = set(store.folder.glob("*.safetensors"))
            keys = [f"{number:032x}{sample:032x}" for sample in range(size)]
            store.write(keys, [clip] * size)
            [path] = set(store.folder.glob("*.safetensors")) - known
            now += gap
            os.utime(path, (now, now))

    full = SHARD_SAMPLES
    assert rates.shard_seconds(store.folder) == (None, 0)
    # Two runs: the pause between them, after a shard that is not full, does not count.
    shards([full, full, 10, full, full, full], [0, 0.5 * full, 5, 86400, 0.5 * full, 0.6 * full])
    rate, number = rates.shard_seconds(store.folder)
    assert number == 4
    assert rate == pytest.approx(0.5)


def test_a_trial_leaves_out_what_the_first_ones_pay_for_all() -> None:
    calls: list[int] = []
    samples = pa.table({"sample_id": [str(i) for i in range(500)]})
    rate, number = rates.try_few(samples, lambda few: calls.append(len(few)))
    assert calls == [1, rates.TRY_FEW, rates.TRY_MOST]
    assert number == rates.TRY_MOST
    assert rate is not None

    def broken(few: pa.Table) -> None:
        raise T2TError("none can be read")

    assert rates.try_few(samples, broken) == (None, 0)
    calls.clear()
    assert rates.try_few(samples.slice(0, 2), lambda few: calls.append(len(few)))[1] == 1
    assert calls == [1, 1]
