"""Packages that declare plug-ins, installed for the length of a test: a module and its distribution's metadata."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest


def install(
    folder: Path, patch: pytest.MonkeyPatch, points: Mapping[str, Mapping[str, str]], modules: Mapping[str, str]
) -> None:
    """Puts a distribution on the path.

    Args:
        points: of each entry-point group, names and what they stand for.
        modules: the code of each module, by its name.
    """
    info = folder / "plugged-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    groups = (
        "\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in named.items())])
        for group, named in points.items()
    )
    (info / "entry_points.txt").write_text("\n\n".join(groups) + "\n")
    for name, code in modules.items():
        (folder / f"{name}.py").write_text(dedent(code))
        # What the test imports is forgotten with the package.
        patch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
        del sys.modules[name]
    patch.syspath_prepend(folder)
