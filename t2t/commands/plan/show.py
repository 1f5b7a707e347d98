"""`t2t plan`, shown: tables for people, the same as JSON for programs."""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise
from typing import Any

import pandas as pd
from rich.markup import escape

from t2t.commands.plan.model import UNKNOWN, Plan, StudentPlan
from t2t.commands.tables import console, table_of


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan for programs; seconds and bytes that are not known are null."""
    content = asdict(plan)
    rows = [content["embedding"], *content["labeling"], *content["tuning"]]
    for work, row in zip(plan.works, rows, strict=True):
        row["left"] = work.left
    if plan.student:
        content["student"] |= {name: getattr(plan.student, name) for name in ("total", "needed", "fits")}
    return content | {"seconds": plan.seconds, "unmeasured": plan.unmeasured, "needed": plan.needed}


def print_plan(plan: Plan) -> None:
    rows = []
    for work in plan.works:
        rows.append(
            {
                "work": work.what,
                "done": f"{work.done:,}",
                "labels": "" if work.labels is None else f"{work.labels:,}",
                "to do": f"{work.left:,} {work.unit}" if work.left else "nothing",
                "time": duration(work.seconds) if work.left and work.seconds != 0 else "",
                "": ", ".join(filter(None, (work.measured, work.note))),
            }
        )
    title = f"Plan of {plan.campaign} on dataset {plan.dataset}"
    console.print(table_of(pd.DataFrame(rows), title))
    if plan.rounds:
        table = [
            {
                "round": planned.round,
                "teachers": planned.teachers,
                "rows": f"{'' if planned.exact else 'about '}{planned.rows:,}",
                "time": duration(planned.seconds),
            }
            for planned in plan.rounds
        ]
        title = f"Rounds left ({plan.rounds_done} are done), if each passes its gate"
        console.print(table_of(pd.DataFrame(table), title))
        console.print(f"A round's time: {plan.measured}." if plan.measured else f"A round's time: {UNKNOWN}.")
    else:
        console.print(f"No round is left: {escape(str(plan.stop))}.")
    if plan.recipe:
        frame = pd.DataFrame([{"setting": c.setting, "chosen": c.value, "because": c.why} for c in plan.recipe])
        console.print(table_of(frame, "Recipe: what the campaign does not give is chosen for its data"))
    if plan.student:
        _print_student(plan.student)
    sizes = ", ".join(f"{name} {amount(size)}" for name, size in plan.bytes.items())
    console.print(f"Disk: {amount(plan.needed)} ({sizes}); {amount(plan.free)} are free in {escape(plan.work)}.")
    if plan.needed > plan.free:
        console.print("[red]That does not fit.[/red] Make room, or set T2T_WORK to a larger disk.")
    missing = plan.unmeasured
    if not missing:
        console.print(f"Altogether about {duration(plan.seconds)}.")
    else:
        known = f"{duration(plan.seconds)} and " if plan.seconds else ""
        console.print(f"Altogether {known}what is not measured yet: {', '.join(missing)}.")
    for note in plan.notes:
        console.print(escape(note))


def _print_student(student: StudentPlan) -> None:
    """The student's weights and what its training takes of memory."""
    weights = ", ".join(f"{name} {number:,}" for name, number in student.weights.items())
    trained = "" if student.trained == student.total else f", {student.trained:,} of them trained"
    console.print(f"Student: {student.total:,} weights ({weights}){trained}.")
    parts = ", ".join(f"{name} {amount(size)}" for name, size in student.bytes.items() if size)
    has = f"{student.where} has {amount(student.memory)}"
    console.print(f"Memory of its training: about {amount(student.needed)} ({parts}), the libraries besides; {has}.")
    if not student.fits:
        console.print(
            "[red]That does not fit.[/red] Take a smaller student or text.freeze: true, lower training.batch_samples, "
            "or set training.recompute."
        )


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
