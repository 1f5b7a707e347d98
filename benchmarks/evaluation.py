"""Evaluation: PR-AUC with bootstrap resamples by sample, against a loop over scikit-learn.

The loop does a few resamples only (1,000 of a million pairs take minutes); what is compared is the time of a
resample, t2t's sorting included. Other lines: the table of PR-AUC by topic, and a teacher's scores on the pairs.
"""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import pyarrow as pa
from sklearn.metrics import average_precision_score

from benchmarks.harness import Measured, Result, alone, interleave
from t2t.data.pairs import Pairs, teacher_scores
from t2t.evaluation.metrics import bootstrap, topic_table

RESAMPLES, LOOPED = 1000, 3
POSITIVE_RATE, PAIRS_OF_SAMPLE, TOPICS = 0.05, 50, 10_000
SOME = 100
LOOP = "loop over scikit-learn"


def run(full: bool) -> Result | str:
    sizes = (10_000, 100_000, 1_000_000) if full else (200_000,)
    result = Result(
        name="evaluation",
        title=f"PR-AUC with {RESAMPLES:,} bootstrap resamples by sample",
        axis="pairs",
        unit="resamples/s",
        targets={LOOP: 20},
    )
    for size in sizes:
        pairs = scored_pairs(size)
        off = np.abs(bootstrap(pairs, LOOPED) - looped(pairs, LOOPED)).max()
        if not off < 1e-9:
            raise AssertionError(f"the bootstrap differs from scikit-learn's by {off}")
        sides = {"t2t": partial(bootstrap, pairs, RESAMPLES), LOOP: partial(looped, pairs, LOOPED)}
        seconds = interleave(sides, runs=3, warm=False)
        result.measured.append(Measured(side="t2t", size=size, amount=RESAMPLES, seconds=seconds["t2t"]))
        whole = [each * RESAMPLES / LOOPED for each in seconds[LOOP]]
        result.measured.append(Measured(side=LOOP, size=size, amount=RESAMPLES, seconds=whole))
        result.figures[f"largest difference of {LOOPED} resamples of {size:,} pairs"] = f"{off:.1e}"
    result.ratios = {LOOP: result.at(LOOP, sizes[-1]).median / result.at("t2t", sizes[-1]).median}
    result.figures["the loop"] = f"its seconds are those of {LOOPED} resamples, times {RESAMPLES / LOOPED:.0f}"
    start = time.perf_counter()
    by_topic = topic_table(pairs, frozenset())
    whole_table = time.perf_counter() - start
    positives = np.unique(pairs.topic[pairs.positive])[:SOME]
    start = time.perf_counter()
    for number in positives:
        own = pairs.where(pairs.topic == number)
        average_precision_score(own.positive, own.score)
    loop = (time.perf_counter() - start) / len(positives) * len(by_topic)
    result.figures[f"PR-AUC of each of {len(by_topic):,} topics, {sizes[-1]:,} pairs"] = (
        f"{whole_table:.2f} s; a loop over the topics {loop:.0f} s, going by {len(positives)} of them "
        f"({loop / whole_table:.0f} times)"
    )
    if full:
        found = alone(aligned, 200_000, 1_000_000, 4_000_000, prepare=prepare)
        result.figures["a teacher's 4,000,000 labels on 1,000,000 pairs of 200,000 samples x 10,000 topics"] = (
            f"{found.seconds:.1f} s, {found.memory / 2**20:,.0f} MiB (a table of samples x topics has 7,629 MiB)"
        )
    return result


def scored_pairs(size: int) -> Pairs:
    """Pairs of `size / 50` samples: one in twenty is positive, and scores somewhat higher."""
    generator = np.random.default_rng(0)
    samples = size // PAIRS_OF_SAMPLE
    positive = generator.random(size) < POSITIVE_RATE
    score = generator.normal(size=size) + 1.5 * positive
    return Pairs(
        tuple(f"clip_{number:09}" for number in range(samples)),
        tuple(f"topic {number}" for number in range(TOPICS)),
        np.repeat(np.arange(samples), PAIRS_OF_SAMPLE),
        generator.integers(0, TOPICS, size),
        positive.astype(np.float32),
        score.astype(np.float32),
    )


def looped(pairs: Pairs, resamples: int, seed: int = 0) -> np.ndarray:
    """The same draws, each measured by scikit-learn with the samples' counts as weights."""
    present = np.unique(pairs.sample)
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        drawn = present[generator.integers(0, len(present), len(present))]
        weight = np.bincount(drawn, minlength=len(pairs.sample_ids))[pairs.sample]
        values.append(average_precision_score(pairs.positive, pairs.score, sample_weight=weight))
    return np.array(values)


def prepare(samples: int, size: int, labels: int) -> tuple[Pairs, pa.Table]:
    generator = np.random.default_rng(0)
    ids, topics = [f"clip_{number:09}" for number in range(samples)], [f"topic {number}" for number in range(TOPICS)]
    codes = np.sort(generator.integers(0, samples * TOPICS, size))
    blank = np.zeros(size, np.float32)
    pairs = Pairs(tuple(ids), tuple(topics), codes // TOPICS, codes % TOPICS, blank, blank)
    # Half of the labels are of the pairs.
    own = np.sort(
        np.concatenate([np.tile(codes, labels // 2 // size), generator.integers(0, samples * TOPICS, labels // 2)])
    )
    table = pa.table(
        {
            "sample_id": pa.array(ids).take(pa.array(own // TOPICS)),
            "topic": pa.array(topics).take(pa.array(own % TOPICS)),
            "confidence": pa.array(generator.random(len(own)), pa.float32()),
        }
    )
    return pairs, table


def aligned(prepared: tuple[Pairs, pa.Table]) -> int:
    """How many of the pairs the teacher scored."""
    return int((~np.isnan(teacher_scores(*prepared))).sum())
