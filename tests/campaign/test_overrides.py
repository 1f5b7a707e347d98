"""A campaign by its name, with what differs from its file: the same as the command line's `--set`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from t2t.campaign.entries import read_campaign
from t2t.campaign.overrides import campaign_with, overrides_from, unset_variables
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from tests.helpers.worlds import ROOT

MINE = {
    "dataset": "demo",
    "teachers": ["vendor"],
    "encoder": {
        "kind": "timm",
        "model": "resnet18",
        "weights": "${WEIGHTS}/a.st",
        "model_kwargs": {"pad_type": "same"},
    },
    "training": {"steps": 50, "task_weight": {"vendor": 2.0}},
    "rounds": {"max": 2},
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    (tmp_path / "registry" / "campaigns").mkdir(parents=True)
    (tmp_path / "registry" / "campaigns" / "mine.yaml").write_text(yaml.safe_dump(MINE))
    monkeypatch.setenv("WEIGHTS", "/weights")
    return Workspace.find(tmp_path / "registry", tmp_path / "data", tmp_path / "work")


def test_a_variable_in_set_is_this_machine_s(place: Workspace) -> None:
    config = read_campaign(place, "mine", None, ["encoder.weights=${WEIGHTS}/b.st"])
    assert config.encoder.weights == "/weights/b.st"  # type: ignore[union-attr]
    with pytest.raises(T2TError, match=r"mine.yaml: \$\{NOWHERE\} is not set. Set the environment variable NOWHERE"):
        read_campaign(place, "mine", None, ["encoder.weights=${NOWHERE}/b.st"])
    # One that the file names and the command line replaces is not asked for.
    assert read_campaign(place, "mine", None, ["encoder={kind: pixels}"]).encoder.kind == "pixels"


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ([], {}),
        (["training.steps=7"], {"training": {"steps": 7}}),
        (["rounds={max: 3}"], {"rounds": {"max": 3}}),
        (["encoder.frames=4"], {"encoder": {"frames": 4}}),
        (["student.text.max_tokens=9"], {"student": {"text": {"max_tokens": 9}}}),
        # What is no setting of ours is replaced whole, as `--set` does it.
        (["encoder.model_kwargs={}"], {"encoder": {"model_kwargs": {}}}),
        (["training.task_weight.human=3"], {"training": {"task_weight": {"vendor": 2.0, "human": 3.0}}}),
        (["teachers=[vendor, other]"], {"teachers": ["vendor", "other"]}),
        # As the models write it, which is what the server's schema knows.
        (["self_training.retention={window: 2}"], {"self_training": {"retention": 2}}),
        (["encoder={kind: pixels, grid: 2}"], {"encoder": {"kind": "pixels", "grid": 2}}),
        (["rounds.control=null"], {"rounds": {"control": None}}),
    ],
)
def test_they_come_to_what_set_comes_to(place: Workspace, settings: list[str], kept: dict[str, Any]) -> None:
    overrides = overrides_from(place, "mine", None, settings)
    assert overrides == kept

    assert campaign_with(place, "mine", overrides) == read_campaign(place, "mine", None, settings)


def test_what_set_would_take_away_is_refused(place: Workspace) -> None:
    assert overrides_from(place, "mine", None, ["rounds={max: 5}"]) == {"rounds": {"max": 5}}
    with pytest.raises(T2TError, match="a deployment can only add to the file"):
        overrides_from(place, "mine", None, ["training={steps: 7}"])  # and no task_weight


def test_another_name_is_another_campaign(place: Workspace) -> None:
    assert overrides_from(place, "mine", "longer", ["training.steps=90"]) == {
        "name": "longer",
        "training": {"steps": 90},
    }
    assert campaign_with(place, "mine", {"name": "longer"}).name == "longer"
    with pytest.raises(T2TError, match="another name is given by --name"):
        overrides_from(place, "mine", None, ["name=other"])
    with pytest.raises(T2TError, match="key 'name'"):
        read_campaign(place, "mine", "", [])  # an unset variable of a script: not the campaign itself


def test_variables_are_those_of_the_machine_that_runs_it(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = overrides_from(place, "mine", None, ["encoder.weights=${THERE}/b.st"])
    assert overrides == {"encoder": {"weights": "${THERE}/b.st"}}
    assert unset_variables(MINE, overrides) == ["THERE"]
    with pytest.raises(T2TError, match=r"mine.yaml, with encoder changed: \$\{THERE\} is not set"):
        campaign_with(place, "mine", overrides)
    monkeypatch.setenv("THERE", "/there")
    assert unset_variables(MINE, overrides) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"training": {"stepz": 1}}, "unknown key 'training.stepz'. Did you mean 'steps'"),
        ({"gate": "sometimes"}, "key 'gate'"),
        ({"training": {"steps": 0}}, "key 'training.steps'"),
        ({"training": 3}, "training"),
    ],
)
def test_what_does_not_fit_is_named(place: Workspace, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(T2TError, match=message):
        campaign_with(place, "mine", overrides)
    with pytest.raises(T2TError, match=r"no such campaign\. Did you mean 'mine'"):
        campaign_with(place, "mine2", {})


def test_the_shipped_campaigns_are_read_as_run_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T2T_WEIGHTS", "/weights")
    place = Workspace.find(ROOT / "registry")
    for name in place.names("campaigns"):
        assert campaign_with(place, name, {}) == read_campaign(place, name, None, [])
