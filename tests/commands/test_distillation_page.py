"""The page of `t2t distill report`: nothing but itself, whatever names say, and all its numbers."""

from __future__ import annotations

import json

import pytest

from t2t.commands.page.distillation import write_distillation_report
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.distillation.evaluation.compare import evaluate
from t2t.distillation.evaluation.table import EvaluationTable
from tests.distillation.evaluation.worlds import classes, features

BAD = "<script>alert(1)</script> $x_1$"


@pytest.fixture(scope="module")
def table() -> EvaluationTable:
    def made(name, task):
        return features(task, 0.5, seed=len(name))

    return evaluate([classes()], "small", ["mobilenet", BAD], made, ks=(10,), resamples=50)


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    (tmp_path / "registry" / "distillations").mkdir(parents=True)
    (tmp_path / "registry" / "distillations" / "small.yaml").write_text("name: small  # <b>\n")
    return Workspace(tmp_path / "registry", tmp_path / "data", tmp_path / "work")


def test_the_page_has_every_encoder_and_what_it_was_made_of(table, workspace):
    written = write_distillation_report(workspace, "small", table, facts={"fingerprint": "abc123"})

    html = written.page.read_text()
    assert written.page == workspace.work / "distillations" / "small" / "report" / "small.html"
    assert all(path.is_file() for path in written.files)
    assert json.loads(written.json.read_text())["student"] == "small"
    assert "concatenation" in html
    assert "abc123" in html
    assert "t2t distill report small" in html
    assert str(table.of("made")["mobilenet"][0].value) in html
    assert html.count("<svg") == 2


def test_names_are_text_and_nothing_is_loaded_from_elsewhere(table, workspace):
    written = write_distillation_report(workspace, "small", table)

    html = written.page.read_text()
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "# &lt;b&gt;" in html
    assert "default-src &#39;none&#39;" in html
    assert "$x_1$" in html


def test_a_page_that_cannot_be_written_says_where(table, workspace, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(T2TError, match="the report cannot be written"):
        write_distillation_report(workspace, "small", table, tmp_path / "file" / "page.html")
