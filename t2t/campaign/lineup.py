"""Who teaches a round, and as whom its student is asked: identities, retractions and collapses of one campaign."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from t2t.campaign.config import NEWEST, CampaignConfig
from t2t.campaign.decision import waiting
from t2t.campaign.ledger import Ledger
from t2t.campaign.record import Record, last_passed, stop_reason
from t2t.core.errors import T2TError
from t2t.data.labels import HUMAN
from t2t.evaluation.collapse import collapse
from t2t.teachers.base import TeacherRef
from t2t.teachers.store import annotators, label_commits, registered


class Lineup:
    """A campaign's teachers, as the ledger and the lake have them now. Reads only."""

    def __init__(self, config: CampaignConfig, ledger: Ledger):
        self.config = config
        self.ledger = ledger
        self.lake = ledger.lake

    def retracted(self) -> dict[str, str]:
        """The teachers that are out, each with the retracted one it descends from (itself, or one it learned from)."""
        return self.ledger.retracted()

    def outside(self, ref: str | None = None) -> list[str]:
        """The campaign's outside teachers that are not retracted; with `ref`, those that had labels at that commit."""
        out = self.retracted()
        names = [name for name in self.config.teachers if name not in out]
        return [name for name in names if ref is None or registered(self.lake, self.config.dataset, name, ref)]

    def annotators(self, ref: str = "main") -> list[str]:
        """The identities of annotators that had labels at a commit and are not retracted."""
        names = annotators(self.lake, self.config.dataset, ref)
        out = self.retracted() if names else {}
        return [name for name in names if name not in out and registered(self.lake, self.config.dataset, name, ref)]

    def of_round(self, k: int, ref: str = "main") -> list[str]:
        """The identities that round k trains on: `human`, annotators, the campaign's teachers, retained students.

        A round that has begun knows what its branch point `ref` knows: a teacher that is added later is the next one's.
        Retracted teachers, students that learned from one, and those that collapsed are left out.
        """
        students = self.config.teaching(self.students(k, ref), k)
        return [HUMAN, *self.annotators(ref), *self.outside(ref), *students]

    def students(self, k: int, ref: str = "main") -> list[str]:
        """The students of the rounds before k that teach, oldest first, whatever the retention."""
        out = self.retracted()
        earlier = [record for record in self.ledger.records()[:k] if record.status == "passed"]
        taught = [record.round for record in earlier if not self.collapse(record)]
        students = [name for other in taught for name in self.config.self_teachers(other)]
        return [name for name in students if name not in out and registered(self.lake, self.config.dataset, name, ref)]

    def identity(self, wanted: str, teachers: Sequence[str]) -> str:
        """Resolves `newest` to the latest self-training teacher that a student knows, or `human` in the first round."""
        if wanted != NEWEST:
            return wanted
        students = self.own(teachers)
        return students[-1] if students else HUMAN

    def own(self, teachers: Iterable[str]) -> list[str]:
        """Those of some teachers that are this campaign's own students."""
        return [teacher for teacher in teachers if self.config.is_own(teacher)]

    def collapse(self, record: Record) -> str | None:
        """Why a round's student must not teach, by the bounds of today."""
        teacher = self.config.self_teacher(record.round)
        return collapse(record.watch, self.config.watch, teacher, record.largest_topic)

    def stop(self, records: list[Record]) -> str | None:
        """Why no further round follows. A collapse comes first: it is not mended by allowing more rounds."""
        last = last_passed(records)
        if last is not None and last.self_teacher not in self.retracted() and (why := self.collapse(last)):
            return why
        return stop_reason(records, self.config.rounds.max, self.config.rounds.patience)

    def next_round(self) -> int | None:
        """The first round that is not in the ledger, or None when the campaign has ended."""
        records = self.ledger.records()
        # A round that waits for a person is to be ended, whatever was decided about further ones meanwhile.
        if self.stop(records) and waiting(self.ledger) is None:
            return None
        return len(records)

    def reference(self, teacher: str, commit: str) -> TeacherRef:
        registration = registered(self.lake, self.config.dataset, teacher, commit)
        if registration is None:
            raise T2TError(f"Teacher {teacher!r} is not in the lake at {commit}.")
        return registration.ref

    def label_commits(self, teachers: Sequence[str], commit: str) -> dict[str, str]:
        """Of each teacher the commit that wrote the labels which are read at `commit`."""
        if not commit:
            return {}
        return label_commits(self.lake, commit, self.config.dataset, teachers)


def refuse_retracted(config: CampaignConfig, out: Collection[str]) -> None:
    """Raises T2TError where a campaign's settings need a teacher that is retracted."""
    named = {f"training.task_weight.{name}": name for name in config.training.task_weight}
    named["evaluation.identity"] = config.evaluation.identity
    named["self_training.identity"] = config.self_training.identity
    for key, name in named.items():
        if name in out:
            raise T2TError(
                f"Campaign {config.name!r}: {key} names {name!r}, which is retracted and so no longer taught. Change "
                f"that setting and run under another name (--name), or take the retraction back: "
                f"t2t teachers retract {name} --undo."
            )
