"""What every engine comes to: the embeddings, labels and weights of this machine, whoever does the work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from t2t.campaign.campaign import Campaign
from t2t.campaign.config import ENGINES
from t2t.campaign.engine import Engine, LocalEngine, open_engine
from t2t.campaign.steps.train import new_student
from t2t.core.errors import T2TError
from t2t.core.files import sha256_file
from t2t.data.embeddings.embed import TooManyUnreadable
from t2t.students.checkpoint import load, save
from t2t.teachers import Teacher, build, parse_entry
from t2t.teachers.labeling import Part
from t2t.teachers.store import registered
from t2t.training.job import TrainJob
from t2t.training.job import run as run_job
from t2t.training.matrix import LabelMatrix
from tests.helpers.campaigns import run_until, tiny
from tests.helpers.embedding import embed_file

# A cluster is started with the other services.
EVERY = [pytest.param(name, marks=[pytest.mark.services] * (name == "ray")) for name in sorted(ENGINES)]


@pytest.fixture(scope="module", params=EVERY)
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "ray":
        pytest.importorskip("ray", reason="needs t2t[ray]")
    return open_engine(request.param, "cpu")


@pytest.fixture(scope="module")
def campaign(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """A campaign whose first round this machine has done, without an engine's name in it."""
    campaign = tiny(world, tmp_path_factory.mktemp("engines") / "work")
    run_until(campaign, "round 0: publish")
    return campaign


def contents(parts: Sequence[Part]) -> list[bytes]:
    return [part.file.read_bytes() for part in parts]


def weights(student: Any) -> dict[str, bytes]:
    return {name: tensor.detach().cpu().numpy().tobytes() for name, tensor in student.state_dict().items()}


# -- embed ---------------------------------------------------------------------------------------------------------


def test_embeddings_and_keys_are_those_of_one_file_after_the_other(
    engine: Engine, campaign: Campaign, tmp_path: Path
) -> None:
    samples, config = campaign.dataset.samples, campaign.config.encoder
    found = engine.embed(samples, config, tmp_path, 0.0)
    paths = samples["path"].to_pylist()
    assert found.sample_ids == samples["sample_id"].to_pylist()
    assert list(found.keys) == [sha256_file(Path(path)) for path in paths]
    assert (found.decoded, len(found.quarantine)) == (len(set(found.keys)), 0)
    assert found.encoder == campaign.embedded.encoder
    for position in (0, len(paths) - 1):
        one = embed_file(paths[position], config).gather(np.zeros(1, np.int64))
        here = found.embeddings.gather(np.array([position]))
        assert [part.tobytes() for part in here] == [part.tobytes() for part in one]
    whole = np.arange(len(paths))
    wanted = campaign.embedded.embeddings.gather(campaign.positions(found.sample_ids))
    assert [part.tobytes() for part in found.embeddings.gather(whole)] == [part.tobytes() for part in wanted]
    # What is in the store is not made again.
    again = engine.embed(samples, config, tmp_path, 0.0)
    assert (again.decoded, again.sample_ids, list(again.keys)) == (0, found.sample_ids, list(found.keys))


def test_what_cannot_be_read_is_told_and_too_much_of_it_is_refused(
    engine: Engine, campaign: Campaign, tmp_path: Path
) -> None:
    samples = campaign.dataset.samples.slice(0, 3)
    names = samples["sample_id"].to_pylist()
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"no video " + name.encode())
    paths = [str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4"), samples["path"][2].as_py()]
    samples = samples.set_column(samples.schema.get_field_index("path"), "path", pa.array(paths))
    found = engine.embed(samples, campaign.config.encoder, tmp_path / "work", 0.7)
    assert found.quarantine["sample_id"].to_pylist() == names[:2]
    assert found.sample_ids == names[2:]
    with pytest.raises(TooManyUnreadable) as error:
        engine.embed(samples, campaign.config.encoder, tmp_path / "work", 0.1)
    assert set(error.value.quarantine["sample_id"].to_pylist()) == set(names[:2])


# -- label ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def student(campaign: Campaign) -> Teacher:
    """The first round's student as a teacher: one that looks at videos."""
    registration = registered(campaign.lake, "demo", "tiny-self-0")
    assert registration is not None
    return build(parse_entry(registration.entry, "test"), campaign.context)


def parts_in(folder: Path, campaign: Campaign) -> list[Part]:
    """Parts of five samples, the last one asked for other topics than the others."""
    folder.mkdir(parents=True)
    samples, topics = campaign.samples("unlabeled"), campaign.dataset.seen
    starts = range(0, len(samples), 5)
    asked = [topics] * (len(starts) - 1) + [topics[:3]]
    return [
        Part(folder / f"part-{number:05}.parquet", samples.slice(start, 5), tuple(asked[number]))
        for number, start in enumerate(starts)
    ]


def test_parts_are_the_same_byte_for_byte(engine: Engine, campaign: Campaign, student: Teacher, tmp_path: Path) -> None:
    expected, made = parts_in(tmp_path / "expected", campaign), parts_in(tmp_path / "made", campaign)
    assert len(made) == 4
    for part in expected:
        part.label(student)
    engine.label(student, made)
    assert contents(made) == contents(expected)
    # Nothing but them is left; and made anew they are the same.
    left = sorted(path.name for path in (tmp_path / "made").iterdir() if not path.name.endswith(".crc32"))
    assert left == [part.file.name for part in made]
    made[1].file.unlink()
    engine.label(student, [made[1]])
    assert contents(made) == contents(expected)


def test_a_teacher_that_cannot_be_built_anew_labels_too(
    engine: Engine, campaign: Campaign, student: Teacher, tmp_path: Path
) -> None:
    """One without a `context`: it stays in this process."""

    class Here:
        entry = student.entry
        shard_samples = 5
        fingerprint = student.fingerprint
        label = staticmethod(student.label)

    expected, made = parts_in(tmp_path / "expected", campaign), parts_in(tmp_path / "made", campaign)
    for part in expected:
        part.label(student)
    engine.label(Here(), made)
    assert contents(made) == contents(expected)


# -- train ---------------------------------------------------------------------------------------------------------


def job_in(folder: Path, campaign: Campaign) -> tuple[TrainJob, LabelMatrix]:
    """The training of the campaign's first round once more, in another folder."""
    folder.mkdir(parents=True)
    embedded, files = campaign.embedded, campaign.files(0)
    matrix, pairs = LabelMatrix.load(files.labels), campaign.human_pairs("validation")
    job = TrainJob(
        title="Training",
        folder=folder.absolute(),
        matrix=files.labels.absolute(),
        store=(campaign.workspace.work / "embeddings").absolute(),
        encoder=embedded.encoder,
        frames=embedded.embeddings.frames,
        recipe=campaign.config.training,
        seed=campaign.seed(0),
        identity="human",
    )
    keys, pair_keys = (
        [embedded.keys[i] for i in campaign.positions(ids)] for ids in (matrix.sample_ids, pairs.sample_ids)
    )
    job.write(keys, pairs, pair_keys)
    return job, matrix


def test_weights_and_curve_are_those_of_the_training_itself(engine: Engine, campaign: Campaign, tmp_path: Path) -> None:
    job, matrix = job_in(tmp_path / "expected", campaign)
    expected = new_student(campaign, 0, matrix, None, campaign.config.student)
    wanted = run_job(job, expected)

    job, _ = job_in(tmp_path / "made", campaign)
    told: list[tuple[int, dict[str, float]]] = []
    trained, facts = engine.train(
        job,
        new_student(campaign, 0, matrix, None, campaign.config.student),
        lambda step, metrics: told.append((step, metrics)),
    )
    assert weights(trained) == weights(expected)
    assert (facts.best_step, facts.best_score, facts.curve) == (wanted.best_step, wanted.best_score, wanted.curve)
    assert told == list(facts.curve)
    # And those that the campaign's own round left, to the last byte of the file.
    left = campaign.files(0).student
    save(trained, tmp_path / "student")
    assert sha256_file(tmp_path / "student" / "model.safetensors") == sha256_file(left / "model.safetensors")
    assert weights(load(left)) == weights(trained)


# -- what it says of itself ----------------------------------------------------------------------------------------


def test_an_engine_says_where_a_step_computes(engine: Engine) -> None:
    assert engine.device == "cpu"


def test_engines_are_found_by_name() -> None:
    assert type(open_engine("local", "cpu")) is LocalEngine
    with pytest.raises(T2TError, match=r"unknown engine 'lokal'\. Did you mean 'local'"):
        open_engine("lokal")
