"""Makes the dataset `mixed` of the demo's world: stills to learn from, clips to be measured on.

    python docs/images/mixed.py            # data/demo -> data/mixed, and its entries in registry/

People labeled stills; the image teachers label stills only (`modalities: [image]`); half of the unlabeled samples are
clips, of which only the student will say anything; validation and test are clips.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from pathlib import Path

import yaml
from PIL import Image

from t2t.data.embeddings.decode import read_frames

TEACHERS = ("colour-expert", "shape-expert")
MOTION = ("moving", "spinning")


def make(demo: Path, mixed: Path, registry: Path, stills: bool = True) -> None:
    """Writes the dataset's folder and its registry entries, under the folder's name.

    Args:
        stills: whether what is learned from are stills; with False all of it are clips, to compare with.
    """
    (mixed / "teachers").mkdir(parents=True)
    name = mixed.name
    # A still shows neither motion nor spinning.
    topics = [line for line in (demo / "topics.txt").read_text().splitlines() if not any(w in line for w in MOTION)]
    (mixed / "topics.txt").write_text("\n".join(topics) + "\n")
    _filtered(demo / "annotations.csv", mixed / "annotations.csv", topics)
    _samples(demo, mixed, stills)
    for teacher in TEACHERS:
        kind = teacher.removesuffix("-expert")
        for file in (f"{kind}.safetensors", f"{kind}_classes.txt"):
            shutil.copy(demo / "teachers" / file, mixed / "teachers" / file)
        _filtered(demo / "teachers" / f"{kind}_topics.csv", mixed / "teachers" / f"{kind}_topics.csv", topics)
        entry = yaml.safe_load((registry / "teachers" / f"{teacher}.yaml").read_text())
        entry |= {"id": f"{teacher}-{name}"} | ({"modalities": ["image"]} if stills else {})
        _write(registry / "teachers" / f"{teacher}-{name}.yaml", entry)
    _write(registry / "datasets" / f"{name}.yaml", {"name": name, "root": name})
    campaign = yaml.safe_load((registry / "campaigns" / "demo.yaml").read_text())
    campaign |= {"name": name, "dataset": name, "teachers": [f"{teacher}-{name}" for teacher in TEACHERS]}
    _write(registry / "campaigns" / f"{name}.yaml", campaign)


def _samples(demo: Path, mixed: Path, stills: bool) -> None:
    with open(demo / "samples.csv") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        clip = demo / row["path"]
        if stills and (row["split"] == "train" or (row["split"] == "unlabeled" and number % 2)):
            row["path"], row["modality"] = f"stills/{clip.stem}.png", "image"
            (mixed / "stills").mkdir(exist_ok=True)
            Image.fromarray(read_frames(clip, frames=1)[0]).save(mixed / row["path"])
        else:
            row["path"] = clip.resolve().as_uri()
    with open(mixed / "samples.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _filtered(source: Path, target: Path, topics: list[str]) -> None:
    """The rows of a table that are of some topics."""
    with open(source, newline="") as file:
        rows = list(csv.DictReader(file))
    with open(target, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row for row in rows if row["topic"] in topics)


def _write(path: Path, content: dict[str, object]) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False))


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, default=Path("data"))
    options.add_argument("--registry", type=Path, default=Path("registry"))
    options.add_argument("--name", default="mixed")
    options.add_argument("--clips", action="store_true", help="Learn from clips alone, to compare with.")
    given = options.parse_args()
    make(given.data / "demo", given.data / given.name, given.registry, not given.clips)
