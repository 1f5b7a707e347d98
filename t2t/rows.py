"""Which labels a round may train on: people's of the split `train` and of seen topics, teachers' of the unlabeled split
too. Everything else is for measuring (the topic-split protocol), or an accident.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import pyarrow as pa

from t2t.beginning import Beginning
from t2t.coding import Coded, code, codes
from t2t.dataset import HUMAN
from t2t.files import write_text
from t2t.health import check_health, health
from t2t.labels import LabelMatrix, assemble, conventional_average
from t2t.registration import label_tables

if TYPE_CHECKING:
    from t2t.rounds import Rounds


def round_matrix(rounds: Rounds, k: int, beginning: Beginning) -> LabelMatrix:
    """The label matrix of round k.

    The health of its rows is checked and written to `round-<k>/health.csv` first; raises T2TError where it blocks.
    """
    rows = training_rows(rounds, beginning.commit, beginning.teachers)
    report = health(rows)
    write_text(rounds.round_folder(k) / "health.csv", report.to_csv(index=False))
    check_health(report, rounds.config.health, rounds.config.name)
    matrix = assemble(rows)
    return conventional_average(matrix) if rounds.config.method == "conventional-average" else matrix


def training_rows(rounds: Rounds, commit: str, teachers: Sequence[str]) -> Coded:
    """Teachers' labels at a commit of the lake, as far as a round may train on them."""
    dataset = rounds.dataset
    tables = chain.from_iterable(_tables(rounds, commit, name) for name in teachers)
    samples = rounds.samples("train", "unlabeled")["sample_id"].combine_chunks()
    return code(tables, samples, dataset.topics if rounds.config.teachers_see_unseen else dataset.seen, teachers)


def _tables(rounds: Rounds, commit: str, teacher: str) -> Iterator[pa.Table]:
    for table in label_tables(rounds.lake, commit, rounds.dataset.name, teacher):
        if teacher == HUMAN:
            # Human labels of the unlabeled split would be an accident of the annotation tool: that split has none.
            sample = codes(table["sample_id"], rounds.samples("train")["sample_id"].combine_chunks())
            table = table.filter(pa.array((sample >= 0) & (codes(table["topic"], rounds.dataset.seen) >= 0)))
        yield table
