"""Labeled test samples on which the student is surest: where people agree with it, and where they do not."""

from __future__ import annotations

from typing import Any

import numpy as np

from t2t.commands.page.clips import Clips
from t2t.commands.page.material import Material, Missing

# Of each kind. A sample and a topic stand once in a kind, so that it does not show the same mistake several times.
EXAMPLES = 4
KINDS = {
    "right": "Right: surest where people say yes",
    "false": "Wrong: surest where people say no",
    "missed": "Wrong: least sure where people say yes",
}


def right_and_wrong(material: Material, clips: Clips) -> dict[str, Any]:
    """The human-labeled test pairs on which the student of the round that the report is about is surest.

    Returns: `record`, the round; `kinds`, of each of KINDS that has pairs its name, `title` and `rows`: sample_id,
        clip, topic, unseen, `student` and `people` (confidences, 0..1; 0.5 and above is yes), and `teachers`, the
        outside teachers that labeled the pair with their own confidences.
    """
    record = material.measured
    pairs = material.pairs(record.round, "test")
    scored = ~np.isnan(pairs.score)
    if not scored.any():
        raise Missing(f"Round {record.round} scored no human-labeled test pair.")
    sure = np.where(scored, pairs.score, np.nan)
    # Best first: the highest scores where people say yes or no, and the lowest ones where they say yes.
    order = {"right": (pairs.positive, -sure), "false": (~pairs.positive, -sure), "missed": (pairs.positive, sure)}
    teachers = {name: material.scores(name, record.round, "test") for name in material.outside(record)}
    kinds = []
    for name, (which, by) in order.items():
        rows = []
        for at in surest(np.flatnonzero(which & scored), by, pairs.sample, pairs.topic):
            sample, topic = pairs.sample_ids[pairs.sample[at]], pairs.topics[pairs.topic[at]]
            row = {"sample_id": sample, "clip": clips.of(sample), "topic": topic, "unseen": topic in material.unseen}
            row |= {"student": float(pairs.score[at]), "people": float(pairs.target[at])}
            said = {teacher: float(score[at]) for teacher, score in teachers.items() if not np.isnan(score[at])}
            rows.append(row | {"teachers": said})
        if rows:
            kinds.append({"name": name, "title": KINDS[name], "rows": rows})
    return {"record": record, "kinds": kinds}


def surest(found: np.ndarray, by: np.ndarray, sample: np.ndarray, topic: np.ndarray) -> list[int]:
    """The first EXAMPLES of some pairs in rising order of `by`, no sample and no topic twice."""
    samples: set[int] = set()
    topics: set[int] = set()
    chosen: list[int] = []
    for at in found[np.argsort(by[found], kind="stable")]:
        if len(chosen) < EXAMPLES and sample[at] not in samples and topic[at] not in topics:
            samples.add(int(sample[at]))
            topics.add(int(topic[at]))
            chosen.append(int(at))
    return chosen
