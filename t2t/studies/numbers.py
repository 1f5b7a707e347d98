"""A number over seeds, and what the measures of a study are called."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from t2t.core.config import Config

SPLITS = ("test", "validation")
PARTS = {"pr_auc": "", "pr_auc_seen": ", seen topics", "pr_auc_unseen": ", unseen topics"}
SIZE = "pr_auc_size/"
# Of a round of self-training: PR-AUC on test less that of the same training without students' labels.
CONTROL = "over control"
# Measures that are of no split.
OTHERS = {
    "seconds": "seconds of training and measuring",
    "rows": "training rows",
    "weights": "megabytes of weights",
    "models": "models asked about a new clip",
    "round": "best round",
    CONTROL: "PR-AUC on test over that of the control",
}
MEASURES = (*(f"{split} {part}" for split in SPLITS for part in PARTS), *OTHERS)


class Number(Config):
    """A measure over seeds.

    mean: of the seeds. low, high: its 95 % interval over samples and seeds; None where it was not resampled.
    seeds: each one's own. pairs: on how many it was measured; None where it is of no pairs.
    """

    mean: float
    low: float | None = None
    high: float | None = None
    seeds: dict[int, float]
    pairs: int | None = None

    @classmethod
    def plain(cls, values: Mapping[int, float]) -> Number | None:
        """Without an interval; None where there is no value."""
        return cls(mean=float(np.mean(list(values.values()))), seeds=dict(values)) if values else None

    @property
    def ends(self) -> tuple[float, float]:
        """What a band is drawn between: the interval, else the lowest and the highest seed."""
        if self.low is not None and self.high is not None:
            return self.low, self.high
        return min(self.seeds.values()), max(self.seeds.values())

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + (f" [{self.low:.3f}, {self.high:.3f}]" if self.low is not None else "")

    @property
    def signed(self) -> str:
        """As a difference."""
        return f"{self.mean:+.3f}" + (f" [{self.low:+.3f}, {self.high:+.3f}]" if self.low is not None else "")


def size_of(measure: str) -> int | None:
    """The embedding size that a measure is of; None where it is of the whole student."""
    found = re.fullmatch(rf"(?:{'|'.join(SPLITS)}) {SIZE}([1-9]\d*)", measure)
    return int(found[1]) if found else None


def is_measure(measure: str) -> bool:
    return measure in MEASURES or size_of(measure) is not None


def words(measure: str) -> str:
    """What stands on the axis of a measure."""
    split, _, metric = measure.partition(" ")
    if split not in SPLITS:
        return OTHERS[measure]
    size = size_of(measure)
    return f"PR-AUC on {split}" + (f", {size} numbers a clip" if size else PARTS[metric])
