"""The videos whose labels changed most as the campaign went on, with a frame of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from t2t.campaign.record import Record
from t2t.commands.page.clips import Clips
from t2t.commands.page.material import Material, Missing
from t2t.data.coding import codes
from t2t.data.labels import POSITIVE
from t2t.students.base import known_topics
from t2t.students.checkpoint import load_checked
from t2t.teachers.store import label_tables

VIDEOS, TOPICS = 8, 3
# Videos that are looked at, evenly spaced over the unlabeled ones, and (video, topic) pairs that are scored at most.
LOOKED_AT, SCORED = 20_000, 1_000_000


def changed(material: Material, clips: Clips) -> dict[str, Any]:
    """The VIDEOS unlabeled videos with the largest change of a confidence, and the TOPICS that changed most in each.

    Compared are the labels of the first and the last self-training teacher that stand, on the pairs that both labeled;
    where there are fewer than two, the scores of the first round's student and the champion's (or the last one's).

    Returns: `before`, `after` (whose labels), `videos`, `looked_at` and `of` (how many unlabeled videos), and of the
        compared pairs `pairs`, `flips` (share that changed sides of 0.5) and `change` (mean absolute change).
    """
    unlabeled = material.ids("unlabeled")
    if not unlabeled:
        raise Missing("The dataset has no unlabeled videos.")
    students = [r.self_teacher for r in material.records if r.status == "passed" and r.self_teacher]
    students = [teacher for teacher in students if teacher not in material.out]
    if len(students) > 1:
        before, after = students[0], students[-1]
        looked_at = spread(unlabeled, LOOKED_AT)
        first, last = (_labels(material, teacher, looked_at) for teacher in (before, after))
    else:
        if len(material.shown) < 2:
            raise Missing("There is one round only, so no label has changed yet.")
        start, end = material.shown[0], material.champion or material.shown[-1]
        end = material.shown[-1] if end.round == start.round else end
        before, after = (f"the student of round {record.round}" for record in (start, end))
        looked_at = spread(unlabeled, max(1, SCORED // max(len(material.topics), 1)))
        first, last, looked_at = _scores(material, start, end, looked_at)
    both = first.merge(last, on=["sample", "topic"], suffixes=("_before", "_after"))
    if both.empty:
        raise Missing(f"{before} and {after} have no (video, topic) pair in common.")
    a, b = both["confidence_before"], both["confidence_after"]
    both["change"] = (b - a).astype(float)
    # Stable: of equal changes the first, so that the same campaign gives the same page.
    order = both.reindex(both["change"].abs().sort_values(ascending=False, kind="stable").index)
    chosen = order["sample"].drop_duplicates().head(VIDEOS).tolist()
    videos = []
    for sample in chosen:
        rows = order[order["sample"] == sample].head(TOPICS)
        labels = [
            {
                "topic": material.topics[row["topic"]],
                "before": row["confidence_before"],
                "after": row["confidence_after"],
            }
            for row in rows.to_dict("records")
        ]
        videos.append({"sample_id": looked_at[sample], "clip": clips.of(looked_at[sample]), "labels": labels})
    return {
        "before": before,
        "after": after,
        "videos": videos,
        "looked_at": len(looked_at),
        "of": len(unlabeled),
        "pairs": len(both),
        "flips": float(((a >= POSITIVE) != (b >= POSITIVE)).mean()),
        "change": float(both["change"].abs().mean()),
    }


def spread(names: list[str], most: int) -> list[str]:
    """At most so many of some names, evenly spaced."""
    if len(names) <= most:
        return names
    return [names[i] for i in np.linspace(0, len(names) - 1, most).astype(int)]


def _labels(material: Material, teacher: str, samples: list[str]) -> pd.DataFrame:
    """A teacher's labels of some samples: sample and topic (positions in `samples` and the topics), confidence."""
    frames = []
    for table in label_tables(material.lake, "main", material.dataset, teacher):
        sample = codes(table["sample_id"], samples)
        kept = np.flatnonzero(sample >= 0)
        columns = {"sample": sample[kept], "topic": codes(table["topic"], material.topics)[kept]}
        frames.append(pd.DataFrame(columns | {"confidence": table["confidence"].to_numpy()[kept]}))
    if not frames:
        return pd.DataFrame({"sample": [], "topic": [], "confidence": []})
    frame = pd.concat(frames)
    return frame[frame["topic"] >= 0]


def _scores(
    material: Material, start: Record, end: Record, samples: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """What two rounds' students say of some samples, as `_labels` has it, and those samples that can be read."""
    samples = [name for name, at in zip(samples, material.positions(samples), strict=True) if at >= 0]
    if not samples:
        raise Missing("None of the unlabeled videos can be read any more.")
    students = [
        load_checked(material.workspace.work / record.checkpoint, record.weights_sha256, material.engine.device)
        for record in (start, end)
    ]
    topics = [topic for topic in material.topics if topic not in material.unseen]
    for student in students:
        topics = known_topics(student, topics)
    seen, frames = np.isin(material.topics, topics), []
    for student in students:
        scores = student.predict(material.embedded.embeddings, material.positions(samples), topics)
        sample, topic = np.indices(scores.shape).reshape(2, -1)
        columns = {"sample": sample, "topic": np.flatnonzero(seen)[topic], "confidence": scores.ravel()}
        frames.append(pd.DataFrame(columns))
    return frames[0], frames[1], samples
