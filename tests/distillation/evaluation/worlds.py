"""Small tasks for encoders, made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from t2t.data.dataset import Dataset, DatasetConfig, read_dataset
from t2t.distillation.evaluation.task import Task

TOPICS = ("cat", "dog", "emu")


def classes(fit: int = 60, test: int = 45, topics: int = 3, seed: int = 0, group: int = 3) -> Task:
    """Exclusive topics in turn; `group` samples running are of one source."""
    said = np.eye(topics, dtype=np.float32)[np.arange(fit + test) % topics]
    names = tuple(f"s{i}" for i in range(fit + test))
    sources = np.arange(fit + test) // group
    topic_names = tuple(f"t{i}" for i in range(topics))
    return Task("made", topic_names, names, said[:fit], said[fit:], sources[:fit], sources[fit:], True)


def features(task: Task, noise: float, dim: int = 8, seed: int = 0) -> np.ndarray:
    """Features in which topics are apart as far as the noise lets them."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(len(task.topics), dim))
    said = np.nan_to_num(np.concatenate([task.fit, task.test]))
    return (said @ centres + noise * generator.normal(size=(len(said), dim))).astype(np.float32)


def dataset(folder: Path, exclusive: bool = True) -> Dataset:
    """Pictures that nobody opens, in three splits; of each people answered all topics, or two of three."""
    folder.mkdir(parents=True, exist_ok=True)
    samples, answers = ["sample_id,path,modality,group,split"], ["sample_id,topic,annotator,relevance"]
    splits = ("train", "train", "validation", "test", "test", "unlabeled")
    for i in range(36):
        (folder / f"{i}.png").write_bytes(b"x%d" % i)
        split = splits[i % 6]
        samples.append(f"s{i},{i}.png,image,g{i % 6}-{i // 12},{split}")
        for t, topic in enumerate(TOPICS):
            if split != "unlabeled" and (exclusive or t != (i // 6 + 1) % 3):
                answers.append(f"s{i},{topic},ann,{int(t == (i // 6) % 3)}")
    (folder / "samples.csv").write_text("\n".join(samples) + "\n")
    (folder / "annotations.csv").write_text("\n".join(answers) + "\n")
    (folder / "topics.txt").write_text("\n".join(TOPICS) + "\n")
    return read_dataset(DatasetConfig(name="pictures", root=folder.name), folder.parent)
