"""`t2t data check`: is a dataset what it says it is?"""

from __future__ import annotations

import os

import pandas as pd
from rich.markup import escape

from t2t.campaign.entries import open_dataset
from t2t.commands.tables import console, table_of
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.data.embeddings.embed import probe


def check_data(workspace: Workspace, name: str) -> None:
    """Reads tables and videos; prints samples by split, topics, and what cannot be read."""
    dataset = open_dataset(workspace, name)
    samples = dataset.samples.select(["sample_id", "group", "split"]).to_pandas()
    human = dataset.human.to_pandas().merge(samples, on="sample_id")
    unreadable = probe(dataset.samples).to_pandas().merge(samples, on="sample_id")
    rows = []
    for split in ("train", "unlabeled", "validation", "test"):
        in_split, labels = samples[samples["split"] == split], human[human["split"] == split]
        rows.append(
            {
                "split": split,
                "samples": len(in_split),
                "groups": in_split["group"].nunique(),
                "human-labeled": labels["sample_id"].nunique(),
                "pairs": len(labels),
                "positives": int((labels["confidence"] >= 0.5).sum()),
                "unreadable": int((unreadable["split"] == split).sum()),
            }
        )
    console.print(table_of(pd.DataFrame(rows), f"Dataset {name} at {dataset.root}"))
    console.print(f"Topics: {len(dataset.topics)}, of which {len(dataset.unseen)} unseen in training.")
    console.print("Groups in more than one split: 0.")
    silent = [topic for topic in dataset.topics if not (human["confidence"][human["topic"] == topic] >= 0.5).any()]
    if silent:
        console.print(f"[yellow]Topics without a positive human label:[/yellow] {escape(', '.join(silent[:10]))}")
    if len(unreadable):
        # As the samples table writes them: short enough to stay whole in a terminal.
        unreadable["path"] = [os.path.relpath(path, dataset.root) for path in unreadable["path"]]
        console.print(
            table_of(unreadable[["sample_id", "path", "reason"]].head(20), "Unreadable, would be quarantined")
        )
    share, limit = len(unreadable) / len(samples), dataset.config.max_unreadable
    if share > limit and len(unreadable) > 1:
        raise T2TError(
            f"{len(unreadable)} of {len(samples)} samples are unreadable ({share:.1%}), more than max_unreadable "
            f"({limit:.1%}) in {workspace.file('datasets', name)}: a campaign would stop."
        )
