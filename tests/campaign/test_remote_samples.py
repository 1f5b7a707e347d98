"""A campaign whose samples lie on another machine: as with local ones, and a second time without asking it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from t2t.campaign.entries import open_dataset
from t2t.commands.data import check_data
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.data.remote.addresses import missing_module
from tests.helpers.campaigns import run, tiny, tiny_at
from tests.helpers.documented import refused
from tests.helpers.elsewhere import Elsewhere, elsewhere

pytest.importorskip("aiohttp", reason="the extra `remote` is not installed")
ENTRY: dict[str, Any] = {"schemes": ["file", "http"], "remote": {"private": ["127.0.0.1"], "attempts": 1}}


@pytest.fixture
def there() -> Iterator[Elsewhere]:
    with elsewhere() as server:
        yield server


def moved(world: Path, folder: Path, there: Elsewhere, **entry: object) -> Workspace:
    """The tiny world with its clips on that machine."""
    shutil.copytree(world / "registry", folder / "registry")
    shutil.copytree(world / "data", folder / "data")
    root = folder / "data" / "demo"
    samples = pd.read_csv(root / "samples.csv", dtype=str)
    for path in samples["path"]:
        there.files[f"/{path}"] = (root / path).read_bytes()
    shutil.rmtree(root / "clips")
    samples["path"] = [there.url(f"/{path}?sig=SECRET") for path in samples["path"]]
    samples.to_csv(root / "samples.csv", index=False)
    place = folder / "registry" / "datasets" / "demo.yaml"
    place.write_text(yaml.safe_dump({**yaml.safe_load(place.read_text()), **ENTRY, **entry}))
    return Workspace.find(folder / "registry", folder / "data", folder / "work")


def test_a_campaign_learns_the_same_and_a_second_run_asks_nobody(world: Path, tmp_path: Path, there: Elsewhere):
    place = moved(world, tmp_path / "far", there)
    clips = len(there.files)
    far = run(tiny_at(place, rounds={"max": 1}))
    near = run(tiny(world, tmp_path / "near", rounds={"max": 1}))
    assert far[0].weights_sha256 == near[0].weights_sha256
    assert there.count("GET") == clips
    there.files.clear()
    asked = len(there.asked)
    campaign = tiny_at(place, rounds={"max": 2})
    assert len(run(campaign)) == 2
    assert campaign.embedded.decoded == 0
    assert len(there.asked) == asked
    check_data(place, "demo")  # decodes what was kept
    assert len(there.asked) == asked
    kept = [path for path in (tmp_path / "far" / "work").rglob("*") if path.is_file()]
    assert not [path for path in kept if b"SECRET" in path.read_bytes()]


def test_files_that_are_gone_are_quarantined_without_their_signature(world: Path, tmp_path: Path, there: Elsewhere):
    place = moved(world, tmp_path, there, max_unreadable=0.1)
    gone = sorted(there.files)[:2]
    for path in gone:
        del there.files[path]
    campaign = tiny_at(place, rounds={"max": 1})
    rows = campaign.embedded.quarantine.to_pylist()
    assert [row["reason"] for row in rows] == ["its server says 404"] * 2
    assert {row["path"] for row in rows} == {there.url(path) + "?..." for path in gone}


def test_one_video_in_two_splits_is_found_once_it_is_fetched(world: Path, tmp_path: Path, there: Elsewhere):
    place = moved(world, tmp_path, there, remote={**ENTRY["remote"], "recheck_hours": 0})
    samples = open_dataset(place, "demo").samples.to_pandas()
    first = {split: samples[samples["split"] == split]["path"].iloc[0] for split in ("train", "test")}
    train, test = (f"/{path.partition('/clips/')[2].partition('?')[0]}" for path in first.values())
    there.files[f"/clips{test}"] = there.files[f"/clips{train}"]
    with pytest.raises(T2TError, match="is the same video, byte for byte, as"):
        run(tiny_at(place, rounds={"max": 1}))


@pytest.mark.parametrize(
    ("path", "schemes", "says"),
    [
        ("https://host/a.mp4", ["file"], "allowed schemes are file."),
        ("ftp://host/a.mp4", ["file", "https"], "allowed schemes are file, https."),
        ("https://anna:SECRET@host/a.mp4", ["https"], "has a user's name in it"),
        ("http://host/a.mp4", ["http"], "is not encrypted"),
        ("https://169.254.169.254/latest/meta-data", ["https"], "is of a private address"),
        ("https://host", ["https"], "names no file"),
        ("https://host:port/a.mp4", ["https"], "not a path that can be read"),
    ],
)
def test_addresses_are_refused_where_they_stand(
    world: Path, tmp_path: Path, there: Elsewhere, path: str, schemes: list[str], says: str
) -> None:
    place = moved(world, tmp_path, there, schemes=schemes, remote={})
    table = place.data / "demo" / "samples.csv"
    samples = pd.read_csv(table, dtype=str)
    samples.loc[0, "path"] = path
    samples.to_csv(table, index=False)
    message = refused(lambda: open_dataset(place, "demo"))
    assert says in message
    assert "SECRET" not in message
    assert "row 2, column 'path'" in message


def test_a_scheme_whose_library_is_not_there_is_refused(
    world: Path, tmp_path: Path, there: Elsewhere, monkeypatch: pytest.MonkeyPatch
):
    place = moved(world, tmp_path, there)
    monkeypatch.setattr("t2t.data.remote.addresses.find_spec", lambda name: None)
    missing_module.cache_clear()
    try:
        assert "pip install 'teacher2task[remote]'" in refused(lambda: open_dataset(place, "demo"))
    finally:
        missing_module.cache_clear()
