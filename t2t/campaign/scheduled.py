"""Work on a schedule, beside the campaigns: embed a dataset's new files, have a standing teacher label new videos.

Both look for what is missing first, so running them again does nothing. A campaign finds what they made: embeddings
by their content in the store, labels by what the lake says the teacher was asked.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from t2t.campaign.config import EngineName
from t2t.campaign.engine import open_engine
from t2t.campaign.entries import has_teacher, open_dataset, teacher_entry
from t2t.campaign.overrides import CampaignName, campaign_with
from t2t.campaign.tuned import encoder_here
from t2t.core.config import Config
from t2t.core.errors import T2TError, nearest, one_line
from t2t.core.workspace import Workspace
from t2t.data.dataset import Dataset
from t2t.data.embeddings.config import EncoderConfig
from t2t.data.embeddings.embed import probe
from t2t.data.labels import HUMAN, is_people
from t2t.lake import Lake, open_lake
from t2t.lake.layout import DatasetLayout
from t2t.lake.tables import latest_commit
from t2t.teachers import TeacherContext, TeacherEntry, build, parse_entry
from t2t.teachers.asked import Asked
from t2t.teachers.register import Registrar
from t2t.teachers.retraction import retracted
from t2t.teachers.store import asked, registered, registrations
from t2t.tuning.needs import tuning_of

MEDIA = frozenset(
    (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
)


class EmbedConfig(Config):
    """What the deployment `embed` is asked for: a campaign's dataset and frame encoder, or these two themselves."""

    campaign: CampaignName | None = Field(None, description="The name of a file in registry/campaigns/.")
    dataset: str | None = Field(None, description="Without a campaign: the name of a file in registry/datasets/.")
    encoder: EncoderConfig | None = Field(
        None, description="Without a campaign: as those on the dataset have it; another one has embeddings apart."
    )
    engine: EngineName = Field("local", description="As in a campaign.")

    @model_validator(mode="after")
    def _one_way(self) -> EmbedConfig:
        given = (self.campaign is not None, self.dataset is not None, self.encoder is not None)
        if given not in ((True, False, False), (False, True, True)):
            raise ValueError("give a campaign, or else a dataset and an encoder")
        if self.encoder is not None and tuning_of(self.encoder) is not None:
            raise ValueError("encoder.tune: an encoder is tuned for a campaign: give the campaign")
        return self

    @property
    def about(self) -> str:
        """The campaign or the dataset, as runs are called."""
        return self.campaign or self.dataset or "?"

    def what(self, workspace: Workspace) -> tuple[str, EncoderConfig]:
        """Dataset and encoder. Raises T2TError for a campaign that is not in the registry, or not right there."""
        if self.campaign is not None:
            campaign = campaign_with(workspace, self.campaign, {})
            return campaign.dataset, encoder_here(workspace, campaign)
        assert self.dataset is not None
        assert self.encoder is not None
        return self.dataset, self.encoder


class TagConfig(Config):
    """What the deployment `tag` is asked for."""

    dataset: str = Field(description="A dataset: the name of a file in registry/datasets/.")
    teacher: str = Field(description="Of registry/teachers/, or a student that became a teacher (t2t teachers).")
    lake: str = Field("git", description="The lake of the campaigns that learn from it; as their key `lake`.")
    engine: EngineName = Field("local", description="As in a campaign.")


@dataclass(frozen=True)
class NewlyEmbedded:
    """What `embed_new` did: samples of the dataset, files that were decoded for it, samples that cannot be read, and
    media files in the folder that no row of the samples file names."""

    samples: int
    decoded: int
    unreadable: int
    unlisted: int

    def __str__(self) -> str:
        text = f"{self.decoded:,} files embedded; all of {self.samples - self.unreadable:,} samples are in the store"
        if self.unreadable:
            text += f"; cannot be read: {self.unreadable:,}"
        if self.unlisted:
            text += f"; in the folder, but in no row of the samples file: {self.unlisted:,}"
        return text


@dataclass(frozen=True)
class Tagged:
    """What `tag_new` did: how many videos the teacher was asked about for the first time, its new labels, new videos
    that cannot be read (they are tried again next time), and the commit; None where nothing was new."""

    teacher: str
    samples: int
    labels: int
    unreadable: int
    commit: str | None

    def __str__(self) -> str:
        if self.commit is None:
            text = f"Nothing new for {self.teacher}"
        else:
            text = f"{self.teacher} labeled {self.samples:,} new videos, {self.labels:,} labels, commit {self.commit}"
        return text + (f"; cannot be read: {self.unreadable:,}" if self.unreadable else "")


def embed_new(workspace: Workspace, config: EmbedConfig, device: str = "cpu") -> NewlyEmbedded:
    """Embeds the dataset's files that the store lacks; killed, it goes on after the last shard.

    Raises T2TError for a dataset that does not read, or with more unreadable files than it allows.
    """
    name, encoder = config.what(workspace)
    dataset, engine = open_dataset(workspace, name), open_engine(config.engine, device)
    embedded = engine.embed(dataset.samples, encoder, workspace.work, dataset.config.max_unreadable)
    return NewlyEmbedded(len(dataset.samples), embedded.decoded, len(embedded.quarantine), _unlisted(dataset))


def _unlisted(dataset: Dataset) -> int:
    listed = set(dataset.samples["path"].to_pylist())
    files = (path for path in dataset.root.rglob("*") if path.suffix.lower() in MEDIA)
    return sum(str(path.resolve()) not in listed for path in files)


def tag_new(workspace: Workspace, config: TagConfig, device: str = "cpu") -> Tagged:
    """Has a teacher label the unlabeled videos, and the topics, that it was not asked about before; in one commit.

    A hand-written teacher is asked for all topics, a student for those seen in training, as campaigns ask them.

    Raises T2TError for a teacher that is unknown, retracted, the ground truth, or registered with other content.
    """
    lake, engine = open_lake(config.lake, workspace.work), open_engine(config.engine, device)
    dataset, layout = open_dataset(workspace, config.dataset, lambda: lake), DatasetLayout(config.dataset)
    entry = _standing(workspace, lake, dataset, config.teacher)
    teacher = build(entry, TeacherContext(dataset, workspace.work, engine.device))
    topics = dataset.taught if entry.kind == "student" else dataset.topics
    before = asked(lake, "main", dataset.name, entry.id, topics) or Asked()
    samples, unreadable = _readable(dataset, set(before.samples))
    if not len(samples):
        return Tagged(entry.id, 0, 0, unreadable, None)
    rows, key = _rows(lake, dataset, entry.id), layout.teacher(entry.id).label_keys
    earlier = latest_commit(lake, "main", key)
    Registrar(lake, dataset, workspace.work, make=engine.label).register(teacher, samples, topics)
    commit = latest_commit(lake, "main", key)
    if commit is None or commit == earlier:
        return Tagged(entry.id, 0, 0, unreadable, None)
    now = asked(lake, "main", dataset.name, entry.id, topics) or Asked()
    new = len(set(now.samples) - set(before.samples))
    return Tagged(entry.id, new, _rows(lake, dataset, entry.id) - rows, unreadable, commit.id)


def _rows(lake: Lake, dataset: Dataset, teacher: str) -> int:
    registration = registered(lake, dataset.name, teacher)
    return 0 if registration is None else registration.rows


def _standing(workspace: Workspace, lake: Lake, dataset: Dataset, name: str) -> TeacherEntry:
    """The entry of a teacher: the registry's, or the lake's for a student that became one."""
    if is_people(name):
        raise T2TError(f"{name!r} is the ground truth: people annotate, and a campaign's next run reads it.")
    out = retracted(lake, dataset.name)
    if name in out:
        raise T2TError(
            f"Teacher {name!r} is retracted and labels nothing more. Take that back: t2t teachers retract {out[name]} "
            "--undo"
        )
    if has_teacher(workspace, name):
        return teacher_entry(workspace, name, dataset.root)
    registration = registered(lake, dataset.name, name)
    if registration is None:
        students = [other.id for _, other in registrations(lake, dataset=dataset.name)]
        raise T2TError(
            f"No teacher {name!r} in {workspace.registry / 'teachers'}, and none of dataset {dataset.name!r} in the "
            f"lake.{nearest(name, {*workspace.names('teachers'), *students} - {HUMAN})}"
        )
    return parse_entry(registration.entry, f"teacher {name!r}")


def _readable(dataset: Dataset, asked_before: set[str]) -> tuple[pa.Table, int]:
    """The unlabeled samples that were asked before or can be read, and how many of the new ones cannot.

    A video that cannot be read yet must not be noted as asked: it may still be on its way here.
    """
    samples = dataset.split("unlabeled")
    ids = samples["sample_id"]
    new = samples.filter(pc.invert(pc.is_in(ids, value_set=pa.array(sorted(asked_before), pa.string()))))
    if not len(new):
        return samples, 0
    bad = probe(new)
    limit = dataset.config.max_unreadable
    if len(bad) > max(1, limit * len(samples)):
        first = bad.slice(0, 3).to_pylist()
        raise T2TError(
            f"{len(bad):,} of {len(new):,} new videos of dataset {dataset.name!r} cannot be read, more than "
            f"max_unreadable ({limit:.2%}) allows: "
            + ", ".join(f"{row['sample_id']} ({one_line(row['reason'], 100)})" for row in first)
            + f". `t2t data check {dataset.name}` lists all of them."
        )
    return samples.filter(pc.invert(pc.is_in(ids, value_set=bad["sample_id"].combine_chunks()))), len(bad)
