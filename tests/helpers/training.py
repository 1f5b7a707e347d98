"""Small label matrices and trainings."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from t2t.data.embeddings.store import Embeddings
from t2t.data.labels import LABEL_SCHEMA
from t2t.data.pairs import Pairs
from t2t.evaluation.metrics import average_precision
from t2t.students.dual_encoder import Student
from t2t.training.batches import Batch, Batches
from t2t.training.config import TrainingConfig
from t2t.training.matrix import LabelMatrix, build_matrix
from tests.helpers.students import TEACHERS, TOPICS


def random_matrix(seed: int = 0, samples: int = 9, most: int = 8) -> LabelMatrix:
    """Rows of random pairs; some samples have none, and confidences are distinct, so that a row can be told."""
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, most + 1, samples)
    counts[0] = most
    rows = int(counts.sum())
    return LabelMatrix(
        [f"s{i}" for i in range(samples)],
        TOPICS,
        TEACHERS,
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        generator.integers(0, len(TOPICS), rows).astype(np.int32),
        generator.integers(0, len(TEACHERS), rows).astype(np.int16),
        (generator.permutation(rows) / rows).astype(np.float32),
    )


Key = tuple[int, int, int, float, float]


def rows_of(batch: Batch) -> list[Key]:
    sample, text = batch.samples[batch.row_sample], batch.row_text
    columns = (sample, batch.text_teacher[text], batch.text_topic[text], batch.target, batch.weight)
    return list(zip(*(column.tolist() for column in columns), strict=True))


WEIGHT = np.array([0.5, 1.0, 2.0], np.float32)


def toy() -> tuple[LabelMatrix, Embeddings]:
    """A clip's brightest dimension is its topic; people label all pairs, and so does a teacher at most 0.4 sure."""
    generator = np.random.default_rng(0)
    kinds = np.arange(24) % len(TOPICS)
    clips = [
        (2 * np.eye(6)[kind] + 0.1 * generator.standard_normal((1 + i % 3, 6))).astype(np.float16)
        for i, kind in enumerate(kinds)
    ]
    names = [f"s{i}" for i in range(len(kinds))]
    rows = [
        (name, topic, teacher, (1.0 if teacher == "human" else 0.4) * (TOPICS[kind] == topic))
        for name, kind in zip(names, kinds, strict=True)
        for topic in TOPICS
        for teacher in ("human", "cautious")
    ]
    table = pa.table([list(column) for column in zip(*rows, strict=True)], schema=LABEL_SCHEMA)
    return build_matrix([table], names, TOPICS, ("human", "cautious")), Embeddings.of(clips)


def pr_auc(student: Student, embeddings: Embeddings, identity: str = "human") -> float:
    kinds = np.arange(len(embeddings)) % len(TOPICS)
    sample, topic = (index.ravel() for index in np.indices((len(embeddings), len(TOPICS))))
    score = student.predict(embeddings, np.arange(len(embeddings)), TOPICS, identity)[sample, topic]
    target = (kinds[sample] == topic).astype(np.float32)
    return average_precision(Pairs(tuple(map(str, kinds)), TOPICS, sample, topic, target, score))


NOISY = {"frame_dropout": 0.3, "noise": 0.2, "ema": 0.9, "rows_per_sample": 5}


def epochs(matrix: LabelMatrix, config: TrainingConfig, weight: np.ndarray, seed: int) -> Iterator[list[Batch]]:
    """The batches, epoch by epoch; fails when one reaches over an epoch's end."""
    labeled = int((np.diff(matrix.indptr) > 0).sum())
    source = Batches(matrix, config, weight, seed)
    while True:
        epoch: list[Batch] = []
        while (seen := sum(len(batch.samples) for batch in epoch)) < labeled:
            epoch.append(next(source))
        assert seen == labeled
        yield epoch
