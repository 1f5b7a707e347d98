"""What `engine: ray` hands to a cluster, with a cluster that is a function here; and its words where there is none."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from t2t.campaign.config import CampaignConfig
from t2t.core.config import parse
from t2t.core.errors import T2TError
from t2t.core.files import sha256_file
from t2t.data.embeddings.config import PixelsConfig
from t2t.data.embeddings.embed import embed
from t2t.data.embeddings.encoders import build_encoder
from t2t.data.embeddings.store import EmbeddingStore
from t2t.data.labels import LABEL_SCHEMA, write_parquet
from t2t.integrations.ray import engine
from t2t.integrations.ray.connect import cluster, explained
from t2t.integrations.ray.engine import RayEngine
from t2t.teachers.asked import Asked
from t2t.teachers.base import TeacherContext
from t2t.teachers.labeling import Part, label
from tests.helpers.clips import random_clip


def samples(count: int) -> pa.Table:
    return pa.table({"sample_id": [f"s{i}" for i in range(count)], "path": [f"/s{i}.mp4" for i in range(count)]})


class Counting:
    """A teacher with parts of two samples."""

    shard_samples = 2

    def __init__(self, work: Path):
        self.entry: Any = type("Entry", (), {"id": "counting"})
        self.context = TeacherContext(dataset=None, work=work)  # type: ignore[arg-type]
        self.asked: list[str] = []

    def fingerprint(self) -> str:
        return ""

    def label(self, samples: pa.Table, topics: Any) -> Any:
        self.asked += samples["sample_id"].to_pylist()
        for sample in samples["sample_id"].to_pylist():
            yield pa.table([[sample], [topics[0]], ["counting"], [0.5]], schema=LABEL_SCHEMA)


def test_missing_parts_go_to_the_cluster_and_come_back_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = [Asked(tuple(f"s{i}" for i in range(5)), ("ball",))]
    here = Counting(tmp_path)
    (tmp_path / "here").mkdir()
    expected = [table.to_pydict() for table in label(here, samples(5), blocks, tmp_path / "here")]
    given: list[Part] = []

    def anywhere(entry: Any, context: TeacherContext, parts: list[Part]) -> None:
        given.extend(parts)
        for part in reversed(parts):
            part.label(Counting(tmp_path))

    monkeypatch.setattr(engine, "label_parts", anywhere)
    there, folder = Counting(tmp_path), tmp_path / "there"
    folder.mkdir()
    # The middle part was made before; a part that is there is never asked for again, wherever it stands.
    write_parquet(here.label(samples(5).slice(2, 2), ("ball",)), folder / "part-00001.parquet", LABEL_SCHEMA)
    found = [table.to_pydict() for table in label(there, samples(5), blocks, folder, RayEngine("cpu").label)]
    assert found == expected
    assert there.asked == []
    assert [(part.file.name, len(part.samples)) for part in given] == [
        ("part-00000.parquet", 2),
        ("part-00002.parquet", 1),
    ]


def test_what_the_store_lacks_is_embedded_elsewhere_and_the_rest_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PixelsConfig(size=32, frames=2, grid=4)
    clips = [random_clip(tmp_path / f"{i}.mp4", seed=i, count=2) for i in range(3)]
    table = pa.table({"sample_id": ["a", "b", "c"], "path": [str(path) for path in clips]})
    encoder = build_encoder(config)
    expected = embed(table, encoder, EmbeddingStore(tmp_path / "here", encoder.fingerprint))
    given: list[tuple[str, str]] = []
    hashed: list[str] = []

    class Other:
        def hash(self, paths: Sequence[str]) -> Iterator[tuple[str, int, int, str]]:
            hashed.extend(paths)
            for path in paths[:2]:
                state = os.stat(path)
                yield path, state.st_size, state.st_mtime_ns, sha256_file(path)

        def embed(self, missing: Sequence[tuple[str, str]]) -> None:
            given.extend(missing)
            embed(table.slice(0, 2), encoder, EmbeddingStore(tmp_path / "there", encoder.fingerprint))

    store, elsewhere = EmbeddingStore(tmp_path / "there", encoder.fingerprint), Other()
    by_store: list[str] = []
    monkeypatch.setattr(
        "t2t.data.embeddings.store.sha256_file", lambda path: by_store.append(path) or sha256_file(path)
    )
    found = embed(table, encoder, store, elsewhere=elsewhere)
    assert hashed == [path for _, path in given] == table["path"].to_pylist()
    # The other machines told the first two files' hashes.
    assert by_store == [str(clips[2])]
    assert found.decoded == 3
    every = np.arange(3)
    assert found.embeddings.gather(every)[0].tobytes() == expected.embeddings.gather(every)[0].tobytes()
    given.clear()
    hashed.clear()
    assert embed(table, encoder, store, elsewhere=elsewhere).decoded == 0
    assert given == hashed == []


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(T2TError, match=r"pip install 'ray\[data,train\]'. Or set engine: local"), cluster():
        pass


def test_the_cause_of_a_remote_error_is_what_people_read() -> None:
    inner = T2TError("weights.safetensors: no such file.")
    outer = RuntimeError("Traceback ...\nRayTaskError: something\nValueError: the last line")
    outer.cause = inner  # type: ignore[attr-defined]
    assert explained(outer, "Labeling") is inner
    del outer.cause  # type: ignore[attr-defined]
    assert str(explained(outer, "Labeling")) == "Labeling failed on the Ray cluster: ValueError: the last line"


def test_an_engine_that_is_none_is_refused() -> None:
    base = {"name": "x", "dataset": "x", "encoder": {"kind": "pixels"}}
    assert parse(CampaignConfig, base, "x.yaml").engine == "local"
    with pytest.raises(T2TError, match="engine"):
        parse(CampaignConfig, {**base, "engine": "spark"}, "x.yaml")
