"""`t2t data check`: is a dataset what it says it is?"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich.markup import escape

from t2t.campaign.entries import open_dataset
from t2t.commands.tables import console, records_of, table_of
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.data.dataset import Dataset
from t2t.data.embeddings.embed import QUARANTINE_SCHEMA, probe
from t2t.data.remote import is_remote
from t2t.data.soundness import refuse_unsound, remarks


def check_data(workspace: Workspace, name: str, as_json: bool = False, videos: bool = True) -> None:
    """Reads tables and videos; prints samples by split, topics, and what cannot be read.

    With `as_json`: {dataset, root, splits, topics, unseen, silent, unreadable}: a list with a split each, numbers of
    topics, those without a positive human label, a list of {sample_id, path, reason}; `remarks` says what is odd.

    Args:
        videos: whether to decode a frame of each; else nobody knows what is unreadable, which is null then.
    """
    dataset = open_dataset(workspace, name)
    samples = dataset.samples.select(["sample_id", "group", "split"]).to_pandas()
    human = dataset.human.to_pandas().merge(samples, on="sample_id")
    looked_at = probe(dataset.samples) if videos else QUARANTINE_SCHEMA.empty_table()
    unreadable = looked_at.to_pandas().merge(samples, on="sample_id")
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
                "unreadable": int((unreadable["split"] == split).sum()) if videos else None,
            }
        )
    silent = [topic for topic in dataset.topics if not (human["confidence"][human["topic"] == topic] >= 0.5).any()]
    told = remarks(dataset)
    if as_json:
        about = {"dataset": name, "root": str(dataset.root), "splits": rows, "topics": len(dataset.topics)}
        about |= {"unseen": sorted(dataset.unseen), "silent": silent, "remarks": told}
        about |= {"unreadable": records_of(unreadable[["sample_id", "path", "reason"]]) if videos else None}
        print(json.dumps(about, indent=2))
    else:
        _print(dataset, rows, told, unreadable)
        if not videos:
            console.print("The videos were not opened, so nobody knows which can be read: leave out --no-videos.")
    share, limit = len(unreadable) / len(samples), dataset.config.max_unreadable
    if share > limit and len(unreadable) > 1:
        raise T2TError(
            f"{len(unreadable)} of {len(samples)} samples are unreadable ({share:.1%}), more than max_unreadable "
            f"({limit:.1%}) in {workspace.file('datasets', name)}: a campaign would stop."
        )
    refuse_unsound(dataset)


def _print(dataset: Dataset, rows: list[dict[str, Any]], told: Sequence[str], unreadable: pd.DataFrame) -> None:
    table = pd.DataFrame(rows).dropna(axis="columns", how="all")
    console.print(table_of(table, f"Dataset {dataset.name} at {dataset.root}"))
    console.print(f"Topics: {len(dataset.topics)}, of which {len(dataset.unseen)} unseen in training.")
    console.print("Groups in more than one split: 0.")
    for remark in told:
        console.print(f"[yellow]{escape(remark)}[/yellow]")
    if len(unreadable):
        # As the samples table writes them: short enough to stay whole in a terminal.
        unreadable["path"] = [
            path if is_remote(path) else os.path.relpath(path, dataset.root) for path in unreadable["path"]
        ]
        console.print(
            table_of(unreadable[["sample_id", "path", "reason"]].head(20), "Unreadable, would be quarantined")
        )
