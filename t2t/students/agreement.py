"""Two students label by consensus: each as itself, the pairs on which they agree (Deng et al. 2023, Na et al. 2023, of
mean teachers; nothing is averaged here).

What one of them is sure of by chance the other is mostly not, so that errors which a student would teach itself are
left out. Pairs that either would label are looked at, so that both label the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from t2t.data.coding import codes
from t2t.data.labels import LABEL_SCHEMA
from t2t.students.config import TaggingConfig
from t2t.students.tagging import tag

if TYPE_CHECKING:
    from t2t.data.embeddings.store import Embeddings
    from t2t.students.student import Student


def tag_agreed(
    student: Student,
    partner: Student,
    embeddings: Embeddings,
    sample_ids: Sequence[str],
    topics: Sequence[str],
    teacher_id: str,
    config: TaggingConfig,
    seed: int,
    within: float,
) -> Iterator[pa.Table]:
    """Yields `student`'s label tables, one for each block of samples, rows by sample and topic: of the pairs that
    `tag` chooses for either of the two, those whose confidences differ by less than `within`.

    The arguments are those of `tag`; either of the two may be `student`, and the pairs are the same.
    """
    arguments = (embeddings, sample_ids, topics, teacher_id, config, seed)
    names, ids = pa.array(topics, pa.string()), pa.array(sample_ids, pa.string())
    blocks = zip(tag(student, *arguments), tag(partner, *arguments), strict=True)
    for start, tables in zip(range(0, len(ids), config.block), blocks, strict=True):
        block = np.arange(start, min(start + config.block, len(ids)))
        here = ids.slice(start, len(block))
        chosen = [
            codes(table["sample_id"], here).astype(np.int64) * len(names) + codes(table["topic"], names)
            for table in tables
        ]
        sample, topic = np.divmod(np.unique(np.concatenate(chosen)), len(names))
        own, other = (one.predict(embeddings, block, topics, config.identity) for one in (student, partner))
        confidence = own[sample, topic]
        agreed = np.abs(confidence - other[sample, topic]) < within
        columns = [here.take(pa.array(sample[agreed])), names.take(pa.array(topic[agreed]))]
        columns += [pa.repeat(pa.scalar(teacher_id), int(agreed.sum())), pa.array(confidence[agreed])]
        yield pa.table(columns, schema=LABEL_SCHEMA)
