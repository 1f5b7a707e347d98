"""Means and differences over seeds: what is drawn, and that pairs which not all students scored are left out."""

from __future__ import annotations

import numpy as np
import pytest

from t2t.data.pairs import Pairs
from t2t.evaluation.gate import difference
from t2t.evaluation.metrics import average_precision, interval
from t2t.evaluation.seeds import Resampler, on_common, over_seeds

pytestmark = pytest.mark.unit


def scored(seed: int, samples: int = 40, topics: int = 5, noise: float = 1.0) -> Pairs:
    """The same pairs and truth for every seed, other scores."""
    sample, topic = np.repeat(np.arange(samples), topics), np.tile(np.arange(topics), samples)
    target = (np.random.default_rng(99).random(samples * topics) < 0.2).astype(np.float32)
    score = (target + noise * np.random.default_rng(seed).normal(size=len(target))).astype(np.float32)
    names = tuple(map(str, range(samples))), tuple(map(str, range(topics)))
    return Pairs(*names, sample, topic, target, score).in_groups([str(i // 2) for i in range(samples)])


def test_one_seed_is_what_metrics_and_gate_say():
    a, b = scored(0), scored(1, noise=0.5)
    alone = Resampler(200).mean([a])
    assert alone.mean == interval(a, 200)
    assert alone.each == (average_precision(a),)
    assert Resampler(200).difference([b], [a]).mean == difference(b, a, 200)


def test_seeds_that_agree_add_nothing_to_the_interval():
    one, three = Resampler(200).mean([scored(0)]), Resampler(200).mean([scored(0)] * 3)
    assert three.mean.low == pytest.approx(one.mean.low)
    assert three.mean.high == pytest.approx(one.mean.high)
    assert len(three.each) == 3


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_variance_of_seeds_is_that_of_their_mean(seeds):
    """Samples that do not vary leave the seeds' part alone: s²/n, where drawing n of n would give (n-1)/n of it."""
    values = np.random.default_rng(5).normal(size=seeds)
    drawn = over_seeds(np.repeat(values[:, None], 200_000, axis=1))
    assert drawn.var() == pytest.approx(values.var(ddof=1) / seeds, rel=0.02)
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.01)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Seeds and samples both vary; of the true mean 95 % are wanted, and three seeds give somewhat less."""
    generator, held = np.random.default_rng(0), 0
    for _ in range(400):
        seeds = generator.normal(size=4) * 0.02
        samples = generator.normal() * 0.03  # what all seeds share: which samples were drawn
        drawn = seeds[:, None] + samples + generator.normal(size=300) * 0.03
        low, high = np.percentile(over_seeds(drawn), [2.5, 97.5])
        held += low <= 0 <= high
    assert 0.9 <= held / 400 <= 0.98


def test_seeds_are_paired_in_a_difference():
    """Seeds that differ much among one another, and by the same little step from the other recipe's."""
    worse = [scored(seed, noise=0.4 + 0.5 * seed) for seed in range(3)]
    better = [pairs.with_score(pairs.score + 0.4 * pairs.target) for pairs in worse]
    found = Resampler(300).difference(better, worse)
    assert found.mean.low > 0
    assert found.mean.value == pytest.approx(np.mean(found.each))
    # Not so where they stand side by side.
    own = Resampler(300)
    assert own.mean(better).mean.low < own.mean(worse).mean.high


def test_pairs_that_one_student_did_not_score_are_left_out_for_all():
    whole, part = scored(0), scored(1).of_topics(frozenset({"0", "1", "2"}))
    shuffled = part.where(np.random.default_rng(3).permutation(len(part.sample)))
    a, b = on_common([whole, shuffled])
    assert len(a.sample) == len(b.sample) == len(part.sample)
    np.testing.assert_array_equal(a.score, whole.score[whole.topic < 3])
    np.testing.assert_array_equal(b.score, part.score)
    found = Resampler(100).difference([whole], [shuffled])
    assert found.pairs == len(part.sample)
    assert found.each[0] == pytest.approx(average_precision(a) - average_precision(part))


def test_without_a_positive_pair_there_is_no_number_and_no_interval():
    nothing = scored(0).where(np.arange(200) < 0)
    found = Resampler(100).mean([nothing, nothing])
    assert np.isnan([found.mean.value, found.mean.low, found.mean.high]).all()
    assert found.pairs == 0


def test_draws_are_kept_and_a_damaged_one_is_drawn_anew(tmp_path, monkeypatch):
    first = Resampler(60, folder=tmp_path).mean([scored(0), scored(1)])
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2
    files[0].write_bytes(b"half")
    assert Resampler(60, folder=tmp_path).mean([scored(0), scored(1)]) == first
    # Others are asked for by another number of resamples, or another seed of theirs.
    assert (
        Resampler(61, folder=tmp_path).mean([scored(0)]).mean != Resampler(60, folder=tmp_path).mean([scored(0)]).mean
    )
    assert len(list(tmp_path.iterdir())) == 3
