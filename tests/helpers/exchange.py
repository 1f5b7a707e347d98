"""A small dataset with real pictures and clips, and what an export of it brings back."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from t2t.core.workspace import Workspace
from tests.helpers.cli import invoke
from tests.helpers.clips import random_clip

TOPICS = ["red circle", "blaues Quadrat", 'a "star", spinning', "日本語", "nobody's"]
# Some of several people and of none, in every split; what is between 0 and 1, too.
ANSWERS = [
    *((f"s{n}", "red circle", "anna", float(n % 2)) for n in range(8)),
    *((f"s{n}", "blaues Quadrat", "anna", float(n % 2 == 0)) for n in range(8)),
    *((f"s{n}", "red circle", "bob@example.org", 1.0) for n in (1, 3)),
    ("s0", 'a "star", spinning', "7", 0.25),
    ("s1", 'a "star", spinning', "007", 0.8),
    ("s4", "日本語", "anna", 1.0),
]
LABELS = [("s0", "red circle", 0.125), ("s1", "red circle", 0.9), ("s8", "日本語", 0.3), ("s9", "red circle", 0.0)]
SPLITS = ["train", "train", "train", "train", "validation", "validation", "test", "test", "unlabeled", "unlabeled"]


def picture(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(np.kron(small, np.ones((8, 8, 1), np.uint8))).save(path)
    return path


def space(folder: Path) -> Workspace:
    """Empty folders of a project."""
    for kind in ("datasets", "teachers", "campaigns"):
        (folder / "registry" / kind).mkdir(parents=True)
    (folder / "data").mkdir()
    return Workspace(folder / "registry", folder / "data", folder / "work")


def write_csv(path: Path, header: list[str], rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def read_csv(path: Path) -> list[tuple[str, ...]]:
    """The rows without the header, sorted."""
    with open(path, encoding="utf-8", newline="") as file:
        return sorted(tuple(row) for row in list(csv.reader(file))[1:])


def dataset(workspace: Workspace, videos: bool = True) -> Path:
    """Dataset `own` with ten samples, two of them clips, people's answers, and a teacher `vendor`; its folder."""
    root = workspace.data / "own"
    rows = []
    for n, split in enumerate(SPLITS):
        kind = "video" if videos and n in (0, 6) else "image"
        name = f"media/{n} é.{'avi' if kind == 'video' else 'png'}"
        (root / "media").mkdir(parents=True, exist_ok=True)
        if kind == "video":
            random_clip(root / name, n)
        else:
            picture(root / name, n)
        rows.append((f"s{n}", name, kind, f"g{n // 2}", split, f"title {n}"))
    write_csv(root / "samples.csv", ["sample_id", "path", "modality", "group", "split", "title"], rows)
    write_csv(root / "annotations.csv", ["sample_id", "topic", "annotator", "relevance"], ANSWERS)
    write_csv(root / "teachers" / "vendor.csv", ["sample_id", "topic", "confidence"], LABELS)
    (root / "topics.txt").write_text("".join(f"{topic}\n" for topic in TOPICS), encoding="utf-8")
    (workspace.registry / "datasets" / "own.yaml").write_text("name: own\nroot: own\n", encoding="utf-8")
    entry = "id: vendor\nkind: labels\npath: ${data}/teachers/vendor.csv\n"
    (workspace.registry / "teachers" / "vendor.yaml").write_text(entry, encoding="utf-8")
    return root


def t2t(workspace: Workspace, *words: object) -> Any:
    """`t2t` on a workspace: the result of the command."""
    return invoke("--registry", workspace.registry, "--data-root", workspace.data, "--work", workspace.work, *words)


def done(workspace: Workspace, *words: object) -> str:
    """What a command that does its work prints."""
    result = t2t(workspace, *words)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def failed(workspace: Workspace, *words: object) -> str:
    """The error of a command that refuses."""
    result = t2t(workspace, *words)
    assert result.exit_code != 0, result.output
    return str(result.exception)
