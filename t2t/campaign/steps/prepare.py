"""Before the rounds: embeds the samples, brings data and teachers' labels into the lake, refuses what is not sound."""

from __future__ import annotations

import logging
from dataclasses import replace

from t2t.campaign.campaign import Campaign
from t2t.campaign.encoders import refuse_encoder, register
from t2t.campaign.entries import teacher_entry
from t2t.campaign.find import encoder_lakes, remember_lake
from t2t.campaign.freeze import commit_data, freeze_campaign
from t2t.campaign.lineup import refuse_retracted
from t2t.campaign.observer import Observer
from t2t.core.errors import T2TError
from t2t.core.files import remove_leftovers
from t2t.data.dataset import SPLITS
from t2t.data.embeddings.config import DistilledConfig, TimmConfig
from t2t.data.embeddings.distilled import find_encoder
from t2t.data.labels import HUMAN, MOST_TEACHERS, is_people
from t2t.data.soundness import MEASURED, refuse_no_positive, refuse_unsound, remarks
from t2t.students.towers import pretrained
from t2t.teachers import Teacher, build, parse_entry
from t2t.teachers.asked import Asked
from t2t.teachers.kinds.annotations import Entry as HumanEntry
from t2t.teachers.kinds.annotations import annotator_entries
from t2t.teachers.store import asked, registered
from t2t.tuning.encoder import refuse_untunable

log = logging.getLogger("t2t")


def prepare(campaign: Campaign, observer: Observer) -> None:
    """Makes everything ready that rounds read, and tells the observer that the campaign is open.

    The configuration is frozen with the first round: later ones are compared with it, so it may not change.
    What a killed run left half done is cleared away, and what it left out of the observer is put there.
    """
    for path in [*remove_leftovers(campaign.workspace.work), *remove_leftovers(campaign.folder, deep=True)]:
        log.info("Removed %s, which a killed run left.", path)
    campaign.check_samples()
    if isinstance(campaign.config.encoder, TimmConfig) and campaign.config.encoder.tune is not None:
        refuse_untunable(campaign.config.encoder)
    refuse_unsound(campaign.dataset)
    for remark in remarks(campaign.dataset):
        log.warning("Dataset %s: %s", campaign.dataset.name, remark)
    teachers = outside_teachers(campaign)
    for teacher in teachers:
        campaign.registrar().try_out(teacher, campaign.dataset.samples, campaign.dataset.topics)
    config, out = campaign.config, campaign.lineup.retracted()
    observer.ready(campaign)
    _open_text_encoder(campaign)
    for split in MEASURED:  # unreadable samples are out now
        refuse_no_positive(campaign.dataset, split, bool(campaign.human_pairs(split).positive.any()))
    if campaign.dataset.machines:
        refuse_unsound(replace(campaign.dataset))  # what the videos of other machines hold is known only now
    remember_lake(campaign.folder, config.lake)
    _register_encoder(campaign)
    taught = {teacher.id for record in campaign.ledger.records() for teacher in record.teachers}
    freeze_campaign(campaign.lake, campaign.layout, config, out, taught)
    refuse_retracted(config, out)
    for name in config.teachers:
        if name in out:
            log.info("Teacher %s is left out: it is retracted (t2t teachers retract %s --undo).", name, out[name])
    commit_data(campaign.lake, campaign.dataset, campaign.embedded.quarantine, campaign.workspace.work)
    campaign.registrar().register_all(teachers, campaign.samples(*SPLITS), campaign.dataset.topics)
    _label_later_samples(campaign)
    observer.opened(campaign)


def _register_encoder(campaign: Campaign) -> None:
    """Notes in the campaign's lake whom its frame encoder learned from, where it was distilled. Raises T2TError where
    it is not here, or retracted."""
    config = campaign.config
    if isinstance(config.encoder, DistilledConfig):
        refuse_encoder(
            campaign.workspace, config, [campaign.lake, *encoder_lakes(campaign.workspace, config.encoder.name)]
        )
        register(campaign.lake, find_encoder(config.encoder)[1])


def outside_teachers(campaign: Campaign) -> list[Teacher]:
    """`human`, annotators, and the campaign's other teachers that are not retracted, from the registry.

    Raises T2TError where an entry or a file of one is missing or wrong.
    """
    entries = [teacher_entry(campaign.workspace, name, campaign.dataset.root) for name in campaign.lineup.outside()]
    people = [HumanEntry(id=HUMAN), *annotator_entries(campaign.dataset.annotators)]
    if len(people) + len(entries) > MOST_TEACHERS:
        raise T2TError(
            f"Dataset {campaign.dataset.name}: {len(people) - 1:,} annotators have an identity, and a round can have "
            f"{MOST_TEACHERS:,} at most: set `people: {{least: N}}` higher in its file."
        )
    return [build(entry, campaign.context) for entry in (*people, *entries)]


def _open_text_encoder(campaign: Campaign) -> None:
    """Reads a pretrained text encoder once before the first round: what is wrong with it is not found after hours of
    embedding."""
    source = getattr(getattr(campaign.config.student, "text", None), "pretrained", None)
    if source and not campaign.ledger.records():
        pretrained(source)


def _label_later_samples(campaign: Campaign) -> None:
    """Has the students that teach the next round label what came into the dataset after them, if anything did."""
    samples, name, lake = campaign.samples("unlabeled"), campaign.config.dataset, campaign.lake
    wanted = Asked(tuple(samples["sample_id"].to_pylist()), campaign.dataset.taught)
    for teacher in campaign.lineup.of_round(len(campaign.ledger.records())):
        if is_people(teacher) or teacher in campaign.config.teachers:
            continue
        before = asked(lake, "main", name, teacher, wanted.topics)
        registration = registered(lake, name, teacher)
        if before is not None and registration is not None and wanted - before:
            student = build(parse_entry(registration.entry, f"teacher {teacher!r}"), campaign.context)
            campaign.registrar().register(student, samples, wanted.topics)
