"""Datasets written row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from t2t.core.errors import T2TError
from t2t.data.dataset import Dataset, DatasetConfig, read_dataset

Rows = list[dict[str, Any]]


TOPICS = ["red circle", "blue square", "a spinning star"]


def sample_rows() -> Rows:
    rows = []
    for name, group, split in [
        ("a", "g1", "train"),
        ("b", "g1", "train"),
        ("c", "g2", "unlabeled"),
        ("d", "g3", "validation"),
        ("e", "g4", "test"),
    ]:
        rows.append({"sample_id": name, "path": f"clips/{name}.mp4", "modality": "video", "group": group})
        rows[-1]["split"] = split
    return rows


def annotation_rows() -> Rows:
    triples = [("a", "red circle", 1.0), ("b", "blue square", 0.0), ("d", "red circle", 0.5), ("e", "red circle", 1.0)]
    return [{"sample_id": s, "topic": t, "annotator": "ann", "relevance": r} for s, t, r in triples]


def make(
    data: Path,
    samples: Rows | None = None,
    annotations: Rows | None = None,
    topics: str = "\n".join(TOPICS) + "\n",
    kind: str = "csv",
) -> DatasetConfig:
    """Writes the three files, and one file for each sample below `clips/`, into `<data>/tiny`."""
    root = data / "tiny"
    (root / "clips").mkdir(parents=True, exist_ok=True)
    for name in "abcde":
        (root / "clips" / f"{name}.mp4").write_bytes(b"not looked at")
    for name, rows in {
        "samples": sample_rows() if samples is None else samples,
        "annotations": annotation_rows() if annotations is None else annotations,
    }.items():
        frame = pd.DataFrame(rows)
        if kind == "csv":
            frame.to_csv(root / f"{name}.csv", index=False)
        else:
            frame.to_parquet(root / f"{name}.parquet")
    (root / "topics.txt").write_text(topics, encoding="utf-8")
    return DatasetConfig(name="tiny", root="tiny", samples=f"samples.{kind}", annotations=f"annotations.{kind}")


def pairs(dataset: Dataset) -> dict[tuple[str, str], float]:
    rows = dataset.human.to_pylist()
    return {(row["sample_id"], row["topic"]): row["confidence"] for row in rows}


def changed(rows: Rows, index: int, **cells: Any) -> Rows:
    rows[index] = rows[index] | cells
    return rows


def refusal(config: DatasetConfig, data: Path) -> str:
    with pytest.raises(T2TError) as caught:
        read_dataset(config, data)
    return str(caught.value)
