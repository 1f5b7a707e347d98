"""Embeddings that people bring: files of numbers, a row or a file a sample, and what is refused of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from t2t.core.errors import DataError, T2TError
from t2t.data.dataset import DatasetConfig, read_dataset
from t2t.data.embeddings.config import PixelsConfig, VectorsConfig
from t2t.data.embeddings.embed import decode_in_order, embed, embed_samples, probe
from t2t.data.embeddings.encoders import build_encoder, encoded
from t2t.data.embeddings.store import EmbeddingStore
from t2t.data.embeddings.vectors import VectorsEncoder, check_samples
from t2t.data.listing import list_files
from t2t.data.vector_files import MOST_UNPACKED, open_vectors, split_row
from tests.helpers.documented import refused

ROWS, DIM = 20, 6
VALUES = np.random.default_rng(0).normal(size=(ROWS, DIM)).astype(np.float32)
NAMES = np.array([f"clip-{i}" for i in range(ROWS)])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vectors")
    for kind in ("float16", "float32", "float64"):
        np.save(folder / f"{kind}.npy", VALUES.astype(kind))
    np.save(folder / "frames.npy", np.stack([VALUES, 2 * VALUES], axis=1))
    np.save(folder / "one.npy", VALUES[3])
    np.savez(folder / "plain.npz", emb=VALUES, names=NAMES)
    np.savez_compressed(folder / "packed.npz", emb=VALUES)
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(VALUES.ravel()), DIM)
    pq.write_table(pa.table({"id": NAMES, "emb": fixed}), folder / "fixed.parquet")
    pq.write_table(pa.table({"id": NAMES, "emb": VALUES.tolist(), "n": range(ROWS)}), folder / "lists.parquet")
    save_file({"emb": VALUES, "other": VALUES[:, :2].copy()}, folder / "two.safetensors")
    np.save(folder / "nan.npy", np.where(np.arange(ROWS)[:, None] == 7, np.nan, VALUES))
    np.save(folder / "large.npy", np.where(np.arange(ROWS)[:, None] == 5, 1e6, VALUES))
    np.save(folder / "pickled.npy", np.array([{"a": 1}], dtype=object))
    np.savez(folder / "pickled.npz", emb=np.array([{"a": 1}], dtype=object))
    np.save(folder / "whole-numbers.npy", VALUES.astype(int))
    np.save(folder / "narrow.npy", VALUES[:, :4])
    np.save(folder / "none.npy", VALUES[:0])
    np.save(folder / "deep.npy", VALUES.reshape(2, 2, 5, DIM))
    (folder / "cut.npy").write_bytes((folder / "float32.npy").read_bytes()[:-40])
    (folder / "cut.safetensors").write_bytes((folder / "two.safetensors").read_bytes()[:-40])
    (folder / "text.npy").write_text("no numbers")
    (folder / "text.parquet").write_text("no numbers")
    ragged = [[1.0] * (DIM - (i == 4)) for i in range(ROWS)]
    pq.write_table(pa.table({"emb": ragged}), folder / "ragged.parquet")
    pq.write_table(pa.table({"emb": [[1.0, None]] * 2}), folder / "holes.parquet")
    np.savez(folder / "twice.npz", emb=VALUES, names=np.array(["same"] * ROWS))
    return folder


def samples(folder: Path, *paths: str) -> pa.Table:
    columns = {"sample_id": [f"s{i}" for i in range(len(paths))], "path": [f"{folder / path}" for path in paths]}
    return pa.table(columns | {"modality": ["vectors"] * len(paths)})


def config(**settings: Any) -> VectorsConfig:
    return VectorsConfig(dim=DIM, **settings)


@pytest.mark.parametrize(
    ("path", "settings", "row"),
    [
        ("float16.npy#3", {}, 3),
        ("float32.npy#0", {}, 0),
        ("float64.npy#19", {}, 19),
        ("one.npy", {}, 3),
        ("plain.npz#clip-4", {"column": "emb", "ids": "names"}, 4),
        ("packed.npz#4", {}, 4),
        ("fixed.parquet#clip-5", {"ids": "id"}, 5),
        ("fixed.parquet#5", {}, 5),
        ("lists.parquet#6", {}, 6),
        ("two.safetensors#7", {"column": "emb"}, 7),
    ],
)
def test_each_kind_of_file_gives_a_samples_own_numbers(
    files: Path, tmp_path: Path, path: str, settings: dict[str, Any], row: int
) -> None:
    found = embed_samples(samples(files, path), config(**settings), tmp_path)
    frames, mask = found.embeddings.gather(np.array([0]))
    assert frames.dtype == np.float16
    np.testing.assert_array_equal(frames[0, 0], VALUES[row].astype(np.float16))
    assert mask.tolist() == [[True]]


def test_frames_are_frames(files: Path, tmp_path: Path) -> None:
    found = embed_samples(samples(files, "frames.npy#2", "float32.npy#2"), config(frames=2), tmp_path)
    assert found.embeddings.counts.tolist() == [2, 1]
    np.testing.assert_array_equal(found.embeddings.gather(np.array([0]))[0][0, 1], (2 * VALUES[2]).astype(np.float16))


# What the encoder keeps of the contract of frame encoders (tests/data/test_encoder_contract.py), whose frames it reads.


def test_the_encoder_keeps_the_contract(files: Path) -> None:
    encoder = build_encoder(config())
    clips = list(decode_in_order([f"{files}/float64.npy#{row}" for row in range(5)], encoder))
    out = encoded(encoder, np.concatenate(clips))
    assert (out.dtype, out.shape) == (np.float16, (5, DIM))
    assert len(encoder.fingerprint) == 64
    assert encoder.frames == 1
    assert encoded(encoder, np.empty((0, DIM), np.float16)).shape == (0, DIM)
    with pytest.raises(T2TError, match="takes files of numbers and no pictures"):
        encoder.encode(np.zeros((1, 1, 1, 3), np.uint8))


def test_what_changes_numbers_changes_the_fingerprint() -> None:
    base = build_encoder(config()).fingerprint
    others = [config(column="a"), config(ids="a"), VectorsConfig(dim=DIM + 1)]
    assert len({base, *(build_encoder(other).fingerprint for other in others)}) == 4
    assert build_encoder(config(frames=3)).fingerprint == base


def test_a_files_content_counts(tmp_path: Path) -> None:
    store, table = EmbeddingStore(tmp_path / "store", "e" * 64), samples(tmp_path, "a.npy#1", "a.npy#2")
    np.save(tmp_path / "a.npy", VALUES)
    keys = embed(table, VectorsEncoder(config()), store).keys
    assert len(set(keys)) == 2
    again = embed(table, VectorsEncoder(config()), store)
    assert (again.decoded, again.keys) == (0, keys)
    np.save(tmp_path / "a.npy", VALUES + 1)
    other = embed(table, VectorsEncoder(config()), store)
    assert other.decoded == 2
    assert not set(keys) & set(other.keys)


def test_large_files_are_mapped_and_not_read(files: Path) -> None:
    for name, column in (("float32.npy", None), ("two.safetensors", "emb")):
        assert isinstance(open_vectors(files / name, column).values, np.memmap)


REFUSED: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "a row too many": ((f"float32.npy#{ROWS}",), {}),
    "a row that is no number": (("float32.npy#x",), {}),
    "a name that is not there": (("fixed.parquet#clip-99",), {"ids": "id"}),
    "NaN": (("nan.npy#6", "nan.npy#7"), {}),
    "beyond float16": (("large.npy#5",), {}),
    "pickled": (("pickled.npy#0",), {}),
    "pickled in npz": (("pickled.npz#0",), {}),
    "whole numbers": (("whole-numbers.npy#0",), {}),
    "another size": (("float32.npy#0", "narrow.npy#0"), {}),
    "no rows": (("none.npy#0",), {}),
    "four dimensions": (("deep.npy#0",), {}),
    "cut off": (("cut.npy#0",), {}),
    "cut off, safetensors": (("cut.safetensors#0",), {"column": "emb"}),
    "no such file": (("nothing.npy#0",), {}),
    "text": (("text.npy#0",), {}),
    "text as Parquet": (("text.parquet#0",), {}),
    "rows of other lengths": (("ragged.parquet#0",), {}),
    "empty numbers": (("holes.parquet#0",), {}),
    "two arrays": (("two.safetensors#0",), {}),
    "no such column": (("fixed.parquet#0",), {"column": "emd"}),
    "names that stand twice": (("twice.npz#same",), {"column": "emb", "ids": "names"}),
    "a table without a row": (("float32.npy",), {}),
    "a row of one sample": (("one.npy#0",), {}),
    "more frames than said": (("frames.npy#0",), {}),
    "columns of npy": (("float32.npy#0",), {"column": "emb"}),
    "names in safetensors": (("two.safetensors#a",), {"column": "emb", "ids": "names"}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_trained_on_is_refused_before_anything_is_written(
    files: Path, tmp_path: Path, case: str
) -> None:
    paths, settings = REFUSED[case]
    message = refused(lambda: check_samples(samples(files, *paths), config(**settings)), DataError)
    assert str(files) in message


def test_numbers_that_float16_would_lose_are_refused(files: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "tiny.npy", (VALUES * 1e-6).astype(np.float32))
    with pytest.raises(DataError, match=r"tiny\.npy: no sample's numbers are larger than 2\.\d+e-06"):
        check_samples(samples(tmp_path, *(f"tiny.npy#{row}" for row in range(ROWS))), config())
    np.save(tmp_path / "tiny.npy", np.where(np.arange(ROWS)[:, None] == 7, VALUES, VALUES * 1e-6))
    check_samples(samples(tmp_path, *(f"tiny.npy#{row}" for row in range(ROWS))), config())
    np.save(tmp_path / "nothing.npy", np.zeros((2, DIM)))
    check_samples(samples(tmp_path, "nothing.npy#0"), config())


def test_rows_of_a_file_that_is_a_sample_too_are_looked_at(files: Path) -> None:
    with pytest.raises(DataError, match="row 99 is asked for"):
        check_samples(samples(files, "float32.npy", "float32.npy#99"), config(frames=ROWS))


def test_the_row_and_the_sample_are_named(files: Path) -> None:
    with pytest.raises(DataError, match=r"nan.npy, row 7: \(sample 's1'\) holds NaN or infinite"):
        check_samples(samples(files, "nan.npy#6", "nan.npy#7"), config())
    check_samples(samples(files, "nan.npy#6", "nan.npy#8"), config())  # nobody asks for the bad one


def test_what_would_be_unpacked_is_bounded(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2t.data.vector_files.MOST_UNPACKED", 100)
    assert MOST_UNPACKED > 1 << 30
    for name in ("packed.npz#0", "fixed.parquet#0"):
        refused(lambda name=name: check_samples(samples(files, name), config()), DataError)
    check_samples(samples(files, "float32.npy#0"), config())


def test_an_encoder_for_pictures_and_numbers_do_not_meet(files: Path) -> None:
    refused(lambda: check_samples(samples(files, "float32.npy#0"), PixelsConfig()))
    film = samples(files, "float32.npy#0").set_column(2, "modality", pa.array(["video"]))
    refused(lambda: check_samples(film, config()))


def test_a_check_of_the_data_says_what_cannot_be_read(files: Path) -> None:
    paths = ("float32.npy#3", "nan.npy#7", f"float32.npy#{ROWS}", "two.safetensors#0", "fixed.parquet#clip-1")
    assert probe(samples(files, *paths))["sample_id"].to_pylist() == ["s1", "s2"]


def test_a_row_can_be_asked_about(files: Path) -> None:
    found = list_files([f"{files}/float32.npy#3", files / "one.npy"])
    assert [path.name for path in found.files] == ["float32.npy#3", "one.npy"]
    assert split_row("a#b.mp4") == ("a#b.mp4", None)
    assert split_row("a#b.npy#2") == ("a#b.npy", "2")


# -- as a dataset ------------------------------------------------------------------------------------------------------


def dataset(folder: Path, paths: list[str]) -> Any:
    splits = ["train", "unlabeled", "validation", "test"]
    rows = [[f"s{i}", path, "vectors", f"g{i}", splits[i % 4]] for i, path in enumerate(paths)]
    table = pd.DataFrame(rows, columns=["sample_id", "path", "modality", "group", "split"])
    table.to_csv(folder / "samples.csv", index=False)
    answers = [[f"s{i}", "yes", "anna", 1] for i in range(len(paths)) if i % 4 != 1]
    columns = ["sample_id", "topic", "annotator", "relevance"]
    pd.DataFrame(answers, columns=columns).to_csv(folder / "annotations.csv", index=False)
    (folder / "topics.txt").write_text("yes\nno\n")
    return read_dataset(DatasetConfig(name="own", root="."), folder)


def test_rows_of_a_file_are_samples(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VALUES)
    found = dataset(tmp_path, ["a.npy#0", "a.npy#1", f"file://{tmp_path}/a.npy#2", "a.npy#3"])
    assert found.samples["path"].to_pylist() == [f"{tmp_path}/a.npy#{row}" for row in range(4)]
    assert found.copies == []
    assert dataset(tmp_path, ["a.npy#0", "a.npy#1", "a.npy#0", "a.npy#3"]).copies == [[0, 2]]


def test_files_outside_of_the_dataset_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    np.save(tmp_path / "a.npy", VALUES)
    with pytest.raises(DataError, match="leads outside of"):
        dataset(root, ["../a.npy#0"] * 4)
    with pytest.raises(DataError, match="no such file"):
        dataset(root, ["b.npy#0"] * 4)
    os.symlink(tmp_path / "a.npy", root / "link.npy")
    with pytest.raises(DataError, match="leads outside of"):
        dataset(root, ["link.npy#0"] * 4)
