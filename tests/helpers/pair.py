"""One of two gloo workers, for test_ddp.py: `python -m tests.helpers.pair FOLDER RANK` leaves what it comes to there.

The functions are also what the test itself calls for one worker.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from pydantic import TypeAdapter
from safetensors.torch import save_file
from torch import Tensor
from transformers.models.t5.modeling_t5 import T5LayerNorm

from t2t.students import build_student
from t2t.students.config import StudentConfig
from t2t.students.dual_encoder import Student
from t2t.students.text import TopicTokens
from t2t.training.batches import Batches
from t2t.training.config import TrainingConfig
from t2t.training.group import ALONE, Group, member
from t2t.training.loop import Trained, train
from t2t.training.loss import GroupedLoss
from t2t.training.prepared import Prepared
from tests.helpers.students import TOWER, random_clips, tiny_config, tiny_student
from tests.helpers.training import NOISY, WEIGHT, pr_auc, random_matrix, toy

# Batches of about 40 rows, cut rows, and batches of one sample, of which one worker has no share.
RECIPES: tuple[dict[str, Any], ...] = (
    {"batch_rows": 40},
    {"batch_rows": 30, "rows_per_sample": 3, "loss": "bce"},
    {"batch_rows": 10, "batch_samples": 1},
)
STEPS, CUT = 14, 8
# Students of other kinds, without dropout, so that two workers compute what one does.
STILL = {**TOWER, "dropout": 0.0}
KINDS: dict[str, dict[str, Any]] = {
    "encoder-only": {"dim": 8, "members": 2, "reader": {**STILL, "layers": 2}, "sample": STILL, "text": STILL},
    "multi-head": {"dim": 8, "members": 2, "sample": STILL},
}


@contextmanager
def double_throughout() -> Iterator[None]:
    """Norms and unit lengths in float64 too, which are in float32 otherwise, so that rounding cannot hide a mistake."""

    def norm(self: T5LayerNorm, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.variance_epsilon)

    with patch.object(T5LayerNorm, "forward", norm), patch.object(Tensor, "float", Tensor.double):
        yield


def gradients(group: Group, recipe: dict[str, Any]) -> dict[str, Tensor]:
    """Loss and gradients of each of three batches, in float64."""
    matrix = random_matrix(1, samples=12, most=6)
    student = tiny_student(tiny_config({"identity_std": 1.0})).double()
    config = TrainingConfig(**recipe)
    loss_of = group.wrap(GroupedLoss(student, config.loss))
    tokens = TopicTokens(student.tokenizer, matrix.topics)
    prepare = Prepared(student, random_clips([1 + i % 4 for i in range(12)]))
    found: dict[str, Tensor] = {}
    with double_throughout():
        for number, batch in enumerate(islice(Batches(matrix, config, WEIGHT, 0, group), 3)):
            batch = replace(batch, target=batch.target.astype(np.float64))
            texts = tokens.texts(batch.text_topic, student.token_ids(matrix.teachers)[batch.text_teacher])
            frames, mask = prepare(batch.samples)
            share = loss_of(batch, [frames.double()], mask, *map(torch.from_numpy, texts))
            student.zero_grad()
            (share * group.size).backward()
            found[f"{number}.loss"] = group.total(share).detach()
            for name, value in student.named_parameters():
                if value.grad is not None:
                    found[f"{number}.{name}"] = value.grad.clone()
    return found


class Cut(Exception):
    """Stands for a kill."""


def training(
    group: Group = ALONE, snapshot: Path | None = None, cut: int | None = None, noisy: bool = True
) -> tuple[Student, Trained, list[int]]:
    """Trains the toy student; with `cut`, every worker stops in the forward pass of that step. Returns the steps that
    were reported too."""
    matrix, embeddings = toy()
    dropout = {"dropout": 0.2 if noisy else 0.0}
    shape = tiny_config(dropout, sample={**TOWER, **dropout}, scale=3.0)
    student = tiny_student(shape, teachers=("human", "cautious"))
    settings = {"steps": STEPS, "batch_rows": 64, "evaluate_every": 5, "learning_rate": 0.01, "snapshot_steps": 3}
    taken, told = 0, []

    def count(module: torch.nn.Module, _: Any) -> None:
        nonlocal taken
        taken += module.training
        if cut is not None and taken > cut:
            raise Cut

    def validate(kept: Student) -> float:
        assert group.leads, "the leader alone validates"
        return pr_auc(kept, embeddings)

    def report(step: int, point: dict[str, float]) -> None:
        assert group.leads, "the leader alone reports"
        told.append(step)

    student.project.register_forward_pre_hook(count)
    config = TrainingConfig(**{**settings, **(NOISY if noisy else {})})
    trained = train(student, matrix, embeddings, config, 0, validate, report=report, snapshot=snapshot, group=group)
    return student, trained, told


def training_of(kind: str, group: Group = ALONE) -> tuple[Any, Trained, list[int]]:
    """Trains a student of another kind on the toy."""
    matrix, embeddings = toy()
    config = TypeAdapter(StudentConfig).validate_python({"kind": kind, **KINDS[kind]})
    student = build_student(config, 6, matrix.topics, matrix.teachers, 0)
    student.frontend.fit(embeddings, np.arange(len(embeddings)))
    settings = TrainingConfig(steps=STEPS, batch_rows=64, evaluate_every=5, learning_rate=0.01, ema=0.9)
    told: list[int] = []
    trained = train(
        student,
        matrix,
        embeddings,
        settings,
        0,
        lambda kept: pr_auc(kept, embeddings),
        report=lambda step, _: told.append(step),
        group=group,
    )
    return student, trained, told


def leave(student: Student, trained: Trained, told: list[int], path: Path) -> None:
    """What a training came to, as a safetensors file."""
    state = {name: value.clone() for name, value in student.state_dict().items()}
    about = {"best_step": trained.best_step, "curve": trained.curve, "told": told}
    save_file(state, path, {"about": json.dumps(about)})


def imports_no_ray() -> None:
    """The engine comes without ray, up to the moment when it is needed."""
    modules = (
        "t2t.campaign.campaign",
        "t2t.integrations.ray.pipelines",
        "t2t.integrations.ray.train",
        "t2t.training.worker",
    )
    assert [import_module(name) for name in modules]
    assert "ray" not in sys.modules


def main(folder: Path, rank: int) -> None:
    imports_no_ray()
    with member(f"file://{folder / 'meeting'}", rank, 2, "cpu") as group:
        for number, recipe in enumerate(RECIPES):
            save_file(gradients(group, recipe), folder / f"gradients-{number}-{rank}.safetensors")
        own = folder / "cut.safetensors"
        whole, broken = training(group), None
        try:
            training(group, own, CUT)
        except Cut:
            broken = True
            if group.leads:
                shutil.copy(own, folder / "left.safetensors")
        gone_on = training(group, own)
        from_one = training(group, folder / "one.safetensors")
        plain = training(group, noisy=False)
        kinds = {kind: training_of(kind, group) for kind in KINDS}
        assert broken
        if group.leads:
            results = {"whole": whole, "gone-on": gone_on, "from-one": from_one, "plain": plain, **kinds}
            for name, result in results.items():
                leave(*result, folder / f"{name}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
