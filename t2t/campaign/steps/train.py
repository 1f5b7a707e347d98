"""A round's training: the student as it starts, the job for its workers, the checkpoint that it leaves."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from t2t.campaign.campaign import Campaign
from t2t.campaign.facts import RoundFiles, RoundStart, TrainFacts
from t2t.campaign.observer import Observer
from t2t.campaign.recipe import Recipe, recipe_of
from t2t.campaign.steps.guidance import human_weight_of
from t2t.data.embeddings.store import Embeddings
from t2t.data.pairs import Pairs
from t2t.data.scales import read_scales
from t2t.students import build_student
from t2t.students.checkpoint import check_weights, load, read_student, save
from t2t.students.config import DualEncoderConfig, EncoderOnlyConfig, MultiHeadConfig
from t2t.training.config import TrainingConfig
from t2t.training.job import Report, TrainJob
from t2t.training.matrix import LabelMatrix
from t2t.training.recipe import guided

log = logging.getLogger("t2t")

# Added to a round's seed, which is far smaller, for its second student.
SECOND_SEED = 1 << 50


def train(
    campaign: Campaign, start: RoundStart, matrix: LabelMatrix | None, began: float, observer: Observer
) -> TrainFacts:
    """Trains the student of a round; leaves `round-<k>/student/`.

    Args:
        matrix: the round's rows; None where the student is trained already.
        began: when this process began with the round, by `time.monotonic`; its `seconds` count from there.
    """
    k, files = start.round, campaign.files(start.round)
    if matrix is None:
        log.info("Round %d: the student is trained already.", k)
    else:
        report = partial(_tell, campaign, k, observer)
        train_student(campaign, start, matrix, files, _started_from(campaign, start), began, report)
    files.training.remove()
    return TrainFacts.read(files)


def _tell(campaign: Campaign, k: int, observer: Observer, step: int, metrics: dict[str, float]) -> None:
    observer.curve(campaign, k, [(step, metrics)])


def _started_from(campaign: Campaign, start: RoundStart) -> Path | None:
    """The checkpoint that a round's student starts from. Raises T2TError where it is not what its round left."""
    if start.started_from is None:
        return None
    record = campaign.ledger.records()[start.started_from]
    folder = campaign.workspace.work / record.checkpoint
    check_weights(folder, record.weights_sha256)
    return folder


def train_student(
    campaign: Campaign,
    start: RoundStart,
    matrix: LabelMatrix,
    files: RoundFiles,
    started_from: Path | None,
    began: float | None = None,
    report: Report = lambda step, metrics: None,
    control_of: TrainFacts | None = None,
    second_of: TrainFacts | None = None,
) -> None:
    """Trains a student of a round, its own or its control; leaves `files.student`.

    Args:
        matrix: its rows, saved as `files.labels`. files: the files of the round, or of its control.
        started_from: the checkpoint whose weights it starts from; None from scratch.
        began: as for `train`; now when None.
        control_of: the round's own training where this is its control: the same recipe, to the number, and as many
            steps, though fewer rows might have chosen others.
        second_of: the round's own training where this is that of its second student: the same recipe, other draws.
    """
    began = time.monotonic() if began is None else began
    embeddings = campaign.embedded.embeddings
    recipe = recipe_of(campaign.config, embeddings.frames, embeddings.dim, matrix)
    training, weight = _numbers(campaign, recipe, matrix, control_of, second_of)
    what = "control" if control_of else "second student" if second_of else "training"
    seed = campaign.seed(start.round) + (SECOND_SEED if second_of else 0)
    job = _job(campaign, start, matrix, training, files, f"Round {start.round}: {what}", seed)
    like = campaign.files(start.round).student if control_of or second_of else started_from
    student = new_student(campaign, start.round, matrix, started_from, _shape(recipe.student, like), seed)
    now = time.monotonic()
    student, trained = campaign.engine.train(job, student, report)
    passed = time.monotonic() - now
    facts = {
        "campaign": campaign.config.name,
        "round": start.round,
        "encoder": campaign.encoder.model_dump(mode="json"),
        "rows_by_teacher": matrix.rows_by_teacher(),
        "recipe": training.model_dump(mode="json"),
        "best_step": trained.best_step,
        "curve": trained.curve,
        "seconds": time.monotonic() - began - passed + trained.seconds,
    }
    # Facts that most trainings have not are left out, as they were before there were such.
    facts |= {} if weight is None else {"human_weight": weight}
    facts |= {"stand_in": trained.stand_in} if trained.stand_in else {}
    save(student, files.student, facts, campaign.tuned_weights)


def _numbers(
    campaign: Campaign,
    recipe: Recipe,
    matrix: LabelMatrix,
    control_of: TrainFacts | None,
    second_of: TrainFacts | None,
) -> tuple[TrainingConfig, float | None]:
    """Every number of a training, and the weight of people's rows against students' where that was set for it.

    Args:
        recipe: chosen for its rows. The others as for `train_student`.
    """
    training = recipe.training
    if control_of is not None:
        steps = control_of.curve[-1][0] if control_of.curve else None
        training = control_of.recipe or training
        weights = {name: weight for name, weight in training.task_weight.items() if name in matrix.teachers}
        changes: dict[str, Any] = {"stop_after": steps, "patience": None, "task_weight": weights}
        if campaign.config.self_training.human_weight is not None:
            changes["human_share"] = recipe.training.human_share  # what it is where no student has a part
        return training.model_copy(update=changes), None
    if second_of is not None:
        return second_of.recipe or training, second_of.human_weight
    if recipe.choices:
        line = "Recipe: " + ", ".join(f"{choice.key} {choice.value}" for choice in recipe.choices)
        log.log(logging.INFO if campaign.is_news(line) else logging.DEBUG, "%s", line)
    weight = human_weight_of(campaign, matrix)
    if weight is None:
        return training, None
    return guided(training, matrix.rows_by_teacher(), campaign.lineup.own(matrix.teachers), weight), weight


def _shape(chosen: Any, like: Path | None) -> Any:
    """A student's shape: that of the one whose weights it starts from, or whose control it is, for which data or rules
    of then may have led to another choice; without one the chosen shape."""
    if like is None or type(chosen) not in (DualEncoderConfig, MultiHeadConfig, EncoderOnlyConfig):
        return chosen
    return read_student(like).model_copy(update={"bias": chosen.bias})


def new_student(
    campaign: Campaign, k: int, matrix: LabelMatrix, started_from: Path | None, config: Any, seed: int | None = None
) -> Any:
    """The student of round k as it starts: from a checkpoint's weights, else from pretrained ones where its
    configuration names some, else from scratch. On the engine's device.

    Args:
        config: its shape. seed: of its weights; the round's when None.
    """
    embeddings, seed = campaign.embedded.embeddings, campaign.seed(k) if seed is None else seed
    if started_from is None:
        where = campaign.positions(matrix.sample_ids)
        student = fresh_student(config, embeddings, where, campaign.dataset.topics, matrix, seed)
    else:
        student = _unfitted(config, embeddings, campaign.dataset.topics, matrix, seed)
        student.start_from(load(started_from))
    student.scales = {
        name: scale for name, scale in read_scales(campaign.files(k).scales).items() if name in matrix.teachers
    }
    return student.to(campaign.engine.device)


def fresh_student(
    config: Any, embeddings: Embeddings, where: np.ndarray, topics: Sequence[str], matrix: LabelMatrix, seed: int
) -> Any:
    """A student that starts from nothing but its configuration, its frontend fitted on the matrix's samples.

    Args:
        where: int64, positions of these in `embeddings`.
        topics: what its tokenizer is fitted on.
    """
    student = _unfitted(config, embeddings, topics, matrix, seed)
    student.frontend.fit(embeddings, where)
    return student


def _unfitted(config: Any, embeddings: Embeddings, topics: Sequence[str], matrix: LabelMatrix, seed: int) -> Any:
    prior = float(matrix.confidence.mean())
    student = build_student(config, embeddings.dim, topics, matrix.teachers, seed, prior=prior)
    student.trained_topics = matrix.topics_with_rows()
    return student


def _job(
    campaign: Campaign,
    start: RoundStart,
    matrix: LabelMatrix,
    training: TrainingConfig,
    files: RoundFiles,
    title: str,
    seed: int,
) -> TrainJob:
    """What the training's workers need, written where they find it."""
    embedded, config = campaign.embedded, campaign.config
    job = TrainJob(
        title=title,
        folder=files.folder.absolute(),
        matrix=files.labels.absolute(),
        store=(campaign.workspace.work / "embeddings").absolute(),
        encoder=embedded.encoder,
        frames=embedded.embeddings.frames,
        recipe=training,
        seed=seed,
        identity=campaign.lineup.identity(config.evaluation.identity, matrix.teachers),
    )
    pairs = watched(campaign)
    keys, pair_keys = (
        [embedded.keys[i] for i in campaign.positions(ids)] for ids in (matrix.sample_ids, pairs.sample_ids)
    )
    job.write(keys, pairs, pair_keys)
    return job


def watched(campaign: Campaign) -> Pairs:
    """The validation pairs that the best step is chosen by.

    A recipe leaves topics out that nobody labels in training: students score them near chance, so that they add noise
    to the choice, and it would be made with people's labels of topics that count as unlabeled.
    """
    pairs = campaign.human_pairs("validation")
    taught = pairs.of_topics(frozenset(campaign.dataset.taught))
    return taught if campaign.config.recipe == "auto" and taught.positive.any() else pairs
