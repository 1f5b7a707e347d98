"""Encoders beside one another on a task: the student, every teacher, and all teachers put together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from t2t.core.errors import T2TError
from t2t.distillation.evaluation.analysis import SHARES, by_directions, by_pruning
from t2t.distillation.evaluation.knn import KS, knn, unit
from t2t.distillation.evaluation.measure import Measured, measure
from t2t.distillation.evaluation.probe import linear_probe
from t2t.distillation.evaluation.table import CONCATENATION, Curve, EvaluationTable, Role, Row, TaskFacts
from t2t.distillation.evaluation.task import Task


def mean_by_sample(features: np.ndarray, sample: np.ndarray, samples: int) -> np.ndarray:
    """The mean of each sample's rows, float32 [samples, dim].

    Args:
        features: [frames, dim]. sample: int64 [frames], whose each frame is, 0 to samples - 1; each has one at least.
    """
    total = np.zeros((samples, features.shape[1]))
    np.add.at(total, sample, features)
    return np.asarray(total / np.bincount(sample, minlength=samples)[:, None], np.float32)


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
    near = knn(fit, task.fit, asked, ks) if ks else {}
    found = {f"k-NN {k}": measure(task, said, resamples, seed) for k, said in near.items()}
    if not probe:
        return found, None
    fitted = linear_probe(task, features, seed)
    return found | {"probe": measure(task, fitted.scores, resamples, seed)}, fitted.c


def evaluate(
    tasks: Sequence[Task],
    student: str,
    teachers: Sequence[str],
    features: Callable[[str, Task], np.ndarray],
    ks: Sequence[int] = KS,
    probe: bool = True,
    analyses: bool = True,
    pruned: Callable[[str, float, Task], np.ndarray] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    report: Callable[[str], None] = lambda line: None,
) -> EvaluationTable:
    """Measures the student, every teacher and their concatenation on each task.

    Args:
        features: what an encoder (`student`, or one of `teachers`) makes of a task's samples, float [R + Q, dim], a row
            for each of its sample_ids; asked once for each.
        ks: of k-NN; probe: whether a linear one is fitted; one of both must be asked for.
        analyses: whether k-NN is also measured on few principal directions.
        pruned: what an encoder makes of a task's samples without a share of its weights (`analysis.pruned`); asked for
            each share of `analysis.SHARES`. None: nothing is pruned.
        report: hears a line for each encoder that was measured.

    Raises T2TError for features that do not fit the task.
    """
    if not ks and not probe:
        raise T2TError("Nothing is measured: evaluation.knn is empty and evaluation.probe is false; set one of them.")
    began = time.monotonic()
    rows: list[Row] = []
    directions: list[Curve] = []
    pruning: list[Curve] = []
    for task in tasks:
        by_name = {name: features(name, task) for name in (student, *teachers)}
        if len(teachers) > 1:
            by_name[CONCATENATION] = concatenated([by_name[name] for name in teachers])
        rows += _rows(task, by_name, student, ks, probe, resamples, seed, report)
        if analyses:
            directions += [_curve(name, task, by_directions(task, of)) for name, of in by_name.items()]
        for name in (student, *teachers) if pruned is not None else ():
            assert pruned is not None
            cut = {share: pruned(name, share, task) for share in SHARES}
            pruning.append(_curve(name, task, by_pruning(task, cut)))
    return EvaluationTable(
        student=student,
        rows=tuple(rows),
        tasks=tuple(_facts(task, ks) for task in tasks),
        directions=tuple(directions),
        pruning=tuple(pruning),
        seconds=round(time.monotonic() - began, 2),
    )


def _rows(
    task: Task,
    by_name: Mapping[str, np.ndarray],
    student: str,
    ks: Sequence[int],
    probe: bool,
    resamples: int,
    seed: int,
    report: Callable[[str], None],
) -> list[Row]:
    found: dict[str, Mapping[str, Measured]] = {}
    rows = []
    for name, features in by_name.items():
        found[name], c = measures(task, features, ks, probe, resamples, seed)
        role: Role = "student" if name == student else "all teachers" if name == CONCATENATION else "teacher"
        for what, measured in found[name].items():
            rows.append(
                Row(
                    encoder=name,
                    role=role,
                    dim=features.shape[1],
                    dataset=task.dataset,
                    measure=what,
                    value=measured.interval,
                    student_less=None if name == student else found[student][what].less(measured).interval,
                    c=c if what == "probe" else None,
                )
            )
        report(f"{task.dataset}: {name}: " + ", ".join(f"{what} {one.value:.3f}" for what, one in found[name].items()))
    return rows


def _curve(encoder: str, task: Task, points: Mapping[int, Measured] | Mapping[float, Measured]) -> Curve:
    measured = tuple((float(place), one.interval) for place, one in points.items())
    return Curve(encoder=encoder, dataset=task.dataset, points=measured)


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
