"""Samples' paths: the quick way for plain files gives what resolving each path gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from t2t.core.errors import DataError
from t2t.data.remote.addresses import RemoteConfig
from t2t.data.sample_paths import SamplePaths

pytestmark = pytest.mark.unit


def test_every_way_to_write_a_path_comes_to_the_file_itself(tmp_path: Path) -> None:
    root, outside = (tmp_path / "root").resolve(), tmp_path / "outside"
    (root / "clips").mkdir(parents=True)
    outside.mkdir()
    for file in (root / "clips" / "a.mp4", root / "b.mp4", outside / "c.mp4"):
        file.touch()
    (root / "linked").symlink_to(root / "clips")
    (root / "clips" / "link.mp4").symlink_to(root / "b.mp4")
    (root / "away").symlink_to(outside)
    (root / "clips" / "away.mp4").symlink_to(outside / "c.mp4")
    manifest = root / "samples.csv"
    manifest.write_text("path\nx\n")
    places = SamplePaths(manifest, root, ("file",), RemoteConfig())
    good = ["clips/a.mp4", "b.mp4", "./clips//a.mp4", "clips/../b.mp4", "linked/a.mp4", "clips/link.mp4"]
    for written in [*good, *good, str(root / "b.mp4")]:
        assert places.resolve(0, written) == str((root / written).resolve())
    for written in ("away/c.mp4", "../outside/c.mp4", "clips/away.mp4", str(outside / "c.mp4")):
        with pytest.raises(DataError, match="leads outside of"):
            places.resolve(0, written)
    for written in ("clips", "clips/none.mp4", "none/a.mp4", ""):
        with pytest.raises(DataError, match="no such file"):
            places.resolve(0, written)
