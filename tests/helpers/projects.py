"""A project as people have it, with the tiny world's data and the tiny campaign under the demo's name."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.helpers.worlds import CAMPAIGN


def project(world: Path, folder: Path) -> Path:
    """A folder with `registry/`, `data/` (a link, only read) and, once something runs, `work/`."""
    shutil.copytree(world / "registry", folder / "registry")
    (folder / "registry" / "campaigns" / "demo.yaml").write_text(f"name: demo{CAMPAIGN}")
    (folder / "data").symlink_to(world / "data")
    return folder
