"""What a round's student and training are: as the campaign gives them, and chosen where it leaves them open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from t2t.campaign.config import CampaignConfig
from t2t.data.labels import HUMAN
from t2t.students.config import fitting
from t2t.training.config import TrainingConfig
from t2t.training.matrix import LabelMatrix
from t2t.training.recipe import Choice, TrainingFacts, choose


@dataclass(frozen=True)
class Recipe:
    """student: its shape, a configuration of its kind. training: every number. choices: what was not given, and why."""

    student: Any
    training: TrainingConfig
    choices: tuple[Choice, ...] = ()


def recipe_of(config: CampaignConfig, frames: int, matrix: LabelMatrix) -> Recipe:
    """The recipe of a round. Args: frames: the most that a sample has. matrix: the round's rows."""
    return planned_recipe(config, frames, int(np.count_nonzero(np.diff(matrix.indptr))), matrix.rows_by_teacher())


def planned_recipe(config: CampaignConfig, frames: int, samples: int, rows: Mapping[str, int]) -> Recipe:
    """`recipe_of` rows that may be there only later.

    Args:
        samples: those that have rows. rows: of each teacher.
    """
    if config.recipe == "manual":
        return Recipe(config.student, config.training)
    others = max((count for name, count in rows.items() if name != HUMAN), default=0)
    training, choices = choose(config.training, TrainingFacts(samples, rows.get(HUMAN, 0), others))
    if "student" in config.model_fields_set:
        return Recipe(config.student, training, tuple(choices))
    why = "small towers, identities as gates" + ("; how frames vary helps, too" if frames > 1 else "")
    return Recipe(fitting(frames), training, (Choice("student", "dual-encoder", why), *choices))
