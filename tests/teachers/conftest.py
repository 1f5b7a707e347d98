"""An empty lake, and the dataset of three samples that teachers are registered for."""

from __future__ import annotations

from pathlib import Path

import pytest

from t2t.data.dataset import Dataset
from t2t.lake import Lake, open_lake
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
