"""Tagging: samples x topics scored, the top 10 and 10 random topics of each sample kept, Parquet out.

All sides begin from the same sample and text embeddings, so that the student's towers, which would be the same work on
every side, hide nothing; one line shows t2t and the limit with the sample tower, as a campaign runs it. t2t does more
than the others: it also draws the random topics and ends with the labels in a Parquet file, where the others end with
indices and cosines in memory. What it is to be measured by is FAISS's exact search alone.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import Measured, Result, alone, interleave
from t2t.data.embeddings.store import Embeddings
from t2t.data.labels import LABEL_SCHEMA, write_parquet
from t2t.students import build_student
from t2t.students.config import DualEncoderConfig, TaggingConfig
from t2t.students.dual_encoder import Student
from t2t.students.tagging import PART, tag
from t2t.students.topk import Topics

TOPICS, K, RANDOM, FRAMES, WIDTH = 10_000, 10, 10, 2, 32
# Samples that are tagged with MANY topics, whose embeddings are drawn; for fewer than 2,000 FAISS 1.15 uses no BLAS.
MANY, MANY_SAMPLES = 1_000_000, 2048
CONFIG = TaggingConfig(top_k=K, random=RANDOM)
T2T, LIMIT, NEIGHBORS, SEARCH = "t2t", "torch.matmul + topk", "NearestNeighbors", "semantic_search"
COSINE = 'NearestNeighbors(metric="cosine")'
FAISS, T2T_MANY, FAISS_MANY = "FAISS, IndexFlatIP", f"t2t, {MANY:,} topics", f"FAISS, IndexFlatIP, {MANY:,} topics"
WITH_TOWER, LIMIT_WITH_TOWER = "t2t with the sample tower", "tower, torch.matmul + topk"


class Encoded(Student):
    """A student whose sample embeddings are there already: what `tag` costs besides the tower."""

    samples: torch.Tensor

    def embed(self, embeddings: Embeddings, indices: np.ndarray) -> torch.Tensor:
        return self.samples[indices]


def run(full: bool) -> Result | str:
    try:
        import faiss
        from sentence_transformers import util
        from sklearn.neighbors import NearestNeighbors
    except ImportError as error:
        return f"{error.name} is not installed"
    sizes = (4096, 8192, 16_384) if full else (4096,)
    result = Result(
        name="tagging",
        title=f"Tagging with {TOPICS:,} topics",
        axis="samples",
        unit="samples/s",
        targets={LIMIT: 1 / 1.5, NEIGHBORS: 3, COSINE: 3, SEARCH: 3, FAISS: 1 / 1.1, FAISS_MANY: 1 / 1.1},
    )
    student, names = tiny_student(), topics()
    texts = student.encode_topics(names)
    for size in sizes:
        frames, ids = clips(size), sample_ids(size)
        samples = student.embed(frames, np.arange(size))
        encoded = student_with(samples)

        def tagged(by: Student, frames: Embeddings, ids: list[str]) -> None:
            with labels_file() as out:
                write_parquet(tag(by, frames, ids, names, "self", CONFIG, texts=texts), out, LABEL_SCHEMA)

        def dense(samples: torch.Tensor) -> torch.Tensor:
            return torch.topk(torch.matmul(samples, texts.T), K, dim=1).indices

        def dense_with_tower(frames: Embeddings) -> torch.Tensor:
            return dense(student.embed(frames, np.arange(len(frames))))

        def neighbors(samples: torch.Tensor, **settings: str) -> np.ndarray:
            return NearestNeighbors(n_neighbors=K, **settings).fit(texts.numpy()).kneighbors(samples.numpy())[1]

        def search(samples: torch.Tensor) -> list[Any]:
            return util.semantic_search(samples, texts, top_k=K, score_function=util.dot_score)

        if size == sizes[0]:
            semantic = np.array([[hit["corpus_id"] for hit in hits] for hits in search(samples)])
            agree(
                dense(samples), neighbors(samples), searched(faiss, samples, texts), semantic, own_best(texts, samples)
            )
        sides: dict[str, Callable[[], object]] = {
            T2T: partial(tagged, encoded, frames, ids),
            LIMIT: partial(dense, samples),
            # Of unit vectors the nearest have the highest cosine, and scikit-learn has a faster way for distances.
            NEIGHBORS: partial(neighbors, samples, algorithm="brute"),
            COSINE: partial(neighbors, samples, metric="cosine"),
            SEARCH: partial(search, samples),
            FAISS: partial(searched, faiss, samples, texts),
            WITH_TOWER: partial(tagged, student, frames, ids),
            LIMIT_WITH_TOWER: partial(dense_with_tower, frames),
        }
        for side, seconds in interleave(sides, runs=3, warm=size == sizes[0]).items():
            result.measured.append(Measured(side=side, size=size, amount=size, seconds=seconds))
    size = sizes[-1]
    own = result.at(T2T, size).median
    result.ratios = {side: result.at(side, size).median / own for side in (LIMIT, NEIGHBORS, COSINE, SEARCH, FAISS)}
    if full:
        many(result, faiss)
    with_tower = result.at(LIMIT_WITH_TOWER, size).median / result.at(WITH_TOWER, size).median
    result.figures["against the limit, both with the sample tower"] = f"{with_tower:.2f}"
    for number in (10_000, 100_000, 1_000_000) if full else []:
        found = alone(in_memory_of_its_own, number, prepare=prepare)
        memory = f"{found.memory / 2**20:,.0f} MiB"
        result.figures[f"memory added by {number:,} samples, tower included"] = (
            f"{memory} at most, {found.value / 2**20:,.0f} MiB of it pages of the mapped embeddings "
            f"({found.seconds:.0f} s)"
        )
    return result


def searched(faiss: Any, samples: torch.Tensor, texts: torch.Tensor) -> np.ndarray:
    """FAISS's exact search, with nothing of what t2t does beside it: the K best topics of each sample."""
    index = faiss.IndexFlatIP(texts.shape[1])
    index.add(texts.numpy())
    found: np.ndarray = index.search(samples.numpy(), K)[1]
    return found


def many(result: Result, faiss: Any) -> None:
    """Adds t2t and FAISS with a million topics, and what t2t's memory comes to."""
    names, texts, samples = many_topics(), drawn(MANY, 2), drawn(MANY_SAMPLES, 3)
    encoded, ids = student_with(samples), sample_ids(MANY_SAMPLES)

    def tagged() -> None:
        with labels_file() as out:
            write_parquet(tag(encoded, NO_FRAMES, ids, names, "self", CONFIG, texts=texts), out, LABEL_SCHEMA)

    agree(searched(faiss, samples, texts), own_best(texts, samples))
    sides: dict[str, Callable[[], object]] = {T2T_MANY: tagged, FAISS_MANY: partial(searched, faiss, samples, texts)}
    for side, seconds in interleave(sides, runs=3, warm=True).items():
        result.measured.append(Measured(side=side, size=MANY_SAMPLES, amount=MANY_SAMPLES, seconds=seconds))
    own = result.at(T2T_MANY, MANY_SAMPLES).median
    result.ratios[FAISS_MANY] = result.at(FAISS_MANY, MANY_SAMPLES).median / own
    for number in (TOPICS, 100_000, MANY):
        found = alone(memory_by_topics, number, prepare=prepare_topics)
        memory = f"{found.memory / 2**20:,.0f} MiB"
        result.figures[f"memory added by {MANY_SAMPLES:,} samples with {number:,} topics"] = (
            f"{memory} at most, their names in Arrow included"
        )


# A student whose samples are encoded looks at none.
NO_FRAMES = Embeddings([], np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64), WIDTH)


def many_topics(size: int = MANY) -> list[str]:
    return [f"topic {number}" for number in range(size)]


def drawn(size: int, seed: int) -> torch.Tensor:
    """Vectors of unit length, as long as the student's."""
    vectors = torch.randn(size, DualEncoderConfig().dim, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(vectors, dim=1)


def prepare_topics(size: int) -> tuple[Student, torch.Tensor, list[str]]:
    """The student, its topics' embeddings and names; the libraries' own buffers are there already."""
    encoded, texts, names = student_with(drawn(MANY_SAMPLES, 3)), drawn(size, 2), many_topics(size)
    memory_by_topics((encoded, texts, names))
    return encoded, texts, names


def memory_by_topics(prepared: tuple[Student, torch.Tensor, list[str]]) -> int:
    """Tags the samples; returns the rows written."""
    encoded, texts, names = prepared
    with labels_file() as out:
        tables = tag(encoded, NO_FRAMES, sample_ids(MANY_SAMPLES), names, "self", CONFIG, texts=texts)
        return write_parquet(tables, out, LABEL_SCHEMA)


def own_best(texts: torch.Tensor, samples: torch.Tensor) -> np.ndarray:
    """The K best topics of each sample, as `tag` finds them."""
    known = Topics(texts, CONFIG.block)
    return np.concatenate([known.of(part).top(K)[0] for part in samples.split(known.sizes(len(samples), PART))])


def agree(one: Any, *others: Any) -> None:
    """All sides find the same topics (but for a pair of cosines that differ in their last bit). Args: [samples, K]."""
    for other in others:
        shared = np.mean([len({*a} & {*b}) for a, b in zip(one.tolist(), other.tolist(), strict=True)]) / K
        if shared < 0.999:
            raise AssertionError(f"the sides differ: {shared:.2%} of the top {K} are the same")


def topics() -> list[str]:
    words = ["red", "blue", "old", "wide", "quick", "child", "ninja", "warrior", "party", "dance", "ball", "kitchen"]
    draw = np.random.default_rng(0).integers(0, len(words), (TOPICS, 3))
    return [f"{words[a]} {words[b]} {words[c]} {number}" for number, (a, b, c) in enumerate(draw)]


def tiny_student() -> Student:
    """The default student with random weights, over small frame embeddings."""
    return build_student(DualEncoderConfig(), WIDTH, topics()[:500], ["human"], seed=0).eval()


def student_with(samples: torch.Tensor) -> Encoded:
    student = tiny_student()
    student.__class__ = Encoded
    assert isinstance(student, Encoded)
    student.samples = samples
    return student


def clips(size: int) -> Embeddings:
    rows = np.random.default_rng(1).normal(size=(size * FRAMES, WIDTH)).astype(np.float16)
    return mapped(rows)


def mapped(rows: np.ndarray) -> Embeddings:
    size = len(rows) // FRAMES
    return Embeddings([rows], np.zeros(size, np.int64), np.arange(size) * FRAMES, np.full(size, FRAMES), WIDTH)


def sample_ids(size: int) -> list[str]:
    return [f"clip_{number:09}" for number in range(size)]


def prepare(size: int) -> tuple[Student, torch.Tensor, list[str], Path]:
    """The student and its texts, the samples' names, and their embeddings in a file."""
    student = tiny_student()
    path = Path(tempfile.mkdtemp()) / "embeddings"
    generator = np.random.default_rng(1)
    with path.open("wb") as file:
        for start in range(0, size, 1 << 16):
            count = min(1 << 16, size - start) * FRAMES
            generator.normal(size=(count, WIDTH)).astype(np.float16).tofile(file)
    texts = student.encode_topics(topics())
    # The first blocks bring the libraries' own buffers, which belong to no number of samples.
    with labels_file() as out:
        tables = tag(student, clips(2048), sample_ids(2048), topics(), "self", CONFIG, texts=texts)
        write_parquet(tables, out, LABEL_SCHEMA)
    return student, texts, sample_ids(size), path


def in_memory_of_its_own(prepared: tuple[Student, torch.Tensor, list[str], Path]) -> int:
    """Tags all samples; returns how many bytes of the mapped embeddings are resident at the end."""
    student, texts, ids, path = prepared
    before = resident_pages()
    frames = mapped(np.memmap(path, np.float16, "r").reshape(-1, WIDTH))
    with labels_file() as out:
        write_parquet(tag(student, frames, ids, topics(), "self", CONFIG, texts=texts), out, LABEL_SCHEMA)
    resident = resident_pages() - before
    path.unlink()
    path.parent.rmdir()
    return resident


@contextmanager
def labels_file() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "labels.parquet"


def resident_pages() -> int:
    """Bytes of files that are mapped and resident in this process; 0 where the system does not tell."""
    try:
        shared = int(Path("/proc/self/statm").read_text().split()[2])
    except OSError:
        return 0
    return shared * os.sysconf("SC_PAGE_SIZE")
