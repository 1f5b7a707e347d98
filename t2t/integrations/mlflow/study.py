"""A study in MLflow: one run, found by its tag, with tables, pictures and page; its campaigns' runs lie below it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from t2t.campaign.campaign import Campaign
from t2t.commands.page.study import StudyReport
from t2t.core.errors import T2TError, one_line
from t2t.core.files import sha256
from t2t.core.host import observer_names
from t2t.core.workspace import Workspace
from t2t.integrations.mlflow.names import LETTERS
from t2t.integrations.mlflow.runs import Runs
from t2t.integrations.mlflow.store import store_path
from t2t.integrations.mlflow.text import flatten
from t2t.studies.cells import Study
from t2t.studies.checks import study_of
from t2t.studies.config import MOST_CAMPAIGNS
from t2t.studies.numbers import Number, words
from t2t.studies.shown import cells_table, markdown, plain
from t2t.studies.tables import StudyTable

log = logging.getLogger("t2t")

KIND = {"t2t.kind": "study"}


def study_tags(campaign: Campaign) -> dict[str, str]:
    """The tags with which a study's campaign lies below the study's run, which is made where there is none; empty for a
    campaign of no study."""
    name = study_of(campaign.workspace, campaign.config.name)
    if name is None:
        return {}
    run = _runs(campaign.workspace, campaign.config.dataset, name).start(None, name, KIND, {}, {})
    return {"t2t.study": name, "mlflow.parentRunId": run}


def log_study(workspace: Workspace, study: Study, report: StudyReport) -> None:
    """Tells MLflow what a study came to, where it is asked to watch here (T2T_OBSERVERS) and has a store; a report that
    is written is not lost to a server that does not answer. Telling it again changes nothing."""
    if "mlflow" not in observer_names():
        return
    # Looking would make the store.
    if not os.environ.get("MLFLOW_TRACKING_URI") and not store_path(workspace.work).is_file():
        return
    try:
        _log(_runs(workspace, study.dataset, study.name), study, report)
    except (T2TError, OSError) as error:
        log.warning("The study's report is not in MLflow: %s", one_line(error))


def _runs(workspace: Workspace, dataset: str, study: str) -> Runs:
    return Runs(None, workspace.work, dataset, study, owner="study")


def _log(runs: Runs, study: Study, report: StudyReport) -> None:
    table = report.table
    run = runs.start(None, study.name, KIND, _params(study), {})
    runs.replace_metrics(run, metrics(table))
    shown = cells_table(table)
    # Two columns are called by the same words.
    titles = [
        f"{name} of {shown.columns[i - 1][0]}" if name == "95 %" else name for i, (name, _) in enumerate(shown.columns)
    ]
    listed = runs.files(run, {}, {"cells": pd.DataFrame(list(shown.rows), columns=titles)})
    for path in report.files:
        runs.client.log_artifact(run, str(path), _folder(path, report))
    lacking = "\n".join(f"- {plain(cell)}: {why}" for cell, why in table.missing)
    note = "\n\n".join([*([plain(table.description)] if table.description else []), markdown(shown), lacking]).strip()
    _adopt(runs, run, {job.campaign for job in study.jobs()})
    runs.finish(run, "RUNNING" if table.missing else "FINISHED", {**listed, "mlflow.note.content": note})


def _adopt(runs: Runs, run: str, campaigns: Collection[str]) -> None:
    """Puts the campaigns' runs below the study's: somebody may have deleted the one that they lay below."""
    where = "tags.`t2t.kind` = 'campaign'"
    for other in runs.client.search_runs([runs.experiment], where, max_results=MOST_CAMPAIGNS):
        tags = other.data.tags
        if tags.get("t2t.campaign") in campaigns and tags.get("mlflow.parentRunId") != run:
            runs.write(other.info.run_id, tags={"t2t.study": runs.campaign, "mlflow.parentRunId": run})


def _params(study: Study) -> dict[str, Any]:
    """The study's settings, and of each cell what differs in it, under names of MLflow's letters."""
    config = study.config.model_dump(mode="json", exclude={"name", "description", "figures", "cells"})
    names = _names([cell.name for cell in study.cells])
    cells = {f"cell {names[cell.name]}": json.dumps(cell.settings, default=str) for cell in study.cells}
    return {LETTERS.sub(" ", key): value for key, value in flatten({**config, "dataset": study.dataset, **cells})}


def _folder(path: Path, report: StudyReport) -> str:
    return "figures" if path in report.pictures else "report"


def metrics(table: StudyTable) -> dict[str, float]:
    """Of each cell mean, interval, each seed and the difference to the cell that it is held against, and rivals, under
    names of MLflow's letters: sections by measure, in each a bar a cell."""
    found: dict[str, float] = {}
    names = _names([row.name for row in table.cells])
    for row in table.cells:
        cell = names[row.name]
        for measure, number in row.numbers.items():
            found |= _of(words(measure).replace(",", ""), cell, number)
        for measure, number in row.less.items():
            if measure in ("test pr_auc", "validation pr_auc"):
                found |= _of(f"{words(measure)} less {names[row.against]}", cell, number)
        for rival in row.rivals:
            number_or_none = rival.numbers.get("test pr_auc")
            if number_or_none is not None:
                found[f"rivals on test/{LETTERS.sub(' ', rival.name)} beside {cell}"] = number_or_none.mean
    return found


def _of(section: str, cell: str, number: Number) -> dict[str, float]:
    found = {f"{section}/{cell}": number.mean}
    if number.low is not None and number.high is not None:
        found |= {f"{section} interval/{cell} low": number.low, f"{section} interval/{cell} high": number.high}
    if number.pairs is not None:
        found |= {f"{section} seeds/{cell} seed {seed}": value for seed, value in number.seeds.items()}
    return found


def _names(cells: list[str]) -> Mapping[str, str]:
    """Cells as parts of metrics' names, with a hash behind those that would be like another one."""
    plain = {name: LETTERS.sub(" ", name).replace("/", "-").strip() or "cell" for name in cells}
    twice = {text for text in plain.values() if list(plain.values()).count(text) > 1}
    return {name: f"{text} {sha256(name)[:6]}" if text in twice else text for name, text in plain.items()}
