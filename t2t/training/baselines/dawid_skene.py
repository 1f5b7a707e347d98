"""Dawid and Skene's model (`t2t.data.consensus`) of teachers instead of people, silence being a third thing to say."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from scipy.special import expit  # type: ignore[import-untyped]

from t2t.data.consensus import USUAL, Answers, dawid_skene
from t2t.training.baselines.voting import SILENT, LabelModel, Model


class DawidSkene(LabelModel):
    words = "Dawid and Skene's model"
    hears_silence = True

    def learn(self, votes: np.ndarray, share: float) -> Model:
        found = dawid_skene(answers_of(votes), USUAL)
        errors = found.errors
        assert errors is not None
        # Where nobody shares a pair with anybody, each is taken at their word.
        known = ~np.isnan(errors).any(axis=(1, 2))
        if not known.any():
            return lambda votes: _mean(votes)
        share = float(np.clip(found.share, 1e-10, 1 - 1e-10))
        ratio = np.zeros((votes.shape[1], 3))
        ratio[known] = np.log(errors[known, :, 1]) - np.log(errors[known, :, 0])
        prior = float(np.log(share) - np.log1p(-share))

        def says(votes: np.ndarray) -> np.ndarray:
            value = np.where(votes == SILENT, 2, votes)
            evidence = np.full(len(votes), prior)
            for teacher in range(votes.shape[1]):
                evidence += ratio[teacher][value[:, teacher]]
            return np.asarray(expit(evidence))

        return says


def answers_of(votes: np.ndarray) -> Answers:
    """Votes, int8 [P, teachers], as answers; silence is an answer that was not given."""
    pairs, teachers = votes.shape
    relevance = votes.astype(np.float64).ravel()
    relevance[relevance == SILENT] = np.nan
    ids = pa.array(np.arange(pairs).astype(str))
    pair, teacher = np.repeat(np.arange(pairs), teachers), np.tile(np.arange(teachers), pairs)
    return Answers(ids, ids, tuple(map(str, range(teachers))), pair, teacher, relevance)


def _mean(votes: np.ndarray) -> np.ndarray:
    said = votes != SILENT
    return np.asarray(np.where(said, votes, 0).sum(axis=1) / np.maximum(said.sum(axis=1), 1))
