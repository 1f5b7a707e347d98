"""What a run says at its end: the champion's round, and the servers that are in use."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from t2t.integrations.finished import hints
from tests.helpers.records import record


def campaign(*scores: float) -> Any:
    """The workspace and the ledger of a campaign."""
    records = [record(k, score) for k, score in enumerate(scores)]
    ledger = SimpleNamespace(layout=SimpleNamespace(name="demo"), records=lambda: records)
    return SimpleNamespace(work=Path("work")), ledger


@pytest.fixture(autouse=True)
def no_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_UI_URL", "T2T_OBSERVERS"):
        monkeypatch.delenv(variable, raising=False)


def test_the_champion_is_named_and_held_beside_another_round() -> None:
    assert hints(*campaign(0.5, 0.7, 0.6)) == {
        "Look at the rounds in MLflow": "t2t ui",
        "Ask the champion (round 1)": "t2t predict demo FILE",
        "Two rounds side by side": "t2t compare demo 0 1",
    }
    assert hints(*campaign(0.7, 0.6, 0.5))["Two rounds side by side"] == "t2t compare demo 0 2"
    assert "Two rounds side by side" not in hints(*campaign(0.7))
    assert list(hints(*campaign())) == ["Look at the rounds in MLflow"]


def test_the_servers_in_use_are_named_without_their_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@history:5000/")
    monkeypatch.setenv("PREFECT_API_URL", "http://flows:4200/api")
    found = hints(*campaign(0.5))
    assert found["Look at the rounds in MLflow"].startswith("http://history:5000/#/experiments")
    assert found["The run in Prefect"] == "http://flows:4200"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@db/x")
    assert hints(*campaign(0.5))["Look at the rounds in MLflow"] == (
        "T2T_SERVER_LOGIN_FILE=work/login python -m t2t.integrations.mlflow.server --backend-store-uri postgresql://db/x"
    )
    monkeypatch.setenv("T2T_OBSERVERS", "")
    assert "Look at the rounds in MLflow" not in hints(*campaign(0.5))
