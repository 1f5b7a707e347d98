"""Files and folders that people name become a list of videos and images."""

from __future__ import annotations

from pathlib import Path

import pytest

from t2t.core.errors import T2TError
from t2t.data.listing import list_files

pytestmark = pytest.mark.unit


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.MP4", "a.mp4", "note.txt", ".hidden.mp4", "sub/c.HEIC", ".git/d.mp4", "[1-3] *.png", "no-ending"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_gives_its_videos_and_images_sorted_and_counts_the_rest(tree: Path) -> None:
    found = list_files([tree])
    assert [file.relative_to(tree).as_posix() for file in found.files] == [
        "[1-3] *.png",
        "a.mp4",
        "b.MP4",
        "sub/c.HEIC",
    ]
    assert found.others == 2


def test_a_file_that_is_named_is_taken_whatever_it_is_called_and_none_twice(tree: Path) -> None:
    found = list_files(["no-ending", "a.mp4", tree / "a.mp4", "./a.mp4", "sub"])
    assert [str(file) for file in found.files] == ["no-ending", "a.mp4", "sub/c.HEIC"]


def test_names_are_no_patterns(tree: Path) -> None:
    assert [file.name for file in list_files(["[1-3] *.png"]).files] == ["[1-3] *.png"]
    with pytest.raises(T2TError, match="no such file or folder"):
        list_files(["*.mp4"])


@pytest.mark.parametrize("name", ["lost.mp4", "a\0b.mp4", "x" * 5000])
def test_what_is_not_there_is_refused_in_one_line(tree: Path, name: str) -> None:
    with pytest.raises(T2TError) as error:
        list_files(["a.mp4", name])
    assert len(str(error.value).splitlines()) == 1
    assert "\0" not in str(error.value)


def test_a_folder_without_any_is_refused(tree: Path) -> None:
    (tree / "empty").mkdir()
    with pytest.raises(T2TError, match="no video or image in there"):
        list_files([tree / "empty"])
