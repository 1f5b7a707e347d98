"""A campaign: the one typed configuration that names data, teachers, student, training and stopping rule."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from t2t.core import plugins
from t2t.core.config import Config, Free, Grown, Later, Written, load_node
from t2t.core.errors import T2TError
from t2t.data.embeddings.config import EncoderConfig
from t2t.data.labels import HUMAN, MOST_TEACHERS, is_people
from t2t.evaluation.config import PRECISION, HealthConfig, WatchConfig
from t2t.students.config import DualEncoderConfig, StudentConfig, TaggingConfig
from t2t.training.baselines.table import METHODS
from t2t.training.config import TrainingConfig
from t2t.tuning.needs import tuning_of

# Lake branches are named `<campaign>-round-<k>`, and a branch name may hold nothing else (lakeFS's rule).
NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
NEWEST = "newest"
T = TypeVar("T")
# A round's seed is a thousand times this and its number, and goes into 64 bits with room for others made of it.
LARGEST_SEED = 2**32 - 1
TEACHER2TASK = "teacher2task"
# What the identity of a round's second student ends with.
SECOND = "-b"
ENGINES = {"local": "t2t.campaign.engine:LocalEngine", "ray": "t2t.integrations.ray.engine:RayEngine"}
BASELINES = {"conventional-average": "t2t.training.baselines:conventional_average"}
EngineName = Annotated[str, plugins.OneOf("t2t.engines", ENGINES)]
Method = Annotated[str, plugins.OneOf("t2t.baselines", BASELINES, (TEACHER2TASK, *METHODS))]


class SelfTrainingConfig(Grown, TaggingConfig):
    """How a round's student becomes a teacher, and how long its labels stay."""

    retention: Literal["all", "latest"] | Annotated[int, Field(ge=0, le=10_000, strict=True)] = Field(
        "all", description="Which earlier self-training teachers a round trains on: all, latest, or the last n."
    )

    co_teachers: Annotated[Literal["alternating", "consensus"] | None, Later()] = Field(
        None,
        description="Two students that teach each other. alternating: rounds take turns, and each learns from the "
        "other line's students only; consensus: each round trains two, which label, each as itself, where they agree.",
    )
    agree_within: Annotated[float, Later()] = Field(
        0.2, gt=0, le=1, description="consensus: the confidences of a pair may differ by less than this."
    )
    human_weight: Annotated[Literal["auto"] | Annotated[float, Field(gt=0, lt=1)] | None, Later()] = Field(
        None,
        description="Weight of people's rows against the students' own, of what both have of the loss together; auto: "
        "estimated before each round; null: as training.human_share and the rows' numbers make it.",
    )

    def retained(self, teachers: list[T]) -> list[T]:
        """Those of the earlier rounds' self-training teachers (or rounds), oldest first, that the next round trains
        on."""
        if self.retention == "all":
            return teachers
        last = 1 if self.retention == "latest" else self.retention
        return teachers[-last:] if last else []

    @model_validator(mode="after")
    def _agreement_of_two(self) -> SelfTrainingConfig:
        if "agree_within" in self.model_fields_set and self.co_teachers != "consensus":
            raise ValueError("agree_within is how far two students may differ: it needs co_teachers: consensus")
        return self

    @model_validator(mode="before")
    @classmethod
    def _window(cls, values: Any) -> Any:
        """`retention: {window: n}` is written as in the registry's other YAML; it is kept as the number."""
        if isinstance(values, Mapping) and isinstance(values.get("retention"), Mapping):
            retention = values["retention"]
            window = retention.get("window")
            # `true` is an int to Python.
            if set(retention) != {"window"} or type(window) is not int or window < 0:
                raise ValueError("retention is 'all', 'latest' or {window: n}")
            return {**values, "retention": window}
        return values


class EvaluationConfig(Config):
    """How students are measured."""

    identity: str = Field(HUMAN, description="The identity asked at inference; 'newest' is the last one registered.")
    resamples: int = Field(1000, ge=10, le=1_000_000, description="Bootstrap resamples for the 95 % interval.")
    precision: Annotated[float, Free()] = Field(
        PRECISION,
        gt=0,
        lt=1,
        description="The precision of a yes: each topic's threshold is chosen for it.",
    )


class RoundsConfig(Config):
    """When a campaign stops."""

    max: int = Field(
        4, ge=1, le=10_000, description="Rounds at most, the first (round 0, without self-training) counted."
    )
    patience: int = Field(
        2, ge=1, le=10_000, description="Stop after so many rounds without improvement on validation."
    )
    control: bool | None = Field(
        None,
        description="Train beside each self-training round the same without students' labels, as many steps, so that "
        "a gain is one; null: where recipe is auto.",
    )


class CampaignConfig(Config):
    """`registry/campaigns/<name>.yaml`."""

    name: str = Field(
        pattern=NAME,
        description="The file's own name; the lake's branches and its students' identities begin with it.",
    )
    description: Annotated[str, Free()] = Field("", description="One line for people.")
    dataset: str = Field(description="The name of a file in registry/datasets/.")
    teachers: tuple[str, ...] = Field(
        (), description="Names of files in registry/teachers/, besides `human`, which always takes part."
    )
    method: Method = Field(
        TEACHER2TASK,
        description="What a student learns from: every teacher's own labels (`teacher2task`), their mean, which that "
        "replaces (`conventional-average`), or one label a pair as another rival makes it.",
    )
    encoder: EncoderConfig = Field(description="How frames become numbers, once for all rounds, by its `kind`.")
    recipe: Literal["auto", "manual"] = Field(
        "auto",
        description="auto: whatever of student and training is not given here is chosen for the data, and `t2t plan` "
        "says what and why; manual: it has its plain default.",
    )
    student: StudentConfig = Field(DualEncoderConfig(), description="How the student looks.")
    training: TrainingConfig = Field(TrainingConfig(), description="How a round's student is trained.")
    scale: Literal["common", "raw"] | None = Field(
        None,
        description="What is trained on: each identity's confidences on one common scale, or as they are; "
        "null: common where recipe is auto.",
    )
    scale_gain: float | None = Field(
        None,
        ge=1,
        le=100,
        description="How many times as far from people's usual share of yes a student is taught teachers' confidences "
        "on the common scale than they are believed; null: where recipe is auto as weak teachers need it, else 1.",
    )
    self_training: SelfTrainingConfig = Field(
        SelfTrainingConfig(), description="What a round's student labels before it teaches the next round."
    )
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="How students are measured.")
    gate: Literal["always", "no-regression", "must-improve", "manual"] = Field(
        "no-regression",
        description="Which rounds pass, so that their students teach: all; those not clearly worse than the best one; "
        "those clearly better; or as a person decides (`t2t decide`).",
    )
    watch: Annotated[WatchConfig, Free()] = Field(
        WatchConfig(), description="When a student's labels count as collapsed, so that they teach nobody."
    )
    rounds: Annotated[RoundsConfig, Free()] = Field(RoundsConfig(), description="When the campaign stops.")
    health: Annotated[HealthConfig, Free()] = Field(
        HealthConfig(), description="What is done about a teacher whose confidences hardly vary."
    )
    teachers_see_unseen: bool = Field(False, description="Let teachers' (never humans') labels of unseen topics in.")
    engine: Annotated[EngineName, Free()] = Field(
        "local", description="Where videos are embedded and labeled: here, or on a Ray cluster (RAY_ADDRESS)."
    )
    lake: str = Field(
        "git", description="`git` (a bare repository in the work folder), `git:<path>` or `lakefs://<repository>`."
    )
    seed: int = Field(0, ge=0, le=LARGEST_SEED, description="Of all that is drawn: weights, batches, pairs to label.")
    seeds: Annotated[int, Free()] = Field(
        1,
        ge=1,
        le=100,
        strict=True,
        description="How many seeds it is run with, `seed` and those after it: the same once more for each, as the "
        "campaign NAME-seed-SEED.",
    )

    @property
    def common_scale(self) -> bool:
        """Whether confidences are brought to one scale before they are trained on."""
        return self.scale == "common" or (self.scale is None and self.recipe == "auto")

    @property
    def gain(self) -> float | None:
        """Of the scales that students are taught by; None: as weak teachers need it."""
        return 1.0 if self.scale_gain is None and self.recipe != "auto" else self.scale_gain

    @property
    def with_control(self) -> bool:
        """Whether a self-training round stands beside a control."""
        return self.recipe == "auto" if self.rounds.control is None else self.rounds.control

    @model_serializer(mode="wrap")
    def _as_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """With `recipe: auto` only what was given is written down: all else is chosen again wherever it is read."""
        content: dict[str, Any] = handler(self)
        if self.seeds == 1:
            content.pop("seeds", None)  # as it was written before there was the key
        if self.scale_gain is None:
            content.pop("scale_gain", None)
        if self.recipe == "auto":
            given = self.training.model_fields_set
            if "training" in content:
                content["training"] = {key: value for key, value in content["training"].items() if key in given}
            if "student" not in self.model_fields_set:
                content.pop("student", None)
            elif "student" in content:
                content["student"] = self.student.model_dump(mode="json", exclude_unset=True)
        return content

    @field_validator("teachers")
    @classmethod
    def _distinct(cls, teachers: tuple[str, ...]) -> tuple[str, ...]:
        twice = sorted(teacher for teacher, count in Counter(teachers).items() if count > 1)
        if twice:
            raise ValueError(f"named twice: {', '.join(twice)}")
        # One identity is `human`, and every round may add one.
        if len(teachers) >= MOST_TEACHERS:
            raise ValueError(f"{len(teachers):,} teachers; a round can have {MOST_TEACHERS:,} identities at most")
        return tuple(teacher for teacher in teachers if teacher != HUMAN)

    @field_validator("encoder", mode="before")
    @classmethod
    def _can_be_tuned(cls, encoder: Any) -> Any:
        kind = encoder.get("kind") if isinstance(encoder, Mapping) and encoder.get("tune") is not None else None
        if kind not in (None, "timm"):
            raise ValueError(
                f"tune: an encoder of kind {kind!r} cannot be tuned, only one of kind timm. Leave tune out; or take "
                "that network, or one like it, from timm; or distill it into one of timm's with t2t distill: "
                "work/encoders/NAME/model.safetensors is the `weights` of kind timm (docs/tuning.md)"
            )
        return encoder

    @model_validator(mode="after")
    def _fields_agree(self) -> CampaignConfig:
        if self.method != TEACHER2TASK:
            if self.rounds.max > 1:
                raise ValueError(f"{self.method!r} has one identity only, so no self-training: set rounds.max: 1")
            if tuning_of(self.encoder) is not None:
                raise ValueError(f"{self.method!r} learns from one label a pair, and encoder.tune from every teacher's")
            if self.evaluation.identity != HUMAN:
                raise ValueError(f"{self.method!r} has the identity 'human' only: evaluation.identity")
        last = self.seed + self.seeds - 1
        if self.seeds > 1 and (last > LARGEST_SEED or not re.fullmatch(NAME, seed_name(self.name, last))):
            raise ValueError(
                f"seeds: {self.name!r} and seed {last} are too long to name {seed_name(self.name, last)!r}"
            )
        identities = {HUMAN, NEWEST, *self.teachers}
        for key, identity in (
            ("evaluation.identity", self.evaluation.identity),
            ("self_training.identity", self.self_training.identity),
        ):
            if identity not in identities:
                raise ValueError(f"{key}: {identity!r} is none of {', '.join(sorted(identities))}")
        if self.self_training.top_k + self.self_training.random == 0:
            raise ValueError("self_training.top_k and self_training.random are both 0: no pair would be labeled")
        unknown = [name for name in self.training.task_weight if name not in identities and not self.is_own(name)]
        if unknown:
            raise ValueError(
                f"training.task_weight names {unknown[0]!r}, which is no teacher here: {', '.join(sorted(identities))}"
            )
        for teacher in self.teachers:
            if self.is_own(teacher):
                raise ValueError(f"teachers: {teacher!r} is a name the engine gives to this campaign's own students")
        return self

    def is_own(self, teacher: str) -> bool:
        """Whether an identity is one of this campaign's own students."""
        return self.round_of(teacher) is not None

    def round_of(self, teacher: str) -> int | None:
        """The round whose student an identity is; None for others."""
        return round_of_student(self.name, teacher)

    def outside(self, teachers: Sequence[str]) -> list[str]:
        """Those of some teachers that are neither people nor this campaign's own students."""
        return outside_teachers(self.name, teachers)

    def self_teacher(self, k: int) -> str:
        """The identity under which the student of round k labels: `<campaign>-self-<k>`."""
        return f"{self.name}-self-{k}"

    def self_teachers(self, k: int) -> tuple[str, ...]:
        """Those of all students of round k: its own, and the second one's with `co_teachers: consensus`."""
        own = self.self_teacher(k)
        return (own, f"{own}{SECOND}") if self.self_training.co_teachers == "consensus" else (own,)

    def teaching(self, students: Sequence[str], k: int) -> list[str]:
        """Those of some of its students, oldest first, that round k learns from."""
        of = {name: self.round_of(name) for name in students}
        rounds = list(dict.fromkeys(of.values()))
        if self.self_training.co_teachers == "alternating":
            rounds = [other for other in rounds if ((other or 0) - k) % 2]
        kept = {*self.self_training.retained(rounds)}
        return [name for name in students if of[name] in kept]


def round_of_student(campaign: str, teacher: str) -> int | None:
    """The round of a campaign whose student an identity is; None for others."""
    found = re.fullmatch(rf"{re.escape(campaign)}-self-(\d+)(?:{SECOND})?", teacher)
    return None if found is None else int(found[1])


def outside_teachers(campaign: str, teachers: Sequence[str]) -> list[str]:
    """Those of some teachers that are neither people nor a campaign's own students."""
    return [name for name in teachers if not is_people(name) and round_of_student(campaign, name) is None]


def seed_name(campaign: str, seed: object) -> str:
    """The name of a campaign's further seed, where it is run with several."""
    return f"{campaign}-seed-{seed}"


def override(content: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """Applies `key.subkey=value` settings (values are YAML) to a campaign's mapping, returned as a copy."""
    content = Written(content)
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise T2TError(f"--set {setting!r}: write it as key=value, for instance training.steps=500.")
        *parents, last = key.split(".")
        place: dict[str, Any] = content
        for parent in parents:
            inner = place.get(parent)
            place[parent] = dict(inner) if isinstance(inner, Mapping) else {}
            place = place[parent]
        try:
            place[last], node = load_node(value)
        except T2TError as error:
            raise T2TError(f"--set {setting!r}: {error}") from None
        if node is not None:
            content.nodes[*parents, last] = node
    return content
