"""A bit that flips in what a run left for itself: it is made again, or told; never other numbers in silence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from t2t.campaign.campaign import Campaign
from t2t.core.errors import T2TError
from t2t.students.checkpoint import load
from tests.helpers.campaigns import run, run_until


def flip(path: Path, at: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if at is None else at] ^= 1
    path.write_bytes(content)


@pytest.fixture(scope="module")
def untouched(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list]:
    """A campaign of one round that was measured and got no further; and what it comes to undisturbed."""
    from tests.helpers.campaigns import tiny

    work = tmp_path_factory.mktemp("measured") / "work"
    run_until(tiny(world, work, rounds={"max": 1}), "round 0: evaluate")
    whole = work.with_name("whole")
    shutil.copytree(work, whole)
    return work, run(tiny(world, whole, rounds={"max": 1}))


@pytest.fixture
def cut(world: Path, untouched: tuple[Path, list], tmp_path: Path) -> Campaign:
    from tests.helpers.campaigns import tiny

    shutil.copytree(untouched[0], tmp_path / "work")
    return tiny(world, tmp_path / "work", rounds={"max": 1})


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("evaluation/validation.parquet", "Round 0 is measured again"),
        ("evaluation/metrics.json", "Round 0 is measured again"),
        ("student/model.safetensors", "its student is trained again"),
        ("student/tokenizer/tokenizer.json", "its student is trained again"),
        ("student/config.json", "its student is trained again"),
    ],
)
def test_what_is_damaged_is_made_again_and_comes_to_the_same(cut, untouched, file, said, caplog):
    flip(cut.files(0).folder / file)
    (record,) = run(cut)
    assert said in caplog.text
    (whole,) = untouched[1]
    assert (record.weights_sha256, record.validation, record.test) == (
        whole.weights_sha256,
        whole.validation,
        whole.test,
    )


@pytest.mark.parametrize("array", ["confidence.npy", "teacher.npy", "indptr.npy", "names.json"])
def test_rows_that_are_damaged_before_the_training_are_made_again(cut, untouched, array, caplog):
    files = cut.files(0)
    for folder in (files.student, files.evaluation):
        shutil.rmtree(folder)
    flip(files.labels / array, -3)
    (record,) = run(cut)
    assert "its rows are made anew" in caplog.text
    assert record.weights_sha256 == untouched[1][0].weights_sha256


def test_a_note_with_another_digit_is_refused_with_what_to_do(cut):
    path = cut.files(0).begun
    path.write_text(path.read_text().replace('"started_from": null', '"started_from": 0'))
    with pytest.raises(T2TError, match=r"begun.json: cannot be read .*checksum.* Delete the folder"):
        run(cut)


def test_a_checkpoint_that_is_damaged_is_not_loaded(cut):
    folder = cut.files(0).student
    flip(folder / "model.safetensors", -5)
    with pytest.raises(T2TError, match=r"damaged \(model.safetensors is not what was written"):
        load(folder)
    (folder / "sums.json").unlink()
    load(folder)  # by other hands, or from before there were checksums


def test_folders_without_checksums_go_on(cut, untouched):
    for path in [*cut.folder.rglob("sums.json"), *cut.folder.rglob(".*.crc32")]:
        path.unlink()
    (record,) = run(cut)
    assert record.weights_sha256 == untouched[1][0].weights_sha256
