"""What the next round's student weighs, and whether its training fits the machine's memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from t2t.campaign.recipe import Recipe
from t2t.commands.plan.model import StudentPlan
from t2t.commands.plan.probe import frames_of
from t2t.core.host import machine_memory
from t2t.data.dataset import Dataset
from t2t.data.embeddings.encoders import FrameEncoder
from t2t.students.footprint import Trained, footprint
from t2t.students.text import TopicTokens, fit_tokenizer

# Tokens of a word in the vocabulary of a pretrained encoder, about.
TOKENS_A_WORD = 1.5


def student_plan(
    recipe: Recipe, dataset: Dataset, encoder: FrameEncoder | None, rows: Mapping[str, int], device: str
) -> StudentPlan | None:
    """The student of a round; None where it is not known what it weighs, as of a plug-in's, or without its encoder.

    Args:
        rows: of each teacher in the last round, which has most.
    """
    if encoder is None:
        return None
    training, samples = recipe.training, len(dataset.split("train", "unlabeled"))
    each = sum(rows.values()) / max(samples, 1)
    each = min(each, training.rows_per_sample or each)
    batch = min(samples, training.batch_samples or samples, math.ceil(training.batch_rows / max(each, 1)))
    words, tokens = _tokens(recipe.student, dataset.topics)
    found = footprint(
        recipe.student,
        Trained(
            dim=encoder.dim,
            frames=frames_of(dataset, encoder),
            samples=samples,
            batch_samples=batch,
            batch_rows=round(batch * each),
            topics=len(dataset.topics),
            teachers=len(rows),
            words=words,
            tokens=tokens,
            recompute=training.recompute,
        ),
        training.ema > 0,
    )
    if found is None:
        return None
    memory, where = _memory(device)
    return StudentPlan(found.weights, found.trained, found.bytes, memory, where)


def _tokens(student: Any, topics: tuple[str, ...]) -> tuple[int, float]:
    """Tokens of the student's tokenizer, and those of a topic on average."""
    if getattr(getattr(student, "text", None), "pretrained", None) is not None:
        return 0, TOKENS_A_WORD * float(np.mean([len(topic.split()) for topic in topics]))
    tokenizer = fit_tokenizer(topics)
    return len(tokenizer), float(np.mean(TopicTokens(tokenizer, topics).lengths))


def _memory(device: str) -> tuple[int, str]:
    if device != "cuda":
        return machine_memory(), "this machine"
    import torch

    return int(torch.cuda.get_device_properties(0).total_memory), "its GPU"
