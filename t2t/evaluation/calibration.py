"""Whether a confidence of 0.7 is right in seven of ten cases: reliability by bins, ECE, and a temperature.

ECE is the expected calibration error: how far the share of positives of a bin is from its mean confidence, averaged
over `BINS` bins of equal width by their pairs (Guo et al. 2017). Most pairs are confident negatives, so that most of it
is about the lowest bin; the picture shows every bin, with how many pairs it has.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from pydantic import Field
from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]
from scipy.special import expit, logit  # type: ignore[import-untyped]

from t2t.core.config import Config
from t2t.data.pairs import Pairs
from t2t.evaluation.figures import BLUE, GREY, INK, LINE, NARROW, SKY, axes_of
from t2t.evaluation.thresholds import wilson

BINS = 15
# Confidences are kept this far from 0 and 1 where their logit is taken.
EDGE = 1e-6
# Temperatures that are tried: beyond these every confidence would be 0.5, or 0 and 1.
COLDEST, HOTTEST = 0.05, 20.0


class Bin(Config):
    """The pairs whose confidence lies between `low` and `high`.

    confidence: their mean. positive: their share of positives, with its 95 % interval (Wilson, a sample counted once).
    """

    low: float
    high: float
    pairs: int = Field(ge=1)
    confidence: float
    positive: float
    positive_low: float
    positive_high: float


class Calibration(Config):
    """Of one split: ECE, mean squared error of the confidences (Brier score), and the bins that have pairs.

    ece_at_temperature: ECE at the temperature that validation gave.
    """

    ece: float
    brier: float
    ece_at_temperature: float
    bins: tuple[Bin, ...]


def calibration(pairs: Pairs, temperature: float) -> Calibration:
    """How scored pairs are calibrated. Args: temperature: as `fit_temperature` gives it."""
    bins = reliability(pairs)
    error = float(np.mean((pairs.score.astype(np.float64) - pairs.positive) ** 2))
    tempered = reliability(pairs.with_score(at_temperature(pairs.score, temperature)))
    return Calibration(ece=ece(bins), brier=error, ece_at_temperature=ece(tempered), bins=tuple(bins))


def reliability(pairs: Pairs) -> list[Bin]:
    """The bins that have pairs, from the lowest confidence up."""
    edges = np.linspace(0, 1, BINS + 1)
    place = np.clip(np.searchsorted(edges, pairs.score, side="right") - 1, 0, BINS - 1)
    found = []
    for number in np.unique(place):
        here = place == number
        share = float(pairs.positive[here].mean())
        low, high = wilson(share, len(np.unique(pairs.sample[here])))
        found.append(
            Bin(
                low=float(edges[number]),
                high=float(edges[number + 1]),
                pairs=int(here.sum()),
                confidence=float(pairs.score[here].mean(dtype=np.float64)),
                positive=share,
                positive_low=low,
                positive_high=high,
            )
        )
    return found


def ece(bins: Sequence[Bin]) -> float:
    """Expected calibration error, 0..1."""
    pairs = sum(one.pairs for one in bins)
    return float(sum(one.pairs * abs(one.positive - one.confidence) for one in bins) / pairs) if pairs else float("nan")


def at_temperature(confidence: np.ndarray, temperature: float) -> np.ndarray:
    """Confidences whose logits were divided by a temperature: float32, any shape. Their order stays."""
    place = logit(np.clip(confidence.astype(np.float64), EDGE, 1 - EDGE))
    found: np.ndarray = expit(place / temperature).astype(np.float32)
    return found


def fit_temperature(pairs: Pairs) -> float:
    """The temperature at which scored pairs predict people best (log loss): below 1 sharpens, above 1 softens."""
    place = logit(np.clip(pairs.score.astype(np.float64), EDGE, 1 - EDGE))

    def loss(log_temperature: float) -> float:
        z = place / np.exp(log_temperature)
        return float(np.mean(np.logaddexp(0, z) - pairs.positive * z))

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x))


def reliability_picture(bins: Sequence[Bin], title: str = "") -> Figure:
    """The reliability picture: the share of positives against the confidence, with its interval, a bin a point; the
    diagonal is what a calibrated student would have. A point is as large as its bin has pairs.

    Raises:
        ValueError: there is no bin.
    """
    if not bins:
        raise ValueError("no bins to draw")
    figure, axes = axes_of(NARROW, 4.8 + 2 * LINE)
    x, y = np.array([one.confidence for one in bins]), np.array([one.positive for one in bins])
    reach = np.array([[one.positive - one.positive_low, one.positive_high - one.positive] for one in bins]).T
    pairs = np.array([one.pairs for one in bins])
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=(0, (1, 2)), linewidth=1.5, label="calibrated", zorder=2)
    axes.errorbar(x, y, reach.clip(min=0), fmt="none", ecolor=SKY, elinewidth=1.5, capsize=4, zorder=3)
    axes.plot(x, y, color=BLUE, linewidth=2, zorder=3)
    size = 30 + 170 * np.log1p(pairs) / np.log1p(pairs.max())
    axes.scatter(x, y, s=size, color=BLUE, edgecolor=INK, linewidth=0.8, zorder=4, label="student, 95 % interval")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes.set_xlabel(f"confidence (ECE {ece(bins):.3f})", fontsize=11)
    axes.set_ylabel("share of positives", fontsize=11)
    axes.set_title(title, fontsize=13, loc="left")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", frameon=False, fontsize=10, ncols=2)
    return figure
