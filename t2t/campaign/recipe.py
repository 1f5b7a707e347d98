"""What a round's student and training are: as the campaign gives them, and chosen where it leaves them open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from t2t.campaign.config import CampaignConfig
from t2t.core.config import parse
from t2t.data.labels import HUMAN
from t2t.data.vector_files import VECTORS
from t2t.students.config import DualEncoderConfig, EncoderOnlyConfig, fitting_of
from t2t.students.presets import expanded
from t2t.training.config import TrainingConfig
from t2t.training.matrix import LabelMatrix
from t2t.training.recipe import Choice, TrainingFacts, choose


@dataclass(frozen=True)
class Recipe:
    """student: its shape, a configuration of its kind. training: every number. choices: what was not given, and why."""

    student: Any
    training: TrainingConfig
    choices: tuple[Choice, ...] = ()


def recipe_of(config: CampaignConfig, frames: int, dim: int, matrix: LabelMatrix) -> Recipe:
    """The recipe of a round.

    Args:
        frames: the most that a sample has. dim: numbers of a frame embedding. matrix: the round's rows.
    """
    labeled = int(np.count_nonzero(np.diff(matrix.indptr)))
    return planned_recipe(config, frames, dim, len(matrix.sample_ids), matrix.rows_by_teacher(), labeled)


def planned_recipe(
    config: CampaignConfig, frames: int, dim: int, samples: int, rows: Mapping[str, int], labeled: int | None = None
) -> Recipe:
    """`recipe_of` rows that may be there only later.

    Args:
        frames, dim: as for `recipe_of`. rows: of each teacher.
        samples: those that may be trained on, in any round; the student's shape goes by them, so that it is the same in
            all rounds. labeled: those that have rows now; all where it is not known.
    """
    if config.recipe == "manual":
        return Recipe(config.student, config.training)
    student, choices = config.student, []
    fits = fitting_of(str(getattr(student, "kind", "")), frames, samples, config.encoder.kind == VECTORS)
    if fits is not None and type(student) is type(fits):  # a plug-in's shape is its own
        student = _fitted(config, fits)
        choices.append(_student_choice(student, frames))
        dim = min(dim, student.frontend.whiten or dim)
    others = max((count for name, count in rows.items() if name != HUMAN), default=0)
    labeled = samples if labeled is None else labeled
    several = bool(getattr(student, "matryoshka", ()))
    facts = TrainingFacts(labeled, rows.get(HUMAN, 0), others, frames, dim, several)
    training, numbers = choose(config.training, facts)
    return Recipe(student, training, (*choices, *numbers))


def _fitted(config: CampaignConfig, fits: Any) -> Any:
    """The student as it is given, and what is not given as it fits the data."""
    given = config.student.model_dump(exclude_unset=True) if "student" in config.model_fields_set else {}
    student = parse(type(fits), expanded(given, fits.model_dump()), "student")
    if not isinstance(student, DualEncoderConfig) or student.text.pretrained is None:
        return student
    told: Mapping[str, Any] = given.get("text", {})
    text: dict[str, Any] = {}
    if "freeze" not in told:
        text["freeze"] = True
    # What was learned of words is best kept: ahead on seen topics too.
    if told.get("freeze", True) and "head" not in told and "dim" not in given:
        text["head"] = "none"
    # Several students share it only where each topic is read once for all.
    shared = text.get("freeze", student.text.freeze) and student.text.identity == "gate"
    changes: dict[str, Any] = {} if shared or "members" in given else {"members": 1}
    return student.model_copy(update=changes | {"text": student.text.model_copy(update=text)})


def _student_choice(student: Any, frames: int) -> Choice:
    shape = [f"{student.members} as one"] if student.members > 1 else []
    if isinstance(student, EncoderOnlyConfig):
        shape.append(f"{student.reader.layers} layers that read topic and frames")
    else:
        shape.append(f"{student.sample.layers} layers over frames")
    if not isinstance(student, DualEncoderConfig):
        reads = isinstance(student, EncoderOnlyConfig)
        why = (
            "a second layer takes four times as long"
            if reads
            else "two layers were ahead of none where both were tried"
        )
        return Choice("student", ", ".join(shape), why)
    shape += [
        "as many numbers as a text has" if student.text.head == "none" else f"{student.dim} numbers",
        f"identity as {student.text.identity}",
    ]
    why = "small towers learn most from few labels"
    if student.members > 1:
        why += ", and the mean of several has less chance in it"
    if frames > 1 and student.frontend.variation:
        why += "; how frames change and vary helps, too"
    if student.text.pretrained is not None and student.text.freeze:
        why += "; the pretrained text tower is frozen, so that each topic is read once"
    if student.frontend.scaling == "whole":
        shape.append("all numbers divided by one")
        why += "; an embedding of one's own keeps the distances that it was made with"
    if student.text.head == "none":
        why += ", and its vectors are the common space"
    return Choice("student", ", ".join(shape), why)
