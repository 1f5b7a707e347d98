"""A project as people have it, with the tiny world's data and the tiny campaign under the demo's name."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.helpers.worlds import CAMPAIGN, DEMO_TEACHERS


def project(world: Path, folder: Path) -> Path:
    """A folder with `registry/`, `data/` (a link, only read) and, once something runs, `work/`."""
    shutil.copytree(world / "registry", folder / "registry")
    campaign = re.sub("(?m)^teachers: .*", f"teachers: [{', '.join(DEMO_TEACHERS)}]", f"name: demo{CAMPAIGN}")
    (folder / "registry" / "campaigns" / "demo.yaml").write_text(campaign)
    (folder / "data").symlink_to(world / "data")
    return folder
