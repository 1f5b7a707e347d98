"""Configuration of students and of how they label, without the libraries that carry it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)

from t2t.core import plugins
from t2t.core.config import Config, Grown, Later
from t2t.core.errors import T2TError
from t2t.data.labels import HUMAN
from t2t.students import GROUP, KINDS
from t2t.students.presets import PRESETS, expanded

# Students as one, and up to how many samples that is worth its cost.
MEMBERS, FEW_SAMPLES = 4, 20_000
# Weights of a student: 80 GB in float32, which no machine of these trains.
MOST_NUMBERS = 20_000_000_000
# The weights of a frame encoder that was tuned for the student's campaign, as a checkpoint carries them.
ENCODER = "encoder.safetensors"


Bias = Annotated[
    float | None,
    Field(
        ge=-1000,
        le=1000,
        description="Initial bias of the logit; null: the logit of the training rows' mean confidence.",
    ),
]


def refuse_too_large(numbers: int) -> None:
    """Raises ValueError for towers of more weights than a machine trains."""
    if numbers > MOST_NUMBERS:
        raise ValueError(
            f"its towers would have {numbers:,} weights, and {MOST_NUMBERS:,} are the most: lower d_model, d_ff, "
            "layers or members"
        )


def no_such_size(size: int | None, sizes: Sequence[int]) -> T2TError:
    """What is said of a size of vectors that a student was not trained for."""
    known = ", ".join(map(str, sizes))
    return T2TError(f"This student has no vectors of size {size}. Its sizes: {known} (student.matryoshka).")


class FrontendConfig(Config):
    """How frame embeddings are prepared."""

    change: bool = Field(True, description="Append each frame's difference from the one before.")
    variation: bool = Field(
        False,
        description="Append how far each frame is from the one before, and from the clip's mean (absolute values).",
    )
    whiten: int | None = Field(None, ge=1, le=65_536, description="Keep so many principal components, whitened.")
    scaling: Literal["each", "whole"] = Field(
        "each",
        description="each: every number is divided by its own standard deviation; whole: all by one, so that what "
        "varies most weighs most, as in principal components.",
    )

    @model_serializer(mode="wrap")
    def _as_before(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `scaling` where it is as it always was: checkpoints and trainings from before it are the same."""
        content: dict[str, Any] = plain(self)
        if self.scaling == "each":
            content.pop("scaling", None)
        return content


class TowerConfig(Config):
    """Size of a T5 encoder."""

    layers: int = Field(2, ge=0, le=256, description="Layers of attention; 0: the mean over frames, or over words.")
    d_model: int = Field(128, ge=8, le=65_536, description="Numbers of a frame or a word between the layers.")
    heads: int = Field(4, ge=1, le=1024, description="Attention heads of a layer.")
    d_ff: int = Field(256, ge=8, le=1_048_576, description="Width of a layer's feed-forward part.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Share of numbers hidden in training.")

    @property
    def numbers(self) -> int:
        """Weights of its layers, about: attention, and a gated feed-forward block."""
        return self.layers * self.d_model * (4 * self.d_model + 3 * self.d_ff)


class TextTowerConfig(TowerConfig):
    """From scratch by default; `pretrained` takes any text encoder (T5, mT5, BERT-like) by hub name or folder."""

    pretrained: str | None = Field(
        None, description="A text encoder by its name on the hub, or its folder; null: one from scratch."
    )
    freeze: bool = Field(False, description="Keep a pretrained encoder's weights (identities are always learned).")
    max_tokens: int = Field(32, ge=1, le=4096, description="Tokens of a topic that are read; the rest is cut.")
    identity_std: float = Field(0.02, ge=0, le=100, description="Standard deviation of a new identity's embedding.")
    identity: Literal["token", "gate"] = Field(
        "token",
        description="Where the teacher's identity enters: as a token before the topic, or as a gate and a shift on "
        "the encoded topic, so that a topic is encoded once for all teachers.",
    )
    head: Literal["linear", "none"] = Field(
        "linear",
        description="What leads from the text tower into the common space; none: its vectors are the space, and `dim` "
        "is their size, so that texts near in meaning stay near.",
    )


class DualEncoderConfig(Config):
    """The student's shape. Defaults train in minutes on two cores."""

    kind: Literal["dual-encoder"] = Field("dual-encoder", description="Two towers that meet in one space.")
    preset: Literal["student-150m", "student-300m"] | None = Field(
        None,
        exclude=True,
        description="A size of the paper by name: sets members, sample and text.pretrained where they are not given "
        "(docs/students.md).",
    )
    dim: int = Field(64, ge=2, le=65_536, description="Size of the common space (64 in the paper).")
    matryoshka: tuple[Annotated[int, Field(ge=2, le=65_536)], ...] = Field(
        (),
        max_length=20,
        description="Smaller sizes that are trained along, as [16, 32, 64]: a vector's first numbers are one of that "
        "size, with a scale and a bias of its own. Each is measured.",
    )
    members: int = Field(
        1, ge=1, le=1000, description="So many students as one, which scores by the mean of their logits."
    )
    frontend: FrontendConfig = Field(FrontendConfig(), description="How frame embeddings are prepared.")
    sample: TowerConfig = Field(TowerConfig(), description="The tower for samples.")
    text: TextTowerConfig = Field(TextTowerConfig(), description="The tower for texts: topics, and who is asked.")
    scale: float = Field(10.0, gt=0, le=10_000, description="Initial scale of the cosine.")
    bias: Bias = None

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        """A preset is its keys, which are what is kept of it."""
        if not isinstance(given, Mapping) or given.get("preset", "") not in (None, *PRESETS):
            return given
        others = {key: value for key, value in given.items() if key != "preset"}
        return expanded(others, PRESETS.get(given["preset"], {}))

    @model_validator(mode="after")
    def _can_be_built(self) -> DualEncoderConfig:
        text = self.text
        if text.head == "none" and text.pretrained is None and text.d_model != self.dim:
            raise ValueError(f"text.head: none needs dim: {text.d_model}, the text tower's size, not {self.dim}")
        refuse_too_large(self.members * (self.sample.numbers + text.numbers))
        sizes = self.matryoshka
        if sizes and (list(sizes) != sorted(set(sizes)) or sizes[-1] >= self.dim):
            raise ValueError(f"matryoshka has sizes below dim ({self.dim}), each once, the smallest first")
        if sizes and text.head == "none":
            raise ValueError("matryoshka needs text.head: linear; a pretrained vector's first numbers are no vector")
        return self


class MultiHeadConfig(Config):
    """One output a topic, and the teacher as a one-hot vector (paper, figure 4c). Its topics are those it was trained
    on: it reads no text, so that a new topic cannot be asked."""

    kind: Literal["multi-head"] = Field(description="One output a topic; the teacher is a one-hot vector.")
    members: int = Field(
        1, ge=1, le=1000, description="So many students as one, which scores by the mean of their logits."
    )
    dim: int = Field(64, ge=2, le=65_536, description="Numbers that the topics' outputs look at.")
    frontend: FrontendConfig = Field(FrontendConfig(), description="How frame embeddings are prepared.")
    sample: TowerConfig = Field(TowerConfig(), description="The tower for samples.")
    identity_std: float = Field(0.02, ge=0, le=100, description="Standard deviation of a new identity's numbers.")
    head_std: float = Field(0.02, ge=0, le=100, description="Standard deviation of a new topic's weights.")
    scale: float = Field(1.0, gt=0, le=10_000, description="Initial factor of an output.")
    bias: Bias = None

    @model_validator(mode="after")
    def _can_be_built(self) -> MultiHeadConfig:
        refuse_too_large(self.members * self.sample.numbers)
        return self


class ReaderConfig(Grown, TowerConfig):
    """The encoder that reads a topic and a clip together."""

    layers: int = Field(2, ge=1, le=256, description="Layers of attention.")
    distance: int = Field(
        16, ge=1, le=4096, description="Places up to which a distance counts by itself; further ones are alike."
    )
    match: Annotated[bool, Later()] = Field(
        False,
        description="Whether what was read is also multiplied with the mean of the clip's frames behind the last "
        "layer, as a dual-encoder's vectors are.",
    )


class EncoderOnlyConfig(Config):
    """Identity, topic and frames in one encoder (paper, sections 2.4 and 3.4.2), beside a small dual-encoder that
    finds what is worth reading: it is trained on the same rows, and no loss of one enters the other."""

    kind: Literal["encoder-only"] = Field(description="Identity, topic and frames in one encoder.")
    attention: Literal["shared", "full"] = Field(
        "shared",
        description="shared: frames do not look at the text, so that they are read once a clip for all its rows; full: "
        "they do, and each row is read by itself, which takes many times as long.",
    )
    members: int = Field(1, ge=1, le=1000, description="So many readers, which score by the mean of their logits.")
    reader: ReaderConfig = Field(ReaderConfig(), description="The encoder of identity, topic and frames.")
    shortlist: int = Field(
        200,
        ge=1,
        le=1_000_000,
        description="Topics of each sample that are read where it labels: the most likely by the dual-encoder; all, "
        "where there are no more.",
    )
    dim: int = Field(64, ge=2, le=65_536, description="Size of the dual-encoder's common space.")
    frontend: FrontendConfig = Field(FrontendConfig(), description="How frame embeddings are prepared.")
    sample: TowerConfig = Field(TowerConfig(layers=0), description="The dual-encoder's tower for samples.")
    text: TowerConfig = Field(TowerConfig(layers=0), description="Its tower for texts.")
    max_tokens: int = Field(32, ge=1, le=4096, description="Tokens of a topic that are read; the rest is cut.")
    identity_std: float = Field(0.02, ge=0, le=100, description="Standard deviation of a new identity's embedding.")
    bias: Bias = None

    @model_validator(mode="after")
    def _can_be_built(self) -> EncoderOnlyConfig:
        refuse_too_large(self.members * self.reader.numbers + self.sample.numbers + self.text.numbers)
        return self

    @property
    def first(self) -> DualEncoderConfig:
        """The dual-encoder beside the reader."""
        text = {**self.text.model_dump(), "max_tokens": self.max_tokens, "identity_std": self.identity_std}
        return DualEncoderConfig(
            dim=self.dim,
            frontend=self.frontend,
            sample=self.sample,
            text=TextTowerConfig(**text, identity="gate"),
            bias=self.bias,
        )


class TaggingConfig(Config):
    """Which pairs a self-training teacher labels, and as whom."""

    identity: str = Field(HUMAN, description="The identity that the student is asked for when it labels.")
    top_k: int = Field(
        10, ge=0, le=1_000_000, description="Topics of each sample that are labeled for being the most likely."
    )
    random: int = Field(10, ge=0, le=1_000_000, description="Further topics of each sample, drawn at random.")
    block: int = Field(1024, ge=1, le=1_000_000, description="Samples labeled at once: those of one table.")


def fitting(frames: int, samples: int, own: bool = False) -> DualEncoderConfig:
    """The student that is taken where a campaign names none: small towers, since frame embeddings say most already.

    Measured on images, videos and texts (docs/results.md): no layer in either tower, so that a topic is the mean of its
    words, and identities as gates. How frames change and vary helps where there are several; of one frame it would be
    columns of zeros. Where samples are few, students differ by chance, and several as one have less of it.

    Args:
        frames: the most that a sample has.
        samples: those that may be trained on.
        own: whether embeddings were made elsewhere, so that their numbers' sizes mean something: a principal component
            that hardly varies is noise, and divided by how little it does it shouts.
    """
    scaling: dict[str, Any] = {"scaling": "whole"} if own else {}
    return DualEncoderConfig(
        members=MEMBERS if samples <= FEW_SAMPLES else 1,
        frontend=FrontendConfig(change=frames > 1, variation=frames > 1, **scaling),
        sample=TowerConfig(layers=0, dropout=0.2),
        text=TextTowerConfig(layers=0, d_model=64, d_ff=128, identity="gate"),
    )


def fitting_of(kind: str, frames: int, samples: int, own: bool = False) -> Any:
    """`fitting`, of each kind that has one; None of others, whose shape is their own.

    Measured as far as docs/students.md says: a multi-head keeps its two layers, which were ahead of none.
    """
    if kind == "multi-head":
        scaling: dict[str, Any] = {"scaling": "whole"} if own else {}
        return MultiHeadConfig(kind="multi-head", frontend=FrontendConfig(change=frames > 1, **scaling))
    like = fitting(frames, samples, own)
    if kind == "dual-encoder":
        return like
    if kind == "encoder-only":
        # One reader of one layer: a second layer takes four times as long, and so do four readers. One layer alone
        # hardly learned what a topic has to do with a clip (docs/students.md), which a product says.
        reader = ReaderConfig(layers=1, dropout=0.2, match=True)
        return EncoderOnlyConfig(kind="encoder-only", frontend=like.frontend, reader=reader, sample=like.sample)
    return None


def _kind_of(value: Any) -> str:
    """A student's kind; the dual-encoder where none is said."""
    kind = value.get("kind", "dual-encoder") if isinstance(value, Mapping) else getattr(value, "kind", "dual-encoder")
    return str(kind)


# Any kind of student: ours, or a plug-in's (entry-point group `t2t.students`).
StudentConfig = Annotated[
    Annotated[DualEncoderConfig, Tag("dual-encoder")]
    | Annotated[MultiHeadConfig, Tag("multi-head")]
    | Annotated[EncoderOnlyConfig, Tag("encoder-only")],
    Discriminator(_kind_of),
    SerializeAsAny(),
    plugins.OpenTo(GROUP, KINDS),
]
