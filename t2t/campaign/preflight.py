"""What a run would be refused for, as far as that can be said within a second: without torch, and with nothing written.

The run itself checks all of it again, and more; this is for whoever waits at a terminal.
"""

from __future__ import annotations

import logging
from pathlib import Path

from t2t.campaign.config import CampaignConfig
from t2t.campaign.encoders import refuse_encoder, with_encoder
from t2t.campaign.entries import dataset_config, open_dataset, quick_entry, refuse_unready, teacher_file
from t2t.campaign.find import check_lake, encoder_lakes, lake_of
from t2t.campaign.freeze import read_frozen, refuse_changes
from t2t.campaign.ledger import Ledger
from t2t.campaign.seeds import seeded
from t2t.core.config import read_yaml
from t2t.core.errors import DataError, T2TError
from t2t.core.host import check_memory, has_gpu, machine_memory
from t2t.core.workspace import Workspace
from t2t.data.consensus import need_crowdkit
from t2t.data.dataset import dataset_root
from t2t.data.embeddings.vectors import check_samples
from t2t.data.soundness import refuse_unmeasured
from t2t.data.vector_files import VECTORS
from t2t.students.config import DualEncoderConfig
from t2t.students.footprint import Footprint, Trained, footprint
from t2t.students.presets import check_pretrained
from t2t.training.baselines.table import refuse_method
from t2t.tuning.needs import refuse_without_peft, tuning_of

log = logging.getLogger("t2t")

# Tables that are read within a moment; whether larger ones can be measured on is found when the campaign opens.
QUICK_BYTES = 4 << 20


def preflight(workspace: Workspace, config: CampaignConfig) -> bool:
    """Raises T2TError for data that are not there, teachers without a readable entry or a key, a campaign that is under
    way with other settings or in another lake, for a library that is missing, a method that has too few teachers,
    and for a shell that allows too little memory.

    Returns: whether the campaign has a finished round.
    """
    check_memory()
    for other in seeded(config)[1:]:
        if other.name in workspace.names("campaigns"):
            raise T2TError(
                f"Campaign {config.name!r}: its seed {other.seed} would be run as {other.name!r}, which is a campaign "
                "of the registry; rename that one, or run this one under another name (--name)."
            )
        preflight(workspace, other)
    config = with_encoder(config, workspace)
    check_settings(config)
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
    if config.encoder.kind == "distilled":
        refuse_encoder(workspace, config, [*([lake] if lake else []), *encoder_lakes(workspace, config.encoder.name)])
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
    return begun


def check_settings(config: CampaignConfig) -> None:
    """What of `preflight` needs a campaign's settings alone."""
    check_student(config)
    if (tune := tuning_of(config.encoder)) is not None:
        refuse_without_peft(tune)
    refuse_method(config.method, len(config.teachers))


def check_data(workspace: Workspace, config: CampaignConfig, begun: bool) -> None:
    """Raises T2TError where nothing can be measured by the tables, if they are small, and for numbers in place of
    videos that are not as they must be. Behind what needs no table: a server that is not there is told first.

    Args:
        begun: whether the campaign has a finished round, as `preflight` says.
    """
    data = dataset_config(workspace, config.dataset)
    root = dataset_root(data, workspace.data)
    size = sum((root / table).stat().st_size for table in (data.samples, data.annotations, data.topics))
    vectors = config.encoder.kind == VECTORS and not begun  # of numbers all is known at once
    if size >= QUICK_BYTES and not vectors:
        return
    dataset = open_dataset(workspace, config.dataset)
    if size < QUICK_BYTES:
        refuse_unmeasured(dataset)
    if vectors:
        check_samples(dataset.samples, config.encoder)


def check_student(config: CampaignConfig) -> None:
    """Raises T2TError for a pretrained encoder that is not to be had, and for a student whose weights alone take more
    memory in training than this machine has, where nothing else than this machine may train it."""
    source = getattr(getattr(config.student, "text", None), "pretrained", None)
    if source is not None:
        check_pretrained(source)
    if config.engine != "local" or has_gpu():
        return
    least = least_footprint(config)
    if least is not None and least.needed > machine_memory():
        raise T2TError(
            f"A student of {least.total:,} weights takes {least.needed / 1e9:,.0f} GB of memory in training at least, "
            f"and this machine has {machine_memory() / 1e9:,.0f} GB: take a smaller student, or text.freeze: true "
            "(`t2t plan` counts it)."
        )


def least_footprint(config: CampaignConfig) -> Footprint | None:
    """What the student weighs at least, whatever its data: weights, and what training keeps beside each of them."""
    student = config.student
    if isinstance(student, DualEncoderConfig) and student.text.pretrained is not None and config.recipe == "auto":
        # As the recipe does, where nothing is said.
        freeze = student.text.freeze or "freeze" not in student.text.model_fields_set
        student = student.model_copy(update={"text": student.text.model_copy(update={"freeze": freeze})})
    nothing = Trained(1, 0, 0, 0, 0, 0, 0, 0, 0.0)
    return footprint(student, nothing, ema=config.recipe == "auto" or config.training.ema > 0)


def tell_refusal(workspace: Workspace, config: CampaignConfig) -> None:
    """Says at once why a run would be refused for want of a key, a budget, a package, a text encoder or memory: a plan
    can do without them.

    Raises T2TError for an entry that is bad.
    """
    try:
        check_student(config)
    except T2TError as error:
        log.warning("A run would be refused: %s", error)
    for entry in [quick_entry(workspace, name) for name in config.teachers]:
        try:
            if entry is not None:
                entry.ready()
        except T2TError as error:
            log.warning("A run would be refused: %s", error)
