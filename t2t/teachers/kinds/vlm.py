"""Kind `vlm`: a vision-language model, asked yes or no about each topic of a clip, or what it sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from t2t.core.errors import DataError
from t2t.core.files import sha256
from t2t.core.progress import progress
from t2t.data.embeddings.config import CROP, Crop, Interpolation
from t2t.data.embeddings.decode import Unreadable
from t2t.data.embeddings.embed import decode_in_order
from t2t.data.embeddings.hub import find_checkpoint, model_type_of
from t2t.data.embeddings.limits import limits_of
from t2t.data.labels import LABEL_SCHEMA
from t2t.data.source import SourceFile
from t2t.teachers.base import TeacherContext, TeacherEntry, entry_fingerprint
from t2t.teachers.masses import Masses
from t2t.teachers.naming.asking import Naming
from t2t.teachers.naming.config import OPEN_DEFAULTS, OPEN_KEYS, OPEN_PRESETS, OpenPrompt
from t2t.teachers.naming.encoder import TextEncoder
from t2t.teachers.naming.topics import Topics
from t2t.teachers.vision_language import VisionLanguageModel
from t2t.teachers.yes_or_no import YesOrNo

# Raised whenever the same entry and files would give other labels.
CODE_VERSION = 1

# The paper's two closed questions, in our words: is it what the clip is about, and is it to be seen.
CLOSED_PRESETS = {
    "primary-focus": "Look at these pictures, which are frames of one video. Answer with Yes or No only. Is the "
    "following the primary focus of the video? {}",
    "visual-evidence": "Look at these pictures, which are frames of one video. Answer strictly with YES or NO. Do they "
    "give visual evidence of the following? {}",
}
CLOSED_DEFAULT = "visual-evidence"
# Keys that say nothing where free text is asked for.
CLOSED_KEYS = ("yes_words", "no_words", "score", "minimum_mass", "topics_per_block")
Surface = Annotated[str, Field(min_length=1, max_length=100)]


class Entry(OpenPrompt, TeacherEntry):
    """A local vision-language model of transformers. One prompt of one model is one teacher.

    Asked yes or no, the confidence is p(yes) / (p(yes) + p(no)) of the first token of its answer, over all tokens that
    begin a yes or a no. Their mass, p(yes) + p(no), says whether the model answers the question at all. Asked what it
    sees, it is the probability of the name that it writes.
    """

    kind: Literal["vlm"] = Field("vlm", description="A vision-language model, asked about clips in words.")
    model: str = Field(
        min_length=1,
        description="A folder as save_pretrained writes it (model and processor; a relative one begins in the "
        "dataset's folder), or a name on the hub.",
    )
    revision: str | None = Field(None, description="Of a model on the hub: a commit or tag.")
    prompt: str | None = Field(
        None,
        min_length=1,
        max_length=20_000,
        description="A question, or one of ours. closed: with {} where the topic goes, best at its end, or "
        f"{' or '.join(CLOSED_PRESETS)}. open, candidates: {', '.join(OPEN_PRESETS)}, or one of yours, with {{}} for "
        "the list of topics where negatives are listed. null: visual-evidence, name, names, choose or choose-all, as "
        "`ask` and `negatives` are.",
    )
    yes_words: tuple[Surface, ...] = Field(
        ("yes",),
        min_length=1,
        max_length=100,
        description="How a yes may be written, in quotes; capitals and blanks before it are tried by themselves.",
    )
    no_words: tuple[Surface, ...] = Field(
        ("no",), min_length=1, max_length=100, description="How a no may be written, as yes_words."
    )
    prefill: str = Field("", max_length=1000, description="What the model's answer begins with, such as 'Answer:'.")
    score: Literal["normalised", "p_yes"] = Field(
        "normalised", description="p(yes) / (p(yes) + p(no)), or p(yes) among all tokens."
    )
    minimum_mass: float = Field(
        0.2, ge=0, le=1, description="Refuse the labels when p(yes) + p(no) is less than this, in the median."
    )
    frames: int = Field(4, ge=1, le=512, description="Frames of each clip, at most.")
    size: int = Field(336, ge=8, le=4096, description="Side of the square that frames are scaled to, in pixels.")
    crop: Crop = Field("squash", description=CROP)
    topics_per_block: int = Field(32, ge=1, le=4096, description="Topics that go through the model together.")

    @property
    def question(self) -> str:
        """The prompt's text, with {} where something goes."""
        default = CLOSED_DEFAULT if self.ask == "closed" else OPEN_DEFAULTS[self.ask, self.negatives]
        written = self.prompt or default
        return (CLOSED_PRESETS | OPEN_PRESETS).get(written, written)

    @model_validator(mode="after")
    def _fits_the_way_of_asking(self) -> Entry:
        presets, others = CLOSED_PRESETS, OPEN_PRESETS
        if self.ask != "closed":
            given = [key for key in CLOSED_KEYS if getattr(self, key) != type(self).model_fields[key].default]
            if given:
                raise ValueError(f"{', '.join(given)}: for ask: closed only")
            presets, others = others, presets
        if self.prompt in others:
            raise ValueError(f"prompt: {self.prompt!r} is no question for ask: {self.ask}; {', '.join(presets)} are")
        places, written = self.question.count("{}"), self.prompt or "the default"
        if self.ask == "closed" and places != 1:
            raise ValueError(
                f"prompt: {written!r} needs {{}} once, where the topic goes, or is one of {', '.join(presets)}"
            )
        if self.ask != "closed" and places != (self.negatives == "listed"):
            raise ValueError(
                f"prompt: {written!r} needs {{}} once, where the list of topics goes, with negatives: listed, and "
                "nowhere with negatives: none"
            )
        return self


class _Frames:
    """What decoding needs to know."""

    interpolation: Interpolation = "bicubic"
    batch_size = 1

    def __init__(self, entry: Entry):
        self.frames, self.size, self.crop = entry.frames, entry.size, entry.crop


class Teacher:
    # Minutes on a GPU: what a kill costs at most.
    shard_samples = 32

    def __init__(self, entry: Entry, context: TeacherContext):
        self.entry = entry
        self.context = context
        self.checkpoint = find_checkpoint(entry.model, context.data, entry.id)
        model_type_of(self.checkpoint)
        self.masses = Masses()
        # What is wrong with these is said before a model is loaded.
        self._aliases = self._file(entry.aliases) if entry.aliases else None
        self._encoder_at = find_checkpoint(entry.nearest, context.data, entry.id) if entry.nearest else None
        self.topics = self._topics() if entry.ask != "closed" else None

    def _file(self, written: str) -> SourceFile:
        path = Path(written)
        if not path.is_absolute():
            path = self.context.data / path
        if not path.is_file():
            raise DataError(path, f"no such file (aliases of teacher {self.entry.id!r}).")
        return SourceFile(path)

    def _topics(self) -> Topics:
        entry = self.entry
        embed = (lambda texts: self.encoder.embed(texts)) if entry.nearest else None
        return Topics(
            self.context.dataset.topics, entry.id, self._aliases, entry.nothing, embed, entry.threshold or 0.0
        )

    @cached_property
    def encoder(self) -> TextEncoder:
        assert self._encoder_at is not None
        return TextEncoder(self._encoder_at, self.entry.nearest_revision, self.context.device)

    @cached_property
    def model(self) -> VisionLanguageModel:
        entry = self.entry
        model = VisionLanguageModel(self.checkpoint, entry.revision, prefill=entry.prefill, device=self.context.device)
        model.refuse_blind(entry.size)
        return model

    @cached_property
    def closed(self) -> YesOrNo:
        entry = self.entry
        return YesOrNo(
            self.checkpoint,
            entry.revision,
            entry.question,
            entry.yes_words,
            entry.no_words,
            prefill=entry.prefill,
            normalised=entry.score == "normalised",
            block=entry.topics_per_block,
            frames=entry.frames,
            size=entry.size,
            device=self.context.device,
        )

    @cached_property
    def naming(self) -> Naming:
        entry, model, topics = self.entry, self.model, self.topics
        assert topics is not None
        question = self._question
        seen = (self._identity, question, entry.prefill, entry.max_new_tokens, entry.frames, entry.size, entry.crop)
        return Naming(
            entry.id,
            self.context.dataset.name,
            self.context.work,
            sha256(f"version {CODE_VERSION}", *map(str, seen)),
            entry,
            topics,
            _Frames(entry),
            lambda clip: model.say(clip, question, entry.max_new_tokens),
        )

    @property
    def _question(self) -> str:
        """For free text: the prompt's text, with the dataset's topics where they are listed."""
        topics = (self.model.harmless(topic) for topic in self.context.dataset.topics)
        return self.entry.question.replace("{}", "\n".join(topics))

    @cached_property
    def _identity(self) -> str:
        if self.entry.ask == "closed":
            return self.closed.identity()
        return sha256(self.model.identity(), *map(str, self.model.ending()))

    @property
    def remarks(self) -> list[str]:
        return self.masses.remarks(self.closed) if self.entry.ask == "closed" else self.naming.remarks()

    def fingerprint(self) -> str:
        """Covers the entry, the prompt's text, and the content of weights, tokenizer, template and preprocessing.

        For free text also the aliases' and the encoder's content; and the dataset's topics, where the prompt lists
        them or the nearest one counts.
        """
        entry = self.entry
        resolved = ["model", "revision", "prompt", "minimum_mass", "aliases", "nearest", "nearest_revision"]
        if entry.ask == "closed":
            used = [entry.question, self._identity]
            return entry_fingerprint(entry, f"version {CODE_VERSION}", *used, exclude=[*resolved, "ask", *OPEN_KEYS])
        used = [self._question, self._identity, self._aliases.sha256() if self._aliases else "no aliases"]
        if entry.nearest:
            used += [self.encoder.fingerprint, *sorted(self.context.dataset.topics)]
        return entry_fingerprint(entry, f"version {CODE_VERSION}", *used, exclude=[*resolved, *CLOSED_KEYS])

    def label(self, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
        """Yields one label table, rows ordered by sample. An unreadable video gets no row: it is in quarantine already.

        Raises T2TError when the model is asked yes or no and answers something else.
        """
        if topics and len(samples):
            yield from (
                self._yes_or_no(samples, topics) if self.entry.ask == "closed" else self.naming.label(samples, topics)
            )

    def _yes_or_no(self, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
        ids, paths = samples["sample_id"].to_pylist(), samples["path"].to_pylist()
        readable: list[str] = []
        scores: list[float] = []
        masses = Masses()
        clips = decode_in_order(paths, _Frames(self.entry), limits=limits_of(samples))
        with progress(f"Labeling as {self.entry.id}", len(ids), "videos", part=True) as advance, closing(clips):
            for sample_id, clip in zip(ids, clips, strict=True):
                if not isinstance(clip, Unreadable):
                    answers = self.closed.ask(clip, topics)
                    readable.append(sample_id)
                    scores += answers.score
                    masses.add(answers)
                advance()
        if not readable:
            return
        masses.judge(self.entry.id, self.entry.minimum_mass)
        self.masses += masses
        rows = np.arange(len(readable)).repeat(len(topics))
        columns = [
            pa.array(readable, pa.string()).take(pa.array(rows)),
            pa.array(topics, pa.string()).take(pa.array(np.tile(np.arange(len(topics)), len(readable)))),
            pa.repeat(pa.scalar(self.entry.id), len(rows)),
            pa.array(np.array(scores, dtype=np.float32)),
        ]
        yield pa.table(columns, schema=LABEL_SCHEMA)
