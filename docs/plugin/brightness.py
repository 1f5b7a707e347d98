"""Kind `brightness`: how bright a clip is, for topics that a table calls bright or dark.

It runs within t2t's own process and is trusted as t2t is.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import pyarrow as pa
from pydantic import Field

from t2t.data.embeddings.decode import Unreadable, read_frames
from t2t.data.embeddings.limits import limits_of
from t2t.data.labels import LABEL_SCHEMA
from t2t.data.source import SourceFile
from t2t.data.tables import read_table, refuse_duplicates, refuse_outside
from t2t.teachers.base import TeacherContext, TeacherEntry, entry_fingerprint

# Raised whenever this code would give other labels.
CODE_VERSION = 1


class Entry(TeacherEntry):
    """How bright a clip is, from 0 to 1, for topics that a table calls bright or dark."""

    kind: Literal["brightness"] = Field("brightness", description="How bright a clip is.")
    topics: str = Field(
        description="A table with the columns topic and bright (1 for daylight, 0 for night); a relative path begins "
        "in the dataset's folder."
    )
    frames: int = Field(4, ge=1, le=64, description="Frames of each clip, at most.")


class Teacher:
    # So many samples are lost by a kill, at most.
    shard_samples = 256

    def __init__(self, entry: Entry, context: TeacherContext):
        self.entry, self.context = entry, context
        # Its content is taken once, so that what is hashed is what is read.
        self.table = SourceFile(context.data / entry.topics)
        self.remarks: list[str] = []

    def fingerprint(self) -> str:
        """Covers whatever can change a label: the entry, what its file holds (not where it lies), and this code."""
        return entry_fingerprint(self.entry, self.table.sha256(), f"version {CODE_VERSION}", exclude=["topics"])

    def label(self, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
        """A topic that the table does not have gets no row, and neither does a file that cannot be read."""
        bright = self._bright()
        known = [topic for topic in topics if topic in bright]
        silent = len(topics) - len(known)
        self.remarks = [f"{silent:,} of {len(topics):,} topics are not in {self.entry.topics}."] if silent else []
        limits = limits_of(samples)
        for row in samples.to_pylist() if known else ():
            try:
                light = float(read_frames(row["path"], self.entry.frames, 64, limits=limits).mean()) / 255
            except Unreadable:
                continue
            values = [bright[topic] * light + (1 - bright[topic]) * (1 - light) for topic in known]
            n = len(known)
            yield pa.table([[row["sample_id"]] * n, known, [self.entry.id] * n, values], schema=LABEL_SCHEMA)

    def _bright(self) -> dict[str, float]:
        """Of each topic of the table, how bright it is. Raises DataError with file, row and column."""
        table = read_table(self.table, {"topic": pa.string(), "bright": pa.float64()})
        refuse_outside(self.table.path, table, "bright")
        refuse_duplicates(self.table.path, table, ["topic"])
        return dict(zip(table["topic"].to_pylist(), table["bright"].to_pylist(), strict=True))
