"""`t2t report`: one self-contained HTML page of what a campaign came to.

`material` reads the lake, `parts` makes numbers, tables and pictures of it, `contribution` and `changes` find the two
things that the lake does not have, `page` renders. Whatever is missing, the page is made and says so.
"""

from __future__ import annotations

import logging
import os
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from t2t.errors import T2TError, one_line

if TYPE_CHECKING:
    from t2t.registry import Workspace
    from t2t.report.material import Material

log = logging.getLogger("t2t")


def write_report(workspace: Workspace, campaign: str, leave_one_out: bool = True, out: Path | None = None) -> Path:
    """Writes a campaign's report, and logs it to MLflow where the campaign has a run.

    The lake is only read. What is measured for the report is kept under `work/campaigns/<campaign>/report/`, so that a
    second report takes no training.

    Args:
        leave_one_out: measure what each outside teacher adds, by trainings with few steps.
        out: the page's file; `work/campaigns/<campaign>/report/<campaign>.html` by default.

    Returns: the page's path.

    Raises T2TError when the campaign has not begun here. Whatever else is missing, the page says so.
    """
    from t2t.files import write_text
    from t2t.report import parts
    from t2t.report.changes import changed
    from t2t.report.material import Material, part
    from t2t.report.page import render

    material = Material(workspace, campaign)
    command = ["t2t", "report", campaign, *([] if leave_one_out else ["--no-leave-one-out"])]
    html = render(
        material=material,
        headline=part(parts.headline, material),
        state=parts.state(material),
        rounds=part(parts.rounds, material),
        curves=part(parts.curves, material),
        contribution=part(parts.contribution, material, leave_one_out),
        topics=part(parts.topics, material),
        changed=part(changed, material),
        teachers=part(parts.teachers, material),
        watch=part(parts.watch, material),
        lineage=part(parts.lineage, material),
        commits=part(parts.commits, material),
        made=parts.made(material),
        command=shlex.join([*command, *(["--out", str(out)] if out else [])]),
        time=datetime.now(UTC),
    )
    path = out or workspace.work / "campaigns" / campaign / "report" / f"{campaign}.html"
    try:
        write_text(path, html)
    except OSError as error:
        raise T2TError(f"{path}: the report cannot be written: {error.strerror}. Name another file: --out") from None
    to_mlflow(material, path)
    return path


def to_mlflow(material: Material, path: Path) -> None:
    """Stores the page with the campaign's run; a page that is written is not lost to a server that does not answer."""
    from t2t.mlflow_store import store_path

    work = material.workspace.work
    # Looking would make the store.
    if not os.environ.get("MLFLOW_TRACKING_URI") and not store_path(work).is_file():
        return
    from t2t.tracking import MLflowTracker

    try:
        MLflowTracker(None, work, material.dataset, material.campaign).log_page(path)
    except T2TError as error:
        log.warning("The report is not in MLflow: %s", one_line(error))
