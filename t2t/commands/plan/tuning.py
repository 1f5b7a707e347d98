"""What tuning the frame encoder adds to a run, before its rounds: `encoder.tune`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from t2t.campaign.config import CampaignConfig
from t2t.campaign.find import campaigns
from t2t.campaign.ledger import Ledger
from t2t.campaign.tuned import TunedEncoder, all_tuned, encoder_here
from t2t.commands.plan.model import UNKNOWN, Work
from t2t.commands.plan.rates import shard_seconds
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.data.embeddings.encoders import FrameEncoder
from t2t.data.embeddings.store import EmbeddingStore
from t2t.tuning.needs import tuning_of

# What a tuning may have otherwise and yet take as long a step.
ASIDE = {"steps", "tie", "residual", "learning_rate", "weight_decay"}


def tuning_work(
    workspace: Workspace, config: CampaignConfig, embedding: Work, encoder: FrameEncoder | None
) -> list[Work]:
    """The steps of the tuning, by what earlier ones took here, and all samples embedded anew; empty where a campaign's
    encoder is not tuned.

    Args:
        embedding: with `encoder`, which is the one that was tuned where it is, and else the encoder as it is; None
            where it would first have to be fetched.
    """
    tune = tuning_of(config.encoder)
    if tune is None:
        return []
    done = tuning_of(encoder_here(workspace, config)) is None
    if done:  # `embedding` is that of the tuned encoder, then
        return [Work("tuning", "steps", tune.steps, tune.steps)]
    tuning = Work("tuning", "steps", tune.steps, 0, None, UNKNOWN)
    same = [each for each in _earlier(workspace, config) if _shape(each.config) == _shape_of(config)]
    if same:
        rates = [each.seconds / max(each.config["tune"]["steps"], 1) for each in same]
        tuning.seconds = tune.steps * sum(rates) / len(rates)
        tuning.measured = f"by {len(same)} earlier tuning{'s' * (len(same) != 1)}"
    again = Work("embedding, tuned", "samples", embedding.total, 0, None, UNKNOWN)
    if embedding.left and embedding.seconds is not None:
        again.seconds, again.measured = embedding.seconds / embedding.left * again.total, "as the encoder as it was"
    elif encoder is not None and (rate := shard_seconds(_store(workspace, encoder))[0]) is not None:
        again.seconds, again.measured = rate * again.total, "as the encoder as it was"
    return [tuning, again]


def _store(workspace: Workspace, encoder: FrameEncoder) -> Path:
    return EmbeddingStore(workspace.work / "embeddings", encoder.fingerprint, clean=False).folder


def _earlier(workspace: Workspace, config: CampaignConfig) -> Iterator[TunedEncoder]:
    """Encoders that were tuned here for campaigns on the same dataset."""
    for lake, layout in campaigns(workspace):
        if layout.dataset == config.dataset:
            try:
                yield from all_tuned(Ledger(lake, layout.dataset, layout.name))
            except T2TError:
                continue  # of another version of t2t; all it could give is a time


def _shape_of(config: CampaignConfig) -> Any:
    return _shape(config.encoder.model_dump(mode="json"))


def _shape(encoder: dict[str, Any]) -> dict[str, Any]:
    """All of an encoder that a step's time depends on."""
    return {**encoder, "tune": {key: value for key, value in encoder["tune"].items() if key not in ASIDE}}
