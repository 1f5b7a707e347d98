"""A round's training: the student as it starts, the job for its workers, the checkpoint that it leaves."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from t2t.campaign.campaign import Campaign
from t2t.campaign.facts import RoundStart, TrainFacts
from t2t.campaign.observer import Observer
from t2t.campaign.recipe import Recipe, recipe_of
from t2t.data.embeddings.store import Embeddings
from t2t.data.scales import read_scales
from t2t.students import build_student
from t2t.students.checkpoint import load_checked, save
from t2t.training.config import TrainingConfig
from t2t.training.job import TrainJob
from t2t.training.matrix import LabelMatrix

log = logging.getLogger("t2t")


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
        recipe = _recipe(campaign, matrix)
        job = _job(campaign, start, matrix, recipe.training)
        student = new_student(campaign, k, matrix, start.started_from, recipe.student)
        now = time.monotonic()
        student, trained = campaign.engine.train(
            job, student, lambda step, metrics: observer.curve(campaign, k, [(step, metrics)])
        )
        passed = time.monotonic() - now
        facts = {
            "campaign": campaign.config.name,
            "round": k,
            "encoder": campaign.config.encoder.model_dump(mode="json"),
            "rows_by_teacher": matrix.rows_by_teacher(),
            "recipe": recipe.training.model_dump(mode="json"),
            "best_step": trained.best_step,
            "curve": trained.curve,
            "seconds": time.monotonic() - began - passed + trained.seconds,
        }
        save(student, files.student, facts)
    files.training.remove()
    return TrainFacts.read(files)


def _recipe(campaign: Campaign, matrix: LabelMatrix) -> Recipe:
    recipe = recipe_of(campaign.config, campaign.embedded.embeddings.frames, matrix)
    if recipe.choices:
        log.info("Recipe: %s", ", ".join(f"{choice.key} {choice.value}" for choice in recipe.choices))
    return recipe


def new_student(campaign: Campaign, k: int, matrix: LabelMatrix, started_from: int | None, config: Any) -> Any:
    """The student of round k as it starts: from an earlier round's weights, else from pretrained ones where its
    configuration names some, else from scratch. On the engine's device.

    Args:
        config: its shape.
    """
    embeddings, seed = campaign.embedded.embeddings, campaign.seed(k)
    if started_from is None:
        where = campaign.positions(matrix.sample_ids)
        student = fresh_student(config, embeddings, where, campaign.dataset.topics, matrix, seed)
    else:
        record = campaign.ledger.records()[started_from]
        student = _unfitted(config, embeddings, campaign.dataset.topics, matrix, seed)
        student.start_from(load_checked(campaign.workspace.work / record.checkpoint, record.weights_sha256))
    student.scales = read_scales(campaign.files(k).scales)
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
    return build_student(config, embeddings.dim, topics, matrix.teachers, seed, prior=prior)


def _job(campaign: Campaign, start: RoundStart, matrix: LabelMatrix, recipe: TrainingConfig) -> TrainJob:
    """What the training's workers need, written where they find it."""
    files, embedded, config = campaign.files(start.round), campaign.embedded, campaign.config
    job = TrainJob(
        title=f"Round {start.round}: training",
        folder=files.folder.absolute(),
        matrix=files.labels.absolute(),
        store=(campaign.workspace.work / "embeddings").absolute(),
        encoder=embedded.encoder,
        frames=embedded.embeddings.frames,
        recipe=recipe,
        seed=campaign.seed(start.round),
        identity=campaign.lineup.identity(config.evaluation.identity, matrix.teachers),
    )
    pairs = campaign.human_pairs("validation")
    keys, pair_keys = (
        [embedded.keys[i] for i in campaign.positions(ids)] for ids in (matrix.sample_ids, pairs.sample_ids)
    )
    job.write(keys, pairs, pair_keys)
    return job
