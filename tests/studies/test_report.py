"""A study's report: the page is whole and self-contained, says what is missing, and stands in MLflow in one run."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from t2t.campaign.campaign import Campaign
from t2t.campaign.engine import LocalEngine
from t2t.commands.page.study import StudyReport, write_study_report
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.integrations.mlflow.observer import MLflowObserver
from t2t.integrations.mlflow.study import log_study, metrics
from t2t.studies.cells import Study, read_study
from t2t.studies.checks import remember_study
from tests.helpers.campaigns import run
from tests.helpers.cli import invoke
from tests.helpers.page import Page
from tests.helpers.studies import DESCRIPTION, NESTED


@pytest.fixture(scope="module")
def report(half: tuple[Workspace, Study], tmp_path_factory: pytest.TempPathFactory) -> StudyReport:
    return write_study_report(*half, out=tmp_path_factory.mktemp("report") / "out" / "page.html")


@pytest.fixture(scope="module")
def page(report: StudyReport) -> Page:
    return Page(report.page.read_text(encoding="utf-8"))


def test_every_part_is_there_and_what_is_missing_is_said(page: Page) -> None:
    assert [about["id"] for about in page.all("section")] == ["tables", "figures", "cells-made", "made"]
    targets = {f"#{about['id']}" for _, about in page.elements if "id" in about}
    assert {about["href"] for about in page.all("a")} <= targets
    assert f"Missing. {NESTED}, seed 1: no round is finished." in page.text["tables"]
    assert len([about for about in page.all("div") if about.get("role") == "img"]) == 4
    assert "t2t study report kinds" in page.text["made"]
    assert "kinds-two-teachers-s1" in page.text["cells-made"]


def test_nothing_comes_from_elsewhere_whatever_words_say(page: Page) -> None:
    assert page.all("script") == [{}]
    for tag, about in page.elements:
        assert not any(name.startswith("on") for name in about), (tag, about)
        for name in ("src", "srcset", "href", "xlink:href", "action", "data"):
            assert re.match(r"#", about.get(name) or "#"), (tag, about)
    assert not re.search(r"url\((?!#)|@import", page.html)
    assert {tag for tag, _ in page.elements}.isdisjoint({"link", "iframe", "object", "embed", "form", "base", "b"})
    assert DESCRIPTION in page.text["head"]
    assert NESTED in page.text["tables"]
    ids = [about["id"] for _, about in page.elements if "id" in about]
    assert len(ids) == len(set(ids))


def test_markdown_and_its_pictures_lie_beside_the_page(report: StudyReport) -> None:
    text = report.markdown.read_text(encoding="utf-8")
    named = re.findall(r"^!\[[^\]]*\]\(([^)]+)\)$", text, re.MULTILINE)
    assert named == [path.name for path in report.pictures]
    assert len(named) == 4
    assert all((report.page.parent / name).read_bytes().startswith(b"\x89PNG") for name in named)
    assert report.page.with_suffix(".md") == report.markdown
    for part in ("## Cells", "## Rivals", "`t2t study kinds`", "```yaml", "**Missing:**"):
        assert part in text
    number = report.table.cells[0].numbers["test pr_auc"]
    assert f"{number.mean:.3f}" in text
    assert json.loads(report.json.read_text())["study"] == "kinds"
    assert report.csv.read_text().startswith("what,cell,")


def test_the_command_prints_the_table_and_where_the_page_is(half: tuple[Workspace, Study], tmp_path: Path) -> None:
    workspace, _ = half
    out = tmp_path / "a.html"
    place = ("--registry", workspace.registry, "--data-root", workspace.data, "--work", workspace.work)
    said = invoke(*place, "study", "report", "kinds", "--out", out)
    assert said.exit_code == 0, said.output
    assert f"The study's page: {out}" in said.output.replace("\n", "")
    assert f"Missing: {NESTED}, seed 1: no round is finished." in said.output
    assert "two" in said.output
    as_json = invoke(*place, "study", "report", "kinds", "--out", out, "--json")
    assert json.loads(as_json.output)["cells"][0]["name"] == "two teachers"


def test_where_it_cannot_be_written_is_said_before_anything_is_measured(
    half: tuple[Workspace, Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("t2t.commands.page.study.measure", lambda *_: pytest.fail("measured"))
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.html").mkdir()
    for place in ("file/page.html", "folder.html"):
        with pytest.raises(T2TError, match="the report cannot be written"):
            write_study_report(*half, out=tmp_path / place)
    for place in ("page.md", "page.json", "page"):  # which would lie where the page does
        with pytest.raises(T2TError, match=r"the page's name ends in \.html or \.htm"):
            write_study_report(*half, out=tmp_path / place)


# -- MLflow -------------------------------------------------------------------------------------------------------


@dataclass
class Told:
    """The study in a work folder of its own, whose last campaign has run with MLflow watching."""

    workspace: Workspace
    study: Study
    report: StudyReport

    @property
    def client(self) -> Any:
        import mlflow

        uri = f"sqlite:///{self.workspace.work / 'mlflow.db'}"
        return mlflow.MlflowClient(uri, uri)

    def runs(self, kind: str) -> list[Any]:
        experiment = self.client.get_experiment_by_name("demo").experiment_id
        where = f"tags.`t2t.study` = 'kinds' and tags.`t2t.kind` = '{kind}'"
        return list(self.client.search_runs([experiment], where))

    def files(self, run: str, folder: str = "") -> set[str]:
        return {file.path for file in self.client.list_artifacts(run, folder)}


@pytest.fixture(scope="module")
def told(half: tuple[Workspace, Study], tmp_path_factory: pytest.TempPathFactory) -> Told:
    workspace, _ = half
    place = Workspace(workspace.registry, workspace.data, tmp_path_factory.mktemp("told") / "work")
    shutil.copytree(workspace.work, place.work)
    study = read_study(place, "kinds")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("T2T_OBSERVERS", raising=False)
        # Before the last campaign has run, and after.
        early = write_study_report(place, study)
        log_study(place, study, early)
        assert not (place.work / "mlflow.db").exists()  # nobody has asked for a history here yet
        job = study.jobs()[-1]
        remember_study(place, study, job)
        campaign = Campaign(job.config, place, LocalEngine("cpu"))
        run(campaign, MLflowObserver.of(campaign))
        log_study(place, study, early)
        report = write_study_report(place, study)
        log_study(place, study, report)
        log_study(place, study, report)
    return Told(place, study, report)


def test_a_study_is_one_run_and_its_campaigns_lie_below_it(told: Told) -> None:
    (parent,) = told.runs("study")
    (campaign,) = told.runs("campaign")
    assert campaign.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert campaign.data.tags["t2t.campaign"] == told.study.jobs()[-1].campaign
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name == "kinds"
    assert parent.data.params["seeds"] == "2"
    assert "two teachers" in parent.data.tags["mlflow.note.content"]


def test_its_numbers_are_those_of_the_report_and_told_again_nothing_is_there_twice(told: Told) -> None:
    (parent,) = told.runs("study")
    assert parent.data.metrics == pytest.approx(metrics(told.report.table))
    number = told.report.table.cells[1].numbers["test pr_auc"]
    named = {key: value for key, value in parent.data.metrics.items() if "nested" in key}
    assert named["PR-AUC on test/b nested -b"] == pytest.approx(number.mean)
    assert named["PR-AUC on test interval/b nested -b low"] == pytest.approx(number.low)
    assert named["PR-AUC on test seeds/b nested -b seed 1"] == pytest.approx(number.seeds[1])
    history = told.client.get_metric_history(parent.info.run_id, "PR-AUC on test/two teachers")
    assert [(point.step, point.value) for point in history] == [
        (0, pytest.approx(told.report.table.cells[0].numbers["test pr_auc"].mean))
    ]
    # What came with the last campaign is written over what stood there before.
    grown = told.client.get_metric_history(parent.info.run_id, "PR-AUC on test/b nested -b")
    assert len(grown) == 2


def test_its_files_are_the_reports(told: Told) -> None:
    (parent,) = told.runs("study")
    run_id = parent.info.run_id
    assert told.files(run_id, "report") == {f"report/kinds.{end}" for end in ("html", "md", "csv", "json")}
    assert len(told.files(run_id, "figures")) == 4
    assert json.loads(parent.data.tags["mlflow.loggedArtifacts"]) == [{"path": "tables/cells.json", "type": "table"}]


def test_a_study_that_is_done_ends_with_its_table_and_page(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T2T_OBSERVERS", "")
    place = told.workspace
    words = ("--registry", place.registry, "--data-root", place.data, "--work", place.work, "study", "kinds")
    said = invoke(*words)
    assert said.exit_code == 0, said.output
    page = place.work / "studies" / "kinds" / "report" / "kinds.html"
    assert said.output.rstrip().replace("\n", "").endswith(f"The study's page: {page}")
    assert "Missing" not in said.output
    assert {"Cells", "Rivals"} <= {line.strip() for line in said.output.splitlines()}
    # What is to be run is said without a report.
    assert "The study's page" not in invoke(*words, "--dry-run").output


def test_without_mlflow_nothing_is_told(told: Told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("T2T_OBSERVERS", "")
    elsewhere = Workspace(told.workspace.registry, told.workspace.data, tmp_path)
    (tmp_path / "mlflow.db").write_bytes(b"no database")
    log_study(elsewhere, told.study, told.report)  # looks at nothing
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db"]


def test_a_store_that_does_not_open_costs_no_report(
    told: Told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("T2T_OBSERVERS", raising=False)
    (tmp_path / "mlflow.db").write_bytes(b"no database")
    log_study(Workspace(told.workspace.registry, told.workspace.data, tmp_path), told.study, told.report)
    assert "The study's report is not in MLflow" in caplog.text


def test_a_run_that_somebody_deleted_is_made_again_and_its_campaigns_lie_below_it(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("T2T_OBSERVERS", raising=False)
    (before,) = told.runs("study")
    told.client.delete_run(before.info.run_id)
    log_study(told.workspace, told.study, told.report)
    (after,) = told.runs("study")
    assert after.info.run_id != before.info.run_id
    assert after.data.metrics == pytest.approx(metrics(told.report.table))
    assert [run.data.tags["mlflow.parentRunId"] for run in told.runs("campaign")] == [after.info.run_id]


def test_metrics_keep_cells_apart_whose_names_are_alike(told: Told) -> None:
    rows = [
        row.model_copy(update={"name": name, "less": {}})
        for row, name in zip(told.report.table.cells, ("a=b", "a b"), strict=True)
    ]
    found = metrics(told.report.table.model_copy(update={"cells": tuple(rows)}))
    names = {key for key in found if key.startswith("PR-AUC on test/")}
    assert len(names) == 2
    assert all(re.fullmatch(r"[\w\-. :/]+", key) for key in found)
