"""An empty lake, and the dataset of three samples that teachers are registered for."""

from __future__ import annotations

from pathlib import Path

import pytest

from t2t.data.dataset import Dataset
from t2t.lake import Lake, open_lake
from t2t.teachers.api import pace
from tests.helpers.openai_server import KEY
from tests.helpers.teachers import make


@pytest.fixture
def work(tmp_path) -> Path:
    return tmp_path / "work"


@pytest.fixture
def lake(work) -> Lake:
    return open_lake("git", work)


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    return make(tmp_path / "data")


@pytest.fixture
def quick(monkeypatch) -> None:
    """A key for the fake server, no budget, and short waits between tries."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("T2T_BUDGET", raising=False)
    monkeypatch.setattr(pace, "FIRST", 0.01)
