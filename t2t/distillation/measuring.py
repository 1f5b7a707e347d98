"""What a distilled encoder is worth beside its teachers, on datasets that people labeled."""

from __future__ import annotations

import logging
from copy import deepcopy
from typing import Any

import numpy as np
import torch

from t2t.core.progress import progress
from t2t.data.embeddings.frames import FrameSource, decode_frames
from t2t.distillation.distillation import Distillation
from t2t.distillation.evaluation.analysis import pruned
from t2t.distillation.evaluation.compare import evaluate, mean_by_sample
from t2t.distillation.evaluation.table import EvaluationTable
from t2t.distillation.evaluation.task import Task, task_of

log = logging.getLogger("t2t")

# Frames that are held and looked at together.
BLOCK = 256


def measured(distillation: Distillation) -> EvaluationTable:
    """The student beside every teacher and all of them together, on each dataset of `evaluation.datasets`.

    All look at the same frames, as they are without augmentation; a sample is the mean of its frames' CLS.
    """
    config = distillation.config
    looks: dict[str, Any] = {config.name: distillation.trained_student}
    looks |= {teacher.name: teacher for teacher in distillation.teachers}
    sources: dict[str, FrameSource] = {}
    tasks = []
    for dataset in distillation.labeled:
        source = decode_frames(
            [(dataset.samples, dataset.config.max_unreadable)],
            distillation.workspace.work,
            distillation.taken,
            unique=False,
        )
        sources[dataset.name] = source
        tasks.append(task_of(dataset, readable=set(source.sample_ids)))

    def features(name: str, task: Task) -> np.ndarray:
        return _features(distillation, looks[name], sources[task.dataset], task, f"{task.dataset}: {name}")

    def without(name: str, share: float, task: Task) -> np.ndarray:
        less = _pruned(looks[name], share)
        return _features(distillation, less, sources[task.dataset], task, f"{task.dataset}: {name}, {share:.0%} pruned")

    return evaluate(
        tasks,
        config.name,
        [teacher.name for teacher in distillation.teachers],
        features,
        config.evaluation.knn,
        config.evaluation.probe,
        config.evaluation.analyses,
        without if config.evaluation.analyses else None,
        seed=config.training.seed,
        report=lambda line: log.info("%s", line),
    )


def _pruned(encoder: Any, share: float) -> Any:
    """A copy of a student or a teacher without a share of its weights."""
    less = deepcopy(encoder)
    less.model = pruned(encoder.model, share)
    return less


def _features(distillation: Distillation, encoder: Any, source: FrameSource, task: Task, title: str) -> np.ndarray:
    """float32 [samples of the task, dim], in the order of its sample_ids."""
    place = {sample: i for i, sample in enumerate(source.sample_ids)}
    wanted = np.array([place[sample] for sample in task.sample_ids])
    row_of = np.full(len(source.sample_ids), -1)
    row_of[wanted] = np.arange(len(wanted))
    samples = row_of[source.rows[0]]
    frames = np.flatnonzero(samples >= 0)
    found, device = [], distillation.device
    with progress(title, len(frames), "frames") as advance:
        for at in range(0, len(frames), BLOCK):
            some = frames[at : at + BLOCK]
            with torch.no_grad():
                crops = torch.as_tensor(distillation.views.plain(source.read(some)))
                seen = encoder.tokens(crops).cls if hasattr(encoder, "tokens") else encoder.embed(crops.to(device))
                found.append(seen.float().cpu().numpy())
            advance(len(some))
    return mean_by_sample(np.concatenate(found), samples[frames], len(wanted))
