"""A passed round's student becomes a teacher: its entry, its labels of the unlabeled videos, the watch on them.

The self-training step (paper, section 3.3). Entry and labels enter the lake in one commit on the round's branch, under
an identity of their own; the round's merge brings them to `main`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from t2t.campaign.campaign import Campaign
from t2t.campaign.config import SECOND
from t2t.campaign.facts import Settled
from t2t.campaign.observer import Observer
from t2t.campaign.record import Record
from t2t.campaign.steps.second import second_student
from t2t.core.errors import T2TError
from t2t.core.files import sha256_file, write_text
from t2t.core.host import cpu_threads
from t2t.data.labels import is_people
from t2t.evaluation.collapse import after_collapse
from t2t.evaluation.watch import watch_student
from t2t.students.config import TaggingConfig
from t2t.teachers import build
from t2t.teachers.kinds.student import Entry, Parent, Partner
from t2t.teachers.store import named_labels


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
    students = _checkpoints(campaign, record)
    for name in students:
        _register(campaign, record, name, students)
    teacher, *second = students
    k, dataset, lineup, lake = record.round, campaign.dataset, campaign.lineup, campaign.lake
    names = [reference.id for reference in record.teachers]
    outside = [name for name in names if not is_people(name) and name not in lineup.own(names)]
    read = partial(named_labels, lake, lake.resolve(record.branch), dataset.name)
    earlier = [name for name in lineup.students(k, record.branch) if not name.endswith(SECOND)]
    measures, shares = watch_student(read, teacher, outside, earlier, dataset.taught)
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
    changes: dict[str, Any] = {"self_teacher": teacher, "second_teacher": second[0] if second else None}
    changes |= {"watch": {**record.watch, **measures}, "largest_topic": largest}
    return record.model_copy(update=changes)


def _checkpoints(campaign: Campaign, record: Record) -> dict[str, tuple[str, str]]:
    """By identity, the checkpoint and the SHA-256 of the weights of each student of a round that is to teach."""
    own, *second = campaign.config.self_teachers(record.round)
    found = {own: (record.checkpoint, record.weights_sha256)}
    for name in second:
        files = second_student(campaign, record)
        folder = str(files.student.relative_to(campaign.workspace.work))
        found[name] = folder, sha256_file(files.weights)
    return found


def _register(campaign: Campaign, record: Record, name: str, students: Mapping[str, tuple[str, str]]) -> None:
    """Args: students: as `_checkpoints` has them; `name` is one of these."""
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
    tagging = {key: getattr(settings, key) for key in TaggingConfig.model_fields}
    partners = [
        Partner(checkpoint=checkpoint, weights_sha256=weights, within=settings.agree_within)
        for other, (checkpoint, weights) in students.items()
        if other != name
    ]
    which = "Student" if name == config.self_teacher(record.round) else "Second student"
    entry = Entry(
        id=name,
        description=f"{which} of round {record.round} of campaign {record.campaign}.",
        campaign=record.campaign,
        round=record.round,
        checkpoint=students[name][0],
        weights_sha256=students[name][1],
        tagging=TaggingConfig(**{**tagging, "identity": identity}),
        seed=campaign.seed(record.round),
        parents=parents,
        partner=partners[0] if partners else None,
    )
    facts = {"campaign": record.campaign, "round": str(record.round)}
    samples, topics = campaign.samples("unlabeled"), campaign.dataset.taught
    with cpu_threads(record.recipe.threads if record.recipe is not None else None):
        campaign.registrar(record.branch).register(build(entry, campaign.context), samples, topics, facts)


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
