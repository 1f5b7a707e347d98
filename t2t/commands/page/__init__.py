"""`t2t report`: one self-contained HTML page of what a campaign came to.

`material` reads the lake; `parts` and the files beside it make numbers, tables and pictures of it; `contribution`,
`changes` and `clips` find what the lake does not have; `page` renders. Whatever is missing, the page is made and says
so.
"""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from t2t.commands.page import parts
from t2t.commands.page.changes import changed
from t2t.commands.page.clips import Clips
from t2t.commands.page.examples import right_and_wrong
from t2t.commands.page.material import Material, part
from t2t.commands.page.page import render
from t2t.commands.page.scales import maps
from t2t.commands.page.topics import by_topic
from t2t.commands.page.yardsticks import held_against
from t2t.core.config import Config
from t2t.core.errors import T2TError
from t2t.core.files import write_text
from t2t.core.workspace import Workspace


class ReportConfig(Config):
    """What the deployment `report` is asked for."""

    campaign: str = Field(description="A campaign that has run here.")
    leave_one_out: bool = Field(True, description="Measure what each teacher adds, by short trainings without it.")


def write_report(workspace: Workspace, campaign: str, leave_one_out: bool = True, out: Path | None = None) -> Path:
    """Writes a campaign's report.

    The lake is only read. What is measured for the report is kept under `work/campaigns/<campaign>/report/`, so that a
    second report takes no training.

    Args:
        leave_one_out: measure what each outside teacher adds, by trainings with few steps.
        out: the page's file; `work/campaigns/<campaign>/report/<campaign>.html` by default.

    Returns: the page's path.

    Raises T2TError when the campaign has not begun here. Whatever else is missing, the page says so.
    """
    material = Material(workspace, campaign)
    clips = Clips(material)
    command = ["t2t", "report", campaign, *([] if leave_one_out else ["--no-leave-one-out"])]
    html = render(
        material=material,
        headline=part(parts.headline, material),
        state=parts.state(material),
        rounds=part(parts.rounds, material),
        curves=part(parts.curves, material),
        yardsticks=part(held_against, material),
        contribution=part(parts.contribution, material, leave_one_out),
        topics=part(by_topic, material),
        examples=part(right_and_wrong, material, clips),
        changed=part(changed, material, clips),
        teachers=part(parts.teachers, material),
        maps=maps(material),
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
    return path
