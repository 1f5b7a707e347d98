"""A passed round's student becomes a teacher: its entry, its labels of the unlabeled videos, the watch on them.

The self-training step (paper, section 3.3). Entry and labels enter the lake in one commit on the round's branch, under
an identity of their own; the round's merge brings them to `main`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from t2t.dataset import HUMAN
from t2t.errors import T2TError
from t2t.files import write_text
from t2t.ledger import Record
from t2t.registration import read_labels, register
from t2t.tagging import TaggingConfig
from t2t.teachers import build
from t2t.teachers.student import Entry, Parent
from t2t.watch import after_collapse, watch_student

if TYPE_CHECKING:
    from t2t.rounds import Rounds


def promote(rounds: Rounds, record: Record) -> Record:
    """Registers the student of `record` as `<campaign>-self-<k>`, and looks at its labels.

    Leaves the topics' shares of them as `class_share.csv`, in the round's folder and on its branch.

    Returns: the record with the teacher's id and what the watch found.
    """
    teacher = _register(rounds, record)
    k, dataset, roster = record.round, rounds.dataset, rounds.roster
    names = [known.id for known in record.teachers]
    outside = [name for name in names if name != HUMAN and name not in roster.own(names)]
    read = partial(read_labels, rounds.lake, rounds.lake.resolve(record.branch), dataset.name)
    found, shares = watch_student(read, teacher, outside, roster.students(k, record.branch), dataset.seen)
    path = rounds.round_folder(k) / "class_share.csv"
    write_text(path, shares.to_csv(index=False))
    rounds.lake.commit(
        record.branch,
        {f"{rounds.prefix}round-{k:03}/{path.name}": path},
        key=f"round:{rounds.prefix}{k}:watch",
        message=f"Watch on {teacher}: the topics' shares of its labels",
        metadata={"campaign": record.campaign, "round": str(k), "teacher": teacher},
    )
    largest = str(shares["topic"][int(shares["share"].argmax())])
    changes = {"self_teacher": teacher, "watch": {**record.watch, **found}, "largest_topic": largest}
    return record.model_copy(update=changes)


def _register(rounds: Rounds, record: Record) -> str:
    settings = rounds.config.self_training
    # Weights that it started from carry what those learned from, too.
    records = {earlier.round: earlier for earlier in rounds.ledger.written()}
    learned, link = list(record.teachers), record.started_from
    while link is not None:
        learned += records[link].teachers
        link = records[link].started_from
    parents = tuple(Parent(id=one.id, fingerprint=one.fingerprint) for one in dict.fromkeys(learned))
    identity = rounds.roster.identity(settings.identity, [teacher.id for teacher in record.teachers])
    entry = Entry(
        id=rounds.config.self_teacher(record.round),
        description=f"Student of round {record.round} of campaign {record.campaign}.",
        campaign=record.campaign,
        round=record.round,
        checkpoint=record.checkpoint,
        weights_sha256=record.weights_sha256,
        tagging=TaggingConfig(**{**settings.model_dump(exclude={"retention"}), "identity": identity}),
        seed=rounds.seed(record.round),
        parents=parents,
    )
    about = {"campaign": record.campaign, "round": str(record.round)}
    samples, topics, work = rounds.samples("unlabeled"), rounds.dataset.seen, rounds.workspace.work
    teacher = build(entry, rounds.context)
    register(rounds.lake, record.branch, rounds.dataset, teacher, samples, topics, work, about)
    return entry.id


def promote_later(rounds: Rounds, record: Record) -> None:
    """Makes the student of a finished round a teacher, since its campaign was prolonged or goes on after a retraction.

    The ledger gets the round's record once more, with what the watch found.

    Raises T2TError when that is a collapse: no further round begins.
    """
    record = promote(rounds, record)
    teacher = record.self_teacher or ""
    about = {"campaign": record.campaign, "round": str(record.round), "teacher": teacher}
    rounds.lake.merge(record.branch, "main", f"merge:{rounds.prefix}{teacher}", f"Merge {teacher}", about)
    why = rounds.roster.collapse(record)
    rounds.ledger.amend(record.model_copy(update={"stop": why or record.stop}))
    rounds.report.watched(record)
    if why:
        raise T2TError(
            f"Campaign {record.campaign!r} stops after round {record.round}: {why}. {after_collapse(teacher)}"
        )
