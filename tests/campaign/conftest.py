"""The campaign `tiny` at work, for every test of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from t2t.campaign.campaign import Campaign
from tests.helpers.campaigns import tiny


@pytest.fixture(scope="session")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store of embeddings for all tests of this folder: its content does not depend on who asks."""
    return tmp_path_factory.mktemp("embeddings")


@pytest.fixture
def campaign(world: Path, tmp_path: Path, embeddings: Path) -> Callable[..., Campaign]:
    """Makes a campaign at work in a work folder of the test's own."""

    def make(work: str = "work", data: Path | None = None, **changes: Any) -> Campaign:
        folder = tmp_path / work
        folder.mkdir(exist_ok=True)
        if not (folder / "embeddings").exists():
            (folder / "embeddings").symlink_to(embeddings)
        return tiny(world, folder, data, **changes)

    return make
