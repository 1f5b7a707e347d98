"""The teachers' plain average over those that speak, of raw confidences or of logits on the common scale."""

from __future__ import annotations

import numpy as np

from t2t.training.baselines.base import Heard, Known, Rival, mean, several


class AverageRaw(Rival):
    words = "the teachers' raw average"

    def fit(self, known: Known) -> None:
        self.models = several(known)
        self.detail = f"mean of the raw confidences of those of {self.models} teachers that speak"

    def predict(self, heard: Heard) -> np.ndarray:
        return mean(iter(heard.raw.values()), len(heard))


class AverageCalibrated(Rival):
    words = "the teachers' average on the common scale"
    of_logits = True

    def fit(self, known: Known) -> None:
        self.known, self.models = known, several(known)
        scaled = sum(name in known.scales for name in known.validation.raw)
        where = f"{scaled} of {self.models} on the common scale, others raw"
        where = "on the common scale" if scaled == self.models else where
        self.detail = f"mean of the logits of those that speak, {where}"

    def predict(self, heard: Heard) -> np.ndarray:
        return mean((self.known.logits(name, raw) for name, raw in heard.raw.items()), len(heard))
