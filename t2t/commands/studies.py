"""`t2t study`: which studies there are, and how far their cells came."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.markup import escape
from rich.table import Table

from t2t.campaign.find import NOTE
from t2t.commands.tables import console, table_of
from t2t.core.errors import T2TError
from t2t.core.progress import clock
from t2t.core.workspace import Workspace
from t2t.studies.cells import Study, read_study
from t2t.studies.outcomes import Outcome, outcomes_json, standing
from t2t.studies.shown import Shown, cells_table, shown

if TYPE_CHECKING:
    from t2t.commands.page.study import StudyReport


def studies_json(workspace: Workspace) -> list[dict[str, Any]]:
    """`t2t study list --json`: a list of {study, description, campaign, cells, seeds, campaigns, begun, error}.

    campaigns: cells times seeds; begun: those of them that have begun here. error: why its file cannot be read, else
    null, with nulls in the others' place.
    """
    rows = []
    for name in workspace.names("studies"):
        row: dict[str, Any] = dict.fromkeys(("description", "campaign", "cells", "seeds", "campaigns", "begun"))
        row = {"study": name, **row, "error": None}
        try:
            study = read_study(workspace, name)
        except T2TError as error:
            rows.append({**row, "error": str(error)})
            continue
        jobs = study.jobs()
        row |= {"description": study.config.description, "campaign": study.config.campaign}
        row |= {"cells": len(study.cells), "seeds": len(study.seeds), "campaigns": len(jobs)}
        row["begun"] = sum((workspace.work / "campaigns" / job.campaign / NOTE).is_file() for job in jobs)
        rows.append(row)
    return rows


def print_studies(workspace: Workspace) -> None:
    rows = studies_json(workspace)
    if not rows:
        console.print(f"No study in {escape(str(workspace.registry))} yet; docs/studies.md has one to begin with.")
        return
    frame = pd.DataFrame([row for row in rows if row["error"] is None], columns=[*rows[0]]).drop(columns=["error"])
    console.print(table_of(frame.astype(dict.fromkeys(("cells", "seeds", "campaigns", "begun"), "Int64"))))
    for row in rows:
        if row["error"] is not None:
            console.print(f"Passed over: {row['error']}", markup=False)
    console.print("Run one: t2t study NAME")


def study_outcomes(workspace: Workspace, study: Study, pattern: str | None = None) -> list[Outcome]:
    """How far each cell of a study came with each seed; writes nothing."""
    return [standing(workspace, job) for job in study.jobs(pattern)]


def print_outcomes(study: Study, outcomes: Sequence[Outcome]) -> None:
    """A line a cell: how many of its seeds are done, and what their champions come to on test."""
    rows = []
    for cell in dict.fromkeys(outcome.job.cell.name for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.job.cell.name == cell]
        scores = [row["pr_auc"] for row in outcomes_json(own) if row["pr_auc"] is not None]
        done = [outcome for outcome in own if outcome.state == "done"]
        row: dict[str, Any] = {"cell": cell, "done": f"{len(done)} of {len(own)} seeds"}
        row |= {"PR-AUC": mean(scores) if scores else None}
        row |= {"lowest": min(scores, default=None), "highest": max(scores, default=None)}
        rows.append(row | {"seconds": sum(outcome.seconds for outcome in own)})
    formats = {"PR-AUC": ".3f", "lowest": ".3f", "highest": ".3f", "seconds": ".0f"}
    frame = pd.DataFrame(rows).astype(dict.fromkeys(formats, float))
    console.print(table_of(frame, f"Study {study.name}: champions' PR-AUC on test over seeds", **formats))
    left = sum(outcome.state != "done" for outcome in outcomes)
    took = [outcome.seconds for outcome in outcomes if outcome.state == "done"]
    if left:
        rest = f", about {clock(mean(took) * left)} by those that are done" if took else ""
        console.print(f"{left} of {len(outcomes)} campaigns are to be run{rest}.")


def print_report(report: StudyReport) -> None:
    """The table of cells, what is missing, and where the page is."""
    console.print()
    for one in [cells_table(report.table, narrow=True), *shown(report.table)[1:]]:
        console.print(_rich(one))
        console.print(one.note, markup=False, style="dim")
        console.print()
    for cell, why in report.table.missing:
        console.print(f"Missing: {cell}: {why}.", markup=False, soft_wrap=True)
    for cell, keys in report.table.changed:
        console.print(f"{cell} began with other settings than the study has now: {keys}.", markup=False, soft_wrap=True)
    for name, why in report.table.left_out.items():
        console.print(f"Rival {name} is left out: {why}.", markup=False, soft_wrap=True)
    console.print(f"The study's page: {report.page}", markup=False, soft_wrap=True)


def _rich(one: Shown) -> Table:
    made = Table(title=escape(one.title), title_justify="left", header_style="bold")
    for name, numeric in one.columns:
        made.add_column(escape(name), justify="right" if numeric else "left", overflow="fold")
    for i, row in enumerate(one.rows):
        made.add_row(*map(escape, row), style="bold" if i == one.best else None)
    return made
