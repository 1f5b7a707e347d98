"""A passed round's student becomes a teacher: its entry, its labels of the unlabeled videos, the watch on them.

The self-training step (paper, section 3.3). Entry and labels enter the lake in one commit on the round's branch, under
an identity of their own; the round's merge brings them to `main`.
"""

from __future__ import annotations

import time
from functools import partial

from t2t.campaign.campaign import Campaign
from t2t.campaign.facts import Settled
from t2t.campaign.observer import Observer
from t2t.campaign.record import Record
from t2t.core.errors import T2TError
from t2t.core.files import write_text
from t2t.core.host import cpu_threads
from t2t.data.labels import is_people
from t2t.evaluation.collapse import after_collapse
from t2t.evaluation.watch import watch_student
from t2t.students.config import TaggingConfig
from t2t.teachers import build
from t2t.teachers.kinds.student import Entry, Parent
from t2t.teachers.store import read_labels


def promote(campaign: Campaign, settled: Settled) -> Settled:
    """Registers the student of a round that passed, and looks at its labels; if they collapsed the campaign stops."""
    began = time.monotonic()
    record = register_student(campaign, settled.record)
    seconds = record.seconds + time.monotonic() - began
    record = record.model_copy(update={"stop": campaign.lineup.collapse(record), "seconds": seconds})
    return settled.model_copy(update={"record": record})


def register_student(campaign: Campaign, record: Record) -> Record:
    """Registers the student of `record` as `<campaign>-self-<k>`, and watches its labels.

    Leaves the topics' shares of them as `class_share.csv`, in the round's folder and on its branch.

    Returns: the record with the teacher's id and what the watch found.
    """
    teacher = _register(campaign, record)
    k, dataset, lineup, lake = record.round, campaign.dataset, campaign.lineup, campaign.lake
    names = [reference.id for reference in record.teachers]
    outside = [name for name in names if not is_people(name) and name not in lineup.own(names)]
    read = partial(read_labels, lake, lake.resolve(record.branch), dataset.name)
    measures, shares = watch_student(read, teacher, outside, lineup.students(k, record.branch), dataset.taught)
    path = campaign.files(k).class_share
    write_text(path, shares.to_csv(index=False))
    lake.commit(
        record.branch,
        {campaign.layout.file(k, path.name): path},
        key=campaign.layout.watch_key(k),
        message=f"Watch on {teacher}: the topics' shares of its labels",
        metadata={"campaign": record.campaign, "round": str(k), "teacher": teacher},
    )
    largest = str(shares["topic"][int(shares["share"].argmax())])
    changes = {"self_teacher": teacher, "watch": {**record.watch, **measures}, "largest_topic": largest}
    return record.model_copy(update=changes)


def _register(campaign: Campaign, record: Record) -> str:
    config = campaign.config
    settings = config.self_training
    # Weights that it started from carry what those learned from, too.
    records = {earlier.round: earlier for earlier in campaign.ledger.written()}
    learned, link = list(record.teachers), record.started_from
    while link is not None:
        learned += records[link].teachers
        link = records[link].started_from
    parents = tuple(Parent(id=parent.id, fingerprint=parent.fingerprint) for parent in dict.fromkeys(learned))
    identity = campaign.lineup.identity(settings.identity, [teacher.id for teacher in record.teachers])
    entry = Entry(
        id=config.self_teacher(record.round),
        description=f"Student of round {record.round} of campaign {record.campaign}.",
        campaign=record.campaign,
        round=record.round,
        checkpoint=record.checkpoint,
        weights_sha256=record.weights_sha256,
        tagging=TaggingConfig(**{**settings.model_dump(exclude={"retention"}), "identity": identity}),
        seed=campaign.seed(record.round),
        parents=parents,
    )
    facts = {"campaign": record.campaign, "round": str(record.round)}
    samples, topics = campaign.samples("unlabeled"), campaign.dataset.taught
    with cpu_threads(record.recipe.threads if record.recipe is not None else None):
        campaign.registrar(record.branch).register(build(entry, campaign.context), samples, topics, facts)
    return entry.id


def promote_later(campaign: Campaign, record: Record, observer: Observer) -> None:
    """Makes the student of a finished round a teacher, since its campaign was prolonged or goes on after a retraction.

    The ledger gets the round's record once more, with what the watch found.

    Raises T2TError when that is a collapse: no further round begins.
    """
    record = register_student(campaign, record)
    teacher = record.self_teacher or ""
    facts = {"campaign": record.campaign, "round": str(record.round), "teacher": teacher}
    key = campaign.layout.teacher_merge_key(teacher)
    campaign.lake.merge(record.branch, "main", key, f"Merge {teacher}", facts)
    why = campaign.lineup.collapse(record)
    campaign.ledger.amend(record.model_copy(update={"stop": why or record.stop}))
    observer.promoted(campaign, record)
    if why:
        raise T2TError(
            f"Campaign {record.campaign!r} stops after round {record.round}: {why}. {after_collapse(teacher)}"
        )
