"""Finds each identity's map to the common scale, before a student learns from it.

A map is fitted on the pairs that an identity shares with people: by logistic regression on its logits (Platt), the same
on the logits of its ranks, isotonic regression, and mixtures of these, whichever predicts people best when fitted on
other groups of samples than it is judged on (cross-fitting). Where pairs are few it is drawn towards the map that its
own distribution gives; where there is none, that one is taken: its ranks, steep as other teachers' are, around the
share that people call positive. So no map hangs on the numbers that a teacher happens to use, only on their order.

Why: with raw confidences a timid teacher teaches nothing and a loud one everything (docs/results.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq, minimize  # type: ignore[import-untyped]
from scipy.special import expit, logit  # type: ignore[import-untyped]
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from t2t.data.coding import Coded
from t2t.data.labels import POSITIVE, is_people
from t2t.data.scales import DIGITS, EDGE, Scale, scale_of
from t2t.evaluation.health import People

# Knots of a map at most; they lie at quantiles that are equally far apart in their logits.
KNOTS = 65
FOLDS = 5
# Fewer positives than this say too little to choose between kinds of maps, or to fit an isotonic one.
ENOUGH = 10
# ROC-AUC below which an identity contradicts people, if chance alone does not explain it; what its turned confidences
# have to explain at least before they are taken for what it says.
CONTRADICTS, LEAST_WORTH = 0.45, 0.01
# The map of its own distribution counts as much as so many positive pairs.
PSEUDO_POSITIVES = 2.0
# Of votes, 0 or 1, the share that is right where nobody looked, and how many looks that counts as.
VOTES_RIGHT, VOTES_SEEN = 0.9, 10.0
# How far apart logits of ranks are, as their standard deviation; bounds of the factor that brings logits there.
SPREAD, LEAST_GAIN, MOST_GAIN = np.pi / np.sqrt(3.0), 1.1, 4.0
# A map never becomes flat altogether, so that it can be inverted: the least slope on the logits of ranks.
LEAST_SLOPE = 0.02
# Prior share of positives where no person said anything, within bounds.
PRIOR_BOUNDS = (0.005, 0.5)
# Rows of an identity that its distribution is taken from, at most.
MOST_ROWS = 1 << 20
# Identities whose distributions are held at once, 24 MB each at most; of more they are made twice.
HELD = 16
# Shared pairs that a map is fitted on, at most: more change nothing that can be told apart, and take minutes.
MOST_SHARED = 1 << 18


@dataclass(frozen=True)
class Shared:
    """Pairs that an identity and people both labeled.

    confidence: float [P], the identity's. truth: float [P], people's, 0..1. group: int [P], what is folded together.
    """

    confidence: np.ndarray
    truth: np.ndarray
    group: np.ndarray


Map = Callable[[np.ndarray], np.ndarray]


class _Ranks:
    """An identity's own distribution: the logit of a confidence's mid-rank among all its rows."""

    def __init__(self, confidence: np.ndarray):
        if len(confidence) > MOST_ROWS:
            # Drawn, since every n-th row may always be of the same topics; the ends are knots.
            drawn = confidence[np.random.default_rng(0).integers(len(confidence), size=MOST_ROWS)]
            confidence = np.append(drawn, [confidence.min(), confidence.max()])
        # As they come: float32 is sorted in a fraction of the time, and nothing is lost by the change behind it.
        values, counts = np.unique(confidence, return_counts=True)
        self.values = values.astype(np.float64)
        below = np.cumsum(counts) - counts
        self.count = int(counts.sum())
        self.middle = logit(np.clip((below + counts / 2) / self.count, 0.5 / self.count, 1 - 0.5 / self.count))
        self.weight = counts / self.count

    def __call__(self, confidence: np.ndarray) -> np.ndarray:
        return np.interp(confidence, self.values, self.middle)

    def knots(self) -> np.ndarray:
        """Raw values that the map is kept at: all where they are few, else by quantile, the ends among them."""
        if len(self.values) <= KNOTS:
            return self.values
        wanted = np.linspace(self.middle[0], self.middle[-1], KNOTS)
        at = np.searchsorted(self.middle, wanted).clip(max=len(self.values) - 1)
        return self.values[np.unique(at)]


def scales_of(
    coded: Coded, groups: np.ndarray, as_others: Mapping[str, str] | None = None, gain: float | None = 1.0
) -> dict[str, Scale]:
    """The scale of every identity of a round's labels but people's own, and those that speak on people's scale.

    Args:
        coded: labels whose tables came teacher by teacher in the order of `coded.teachers`.
        groups: int64 [samples], the group of each of `coded.sample_ids`.
        as_others: identities whose confidences are on the scale of another one: students label as somebody.
        gain: of all scales; None: as `gain_of` has it.
    """
    as_others = as_others or {}
    people = People(coded)
    confidences, shared = {}, {}
    for name in coded.teachers:
        if is_people(name) or name in as_others:
            continue
        rows = coded.of(coded.teachers.index(name))
        confidences[name] = coded.confidence[rows]
        common, truth = people.labeled_too(rows)
        if len(common):
            group = groups[coded.sample[common]]
            shared[name] = Shared(coded.confidence[common], truth.astype(np.float64), group)
    prior = float(np.mean(people.truth >= POSITIVE)) if len(people.truth) else None
    found = fit_scales(confidences, shared, prior)
    if prior is not None:
        found = _with_gain(found, confidences, float(np.clip(prior, *PRIOR_BOUNDS)), gain)
    return found | {name: found[other] for name, other in as_others.items() if other in found}


def _with_gain(
    scales: Mapping[str, Scale], confidences: Mapping[str, np.ndarray], prior: float, gain: float | None
) -> dict[str, Scale]:
    gain = gain_of(scales, confidences) if gain is None else gain
    if gain == 1:
        return dict(scales)
    facts = {"gain": gain, "usual": float(f"{logit(prior):.{DIGITS}g}")}
    return {name: scale.model_copy(update=facts) for name, scale in scales.items()}


def gain_of(scales: Mapping[str, Scale], confidences: Mapping[str, np.ndarray]) -> float:
    """How many times as far from the usual a student is taught what weak teachers say; 1 where they are not weak.

    What one weak teacher lets people believe is next to nothing, so that a student that is taught it learns next to
    nothing of a thousand of them, who know much together. So all teachers' logits are moved away from the usual by one
    factor, which keeps what each is worth beside the others, until over all rows they vary as much as those of ranks
    do (pi / sqrt(3), at slope 1). They are never brought nearer, and the factor has a bound: of teachers that know
    nothing at all only chance would be left to enlarge.

    Args:
        scales: by teacher. confidences: raw, float [rows] each.
    """
    rows = sum(len(confidences[name]) for name in scales)
    if not rows:
        return 1.0
    squares = 0.0
    for name, scale in scales.items():
        away = logit(scale.apply(confidences[name]).astype(np.float64).clip(EDGE, 1 - EDGE))
        squares += float(away.var()) * len(away) if len(away) else 0.0
    gain = SPREAD / max(float(np.sqrt(squares / rows)), SPREAD / MOST_GAIN)
    return round(gain, 3) if gain >= LEAST_GAIN else 1.0


def fit_scales(
    confidences: Mapping[str, np.ndarray], shared: Mapping[str, Shared], prior: float | None = None
) -> dict[str, Scale]:
    """The scale of each identity.

    Args:
        confidences: raw, float [rows] each, of all rows that may be trained on; identities without rows are left out.
        shared: the pairs that each shares with people; missing where there is none.
        prior: the share of positives among people's pairs; None where people said nothing.
    """
    some = [name for name, values in confidences.items() if len(values)]
    ranks = lru_cache(HELD)(lambda name: _Ranks(confidences[name]))
    informed = {name: _some(shared[name]) for name in sorted(some) if name in shared and _mixed(shared[name].truth)}
    steepness = [_platt(ranks(name)(known.confidence), known.truth)[0] for name, known in informed.items()]
    usual = float(np.median(steepness)) if steepness else 1.0
    scales: dict[str, Scale] = {}
    for name in some:
        own = ranks(name)
        share = float(np.clip(own.values @ own.weight if prior is None else prior, *PRIOR_BOUNDS))
        fallback = _own(own, max(usual, LEAST_SLOPE), share)
        truth = shared[name].truth if name in shared else np.empty(0)
        counts = {"pairs": len(truth), "positives": round(float(truth.sum()), 3)}
        imagined = None
        if (votes := _votes(own)) is not None:
            fallback, imagined = votes
        if name in informed:
            scales[name] = _by_people(own, informed[name], fallback, imagined, **counts)
            if contradicts(informed[name].confidence, informed[name].truth >= POSITIVE):
                scales[name] = _turned(scales[name], confidences[name], informed[name], usual, share, counts)
        else:
            scales[name] = _scale(own, fallback, how="own", **counts)
    return scales


def _turned(
    straight: Scale, confidence: np.ndarray, shared: Shared, usual: float, share: float, counts: Mapping[str, float]
) -> Scale:
    """The map of an identity that says the opposite, where that explains people, and what it says does not."""
    own = _Ranks(1 - confidence.astype(np.float64))
    opposite = Shared(1 - shared.confidence.astype(np.float64), shared.truth, shared.group)
    found = _by_people(own, opposite, _own(own, max(usual, LEAST_SLOPE), share), None, **counts)
    better = (found.worth or 0.0) >= max(LEAST_WORTH, straight.worth or 0.0)
    return found.turn() if better and len(found.raw) > 1 else straight


def contradicts(confidence: np.ndarray, positive: np.ndarray) -> bool:
    """Whether an identity ranks people's positive pairs below their negative ones, beyond what chance explains (three
    standard errors of a ranking by lot: Mann and Whitney). One that knows nothing ranks some low by chance.

    Args:
        confidence: float [P]. positive: bool [P].
    """
    positives, n = int(positive.sum()), len(positive)
    if positives < ENOUGH or positives == n:
        return False
    error = float(np.sqrt((n + 1) / (12 * positives * (n - positives))))
    if float(roc_auc_score(positive, confidence)) >= min(CONTRADICTS, 0.5 - 3 * error):
        return False
    return float(average_precision_score(positive, confidence)) < positives / n


def _some(shared: Shared) -> Shared:
    """All pairs, or so many of them as a map is fitted on, drawn the same every time."""
    if len(shared.truth) <= MOST_SHARED:
        return shared
    drawn = np.random.default_rng(0).permutation(len(shared.truth))[:MOST_SHARED]
    some = Shared(shared.confidence[drawn], shared.truth[drawn], shared.group[drawn])
    return some if _mixed(some.truth) else shared


def _mixed(truth: np.ndarray) -> bool:
    return bool(len(truth)) and 0 < float(truth.mean()) < 1


def _own(ranks: _Ranks, slope: float, share: float) -> Map:
    """The map by an identity's own distribution: its ranks at a slope, so that the mean is `share`."""
    middle = ranks.middle
    most = slope * float(np.abs(middle).max()) + 20  # there the mean is within 1e-8 of 0 or of 1
    shift = brentq(lambda b: float(expit(slope * middle + b) @ ranks.weight) - share, -most, most)
    return lambda confidence: expit(slope * ranks(confidence) + shift)


def _votes(ranks: _Ranks) -> tuple[Map, np.ndarray] | None:
    """Of a teacher that says 0 or 1 alone, what its votes mean where nobody looked, and how many pairs that counts as,
    float64 [2]; None of any other.

    Somebody meant a vote as a yes, so a few pairs against it are not enough. Of the zeros as many are wrong as make up
    for the wrong ones; where a class is voted for, the other classes' zeros were looked at with it.
    """
    if len(ranks.values) != 2 or ranks.values[0] != 0 or ranks.values[1] != 1:
        return None
    no, yes = ranks.weight
    wrong = min((1 - VOTES_RIGHT) * yes / no, 0.5)
    return lambda c: np.interp(c, (0.0, 1.0), (wrong, VOTES_RIGHT)), VOTES_SEEN * np.array([no / yes, 1.0])


def _by_people(
    ranks: _Ranks, shared: Shared, fallback: Map, weight: np.ndarray | None = None, **counts: float
) -> Scale:
    # The fallback as pairs that were never asked, spread over the identity's distribution.
    at = ranks.knots()
    if weight is None:
        share = float(np.average(fallback(at)))
        weight = np.full(len(at), PSEUDO_POSITIVES / max(share, 1e-9) / len(at))
    imagined = at, fallback(at), weight

    def fitted(kind: str, keep: np.ndarray) -> Map:
        return _KINDS[kind](ranks, shared.confidence[keep], shared.truth[keep], imagined)

    everything = np.ones(len(shared.truth), bool)
    positives = float(shared.truth.sum())
    folds = folds_of(shared.group)
    kinds: Sequence[str] = list(_KINDS) if positives >= ENOUGH else ["ranks"]
    losses = {}
    for kind in kinds:
        predicted = np.empty(len(shared.truth))
        for fold in range(int(folds.max()) + 1):
            out = folds == fold
            predicted[out] = fitted(kind, ~out if (~out).any() else everything)(shared.confidence[out])
        losses[kind] = _log_loss(predicted, shared.truth)
    kind = min(losses, key=losses.__getitem__)
    base = _log_loss(np.full(len(shared.truth), shared.truth.mean()), shared.truth)
    slope, _ = _platt(logit(shared.confidence.clip(EDGE, 1 - EDGE)), shared.truth)
    return _scale(
        ranks,
        fitted(kind, everything),
        how="people",
        worth=round(max(0.0, 1 - losses[kind] / base), 4),
        slope=round(slope, 4),
        **counts,
    )


def folds_of(group: np.ndarray) -> np.ndarray:
    """A fold for each pair, int64: groups dealt out in the order of their numbers' hashes, the same every time.

    Pairs by themselves where they are all of one group.
    """
    names, index = np.unique(group, return_inverse=True)
    if len(names) == 1:
        names = index = np.arange(len(group))
    lots = np.random.default_rng(0).permutation(len(names))
    folds: np.ndarray = (lots % min(FOLDS, len(names)))[index]
    return folds


def _log_loss(predicted: np.ndarray, truth: np.ndarray) -> float:
    predicted = predicted.clip(1e-7, 1 - 1e-7)
    return float(-(truth * np.log(predicted) + (1 - truth) * np.log1p(-predicted)).mean())


def _scale(ranks: _Ranks, mapped: Map, **facts: object) -> Scale:
    """A map at its knots. It rises everywhere: equal values are drawn apart by a trace of the ranks."""
    at = ranks.knots()
    common = mapped(at).clip(1e-6, 1 - 1e-6)
    rising = expit(logit(common) + LEAST_SLOPE * (ranks(at) - float(ranks.middle @ ranks.weight)))
    return scale_of(at, np.maximum.accumulate(rising), **facts)


Imagined = tuple[np.ndarray, np.ndarray, np.ndarray]


def _platt(x: np.ndarray, truth: np.ndarray, weight: np.ndarray | None = None) -> tuple[float, float]:
    """Slope (not below 0) and intercept of a logistic regression of soft targets on one number."""
    w = np.ones(len(x)) if weight is None else weight

    def loss(p: np.ndarray) -> tuple[float, np.ndarray]:
        z = p[0] * x + p[1]
        error = w * (expit(z) - truth)
        value = (w * (np.logaddexp(0, z) - truth * z)).sum() + 1e-3 * (p @ p)
        return float(value), np.array([error @ x, error.sum()]) + 2e-3 * p

    start = np.array([1.0, float(logit(np.clip(np.average(truth, weights=w), 1e-4, 1 - 1e-4)))])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.0, None), (None, None)])
    return float(found.x[0]), float(found.x[1])


def _with(x: np.ndarray, truth: np.ndarray, more_x: np.ndarray, imagined: Imagined) -> tuple[np.ndarray, ...]:
    _, soft, weight = imagined
    return np.append(x, more_x), np.append(truth, soft), np.append(np.ones(len(x)), weight)


def _ranks_map(ranks: _Ranks, confidence: np.ndarray, truth: np.ndarray, imagined: Imagined) -> Map:
    slope, shift = _platt(*_with(ranks(confidence), truth, ranks(imagined[0]), imagined))
    return lambda c: expit(slope * ranks(c) + shift)


def _logits_map(ranks: _Ranks, confidence: np.ndarray, truth: np.ndarray, imagined: Imagined) -> Map:
    def place(c: np.ndarray) -> np.ndarray:
        return logit(np.clip(c, EDGE, 1 - EDGE))

    slope, shift = _platt(*_with(place(confidence), truth, place(imagined[0]), imagined))
    return lambda c: expit(slope * place(c) + shift)


def _isotonic_map(ranks: _Ranks, confidence: np.ndarray, truth: np.ndarray, imagined: Imagined) -> Map:
    x, y, weight = _with(ranks(confidence), truth, ranks(imagined[0]), imagined)
    fitted = IsotonicRegression(y_min=0.25 / len(truth), y_max=1 - 0.25 / len(truth), out_of_bounds="clip")
    fitted.fit(x, y, sample_weight=weight)
    return lambda c: fitted.predict(ranks(c))


def _between(first: str, second: str) -> Callable[..., Map]:
    """The mean of two maps' logits."""

    def fit(*arguments: object) -> Map:
        maps = [_KINDS[name](*arguments) for name in (first, second)]
        return lambda c: expit(np.mean([logit(mapped(c).clip(EDGE, 1 - EDGE)) for mapped in maps], axis=0))

    return fit


_KINDS: dict[str, Callable[..., Map]] = {
    "ranks": _ranks_map,
    "logits": _logits_map,
    "isotonic": _isotonic_map,
    "logits and isotonic": _between("logits", "isotonic"),
}
