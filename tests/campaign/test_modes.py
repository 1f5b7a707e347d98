"""What a run writes of its own is for its owner alone: the folders of campaigns, embeddings and the lake."""

from __future__ import annotations

from pathlib import Path

from t2t.integrations.mlflow.store import create_store
from tests.helpers.campaigns import prepared, tiny


def mode(path: Path) -> str:
    return oct(path.stat().st_mode & 0o777)


def test_folders_are_their_owners_alone(world, tmp_path):
    work = tmp_path / "work"
    campaign = prepared(tiny(world, work))
    for folder in (campaign.folder, work / "embeddings", work / "lake.git"):
        assert mode(folder) == "0o700", folder


def test_the_database_of_the_history_is_its_owners_alone(tmp_path):
    create_store(tmp_path / "mlflow.db")
    assert mode(tmp_path / "mlflow.db") == "0o600"
