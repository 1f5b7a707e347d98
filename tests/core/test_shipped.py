"""The registry that is shipped: every file in it is valid, and names no place of one machine."""

from __future__ import annotations

import pytest

from t2t.campaign.entries import campaign_config, dataset_config, set_members, teacher_entry, teacher_file
from t2t.core.config import VARIABLE, read_yaml
from t2t.core.workspace import Workspace
from t2t.distillation.entries import read_distillation
from t2t.studies.cells import read_study
from tests.helpers.worlds import ROOT

SHIPPED = sorted((ROOT / "registry").rglob("*.yaml"))


def test_there_are_entries_of_each_kind():
    assert {path.parent.name for path in SHIPPED} == {"datasets", "teachers", "campaigns", "studies", "distillations"}
    assert {path.suffix for path in (ROOT / "registry").rglob("*") if path.is_file()} == {".yaml", ".json"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_shipped_entry_is_valid(path, tmp_path, monkeypatch):
    monkeypatch.setenv("T2T_WEIGHTS", str(tmp_path))  # a study's campaign may name it
    for variable in set(VARIABLE.findall(path.read_text())) - {"data"}:
        monkeypatch.setenv(variable, str(tmp_path))
    workspace = Workspace.find(ROOT / "registry", tmp_path, tmp_path)
    name = path.stem
    if path.parent.name == "datasets":
        assert dataset_config(workspace, name).name == name
    elif path.parent.name == "teachers":
        members = set_members(workspace, name)
        entry = teacher_entry(workspace, f"{name}.{members[0]}" if members else name, tmp_path)
        assert entry.id.partition(".")[0] == name
        assert entry.description
    elif path.parent.name == "studies":
        study = read_study(workspace, name)
        assert (study.name, bool(study.config.description)) == (name, True)
        assert study.dataset in workspace.names("datasets")
    elif path.parent.name == "distillations":
        distillation = read_distillation(workspace, name)
        assert (distillation.name, bool(distillation.description)) == (name, True)
        assert {*distillation.datasets, *distillation.evaluation.datasets} <= {*workspace.names("datasets")}
    else:
        campaign = campaign_config(workspace, name)
        assert campaign.name == name
        assert campaign.dataset in workspace.names("datasets")
        assert all(teacher_file(workspace, teacher).is_file() for teacher in campaign.teachers)


def test_no_shipped_entry_names_a_place_outside_the_repository_and_the_data():
    for path in SHIPPED:
        places = [str(value) for value in read_yaml(path).values() if "/" in str(value)]
        assert [place for place in places if place.startswith("/") or ".." in place] == [], path
