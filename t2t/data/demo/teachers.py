"""The demo's teachers: real models, each trained on clips of its own that the campaign never sees.

- `colour`: a small convolutional network that knows colours. Asked for "red circle" it says how surely there is
  anything red: it has no idea of shapes.
- `shape`: another one that knows shapes, and neither colour nor motion.
- `vendor`: looks at whole clips and answers every topic, but it has seen few of them, so it is broad and weak. It is
  paid by the clip, so it has labeled only a part.

Two more read what they are asked: `t2t.data.demo.image_text` and `t2t.data.demo.vlm`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from safetensors.torch import save_file
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from t2t.core.progress import progress
from t2t.data.demo.world import COLOURS, FRAMES, SHAPES, Thing, all_topics, draw_things, render
from t2t.data.embeddings.pixels import describe

# A network's weights depend on the number of threads in their last bits; two give the same demo on every machine.
THREADS = 2
# What the registry's entries of the two networks say as well.
MODEL, MEAN, STD = "test_resnet", 0.5, 0.25
FRAMES_A_CLIP = 3
FIRST_SCENE = 10_000


def own_clips(clips: int, seed: int) -> tuple[list[np.ndarray], list[list[Thing]]]:
    """Clips for one teacher, on grounds that no campaign clip has."""
    frames, things = [], []
    for number in range(clips):
        generator = np.random.default_rng([seed, number])
        things.append(draw_things(generator))
        frames.append(render(things[-1], FIRST_SCENE * seed + number // 4, generator))
    return frames, things


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Torch's arithmetic on so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train_frame_expert(folder: Path, name: str, attribute: str, clips: int, epochs: int, seed: int) -> None:
    """Trains a frame classifier of `colour` or `shape`; writes its weights, class names and table of topics."""
    classes = list(COLOURS) if attribute == "colour" else list(SHAPES)
    videos, things = own_clips(clips, seed)
    chosen = np.linspace(0, FRAMES - 1, FRAMES_A_CLIP).astype(int)
    pixels = np.concatenate([video[chosen] for video in videos])
    x = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD
    present = [[getattr(thing, attribute) for thing in those] for those in things]
    y = torch.tensor(
        [[float(name_of_class in those) for name_of_class in classes] for those in present]
    ).repeat_interleave(len(chosen), 0)
    with torch.random.fork_rng(devices=[]), on_threads(THREADS):
        torch.manual_seed(seed)
        model = timm.create_model(MODEL, num_classes=len(classes))
        rate = 3e-3
        optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.05)
        steps = epochs * -(-len(x) // 64)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
        model.train().to(memory_format=torch.channels_last)
        with progress(f"Training the {name}", steps, "steps") as advance:
            for _ in range(epochs):
                for block in torch.randperm(len(x)).split(64):
                    images = x[block].contiguous(memory_format=torch.channels_last)
                    # Clips are as true upside down; what a mirror changes, this teacher does not look at.
                    for axis in (2, 3):
                        if torch.rand(()) < 0.5:
                            images = images.flip(axis)
                    loss = torch.nn.functional.binary_cross_entropy_with_logits(model(images), y[block])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    schedule.step()
                    advance(1, f"loss {loss.item():.3f}")
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(weights, folder / f"{attribute}.safetensors")
    (folder / f"{attribute}_classes.txt").write_text("\n".join(classes) + "\n")
    pairs = [
        (name_of_class, topic) for name_of_class in classes for topic in all_topics() if name_of_class in topic.split()
    ]
    pd.DataFrame(pairs, columns=["class", "topic"]).to_csv(folder / f"{attribute}_topics.csv", index=False)


def clip_features(videos: Sequence[np.ndarray]) -> np.ndarray:
    """What the vendor looks at: means of the frames' descriptors and of their change, float32 [N, D]."""
    rows = []
    for video in videos:
        numbers = describe(np.ascontiguousarray(video[::2]), 4, 8, 6)
        rows.append(np.concatenate([numbers.mean(0), np.diff(numbers, axis=0).mean(0)]))
    return np.stack(rows)


def vendor_labels(videos: Sequence[np.ndarray], sample_ids: Sequence[str], clips: int, seed: int) -> pd.DataFrame:
    """Trains the vendor on its few clips and lets it label: columns sample_id, topic, confidence."""
    clips_of_vendor, things = own_clips(clips, seed)
    features, asked = clip_features(clips_of_vendor), clip_features(videos)
    columns = {}
    for topic in all_topics():
        y = np.array([any(topic in thing.topics for thing in those) for those in things])
        if y.any():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=100)).fit(features, y)
            columns[topic] = model.predict_proba(asked)[:, 1].round(4)
    table = pd.DataFrame(columns, index=pd.Index(sample_ids, name="sample_id"))
    return table.reset_index().melt("sample_id", var_name="topic", value_name="confidence")
