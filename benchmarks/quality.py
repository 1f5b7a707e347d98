"""Quality at equal time: validation PR-AUC of t2t's loop and of Hugging Face's Trainer at each tenth of a budget.

The budget is the time that the registry's recipe takes for its first round (all outside teachers and people). Both
train the same student from the same weights on the same rows with the recipe's loss, weights of tasks, noise and moving
average; the Trainer sees one row at a time, in small batches, the best of several sizes. Neither pays for validation.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

import t2t.demo
import t2t.rounds
from benchmarks.harness import Result
from benchmarks.training import RowByRow, Shares, World
from t2t.registry import Workspace
from t2t.rounds import Rounds
from t2t.run import read_campaign
from t2t.students.dual_encoder import Student
from t2t.training import row_weights, train

TENTHS = 10
# Rows in a batch of the Trainer's: small ones take more steps in the time there is.
BATCHES = (64, 256, 1024)
WORK = Path("work/bench")

log = logging.getLogger("t2t")


class Captured(Exception):
    """What the engine was about to train."""

    def __init__(self, *args: Any):
        self.args = args


def capture(campaign: str, seed: int) -> tuple[World, Callable[[Student], float]]:
    """The first round of a registry's campaign, up to its training; and its validation."""
    place = Workspace.find(None, Path(os.environ.get("T2T_DATA", WORK / "data")), WORK / f"{campaign}-{seed}")
    if campaign == "demo":
        place = Workspace.find(None, WORK / "data", place.work)
        t2t.demo.make(WORK / "data" / "demo")
    engine = Rounds(read_campaign(place, campaign, None, [f"seed={seed}"]), place)
    engine.prepare()

    def stop(*args: Any, **_: Any) -> None:
        raise Captured(*args)

    try:
        with patch.object(t2t.rounds, "train", stop):
            engine.train(0)
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
    world: World, validate: Callable[[Student], float], seed: int, batch: int, budget: float, steps: int | None = None
) -> tuple[list[float], int]:
    """The same by the Trainer in `budget` seconds, and how many steps it took.

    Args:
        steps: for its schedule; None measures first how many it takes, for a tenth of the budget.
    """
    from transformers import Trainer, TrainerCallback, TrainingArguments

    if steps is None:
        _, tried = theirs(world, lambda student: 0.0, seed, batch, budget / TENTHS, steps=10**6)
        steps = max(TENTHS, tried * TENTHS)
    model = RowByRow(world)
    # The recipe's moving average of the weights, for them too.
    kept = world.new_student()

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.scores: list[float] = []
            self.looked, self.done = 0.0, 0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.begun = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.done = state.global_step
            decay = min(world.config.ema, self.done / (9 + self.done))
            with torch.no_grad():
                torch._foreach_lerp_(list(kept.parameters()), list(model.student.parameters()), 1 - decay)
            now = time.perf_counter()
            passed = now - self.begun - self.looked
            while len(self.scores) < TENTHS and passed >= budget * (len(self.scores) + 1) / TENTHS:
                self.scores.append(validate(kept.eval()))
                self.looked += time.perf_counter() - now
                now = time.perf_counter()
            control.should_training_stop = len(self.scores) == TENTHS

    clock = Clock()
    with TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=batch,
            max_steps=steps,
            learning_rate=world.config.learning_rate,
            weight_decay=world.config.weight_decay,
            adam_beta2=0.98,
            lr_scheduler_type="cosine",
            warmup_steps=round(world.config.warmup * steps),
            seed=seed,
            report_to=[],
            logging_strategy="no",
            save_strategy="no",
            remove_unused_columns=False,
            disable_tqdm=True,
            log_level="error",
            use_cpu=not torch.cuda.is_available(),
            dataloader_pin_memory=torch.cuda.is_available(),
        )
        Trainer(model, settings, world.rows.collate, world.table, callbacks=[clock]).train()
    # A schedule that came out a little short leaves the last tenths as they are.
    clock.scores += [validate(kept.eval())] * (TENTHS - len(clock.scores))
    return clock.scores, clock.done


def run(full: bool) -> Result:
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
        result.figures[f"{campaign}, the budget"] = f"{np.mean(budgets):.1f} s, {world.config.steps} steps of t2t"
        for name, mean in means.items():
            took = f" ({steps[name]} steps)" if name in steps else ""
            result.figures[f"{campaign}, {name}{took}"] = ", ".join(f"{value:.3f}" for value in mean)
        best = np.max([mean for name, mean in means.items() if name != "t2t"], axis=0)
        name = f"{campaign}: the best Trainer of each tenth, at the worst tenth"
        result.ratios[name] = float(np.min(means["t2t"] / best))
        result.targets[name] = 1.0
    return result
