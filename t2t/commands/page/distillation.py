"""`t2t distill report`: what an encoder is worth beside its teachers, as one HTML page, with Markdown, CSV, JSON and
pictures beside it."""

from __future__ import annotations

import platform
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from t2t.commands.page.page import render
from t2t.commands.page.parts import versions
from t2t.commands.page.pictures import svg
from t2t.core.errors import T2TError
from t2t.core.files import write_text
from t2t.core.progress import clock
from t2t.core.workspace import Workspace
from t2t.distillation.evaluation.report import Picture, write_report
from t2t.distillation.evaluation.table import EvaluationTable, cells, note


@dataclass(frozen=True)
class DistillationReport:
    """Where a distillation's report lies."""

    page: Path
    beside: tuple[Path, ...]

    @property
    def json(self) -> Path:
        return self.page.with_suffix(".json")

    @property
    def files(self) -> list[Path]:
        return [self.page, *self.beside]


def write_distillation_report(
    workspace: Workspace,
    name: str,
    table: EvaluationTable,
    out: Path | None = None,
    facts: dict[str, str] | None = None,
) -> DistillationReport:
    """Writes the report of what was measured of an encoder.

    Args:
        out: the page's file; `work/distillations/<name>/report/<name>.html` by default.
        facts: what the page says of how the encoder was made, by what it is called: its fingerprint, its teachers'.

    Raises T2TError where it cannot be written.
    """
    page = out or workspace.work / "distillations" / name / "report" / f"{name}.html"
    file = workspace.place("distillations", name)
    teachers = list(dict.fromkeys(row.encoder for row in table.rows if row.role == "teacher"))
    said: dict[str, Any] = {
        "teachers": teachers,
        "seconds": clock(table.seconds),
        "time": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "made": dict(facts or {}),
        "command": shlex.join(["t2t", "distill", name]),
        "report": shlex.join(["t2t", "distill", "report", name, *(["--out", str(out)] if out else [])]),
        "versions": versions(),
        "platform": platform.platform(terse=True),
        "file": file.read_text(encoding="utf-8") if file.is_file() else "",
    }
    lines = (f"A student of {', '.join(teachers)}." if teachers else "A student.",)
    drawn, beside = write_report(table, page, name, lines)
    html = render(
        "distillation.html.j2",
        name=name,
        facts=said,
        parts=[(task, *cells(table, task), note(task), _shown(drawn, task.dataset)) for task in table.tasks],
    )
    try:
        write_text(page, html)
    except OSError as error:
        raise T2TError(f"{page}: the report cannot be written: {error.strerror}. Name another file: --out") from None
    return DistillationReport(page, tuple(beside))


def _shown(drawn: list[Picture], dataset: str) -> list[tuple[Picture, Any]]:
    """A dataset's pictures, each with its SVG."""
    return [(one, svg(one.figure, f"picture-{i}")) for i, one in enumerate(drawn, 1) if one.dataset == dataset]
