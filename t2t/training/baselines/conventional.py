"""What Teacher2Task is compared with: one label a pair, aggregated over the teachers."""

from __future__ import annotations

import numpy as np

from t2t.data.labels import HUMAN
from t2t.training.matrix import LabelMatrix


def conventional_average(matrix: LabelMatrix) -> LabelMatrix:
    """The baseline that Teacher2Task replaces: one label a pair, the mean of the teachers', or the human's own.

    Kept under its own name to be compared with; the engine's own method never does this.

    Returns: a matrix whose only identity is `human`; of each sample first the rows of people, then the means, sorted
        by topic.
    """
    sample = np.repeat(np.arange(len(matrix.sample_ids)), np.diff(matrix.indptr))
    # Topics are numbered by their names, so that the order of the pairs does not depend on that of the topics.
    by_name = np.array(sorted(range(len(matrix.topics)), key=matrix.topics.__getitem__), np.int32)
    rank = np.empty(len(by_name), np.int64)
    rank[by_name] = np.arange(len(by_name))
    pair = sample * len(by_name) + rank[matrix.topic]
    human = matrix.teacher == (matrix.teachers.index(HUMAN) if HUMAN in matrix.teachers else -1)
    pairs, index, counts = np.unique(pair[~human], return_inverse=True, return_counts=True)
    mean = np.bincount(index, matrix.confidence[~human], len(pairs)) / counts
    others = ~np.isin(pairs, pair[human])
    owner, topic = np.divmod(pairs[others], len(by_name))
    sample = np.concatenate([sample[human], owner])
    order = np.argsort(sample, kind="stable")
    topics = np.concatenate([matrix.topic[human], by_name[topic]])[order]
    confidence = np.concatenate([matrix.confidence[human], mean[others].astype(np.float32)])[order]
    indptr = np.searchsorted(sample[order], np.arange(len(matrix.sample_ids) + 1)).astype(np.int64)
    teacher = np.zeros(len(order), np.int16)
    return LabelMatrix(matrix.sample_ids, matrix.topics, (HUMAN,), indptr, topics, teacher, confidence)
