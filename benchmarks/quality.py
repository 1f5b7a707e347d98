"""Quality at equal time: validation PR-AUC of t2t's loop and of Hugging Face's Trainer at each tenth of a budget.

The budget is the time that the registry's recipe takes for its first round (all outside teachers and people). Both
train the same student from the same weights on the same rows with the recipe's loss, weights of tasks, noise and moving
average; the Trainer sees one row at a time, in small batches, the best of several sizes. Neither pays for validation.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

import t2t.data.demo
import t2t.training.job
from benchmarks.harness import Result
from benchmarks.training import Shares, quiet
from benchmarks.training_world import RowByRow, World
from t2t.campaign import loop
from t2t.campaign.campaign import Campaign
from t2t.campaign.observer import Observer
from t2t.core.workspace import Workspace
from t2t.students.dual_encoder import Student
from t2t.training.batches import row_weights
from t2t.training.config import learning_rate
from t2t.training.loop import build_optimizer, train

TENTHS = 10
# Rows in a batch of the Trainer's: small ones take more steps in the time there is.
BATCHES = (64, 256, 1024)
# The demo's data stay there for the next time.
WORK = Path(__file__).parents[1] / "work" / "bench"


class Captured(Exception):
    """What the engine was about to train."""

    def __init__(self, *args: Any):
        self.args = args


def capture(campaign: str, seed: int) -> tuple[World, Callable[[Student], float]]:
    """The first round of a registry's campaign, up to its training; and its validation."""
    data = WORK / "data" if campaign == "demo" else Path(os.environ["T2T_DATA"])
    place = Workspace.find(None, data, WORK / "work")
    if campaign == "demo":
        t2t.data.demo.make(data / "demo")
    # The Trainer's model has one member, and takes an identity as a token.
    settings = [f"seed={seed}", "student.members=1", "student.text.identity=token"]
    opened = Campaign.open(campaign, place, f"{campaign}-{seed}", settings)

    def stop(*args: Any, **_: Any) -> None:
        raise Captured(*args)

    try:
        with patch.object(t2t.training.job, "train", stop):
            loop.run(opened, Observer())
    except Captured as captured:
        student, matrix, embeddings, config, _, validate, *_ = captured.args
        return World(student, matrix, embeddings, config, row_weights(matrix, config)), validate
    raise RuntimeError(f"{campaign}: round 0 is trained already; delete {place.work}.")


def ours(world: World, validate: Callable[[Student], float], seed: int) -> tuple[list[float], float]:
    """Validation PR-AUC after each tenth of the recipe's steps, and the seconds that these took, validation not."""
    config = world.config.model_copy(update={"evaluate_every": world.config.steps // TENTHS})
    scores: list[float] = []
    looked = 0.0

    def look(student: Student) -> float:
        nonlocal looked
        start = time.perf_counter()
        scores.append(validate(student))
        looked += time.perf_counter() - start
        return scores[-1]

    shares = Shares()
    with shares.timed():
        train(world.new_student(), world.matrix, world.embeddings, config, seed, look)
    return scores[:TENTHS], shares.total - looked


def theirs(
    world: World, validate: Callable[[Student], float], seed: int, batch: int, budget: float
) -> tuple[list[float], int]:
    """The same by the Trainer in `budget` seconds, and how many steps it took.

    It has the recipe's optimiser, clipping and schedule; the schedule goes by the share of the budget that has passed.
    """
    from transformers import Trainer, TrainerCallback

    recipe = world.config
    model = RowByRow(world)
    optimizer = build_optimizer(model.student, recipe)
    # The recipe's moving average of the weights, for them too.
    kept = world.new_student()

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.scores: list[float] = []
            self.looked, self.done, self.begun = 0.0, 0, time.perf_counter()

        def passed(self) -> float:
            return time.perf_counter() - self.begun - self.looked

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.begun = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.done = state.global_step
            decay = min(recipe.ema, self.done / (9 + self.done))
            with torch.no_grad():
                torch._foreach_lerp_(list(kept.parameters()), list(model.student.parameters()), 1 - decay)
            while len(self.scores) < TENTHS and self.passed() >= budget * (len(self.scores) + 1) / TENTHS:
                start = time.perf_counter()
                self.scores.append(validate(kept.eval()))
                self.looked += time.perf_counter() - start
            control.should_training_stop = len(self.scores) == TENTHS

    clock = Clock()

    def rate(factor: float, _: int) -> float:
        share = min(clock.passed() / budget, 1.0)
        return factor * learning_rate(int(share * recipe.steps), recipe) / recipe.learning_rate

    factors: list[Callable[[int], float]] = [partial(rate, group["factor"]) for group in optimizer.param_groups]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
    with TemporaryDirectory() as folder:
        settings = quiet(
            folder, per_device_train_batch_size=batch, max_steps=10**6, max_grad_norm=recipe.clip, seed=seed
        )
        inputs = {"data_collator": world.rows.collate, "train_dataset": world.table}
        Trainer(model, settings, **inputs, callbacks=[clock], optimizers=(optimizer, schedule)).train()
    return clock.scores, clock.done


def run(full: bool) -> Result:
    shutil.rmtree(WORK / "work", ignore_errors=True)  # of another version of the code, perhaps
    result = Result(name="quality", title="Validation PR-AUC by share of the time", axis="% of the time", unit="PR-AUC")
    campaigns = ["demo"]
    if full and {"T2T_DATA", "T2T_WEIGHTS"} <= set(os.environ):
        campaigns.append("jhmdb")
    elif full:
        result.figures["jhmdb"] = "skipped: T2T_DATA and T2T_WEIGHTS do not say where its clips and weights are"
    for campaign in campaigns:
        curves: dict[str, list[list[float]]] = {}
        budgets, steps = [], {}
        for seed in range(3 if full else 1):
            world, validate = capture(campaign, seed)
            scores, budget = ours(world, validate, seed)
            curves.setdefault("t2t", []).append(scores)
            budgets.append(budget)
            for batch in BATCHES if full else BATCHES[1:2]:
                name = f"Trainer, {batch} rows a batch"
                scores, steps[name] = theirs(world, validate, seed, batch, budget)
                curves.setdefault(name, []).append(scores)
        means = {name: np.mean(found, axis=0) for name, found in curves.items()}
        result.curves[campaign] = {name: [float(value) for value in mean] for name, mean in means.items()}
        result.figures[f"{campaign}, the budget"] = f"{np.mean(budgets):.1f} s, {world.config.steps} steps of t2t"
        for name, mean in means.items():
            took = f" ({steps[name]} steps)" if name in steps else ""
            result.figures[f"{campaign}, {name}{took}"] = ", ".join(f"{value:.3f}" for value in mean)
        best = np.max([mean for name, mean in means.items() if name != "t2t"], axis=0)
        name = f"{campaign}: the best Trainer of each tenth, at the worst tenth"
        result.ratios[name] = float(np.min(means["t2t"] / best))
        result.targets[name] = 1.0
    return result
