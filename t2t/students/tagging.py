"""The student labels unlabeled videos: the self-training step (paper, section 3.3).

Samples and topics are encoded once each; cosines are a matrix product (`t2t.students.topk`). For each sample the top k
topics are kept, and r random others: a teacher's low confidences teach as much as its high ones, and the new identity's
task is to be learned over the whole input distribution. Confidences are stored raw.

A confidence rises with the cosine, so the top k are those of the cosines, and only chosen pairs get a confidence.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from threading import Barrier
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from t2t.core.progress import progress
from t2t.core.threads import threads_of
from t2t.data.labels import LABEL_SCHEMA
from t2t.students.base import Reads
from t2t.students.config import TaggingConfig
from t2t.students.topk import Topics

if TYPE_CHECKING:
    from torch import Tensor

    from t2t.data.embeddings.store import Embeddings
    from t2t.students.student import Student

# Samples that are encoded and looked at together where the product comes in tiles: as many whatever the threads, so
# that embeddings have the same bits.
PART = 512


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
    known = Topics(texts, min(config.block, len(ids)))
    teacher = pa.scalar(teacher_id)

    chosen = partial(_chosen, student, embeddings, topics, known, k, config.identity)
    parted = known.tiled and not isinstance(student, Reads)

    def begun(submit: Callable[..., Callable[[], Any]], start: int) -> tuple[np.ndarray, list[Callable[[], Any]]]:
        """A block of samples, and what waits for its parts."""
        block = np.arange(start, min(start + config.block, len(ids)))
        sizes = known.sizes(len(block), PART)
        cuts = np.cumsum(sizes)[:-1]
        drawn = draws(ids.slice(start, len(block)), len(topics) - k, r, seed)
        # Threads encode their parts themselves: those of a team that this thread would have encode the block wait for
        # more of it, busily, on the cores that are needed.
        samples = [None] * len(sizes) if parted else student.embed(embeddings, block).split(sizes)
        parts = zip(samples, np.split(block, cuts), np.split(drawn, cuts), strict=True)
        return block, [submit(chosen, *part) for part in parts]

    told = progress(f"Tagging as {teacher_id}", len(ids), "samples", part=True)
    with told as advance, workers(torch.get_num_threads() if parted else 1) as submit:
        # Whoever takes a block's table writes it while the threads compute the next block.
        waiting = deque([begun(submit, 0)] if len(ids) else [])
        for start in range(config.block, len(ids) + config.block, config.block):
            if start < len(ids):
                waiting.append(begun(submit, start))
            block, parts = waiting.popleft()
            pairs, confidence = (np.concatenate(column) for column in zip(*(part() for part in parts), strict=True))
            owner, topic = pa.array(np.repeat(block, k + r)), pa.array(pairs.ravel())
            columns = [ids.take(owner), names.take(topic), pa.repeat(teacher, len(owner))]
            done = pa.table([*columns, pa.array(confidence.ravel())], schema=LABEL_SCHEMA)
            advance(len(block))
            yield done


def _chosen(
    student: Student,
    embeddings: Embeddings,
    topics: Sequence[str],
    known: Topics,
    k: int,
    identity: str,
    samples: Tensor | None,
    place: np.ndarray,
    drawn: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The topics of some samples, int64 [n, k + r], and their confidences; samples that are None are encoded here."""
    cosines = known.of(student.embed(embeddings, place) if samples is None else samples)
    if isinstance(student, Reads):
        likely = cosines.top(min(max(student.shortlist, k), len(topics)))[0]
        top, confidence = _read(student, embeddings, place, topics, likely, k, identity)
        others = beside(top, drawn)
        read = student.read(embeddings, place, topics, others, identity)
        return np.hstack([top, others]), np.hstack([confidence, read])
    top, cosine = cosines.top(k)
    others = beside(top, drawn)
    return np.hstack([top, others]), student.answers(torch.hstack([cosine, cosines.at(others)]), identity)


@contextmanager
def workers(threads: int) -> Iterator[Callable[..., Callable[[], Any]]]:
    """Gives what has a function called by one of some threads, and returns what waits for its result. One thread: the
    call is made where its result is asked for.

    torch and FAISS have an OpenMP runtime each, whose threads would wait for one another on the same cores: inside of
    these threads each uses only the one that it is called from.
    """
    if threads <= 1:
        yield partial
        return
    usual = torch.get_num_threads()
    ready = Barrier(threads, timeout=60)  # one that cannot begin keeps the others waiting
    with threads_of(threads, "tagging", _alone) as pool:
        try:
            for begun in [pool.submit(ready.wait) for _ in range(threads)]:
                begun.result()
        finally:
            ready.abort()
        torch.set_num_threads(usual)  # of later threads, for which a worker's call counts, too
        yield lambda *call: pool.submit(*call).result


def _alone() -> None:
    torch.get_num_threads()  # what the first look in a thread takes over would else come after what is set
    torch.set_num_threads(1)
    if find_spec("faiss") is not None:
        import faiss

        faiss.omp_set_num_threads(1)


def _read(
    student: Reads,
    embeddings: Embeddings,
    samples: np.ndarray,
    topics: Sequence[str],
    likely: np.ndarray,
    k: int,
    identity: str,
) -> tuple[np.ndarray, np.ndarray]:
    """The k most likely topics of each sample and their confidences, [N, k], as a student reads them: among those that
    its embeddings find likely, or all where there are no more.

    Args:
        samples: int64 [N], positions in `embeddings`. likely: int64 [N, C], positions in `topics`.
    """
    likely.sort(axis=1)
    read = student.read(embeddings, samples, topics, likely, identity)
    best = np.argsort(-read, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(likely, best, axis=1), np.take_along_axis(read, best, axis=1)


def draws(sample_ids: pa.Array, left: int, r: int, seed: int) -> np.ndarray:
    """For each sample r distinct numbers from 0 to left - 1, uniformly, int64 [n, r]: a hash of seed, id and step.

    Floyd's method draws them in r steps and n x r memory, whatever `left` is.
    """
    drawn = np.empty((r, len(sample_ids)), np.int64)
    names = np.asarray(sample_ids.to_pylist(), dtype=object)
    key = pd.util.hash_array(names, hash_key=f"{seed:016x}"[-16:], categorize=False)
    for step in range(r):
        limit = left - r + step
        candidate = (_mix(key, step) % np.uint64(limit + 1)).astype(np.int64)
        taken = (drawn[:step] == candidate).any(axis=0)
        drawn[step] = np.where(taken, limit, candidate)
    return drawn.T


def beside(top: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The topics that numbers drawn of those outside each sample's top k stand for: int64 [n, r].

    Args:
        top: int64 [n, k], distinct topics of each sample. drawn: int64 [n, r], what `draws` gives.
    """
    others = drawn.T.copy()
    for lowest in np.sort(top, axis=1).T:
        others += others >= lowest
    return others.T


def _mix(key: np.ndarray, step: int) -> np.ndarray:
    """SplitMix64 of a key and a step: uint64, well mixed, the same on every machine."""
    with np.errstate(over="ignore"):
        z = key + np.uint64((step + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
