"""A lake of each backend; lakeFS where there is one (tests/helpers/lakefs.py)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from t2t.lake import Lake, open_lake
from tests.helpers.lakefs import BACKENDS
from tests.helpers.lakes import Opener


@pytest.fixture(params=BACKENDS)
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the test's lake once more, in this process or another."""
    uri = "git" if request.param == "git" else request.getfixturevalue("lakefs_server").uri
    return partial(open_lake, uri, tmp_path / "lake")


@pytest.fixture
def lake(opener: Opener) -> Lake:
    return opener()
