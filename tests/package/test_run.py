"""`t2t.run` is a module that can be called, so that the function and the room of one name do not hide each other."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import t2t
from t2t.campaign.observer import Observer
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
