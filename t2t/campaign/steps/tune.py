"""Before the first round: the frame encoder learns from the rows that round 0 has, and all samples are embedded anew.

Its artifact is an entry in the lake (`t2t.campaign.tuned`) and the weights in the campaign's folder. The rounds know
nothing of it: they read embeddings under a fingerprint, as ever.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from t2t.campaign.campaign import Campaign
from t2t.campaign.config import TEACHER2TASK
from t2t.campaign.observer import Observer
from t2t.campaign.recipe import Recipe, recipe_of
from t2t.campaign.steps.rows import as_trained, next_rows, round_scales
from t2t.campaign.steps.train import fresh_student, watched
from t2t.campaign.tuned import (
    WEIGHTS,
    TunedEncoder,
    all_tuned,
    as_tuned,
    encoder_folder,
    standing_encoder,
)
from t2t.core.config import parse
from t2t.core.errors import T2TError
from t2t.core.files import atomic_folder, read_noted, remove_folder, sha256_file, write_noted
from t2t.core.sums import damaged, write_sums
from t2t.data.embeddings.config import TimmConfig
from t2t.data.embeddings.encoders import build_encoder
from t2t.data.embeddings.store import Embeddings
from t2t.data.embeddings.timm_model import TimmEncoder
from t2t.evaluation.metrics import average_precision
from t2t.students.checkpoint import load, save
from t2t.students.config import DualEncoderConfig, EncoderOnlyConfig, MultiHeadConfig
from t2t.students.student import Student
from t2t.training.loop import train
from t2t.training.matrix import LabelMatrix, assemble
from t2t.tuning.clips import kept_clips
from t2t.tuning.encoder import TrainableEncoder
from t2t.tuning.loop import Material, Tuned, samples_seen
from t2t.tuning.loop import tune as tune_encoder

log = logging.getLogger("t2t")

# Apart from the rounds' seeds.
SEED = 1 << 51


class TuneStart(BaseModel):
    """What a tuning begins with, noted before anything else: where its labels are read, and whose."""

    commit: str
    teachers: tuple[str, ...]


class TuneFiles:
    """The files of a tuning in the campaign's folder; but for the weights they are gone once it is done."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.begun = folder / "begun.json"
        self.labels, self.head, self.tuned = folder / "labels", folder / "head", folder / "tuned"
        self.training, self.snapshot = folder / "training.safetensors", folder / "tuning.safetensors"


def tune(campaign: Campaign, observer: Observer) -> None:
    """Tunes the campaign's frame encoder, unless one that was tuned stands; leaves it in the campaign's folder and in
    the lake, tells the observer, and embeds all samples with it."""
    config, ledger = campaign.config, campaign.ledger
    standing = standing_encoder(config, ledger, campaign.folder)
    if standing is not None:
        log.info("The frame encoder is tuned already: %s.", standing[0].fingerprint[:12])
        return
    began = time.monotonic()
    number = len(all_tuned(ledger))
    files = TuneFiles(encoder_folder(campaign.folder, number))
    start = _begin(campaign, files)
    tuned, facts = _tuned(campaign, files, start)
    entry = TunedEncoder(number=number, seconds=time.monotonic() - began, **facts)
    campaign.lake.commit(
        "main",
        {campaign.layout.encoder(number): json.dumps(entry.model_dump(mode="json"), indent=2).encode()},
        key=campaign.layout.encoder_key(number),
        message=f"Encoder: {config.name}, tuned on {sum(entry.rows_by_teacher.values()):,} rows",
        metadata={"campaign": config.name, "encoder": entry.fingerprint},
    )
    _say(entry, tuned)
    observer.tuned(campaign, entry)
    campaign.forget_encoder()
    for path in (files.labels, files.head):
        remove_folder(path)
    for path in (files.training, files.snapshot):
        path.unlink(missing_ok=True)
    _ = campaign.embedded


def _begin(campaign: Campaign, files: TuneFiles) -> TuneStart:
    """What it began with; anew where one of its teachers is retracted since, or there are others."""
    if files.begun.is_file():
        noted = parse(TuneStart, read_noted(files.begun, f"Delete the folder {files.folder}."), files.begun)
        if set(noted.teachers) <= {*campaign.lineup.of_round(0)}:
            return noted
        log.warning("The frame encoder is tuned from its beginning: a teacher was retracted.")
    remove_folder(files.folder)
    main = campaign.lake.resolve("main")
    start = TuneStart(commit=main, teachers=tuple(campaign.lineup.of_round(0, main)))
    files.folder.mkdir(parents=True, exist_ok=True)
    write_noted(files.begun, start.model_dump_json(indent=2))
    return start


def _tuned(campaign: Campaign, files: TuneFiles, start: TuneStart) -> tuple[Tuned, dict[str, object]]:
    """Tunes it; leaves the weights. Returns what that came to, and the lake's entry but for its number and seconds."""
    config, seed = _timm(campaign), campaign.seed(0) + SEED
    frozen = TimmEncoder(config, campaign.engine.device)
    matrix = _matrix(campaign, files, start)
    embeddings = campaign.embedded.embeddings
    recipe = recipe_of(campaign.config, embeddings.frames, embeddings.dim, matrix)
    head = _head(campaign, files, matrix, recipe, seed)
    encoder = TrainableEncoder(config, frozen, seed)
    material = _material(campaign, frozen, encoder, matrix, recipe, seed)
    tuned = tune_encoder(head, encoder, material, recipe.training, seed, files.snapshot)
    target = files.folder / WEIGHTS
    with atomic_folder(files.tuned) as temporary:
        encoder.save(temporary / WEIGHTS)
        write_sums(temporary)
    (files.tuned / WEIGHTS).replace(target)
    remove_folder(files.tuned)
    made = build_encoder(as_tuned(config, target), campaign.engine.device)
    facts: dict[str, object] = {
        "config": json.loads(campaign.config.encoder.model_dump_json()),
        "of": frozen.fingerprint,
        "fingerprint": made.fingerprint,
        "weights_sha256": sha256_file(target),
        "teachers": [campaign.lineup.reference(name, start.commit) for name in start.teachers],
        "commit": start.commit,
        "rows_by_teacher": matrix.rows_by_teacher(),
        "best_step": tuned.best_step,
        "curve": tuned.curve,
    }
    return tuned, facts


def _timm(campaign: Campaign) -> TimmConfig:
    config = campaign.config.encoder
    if not isinstance(config, TimmConfig):
        raise T2TError(f"encoder.tune: an encoder of kind {config.kind!r} cannot be tuned.")
    return config


def _matrix(campaign: Campaign, files: TuneFiles, start: TuneStart) -> LabelMatrix:
    """The rows that round 0 would have, on the common scale where the campaign's are."""
    if files.labels.is_dir() and damaged(files.labels) is not None:
        remove_folder(files.labels)
    if not files.labels.is_dir():
        coded = next_rows(campaign, start.commit, start.teachers)
        scales = round_scales(campaign, coded) if campaign.config.common_scale else {}
        as_trained(assemble(coded), TEACHER2TASK, scales).save(files.labels)
    return LabelMatrix.load(files.labels)


def _head(campaign: Campaign, files: TuneFiles, matrix: LabelMatrix, recipe: Recipe, seed: int) -> Student:
    """A student of the campaign's kind, but a single one and no reader, trained on the embeddings as they are."""
    if files.head.is_dir() and damaged(files.head) is not None:
        remove_folder(files.head)
    if not files.head.is_dir():
        embeddings, where = campaign.embedded.embeddings, campaign.positions(matrix.sample_ids)
        head = fresh_student(_light(recipe.student), embeddings, where, campaign.dataset.topics, matrix, seed)
        head = head.to(campaign.engine.device)
        score = _score(campaign, matrix)
        pairs = campaign.positions(watched(campaign).sample_ids)
        seen = embeddings.take(pairs)
        seen.frames = embeddings.frames
        train(
            head,
            matrix,
            embeddings.take(where),
            recipe.training,
            seed,
            lambda student: score(student, seen),
            "Tuning: its head",
            snapshot=files.training,
        )
        save(head, files.head)
    trained: Student = load(files.head, campaign.engine.device)
    return trained


def _light(student: object) -> object:
    if isinstance(student, EncoderOnlyConfig):
        return student.first
    if isinstance(student, DualEncoderConfig | MultiHeadConfig):
        return student.model_copy(update={"members": 1})
    return student


def _material(
    campaign: Campaign, frozen: TimmEncoder, encoder: TrainableEncoder, matrix: LabelMatrix, recipe: Recipe, seed: int
) -> Material:
    embedded = campaign.embedded
    visited = samples_seen(matrix, encoder.tune, recipe.training, seed)
    where = campaign.positions(matrix.sample_ids)
    trained = np.full(len(where), -1, np.int64)
    trained[visited] = where[visited]
    validated = campaign.positions(watched(campaign).sample_ids)
    work, wanted = campaign.workspace.work, [trained, validated]
    clips, validation = kept_clips(campaign.readable, embedded.keys, frozen, encoder.trunk, work, wanted)
    old = embedded.embeddings.take(where)
    old.frames = embedded.embeddings.frames
    return Material(matrix, clips, old, validation, len(validated), _score(campaign, matrix))


def _score(campaign: Campaign, matrix: LabelMatrix) -> Callable[[Student, Embeddings], float]:
    pairs = watched(campaign)
    identity = campaign.lineup.identity(campaign.config.evaluation.identity, matrix.teachers)

    def score(student: Student, embeddings: Embeddings) -> float:
        return average_precision(student.predict_pairs(embeddings, np.arange(len(pairs.sample_ids)), pairs, identity))

    return score


def _say(entry: TunedEncoder, tuned: Tuned) -> None:
    first, best = tuned.curve[0][1]["validation_pr_auc"], tuned.best_score
    if tuned.best_step == 0:
        log.warning("Tuning made the frame encoder no better on validation (%.4f as it was): it stays as it is.", first)
    else:
        log.info(
            "The frame encoder is tuned: on validation %.4f after %d steps, %.4f before; fingerprint %s.",
            best,
            tuned.best_step,
            first,
            entry.fingerprint[:12],
        )
