"""A campaign's tuned encoders, as its lake knows them, and their weights, which lie in its folder.

The lake has one entry for each: what it was tuned on, by whom it was taught, and the SHA-256 of its weights. It counts
as long as none of its teachers is retracted; then one is made without them. Each round's checkpoint carries the weights
of the encoder that it was trained behind, so that they are found again where the campaign's own are lost.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from t2t.campaign.config import CampaignConfig
from t2t.campaign.find import lake_of
from t2t.campaign.ledger import Ledger
from t2t.core.config import Config, parse
from t2t.core.errors import T2TError
from t2t.core.files import sha256_file
from t2t.core.workspace import Workspace
from t2t.data.embeddings.config import EncoderConfig, TimmConfig
from t2t.lake import UnknownRef
from t2t.lake.tables import json_at
from t2t.students.config import ENCODER
from t2t.teachers.base import TeacherRef
from t2t.tuning.needs import tuning_of

WEIGHTS = "model.safetensors"


class TunedEncoder(Config):
    """An encoder that was tuned for a campaign: `encoder-<number>.json` in its part of the lake.

    config: as the campaign has it. of: the fingerprint of the encoder as it was. fingerprint: its own.
    teachers: whose rows it learned from, as they were at `commit`. best_step: of the curve's (step, metrics); 0 is the
    encoder as it was, which stays where nothing was better on validation. seconds: of the process that ended it.
    """

    number: int
    config: dict[str, Any]
    of: str
    fingerprint: str
    weights_sha256: str
    teachers: tuple[TeacherRef, ...]
    commit: str
    rows_by_teacher: dict[str, int]
    best_step: int
    curve: list[tuple[int, dict[str, float]]]
    seconds: float


def all_tuned(ledger: Ledger) -> list[TunedEncoder]:
    """Every encoder that was tuned for a campaign, the first one first."""
    layout, lake = ledger.layout, ledger.lake
    try:
        head = lake.resolve("main")
    except UnknownRef:
        return []
    entries = [entry.path for entry in lake.list(head, layout.prefix) if layout.is_encoder(entry.path)]
    found = [parse(TunedEncoder, json_at(lake, head, path), lake.uri(head, path)) for path in entries]
    return sorted(found, key=lambda tuned: tuned.number)


def standing_encoder(config: CampaignConfig, ledger: Ledger, folder: Path) -> tuple[TunedEncoder, Path] | None:
    """The first of a campaign's tuned encoders whose teachers all count, with the file of its weights; None where it is
    to be tuned: there is none yet, or none that stands, or its weights are lost before a round rests on them.

    Args:
        folder: the campaign's own in the work folder.

    Raises T2TError where the weights are lost and rounds rest on them.
    """
    if tuning_of(config.encoder) is None or not (found := all_tuned(ledger)):
        return None
    out, wanted = ledger.retracted(), json.loads(config.encoder.model_dump_json())
    standing = [one for one in found if one.config == wanted and not any(ref.id in out for ref in one.teachers)]
    for tuned in standing:
        if (path := _weights(tuned, folder)) is not None:
            return tuned, path
    if standing and ledger.records():
        raise T2TError(
            f"Campaign {config.name!r}: the weights of its tuned encoder are lost: no {ENCODER} of its rounds and no "
            f"{encoder_folder(folder, standing[0].number) / WEIGHTS} has the SHA-256 "
            f"{standing[0].weights_sha256[:12]}…. Put one back from a copy of the work folder or of a model in "
            f"MLflow (its file {ENCODER}), or run under another name (--name)."
        )
    return None


def _weights(tuned: TunedEncoder, folder: Path) -> Path | None:
    """The file with an encoder's weights, in a campaign's folder; None where they are nowhere in it."""
    places = [encoder_folder(folder, tuned.number) / WEIGHTS, *sorted(folder.glob(f"round-*/student/{ENCODER}"))]
    whole = (path for path in places if path.is_file() and sha256_file(path) == tuned.weights_sha256)
    return next(whole, None)


def encoder_of(config: CampaignConfig, ledger: Ledger, folder: Path) -> EncoderConfig:
    """The frame encoder whose embeddings a campaign's rounds are trained on: its own, or what was tuned of it.

    Arguments and errors as those of `standing_encoder`.
    """
    standing = standing_encoder(config, ledger, folder)
    return config.encoder if standing is None else as_tuned(config.encoder, standing[1])


def encoder_here(workspace: Workspace, config: CampaignConfig) -> EncoderConfig:
    """`encoder_of`, of a campaign that may not have begun."""
    if tuning_of(config.encoder) is None or (lake := lake_of(workspace, config.name)) is None:
        return config.encoder
    ledger = Ledger(lake, config.dataset, config.name)
    return encoder_of(config, ledger, workspace.work / "campaigns" / config.name)


def as_tuned(encoder: EncoderConfig, weights: Path) -> EncoderConfig:
    """An encoder's configuration with the weights that were tuned, and nothing left to tune."""
    if not isinstance(encoder, TimmConfig):
        raise T2TError(f"encoder.tune: an encoder of kind {encoder.kind!r} cannot be tuned.")
    return encoder.model_copy(update={"weights": str(weights.absolute()), "tune": None})


def encoder_folder(folder: Path, number: int) -> Path:
    """Where a tuned encoder lies in a campaign's folder."""
    return folder / f"encoder-{number:03}"
