"""People's rows alone, without a teacher: a linear model for each topic on the mean of a sample's frame embeddings.

One strength of the penalty for all is chosen on validation, which flatters it a little there, and not on test.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np
from sklearn.linear_model import LogisticRegression

from t2t.data.pairs import Pairs
from t2t.evaluation.metrics import average_precision
from t2t.training.baselines.base import Heard, Known, LeftOut, Rival

# It takes seconds, whatever the campaign: so many topics at most; rows of one topic; topics that the strength of the
# penalty is chosen on.
MOST_TOPICS, MOST_ROWS, CHOSEN_ON = 2_000, 4_000, 60
PENALTIES = (0.001, 0.01, 0.1, 1.0)
WIDE = (0.001, 0.01, 0.1, 1.0, 10.0)


class HumanRows(Rival):
    """Attributes: wide: it chooses by validation between numbers that each have variance 1, and all of them by one
    factor, and among more strengths; a yardstick has the first."""

    wide: ClassVar[bool] = True
    words = "a linear model on human rows alone"
    of_logits = True
    hears_silence = True

    def fit(self, known: Known) -> None:
        pairs, frames = known.train.pairs, known.train.frames
        if len(pairs.topics) > MOST_TOPICS:
            raise LeftOut(f"there are {len(pairs.topics):,} topics, and it is measured up to {MOST_TOPICS:,}")
        rows = {
            topic: at for topic, at in _by_topic(pairs) if pairs.positive[at].any() and not pairs.positive[at].all()
        }
        if not rows:
            raise LeftOut("no topic has people's training rows that are both positive and negative")
        self.mean, deviation = frames.mean(axis=0), frames.std(axis=0)
        whole = np.full_like(deviation, max(float(np.sqrt((deviation**2).mean())), 1e-6))
        deviation[deviation < 1e-6] = 1  # a number that is the same everywhere
        topics = list(rows)
        some = topics[:: -(-len(topics) // CHOSEN_ON)]
        chosen, best, models, scaling = 0.1, -1.0, dict[int, np.ndarray](), deviation
        for tried_scaling in (deviation, whole) if self.wide else (deviation,):
            self.deviation = tried_scaling
            x = (frames - self.mean) / self.deviation
            for penalty in WIDE if self.wide else PENALTIES:
                tried = {topic: _linear(x, pairs, rows[topic], penalty) for topic in some}
                score = self._scored(known.validation, tried)
                labeled = ~np.isnan(score)
                value = average_precision(known.validation.pairs.where(labeled).with_score(score[labeled]))
                # Without a positive pair the value is NaN, and the strength in the middle stays.
                if value > best or (np.isnan(value) and penalty == chosen and not models):
                    chosen, best, models, scaling = penalty, max(value, best), tried, self.deviation
        self.deviation = scaling
        x = (frames - self.mean) / self.deviation
        models |= {topic: _linear(x, pairs, rows[topic], chosen) for topic in topics if topic not in models}
        self.linear = models
        self.detail = (
            f"logistic regression on mean frame embeddings, C = {chosen:g} by validation, on {len(pairs.sample):,} of "
            f"people's training rows; {len(models):,} of {len(pairs.topics):,} topics have both answers, others come "
            "last"
        )

    def predict(self, heard: Heard) -> np.ndarray:
        score = self._scored(heard, self.linear)
        smallest = float(np.nanmin(score)) if (~np.isnan(score)).any() else 0.0
        return np.where(np.isnan(score), smallest - 1, score).astype(np.float32)

    def _scored(self, heard: Heard, models: Mapping[int, np.ndarray]) -> np.ndarray:
        """Logits of pairs, float32 [P], NaN of topics without a model."""
        score = np.full(len(heard), np.nan, np.float32)
        x = (heard.frames - self.mean) / self.deviation
        for topic, at in _by_topic(heard.pairs):
            if topic in models:
                score[at] = x[heard.pairs.sample[at]] @ models[topic][:-1] + models[topic][-1]
        return score


class StandardHumanRows(HumanRows):
    """The yardstick of every round."""

    wide = False


def _by_topic(pairs: Pairs) -> Iterator[tuple[int, np.ndarray]]:
    """Each topic that has pairs, with these, int64."""
    order = np.argsort(pairs.topic, kind="stable")
    topics, counts = np.unique(pairs.topic, return_counts=True)
    ends = np.cumsum(counts)
    for topic, count, end in zip(topics.tolist(), counts, ends, strict=True):
        yield topic, order[end - count : end]


def _linear(x: np.ndarray, pairs: Pairs, rows: np.ndarray, penalty: float) -> np.ndarray:
    """A topic's weights and, last, its intercept, float32 [dim + 1].

    Of many rows positives are kept first; leaving out rows of one class moves the intercept only, which is moved back.
    """
    generator = np.random.default_rng(0)
    yes, no = rows[pairs.positive[rows]], rows[~pairs.positive[rows]]
    kept = [generator.permutation(yes)[: MOST_ROWS // 2]]
    kept.append(generator.permutation(no)[: MOST_ROWS - len(kept[0])])
    at = np.concatenate(kept)
    fitted = LogisticRegression(C=penalty, max_iter=200, tol=1e-3).fit(x[pairs.sample[at]], pairs.positive[at])
    moved = np.log(len(yes) / len(kept[0])) - np.log(len(no) / len(kept[1]))
    return np.append(fitted.coef_[0], fitted.intercept_[0] + moved).astype(np.float32)
