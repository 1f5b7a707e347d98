"""The student labels unlabeled videos: the self-training step (paper, section 3.3).

Samples and topics are encoded once each; cosines are a matrix product (`t2t.students.topk`). For each sample the top k
topics are kept, and r random others: a teacher's low confidences teach as much as its high ones, and the new identity's
task is to be learned over the whole input distribution. Confidences are stored raw.

A confidence rises with the cosine, so the top k are those of the cosines, and only chosen pairs get a confidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
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
from t2t.data.labels import LABEL_SCHEMA
from t2t.students.base import Reads
from t2t.students.config import TaggingConfig
from t2t.students.topk import Topics

if TYPE_CHECKING:
    from torch import Tensor

    from t2t.data.embeddings.store import Embeddings
    from t2t.students.student import Student

# Samples that are looked at together where the product comes in tiles: in this thread, and in several.
PARTS = 512, 256


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

    def chosen(samples: Tensor, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The topics of some samples, int64 [n, k + r], and their confidences."""
        cosines = known.of(samples)
        draw = partial(random_others, topics=len(topics), r=r, sample_ids=ids.slice(block[0], len(block)), seed=seed)
        if isinstance(student, Reads):
            likely = cosines.top(min(max(student.shortlist, k), len(topics)))[0]
            top, confidence = _read(student, embeddings, block, topics, likely, k, config.identity)
            others = draw(top)
            read = student.read(embeddings, block, topics, others, config.identity)
            return np.hstack([top, others]), np.hstack([confidence, read])
        top, cosine = cosines.top(k)
        others = draw(top)
        return np.hstack([top, others]), student.answers(torch.hstack([cosine, cosines.at(others)]), config.identity)

    threads = torch.get_num_threads() if known.tiled and not isinstance(student, Reads) else 1
    with progress(f"Tagging as {teacher_id}", len(ids), "samples", part=True) as advance, workers(threads) as submit:
        done: pa.Table | None = None
        for start in range(0, len(ids), config.block):
            block = np.arange(start, min(start + config.block, len(ids)))
            sizes = known.sizes(len(block), PARTS[threads > 1])
            encoded = student.embed(embeddings, block).split(sizes)
            places = np.split(block, np.cumsum(sizes)[:-1])
            parts = [submit(chosen, samples, place) for samples, place in zip(encoded, places, strict=True)]
            # Whoever takes the last block's table writes it while this block is computed.
            if done is not None:
                yield done
            pairs, confidence = (np.concatenate(column) for column in zip(*(part() for part in parts), strict=True))
            owner, topic = pa.array(np.repeat(block, k + r)), pa.array(pairs.ravel())
            columns = [ids.take(owner), names.take(topic), pa.repeat(teacher, len(owner))]
            done = pa.table([*columns, pa.array(confidence.ravel())], schema=LABEL_SCHEMA)
            advance(len(block))
        if done is not None:
            yield done


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
    with ThreadPoolExecutor(threads, "tagging", _alone) as pool:
        ready = Barrier(threads)
        wait([pool.submit(ready.wait) for _ in range(threads)])
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
