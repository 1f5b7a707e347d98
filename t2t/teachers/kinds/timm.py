"""Kind `timm`: a classifier that looks at frames. Its classes become topics by name, or by a table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from t2t.core.errors import DataError, T2TError
from t2t.core.progress import progress
from t2t.data.embeddings.config import TimmModelConfig
from t2t.data.embeddings.decode import Unreadable
from t2t.data.embeddings.embed import Batcher, decode_in_order
from t2t.data.embeddings.timm_model import TimmModel
from t2t.data.labels import LABEL_SCHEMA
from t2t.data.source import SourceFile
from t2t.data.tables import read_lines, read_table, refuse_duplicates, refuse_unknown
from t2t.teachers.base import TeacherContext, TeacherEntry, entry_fingerprint

# Raised whenever the same entry and files would give other labels.
CODE_VERSION = 1
BATCH_ROWS = 1 << 18
BATCH_SAMPLES = 1024


class Entry(TimmModelConfig, TeacherEntry):
    """A timm classifier. A clip's class probabilities are the mean of its frames'; then classes become topics.

    By name, a class stands for the topic of the same name, where capitals do not count and `_` is a space. A table
    (`topics`, a CSV file with the columns class and topic) says it freely: one class may stand for several topics,
    and several classes for one. Several classes of a softmax exclude each other, so their probabilities are added (at
    most 1); those of a sigmoid do not, so the highest one counts. A topic that no class stands for gets no label.
    """

    kind: Literal["timm"] = "timm"
    num_classes: int | None = Field(
        None, ge=1, le=10_000_000, description="Classes of the weights; None: the model's own number."
    )
    activation: Literal["softmax", "sigmoid"] = "softmax"
    classes: str = Field(description="A text file with one class name a line, in the order of the model's outputs.")
    topics: str | None = Field(None, description="A CSV file with the columns class and topic; None: by name.")


class Teacher:
    # A few minutes of decoding on a CPU: what a kill costs at most.
    shard_samples = 256

    def __init__(self, entry: Entry, context: TeacherContext):
        self.entry = entry
        self.context = context
        self.classes_file = self._file(entry.classes, "class names")
        self.topics_file = self._file(entry.topics, "table of topics") if entry.topics else None
        self.weights = self._file(entry.weights, "weights") if entry.weights else None
        # What is parsed is what was fingerprinted, also when somebody writes the files meanwhile.
        self.classes_source = SourceFile(self.classes_file)
        self.topics_source = SourceFile(self.topics_file) if self.topics_file else None

    def _file(self, written: str, what: str) -> Path:
        path = Path(written)
        if not path.is_absolute():
            path = self.context.data / path
        if not path.is_file():
            raise DataError(path, f"no such file ({what} of teacher {self.entry.id!r}).")
        return path

    @cached_property
    def model(self) -> TimmModel:
        config = self.entry.model_copy(update={"weights": str(self.weights) if self.weights else None})
        return TimmModel(config, self.entry.num_classes, self.context.device)

    def fingerprint(self) -> str:
        """Covers the entry, the weights' content, the class names, the table of topics and the preprocessing."""
        in_identity = [
            "weights",
            "pretrained",
            "batch_size",
            "mean",
            "std",
            "size",
            "interpolation",
            "classes",
            "topics",
        ]
        files = [self.classes_source.sha256(), self.topics_source.sha256() if self.topics_source else "by name"]
        model = json.dumps(self.model.identity, sort_keys=True)
        return entry_fingerprint(self.entry, f"version {CODE_VERSION}", model, *files, exclude=in_identity)

    def label(self, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
        """Yields label tables, rows ordered by sample. An unreadable video gets no row: it is in quarantine already.

        Raises T2TError when the class names do not fit the model, or when no class stands for any of the dataset's
        topics; DataError for an unknown class or topic in the table, or a pair that stands twice.
        """
        names = self._class_names()
        pairs = self._pairs(names)
        wanted = [topic for topic in topics if topic in pairs]
        if not wanted or not len(samples):
            return
        # Each topic's classes one after the other: a segment of the class axis to add up or to take the maximum of.
        order = np.concatenate([pairs[topic] for topic in wanted])
        starts = np.cumsum([0, *(len(pairs[topic]) for topic in wanted)])[:-1]
        merge = np.add if self.entry.activation == "softmax" else np.maximum
        topic_names = pa.array(wanted, pa.string())
        ids, paths = samples["sample_id"].to_pylist(), samples["path"].to_pylist()
        step = max(1, min(BATCH_SAMPLES, BATCH_ROWS // len(wanted)))
        clips = decode_in_order(paths, self.model)
        with progress(f"Labeling as {self.entry.id}", len(ids), "videos", part=True) as advance, closing(clips):
            for start in range(0, len(ids), step):
                batcher = Batcher(self._probabilities, self.model.batch_size)
                for sample_id in ids[start : start + step]:
                    clip = next(clips)
                    if not isinstance(clip, Unreadable):
                        batcher.add(sample_id, clip)
                    advance()
                readable, frames = batcher.finish()
                if not readable:
                    continue
                classes = np.stack([probabilities.mean(axis=0) for probabilities in frames])
                scores = merge.reduceat(classes[:, order], starts, axis=1).clip(0, 1)
                rows = np.arange(len(readable)).repeat(len(wanted))
                columns = [
                    pa.array(readable, pa.string()).take(pa.array(rows)),
                    topic_names.take(pa.array(np.tile(np.arange(len(wanted)), len(readable)))),
                    pa.repeat(pa.scalar(self.entry.id), len(rows)),
                    pa.array(scores.reshape(-1).astype(np.float32)),
                ]
                yield pa.table(columns, schema=LABEL_SCHEMA)

    def _probabilities(self, frames: np.ndarray) -> np.ndarray:
        """uint8 [N, size, size, 3] to float64 [N, classes]."""
        logits = self.model(frames).astype(np.float64)
        if self.entry.activation == "sigmoid":
            return 0.5 * (1 + np.tanh(0.5 * logits))
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def _class_names(self) -> list[str]:
        names = [line.strip() for line in read_lines(self.classes_source)]
        if len(names) != self.model.outputs:
            raise DataError(
                self.classes_file,
                f"{len(names):,} class names, but {self.entry.model} has {self.model.outputs:,} outputs; write one "
                "name a line, and set num_classes to the number that the weights have.",
            )
        return names

    def _pairs(self, names: list[str]) -> dict[str, np.ndarray]:
        """Of each topic of the dataset that has classes: their numbers, int64, increasing."""
        dataset = self.context.dataset
        classes_by_topic: dict[str, list[int]] = {}
        if self.topics_source is None or self.topics_file is None:
            topics = {_plain(topic): topic for topic in dataset.topics}
            for number, name in enumerate(names):
                if _plain(name) in topics:
                    classes_by_topic.setdefault(topics[_plain(name)], []).append(number)
        else:
            table = read_table(self.topics_source, {"class": pa.string(), "topic": pa.string()})
            refuse_unknown(self.topics_file, table, "class", names, "class")
            refuse_unknown(self.topics_file, table, "topic", dataset.topics, "topic")
            refuse_duplicates(self.topics_file, table, ["class", "topic"])
            numbers: dict[str, list[int]] = {}
            for number, name in enumerate(names):
                numbers.setdefault(name, []).append(number)
            for name, topic in zip(table["class"].to_pylist(), table["topic"].to_pylist(), strict=True):
                classes_by_topic.setdefault(topic, []).extend(numbers[name])
        if not classes_by_topic:
            raise T2TError(
                f"Teacher {self.entry.id!r}: no class in {self.classes_file} stands for a topic of dataset "
                f"{dataset.name!r}. Give `topics`, a CSV file with the columns class and topic."
            )
        return {topic: np.sort(np.array(numbers, dtype=np.int64)) for topic, numbers in classes_by_topic.items()}


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())
