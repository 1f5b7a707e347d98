"""Which pairs are chosen to be answered: numbers only."""

from __future__ import annotations

import numpy as np
import pytest

from t2t.commands.annotate.choose import RANDOM, Caps, Likeliest, Pool, choose, disputed, draw, uncertainty


def pool(why: str, pairs: list[tuple[int, int]]) -> Pool:
    sample, topic = np.array(pairs, np.int64).reshape(-1, 2).T
    return Pool(why, sample, topic, np.linspace(1, 0.5, len(pairs)).astype(np.float32))


def keys(pools: list[Pool]) -> list[tuple[int, int]]:
    return [(int(s), int(t)) for found in pools for s, t in zip(found.sample, found.topic, strict=True)]


def test_a_confidence_at_the_threshold_is_the_most_uncertain():
    found = uncertainty(np.float32([[0.0, 0.4, 0.8, 0.9, 1.0]] * 1), np.full(5, 0.8))
    assert found[0].tolist() == pytest.approx([0, 0.5, 1, 0.5, 0], abs=1e-6)
    # No threshold keeps the wished precision: then the middle.
    assert uncertainty(np.float32([[0.5]]), np.array([np.inf]))[0, 0] == pytest.approx(1)


def test_disputed_pairs_are_those_whose_teachers_lie_furthest_apart():
    sample, topic = np.array([0, 0, 1, 1, 1, 2, 3, 3]), np.array([1, 1, 0, 0, 0, 0, 2, 2])
    confidence = np.float32([0.2, 0.3, 0.1, 0.9, 0.5, 0.7, 0.4, 0.4])
    found = disputed(sample, topic, confidence, 3, np.array([], np.int64)).best(9)
    assert keys([found]) == [(1, 0), (0, 1)]  # one teacher alone, and two of one mind, dispute nothing
    assert found.priority.tolist() == pytest.approx([0.8, 0.1])
    assert keys([disputed(sample, topic, confidence, 3, np.array([3]))]) == [(0, 1)]
    assert len(disputed(sample[:0], topic[:0], confidence[:0], 3, np.array([], np.int64))) == 0


@pytest.mark.parametrize("samples", [50, 200_000])
def test_the_random_share_is_drawn_from_all_open_pairs_alike(samples: int):
    answered = np.arange(0, samples * 40, 2)
    counts = np.zeros(2)
    for seed in range(20):
        found = draw(samples, 40, 200, answered, seed)
        key = found.sample * 40 + found.topic
        assert len(np.unique(key)) == 200
        assert not np.isin(key, answered).any()
        counts += [np.count_nonzero(found.sample < samples / 2), np.count_nonzero(found.sample >= samples / 2)]
    # 4,000 draws, half of them expected on each side; four standard deviations.
    assert abs(counts[0] - 2000) < 4 * 4000**0.5 / 2


def test_fewer_open_pairs_than_are_wanted_are_all_drawn():
    found = draw(3, 2, 100, np.array([0, 5]), 0)
    assert sorted(keys([found])) == [(0, 1), (1, 0), (1, 1), (2, 0)]


def test_reasons_take_turns_and_no_pair_is_chosen_twice():
    drawn = pool(RANDOM, [(0, 0), (1, 1)])
    first, second = pool("a", [(0, 0), (2, 0), (3, 1), (4, 0)]), pool("b", [(2, 0), (3, 0), (1, 1), (5, 1)])
    found = choose(drawn, [first, second], np.arange(6), 6, Caps(9, 9, 9))
    assert [len(one) for one in found] == [2, 2, 2]
    assert keys(found) == [(0, 0), (1, 1), (2, 0), (3, 1), (3, 0), (5, 1)]


def test_no_clip_group_or_topic_takes_more_than_its_share_while_there_are_others():
    best = pool("a", [(clip, topic) for clip in range(10) for topic in range(10)])
    found = choose(Pool.empty(RANDOM), [best], np.arange(10) // 5, 12, Caps(clip=3, group=6, topic=4))[1]
    assert len(found) == 12
    for values, most in ((found.sample, 3), (found.sample // 5, 6), (found.topic, 4)):
        assert np.bincount(values).max() <= most


def test_where_the_caps_leave_too_few_pairs_they_give_way():
    best = pool("a", [(0, topic) for topic in range(10)])
    assert len(choose(Pool.empty(RANDOM), [best], np.zeros(1, int), 8, Caps(2, 2, 2))[1]) == 8
    assert len(choose(Pool.empty(RANDOM), [best], np.zeros(1, int), 99, Caps(2, 2, 2))[1]) == 10


def test_the_likeliest_samples_of_a_topic_are_found_block_by_block():
    confidence = np.random.default_rng(0).random((50, 4)).astype(np.float32)
    confidence[:48, 3] = -1  # answered: two are left
    found = Likeliest(3, 4)
    for start in range(0, 50, 7):
        found.add(confidence[start : start + 7], start)
    chosen = found.pool(np.array([5, 6, 7, 8]), np.array([1.0, 0.5, 0.25, 0.1]))
    best = [np.argsort(-confidence[:, topic], kind="stable")[:3].tolist() for topic in range(4)]
    for topic in range(4):
        rows = chosen.topic == topic + 5
        assert chosen.sample[rows].tolist() == (best[topic] if topic < 3 else best[topic][:2])
    assert chosen.priority.tolist() == sorted(chosen.priority.tolist(), reverse=True)
    assert chosen.priority[0] == 1
