"""How long a round's training takes: ten steps of it, on made-up embeddings and labels of its shape."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from t2t.campaign.recipe import Recipe
from t2t.campaign.steps.train import fresh_student
from t2t.commands.plan.rates import quietly
from t2t.core.errors import T2TError
from t2t.core.host import cpu_threads
from t2t.core.progress import silent
from t2t.data.dataset import Dataset
from t2t.data.embeddings.encoders import FrameEncoder, by_clip, most_steps
from t2t.data.embeddings.store import Embeddings
from t2t.data.labels import HUMAN
from t2t.data.pairs import human_pairs
from t2t.training.config import TrainingConfig
from t2t.training.loop import train
from t2t.training.matrix import LabelMatrix

# Steps that are timed, after so many that pay for what is made only once; and seconds after which they are enough.
STEPS, WARM, SECONDS = 10, 3, 5.0
# What is made up stays below these, but for one batch.
MOST_BYTES, MOST_ROWS = 64 << 20, 4_000_000


@dataclass(frozen=True)
class Rate:
    """Seconds: what a training takes before its first step, a step, a look at validation."""

    begin: float
    step: float
    look: float

    def training(self, config: TrainingConfig) -> float:
        """Of a training to its last step; it may end before, once validation is flat."""
        steps = min(config.steps, config.stop_after or config.steps)
        return self.begin + steps * self.step + math.ceil(steps / config.evaluate_every) * self.look


class _Enough(Exception):
    """The time is up."""


def try_steps(
    recipe: Recipe, dataset: Dataset, frames: int, dim: int, rows: Mapping[str, int], device: str
) -> Rate | None:
    """How fast a round's training is here, tried on a part of its samples.

    Args:
        frames: the most that the encoder takes of a video. dim: numbers of a frame. rows: of each teacher.

    Returns: None where it cannot be tried: a pretrained text tower would have to be fetched, or there is no row.
    """
    pretrained = getattr(getattr(recipe.student, "text", None), "pretrained", None)
    if not any(rows.values()) or (pretrained is not None and not Path(pretrained).is_dir()):
        return None
    samples = dataset.split("train", "unlabeled")
    number = _number(recipe.training, len(samples), frames * dim * 2, sum(rows.values()))
    draw = np.random.default_rng(0)
    clips = draw.standard_normal((number, frames, dim)).astype(np.float16)
    embeddings = Embeddings.of(list(clips))
    matrix = _matrix(samples["sample_id"].to_pylist()[:number], dataset.topics, rows, number / len(samples), draw)
    try:
        with quietly(), silent(), cpu_threads(recipe.training.threads):
            began = time.perf_counter()
            where = np.arange(number)
            student = fresh_student(recipe.student, embeddings, where, dataset.topics, matrix, 0).to(device)
            made = time.perf_counter() - began
            step = _step_seconds(student, matrix, embeddings, recipe.training)
            look = _look_seconds(student, embeddings, dataset)
    except (T2TError, RuntimeError):  # too large for this machine, among others
        return None
    return Rate(made * len(samples) / number, step, look)


def _number(config: TrainingConfig, samples: int, clip_bytes: int, rows: int) -> int:
    """So many samples are made up: enough for a batch."""
    most = min(MOST_BYTES // clip_bytes, MOST_ROWS * samples // max(rows, 1))
    return min(samples, max(most, config.batch_samples or 256))


def _matrix(
    sample_ids: list[str], topics: tuple[str, ...], rows: Mapping[str, int], share: float, draw: np.random.Generator
) -> LabelMatrix:
    """Rows of random pairs, of each teacher as many as it has for such a share of the samples."""
    counts = [math.ceil(count * share) for count in rows.values()]
    total, number = sum(counts), len(sample_ids)
    sample = np.sort(draw.integers(0, number, total))
    return LabelMatrix(
        sample_ids,
        topics,
        tuple(rows),
        np.searchsorted(sample, np.arange(number + 1)).astype(np.int64),
        draw.integers(0, len(topics), total).astype(np.int32),
        draw.permutation(np.repeat(np.arange(len(rows), dtype=np.int16), counts)),
        draw.random(total, np.float32),
    )


def _step_seconds(student: Any, matrix: LabelMatrix, embeddings: Embeddings, config: TrainingConfig) -> float:
    """Seconds of a step of the training loop, the median of those that were timed."""
    stamps = [time.perf_counter()]

    def stamp(_student: Any) -> float:
        stamps.append(time.perf_counter())
        if stamps[-1] - stamps[0] > SECONDS:
            raise _Enough
        return 0.0

    changes = {"stop_after": WARM + STEPS, "steps": max(config.steps, WARM + STEPS), "evaluate_every": 1}
    few = config.model_copy(update={**changes, "patience": None, "workers": 1})
    with suppress(_Enough):
        train(student, matrix, embeddings, few, 0, stamp)
    passed = np.diff(stamps)
    return float(np.median(passed[WARM:] if len(passed) > WARM else passed[-1:]))


def _look_seconds(student: Any, embeddings: Embeddings, dataset: Dataset) -> float:
    """Seconds of a look at the validation pairs."""
    ids = dataset.sample_ids("validation")
    pairs, identity = human_pairs(dataset.human, ids, dataset.topics), HUMAN
    began = time.perf_counter()
    student.predict_pairs(embeddings, np.arange(len(ids)) % len(embeddings), pairs, identity)
    return time.perf_counter() - began


def try_rounds(
    recipe: Recipe,
    dataset: Dataset,
    encoder: FrameEncoder,
    rows: Sequence[Mapping[str, int]],
    device: str,
) -> tuple[list[float | None], str]:
    """What the training of each round takes, by some steps of the first one and the last; and that in words.

    Args:
        rows: of each round, of each teacher.
    """
    ends, frames = sorted({0, len(rows) - 1}), frames_of(dataset, encoder)
    rates = [try_steps(recipe, dataset, frames, encoder.dim, rows[at], device) for at in ends]
    found = [rate for rate in rates if rate is not None]
    if len(found) < len(ends):
        return [None] * len(rows), ""
    totals = [sum(of.values()) for of in rows]
    training = [rate.training(recipe.training) for rate in found]
    # More rows take no less: where the second trial says so, the first one was disturbed.
    smoothed = np.minimum.accumulate(training[::-1])[::-1]
    many: list[float | None] = [float(each) for each in np.interp(totals, [totals[at] for at in ends], smoothed)]
    return many, _in_words(min(rate.step for rate in found), recipe.training)


def frames_of(dataset: Dataset, encoder: FrameEncoder) -> int:
    """The most frames that a sample has: one, where all are images and the encoder takes pictures one by one."""
    images = dataset.samples["modality"].unique().to_pylist() == ["image"]
    return 1 if images and not by_clip(encoder) else most_steps(encoder)


def _in_words(step: float, config: TrainingConfig) -> str:
    steps = min(config.steps, config.stop_after or config.steps)
    sooner = ", sooner where validation is flat" if config.patience is not None else ""
    return (
        f"its training to step {steps:,}{sooner}, by {STEPS} steps tried just now ({1 / step:,.3g} a second); "
        "evaluation and run history come on top"
    )
