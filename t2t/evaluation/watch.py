"""The watch on confirmation bias: does a campaign still learn from its teachers, or only from itself?

A student that labels its own training data can confirm its own errors, round after round (Arazo et al.,
"Pseudo-Labeling and Confirmation Bias in Deep Semi-Supervised Learning", arXiv:1908.02983). PR-AUC on human labels
shows that late, when it shows it at all; most of these numbers need no human label and show it in the labels
themselves. The others look for teacher hacking (Tiapkin et al., "On Teacher Hacking in Language Model Distillation",
arXiv:2502.02671): a student that comes nearer to its teachers and farther from the truth that they stand for.

Functions of labels read label tables (LABEL_SCHEMA of `t2t.data.labels`); none loops over rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.stats import rankdata  # type: ignore[import-untyped]

from t2t.data.coding import codes, distinct
from t2t.data.labels import POSITIVE
from t2t.data.scales import Scale
from t2t.evaluation.interval import Interval

MIN_PAIRS = 10
# Looks at validation behind the best one from which a training's end says something, and how many of them that end is.
LATE_LOOKS = 3
BINS = 10
HISTOGRAM = 20


def self_share(rows_by_teacher: Mapping[str, int], students: Collection[str]) -> float:
    """Share of a round's training rows that earlier students of the campaign wrote, 0..1."""
    rows = sum(rows_by_teacher.values())
    return sum(count for teacher, count in rows_by_teacher.items() if teacher in students) / rows if rows else 0.0


class Labeled:
    """A label table whose pairs are to be found again in several others; they are put in order once."""

    def __init__(self, table: pa.Table):
        self.confidence = _confidences(table)
        self._samples, self._topics = distinct(table["sample_id"]), distinct(table["topic"])
        pairs = _pair_codes(table, self._samples, self._topics)
        # A student's tables come sample by sample, its topics in no order.
        self._order = np.argsort(pairs)
        self._pairs = pairs[self._order]

    def shared_with(self, other: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """The confidences, float64 [P] each, of the P (sample, topic) pairs that the other table labels too: this
        one's, and the other's."""
        pairs = _pair_codes(other, self._samples, self._topics)
        known = np.flatnonzero(pairs >= 0)
        place = np.searchsorted(self._pairs, pairs[known]).clip(max=len(self._pairs) - 1)
        both = self._pairs[place] == pairs[known] if len(self._pairs) else np.zeros(len(known), bool)
        here, there = self._order[place[both]], known[both]
        # In the order in which the other one first names its samples and topics: sums go by it.
        sample, topic = (_first_named(other[name])[there] for name in ("sample_id", "topic"))
        order = np.lexsort((topic, sample))
        return self.confidence[here[order]], _confidences(other)[there[order]]


def _first_named(column: pa.ChunkedArray) -> np.ndarray:
    """Of each row the first one that has its name: int64 [rows]."""
    names = distinct(column)
    code, first = codes(column, names), np.empty(len(names), np.int64)
    first[code[::-1]] = np.arange(len(code))[::-1]
    return first[code]


def shared_pairs(first: pa.Table, second: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """The confidences, float64 [P] each, of the P (sample, topic) pairs that both tables label."""
    return Labeled(first).shared_with(second)


def _pair_codes(table: pa.Table, samples: pa.Array, topics: pa.Array) -> np.ndarray:
    """One number a (sample, topic) pair, int64 [rows]; -1 where either is not among the known ones."""
    sample, topic = codes(table["sample_id"], samples).astype(np.int64), codes(table["topic"], topics)
    return np.where((sample < 0) | (topic < 0), -1, sample * len(topics) + topic)


def _confidences(table: pa.Table) -> np.ndarray:
    return table["confidence"].to_numpy().astype(np.float64)


def agreement(first: pa.Table, second: pa.Table) -> float:
    """Spearman's rank correlation of two teachers over the pairs that both labeled, -1..1 (ties share their mean rank).

    Ranks, since teachers' confidences are raw: two that order the pairs alike agree, whatever their scales. NaN with
    fewer than MIN_PAIRS shared pairs, or where one of the two says the same of all of them.
    """
    return _rank_correlation(*shared_pairs(first, second))


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    if len(a) < MIN_PAIRS or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def flips(now: pa.Table, before: pa.Table) -> dict[str, float]:
    """How labels moved between two self-training teachers, over the pairs that both labeled.

    Returns: `pairs`, how many these are (the top k and the random topics of a sample differ between rounds); `flips`,
    the share of them that changed sides of 0.5 (the churn of Milani Fard et al., "Launch and Iterate", NIPS 2016); and
    `change`, their mean absolute change. Without a shared pair only `pairs`.
    """
    return _moved(*shared_pairs(now, before))


def _moved(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    if not len(a):
        return {"pairs": 0.0}
    flipped = (a >= POSITIVE) != (b >= POSITIVE)
    return {"pairs": float(len(a)), "flips": float(flipped.mean()), "change": float(np.abs(a - b).mean())}


def stability_index(now: np.ndarray, before: np.ndarray) -> float:
    """Population stability index between two samples of confidences, from 0 (the same distribution) upwards.

    The sum over bins of (p - q) ln(p / q), with p and q the bins' shares `now` and `before` (Siddiqi, "Credit Risk
    Scorecards", 2006, where 0.25 is a marked shift of a population that should not move; a student that learns does
    move). The bins end at the deciles of `before`. A confidence so common that it is several deciles at once has a bin
    to itself. Half a count is added to every bin, so that an empty one gives a large number and not an infinite one.

    Args:
        now, before: float [n], neither empty.
    """
    deciles = np.quantile(before, np.arange(1, BINS) / BINS, method="inverted_cdf").astype(np.float64)
    values, counts = np.unique(deciles, return_counts=True)
    edges = np.union1d(values, np.nextafter(values[counts > 1], -np.inf))
    shares = []
    for confidence in (now, before):
        bins = np.bincount(np.searchsorted(edges, confidence.astype(np.float64)), minlength=len(edges) + 1) + 0.5
        shares.append(bins / bins.sum())
    p, q = shares
    return float(((p - q) * np.log(p / q)).sum())


def class_shares(labels: pa.Table, topics: Sequence[str]) -> pd.DataFrame:
    """How a teacher's positives fall on the topics: columns topic, labels, positives, confidence (sum) and share.

    `share` (sums to 1) is a topic's part of the positives, that is of the labels of 0.5 and above. Where there are
    fewer positives than topics it is its part of the total confidence: shares of a handful would be accidents.

    Args:
        topics: the topics that the teacher could label.
    """
    code = codes(labels["topic"], topics)
    kept = code >= 0
    code, confidence = code[kept], _confidences(labels)[kept]
    size = len(topics)
    positives = np.bincount(code[confidence >= POSITIVE], minlength=size)
    total = np.bincount(code, weights=confidence, minlength=size)
    mass = positives.astype(np.float64) if positives.sum() >= size else total
    share = mass / mass.sum() if mass.sum() > 0 else np.full(size, 1 / max(size, 1))
    columns = {"labels": np.bincount(code, minlength=size), "positives": positives, "confidence": total.round(6)}
    return pd.DataFrame({"topic": list(topics), **columns, "share": share.round(6)})


def normalised_entropy(counts: np.ndarray) -> float:
    """Shannon's entropy of shares (or counts) over that of equal ones, 0..1; 1 where there is only one class."""
    if len(counts) < 2:
        return 1.0
    share = counts[counts > 0] / counts.sum()
    return float(abs(-(share * np.log(share)).sum()) / np.log(len(counts)))


def confidence_entropy(confidence: np.ndarray) -> float:
    """Normalised entropy of the confidences' histogram (HISTOGRAM equal bins of 0..1): 0 when all fall into one."""
    return normalised_entropy(np.histogram(confidence, HISTOGRAM, (0.0, 1.0))[0])


def watch(
    labels: pa.Table,
    shares: pd.DataFrame,
    outside: Iterable[tuple[str, pa.Table]],
    previous: pa.Table | None,
    first: pa.Table | None,
) -> dict[str, float]:
    """All numbers of one self-training teacher; what cannot be measured is absent.

    labels, distinct: its labels, and how many different confidences are among them.
    agreement/<teacher>, agreement, outside_pairs: with each outside teacher, the mean of these, and on how many pairs.
    agreement_previous, pairs, flips, change: against the campaign's previous self-training teacher.
    psi, psi_first: drift of the confidences from the previous, and from the first one.
    class_share, class_entropy: the largest of the topics' shares, and their normalised entropy.
    confidence_entropy: normalised entropy of the confidences.

    Args:
        labels: the teacher's table; not empty.
        shares: its `class_shares`.
        outside: by name the tables of the round's teachers that are neither `human` nor the campaign's own students;
            one is held at a time.
    """
    own = Labeled(labels)
    confidence = own.confidence
    measures = {"labels": float(len(labels)), "distinct": float(len(np.unique(confidence)))}
    by_teacher, shared = {}, 0
    for name, table in outside:
        pairs = own.shared_with(table)
        value = _rank_correlation(*pairs)
        if not np.isnan(value):
            by_teacher[name], shared = value, shared + len(pairs[0])
    measures |= {f"agreement/{name}": value for name, value in by_teacher.items()}
    if by_teacher:
        measures["agreement"] = float(np.mean(list(by_teacher.values())))
    measures["outside_pairs"] = float(shared)
    if previous is not None:
        pairs = own.shared_with(previous)
        measures["agreement_previous"] = _rank_correlation(*pairs)
        measures |= _moved(*pairs)
        measures["psi"] = stability_index(confidence, _confidences(previous))
    if first is not None:
        measures["psi_first"] = stability_index(confidence, _confidences(first))
    share = shares["share"].to_numpy()
    measures |= {"class_share": float(share.max()), "class_entropy": normalised_entropy(share)}
    measures["confidence_entropy"] = confidence_entropy(confidence)
    return {name: value for name, value in measures.items() if not np.isnan(value)}


def watch_student(
    read: Callable[[str], pa.Table],
    teacher: str,
    outside: Sequence[str],
    earlier: Sequence[str],
    topics: Sequence[str],
) -> tuple[dict[str, float], pd.DataFrame]:
    """`watch` and `class_shares` of a self-training teacher.

    Args:
        read: the label table of a teacher by its id.
        outside: the teachers of its round that are neither `human` nor the campaign's own students.
        earlier: the campaign's self-training teachers before it, oldest first.
        topics: the topics that it could label.
    """
    labels = read(teacher)
    shares = class_shares(labels, topics)
    if not len(labels):
        return {"labels": 0.0}, shares
    first = read(earlier[0]) if earlier else None
    previous = read(earlier[-1]) if len(earlier) > 1 else first
    return watch(labels, shares, ((name, read(name)) for name in outside), previous, first), shares


# -- teacher hacking -------------------------------------------------------------------------------------------------


def teacher_loss(answers: np.ndarray, labels: np.ndarray, scale: Scale | None) -> float:
    """How far a student is from a teacher on pairs that neither was trained on: the mean divergence (Kullback-Leibler,
    nats, from 0 upwards) of what it says, asked as that teacher, from what the teacher says. NaN with fewer than
    MIN_PAIRS pairs.

    Args:
        answers: float [P], the student's, on the teacher's own scale. labels: float [P], NaN where it gave none.
        scale: the teacher's map to the common scale, on which the two are compared; None where there is none.
    """
    said = ~np.isnan(labels)
    if said.sum() < MIN_PAIRS:
        return float("nan")
    both = (answers[said], labels[said]) if scale is None else (scale.apply(answers[said]), scale.apply(labels[said]))
    p, q = (np.asarray(values, np.float64).clip(1e-6, 1 - 1e-6) for values in both)
    return float((q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))).mean())


def proxy_and_people(
    losses: Mapping[str, float], before: Mapping[str, float], people: Interval | None, drop: float
) -> dict[str, float]:
    """A round beside the best one before it: the loss on its teachers' tasks, and PR-AUC on people's pairs.

    teacher_loss: the mean of its losses. teacher_loss_change: the mean change, over the teachers of both rounds.
    people_change, people_change_high: PR-AUC against that round, and the upper end of its paired interval.
    hacking: 1 where the loss fell, and PR-AUC by more than `drop` beyond its interval; else 0.

    Args:
        losses, before: `teacher_loss` by teacher, now and in the best round. people: the paired difference; None where
            there is no round before.
    """
    measures = {"teacher_loss": float(np.mean(list(losses.values())))} if losses else {}
    common = [name for name in losses if name in before]
    if people is None or not common:
        return measures
    change = float(np.mean([losses[name] - before[name] for name in common]))
    measures |= {"teacher_loss_change": change, "people_change": people.value, "people_change_high": people.high}
    return measures | {"hacking": float(change < 0 and people.high < -drop)}


def late_training(
    curve: Sequence[tuple[int, Mapping[str, float]]], best_step: int, half_width: float, drop: float
) -> dict[str, float]:
    """The end of a training beside its best step: what further steps did to the loss, and to PR-AUC on validation.

    late_loss_change, late_people_change: the medians over the last LATE_LOOKS looks, less the best one's.
    late_hacking: 1 where the loss fell on, and PR-AUC by more than `drop` beyond `half_width`; else 0. The best step's
    student is kept, so that it is a sign of teachers that lead astray, and does no harm yet.

    Nothing where fewer than LATE_LOOKS looks follow the best one.

    Args:
        curve: points with `loss` and `validation_pr_auc`, by step. half_width: of the interval of PR-AUC on validation.
    """
    at_best = next((point for step, point in curve if step == best_step), None)
    after = [point for step, point in curve if step > best_step][-LATE_LOOKS:]
    if at_best is None or len(after) < LATE_LOOKS:
        return {}
    loss, people = (
        float(np.median([point[name] for point in after])) - at_best[name] for name in ("loss", "validation_pr_auc")
    )
    hacked = float(loss < 0 and people < -(half_width + drop))
    return {"late_loss_change": loss, "late_people_change": people, "late_hacking": hacked}
