"""A trained student that looks at files: with the frame encoder that it was trained behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from t2t.core.errors import T2TError, expect, nearest, one_line
from t2t.core.host import find_device
from t2t.data.embeddings.decode import Unreadable
from t2t.data.embeddings.embed import decode_in_order
from t2t.data.embeddings.encoders import FrameEncoder, build_encoder, encoded, refuse_not_finite
from t2t.data.embeddings.store import Embeddings
from t2t.data.labels import HUMAN
from t2t.students.base import check_topics
from t2t.students.checkpoint import load, load_checked, read_encoder
from t2t.students.sizes import ask_size


class Scorer:
    """Scores files: any video or image, under any identity that its student knows.

    A checkpoint does not say whom its campaign asks (`evaluation.identity`); unless somebody says, it is people.

    Args:
        folder: a checkpoint.
        identity: whom it answers as where nobody says.
        device: torch device; chosen automatically when None.
        weights_sha256: of the weights, where they are known; others raise T2TError.
        dim: size of the vectors that it scores by, one that its student was trained for; the whole when None.

    Attributes: student, in evaluation mode. identity: may be set.
    """

    def __init__(
        self,
        folder: str | Path,
        identity: str = HUMAN,
        device: str | None = None,
        weights_sha256: str | None = None,
        dim: int | None = None,
    ):
        if hasattr(folder, "checkpoint"):
            raise T2TError("A record is no folder: load_student(campaign.checkpoint(record)).")
        expect(folder, (str, Path), "A checkpoint is named by its folder")
        self.folder, self.identity, self.device = Path(folder), identity, device or find_device()
        if weights_sha256 is None:
            self.student: Any = load(self.folder, self.device)
        else:
            self.student = load_checked(self.folder, weights_sha256, self.device)
        if dim is not None:
            ask_size(self.student, dim)

    def __repr__(self) -> str:
        return f"Scorer({str(self.folder)!r}, identity {self.identity!r}, on {self.device})"

    @property
    def teachers(self) -> list[str]:
        """The identities that can be asked."""
        return list(self.student.teachers)

    @cached_property
    def encoder(self) -> FrameEncoder:
        """The frame encoder of the checkpoint's config.json. Raises T2TError where its weights are not here."""
        return build_encoder(read_encoder(self.folder), self.device)

    def embed_each(self, files: Sequence[str | Path]) -> Iterator[np.ndarray | Unreadable]:
        """Of each file, in order, its frames' embeddings, float16 [frames, dim], or why it cannot be read."""
        with closing(decode_in_order([str(file) for file in files], self.encoder)) as clips:
            for file, clip in zip(files, clips, strict=True):
                if isinstance(clip, Unreadable):
                    yield clip
                    continue
                embedding = encoded(self.encoder, clip)
                refuse_not_finite(self.encoder, file, embedding)
                yield embedding

    def embed(self, files: Sequence[str | Path]) -> Embeddings:
        """The embeddings of files, in their order; nothing is stored. Raises T2TError for one that cannot be read."""
        embedded = []
        for file, clip in zip(files, self.embed_each(files), strict=True):
            if isinstance(clip, Unreadable):
                raise T2TError(f"{file}: {clip}.")
            embedded.append(clip)
        return Embeddings.of(embedded)

    def check(self, topics: Iterable[str], identity: str | None = None) -> str:
        """Whom it answers as. Raises T2TError for topics that are no texts or that it cannot be asked about, or an
        identity that it does not know."""
        topics = list(topics)
        for topic in topics:
            expect(topic, str, "Topics are texts")
            try:
                topic.encode("utf-8")
            except UnicodeEncodeError:
                raise T2TError(f"Topics are texts, and {topic!r} has half a character.") from None
        check_topics(self.student, topics)
        asked = self.identity if identity is None else identity
        expect(asked, str, "An identity is a text")
        if asked not in self.teachers:
            raise T2TError(f"This student has no identity {asked!r}.{nearest(asked, self.teachers)}")
        return asked

    def score(self, files: Iterable[str | Path], topics: Iterable[str], identity: str | None = None) -> np.ndarray:
        """Confidences that the files show the topics, float32 [files, topics] in 0..1.

        Args:
            files: videos and images, in any mixture. topics: any texts.
            identity: the teacher to answer as; the scorer's own when None.

        Raises T2TError for a file that cannot be read, or an identity that the student does not know.
        """
        if isinstance(files, str | Path) or isinstance(topics, str):
            raise T2TError("score takes lists: student.score(['a.mp4'], ['red star']).")
        for given, words in ((files, "files"), (topics, "topics")):
            if isinstance(given, bytes) or not isinstance(given, Iterable):
                raise T2TError(f"score takes lists, and {words} is {one_line(repr(given), 80)}.")
        files, topics = list(files), list(topics)
        for file in files:
            expect(file, (str, Path), "A file is named by its path")
        asked = self.check(topics, identity)  # before a video is decoded
        if not files or not topics:
            return np.empty((len(files), len(topics)), np.float32)
        scores: np.ndarray = self.student.predict(self.embed(files), np.arange(len(files)), topics, asked)
        return scores


def load_student(folder: str | Path, device: str | None = None, dim: int | None = None) -> Scorer:
    """A trained student that scores files: `load_student(folder).score(["a.mp4", "b.mp4"], ["red star"])`.

    Args:
        folder: a checkpoint, such as `work/campaigns/demo/round-002/student`.
        device: torch device; chosen automatically when None.
        dim: size of the vectors that it scores by, one of those it was trained for; the whole when None.

    It answers as `human`: what people would say. `.teachers` names the other identities, and `score` takes one.

    Raises T2TError where the folder holds no checkpoint, a damaged one, or a student without that size.
    """
    return Scorer(folder, device=device, dim=dim)
