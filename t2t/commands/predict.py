"""`t2t predict`: the champion scores files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from t2t.campaign.entries import open_dataset
from t2t.campaign.find import ledger_of
from t2t.campaign.record import champion
from t2t.commands.tables import console, table_of
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.students.scorer import Scorer


def predict_file(
    workspace: Workspace, campaign: str, video: Path, topics: Sequence[str], identity: str | None
) -> list[dict[str, Any]]:
    """Confidences of the campaign's champion for one file, highest first."""
    ledger = ledger_of(workspace, campaign)
    best = champion(ledger.records())
    if best is None:
        raise T2TError(f"Campaign {campaign!r} has no champion: no round that stands has passed.")
    scorer = Scorer(workspace.work / best.checkpoint, best.identity, weights_sha256=best.weights_sha256)
    names = list(topics) or list(open_dataset(workspace, ledger.layout.dataset).topics)
    scores = scorer.score([video], names, identity)[0]
    order = np.argsort(-scores, kind="stable")
    return [{"topic": names[i], "confidence": round(float(scores[i]), 6)} for i in order]


def print_scores(scores: list[dict[str, Any]]) -> None:
    frame = pd.DataFrame(scores)
    frame["bar"] = ["█" * round(40 * value) for value in frame["confidence"]]
    console.print(table_of(frame.rename(columns={"bar": ""}), confidence=".3f"))
