"""What several students of one recipe are worth together, which differ in their seeds only.

Two things make their mean uncertain: which samples people happened to label, and which seeds were drawn. A resample
draws both: groups, then samples in them, for every seed the same ones; and then seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from t2t.core.files import atomic_file
from t2t.data.pairs import Pairs
from t2t.evaluation.interval import Interval
from t2t.evaluation.metrics import average_precision, bootstrap, interval_of

# Pairs times resamples, and resamples that are always drawn.
MOST_DRAWN, LEAST_DRAWN = 200_000_000, 100
# Of what is kept on disk: another one where the same pairs are drawn otherwise.
VERSION = 2


@dataclass(frozen=True)
class Together:
    """A number of several seeds: its mean with the 95 % interval over samples and seeds, each seed's, and on how many
    pairs it was measured."""

    mean: Interval
    each: tuple[float, ...]
    pairs: int


def on_common(several: Sequence[Pairs]) -> list[Pairs]:
    """The pairs that all scored, in one order and with the first one's targets: annotations may have come or been
    mended between two trainings, and a student of a closed vocabulary leaves topics out."""
    first = several[0]
    codes = [pairs.sample * len(pairs.topics) + pairs.topic for pairs in several]
    if all(np.array_equal(codes[0], code) for code in codes[1:]):
        return [first, *(first.with_score(pairs.score) for pairs in several[1:])]
    common = codes[0]
    for code in codes[1:]:
        common = np.intersect1d(common, code)
    base = first.where(np.isin(codes[0], common))
    kept = base.sample * len(base.topics) + base.topic
    found = []
    for pairs, code in zip(several, codes, strict=True):
        order = np.argsort(code, kind="stable")
        found.append(base.with_score(pairs.score[order[np.searchsorted(code, kept, sorter=order)]]))
    return found


class Resampler:
    """Draws PR-AUC on resamples of pairs; the same pairs with the same scores are drawn once, however many tables and
    pictures ask for them.

    Args:
        resamples: of an interval; fewer where pairs are very many, so that it takes seconds.
        folder: where draws are kept for the next process; nowhere when None.
    """

    def __init__(self, resamples: int = 1000, seed: int = 0, folder: Path | None = None):
        self.resamples, self.seed, self.folder = resamples, seed, folder
        self._known: dict[bytes, np.ndarray] = {}

    def drawn(self, several: Sequence[Pairs]) -> np.ndarray:
        """PR-AUC of each of some students on the same resamples: float64 [students, resamples]."""
        return np.stack([self._drawn(pairs) for pairs in several])

    def _drawn(self, pairs: Pairs) -> np.ndarray:
        key = blake2b(digest_size=16)
        for part in (pairs.sample, pairs.topic, pairs.positive, pairs.score, pairs.groups):
            key.update(b"" if part is None else np.ascontiguousarray(part).tobytes())
        key.update(f"{self.resamples} {self.seed} {VERSION}".encode())
        if key.digest() not in self._known:
            self._known[key.digest()] = self._kept(pairs, key.hexdigest())
        return self._known[key.digest()]

    def _kept(self, pairs: Pairs, name: str) -> np.ndarray:
        path = None if self.folder is None else self.folder / f"{name}.npy"
        if path is not None and path.is_file():
            with suppress(OSError, ValueError, EOFError):  # a damaged one is drawn anew
                return np.asarray(np.load(path, allow_pickle=False))
        resamples = min(self.resamples, max(MOST_DRAWN // max(len(pairs.sample), 1), LEAST_DRAWN))
        drawn = bootstrap(pairs, resamples, self.seed)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as temporary, open(temporary, "wb") as file:
                np.save(file, drawn)
        return drawn

    def mean(self, several: Sequence[Pairs]) -> Together:
        """The mean PR-AUC of several seeds' students, on the pairs that all of them scored."""
        same = on_common(several)
        each = tuple(average_precision(pairs) for pairs in same)
        return _together(each, over_seeds(self.drawn(same), self.seed), same)

    def difference(self, candidates: Sequence[Pairs], others: Sequence[Pairs]) -> Together:
        """PR-AUC of some students less that of as many others, seed by seed, on the pairs that all of them scored."""
        same = on_common([*candidates, *others])
        ours, theirs = same[: len(candidates)], same[len(candidates) :]
        each = tuple(average_precision(a) - average_precision(b) for a, b in zip(ours, theirs, strict=True))
        drawn = self.drawn(ours) - self.drawn(theirs)
        return _together(each, over_seeds(drawn, self.seed), same)


def over_seeds(drawn: np.ndarray, seed: int = 0) -> np.ndarray:
    """The mean over seeds that are drawn anew in each resample: float64 [resamples].

    Of n seeds n - 1 are drawn, with replacement: n would give only (n - 1) / n of the variance that comes of seeds, two
    thirds with three. With a single seed nothing is known of that, and the resamples are of samples alone.

    Args:
        drawn: float64 [seeds, resamples], of one student each; of differences where two recipes are compared, so that
            both have the same seeds.
    """
    seeds, resamples = drawn.shape
    if seeds == 1:
        return np.asarray(drawn[0])
    chosen = np.random.default_rng(seed).integers(0, seeds, (resamples, seeds - 1))
    return np.asarray(drawn[chosen, np.arange(resamples)[:, None]].mean(axis=1))


def _together(each: tuple[float, ...], drawn: np.ndarray, same: Sequence[Pairs]) -> Together:
    return Together(interval_of(float(np.mean(each)), drawn), each, len(same[0].sample))
