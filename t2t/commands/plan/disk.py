"""What a run's files weigh, as those weigh that are there, or some that are made for this."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from t2t.campaign.record import Record
from t2t.commands.plan.rates import label_bytes
from t2t.data.dataset import Dataset
from t2t.lake import Lake
from t2t.lake.layout import LABELS, DatasetLayout
from t2t.students.checkpoint import save
from t2t.teachers.store import registered


def label_size(lake: Lake | None, head: str, layout: DatasetLayout, dataset: Dataset) -> float:
    """Bytes of a label in a table: as they are in the lake, or in a table that is made for this."""
    size = rows = 0
    for entry in lake.list(head, layout.teachers) if lake else ():
        teacher = layout.teacher_of(entry.path, LABELS)
        if lake is not None and teacher is not None:
            registration = registered(lake, dataset.name, teacher, head)
            size, rows = size + entry.size, rows + (registration.rows if registration else 0)
    return size / rows if rows else label_bytes(dataset.sample_ids(), dataset.topics)


def checkpoint_size(work: Path, records: Sequence[Record], make: Callable[[], Any]) -> int | None:
    """Bytes of a checkpoint: of an earlier one, or of a student that is made for this; None where none can be made."""
    for record in reversed(records):
        if (work / record.checkpoint).is_dir():
            return folder_size(work / record.checkpoint)
    student = make()
    if student is None:
        return None
    with tempfile.TemporaryDirectory(prefix="t2t-plan-") as folder:
        save(student, Path(folder) / "student")
        return folder_size(Path(folder))


def folder_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def free_bytes(folder: Path) -> int:
    """Free bytes of the disk where a folder is, or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
