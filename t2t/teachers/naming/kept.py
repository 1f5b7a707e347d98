"""What models wrote, kept by content in `<work>/answers/`, outside of the lake: a clip is asked one question once.

So a run that was killed asks nothing again, a topic that is added or an alias that is mended costs nothing, and the
table of proposed topics can be counted anew at any time. All of it is derived: who deletes it has it asked again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from t2t.core.errors import one_line
from t2t.core.files import sha256
from t2t.data.labels import write_parquet
from t2t.teachers.vision_language import Spoken

log = logging.getLogger("t2t")

SCHEMA = pa.schema(
    [
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("content", pa.string(), nullable=False),  # SHA-256 of the sample's file
        pa.field("text", pa.string(), nullable=False),
        pa.field("ends", pa.list_(pa.int32()), nullable=False),
        pa.field("logprobs", pa.list_(pa.float32()), nullable=False),
        pa.field("ended", pa.bool_(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Answer:
    """A sample's answer."""

    sample_id: str
    content: str
    spoken: Spoken


class Kept:
    """The answers to one question, of any number of processes that see the same folder.

    Args:
        question: SHA-256 of all that an answer depends on, but for the sample.
    """

    def __init__(self, work: Path, question: str):
        self.folder = work / "answers" / question[:32]
        self._tables: dict[str, pa.Table] = {}
        self._rows: dict[str, tuple[str, int]] = {}

    def refresh(self) -> list[str]:
        """Takes in what was written since; returns the names of these files."""
        new = []
        for file in sorted(self.folder.glob("*.parquet")):
            if file.name in self._tables:
                continue
            try:
                table = pq.read_table(file, schema=SCHEMA)
            except FileNotFoundError:
                continue
            except (pa.ArrowException, OSError) as error:
                log.warning("%s: damaged (%s): its clips are asked again.", file, one_line(error, 100))
                file.unlink(missing_ok=True)
                continue
            self._tables[file.name] = table
            new.append(file.name)
            for row, content in enumerate(table["content"].to_pylist()):
                self._rows.setdefault(content, (file.name, row))
        return new

    def get(self, content: str) -> Spoken | None:
        """What was answered about a file, by its SHA-256."""
        place = self._rows.get(content)
        return None if place is None else _answer(self._tables[place[0]], place[1]).spoken

    def of(self, name: str, dataset: str) -> Iterator[Answer]:
        """The answers of one file about samples of a dataset."""
        table = self._tables[name]
        for row, whose in enumerate(table["dataset"].to_pylist()):
            if whose == dataset:
                yield _answer(table, row)

    def write(self, dataset: str, answers: Sequence[Answer]) -> None:
        """Keeps answers in a file of their own, atomically. The same ones again are the same file."""
        if not answers:
            return
        name = sha256(dataset, *(text for answer in answers for text in (answer.sample_id, answer.content)))[:32]
        rows = [
            {
                "dataset": dataset,
                "sample_id": answer.sample_id,
                "content": answer.content,
                "text": answer.spoken.text,
                "ends": answer.spoken.ends,
                "logprobs": answer.spoken.logprobs,
                "ended": answer.spoken.ended,
            }
            for answer in answers
        ]
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_parquet(pa.Table.from_pylist(rows, SCHEMA), self.folder / f"{name}.parquet")


def _answer(table: pa.Table, row: int) -> Answer:
    values = {name: table[name][row].as_py() for name in SCHEMA.names}
    spoken = Spoken(values["text"], tuple(values["ends"]), tuple(values["logprobs"]), values["ended"])
    return Answer(values["sample_id"], values["content"], spoken)
