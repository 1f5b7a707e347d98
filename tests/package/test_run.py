"""`t2t.run` is a module that can be called, so that the function and the room of one name do not hide each other."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import t2t
from t2t.campaign.observer import Observer, observer_names
from t2t.campaign.record import champion
from t2t.core.errors import T2TError
from tests.helpers.campaigns import run, tiny


@pytest.mark.parametrize(
    "lines",
    [
        "import t2t",
        "import t2t.run",
        "import t2t; from t2t import run; assert run is t2t.run",
    ],
)
def test_it_is_the_same_however_it_was_imported(lines: str) -> None:
    code = f"{lines}\nassert callable(t2t.run) and callable(t2t.run.run) and t2t.run.report_campaign\nprint('well')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "well\n", done.stderr


def test_it_is_called_and_shown_as_the_function_is() -> None:
    assert list(inspect.signature(t2t.run).parameters) == ["campaign", "workspace", "name", "settings", "observer"]
    assert type(t2t.run).__call__.__doc__ == t2t.run.run.__doc__


def test_settings_are_a_list() -> None:
    with pytest.raises(T2TError, match=r"settings is a list: settings=\['training.steps=3'\]"):
        t2t.run("tiny", settings="training.steps=3")


def test_a_campaign_that_was_opened_is_run_and_names_its_champion(world: Path, tmp_path: Path) -> None:
    campaign = tiny(world, tmp_path, training={"steps": 2, "evaluate_every": 1}, rounds={"max": 1})
    assert repr(campaign) == f"Campaign('tiny', dataset 'demo', in {tmp_path / 'campaigns' / 'tiny'})"
    assert campaign.champion() is None
    records = t2t.run(campaign, observer=Observer())
    assert records == run(campaign)
    best = campaign.champion()
    assert best == champion(records)
    assert best is not None
    assert campaign.checkpoint(best) == campaign.files(0).student
    assert t2t.load_student(campaign.checkpoint(best), "cpu").teachers == ["human", "vendor"]


def test_a_finished_campaign_is_looked_after_without_a_server_of_its_own(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("T2T_OBSERVERS", "")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    campaign = tiny(world, tmp_path, training={"steps": 2, "evaluate_every": 1}, rounds={"max": 1})

    def no_server(*_: Any, **__: Any) -> None:
        raise AssertionError("a server starts")

    monkeypatch.setattr(t2t.run, "prefect_server", no_server)
    with pytest.raises(AssertionError, match="a server starts"):
        t2t.run.run_campaign(campaign.workspace, campaign.config)
    before = run(campaign)
    shown: list[Any] = []
    monkeypatch.setattr("t2t.integrations.finished.print_rounds", lambda *asked: shown.append(asked))
    t2t.run.run_campaign(campaign.workspace, campaign.config)
    assert shown == [(campaign.workspace, "tiny")]
    assert campaign.ledger.records() == before


@pytest.mark.parametrize(
    ("arguments", "keywords", "words"),
    [
        ((Path("demo"),), {}, "^A campaign is named by a text, and .*Path"),
        ((None,), {}, "^A campaign is named by a text, and None is none"),
        (("x" * 300,), {}, "a name of at most 200 bytes is needed"),
        (("demo",), {"workspace": "work"}, "^workspace is a t2t.core.workspace.Workspace"),
        (("demo",), {"workspace": {}}, "^workspace is a"),
        (("demo",), {"settings": None}, "^settings is a list of texts"),
        (("demo",), {"settings": {"training.steps": 3}}, "^settings is a list of texts"),
        (("demo",), {"settings": [3]}, "^A setting is a text"),
        (("demo",), {"settings": ["name=foo"]}, "another name is given by --name"),
        (("demo",), {"name": 3}, "^A campaign's name is a text"),
        (("demo",), {"observer": Observer}, "^observer is a t2t.campaign.observer.Observer"),
        (("demo",), {"observer": False}, "^observer is a"),
    ],
)
def test_what_is_of_another_type_is_refused_in_words(arguments: Any, keywords: Any, words: str) -> None:
    with pytest.raises(T2TError, match=words):
        t2t.run(*arguments, **keywords)


@pytest.mark.parametrize(
    ("value", "names"), [(None, ["mlflow"]), ("", []), (" mlflow, mlflow ,diary", ["mlflow", "diary"])]
)
def test_observers_of_the_environment(value: str | None, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("T2T_OBSERVERS", raising=False)
    if value is not None:
        monkeypatch.setenv("T2T_OBSERVERS", value)
    assert observer_names() == names


def test_only_those_are_asked_who_will_be_told(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    campaign = tiny(world, tmp_path / "work", rounds={"max": 1})
    with pytest.raises(T2TError, match=r"^MLFLOW_TRACKING_URI: no MLflow server answers at"):
        t2t.run(campaign)
    monkeypatch.setenv("T2T_OBSERVERS", "")
    assert len(t2t.run(campaign)) == 1
    assert len(t2t.run(campaign, observer=Observer())) == 1
