"""A teacher that names what it sees: asks about each clip once, maps what was said to topics, and counts the rest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from t2t.core.locks import held_folder
from t2t.core.progress import progress
from t2t.data.embeddings.decode import Unreadable
from t2t.data.embeddings.embed import decode_in_order
from t2t.data.embeddings.encoders import Preprocessing
from t2t.data.embeddings.limits import limits_of
from t2t.data.labels import LABEL_SCHEMA
from t2t.data.remote import is_remote, sha256_of
from t2t.teachers.naming.config import OpenPrompt
from t2t.teachers.naming.counts import Counts
from t2t.teachers.naming.kept import Answer, Kept
from t2t.teachers.naming.texts import Named, named
from t2t.teachers.naming.topics import Topics, Way
from t2t.teachers.vision_language import Spoken


@dataclass(frozen=True)
class Naming:
    """What a teacher of free text does with its answers.

    Args:
        teacher: its id. dataset: the dataset's name. work: the work folder. question: SHA-256 of all that an answer
            depends on, but for the clip.
        frames: what decoding needs to know. say: uint8 [F, size, size, 3], one clip, to an answer.
    """

    teacher: str
    dataset: str
    work: Path
    question: str
    rules: OpenPrompt
    topics: Topics
    frames: Preprocessing
    say: Callable[[np.ndarray], Spoken]

    @cached_property
    def kept(self) -> Kept:
        return Kept(self.work, self.question)

    @cached_property
    def counts(self) -> Counts:
        return Counts()

    @property
    def proposed(self) -> Path:
        """The table of what stands for no topic."""
        return self.work / "proposed" / self.dataset / f"{self.teacher}.csv"

    def remarks(self) -> list[str]:
        """Of all that was ever answered about this dataset, by whichever process: a sentence each."""
        self._count()
        return self.counts.remarks(len(self.topics.topics), self.proposed)

    def label(self, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
        """Yields one label table, rows ordered by sample.

        No row for a clip that cannot be read, and none for a topic that is not named, unless `negatives` says
        otherwise. What is new is on the disk, counted, before the first row is given.
        """
        self._count()
        ids = samples["sample_id"].to_pylist()
        answers = self._answers(ids, samples)
        self._count()
        rows = [
            (answer.sample_id, topic, confidence)
            for answer in answers
            for topic, confidence in self._confidences(answer.spoken, topics)
        ]
        columns = [
            pa.array([row[0] for row in rows], pa.string()),
            pa.array([row[1] for row in rows], pa.string()),
            pa.repeat(pa.scalar(self.teacher), len(rows)),
            pa.array([row[2] for row in rows], pa.float32()),
        ]
        yield pa.table(columns, schema=LABEL_SCHEMA)

    def _answers(self, ids: Sequence[str], samples: pa.Table) -> list[Answer]:
        """Those kept, and those asked for now, which are kept then; in the samples' order."""
        paths = samples["path"].to_pylist()
        contents = [_content(path) for path in paths]
        # Copies of a clip are asked once.
        wanted = {content: path for content, path in zip(contents, paths, strict=True) if content}
        missing = {content: path for content, path in wanted.items() if self.kept.get(content) is None}
        said = {content: spoken for content in wanted if (spoken := self.kept.get(content)) is not None}
        clips = decode_in_order(list(missing.values()), self.frames, limits=limits_of(samples))
        with progress(f"Labeling as {self.teacher}", len(ids), "videos", part=True) as advance, closing(clips):
            for content, clip in zip(missing, clips, strict=True):
                if not isinstance(clip, Unreadable):
                    said[content] = self.say(clip)
                advance()
            advance(len(ids) - len(missing))
        found = [
            Answer(sample_id, content, said[content])
            for sample_id, content in zip(ids, contents, strict=True)
            if content in said
        ]
        self.kept.write(
            self.dataset,
            [answer for answer in found if answer.content in missing or answer.sample_id not in self.counts.samples],
        )
        return found

    def _count(self) -> None:
        """Counts what was written since, here or elsewhere, and writes the table of proposed topics anew.

        Held, so that whoever comes last has seen the others' answers.
        """
        self.proposed.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with held_folder(self.proposed.parent):
            new = self.kept.refresh()
            for name in new:
                for answer in self.kept.of(name, self.dataset):
                    self.counts.add(answer.sample_id, self._read(answer.spoken))
            if new:
                self.counts.write(self.proposed)

    def _read(self, spoken: Spoken) -> list[tuple[Named, str | None, Way]]:
        rules = self.rules
        names = named(
            spoken.text, spoken.ends, spoken.logprobs, spoken.ended, rules.ask == "candidates", rules.text_score
        )
        return [(name, *self.topics.of(name)) for name in names]

    def _confidences(self, spoken: Spoken, topics: Sequence[str]) -> Iterator[tuple[str, float]]:
        """The labels of one clip, in the order of `topics`. Of two names for a topic the surer one counts."""
        found = self._read(spoken)
        best: dict[str, float] = {}
        for name, topic, _ in found:
            if topic is not None:
                best[topic] = max(name.confidence, best.get(topic, 0.0))
        # An answer that speaks of something else, or ends in the middle, has not gone through the list.
        went_through = bool(best) or any(way == "nothing" for _, _, way in found)
        zeros = self.rules.negatives == "listed" and went_through and not any(name.cut for name, _, _ in found)
        for topic in topics:
            if topic in best or zeros:
                yield topic, best.get(topic, 0.0)


def _content(path: str) -> str | None:
    """A file's SHA-256; None of what is no file, or cannot be read or fetched."""
    try:
        return sha256_of(path) if is_remote(path) or os.path.isfile(path) else None
    except OSError:
        return None
