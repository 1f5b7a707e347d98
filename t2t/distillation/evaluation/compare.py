"""Encoders beside one another on a task: the student, every teacher, and all teachers put together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from t2t.data.embeddings.store import Embeddings
from t2t.distillation.evaluation.knn import KS, knn, unit
from t2t.distillation.evaluation.measure import Measured, measure
from t2t.distillation.evaluation.probe import linear_probe
from t2t.distillation.evaluation.table import CONCATENATION, EvaluationTable, Row, TaskFacts
from t2t.distillation.evaluation.task import Task

# Samples whose frames are in memory at once.
BLOCK = 1024


def mean_frames(embeddings: Embeddings, block: int = BLOCK) -> np.ndarray:
    """The mean of each sample's frames, float32 [samples, dim], read in blocks."""
    found = np.empty((len(embeddings), embeddings.dim), np.float32)
    for at in range(0, len(embeddings), block):
        frames, mask = embeddings.gather(np.arange(at, min(at + block, len(embeddings))))
        found[at : at + block] = frames.sum(axis=1, dtype=np.float32) / mask.sum(axis=1)[:, None]
    return found


def mean_by_sample(features: np.ndarray, sample: np.ndarray, samples: int) -> np.ndarray:
    """The mean of each sample's rows, float32 [samples, dim].

    Args:
        features: [frames, dim]. sample: int64 [frames], whose each frame is, 0 to samples - 1; each has one at least.
    """
    found = np.zeros((samples, features.shape[1]), np.float64)
    np.add.at(found, sample, features)
    return np.asarray(found / np.bincount(sample, minlength=samples)[:, None], np.float32)


def concatenated(features: Sequence[np.ndarray]) -> np.ndarray:
    """Encoders' features side by side, each row of each of length 1, so that none drowns the others."""
    return np.concatenate([unit(rows) for rows in features], axis=1)


def measures(
    task: Task,
    features: np.ndarray,
    ks: Sequence[int] = KS,
    probe: bool = True,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[dict[str, Measured], float | None]:
    """k-NN with each k, and the probe, of one encoder; and the C that the probe found.

    Args:
        features: float [R + Q, dim], a row for each of the task's sample_ids.
    """
    fit, asked = task.parts(features)
    found = {f"k-NN {k}": measure(task, said, resamples, seed) for k, said in knn(fit, task.fit, asked, ks).items()}
    if not probe:
        return found, None
    fitted = linear_probe(task, features, seed)
    return found | {"probe": measure(task, fitted.scores, resamples, seed)}, fitted.c


def evaluate(
    tasks: Sequence[Task],
    student: str,
    features: Callable[[str, Task], np.ndarray],
    teachers: Sequence[str],
    ks: Sequence[int] = KS,
    probe: bool = True,
    resamples: int = 1000,
    seed: int = 0,
    report: Callable[[str], None] = lambda line: None,
) -> EvaluationTable:
    """Measures the student, every teacher and their concatenation on each task.

    Args:
        features: what an encoder (`student`, or one of `teachers`) makes of a task's samples, float [R + Q, dim], a row
            for each of its sample_ids; asked once for each.
        report: hears a line for each encoder that was measured.

    Raises T2TError for features that do not fit the task.
    """
    began, rows = time.monotonic(), []
    for task in tasks:
        by_name = {name: features(name, task) for name in (student, *teachers)}
        if len(teachers) > 1:
            by_name[CONCATENATION] = concatenated([by_name[name] for name in teachers])
        found: dict[str, Mapping[str, Measured]] = {}
        for name, rows_of in by_name.items():
            found[name], c = measures(task, rows_of, ks, probe, resamples, seed)
            role = "student" if name == student else "all teachers" if name == CONCATENATION else "teacher"
            for what, measured in found[name].items():
                less = None if name == student else found[student][what].less(measured).interval
                facts = {"encoder": name, "role": role, "dim": rows_of.shape[1], "dataset": task.dataset}
                numbers = {"measure": what, "value": measured.interval, "student_less": less}
                rows.append(Row(**facts, **numbers, c=c if what == "probe" else None))
            report(f"{task.dataset}: {name}: " + ", ".join(f"{what} {one.value:.3f}" for what, one in found[name].items()))
    return EvaluationTable(
        student=student,
        rows=tuple(rows),
        tasks=tuple(_facts(task, ks) for task in tasks),
        seconds=round(time.monotonic() - began, 2),
    )


def _facts(task: Task, ks: Sequence[int]) -> TaskFacts:
    return TaskFacts(
        dataset=task.dataset,
        metric=task.metric,
        topics=len(task.topics),
        fit=len(task.fit),
        test=len(task.test),
        groups=len(np.unique(task.test_groups)),
        all_neighbours=tuple(k for k in ks if k >= len(task.fit)),
    )
