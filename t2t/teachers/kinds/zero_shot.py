"""Kind `zero-shot`: an image-text model (CLIP, SigLIP and their kin) that is asked about topics by their names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator, model_validator

from t2t.core.errors import T2TError, listed
from t2t.core.files import sha256
from t2t.data.embeddings.config import CROP, Crop
from t2t.data.embeddings.dual import DualEncoder
from t2t.data.embeddings.embed import NoneReadable, embed
from t2t.data.embeddings.families import open_open_clip, open_transformers, refuse_entangled
from t2t.data.embeddings.hub import find_checkpoint, find_open_clip
from t2t.data.embeddings.open_clip_model import require_open_clip
from t2t.data.embeddings.pairwise import XClipModel
from t2t.data.embeddings.store import Embeddings, EmbeddingStore
from t2t.data.labels import LABEL_SCHEMA
from t2t.teachers.base import TeacherContext, TeacherEntry, entry_fingerprint

# Raised whenever the same entry and files would give other labels.
CODE_VERSION = 2
BATCH_ROWS = 1 << 18
# What the prior is matched on: so many samples of the dataset are enough to find one number.
PRIOR_SAMPLES = 1024

# What CLIP compares a topic with: things that a clip may well show, none of them a likely topic.
# fmt: off
BACKGROUND = (
    "something", "nothing", "an object", "several objects", "a thing on a table", "a person", "a woman", "a man",
    "a child", "people", "a group of people", "a crowd", "a face", "hands", "an animal", "a plant", "a tree", "trees",
    "grass", "flowers", "the sky", "clouds", "water", "the sea", "a river", "mountains", "a landscape", "the ground",
    "sand", "snow", "a road", "a street", "a city", "a building", "a house", "a room", "a wall", "a floor", "a window",
    "furniture", "a vehicle", "a machine", "a screen", "text", "a drawing", "a logo", "a pattern", "a blurry picture",
    "a dark picture", "a white background",
)
# fmt: on
Template = Annotated[str, Field(min_length=2, max_length=500)]
Background = Annotated[str, Field(min_length=1, max_length=500)]


class Entry(TeacherEntry):
    """An image-text or video-text model of transformers or open_clip. A topic's name is put into each template, and the
    embeddings of these texts are averaged; the confidence follows from the cosine between it and the frames'.

    auto is `sigmoid` for models that have a bias (SigLIP), and `background` for others (CLIP).

    sigmoid: sigmoid(scale * cosine + bias), the model's own.
    background: the topic's share in a softmax over it and the background prompts. No other topic counts, so that a
    new topic changes no old label.
    softmax: over all topics of the dataset. Another list of topics gives other labels, and another fingerprint.
    prior: sigmoid(scale * cosine + b), where b makes the mean confidence over the dataset's unlabeled samples (all
    where there are none) and topics equal to `prior`. Other samples or topics give another fingerprint.
    """

    kind: Literal["zero-shot"] = Field("zero-shot", description="An image-text model, asked about topics by name.")
    model: str = Field(
        min_length=1,
        description="A folder as save_pretrained writes it (model, tokenizer, image processor; a relative one begins "
        "in the dataset's folder), or a name on the hub.",
    )
    library: Literal["transformers", "open_clip"] = Field(
        "transformers", description="Whose checkpoint it is; open_clip: one with open_clip_config.json and safetensors."
    )
    revision: str | None = Field(None, description="Of a model on the hub: a commit or tag.")
    templates: tuple[Template, ...] = Field(
        ("This is a photo of {}.",),
        min_length=1,
        max_length=200,
        description="Sentences with {} where the topic goes; their embeddings are averaged.",
    )
    confidence: Literal["auto", "sigmoid", "background", "softmax", "prior"] = Field(
        "auto", description="What becomes of the cosine; auto: sigmoid for SigLIP, background for CLIP."
    )
    background: tuple[Background, ...] = Field(
        BACKGROUND,
        min_length=1,
        max_length=1000,
        description="For `background`: what a topic is compared with; put into the templates as topics are.",
    )
    prior: float | None = Field(
        None, ge=1e-6, le=1 - 1e-6, description="For `prior`: the mean confidence, for instance the share of positives."
    )
    pool: Literal["mean", "max"] = Field(
        "mean", description="mean: of the frames' embeddings; max: a clip's confidence is that of its best frame."
    )
    scale: float | None = Field(
        None, gt=0, le=1000, description="What cosines are multiplied by, for a model without a scale (VideoPrism)."
    )
    frames: int | None = Field(
        None, ge=1, le=4096, description="Frames of each clip, at most; null: 8, or what a model of clips was made for."
    )
    crop: Crop | None = Field(None, description=f"{CROP} null: as the model's own processor does.")
    lowercase: bool | None = Field(
        None, description="Whether topics and templates are put in lower case; null: yes for SigLIP, no for others."
    )
    batch_size: int | None = Field(
        None, ge=1, le=65_536, description="Frames encoded at once; null: 8 on the CPU, 64 on a GPU."
    )

    @field_validator("templates")
    @classmethod
    def _one_place(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for template in value:
            if template.count("{}") != 1:
                raise ValueError(f"{template!r} needs {{}} once, where the topic goes")
        if len(set(value)) < len(value):
            raise ValueError("a template stands twice")
        return value

    @model_validator(mode="after")
    def _prior_is_said(self) -> Entry:
        if (self.confidence == "prior") != (self.prior is not None):
            raise ValueError("confidence: prior and prior: <a number> belong together")
        return self


class Teacher:
    # What a kill costs at most. Frames are kept as they are encoded, so that it is little.
    shard_samples = 256

    def __init__(self, entry: Entry, context: TeacherContext):
        self.entry = entry
        self.context = context
        if entry.library == "open_clip":
            require_open_clip(entry.id)
            if Path(context.data / entry.model).is_dir():
                find_open_clip(entry.model, None, context.data, entry.id)
        else:
            self.checkpoint = find_checkpoint(entry.model, context.data, entry.id)
            refuse_entangled(self.checkpoint)
        self.remarks: list[str] = []
        self._texts: dict[str, np.ndarray] = {}

    @cached_property
    def model(self) -> DualEncoder:
        entry, context = self.entry, self.context
        settings = (entry.frames, entry.crop, entry.batch_size, context.device)
        if entry.library == "open_clip":
            folder = find_open_clip(entry.model, entry.revision, context.data, entry.id)
            model = open_open_clip(folder, *settings)
        else:
            model = open_transformers(self.checkpoint, entry.revision, *settings)
        about = f"Teacher {entry.id!r}: {model.checkpoint} ({model.model_type})"
        if entry.confidence == "sigmoid" and model.bias is None:
            raise T2TError(
                f"{about} has no bias, and a sigmoid of its cosines says about the same of everything. Take "
                "confidence: background, softmax or prior."
            )
        if model.scale is None and entry.scale is None:
            raise T2TError(f"{about} has no scale of its own: set `scale`, what its cosines are multiplied by.")
        if model.scale is not None and entry.scale is not None:
            raise T2TError(f"{about} has a scale of its own, {model.scale:.4g}: leave `scale` out.")
        if hasattr(model, "encode_clip") and entry.pool == "max":
            raise T2TError(f"{about} has one embedding a clip, so that there is no best frame: leave `pool` out.")
        return model

    @property
    def scale(self) -> float:
        return self.entry.scale if self.model.scale is None else self.model.scale  # type: ignore[return-value]

    @cached_property
    def store(self) -> EmbeddingStore:
        return EmbeddingStore(self.context.work / "embeddings", self.model.fingerprint)

    @cached_property
    def sentences(self) -> EmbeddingStore:
        """Sentences' embeddings, which no process computes twice: float32, kept as twice as many float16."""
        return EmbeddingStore(self.context.work / "embeddings" / "texts", self.model.text_fingerprint)

    @property
    def confidence(self) -> str:
        """The way that is taken, where the entry says auto too."""
        if self.entry.confidence != "auto":
            return self.entry.confidence
        return "background" if self.model.bias is None else "sigmoid"

    def fingerprint(self) -> str:
        """Covers the entry, the content of weights, tokenizer and preprocessing, and what else a confidence depends
        on: the dataset's topics for `softmax`, and its topics and unlabeled samples for `prior`."""
        model = self.model
        used = [model.fingerprint, model.tokenizer_sha256, self.confidence, str(self._lowercase)]
        if self.confidence in ("softmax", "prior"):
            used += sorted(self.context.dataset.topics)
        if self.confidence == "prior":
            used += ["samples", *self._prior_samples()["sample_id"].to_pylist()]
        unused = [] if self.confidence == "background" else ["background"]
        # (The model's fingerprint has its frames, as many as are taken.)
        resolved = ["model", "revision", "frames", "crop", "batch_size", "lowercase", "confidence"]
        return entry_fingerprint(self.entry, f"version {CODE_VERSION}", *used, exclude=[*resolved, *unused])

    def label(self, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
        """Yields label tables, rows ordered by sample. An unreadable video gets no row: it is in quarantine already."""
        if not topics or not len(samples):
            return
        self.remarks = self._remarks(topics)
        try:
            embedded = embed(samples, self.model, self.store, max_unreadable=1.0)
        except NoneReadable:
            return
        self._encoded([*topics, *(self.entry.background if self.confidence == "background" else ())])
        topic_names = pa.array(topics, pa.string())
        step = max(1, min(1024, BATCH_ROWS // len(topics)))
        for start in range(0, len(embedded.sample_ids), step):
            names = embedded.sample_ids[start : start + step]
            scores = self._scores(embedded.embeddings, np.arange(start, start + len(names)), topics)
            rows = np.arange(len(names)).repeat(len(topics))
            columns = [
                pa.array(names, pa.string()).take(pa.array(rows)),
                topic_names.take(pa.array(np.tile(np.arange(len(topics)), len(names)))),
                pa.repeat(pa.scalar(self.entry.id), len(rows)),
                pa.array(scores.reshape(-1).astype(np.float32)),
            ]
            yield pa.table(columns, schema=LABEL_SCHEMA)

    # -- texts -------------------------------------------------------------------------------------------------------

    @property
    def _lowercase(self) -> bool:
        return self.model.lowercase if self.entry.lowercase is None else self.entry.lowercase

    def _sentences(self, topic: str) -> list[str]:
        found = [template.replace("{}", topic) for template in self.entry.templates]
        return [text.lower() for text in found] if self._lowercase else found

    def _encoded(self, topics: Sequence[str]) -> np.ndarray:
        """float64 [topics, dim] of length 1: the templates' mean. Its numbers do not depend on which others are
        asked. For a pairwise model the templates' features, float64 [topics, templates, dim]."""
        new = {topic: self._sentences(topic) for topic in dict.fromkeys(topics) if topic not in self._texts}
        vectors = self._vectors([text for texts in new.values() for text in texts])
        for topic, texts in new.items():
            rows = np.stack([vectors[text] for text in texts]).astype(np.float64)
            pairwise = isinstance(self.model, XClipModel)
            self._texts[topic] = rows if pairwise else self._units(rows.mean(axis=0))
        return np.stack([self._texts[topic] for topic in topics])

    def _vectors(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """float32 [dim] of each text: what is kept, and of the others what the model makes of them now."""
        keys = {sha256(text): text for text in texts}
        if not keys:
            return {}
        self.sentences.refresh()
        if missing := self.sentences.missing(keys):
            made = self.model.texts([keys[key] for key in missing])
            self.sentences.write(missing, [row.view(np.float16)[None] for row in made])
        kept, _ = self.sentences.view(list(keys)).gather(np.arange(len(keys)))
        rows = np.ascontiguousarray(kept[:, 0]).view(np.float32)
        return dict(zip(keys.values(), rows, strict=True))

    def _remarks(self, topics: Sequence[str]) -> list[str]:
        """What the model's text side cannot tell, a sentence each."""
        model = self.model
        long, strange = [], []
        for topic in topics:
            if max(len(model.tokens(text)) for text in self._sentences(topic)) > model.length:
                long.append(topic)
            if not model.knows(topic.lower() if self._lowercase else topic):
                strange.append(topic)
        found = []
        if isinstance(model, XClipModel):
            found.append(
                f"{model.model_type} is pairwise: every topic meets every sample anew, {len(topics):,} topics with "
                "their templates and whatever they are compared with."
            )
        if long:
            found.append(
                f"{len(long):,} of {len(topics):,} topics are longer, with their templates, than the {model.length} "
                f"tokens that {model.model_type} reads, and are cut off: {listed(long, 3)}."
            )
        if strange:
            found.append(f"Of {len(strange):,} topics the tokenizer knows not a word: {listed(strange, 5)}.")
        return found

    # -- confidences -------------------------------------------------------------------------------------------------

    def _scores(self, embeddings: Embeddings, indices: np.ndarray, topics: Sequence[str]) -> np.ndarray:
        """float64 [samples, topics] from 0 to 1; computed in float64, so that neighbours do not move a float32."""
        images, starts = self._images(embeddings, indices)
        logits, way = self._logits(images, topics), self.confidence
        if way == "background":
            logits -= self._rivals(images, topics)
        elif way == "softmax":
            every = self._logits(images, self.context.dataset.topics)
            scores = np.exp(logits - _logsumexp(every)[:, None])
            return np.maximum.reduceat(scores, starts, axis=0).clip(0, 1)
        else:
            logits += self._prior_bias if way == "prior" else self.model.bias
        return np.maximum.reduceat(_sigmoid(logits), starts, axis=0)

    def _logits(self, images: np.ndarray, topics: Sequence[str]) -> np.ndarray:
        """float64 [rows, topics], without a bias."""
        texts = self._encoded(topics)
        if isinstance(self.model, XClipModel):
            return self.scale * np.stack([self.model.meet(clip, texts) for clip in images])
        return np.asarray(self.scale * (images @ texts.T))

    def _images(self, embeddings: Embeddings, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors, float64 [rows, dim], and each sample's first row: one row a sample, or one a frame. Of a
        pairwise model what it keeps of a clip, float16 [samples, 1 + patches, dim]."""
        values, is_frame = embeddings.gather(indices)
        if isinstance(self.model, XClipModel):
            return values, np.arange(len(indices))
        frames = self._units(values.astype(np.float64)) * is_frame[:, :, None]
        if self.entry.pool == "mean":
            return self._units(frames.sum(axis=1)), np.arange(len(indices))
        return frames[is_frame], np.cumsum(is_frame.sum(axis=1)) - is_frame.sum(axis=1)

    def _units(self, values: np.ndarray) -> np.ndarray:
        """Of length 1, where the model compares cosines."""
        length = np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-12)
        return np.asarray(values / length) if self.model.unit else values

    def _rivals(self, images: np.ndarray, topics: Sequence[str]) -> np.ndarray:
        """log of the background's summed odds, float64 [rows, topics]. A topic that is itself among the background
        prompts does not compete with itself."""
        background = self.entry.background
        logits = self._logits(images, background)
        rivals = np.repeat(_logsumexp(logits)[:, None], len(topics), axis=1)
        plain = np.array([_plain(text) for text in background])
        for column, topic in enumerate(topics):
            others = plain != _plain(topic)
            if not others.all() and others.any():
                rivals[:, column] = _logsumexp(logits[:, others])
        return rivals

    def _prior_samples(self) -> pa.Table:
        """The samples that `prior` holds for, ordered by name: unlabeled ones, or all where there are none."""
        samples = self.entry.labeled(self.context.dataset.samples).sort_by("sample_id")
        unlabeled = samples.filter(pc.equal(samples["split"], "unlabeled"))
        return unlabeled if len(unlabeled) else samples

    @cached_property
    def _prior_bias(self) -> float:
        """b, such that the mean of sigmoid(scale * cosine + b) is the prior; found by halving."""
        samples = self._prior_samples()
        chosen = np.unique(np.linspace(0, len(samples) - 1, min(PRIOR_SAMPLES, len(samples))).round().astype(np.int64))
        embedded = embed(samples.take(pa.array(chosen)), self.model, self.store, max_unreadable=1.0)
        images, starts = self._images(embedded.embeddings, np.arange(len(embedded.sample_ids)))
        logits = np.maximum.reduceat(self._logits(images, self.context.dataset.topics), starts, axis=0)
        low, high = -float(logits.max()) - 20, -float(logits.min()) + 20
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if _sigmoid(logits + middle).mean() > self.entry.prior else (middle, high)
        return (low + high) / 2


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))


def _logsumexp(logits: np.ndarray) -> np.ndarray:
    """float64 [rows, N] to [rows]."""
    most = logits.max(axis=1, keepdims=True)
    return np.asarray((most + np.log(np.exp(logits - most).sum(axis=1, keepdims=True)))[:, 0])


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
