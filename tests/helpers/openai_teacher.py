"""A teacher of kind `openai` on a few samples with titles, and its labels through the checker of all teachers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from t2t.data.labels import LABEL_SCHEMA
from t2t.teachers import TeacherContext, build, parse_entry
from t2t.teachers.answers import checked

NEEDS_PACKAGE = pytest.mark.skipif(
    importlib.util.find_spec("openai") is None, reason="needs the package openai: pip install 'teacher2task[openai]'"
)
TOPICS = ("a dog", "a cat {topic}", "snow")
PRICE = {"input": 1000.0, "output": 4000.0}


def table(clips: Path, count: int = 4) -> pa.Table:
    paths = [str(clips / f"{i % 3}.mp4") for i in range(count)]
    titles = [f"title of {i}" for i in range(count - 1)] + [None]
    return pa.table({"sample_id": [f"s{i}" for i in range(count)], "path": paths, "title": titles})


def teacher(work: Path, samples: pa.Table, url: str, **changes: Any) -> Any:
    content = {"id": "asked", "kind": "openai", "model": "fake", "base_url": url, "frames": 0, "columns": ["title"]}
    dataset = SimpleNamespace(root=work, topics=TOPICS, name="tiny", samples=samples)
    entry = parse_entry(content | {"retries": 3, "timeout": 5} | changes, "asked.yaml")
    return build(entry, TeacherContext(dataset, work))  # type: ignore[arg-type]


def labels(asked: Any, samples: pa.Table, topics: tuple[str, ...] = TOPICS) -> dict[tuple[str, str], float]:
    """The labels, through the checker that every teacher passes."""
    tables = list(checked("asked", asked.label(samples, topics), samples["sample_id"].combine_chunks(), topics))
    if not tables:
        return {}
    whole = pa.concat_tables(tables)
    assert whole.schema == LABEL_SCHEMA
    return dict(
        zip(
            zip(whole["sample_id"].to_pylist(), whole["topic"].to_pylist(), strict=True),
            whole["confidence"].to_pylist(),
            strict=True,
        )
    )
