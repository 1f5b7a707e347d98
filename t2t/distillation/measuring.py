"""What a distilled encoder is worth beside its teachers, on datasets that people labeled."""

from __future__ import annotations

import logging
from copy import deepcopy
from typing import Any

import numpy as np
import torch

from t2t.core.progress import progress
from t2t.data.embeddings.frames import FrameSource
from t2t.distillation.distillation import Distillation
from t2t.distillation.evaluation.analysis import pruned
from t2t.distillation.evaluation.compare import evaluate, mean_by_sample
from t2t.distillation.evaluation.table import EvaluationTable
from t2t.distillation.evaluation.task import Task

log = logging.getLogger("t2t")

# Frames that are held and looked at together.
BLOCK = 256


def measured(distillation: Distillation) -> EvaluationTable:
    """The student beside every teacher and all of them together, on each dataset of `evaluation.datasets`.

    All look at the same frames, as they are without augmentation; a sample is the mean of its frames' CLS. Pruned, of
    which there are many, they look at the middle frame of each sample alone.
    """
    config = distillation.config
    looks: dict[str, Any] = {config.name: distillation.trained_student}
    looks |= {teacher.name: teacher for teacher in distillation.teachers}
    tasks = [task for task, _ in distillation.measured_on]
    sources = {task.dataset: source for task, source in distillation.measured_on}

    def features(name: str, task: Task) -> np.ndarray:
        return _features(distillation, looks[name], sources[task.dataset], task, f"{task.dataset}: {name}")

    def without(name: str, share: float, task: Task) -> np.ndarray:
        less, title = _pruned(looks[name], share), f"{task.dataset}: {name}, {share:.0%} pruned"
        return _features(distillation, less, sources[task.dataset], task, title, one_frame=True)

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


def _features(
    distillation: Distillation, encoder: Any, source: FrameSource, task: Task, title: str, one_frame: bool = False
) -> np.ndarray:
    """float32 [samples of the task, dim], in the order of its sample_ids. Args: one_frame: only the middle one of each
    sample is looked at."""
    place = {sample: i for i, sample in enumerate(source.sample_ids)}
    wanted = np.array([place[sample] for sample in task.sample_ids])
    row_of = np.full(len(source.sample_ids), -1)
    row_of[wanted] = np.arange(len(wanted))
    of_frames, steps = source.rows
    samples = row_of[of_frames]
    looked = (samples >= 0) & (~one_frame | (steps == source.frames.counts[of_frames] // 2))
    frames = np.flatnonzero(looked)
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
