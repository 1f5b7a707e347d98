"""Kind `vlm`: a vision-language model, asked yes or no about each topic of a clip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from t2t.core.errors import T2TError
from t2t.core.progress import progress
from t2t.data.embeddings.config import CROP, Crop, Interpolation
from t2t.data.embeddings.decode import Unreadable
from t2t.data.embeddings.embed import decode_in_order
from t2t.data.embeddings.hub import find_checkpoint, model_type_of
from t2t.data.embeddings.limits import limits_of
from t2t.data.labels import LABEL_SCHEMA
from t2t.teachers.base import TeacherContext, TeacherEntry, entry_fingerprint
from t2t.teachers.vision_language import VisionLanguageModel

# Raised whenever the same entry and files would give other labels.
CODE_VERSION = 1
# Below that a model does answer, and seldom with yes or no.
DOUBTFUL_MASS = 0.5

# The paper's two questions, in our words: is it what the clip is about, and is it to be seen.
PRESETS = {
    "primary-focus": "Look at these pictures, which are frames of one video. Answer with Yes or No only. Is the "
    "following the primary focus of the video? {}",
    "visual-evidence": "Look at these pictures, which are frames of one video. Answer strictly with YES or NO. Do they "
    "give visual evidence of the following? {}",
}
Surface = Annotated[str, Field(min_length=1, max_length=100)]


class Entry(TeacherEntry):
    """A local vision-language model of transformers. One prompt of one model is one teacher.

    The confidence is p(yes) / (p(yes) + p(no)) of the first token of its answer, over all tokens that begin a yes or a
    no. Their mass, p(yes) + p(no), says whether the model answers the question at all.
    """

    kind: Literal["vlm"] = Field("vlm", description="A vision-language model, asked yes or no about each topic.")
    model: str = Field(
        min_length=1,
        description="A folder as save_pretrained writes it (model and processor; a relative one begins in the "
        "dataset's folder), or a name on the hub.",
    )
    revision: str | None = Field(None, description="Of a model on the hub: a commit or tag.")
    prompt: str = Field(
        "visual-evidence",
        min_length=1,
        max_length=20_000,
        description="A question with {} where the topic goes, best at its end; or one of ours: "
        f"{' or '.join(PRESETS)}.",
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

    @field_validator("prompt")
    @classmethod
    def _one_place(cls, value: str) -> str:
        if value not in PRESETS and value.count("{}") != 1:
            raise ValueError(f"{value!r} needs {{}} once, where the topic goes, or is one of {', '.join(PRESETS)}")
        return value


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
        self.remarks: list[str] = []

    @cached_property
    def model(self) -> VisionLanguageModel:
        entry = self.entry
        return VisionLanguageModel(
            self.checkpoint,
            entry.revision,
            PRESETS.get(entry.prompt, entry.prompt),
            entry.yes_words,
            entry.no_words,
            prefill=entry.prefill,
            normalised=entry.score == "normalised",
            block=entry.topics_per_block,
            size=entry.size,
            device=self.context.device,
        )

    @cached_property
    def _identity(self) -> str:
        return self.model.identity()

    def fingerprint(self) -> str:
        """Covers the entry, the prompt's text, and the content of weights, tokenizer, template and preprocessing."""
        prompt = PRESETS.get(self.entry.prompt, self.entry.prompt)
        exclude = ["model", "revision", "prompt", "minimum_mass"]
        return entry_fingerprint(self.entry, f"version {CODE_VERSION}", prompt, self._identity, exclude=exclude)

    def label(self, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
        """Yields one label table, rows ordered by sample. An unreadable video gets no row: it is in quarantine already.

        Raises T2TError when the model does not answer with yes or no.
        """
        if not topics or not len(samples):
            return
        ids, paths = samples["sample_id"].to_pylist(), samples["path"].to_pylist()
        readable: list[str] = []
        scores: list[float] = []
        masses: list[float] = []
        clips = decode_in_order(paths, _Frames(self.entry), limits=limits_of(samples))
        with progress(f"Labeling as {self.entry.id}", len(ids), "videos", part=True) as advance, closing(clips):
            for sample_id, clip in zip(ids, clips, strict=True):
                if not isinstance(clip, Unreadable):
                    answers = self.model.ask(clip, topics)
                    readable.append(sample_id)
                    scores += answers.score
                    masses += answers.mass
                advance()
        if not readable:
            return
        self._judge(np.array(masses))
        rows = np.arange(len(readable)).repeat(len(topics))
        columns = [
            pa.array(readable, pa.string()).take(pa.array(rows)),
            pa.array(topics, pa.string()).take(pa.array(np.tile(np.arange(len(topics)), len(readable)))),
            pa.repeat(pa.scalar(self.entry.id), len(rows)),
            pa.array(np.array(scores, dtype=np.float32)),
        ]
        yield pa.table(columns, schema=LABEL_SCHEMA)

    def _judge(self, mass: np.ndarray) -> None:
        """Tells the mass of yes and no, float64 [labels], and refuses a model that does not answer the question."""
        median = float(np.median(mass))
        if median < self.entry.minimum_mass:
            raise T2TError(
                f"Teacher {self.entry.id!r}: the model does not answer the question: yes and no have {median:.3f} of "
                f"the probability, in the median, and {self.entry.minimum_mass:g} is the least (minimum_mass). Ask for "
                "a yes or no in `prompt`, begin its answer by `prefill`, or name its words in `yes_words` and "
                "`no_words`."
            )
        doubt = "; it often begins with something else" if median < DOUBTFUL_MASS else ""
        written = {
            name: _written(self.model, tokens) for name, tokens in (("yes", self.model.yes), ("no", self.model.no))
        }
        self.remarks = [
            f"Yes and no have {median:.3f} of the probability in the median, {mass.min():.3f} at least{doubt}.",
            f"Answers begin with {written['yes']} for yes and with {written['no']} for no.",
        ]
        if not self.model.shared:
            self.remarks.append("No prefix is shared between topics: this model is asked anew for each, and slowly.")


def _written(model: VisionLanguageModel, tokens: Sequence[int]) -> str:
    return ", ".join(repr(str(model.tokenizer.decode([token]))) for token in tokens)
