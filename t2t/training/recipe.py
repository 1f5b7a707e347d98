"""`recipe: auto`: the numbers of a training, from what its data are.

Every rule stands beside the measurement that it comes from in docs/results.md. What a campaign gives itself stays.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from t2t.data.labels import HUMAN
from t2t.training.config import TrainingConfig

# People's share of the loss, at least: a fifth to a third was best or near it with 1 to 100 teachers.
HUMAN_SHARE = 0.25
# Noise on prepared frames, for each root of the numbers that a sample has. A direction that many numbers share outlasts
# noise that has them drown one by one, and more of them learn few samples by heart.
NOISE = 0.04
# A batch is a tenth of the samples, within bounds: teachers' rows do not make it smaller.
SAMPLES_IN_A_BATCH = (128, 1024)
BATCH_ROWS = 1 << 20
# Looks at validation, passes over the samples, and the bounds of the steps that these come to.
LOOKS, PASSES, STEPS = 20, 40, (1000, 50_000)
# Several sizes in one training share its steps, and reach what each reaches by itself in so many times as many.
SIZES_TIMES = 2


@dataclass(frozen=True)
class TrainingFacts:
    """What a recipe goes by.

    samples: those that have rows. human_rows: people's. other_rows: of the teacher that has most. frames: the most that
    a sample has. dim: numbers of a frame embedding, as far as they are kept. several_sizes: whether the student's
    vectors are trained in several sizes at once.
    """

    samples: int
    human_rows: int
    other_rows: int
    frames: int
    dim: int
    several_sizes: bool = False


@dataclass(frozen=True)
class Choice:
    """One setting that was chosen, and why."""

    key: str
    value: Any
    why: str


def choose(given: TrainingConfig, facts: TrainingFacts) -> tuple[TrainingConfig, list[Choice]]:
    """The recipe for the facts, and what was chosen for it; settings that were given are left as they are."""
    smallest, largest = SAMPLES_IN_A_BATCH
    batch = given.batch_samples or min(max(facts.samples // 10, smallest), largest)
    times = SIZES_TIMES if facts.several_sizes else 1
    steps = times * min(max(PASSES * facts.samples // batch, STEPS[0]), STEPS[1])
    passes = f"{times * PASSES} passes over the samples at most; it ends before, once validation is flat"
    bound = given.steps if "steps" in given.model_fields_set else steps
    noise = round(NOISE * math.sqrt(facts.frames * facts.dim), 2)
    rows = facts.human_rows + facts.other_rows
    natural = facts.human_rows / rows if rows else 0.0
    choices = [
        Choice("batch_samples", batch, f"a tenth of {facts.samples:,} samples, {smallest} to {largest:,}"),
        Choice("batch_rows", BATCH_ROWS, "batches are counted in samples, so that teachers do not make them smaller"),
        Choice("steps", steps, passes + (", and longer for several sizes" if facts.several_sizes else "")),
        Choice("evaluate_every", max(bound // LOOKS, 1), f"{LOOKS} looks at validation"),
        Choice("patience", 6, "looks without a better one, then it ends"),
        Choice("learning_rate", 2e-3, "small towers learn well there, and the moving average calms them"),
        Choice("loss", "bce", "confidences are chances of a yes"),
        Choice("noise", noise, f"on numbers of variance 1; a sample's embeddings have {facts.frames * facts.dim:,}"),
        Choice("threads", 1, "on the CPU: sums go by the number of threads, and so would every number"),
        Choice("ema", 0.99, "the average of the last hundred steps or so is the student"),
    ]
    if facts.human_rows and facts.other_rows:
        share = round(max(HUMAN_SHARE, natural), 3)
        why = f"people's {facts.human_rows:,} rows weigh so much in the loss, whatever the teachers' number"
        choices.append(Choice("human_share", share, why))
    taken = [choice for choice in choices if choice.key not in given.model_fields_set]
    return given.model_copy(update={choice.key: choice.value for choice in taken}), taken


def guided(config: TrainingConfig, rows: Mapping[str, int], own: Collection[str], weight: float) -> TrainingConfig:
    """The recipe with people's rows and the students' own at `weight` to 1 - `weight` of what both have of the loss
    together; everybody else keeps their share. The same recipe where one of the two has no part in it.

    Args:
        rows: of each identity. own: the campaign's students among them. weight: 0..1, both excluded.
    """
    natural = {
        name: config.task_weight.get(name, 1.0) * count ** (1 - config.balance) for name, count in rows.items() if count
    }
    people, students = natural.get(HUMAN, 0.0), sum(natural.get(name, 0.0) for name in own)
    if not people or not students:
        return config
    others = sum(natural.values()) - people - students
    share = people / sum(natural.values()) if config.human_share is None else config.human_share
    both = share + (1 - share) * students / (students + others)
    human_share = both * weight
    changes: dict[str, Any] = {"human_share": human_share}
    if others:
        wanted = both * (1 - weight) / (1 - human_share)  # of what is not people's
        factor = wanted / (1 - wanted) * others / students
        weights = {name: config.task_weight.get(name, 1.0) * factor for name in own if name in natural}
        changes["task_weight"] = {**config.task_weight, **weights}
    return config.model_copy(update=changes)
