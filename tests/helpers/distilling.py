"""A small distillation: striped frames, two frozen teachers of timm with random weights, and a tiny student.

`python -m tests.helpers.distilling FOLDER RANK SIZE [PAUSE]` trains it, as one of SIZE workers, and leaves the encoder
as FOLDER/model.safetensors and the curve as FOLDER/curve.json; with PAUSE it sleeps so many seconds in every step.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from t2t.distillation.config import DistillationConfig, EncoderStudentConfig
from t2t.distillation.loop import Distilled, distill
from t2t.distillation.parts import Tokens
from t2t.distillation.save import save_encoder
from t2t.distillation.student import EncoderStudent
from t2t.training.group import ALONE, Group, member

SIDE = 32
LEAST: dict[str, Any] = {
    "name": "toy",
    "dataset": "toy",
    "teachers": [{"name": name, "kind": "timm", "model": "test"} for name in ("vit", "resnet")],
    "student": {"model": "test_vit", "size": SIDE},
    "projectors": {"hidden": 32, "last": 32},
    "training": {
        "steps": 12,
        "batch": 8,
        "learning_rate": 2e-3,
        "evaluate_every": 5,
        "snapshot_steps": 3,
        "held_out": 0.2,
    },
}


@dataclass
class Striped:
    """Frames of stripes: their colour goes by the sample, their phase by the frame."""

    samples: int = 10
    per_sample: int = 4
    key: str = "striped"

    @cached_property
    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        count = self.samples * self.per_sample
        return np.repeat(np.arange(self.samples), self.per_sample), np.arange(count) % self.per_sample

    def __len__(self) -> int:
        return len(self.rows[0])

    def read(self, indices: np.ndarray) -> np.ndarray:
        samples, steps = (part[indices][:, None, None, None] for part in self.rows)
        across = np.arange(SIDE)[None, None, :, None] + np.zeros((1, SIDE, 1, 1))
        wave = np.sin((across / (2 + samples % 3) + steps) + np.arange(3) * samples)
        return (127.5 + 127.4 * wave).astype(np.uint8)


@dataclass
class Mirrored:
    """Views: each frame is mirrored, or not; or `plain` ones only."""

    drawn: bool = True

    def __call__(self, frames: np.ndarray, seed: int, step: int) -> np.ndarray:
        turned = np.random.default_rng([seed, step]).random(len(frames)) < 0.5
        return np.where(turned[:, None, None, None] & self.drawn, frames[:, :, ::-1], frames)

    def plain(self, frames: np.ndarray) -> np.ndarray:
        return frames


@dataclass
class Teacher:
    """A frozen model of timm: its embedding, and its last block's patches."""

    name: str
    model: str
    scale: float = 1.0
    looks: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        self.encoder = EncoderStudent(EncoderStudentConfig(model=self.model, size=SIDE), seed=7).eval()
        self.dim, self.grid, self.has_cls = self.encoder.dim, self.encoder.grids[-1], True
        self.fingerprint = f"{self.model} {self.scale}"

    @torch.no_grad()
    def tokens(self, crops: Tensor) -> Tokens:
        self.looks += 1
        last = self.encoder(torch.as_tensor(crops))[-1]
        cls = self.encoder.embed(torch.as_tensor(crops))
        return Tokens(self.scale * cls, self.scale * last.patches.flatten(2).transpose(1, 2))


def two_teachers() -> list[Teacher]:
    """One of them speaks a hundred times as loud."""
    return [Teacher("vit", "test_vit", 100.0), Teacher("resnet", "test_resnet")]


def configured(**changes: Any) -> DistillationConfig:
    """The small distillation with other settings, sections merged."""
    content = {**LEAST}
    for key, value in changes.items():
        content[key] = {**content.get(key, {}), **value} if isinstance(value, dict) else value
    return DistillationConfig.model_validate(content)


def run(
    config: DistillationConfig | None = None, group: Group = ALONE, **given: Any
) -> tuple[EncoderStudent, Distilled]:
    config = config or configured()
    student = EncoderStudent(config.student, config.training.seed)
    settings: dict[str, Any] = {"frames": Striped(), "views": Mirrored(), "teachers": two_teachers(), **given}
    return student, distill(student, config=config, group=group, **settings)


def main() -> None:
    folder, rank, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    pause = float(sys.argv[4]) if len(sys.argv) > 4 else 0.0
    torch.set_num_threads(1)

    class Slow(Mirrored):
        def __call__(self, frames: np.ndarray, seed: int, step: int) -> np.ndarray:
            time.sleep(pause)
            return super().__call__(frames, seed, step)

    def train(group: Group) -> None:
        student, distilled = run(group=group, views=Slow(size == 1), snapshot=folder / "snapshot.safetensors")
        if group.leads:
            save_encoder(student, folder / "model.safetensors")
            (folder / "curve.json").write_text(json.dumps(distilled.curve))

    if size == 1:
        train(ALONE)
    else:
        with member(f"file://{folder / 'meeting'}", rank, size, "cpu") as group:
            train(group)


if __name__ == "__main__":
    main()
