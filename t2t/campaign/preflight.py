"""What a run would be refused for, as far as that can be said within a second: without torch, and with nothing written.

The run itself checks all of it again, and more; this is for whoever waits at a terminal.
"""

from __future__ import annotations

import logging
from pathlib import Path

from t2t.campaign.config import CampaignConfig
from t2t.campaign.entries import dataset_config, open_dataset, quick_entry, refuse_unready, teacher_file
from t2t.campaign.find import check_lake, lake_of
from t2t.campaign.freeze import read_frozen, refuse_changes
from t2t.campaign.ledger import Ledger
from t2t.campaign.seeds import seeded
from t2t.core.config import read_yaml
from t2t.core.errors import DataError, T2TError
from t2t.core.host import check_memory
from t2t.core.workspace import Workspace
from t2t.data.consensus import need_crowdkit
from t2t.data.dataset import dataset_root
from t2t.data.embeddings.vectors import check_samples
from t2t.data.vector_files import VECTORS

log = logging.getLogger("t2t")


def preflight(workspace: Workspace, config: CampaignConfig) -> None:
    """Raises T2TError for data that are not there, teachers without a readable entry or a key, a campaign that is under
    way with other settings or in another lake, for a library that is missing, and for a shell that allows too little
    memory."""
    check_memory()
    for other in seeded(config)[1:]:
        if other.name in workspace.names("campaigns"):
            raise T2TError(
                f"Campaign {config.name!r}: its seed {other.seed} would be run as {other.name!r}, which is a campaign "
                "of the registry; rename that one, or run this one under another name (--name)."
            )
        preflight(workspace, other)
    data = dataset_config(workspace, config.dataset)
    root = dataset_root(data, workspace.data)
    for table in (data.samples, data.annotations, data.topics):
        if not (root / table).exists():
            raise DataError(root / table, "no such file.")
    if data.people.combine == "mace":
        need_crowdkit()
    folder = workspace.work / "campaigns" / config.name
    check_lake(folder, config.lake)
    lake = lake_of(workspace, config.name)
    out: dict[str, str] = {}
    begun = False
    if lake is not None:
        ledger = Ledger(lake, config.dataset, config.name)
        frozen = read_frozen(ledger)
        if frozen:
            out = ledger.retracted()
            begun = bool(ledger.records())
            taught = {teacher.id for record in ledger.records() for teacher in record.teachers}
            same = config.model_copy(update={"recipe": "manual"}) if frozen.get("recipe") == "manual" else config
            refuse_changes(frozen, same, ledger.layout, out, taught)
    looked_at: set[Path] = set()
    for name in config.teachers:
        if name in out:
            continue
        file = teacher_file(workspace, name)
        if file not in looked_at and not isinstance(read_yaml(file).get("kind"), str):
            raise T2TError(f"{file}: key 'kind' is missing.")
        looked_at.add(file)
        if not begun:  # once there is a round, those that labeled everything are asked nothing
            refuse_unready(workspace, name)
    if config.encoder.kind == VECTORS and not begun:  # of numbers all is known at once
        check_samples(open_dataset(workspace, config.dataset).samples, config.encoder)


def tell_refusal(workspace: Workspace, config: CampaignConfig) -> None:
    """Says at once why a run would be refused for want of a key, a budget or a package: a plan can do without them.

    Raises T2TError for an entry that is bad.
    """
    for entry in [quick_entry(workspace, name) for name in config.teachers]:
        try:
            if entry is not None:
                entry.ready()
        except T2TError as error:
            log.warning("A run would be refused: %s", error)
