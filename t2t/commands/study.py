"""The command line's words for studies: `t2t study NAME`. What they need is imported inside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from t2t.commands.groups import AsJson, RunsByName, print_json
from t2t.core.errors import T2TError

if TYPE_CHECKING:
    from t2t.commands.page.study import StudyReport
    from t2t.core.workspace import Workspace
    from t2t.studies.config import StudyRun

RunFlow: TypeAlias = "Callable[[Workspace, StudyRun], T2TError | None]"
ReportStudy: TypeAlias = "Callable[[Workspace, StudyRun, Path | None], StudyReport]"
Name = Annotated[str, typer.Argument(metavar="NAME", help="A study: the name of a file in registry/studies/.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="A setting of all cells: training.steps=500. May be repeated.")
]
Seeds = Annotated[str | None, typer.Option(help="Instead of the file's: so many, or some with commas between: 0,3.")]
Cells = Annotated[str | None, typer.Option(metavar="PATTERN", help="Only cells whose name fits: 'dual*'.")]
Named = Annotated[str | None, typer.Option("--name", help="Run it under another name, as a study of its own.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Run nothing: print the cells, what is done, and how long the rest takes.")
]


study_app = typer.Typer(
    cls=RunsByName,
    help="Run a study, a grid of campaigns: t2t study NAME. Without a name they are listed.",
    invoke_without_command=True,
)


@study_app.callback()
def studies(
    context: typer.Context,
    as_json: AsJson = False,
) -> None:
    if context.invoked_subcommand is None:
        list_studies(context, as_json)


@study_app.command("list")
def list_studies(
    context: typer.Context,
    as_json: AsJson = False,
) -> None:
    """List the studies of the registry: how many campaigns each has, and how many have begun."""
    from t2t.commands.studies import print_studies, studies_json

    if as_json:
        print_json(studies_json(context.obj))
    else:
        print_studies(context.obj)


def study_commands(run_flow: RunFlow, report_study: ReportStudy) -> typer.Typer:
    """The group of commands.

    Args:
        run_flow: runs a study in Prefect, which this room does not know; returns what is to be said of cells that
            failed.
        report_study: writes what a study came to, and tells the run history, which this room does not know either.
    """
    _add_run(run_flow, report_study)
    _add_report(report_study)
    return study_app


def _add_run(run_flow: RunFlow, report_study: ReportStudy) -> None:
    @study_app.command("run")
    def run(
        context: typer.Context,
        name: Name,
        settings: Settings = None,
        seeds: Seeds = None,
        cells: Cells = None,
        named: Named = None,
        dry_run: DryRun = False,
        as_json: AsJson = False,
    ) -> None:
        """Run every cell of a study with every seed, one campaign after the other; `run` may be left out.

        One that was interrupted goes on where it stopped. Uses the Prefect server at PREFECT_API_URL, or starts one of
        its own for as long as the study lasts.
        """
        from t2t.studies.cells import read_study
        from t2t.studies.checks import check_study

        order = _order(context, name, settings, seeds, named, cells)
        study = read_study(context.obj, order)
        check_study(study, context.obj, study.jobs(cells))
        error = None if dry_run else run_flow(context.obj, order)
        from t2t.commands.studies import print_outcomes, print_report, study_outcomes
        from t2t.studies.outcomes import outcomes_json

        outcomes = study_outcomes(context.obj, study, cells)
        written = None
        if not dry_run and any(outcome.records for outcome in outcomes):
            written = report_study(context.obj, order, None)
        if as_json:
            print_json(outcomes_json(outcomes))
        elif written is not None:
            print_report(written)
        else:
            print_outcomes(study, outcomes)
        if error is not None:
            raise error


def _add_report(report_study: ReportStudy) -> None:
    @study_app.command("report")
    def report(
        context: typer.Context,
        name: Name,
        settings: Settings = None,
        seeds: Seeds = None,
        named: Named = None,
        out: Annotated[
            Path | None, typer.Option(help="The page's file, others lie beside it; in the work folder if left out.")
        ] = None,
        as_json: AsJson = False,
        show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    ) -> None:
        """Write what a study came to: an HTML page, and Markdown, CSV, JSON and pictures beside it.

        What is missing is named there. The first one fits the study's baselines; a second one takes seconds.
        """
        from t2t.studies.cells import read_study

        order = _order(context, name, settings, seeds, named, None)
        read_study(context.obj, order)  # one that is none is refused before more is loaded
        from t2t.commands.studies import print_report

        written = report_study(context.obj, order, out)
        if as_json:
            typer.echo(written.json.read_text(encoding="utf-8"), nl=False)
        else:
            print_report(written)
        if show:
            typer.launch(str(written.page))


def _order(
    context: typer.Context,
    name: str,
    settings: list[str] | None,
    seeds: str | None,
    named: str | None,
    cells: str | None,
) -> StudyRun:
    """What the options ask for. Raises T2TError for an unknown study, and for what is no order."""
    from t2t.core.config import parse
    from t2t.studies.config import StudyRun

    wanted = {"study": name, "name": named, "settings": settings or (), "cells": cells, "seeds": _seeds(seeds)}
    context.obj.file("studies", name)
    return parse(StudyRun, wanted, f"t2t study {name}")


def _seeds(text: str | None) -> int | tuple[int, ...] | None:
    """`3` is so many seeds, `0,3` are these."""
    if text is None:
        return None
    try:
        found = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise T2TError(f"--seeds {text!r}: write how many, as 3, or which, as 0,3,5.") from None
    return found[0] if len(found) == 1 and "," not in text else found
