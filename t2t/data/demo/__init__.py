"""The demo campaign's data: `make` renders its clips and trains its teachers, in less than two minutes on two cores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from t2t.core.files import atomic_folder
from t2t.core.progress import progress
from t2t.data.demo.image_text import train_image_text
from t2t.data.demo.language import Clips
from t2t.data.demo.teachers import on_threads, train_frame_expert, vendor_labels
from t2t.data.demo.vlm import train_vlm
from t2t.data.demo.world import all_topics, draw_things, render, write_video

# Clips by split. Few have human labels for training, many have none: that is what self-training is for.
SPLITS = {"train": 50, "validation": 80, "test": 150, "unlabeled": 320}
CLIPS_A_SCENE = 4
ANNOTATORS = ("ann", "ben")
SLIPS = 0.1
# Where the two teachers that read lie, each as save_pretrained writes it.
CHECKPOINTS = "checkpoints"


def make(
    root: Path, splits: dict[str, int] | None = None, effort: float = 1.0, seed: int = 0, *, readers: bool = True
) -> bool:
    """Makes the demo dataset in `root`, whole or not at all; does nothing where it is.

    To one that an older version of t2t made, which had not all of today's teachers, it adds those.

    Args:
        splits: clips by split; the demo's own sizes by default.
        effort: scales the teachers' training; tests use little.
        readers: whether to train the two that are asked in words, which take most of the time.

    Returns: whether there was anything to make.
    """
    if root.is_dir():
        checkpoints = root / "teachers" / CHECKPOINTS
        if not readers or checkpoints.is_dir() or not checkpoints.parent.is_dir():
            return False
        with atomic_folder(checkpoints) as folder:
            _train_readers(folder, effort, seed)
        return True
    with atomic_folder(root) as folder:
        (folder / "clips").mkdir()
        (folder / "teachers").mkdir()
        videos, samples, annotations = _clips(folder, splits or SPLITS, seed)
        samples.to_csv(folder / "samples.csv", index=False)
        annotations.to_csv(folder / "annotations.csv", index=False)
        (folder / "topics.txt").write_text("\n".join(all_topics()) + "\n")
        clips, epochs = max(16, round(400 * effort)), max(1, round(14 * effort))
        train_frame_expert(folder / "teachers", "colour expert", "colour", clips, max(1, epochs // 2), seed + 1)
        train_frame_expert(folder / "teachers", "shape expert", "shape", clips, epochs, seed + 2)
        # Paid by the clip: of the unlabeled ones only every third was sent to the vendor.
        sent = [i for i, split in enumerate(samples["split"]) if split != "unlabeled" or i % 3 == 0]
        ids = samples["sample_id"].iloc[sent].tolist()
        labels = vendor_labels([videos[i] for i in sent], ids, max(40, round(120 * effort)), seed + 3)
        labels.to_csv(folder / "teachers" / "vendor.csv", index=False)
        if readers:
            _train_readers(folder / "teachers" / CHECKPOINTS, effort, seed)
    return True


def _train_readers(folder: Path, effort: float, seed: int) -> None:
    """Trains the teachers that are asked in words, on clips of their own; the second sees through the first's eyes."""
    # Such small blocks gain little by a second thread, and lose much where another program has that core.
    clips = Clips.draw(max(64, round(1000 * effort)), seed + 4)
    with torch.random.fork_rng(devices=[]), on_threads(1):
        model = train_image_text(folder / "tiny-align", clips, max(8, round(330 * effort)), seed + 5)
        # Below that its answer would not even begin with a yes or a no.
        train_vlm(folder / "tiny-vlm", clips, model, max(40, round(320 * effort)), seed + 6)


def _clips(folder: Path, splits: dict[str, int], seed: int) -> tuple[list[np.ndarray], pd.DataFrame, pd.DataFrame]:
    """Renders and writes the clips; returns their frames, and the tables of samples and annotations."""
    topics = all_topics()
    videos: list[np.ndarray] = []
    samples, annotations = [], []
    with progress("Rendering clips", sum(splits.values()), "clips") as advance:
        for split, count in splits.items():
            for i in range(count):
                number = len(videos)
                # Every split has scenes of its own: a ground, like a channel, lies in one split only.
                scene = list(splits).index(split) * 1000 + i // CLIPS_A_SCENE
                generator = np.random.default_rng([seed, number])
                things = draw_things(generator)
                videos.append(render(things, scene, generator))
                sample_id, path = f"clip-{number:04}", f"clips/{number:04}.mp4"
                write_video(folder / path, videos[-1])
                samples.append((sample_id, path, "video", f"scene-{scene}", split))
                true = set().union(*(thing.topics for thing in things))
                if split != "unlabeled":
                    annotations += _annotate(sample_id, topics, true, split, generator)
                advance()
    columns = ["sample_id", "path", "modality", "group", "split"]
    pairs = ["sample_id", "topic", "annotator", "relevance"]
    return videos, pd.DataFrame(samples, columns=columns), pd.DataFrame(annotations, columns=pairs)


def _annotate(
    sample_id: str, topics: Sequence[str], true: set[str], split: str, generator: np.random.Generator
) -> list[tuple[str, str, str, float]]:
    """Two people look at each training clip, and now and then one of them misses something; of validation and test
    clips they agreed on one answer."""
    if split != "train":
        return [(sample_id, topic, "agreed", float(topic in true)) for topic in topics]
    return [
        (sample_id, topic, annotator, float(topic in true and generator.random() >= SLIPS))
        for topic in topics
        for annotator in ANNOTATORS
    ]
