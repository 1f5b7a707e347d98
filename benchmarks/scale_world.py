"""A world of any size without a video: drawn embeddings, planted topics, people, and teachers as Parquet files.

A topic is two words, and its direction is the sum of theirs and a part of its own, so that there is something to learn
from texts. A sample is the sum of three topics and noise. Every teacher knows a fifth of the first words well and the
others badly, labels a share of the samples and has a habit of its own in the numbers it uses. What a teacher says of a
pair depends on the seed, the teacher and the sizes only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from scipy.special import expit  # type: ignore[import-untyped]

from t2t.core.workspace import Workspace

DIM, WORDS, TRUE = 64, 100, 3
# Of a sample a teacher is asked the true topics, near ones (of the same first word) and others.
NEAR, OTHERS = 3, 5
# Pairs that people answer of a sample, and the shares of the splits that they answer; the rest is unlabeled.
ASKED, SPLITS = 20, {"train": 0.02, "validation": 0.005, "test": 0.005}
# Samples that are drawn at once.
BLOCK = 1 << 16
NAME = "scale"


@dataclass(frozen=True)
class Size:
    samples: int
    topics: int
    teachers: int
    rows: int

    @property
    def rows_each(self) -> int:
        """Rows of a teacher."""
        return self.rows // self.teachers

    @property
    def labeled(self) -> int:
        """Samples that a teacher labels: ten rows each, or so many as make its rows."""
        return min(self.samples, -(-self.rows_each // (TRUE + NEAR + OTHERS - 1)))


def make(size: Size, folder: Path, settings: dict[str, object]) -> Workspace:
    """Writes data and registry below `folder`. settings: of the campaign."""
    data, registry = folder / "data" / NAME, folder / "registry"
    for path in (data, registry / "datasets", registry / "teachers", registry / "campaigns"):
        path.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    words = rng.standard_normal((2, WORDS, DIM)) / np.sqrt(DIM)
    own = rng.standard_normal((size.topics, DIM)) / np.sqrt(DIM)
    first, second = np.divmod(np.arange(size.topics), WORDS)
    directions = words[0, first % WORDS] + words[1, second] + 0.7 * own
    (data / "topics.txt").write_text("".join(f"{name}\n" for name in _names(size.topics)))
    true = _samples(size, data, directions, rng)
    splits = _split_table(size, data)
    _people(size, data, true, splits, rng)
    names = pa.array(_names(size.topics))
    ids = _ids(np.arange(size.samples))
    for number in range(size.teachers):
        _teacher(size, data / f"{_teacher_name(number)}.parquet", number, true, ids, names)
        entry = {"id": _teacher_name(number), "kind": "labels", "path": f"${{data}}/{_teacher_name(number)}.parquet"}
        (registry / "teachers" / f"{_teacher_name(number)}.yaml").write_text(yaml.safe_dump(entry))
    entry = {"name": NAME, "root": NAME, "samples": "samples.parquet", "annotations": "annotations.parquet"}
    (registry / "datasets" / f"{NAME}.yaml").write_text(yaml.safe_dump(entry))
    campaign = {
        "name": NAME,
        "dataset": NAME,
        "teachers": [_teacher_name(number) for number in range(size.teachers)],
        "encoder": {"kind": "vectors", "dim": DIM},
        **settings,
    }
    (registry / "campaigns" / f"{NAME}.yaml").write_text(yaml.safe_dump(campaign))
    return Workspace(registry, folder / "data", folder / "work")


def _teacher_name(number: int) -> str:
    return f"t{number:03}"


def _names(topics: int) -> list[str]:
    """Two words a topic, of two made syllables each."""
    syllables = [a + b for a in "bdfgklmnpr" for b in "aeiou"]
    ways = [syllables[n % 50] + syllables[(7 * n + n // 50) % 50] for n in range(2 * WORDS)]
    firsts = ways[:WORDS]
    more = [f"{way}{n}" for n in range(1, -(-topics // WORDS**2)) for way in ways[:WORDS]]
    return [f"{(firsts + more)[t // WORDS]} {ways[WORDS + t % WORDS]}s" for t in range(topics)]


def _ids(numbers: np.ndarray) -> pa.Array:
    return pa.array(np.char.add("s", np.char.zfill(numbers.astype("U7"), 7)))


def _samples(size: Size, data: Path, directions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Writes the embeddings; returns the true topics, int32 [samples, TRUE], distinct in a sample."""
    true = np.empty((size.samples, TRUE), np.int32)
    values = np.lib.format.open_memmap(data / "embeddings.npy", mode="w+", dtype=np.float16, shape=(size.samples, DIM))
    for start in range(0, size.samples, BLOCK):
        block = slice(start, min(start + BLOCK, size.samples))
        count = block.stop - start
        # Distinct without a loop: a random start and two random steps that sum to less than a turn.
        steps = rng.integers(1, size.topics // TRUE, (count, TRUE))
        true[block] = np.cumsum(steps, axis=1) + rng.integers(size.topics, size=(count, 1))
        true[block] %= size.topics
        mean = directions[true[block]].sum(axis=1)
        values[block] = mean + rng.standard_normal((count, DIM)) / np.sqrt(DIM)
    values.flush()
    return true


def _split_table(size: Size, data: Path) -> dict[str, np.ndarray]:
    """Writes the samples' table; returns the samples of people's splits."""
    order = np.random.default_rng(1).permutation(size.samples)
    counts = [max(40, round(share * size.samples)) for share in SPLITS.values()]
    found = dict(zip(SPLITS, np.split(order, np.cumsum(counts))[: len(SPLITS)], strict=True))
    split = np.full(size.samples, len(SPLITS), np.int8)
    for code, numbers in enumerate(found.values()):
        split[numbers] = code
    ids = _ids(np.arange(size.samples))
    numbers = pa.array(np.arange(size.samples)).cast(pa.string())
    kinds = pa.DictionaryArray.from_arrays(pa.array(split), pa.array([*SPLITS, "unlabeled"]))
    columns = {
        "sample_id": ids,
        "path": pa.compute.binary_join_element_wise("embeddings.npy", numbers, "#"),
        "modality": pa.repeat(pa.scalar("vectors"), size.samples),
        "group": ids,
        "split": kinds.cast(pa.string()),
    }
    pq.write_table(pa.table(columns), data / "samples.parquet", compression="zstd")
    return found


def _people(size: Size, data: Path, true: np.ndarray, splits: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    """People answer some pairs of the samples of their splits, and are right."""
    samples = np.concatenate(list(splits.values()))
    pairs = _pairs(samples, true, size.topics, NEAR, ASKED - TRUE - NEAR, rng)
    sample, topic = np.divmod(pairs, size.topics)
    names = pa.array(_names(size.topics))
    columns = {
        "sample_id": _ids(sample),
        "topic": names.take(pa.array(topic)),
        "annotator": pa.repeat(pa.scalar("anna"), len(pairs)),
        "relevance": (true[sample] == topic[:, None]).any(axis=1).astype(np.float64),
    }
    pq.write_table(pa.table(columns), data / "annotations.parquet", compression="zstd")


def _pairs(
    samples: np.ndarray, true: np.ndarray, topics: int, near: int, others: int, rng: np.random.Generator
) -> np.ndarray:
    """Pairs of samples with their true topics, near and other ones as numbers, sample x topics + topic: distinct,
    in rising order."""
    own = true[samples].astype(np.int64)
    word = own[:, :1] // WORDS * WORDS
    # The same for everybody who asks about a sample, so that teachers and people share negative pairs too.
    steps = (1 + samples[:, None] % 31) * np.arange(1, near + 1)
    close = np.minimum(word + (own[:, :1] + steps) % WORDS, topics - 1)
    asked = np.concatenate([own, close, rng.integers(topics, size=(len(samples), others))], axis=1)
    keys: np.ndarray = np.unique(samples[:, None].astype(np.int64) * topics + asked)
    return keys


def _teacher(size: Size, path: Path, number: int, true: np.ndarray, ids: pa.Array, names: pa.Array) -> None:
    rng = np.random.default_rng([2, number])
    expert = np.zeros(WORDS, bool)
    expert[rng.choice(WORDS, WORDS // 5, replace=False)] = True
    # A tenth more than it needs, of which some are left out: pairs that were drawn twice are one.
    samples = np.sort(rng.choice(size.samples, min(size.samples, round(1.1 * size.labeled)), replace=False))
    pairs = _pairs(samples, true, size.topics, NEAR, OTHERS, rng)
    if len(pairs) > size.rows_each:
        pairs = pairs[np.sort(rng.choice(len(pairs), size.rows_each, replace=False))]
    sample, topic = np.divmod(pairs, size.topics)
    right = (true[sample] == topic[:, None]).any(axis=1)
    noise = np.where(expert[topic // WORDS % WORDS], 1.0, 4.0) * rng.standard_normal(len(pairs))
    logit = (np.where(right, 2.0, -2.0) + noise) * rng.uniform(0.3, 2.0) + rng.uniform(-2.0, 1.0)
    columns = {
        "sample_id": ids.take(pa.array(sample)),
        "topic": names.take(pa.array(topic)),
        "confidence": expit(logit).astype(np.float32),
    }
    pq.write_table(pa.table(columns), path, compression="zstd")
