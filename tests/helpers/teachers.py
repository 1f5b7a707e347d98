"""A dataset of three samples, teachers of it, and short ways to register them and to look at their labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from t2t.core.files import sha256
from t2t.core.progress import progress
from t2t.data.dataset import Dataset, DatasetConfig, read_dataset
from t2t.data.labels import HUMAN, LABEL_SCHEMA
from t2t.lake import Lake
from t2t.teachers import Teacher, TeacherContext, build, parse_entry
from t2t.teachers.base import TeacherRef
from t2t.teachers.register import Registrar
from t2t.teachers.store import read_labels

SAMPLES = """sample_id,path,modality,group,split
a,a.mp4,video,g1,train
b,a.mp4,video,g2,unlabeled
c,a.mp4,video,g3,test
"""
ANNOTATIONS = "sample_id,topic,annotator,relevance\na,red circle,x,1\nc,red circle,x,0\n"


def make(data: Path, annotations: str = ANNOTATIONS) -> Dataset:
    root = data / "tiny"
    root.mkdir(parents=True, exist_ok=True)
    for name, text in {
        "samples.csv": SAMPLES,
        "annotations.csv": annotations,
        "topics.txt": "red circle\nblue square\n",
        "a.mp4": "not looked at",
    }.items():
        (root / name).write_text(text)
    return read_dataset(DatasetConfig(name="tiny", root="tiny"), data)


def teacher(dataset: Dataset, teacher_id: str = "vendor", **confidence: float) -> Teacher:
    """Kind `labels`: its confidence of "red circle" for each named sample."""
    rows = [f"{sample},red circle,{value}\n" for sample, value in confidence.items()]
    (dataset.root / "labels.csv").write_text("".join(["sample_id,topic,confidence\n", *rows]))
    entry = parse_entry({"id": teacher_id, "kind": "labels", "path": "labels.csv"}, "entry")
    return build(entry, TeacherContext(dataset, Path()))


def human(dataset: Dataset) -> Teacher:
    return build(parse_entry({"id": HUMAN, "kind": "annotations"}, "entry"), TeacherContext(dataset, Path()))


def enter(lake: Lake, work: Path, dataset: Dataset, teacher: Teacher, branch: str = "main", **more: Any) -> TeacherRef:
    return Registrar(lake, dataset, work, branch).register(teacher, dataset.samples, dataset.topics, **more)


def confidences(lake: Lake, ref: str, teacher_id: str = "vendor") -> dict[str, float]:
    labels = read_labels(lake, ref, "tiny", teacher_id)
    return dict(zip(labels["sample_id"].to_pylist(), labels["confidence"].to_pylist(), strict=True))


def keys(lake: Lake, ref: str = "main") -> list[str]:
    return [commit.key for commit in lake.log(ref) if commit.key]


class Counting:
    """A teacher that answers everything, of one confidence per pair, and remembers what it was asked."""

    def __init__(self, shard_samples: int | None = None, dies_at: int | None = None, extra: str = ""):
        self.entry = parse_entry({"id": "vendor", "kind": "labels", "path": f"any{extra}"}, "entry")
        self.shard_samples, self.dies_at = shard_samples, dies_at
        self.calls: list[tuple[list[str], list[str]]] = []

    def fingerprint(self) -> str:
        return sha256(self.entry.path)

    def label(self, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
        if len(self.calls) == self.dies_at:
            raise KeyboardInterrupt
        self.calls.append((samples["sample_id"].to_pylist(), list(topics)))
        with progress("Labeling", len(samples), "videos", part=True) as advance:
            rows = [(s, t, len(s + t) / 99) for s in samples["sample_id"].to_pylist() for t in topics]
            columns = [pa.array([row[i] for row in rows], LABEL_SCHEMA.types[j]) for i, j in ((0, 0), (1, 1), (2, 3))]
            columns.insert(2, pa.array(["vendor"] * len(rows)))
            yield pa.table(columns, schema=LABEL_SCHEMA)
            advance(len(samples))


def many(*names: str) -> pa.Table:
    return pa.table({"sample_id": list(names), "path": [f"{name}.mp4" for name in names]})


def ask(lake: Lake, work: Path, dataset: Dataset, teacher: Any, samples: pa.Table, *topics: str) -> None:
    Registrar(lake, dataset, work).register(teacher, samples, topics)


def pairs(lake: Lake, ref: str = "main") -> list[tuple[str, str]]:
    labels = read_labels(lake, ref, "tiny", "vendor")
    return list(zip(labels["sample_id"].to_pylist(), labels["topic"].to_pylist(), strict=True))


def content(lake: Lake, ref: str = "main") -> dict[str, bytes]:
    found = {}
    for entry in lake.list(ref):
        with lake.read(ref, entry.path) as file:
            found[entry.path] = file.read()
    return found
