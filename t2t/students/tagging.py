"""The student labels unlabeled videos: the self-training step (paper, section 3.3).

Samples and topics are encoded once each; scores are a matrix product by blocks of samples. For each sample the top k
topics are kept, and r random others: a teacher's low confidences teach as much as its high ones, and the new identity's
task is to be learned over the whole input distribution. Confidences are stored raw.

A confidence rises with the cosine, so the top k are those of the cosines, and only chosen pairs get a confidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from t2t.core.progress import progress
from t2t.data.labels import LABEL_SCHEMA
from t2t.students.base import Reads
from t2t.students.config import TaggingConfig

if TYPE_CHECKING:
    from torch import Tensor

    from t2t.data.embeddings.store import Embeddings
    from t2t.students.student import Student

# Cosines are held for as many samples at once as fit into so many bytes: 1,677 samples with 10,000 topics.
COSINE_BYTES = 64 << 20

# Columns of a group whose best number stands for all of them in `top_columns`.
GROUP = 16


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
    rows = max(1, min(config.block, len(ids), COSINE_BYTES // (4 * max(len(topics), 1))))
    buffer = texts.new_empty(rows, len(topics))
    with progress(f"Tagging as {teacher_id}", len(sample_ids), "samples", part=True) as advance:
        for start in range(0, len(sample_ids), config.block):
            block = np.arange(start, min(start + config.block, len(sample_ids)))
            chosen = np.empty((len(block), k + r), np.int64)
            confidence = np.empty((len(block), k + r), np.float32)
            for at, samples in enumerate(student.embed(embeddings, block).split(rows)):
                part = slice(at * rows, at * rows + len(samples))
                cosine = torch.mm(samples, texts.T, out=buffer[: len(samples)])
                part_ids = ids.slice(start + part.start, len(samples))
                if isinstance(student, Reads):
                    found = _read(student, embeddings, block[part], topics, cosine, k, config.identity)
                    chosen[part, :k], confidence[part, :k] = found
                else:
                    chosen[part, :k] = top_columns(cosine, k).cpu().numpy()
                chosen[part, k:] = random_others(chosen[part, :k], len(topics), r, part_ids, seed)
                if isinstance(student, Reads):
                    others = chosen[part, k:]
                    confidence[part, k:] = student.read(embeddings, block[part], topics, others, config.identity)
                else:
                    pairs = torch.from_numpy(chosen[part]).to(cosine.device)
                    confidence[part] = student.answers(cosine.gather(1, pairs), config.identity)
            owner = pa.array(np.repeat(block, k + r))
            columns = [ids.take(owner), names.take(pa.array(chosen.ravel()))]
            columns.append(pa.repeat(pa.scalar(teacher_id), len(owner)))
            columns.append(pa.array(confidence.ravel()))
            yield pa.table(columns, schema=LABEL_SCHEMA)
            advance(len(block))


def _read(
    student: Reads,
    embeddings: Embeddings,
    samples: np.ndarray,
    topics: Sequence[str],
    cosine: Tensor,
    k: int,
    identity: str,
) -> tuple[np.ndarray, np.ndarray]:
    """The k most likely topics of each sample and their confidences, [N, k], as a student reads them: among those that
    its embeddings find likely, or all where there are no more.

    Args:
        samples: int64 [N], positions in `embeddings`. cosine: float [N, M].
    """
    likely = top_columns(cosine, min(max(student.shortlist, k), len(topics))).cpu().numpy()
    likely.sort(axis=1)
    read = student.read(embeddings, samples, topics, likely, identity)
    best = np.argsort(-read, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(likely, best, axis=1), np.take_along_axis(read, best, axis=1)


def top_columns(scores: Tensor, k: int) -> Tensor:
    """The k best columns of each row, best first, of equal ones the first: int64 [N, k].

    Exact. The k + 1 best numbers of a row lie in the k + 1 groups of columns whose best are highest, so that the
    selection goes over groups first, and then over the columns of a few groups. The number behind the k-th tells
    whether equal numbers stand at the border; only then it matters which of them a selection takes.

    Args:
        scores: float [N, M], M >= k.
    """
    rows, columns = scores.shape
    if not k:
        return torch.empty(rows, 0, dtype=torch.int64, device=scores.device)
    look = min(k + 1, columns)
    if 2 * look * GROUP < columns:
        groups = columns // GROUP
        best = scores[:, : groups * GROUP].unflatten(1, (GROUP, groups)).amax(1).topk(look, sorted=False).indices
        members = torch.arange(0, groups * GROUP, groups, device=scores.device)
        rest = torch.arange(groups * GROUP, columns, device=scores.device).expand(rows, -1)
        candidates = torch.cat([(best.unsqueeze(2) + members).flatten(1), rest], dim=1)
        values, at = scores.gather(1, candidates).topk(look)
        columns_of_best = candidates.gather(1, at)[:, :k]
    else:
        values, columns_of_best = scores.topk(look)
        columns_of_best = columns_of_best[:, :k]
    if look > k and (unsure := values[:, k - 1] == values[:, k]).any():
        columns_of_best[unsure] = _first_at_border(scores[unsure], values[unsure, k - 1 : k], k)
    columns_of_best = columns_of_best.sort(dim=1).values
    return columns_of_best.gather(
        1, scores.gather(1, columns_of_best).sort(dim=1, descending=True, stable=True).indices
    )


def _first_at_border(scores: Tensor, border: Tensor, k: int) -> Tensor:
    """The columns above the k-th best number, and the first of those that equal it: int64 [N, k]."""
    above, equal = ~(scores <= border), scores == border
    taken = above | (equal & (equal.cumsum(1) <= k - above.sum(1, keepdim=True)))
    return taken.nonzero()[:, 1].view(-1, k)


def random_others(top: np.ndarray, topics: int, r: int, sample_ids: pa.Array, seed: int) -> np.ndarray:
    """For each sample r distinct topics outside its top k, uniformly: int64 [n, r].

    Floyd's method draws r distinct numbers of the `topics - k` that are left in r steps and n x r memory, whatever the
    number of topics; they are then shifted past the top k. The numbers are a hash of seed, sample id and step.

    Args:
        top: int64 [n, k], distinct topics of each sample.
    """
    n, k = top.shape
    left = topics - k
    drawn = np.empty((r, n), np.int64)
    names = np.asarray(sample_ids.to_pylist(), dtype=object)
    key = pd.util.hash_array(names, hash_key=f"{seed:016x}"[-16:], categorize=False)
    for step in range(r):
        limit = left - r + step
        candidate = (_mix(key, step) % np.uint64(limit + 1)).astype(np.int64)
        taken = (drawn[:step] == candidate).any(axis=0)
        drawn[step] = np.where(taken, limit, candidate)
    for lowest in np.sort(top, axis=1).T:
        drawn += drawn >= lowest
    return drawn.T


def _mix(key: np.ndarray, step: int) -> np.ndarray:
    """SplitMix64 of a key and a step: uint64, well mixed, the same on every machine."""
    with np.errstate(over="ignore"):
        z = key + np.uint64((step + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
