"""Snorkel's label model (Ratner and others, 2019), where the package is installed (extra `label-models`)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from t2t.training.baselines.voting import LabelModel, Model

EPOCHS = 500


class Snorkel(LabelModel):
    name: ClassVar[str] = "snorkel"
    words = "Snorkel's label model"
    least: ClassVar[int] = 3
    most_cells: ClassVar[int] = 1_000_000
    most_topics: ClassVar[int] = 60

    def learn(self, votes: np.ndarray, share: float) -> Model:
        from snorkel.labeling.model import LabelModel as Theirs

        model = Theirs(cardinality=2, verbose=False)
        balance = [1 - share, share]
        model.fit(votes.astype(np.int64), class_balance=balance, n_epochs=EPOCHS, seed=0, progress_bar=False)
        return lambda votes: np.asarray(model.predict_proba(votes.astype(np.int64))[:, 1], np.float64)
