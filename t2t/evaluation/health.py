"""A look at every teacher's labels before a student learns from them.

A teacher that says nearly the same about everything has nothing to teach, and is more often a broken export than an
opinion. That is checked; the other numbers are for people. Nothing is ever selected or corrected by them.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

from t2t.core.errors import T2TError, listed
from t2t.data.coding import Coded
from t2t.data.labels import HUMAN, POSITIVE, is_people
from t2t.evaluation.config import HealthConfig

log = logging.getLogger("t2t")

ENTROPY_BINS = 32
CALIBRATION_BINS = 10
# Teachers that are warned of one by one.
SHOWN = 10
COLUMNS = (
    "teacher",
    "rows",
    "samples",
    "topics",
    "distinct",
    "entropy",
    "at_zero",
    "at_one",
    "mean",
    "human_pairs",
    "pr_auc",
    "chance",
    "calibration_error",
)


def health(coded: Coded) -> pd.DataFrame:
    """Measures the labels that a round trains on.

    Args:
        coded: the labels, whose tables came teacher by teacher in the order of `coded.teachers`; those of `human` are
            what the others are held against.

    Returns: one row a teacher, in the same order, with the columns of COLUMNS. `entropy` is in bits, of the
        histogram of confidences in 32 equal bins over 0..1 (0 to 5); `at_zero` and `at_one` are shares of the rows;
        PR-AUC, its chance level (the share of positives) and expected calibration error (10 equal bins) are over the
        pairs that people labeled too, NaN where there are none, and for people's identities.
    """
    people = People(coded)
    rows = []
    for teacher in coded.teachers:
        own = coded.of(coded.teachers.index(teacher))
        row = {"teacher": teacher, **_distribution(coded, own)}
        row |= {"human_pairs": 0, **dict.fromkeys(("pr_auc", "chance", "calibration_error"), float("nan"))}
        # An annotator would be held against what they said themselves.
        if not is_people(teacher) and len(people.truth):
            common, truth = people.labeled_too(own)
            row |= _against(truth >= POSITIVE, coded.confidence[common])
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


class People:
    """What people say of the rows that may be trained on.

    truth: float32 [P], of their pairs in rising order (sample x topics + topic); empty where no person said anything.
    """

    def __init__(self, coded: Coded):
        self._coded = coded
        rows = coded.of(coded.teachers.index(HUMAN)) if HUMAN in coded.teachers else slice(0)
        keys = self._keys(coded.sample[rows], coded.topic[rows])
        order = np.argsort(keys, kind="stable")
        self._pairs, self.truth = keys[order], coded.confidence[rows][order]
        # People label few of the samples that teachers do, and the others need not be looked up.
        self._looked_at = np.zeros(len(coded.sample_ids), bool)
        self._looked_at[coded.sample[rows]] = True

    def labeled_too(self, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """Which of some rows are of pairs that people labeled too, int64 [those], rising, and what people said of
        these, float32 [those]."""
        if not len(self._pairs):
            return np.empty(0, np.int64), np.empty(0, np.float32)
        some = rows.start + np.flatnonzero(self._looked_at[self._coded.sample[rows]])
        keys = self._keys(self._coded.sample[some], self._coded.topic[some])
        place = np.searchsorted(self._pairs, keys).clip(max=len(self._pairs) - 1)
        common = self._pairs[place] == keys
        return some[common], self.truth[place[common]]

    def _keys(self, sample: np.ndarray, topic: np.ndarray) -> np.ndarray:
        return sample.astype(np.int64) * len(self._coded.topics) + topic


def _distribution(coded: Coded, rows: slice) -> dict[str, Any]:
    confidence = coded.confidence[rows]
    n = len(confidence)
    row: dict[str, Any] = {"rows": n, "samples": 0, "topics": 0, "distinct": 0, "entropy": 0.0}
    if not n:
        return row | dict.fromkeys(("at_zero", "at_one", "mean"), float("nan"))
    counts = np.bincount(_bins(confidence, ENTROPY_BINS), minlength=ENTROPY_BINS)
    share = counts[counts > 0] / n
    return row | {
        "samples": _distinct(coded.sample[rows], len(coded.sample_ids)),
        "topics": _distinct(coded.topic[rows], len(coded.topics)),
        # By their bits: sorting them takes a fiftieth of the time of a hash table, Arrow's or NumPy's.
        "distinct": 1 + int(np.count_nonzero(np.diff(np.sort(confidence.view(np.int32))))),
        "entropy": abs(float(-(share * np.log2(share)).sum())),  # never -0.0
        "at_zero": float(np.mean(confidence == 0)),
        "at_one": float(np.mean(confidence == 1)),
        "mean": float(confidence.mean(dtype=np.float64)),
    }


def _distinct(codes: np.ndarray, possible: int) -> int:
    """How many different numbers there are among some from 0 to below `possible`."""
    there = np.zeros(possible, bool)
    there[codes] = True
    return int(np.count_nonzero(there))


def _against(positive: np.ndarray, confidence: np.ndarray) -> dict[str, float]:
    """PR-AUC and expected calibration error on the pairs that people labeled as well."""
    n = len(positive)
    row = {"human_pairs": n, **dict.fromkeys(("pr_auc", "chance", "calibration_error"), float("nan"))}
    if positive.any():
        row["pr_auc"] = float(average_precision_score(positive, confidence))
    if n:
        row["chance"] = float(positive.mean())
        bins = _bins(confidence, CALIBRATION_BINS)
        said = np.bincount(bins, confidence, CALIBRATION_BINS)
        true = np.bincount(bins, positive, CALIBRATION_BINS)
        row["calibration_error"] = float(np.abs(said - true).sum() / n)
    return row


def _bins(confidence: np.ndarray, bins: int) -> np.ndarray:
    """The equal bin over 0..1 of each confidence, int64; 1 belongs to the last one."""
    return np.minimum((confidence * np.float32(bins)).astype(np.int64), bins - 1)


def nearly_constant(report: pd.DataFrame, config: HealthConfig) -> dict[str, str]:
    """The teachers of a `health` report that hardly vary, each with the measure that says so. `human` is left out:
    people may well have agreed about everything."""
    constant = {}
    for row in report.to_dict("records"):
        if is_people(row["teacher"]):
            continue
        if not row["rows"]:
            constant[row["teacher"]] = "no label for any training sample and topic"
        elif row["distinct"] < config.min_distinct:
            constant[row["teacher"]] = (
                f"{row['distinct']} distinct confidence{'s' * (row['distinct'] > 1)} in {row['rows']:,} labels, fewer "
                f"than health.min_distinct ({config.min_distinct})"
            )
        elif row["entropy"] < config.min_entropy:
            constant[row["teacher"]] = (
                f"an entropy of {row['entropy']:.4f} bits over {row['rows']:,} labels (mean confidence "
                f"{row['mean']:.4f}), less than health.min_entropy ({config.min_entropy:g})"
            )
    return constant


def check_health(report: pd.DataFrame, config: HealthConfig, campaign: str) -> None:
    """Warns of teachers with nearly constant confidences, or raises T2TError, as the campaign says."""
    if config.constant == "off":
        return
    constant = nearly_constant(report, config)
    for teacher, measure in list(constant.items())[:SHOWN]:
        log.warning("Teacher %s says nearly the same about everything: %s.", teacher, measure)
    if len(constant) > SHOWN:
        names = listed(list(constant)[SHOWN:])
        log.warning("%d more teachers say nearly the same about everything: %s.", len(constant) - SHOWN, names)
    if constant and config.constant == "block":
        teacher, measure = next(iter(constant.items()))
        more = f" (and {listed(list(constant)[1:])})" if len(constant) > 1 else ""
        raise T2TError(
            f"Teacher {teacher!r}{more} says nearly the same about everything: {measure}. Look at it with `t2t "
            f"teachers health {campaign}`; leave it out with `t2t teachers retract {teacher}`, or let it in with "
            "`health.constant: warn`."
        )
