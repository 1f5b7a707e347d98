"""A tiny study that has run in part; read only."""

from __future__ import annotations

from pathlib import Path

import pytest

from t2t.core.workspace import Workspace
from t2t.studies.cells import Study


@pytest.fixture(scope="session")
def half(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Study]:
    """Two cells with two seeds; the second cell's second seed has not run."""
    from tests.helpers.studies import run_jobs, study_in  # with torch, which unit tests beside this do without

    workspace, study = study_in(world, tmp_path_factory.mktemp("study"))
    run_jobs(workspace, study, 3)
    return workspace, study
