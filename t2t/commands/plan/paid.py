"""What labels cost that somebody charges for."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from t2t.teachers import Teacher
from t2t.teachers.asked import Asked
from t2t.teachers.base import Cost
from t2t.teachers.labeling import label_blocks, shard_samples


def cost_of(teacher: Teacher, samples: pa.Table, missing: Sequence[Asked]) -> Cost | None:
    """What a teacher will charge for what it was not asked yet; None for one that costs nothing to ask."""
    count = getattr(teacher, "cost", None)
    if count is None:
        return None
    return Cost.sum(
        [count(table, block.topics) for table, block in label_blocks(teacher, samples, missing, shard_samples(teacher))]
    )
