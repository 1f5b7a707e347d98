"""A helper of a distillation: `python -m t2t.distillation.worker`, started by `t2t.distillation.workers` only."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch

from t2t.data.embeddings.frames import FrameSettings, FrameSource
from t2t.distillation.cache import open_features
from t2t.distillation.loop import distill
from t2t.distillation.student import EncoderStudent
from t2t.distillation.teachers import build_teachers
from t2t.distillation.views import build_views
from t2t.distillation.workers import DistillationJob
from t2t.training.group import Group
from t2t.training.processes import join


def take_up(content: dict[str, Any], device: str) -> Callable[[Group], object]:
    job = DistillationJob.model_validate(content)
    config = job.config
    keys = json.loads(job.keys.read_text(encoding="utf-8"))
    settings = FrameSettings(config.frames.per_sample, config.frames.size)
    source = FrameSource.open(job.work, settings, keys, job.most)
    if device == "cuda":
        # By number: batches are made ready in a thread, for which another GPU may be the first one.
        device = f"cuda:{torch.cuda.current_device()}"
    teachers, views = build_teachers(config.teachers, device), build_views(config, device)
    plain = config.augment == "none"
    kept = open_features(teachers, source, job.work, config.loss.patches) if plain else None
    student = EncoderStudent(config.student, config.training.seed).to(device)
    return lambda group: distill(
        student, teachers, source, views, config, kept, job.title, snapshot=job.snapshot, group=group
    )


if __name__ == "__main__":
    join(take_up)
