"""MACE (Hovy and others, 2013; `t2t.data.consensus`, crowd-kit's) of teachers: each knows, or answers by a habit."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from t2t.data.consensus import mace
from t2t.training.baselines.base import LeftOut
from t2t.training.baselines.dawid_skene import answers_of
from t2t.training.baselines.voting import LabelModel, Model


class Mace(LabelModel):
    name: ClassVar[str] = "mace"
    words = "MACE"
    # Seconds for a million answers are crowd-kit's: 17.
    most_cells: ClassVar[int] = 100_000
    most_topics: ClassVar[int] = 20

    def learn(self, votes: np.ndarray, share: float) -> Model:
        found = mace(answers_of(votes))
        assert found.competence is not None
        assert found.habits is not None
        known = np.flatnonzero(~np.isnan(found.competence))
        if not len(known):
            raise LeftOut("none of these teachers shares a pair with another, or they are too many for it")
        competence, habits = found.competence[known], found.habits[known]

        def says(votes: np.ndarray) -> np.ndarray:
            logs = np.zeros((len(votes), 2))
            for teacher, knows, habit in zip(known, competence, habits, strict=True):
                for said in (0, 1):
                    here = votes[:, teacher] == said
                    for truth in (0, 1):
                        likely = (1 - knows) * habit[said] + knows * (said == truth)
                        logs[here, truth] += np.log(max(likely, 1e-12))
            return np.asarray(1 / (1 + np.exp(logs[:, 0] - logs[:, 1])))

        return says
