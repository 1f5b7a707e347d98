"""What a distillation looks at when, how fast it learns then, and what makes it the one that it is."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from t2t.core.config import free_keys
from t2t.core.errors import T2TError
from t2t.core.files import sha256
from t2t.distillation.config import DistillationConfig, DistillationTrainingConfig
from t2t.distillation.parts import FeatureTeacher, Frames
from t2t.distillation.projectors import refuse_lengths
from t2t.distillation.student import EncoderStudent

# What the configuration says beside how the student learns; another word there is no other training.
ASIDE = {"name", "description", "dataset", "splits", "frames", "teachers", "evaluation", "lake"}


def refuse_unfit(student: EncoderStudent, config: DistillationConfig) -> None:
    """Raises T2TError where a student cannot be trained so; it needs neither frames nor teachers."""
    refuse_lengths(student.dims, config.projectors, config.loss.patches)
    batch, workers = config.training.batch, config.training.workers
    if batch < 2 * workers and any(isinstance(part, _BatchNorm) for part in student.modules()):
        raise T2TError(
            f"training: a batch of {batch} for {workers} workers, and a frame alone has nothing that this student's "
            "batch norms could go by. Raise it."
        )


def split(frames: Frames, config: DistillationTrainingConfig) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the frames that are learned, and of those that are held out, int64 each.

    Whole samples are held out, the same ones whatever the seed, and of these `evaluate_on` frames, evenly drawn.
    """
    samples = frames.rows[0]
    different = np.unique(samples)
    count = min(math.ceil(config.held_out * len(different)), len(different) - 1)
    chosen = np.random.default_rng(0).choice(different, max(count, 0), replace=False)
    out = np.isin(samples, chosen)
    held_out = np.flatnonzero(out)
    if len(held_out) > config.evaluate_on:
        held_out = held_out[((np.arange(config.evaluate_on) + 0.5) * len(held_out) / config.evaluate_on).astype(int)]
    return np.flatnonzero(~out), held_out


def order(learned: np.ndarray, config: DistillationTrainingConfig, step: int) -> np.ndarray:
    """The frames of a step's batch: epoch after epoch in an order of its own, by seed and step alone; int64 [batch]."""
    count = len(learned)
    places = np.arange(step * config.batch, (step + 1) * config.batch)
    orders = {
        int(epoch): np.random.default_rng([config.seed, int(epoch)]).permutation(count)
        for epoch in np.unique(places // count)
    }
    return learned[np.array([orders[int(place // count)][place % count] for place in places])]


def learning_rate(step: int, steps: int, config: DistillationTrainingConfig) -> float:
    """Linear warm-up, then a cosine down to the smallest one."""
    highest, warmup = config.highest_rate, max(1, round(config.warmup * steps))
    if step < warmup:
        return highest * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return config.min_learning_rate + (highest - config.min_learning_rate) * 0.5 * (1 + math.cos(math.pi * share))


def distillation_identity(
    student: EncoderStudent, teachers: Sequence[FeatureTeacher], frames: Frames, config: DistillationConfig
) -> str:
    """What a distillation depends on, as a hash: recipe, the student as it comes, teachers, frames, device type, and
    torch."""
    settings = config.model_dump(mode="json", exclude=ASIDE)
    for key in free_keys(DistillationTrainingConfig):
        settings["training"].pop(key)
    whom = [[teacher.name, teacher.fingerprint] for teacher in teachers]
    facts: list[Any] = [settings, whom, frames.key, student.mean.device.type, torch.__version__]
    start = (value.detach().cpu().contiguous().numpy().tobytes() for value in student.state_dict().values())
    return sha256(json.dumps(facts, sort_keys=True), *(hashlib.sha256(value).digest() for value in start))
