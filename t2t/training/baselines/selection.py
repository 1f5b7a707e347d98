"""One teacher a pair by lot: what choosing has to be better than."""

from __future__ import annotations

import numpy as np

from t2t.training.baselines.base import Heard, Known, Rival, lots, several, some_teacher


class RandomSelection(Rival):
    words = "a teacher by lot for each pair"
    models = 1
    of_logits = True

    def fit(self, known: Known) -> None:
        several(known)
        self.known, self.names = known, some_teacher(known)
        self.detail = f"one of those of {len(self.names)} teachers that speak, on the common scale"

    def predict(self, heard: Heard) -> np.ndarray:
        counts = np.zeros(len(heard), np.int64)
        for name in self.names:
            counts += ~np.isnan(heard.raw[name])
        chosen = np.where(counts > 0, (lots(heard.pairs) * counts).astype(np.int64), -1)
        score, before = np.full(len(heard), np.nan, np.float32), np.zeros(len(heard), np.int64)
        for name in self.names:
            says = ~np.isnan(heard.raw[name])
            here = says & (before == chosen)
            score[here] = self.known.logits(name, heard.raw[name][here])
            before += says
        return score
