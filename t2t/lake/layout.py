"""Every path and every commit key of the lake is made, and read back, here.

One prefix for each teacher and round, so that merges are clean:

    <dataset>/data/...                        samples, annotations, topics, quarantine, annotators' identities
    <dataset>/teachers/<id>/entry.json        the identity: entry, fingerprint
    <dataset>/teachers/<id>/labels.parquet    its labels
    <dataset>/teachers/<id>/asked.parquet     the samples it was asked for; the topics stand in entry.json
    <dataset>/teachers/<id>/retracted.json    where somebody retracted it
    <dataset>/campaigns/<campaign>/campaign.json    its configuration, frozen at its first start
    <dataset>/campaigns/<campaign>/ledger/          one record a round
    <dataset>/campaigns/<campaign>/encoder-<n>.json  an encoder that was tuned for it, where one was
    <dataset>/campaigns/<campaign>/round-<k>/       what round k left; with `gate: manual` waiting.json, decision.json
    encoders/<name>/entry.json                a distilled encoder: fingerprint, teachers, data, settings
    encoders/<name>/retracted.json            where somebody retracted it, or one of its teachers

An annotator's identity (human/anna) has its folder beside the others', with every sign encoded that another teacher's
id cannot have: human=2Fanna. (As in a URL, but with `=`: servers decode `%2F` on the way.)

A key is what an operation that is repeated looks for in the log (`t2t.lake.base`).
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote

CONFIG, ENTRY, LABELS, MARK = "campaign.json", "entry.json", "labels.parquet", "retracted.json"
ENCODERS = "encoders/"


@dataclass(frozen=True)
class DatasetLayout:
    """A dataset's part of the lake."""

    name: str

    @property
    def prefix(self) -> str:
        return f"{self.name}/"

    # -- data --

    @property
    def data(self) -> str:
        """The folder of the data, without a slash at its end."""
        return f"{self.name}/data"

    def table(self, name: str) -> str:
        """A table of the data: samples, human, quarantine."""
        return f"{self.data}/{name}.parquet"

    @property
    def topics(self) -> str:
        return f"{self.data}/topics.json"

    @property
    def people(self) -> str:
        """Of each annotator's own identity the one that their rows are trained under, where they have any."""
        return f"{self.data}/people.json"

    @property
    def data_keys(self) -> str:
        """How the keys of the data's commits begin."""
        return f"data:{self.name}:"

    def data_key(self, fingerprint: str, unreadable: str, after: str | None) -> str:
        """Args: after: the commit of the data before; None for the first."""
        return f"{self.data_keys}{fingerprint}:{unreadable}:{after or 'first'}"

    # -- teachers --

    @property
    def teachers(self) -> str:
        return f"{self.name}/teachers/"

    def teacher(self, teacher_id: str) -> TeacherLayout:
        return TeacherLayout(self.name, teacher_id)

    def teacher_of(self, path: str, file: str) -> str | None:
        """The teacher whose file of that name is at `path`, or None."""
        place = teacher_of(path, file)
        return place[1] if place and place[0] == self.name else None

    @property
    def label_keys(self) -> str:
        """How the keys of all its teachers' label commits begin."""
        return f"teacher:{self.name}:"


@dataclass(frozen=True)
class TeacherLayout:
    """A teacher's part of a dataset's lake."""

    dataset: str
    id: str

    @property
    def folder(self) -> str:
        """The id as one part of a path, which of all but annotators is the id itself."""
        return quote(self.id, safe="").replace("%", "=")

    @property
    def prefix(self) -> str:
        return f"{self.dataset}/teachers/{self.folder}/"

    @property
    def entry(self) -> str:
        return f"{self.prefix}{ENTRY}"

    @property
    def labels(self) -> str:
        return f"{self.prefix}{LABELS}"

    @property
    def asked(self) -> str:
        return f"{self.prefix}asked.parquet"

    @property
    def retracted(self) -> str:
        return f"{self.prefix}{MARK}"

    @property
    def label_keys(self) -> str:
        """How the keys of its label commits begin."""
        return f"teacher:{self.dataset}:{self.folder}:"

    def label_key(self, fingerprint: str, now: str | None = None, after: str | None = None) -> str:
        """The key of a commit of labels.

        Args:
            now: hash of all that was asked by then, where labels are added; None where they are all new.
            after: the label commit before. The key names it, so that a repeat finds its commit and nothing else does.
        """
        return self.label_keys + ":".join(part for part in (fingerprint, now, after) if part is not None)

    def is_first(self, key: str, fingerprint: str) -> bool:
        """Whether a key is that of the first labels under a fingerprint, which has nothing else in it."""
        return key.endswith(f":{fingerprint}")

    @property
    def mark_keys(self) -> str:
        """How the keys of its retractions begin."""
        return f"retract:{self.dataset}:{self.folder}:"

    def mark_key(self, after: str | None) -> str:
        """Args: after: the commit of the mark before; None for the first."""
        return f"{self.mark_keys}{after or 'first'}"


@dataclass(frozen=True)
class CampaignLayout:
    """A campaign's part of a dataset's lake, and its branches and tags."""

    dataset: str
    name: str

    @property
    def prefix(self) -> str:
        return f"{self.dataset}/campaigns/{self.name}/"

    @property
    def config(self) -> str:
        return f"{self.prefix}{CONFIG}"

    def config_key(self, after: str | None = None) -> str:
        """Args: after: the commit of the removal before, where the campaign was removed."""
        return f"campaign:{self.prefix}" + (after or "")

    @property
    def removal_keys(self) -> str:
        """How the keys of its removals begin."""
        return f"removal:{self.prefix}"

    def removal_key(self, after: str) -> str:
        """Args: after: the head of `main` that it was removed from."""
        return f"{self.removal_keys}{after}"

    def encoder(self, number: int) -> str:
        """An encoder that was tuned for it."""
        return f"{self.prefix}encoder-{number:03}.json"

    def is_encoder(self, path: str) -> bool:
        """Whether one of its tuned encoders stands at `path`."""
        return path.startswith(f"{self.prefix}encoder-") and path.endswith(".json")

    def encoder_key(self, number: int) -> str:
        return f"encoder:{self.prefix}{number}"

    @property
    def ledger(self) -> str:
        return f"{self.prefix}ledger/"

    def record(self, k: int) -> str:
        return f"{self.ledger}round-{k:03}.json"

    def record_key(self, k: int, teacher: str | None = None) -> str:
        """Args: teacher: the student that became a teacher after all, where the record is written again."""
        return f"ledger:{self.ledger}{k}" + (f":{teacher}" if teacher else "")

    def round(self, k: int) -> str:
        return f"{self.prefix}round-{k:03}/"

    def file(self, k: int, name: str) -> str:
        """A file that round k left."""
        return f"{self.round(k)}{name}"

    def pairs(self, k: int, split: str) -> str:
        """The scored pairs of a split."""
        return self.file(k, f"{split}.parquet")

    def sizes(self, k: int, split: str) -> str:
        """Those pairs as smaller sizes of a student's vectors score them: columns of `pairs`, and `size`, int32."""
        return self.file(k, f"{split}_sizes.parquet")

    def waiting(self, k: int) -> str:
        return self.file(k, "waiting.json")

    def waiting_key(self, k: int) -> str:
        return f"waiting:{self.prefix}{k}"

    def decision(self, k: int) -> str:
        return self.file(k, "decision.json")

    def decision_key(self, k: int) -> str:
        return f"decision:{self.prefix}{k}"

    def branch(self, k: int) -> str:
        return f"{self.name}-round-{k}"

    def tag(self, k: int) -> str:
        return f"{self.name}/round-{k}"

    def round_key(self, k: int) -> str:
        """Of the commit of what round k left."""
        return f"round:{self.prefix}{k}"

    def decided_key(self, k: int) -> str:
        """Of the commit of the verdict, where the round was committed while it waited."""
        return f"{self.round_key(k)}:decided"

    def watch_key(self, k: int) -> str:
        return f"{self.round_key(k)}:watch"

    def update_key(self, k: int, main: str) -> str:
        """Of the merge by which the branch of an earlier attempt at round k gets `main` as it is now."""
        return f"{self.round_key(k)}:from:{main}"

    def merge_key(self, k: int) -> str:
        return f"merge:{self.prefix}{k}"

    def teacher_merge_key(self, teacher: str) -> str:
        """Of the merge of a student that became a teacher after its round was merged."""
        return f"merge:{self.prefix}{teacher}"


@dataclass(frozen=True)
class EncoderLayout:
    """A distilled encoder's part of the lake, which belongs to no dataset."""

    name: str

    @property
    def prefix(self) -> str:
        return f"{ENCODERS}{self.name}/"

    @property
    def entry(self) -> str:
        return f"{self.prefix}{ENTRY}"

    @property
    def retracted(self) -> str:
        return f"{self.prefix}{MARK}"

    @property
    def keys(self) -> str:
        """How the keys of its entry's commits begin."""
        return f"encoder:{self.name}:"

    def key(self, fingerprint: str, after: str | None) -> str:
        """Args: after: the commit of the entry before; None for the first."""
        return f"{self.keys}{fingerprint}:{after or 'first'}"

    @property
    def mark_keys(self) -> str:
        """How the keys of its marks' commits begin."""
        return f"retract-encoder:{self.name}:"

    def mark_key(self, after: str | None) -> str:
        """Args: after: the commit of the mark before; None for the first."""
        return f"{self.mark_keys}{after or 'first'}"


def encoder_of(path: str, file: str = ENTRY) -> str | None:
    """The distilled encoder whose file of that name is at `path`, or None."""
    parts = path.split("/")
    return parts[1] if len(parts) == 3 and f"{parts[0]}/" == ENCODERS and parts[2] == file else None


def teacher_of(path: str, file: str = ENTRY) -> tuple[str, str] | None:
    """(dataset, teacher) whose file of that name is at `path`, or None."""
    parts = path.split("/")
    is_file = len(parts) == 4 and parts[1] == "teachers" and parts[3] == file
    return (parts[0], unquote(parts[2].replace("=", "%"))) if is_file else None


def campaign_of(path: str) -> CampaignLayout | None:
    """The campaign whose configuration is at `path`, or None."""
    parts = path.split("/")
    is_config = len(parts) == 4 and parts[1] == "campaigns" and parts[3] == CONFIG
    return CampaignLayout(parts[0], parts[2]) if is_config else None


def dataset_of(path: str) -> str:
    """The dataset that a file of the lake belongs to."""
    return path.partition("/")[0]
