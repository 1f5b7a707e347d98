"""A distillation as people write it, `registry/distillations/<name>.yaml`, without the libraries that carry it out."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from t2t.campaign.config import LARGEST_SEED, NAME
from t2t.core.config import Config, Free
from t2t.data.embeddings.config import Interpolation, Mean, Std, TimmWeightsConfig

# Beyond it a number is a slip of the keyboard.
MOST = 10**9
# The reference's learning rate, of so many frames in a batch; it grows with the batch.
RATE, RATE_BATCH = 3e-4, 256

Called = Annotated[str, Field(pattern=NAME, description="What curves and tables call it.")]
# `concatenation` and `student` stand beside the teachers in tables.
RESERVED = ("student", "concatenation", "all")


def _refuse_twice(key: str, names: tuple[Any, ...]) -> None:
    twice = [str(name) for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{key}: named twice: {', '.join(twice)}")


class TimmTeacherConfig(TimmWeightsConfig):
    """A timm model as a teacher, with its own normalisation of the crop that all look at."""

    name: Called
    kind: Literal["timm"] = Field("timm", description="A backbone of the timm library.")
    interpolation: Interpolation | None = Field(None, description="For scaling the crop; null: the model's own.")


class TransformersTeacherConfig(Config):
    """A vision encoder of transformers as a teacher: CLIP's and SigLIP's vision towers, DINOv2, ViT."""

    name: Called
    kind: Literal["transformers"] = Field("transformers", description="A vision encoder of the transformers library.")
    model: str = Field(
        min_length=1,
        description="A folder as save_pretrained writes it (model and preprocessing), or a name on the hub.",
    )
    revision: str | None = Field(None, description="Of a model on the hub: a commit or tag.")
    mean: Mean | tuple[Mean, Mean, Mean] | None = Field(None, description="Of channels in 0..1; null: the model's.")
    std: Std | tuple[Std, Std, Std] | None = Field(None, description="As mean.")
    size: int | None = Field(None, ge=8, le=4096, description="Side of the square input; null: the model's own.")
    interpolation: Interpolation | None = Field(None, description="For scaling the crop; null: the model's own.")


FeatureTeacherConfig = Annotated[TimmTeacherConfig | TransformersTeacherConfig, Field(discriminator="kind")]


class FramesConfig(Config):
    """The frames that are looked at; of images there is one."""

    per_sample: int = Field(8, ge=1, le=4096, description="Frames of each video, at most.")
    most: int | None = Field(None, ge=2, le=MOST, description="Frames in all, drawn evenly; null: all there are.")
    size: int = Field(
        128, ge=8, le=4096, description="Side of the square that is kept: the short side scaled, the middle cut out."
    )


class EncoderStudentConfig(TimmWeightsConfig):
    """What learns: any timm model. What comes out of it is the distilled encoder."""

    pretrained: bool = Field(False, description="Start from timm's own weights, from the hub; else from random ones.")
    size: int = Field(96, ge=8, le=4096, description="Side of the square input, in training and ever after.")
    drop_path: float = Field(0.0, ge=0, lt=1, description="Share of residual branches left out, deepest blocks most.")


class FeatureLossConfig(Config):
    """The loss of a token, ½(1 - cosine) + ½ smooth-L1 in the reference; of tokens the mean, and of token types too."""

    cosine: float = Field(0.5, ge=0, le=1000, description="Weight of 1 - cosine.")
    smooth_l1: float = Field(
        0.5, ge=0, le=1000, description="Weight of smooth L1 (its bend at 1), a mean over numbers."
    )
    patches: bool = Field(True, description="Whether patch tokens are learned beside the CLS token.")

    @model_validator(mode="after")
    def _something_is_learned(self) -> FeatureLossConfig:
        if self.cosine == self.smooth_l1 == 0:
            raise ValueError("cosine and smooth_l1 are both 0, so there is no loss; give one of them a weight")
        return self


class StandardiseConfig(Config):
    """How teachers' features are brought to one scale, for each teacher and token type."""

    by: Literal["ema", "phi-s", "none"] = Field(
        "ema",
        description="ema: every number by its moving mean and deviation; phi-s: one rotation and one scale after which "
        "every number has variance 1; none: as they are.",
    )
    momentum_start: float = Field(1.0, gt=0, le=1, description="ema: the weight of the first batch.")
    momentum_end: float = Field(
        0.001, ge=0, le=1, description="ema: the weight of the last one; between them a cosine over the training."
    )
    estimate_on: int = Field(
        4096, ge=2, le=MOST, description="phi-s: frames from which mean and covariance are taken before the training."
    )


class ProjectorsConfig(Config):
    """From the student to each teacher's space: linear, GELU, linear. They fall away when the encoder is saved."""

    dedicated: bool = Field(True, description="One projector for CLS and one for patches; else one for both.")
    ladder: bool = Field(True, description="A projector behind every block, summed; else behind the last one only.")
    hidden: int | None = Field(None, ge=1, le=65_536, description="Width behind a block; null: the block's own.")
    last: int | None = Field(
        None, ge=1, le=65_536, description="Width behind the last block; null: four times its own."
    )


class DropConfig(Config):
    """Teacher dropping: of each frame the worst-learned teacher stays, and each other one is left out at this rate."""

    rate: float = Field(0.5, ge=0, le=1, description="Of leaving a teacher out; 0 is off. Never in an evaluation.")


class DistillationTrainingConfig(Config):
    """The recipe, the reference's where nothing else is said."""

    epochs: int = Field(30, ge=1, le=1_000_000, description="Times that every frame is looked at.")
    steps: int | None = Field(None, ge=1, le=MOST, description="Steps of the optimiser; null: as epochs say.")
    batch: int = Field(128, ge=1, le=1_000_000, description="Frames of a batch, of all workers together.")
    learning_rate: float | None = Field(
        None, gt=0, le=1000, description="Its highest value; null: 3e-4 times batch/256, as in the reference."
    )
    min_learning_rate: float = Field(1e-6, ge=0, le=1000, description="Where its cosine ends.")
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    weight_decay: float = Field(0.03, ge=0, le=1000, description="AdamW's, of weights; norms and biases have none.")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        (0.9, 0.99), description="AdamW's."
    )
    clip: float | None = Field(None, gt=0, le=1e12, description="Largest norm of the gradient; null: any.")
    precision: Literal["auto", "float32", "bf16"] = Field(
        "auto", description="Of the student's arithmetic; auto: bf16 on CUDA, else float32. Weights are float32."
    )
    seed: int = Field(0, ge=0, le=LARGEST_SEED, description="Of weights, order, views and what is dropped.")
    held_out: float = Field(
        0.05, ge=0, le=0.5, description="Share of the samples whose frames are not learned: their loss is the curve's."
    )
    evaluate_every: int = Field(200, ge=1, le=MOST, description="Steps between looks at the held-out frames.")
    evaluate_on: int = Field(512, ge=1, le=MOST, description="Held-out frames that are looked at, at most.")
    snapshot_minutes: Annotated[float, Free()] = Field(
        5.0, gt=0, le=100_000, description="Minutes between snapshots, from which a killed run goes on."
    )
    snapshot_steps: Annotated[int | None, Free()] = Field(
        None, ge=1, le=MOST, description="Steps between snapshots, besides the minutes."
    )
    workers: Annotated[int, Free()] = Field(
        1, ge=1, le=10_000, description="Processes that share each batch: GPUs of this machine."
    )
    threads: Annotated[int | None, Free()] = Field(
        None, ge=1, le=10_000, description="Of the arithmetic on the CPU; null: torch's own."
    )

    def steps_for(self, frames: int) -> int:
        """Steps of the optimiser for so many frames: whole batches, what is left of an epoch begins the next one."""
        return self.steps or max(1, round(self.epochs * frames / self.batch))

    @property
    def highest_rate(self) -> float:
        return self.learning_rate or RATE * self.batch / RATE_BATCH

    @model_validator(mode="after")
    def _rate_falls(self) -> DistillationTrainingConfig:
        if self.min_learning_rate > self.highest_rate:
            raise ValueError(
                f"min_learning_rate {self.min_learning_rate:g} is above the learning rate, {self.highest_rate:g}; "
                "lower the one or raise the other"
            )
        return self


class DistillationEvaluationConfig(Config):
    """What the student is measured by, beside every teacher and their concatenation."""

    datasets: tuple[str, ...] = Field((), description="Datasets of the registry with people's labels.")
    knn: tuple[Annotated[int, Field(ge=1, le=100_000)], ...] = Field(
        (10, 20, 100, 200), description="Neighbours that are asked, one number after the other; empty: no k-NN."
    )
    probe: bool = Field(True, description="Whether a linear classifier is fitted on the embeddings.")
    analyses: bool = Field(
        True, description="Whether k-NN is also measured on few principal directions, and with weights pruned away."
    )

    @model_validator(mode="after")
    def _something_is_measured(self) -> DistillationEvaluationConfig:
        _refuse_twice("datasets", self.datasets)
        _refuse_twice("knn", self.knn)
        if self.datasets and not self.knn and not self.probe:
            raise ValueError("knn is empty and probe is false, so nothing is measured on datasets; set one of them")
        return self


class DistillationConfig(Config):
    """`registry/distillations/<name>.yaml`."""

    name: str = Field(pattern=NAME, description="The file's own name; the encoder's as well.")
    description: str = Field("", description="One line for people.")
    dataset: str | tuple[str, ...] = Field(
        description="Names of files in registry/datasets/, whose videos and images are looked at. No label is used."
    )
    splits: tuple[str, ...] | None = Field(None, description="Splits that are looked at; null: all but `test`.")
    frames: FramesConfig = Field(FramesConfig(), description="Frames of the datasets, decoded once.")
    teachers: tuple[FeatureTeacherConfig, ...] = Field(description="Encoders that are learned from, one at least.")
    student: EncoderStudentConfig = Field(description="What learns.")
    augment: Literal["none", "unic"] = Field(
        "unic",
        description="unic: a random crop, flip, colours, grey, blur and solarisation, the same for all teachers and "
        "the student; none: the middle, and teachers' features are computed once and kept.",
    )
    loss: FeatureLossConfig = Field(FeatureLossConfig(), description="How far a token is from a teacher's.")
    standardise: StandardiseConfig = Field(StandardiseConfig(), description="Teachers' features on one scale.")
    projectors: ProjectorsConfig = Field(ProjectorsConfig(), description="From the student to each teacher.")
    drop: DropConfig = Field(DropConfig(), description="Leaving teachers out that are learned well enough.")
    balance: Literal["none", "mtard"] = Field(
        "none", description="mtard: teachers that are learned more slowly weigh more, by the loss against its first."
    )
    training: DistillationTrainingConfig = Field(DistillationTrainingConfig(), description="How it is trained.")
    evaluation: DistillationEvaluationConfig = Field(DistillationEvaluationConfig(), description="How it is measured.")

    lake: Annotated[str, Free()] = Field(
        "git",
        description="Where its lineage is noted; as a campaign's: `git`, `git:<path>` or `lakefs://<repository>`.",
    )

    @property
    def datasets(self) -> tuple[str, ...]:
        """The names of the datasets, also where one is written by itself."""
        return (self.dataset,) if isinstance(self.dataset, str) else self.dataset

    @model_validator(mode="after")
    def _names_agree(self) -> DistillationConfig:
        _refuse_twice("dataset", self.datasets)
        _refuse_twice("teachers", tuple(teacher.name for teacher in self.teachers))
        if not self.teachers:
            raise ValueError("teachers: none is named; name an encoder to learn from")
        if not self.datasets:
            raise ValueError("dataset: none is named; name one of registry/datasets/")
        if self.splits is not None and not self.splits:
            raise ValueError("splits: none is named; leave it out to look at all but `test`")
        batch, workers = self.training.batch, self.training.workers
        if batch < workers:
            raise ValueError(f"training: a batch of {batch}, which {workers} workers cannot share; raise it")
        if batch < 2 and self.standardise.by == "ema":
            raise ValueError("training: a batch of 1, and a frame alone has no deviation to standardise by; raise it")
        for teacher in self.teachers:
            if teacher.name in RESERVED:
                raise ValueError(f"teachers: {teacher.name!r} means something else in tables; name it otherwise")
        return self
