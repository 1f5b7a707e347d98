"""The student labels unlabeled videos: the self-training step (paper, section 3.3).

Samples and topics are encoded once each; scores are a matrix product by blocks of samples. For each sample the top k
topics are kept, and r random others: a teacher's low confidences teach as much as its high ones, and the new identity's
task is to be learned over the whole input distribution. Confidences are stored raw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from pydantic import Field

from t2t.config import Config
from t2t.dataset import HUMAN
from t2t.lake.tables import LABEL_SCHEMA
from t2t.progress import progress

if TYPE_CHECKING:
    from torch import Tensor

    from t2t.media.store import Embeddings
    from t2t.students.dual_encoder import Student


class TaggingConfig(Config):
    """Which pairs a self-training teacher labels, and as whom."""

    identity: str = Field(HUMAN, description="The identity that the student is asked for when it labels.")
    top_k: int = Field(10, ge=0)
    random: int = Field(10, ge=0)
    block: int = Field(1024, ge=1, description="Samples scored at once; memory is block x topics.")


def tag(
    student: Student,
    embeddings: Embeddings,
    sample_ids: Sequence[str],
    topics: Sequence[str],
    teacher_id: str,
    config: TaggingConfig,
    seed: int = 0,
    texts: Tensor | None = None,
) -> Iterator[pa.Table]:
    """Yields label tables (LABEL_SCHEMA), one for each block of samples, rows ordered by sample.

    The pairs depend on the seed, the sample's id and the scores only, not on how samples fall into blocks.

    Args:
        embeddings: aligned with `sample_ids`.
        topics: the topics to choose from, M of them. With M <= top_k + random every pair is labeled.
        texts: what `student.encode_topics(topics, config.identity)` returns, for a caller that tags in several calls.
    """
    k = min(config.top_k, len(topics))
    r = min(config.random, len(topics) - k)
    names = pa.array(topics, pa.string())
    ids = pa.array(sample_ids, pa.string())
    texts = student.encode_topics(topics, config.identity) if texts is None else texts
    with progress(f"Tagging as {teacher_id}", len(sample_ids), "samples", part=True) as advance:
        for start in range(0, len(sample_ids), config.block):
            block = np.arange(start, min(start + config.block, len(sample_ids)))
            scores = student.score(embeddings, block, texts)
            top = torch.topk(torch.from_numpy(scores), k, dim=1).indices.numpy()
            chosen = np.concatenate([top, random_others(top, len(topics), r, ids.take(pa.array(block)), seed)], axis=1)
            owner = pa.array(np.repeat(block, chosen.shape[1]))
            columns = [ids.take(owner), names.take(pa.array(chosen.ravel()))]
            columns.append(pa.repeat(pa.scalar(teacher_id), len(owner)))
            columns.append(pa.array(np.take_along_axis(scores, chosen, axis=1).ravel(), pa.float32()))
            yield pa.table(columns, schema=LABEL_SCHEMA)
            advance(len(block))


def random_others(top: np.ndarray, topics: int, r: int, sample_ids: pa.Array, seed: int) -> np.ndarray:
    """For each sample r distinct topics outside its top k, uniformly: int64 [n, r].

    Floyd's method draws r distinct numbers of the `topics - k` that are left in r steps and n x r memory, whatever the
    number of topics; they are then shifted past the top k. The numbers are a hash of seed, sample id and step.

    Args:
        top: int64 [n, k], distinct topics of each sample.
    """
    n, k = top.shape
    left = topics - k
    drawn = np.full((n, r), -1, np.int64)
    key = pd.util.hash_array(np.asarray(sample_ids.to_pylist(), dtype=object), hash_key=f"{seed:016x}"[-16:])
    for step in range(r):
        limit = left - r + step
        candidate = (_mix(key, step) % np.uint64(limit + 1)).astype(np.int64)
        taken = (drawn == candidate[:, None]).any(axis=1)
        drawn[:, step] = np.where(taken, limit, candidate)
    for lowest in np.sort(top, axis=1).T:
        drawn += drawn >= lowest[:, None]
    return drawn


def _mix(key: np.ndarray, step: int) -> np.ndarray:
    """SplitMix64 of a key and a step: uint64, well mixed, the same on every machine."""
    with np.errstate(over="ignore"):
        z = key + np.uint64((step + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
