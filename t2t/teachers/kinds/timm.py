"""Kind `timm`: a classifier that looks at frames. Its classes become topics by name, or by a table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from t2t.core.errors import DataError, T2TError, listed
from t2t.core.progress import progress
from t2t.data.embeddings.config import TimmModelConfig
from t2t.data.embeddings.decode import Unreadable
from t2t.data.embeddings.embed import Batcher, decode_in_order
from t2t.data.embeddings.limits import limits_of
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

    By name, a class stands for the topic of the same name, where capitals do not count and `_` is a space; two classes
    of one name are refused where a topic is meant by them. A table
    (`topics`, a CSV file with the columns class and topic) says it freely: one class may stand for several topics,
    and several classes for one. Several classes of a softmax exclude each other, so their probabilities are added (at
    most 1); those of a sigmoid do not, so the highest one counts. A topic that no class stands for gets no label.
    """

    kind: Literal["timm"] = Field("timm", description="A classifier that looks at frames; its classes become topics.")
    num_classes: int | None = Field(
        None, ge=1, le=10_000_000, description="Classes of the weights; null: the model's own number."
    )
    activation: Literal["softmax", "sigmoid"] = Field(
        "softmax", description="softmax: the classes exclude each other; sigmoid: each is a yes or no of its own."
    )
    classes: str = Field(description="A text file with one class name a line, in the order of the model's outputs.")
    topics: str | None = Field(None, description="A CSV file with the columns class and topic; null: by name.")


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
        self.remarks: list[str] = []

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
        topics; DataError for an unknown class or topic in the table, a pair that stands twice, or classes or topics
        that cannot be told apart.
        """
        names = self._class_names()
        pairs = self._pairs(names)
        self.remarks = _remarks(names, pairs, self.context.dataset.topics)
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
        clips = decode_in_order(paths, self.model, limits=limits_of(samples))
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
        if self.topics_source is None or self.topics_file is None:
            classes_by_topic = self._by_name(names)
        else:
            classes_by_topic = self._by_table(names)
        if not classes_by_topic:
            raise T2TError(
                f"Teacher {self.entry.id!r}: no class in {self.classes_file} stands for a topic of dataset "
                f"{dataset.name!r}. Give `topics`, a CSV file with the columns class and topic."
            )
        return {topic: np.sort(np.array(numbers, dtype=np.int64)) for topic, numbers in classes_by_topic.items()}

    def _by_name(self, names: list[str]) -> dict[str, list[int]]:
        topics: dict[str, list[str]] = {}
        for topic in self.context.dataset.topics:
            topics.setdefault(_plain(topic), []).append(topic)
        classes: dict[str, list[int]] = {}
        for number, name in enumerate(names):
            classes.setdefault(_plain(name), []).append(number)
        classes_by_topic = {}
        for plain, numbers in classes.items():
            meant = topics.get(plain, [])
            if meant and len(numbers) > 1:
                raise self._twice(names, numbers, f"topic {meant[0]!r}")
            if len(meant) > 1:
                raise DataError(
                    self.classes_file,
                    f"class {names[numbers[0]]!r} may stand for the topics {listed([repr(topic) for topic in meant])}, "
                    "which differ in capitals and blanks only. Give `topics`, a CSV file with the columns class and "
                    "topic.",
                    numbers[0] + 1,
                )
            for topic in meant:
                classes_by_topic[topic] = numbers
        return classes_by_topic

    def _by_table(self, names: list[str]) -> dict[str, list[int]]:
        dataset, file = self.context.dataset, self.topics_file
        assert self.topics_source is not None
        assert file is not None
        text = pa.string()
        table = read_table(self.topics_source, {"class": text, "topic": text})
        refuse_unknown(file, table, "class", names, "class")
        refuse_unknown(file, table, "topic", dataset.topics, "topic")
        refuse_duplicates(file, table, ["class", "topic"])
        numbers: dict[str, list[int]] = {}
        for number, name in enumerate(names):
            numbers.setdefault(name, []).append(number)
        classes_by_topic: dict[str, list[int]] = {}
        for name, topic in zip(table["class"].to_pylist(), table["topic"].to_pylist(), strict=True):
            if len(numbers[name]) > 1:
                raise self._twice(names, numbers[name], f"topic {topic!r} in {file.name}")
            classes_by_topic.setdefault(topic, []).extend(numbers[name])
        return classes_by_topic

    def _twice(self, names: list[str], numbers: list[int], use: str) -> DataError:
        written = " and ".join(f"{names[number]!r} (row {number + 1})" for number in numbers[:3])
        return DataError(
            self.classes_file,
            f"{written} are two classes of one name, and {use} needs one of them: nobody can tell which. Give each a "
            "name of its own, such as 'crane, bird'; where both are meant, name both in `topics`, a CSV file with the "
            "columns class and topic.",
        )


def _remarks(names: list[str], pairs: Mapping[str, np.ndarray], topics: Sequence[str]) -> list[str]:
    """What met nothing, a sentence each."""
    used = {int(number) for numbers in pairs.values() for number in numbers}
    idle = [name for number, name in enumerate(names) if number not in used]
    silent = [topic for topic in topics if topic not in pairs]
    found = []
    if idle:
        found.append(f"{len(idle):,} of {len(names):,} classes stand for no topic: {listed(idle, 5)}.")
    if silent:
        found.append(f"{len(silent):,} of {len(topics):,} topics have no class and get no label: {listed(silent, 5)}.")
    if twice := sorted(name for name, count in Counter(idle).items() if count > 1):
        found.append(f"Class names that stand twice, for no topic: {listed(twice, 5)}.")
    return found


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())
