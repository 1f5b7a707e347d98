"""A plan as numbers: the work before the rounds, the rounds that are left, time and disk."""

from __future__ import annotations

from dataclasses import dataclass, field

from t2t.students.footprint import Footprint
from t2t.teachers.base import Cost

UNKNOWN = "not measured yet"


@dataclass
class Work:
    """One kind of work before or beside the rounds.

    total, done: how much there is and how much of it is done, in `unit`.
    seconds: what the rest takes; None where nobody has measured it. measured: where that number comes from.
    labels: what the lake holds of a teacher, the number that `t2t teachers` shows; None where the work makes none. A
    teacher need not answer every pair that it is asked. cost: of a teacher that charges.
    """

    what: str
    unit: str
    total: int
    done: int
    seconds: float | None = 0.0
    measured: str = ""
    note: str = ""
    labels: int | None = None
    cost: Cost | None = None

    @property
    def left(self) -> int:
        return self.total - self.done


@dataclass
class Chosen:
    """A setting that the recipe chose, and why."""

    setting: str
    value: str
    why: str


@dataclass
class RoundPlan:
    """A round that is left: its teachers and rows if every round before it passes its gate. `exact` is false where the
    number of rows is an estimate."""

    round: int
    teachers: int
    rows: int
    exact: bool
    seconds: float | None


@dataclass(frozen=True)
class StudentPlan(Footprint):
    """What the next round's student weighs, and what its training takes of memory; activations are an estimate.

    memory: bytes that `where` has, this machine or its GPU.
    """

    memory: int
    where: str

    @property
    def fits(self) -> bool:
        return self.needed <= self.memory


@dataclass
class Plan:
    """What a run would do.

    tuning: what `encoder.tune` adds before the rounds, the tuning and the embedding anew; empty without it.
    stop: why no round is left, or None. bytes: by what they are for; None where not known. free: bytes that the work
    folder's disk has. recipe: what `recipe: auto` chooses for the next round. student: None where none is trained, or
    where it is not known what it weighs.
    """

    campaign: str
    dataset: str
    work: str
    embedding: Work
    labeling: list[Work]
    rounds_done: int
    rounds: list[RoundPlan]
    stop: str | None
    measured: str
    bytes: dict[str, int | None]
    free: int
    notes: list[str] = field(default_factory=list)
    recipe: list[Chosen] = field(default_factory=list)
    student: StudentPlan | None = None
    tuning: list[Work] = field(default_factory=list)

    @property
    def works(self) -> list[Work]:
        """What is to be done before or beside the rounds, in the order of a run."""
        return [self.embedding, *self.labeling, *self.tuning]

    @property
    def seconds(self) -> float:
        """The run's time as far as it is measured; `unmeasured` names the rest."""
        return sum(part or 0.0 for part in self._times())

    @property
    def unmeasured(self) -> list[str]:
        """What takes time that nobody has measured here."""
        names = [
            *(work.what for work in self.works),
            *(f"round {r.round}" for r in self.rounds),
        ]
        return [name for name, part in zip(names, self._times(), strict=True) if part is None]

    def _times(self) -> list[float | None]:
        work = [part.seconds for part in self.works]
        return [*work, *(part.seconds for part in self.rounds)]

    @property
    def needed(self) -> int:
        """Bytes, as far as they are known."""
        return sum(size or 0 for size in self.bytes.values())
