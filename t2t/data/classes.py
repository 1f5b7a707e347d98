"""Topics that are classes: each sample has exactly one of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from t2t.core.errors import T2TError, one_line
from t2t.data.pairs import Pairs


def by_sample(pairs: Pairs) -> np.ndarray | None:
    """The pairs as a table, int64 [samples, topics] of positions, where each sample has the same topics, each once;
    None where that is not so, or there is none."""
    order = np.lexsort((pairs.topic, pairs.sample))
    topics = len(np.unique(pairs.topic))
    samples = len(np.unique(pairs.sample))
    if topics < 2 or len(order) != samples * topics:
        return None
    table = order.reshape(samples, topics)
    same_sample = (pairs.sample[table] == pairs.sample[table[:, :1]]).all()
    same_topics = (pairs.topic[table] == pairs.topic[table[:1]]).all()
    return table if same_sample and same_topics else None


def is_exclusive(pairs: Pairs) -> bool:
    """Whether people answered all topics of each sample, and said yes to exactly one."""
    table = by_sample(pairs)
    return table is not None and bool((pairs.positive[table].sum(axis=1) == 1).all())


def are_classes(splits: Mapping[str, Pairs], wanted: bool | None, dataset: str) -> bool:
    """Whether topics are classes: as the dataset's entry says, or as the pairs of all splits are.

    Raises T2TError where the entry says so and a sample has another number of topics than one.
    """
    if wanted is False:
        return False
    found = {split: is_exclusive(pairs) for split, pairs in splits.items()}
    if wanted and not all(found.values()):
        split = next(split for split, so in found.items() if not so)
        raise T2TError(
            f"Dataset {one_line(dataset, 80)}: `exclusive: true`, and in split {split!r} people did not answer all "
            "topics of each sample with exactly one yes. Annotate them, or take that key out."
        )
    return all(found.values())
