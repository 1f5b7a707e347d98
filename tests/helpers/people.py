"""Annotators who are known through and through: what is true, and who says it how well."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import yaml

from t2t.core.workspace import Workspace
from t2t.data.consensus import Answers
from tests.helpers.worlds import CAMPAIGN, ROOT


def table(rows: Sequence[tuple[str, str, str, float | None]]) -> pa.Table:
    """Columns sample_id, topic, annotator, relevance."""
    names = ("sample_id", "topic", "annotator")
    columns: dict[str, Any] = {name: pa.array([row[at] for row in rows], pa.string()) for at, name in enumerate(names)}
    return pa.table({**columns, "relevance": pa.array([row[3] for row in rows], pa.float64())})


def crowd(
    habits: Mapping[str, tuple[float, float]], pairs: int = 400, share: float = 0.3, each: int = 3, seed: int = 0
) -> tuple[np.ndarray, Answers]:
    """What is true of each pair, bool [pairs], and what `each` annotators, drawn for it, say.

    Args:
        habits: of each annotator sensitivity and specificity.
    """
    generator = np.random.default_rng(seed)
    truth = generator.random(pairs) < share
    names, rows = list(habits), []
    for at, true in enumerate(truth):
        for who in generator.choice(len(names), each, replace=False):
            sensitivity, specificity = habits[names[who]]
            yes = generator.random() < (sensitivity if true else 1 - specificity)
            rows.append((f"v{at:04}", "a topic", names[who], float(yes)))
    return truth, Answers.of(table(rows))


def peopled(world: Path, folder: Path, people: Mapping[str, Any], annotators: Sequence[str] = ()) -> Workspace:
    """The tiny world with `people` in its dataset's file, and its annotations given to `annotators` by turns."""
    data, registry = folder / "data", folder / "registry"
    shutil.copytree(world / "data" / "demo", data / "demo")
    frame = pd.read_csv(world / "data" / "demo" / "annotations.csv")
    if annotators:
        frame["annotator"] = [annotators[at % len(annotators)] for at in range(len(frame))]
        frame = frame.drop_duplicates(["sample_id", "topic", "annotator"])
    frame.to_csv(data / "demo" / "annotations.csv", index=False)
    for kind in ("datasets", "teachers", "campaigns"):
        (registry / kind).mkdir(parents=True)
    entry = yaml.safe_load((ROOT / "registry" / "datasets" / "demo.yaml").read_text(encoding="utf-8"))
    entry |= {"people": dict(people)} if people else {}
    (registry / "datasets" / "demo.yaml").write_text(yaml.safe_dump(entry), encoding="utf-8")
    for path in (world / "registry" / "teachers").iterdir():
        (registry / "teachers" / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    (registry / "campaigns" / "tiny.yaml").write_text(f"name: tiny{CAMPAIGN}", encoding="utf-8")
    return Workspace.find(registry, data, folder / "work")
