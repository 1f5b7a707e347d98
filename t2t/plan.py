"""`t2t plan`: what a run would do, before it does it. Nothing is written, no server is started.

What is done already is found as a run finds it: embeddings by the files' hashes in the store, labels by what the lake
says each teacher was asked, rounds by the ledger. Times come from what was measured here (`t2t.rates`); where nothing
was, that is said. `t2t.estimates` does the counting.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from t2t.campaign import CampaignConfig
from t2t.registry import Workspace

UNKNOWN = "not measured yet"


@dataclass
class Work:
    """One kind of work before or beside the rounds.

    total, done: how much there is and how much of it is done, in `unit`.
    seconds: what the rest takes; None where nobody has measured it. measured: where that number comes from.
    """

    what: str
    unit: str
    total: int
    done: int
    seconds: float | None = 0.0
    measured: str = ""
    note: str = ""

    @property
    def left(self) -> int:
        return self.total - self.done


@dataclass
class RoundPlan:
    """A round that is left: its teachers and rows if every round before it passes its gate. `exact` is false where the
    number of rows is an estimate."""

    round: int
    teachers: int
    rows: int
    exact: bool
    seconds: float | None


@dataclass
class Plan:
    """What a run would do.

    stop: why no round is left, or None. bytes: by what they are for; None where not known. free: bytes that the work
    folder's disk has.
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

    @property
    def seconds(self) -> float:
        """The run's time as far as it is measured; `unmeasured` names the rest."""
        return sum(part or 0.0 for part in self._times())

    @property
    def unmeasured(self) -> list[str]:
        """What takes time that nobody has measured here."""
        names = [
            self.embedding.what,
            *(work.what for work in self.labeling),
            *(f"round {r.round}" for r in self.rounds),
        ]
        return [name for name, part in zip(names, self._times(), strict=True) if part is None]

    def _times(self) -> list[float | None]:
        work = [one.seconds for one in (self.embedding, *self.labeling)]
        return [*work, *(one.seconds for one in self.rounds)]

    @property
    def needed(self) -> int:
        """Bytes, as far as they are known."""
        return sum(size or 0 for size in self.bytes.values())


def plan(workspace: Workspace, config: CampaignConfig) -> Plan:
    """What `t2t run` would do for a campaign now. Raises T2TError where that run would be refused before its rounds."""
    from t2t.estimates import Estimates

    return Estimates(workspace, config).plan()


def plan_json(found: Plan) -> dict[str, Any]:
    """The plan for programs; seconds and bytes that are not known are null."""
    content = asdict(found)
    for work, row in zip([found.embedding, *found.labeling], [content["embedding"], *content["labeling"]], strict=True):
        row["left"] = work.left
    return content | {"seconds": found.seconds, "unmeasured": found.unmeasured, "needed": found.needed}


def print_plan(found: Plan) -> None:
    import pandas as pd
    from rich.markup import escape

    from t2t.show import console, table_of

    rows = []
    for work in (found.embedding, *found.labeling):
        rows.append(
            {
                "work": work.what,
                "done": f"{work.done:,}",
                "to do": f"{work.left:,} {work.unit}" if work.left else "nothing",
                "time": duration(work.seconds) if work.left and work.seconds != 0 else "",
                "": escape(", ".join(filter(None, (work.measured, work.note)))),
            }
        )
    title = f"Plan of {found.campaign} on dataset {found.dataset}"
    console.print(table_of(pd.DataFrame(rows), title))
    if found.rounds:
        table = [
            {
                "round": one.round,
                "teachers": one.teachers,
                "rows": f"{'' if one.exact else 'about '}{one.rows:,}",
                "time": duration(one.seconds),
            }
            for one in found.rounds
        ]
        title = f"Rounds left ({found.rounds_done} are done), if each passes its gate"
        console.print(table_of(pd.DataFrame(table), title))
        console.print(f"A round's time: {found.measured}." if found.measured else f"A round's time: {UNKNOWN}.")
    else:
        console.print(f"No round is left: {found.stop}.")
    sizes = ", ".join(f"{name} {amount(size)}" for name, size in found.bytes.items())
    console.print(f"Disk: {amount(found.needed)} ({sizes}); {amount(found.free)} are free in {escape(found.work)}.")
    if found.needed > found.free:
        console.print("[red]That does not fit.[/red] Make room, or set T2T_WORK to a larger disk.")
    missing = found.unmeasured
    if not missing:
        console.print(f"Altogether about {duration(found.seconds)}.")
    elif found.seconds:
        console.print(f"Altogether {duration(found.seconds)} and what is not measured yet: {', '.join(missing)}.")
    for note in found.notes:
        console.print(escape(note))


def duration(seconds: float | None) -> str:
    """`42 s`, `3 min 20 s`, `5 h 10 min`, `3 d 4 h`."""
    if seconds is None:
        return UNKNOWN
    whole = round(seconds)
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    for (large, size), (small, part) in pairwise(units):
        if whole >= size:
            return f"{whole // size:,} {large} {whole % size // part} {small}"
    return f"{whole} s"


def amount(size: int | None) -> str:
    """Bytes for people: `820 kB`, `1.2 GB`."""
    if size is None:
        return "not known"
    number, units = float(size), ["bytes", "kB", "MB", "GB", "TB", "PB"]
    while number >= 999.5 and len(units) > 1:
        number, units = number / 1000, units[1:]
    return f"{number:.3g} {units[0]}"
