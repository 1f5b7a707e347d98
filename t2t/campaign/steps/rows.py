"""Which labels a round may train on: people's of the split `train` and of seen topics, teachers' of the unlabeled split
too. Everything else is for measuring (the topic-split protocol), or an accident.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from t2t.campaign.campaign import Campaign
from t2t.campaign.config import BASELINES, TEACHER2TASK
from t2t.campaign.evidence import Frames as MatrixFrames
from t2t.campaign.evidence import known_of
from t2t.campaign.facts import RoundStart
from t2t.campaign.people import people_note, refuse_unlearned
from t2t.core import plugins
from t2t.core.errors import T2TError, listed
from t2t.core.files import remove_folder, write_text
from t2t.core.sums import damaged
from t2t.data.coding import Coded, code, codes, positions, strings
from t2t.data.dataset import Dataset
from t2t.data.labels import is_people
from t2t.data.scales import Scale, write_scales
from t2t.evaluation.health import check_health, health
from t2t.evaluation.scales import scales_of
from t2t.evaluation.worth import Remark, remarks
from t2t.lake import Lake
from t2t.teachers.store import label_tables
from t2t.training.baselines import METHODS, make_rival
from t2t.training.baselines.base import Known
from t2t.training.baselines.labels import Frames, aggregate
from t2t.training.batches import learned
from t2t.training.matrix import LabelMatrix, assemble

log = logging.getLogger("t2t")

# Teachers that a line or a remark is said of, one by one.
SHOWN = 10


def rows(campaign: Campaign, start: RoundStart) -> LabelMatrix | None:
    """The label matrix of a round, N+1 tasks; leaves `round-<k>/labels/`. None where its student is trained already.

    The health of its rows is checked and written to `round-<k>/health.csv` first; raises T2TError where it blocks.
    """
    k, files = start.round, campaign.files(start.round)
    if (problem := damaged(files.student)) is not None:
        log.warning("Round %d: its student is trained again: in %s %s.", k, files.student, problem)
        remove_folder(files.student)
    if files.student.is_dir():
        return None
    if files.labels.is_dir() and (problem := damaged(files.labels)) is not None:
        log.warning("Round %d: its rows are made anew: in %s %s.", k, files.labels, problem)
        remove_folder(files.labels)
    if files.labels.is_dir() and not set(LabelMatrix.load(files.labels).sample_ids) <= set(
        campaign.embedded.sample_ids
    ):
        log.warning("Round %d: clips were removed or became unreadable since it began; its rows are made anew.", k)
        remove_folder(files.labels)
        remove_folder(files.training.ray)  # of those rows
    if not files.labels.is_dir():
        coded = next_rows(campaign, start.commit, start.teachers)
        report = health(coded)
        write_text(files.health, report.to_csv(index=False))
        check_health(report, campaign.config.health, campaign.config.name)
        scales = round_scales(campaign, coded) if campaign.config.common_scale else {}
        if scales:
            found = remarks(coded, scales, but=campaign.lineup.own(coded.teachers))
            say_remarks([remark for remark in found if campaign.is_news(str(remark))], campaign.config.name)
            _say_gain(campaign, scales)
            write_scales(files.scales, scales)
        known = partial(_known, campaign, start, scales)
        made = as_trained(assemble(coded), campaign.config.method, scales, known)
        _refuse_unlearned(campaign, made)
        made.save(files.labels)
    matrix = LabelMatrix.load(files.labels)
    note = people_note(campaign.config, matrix.rows_by_teacher())
    if note and campaign.is_news(note):
        log.warning("%s", note)
    counts = listed([f"{name} {rows:,}" for name, rows in matrix.rows_by_teacher().items()], SHOWN)
    log.info("Round %d: %s rows of %d tasks (%s)", k, f"{matrix.rows:,}", len(matrix.teachers), counts)
    return matrix


def _say_gain(campaign: Campaign, scales: Mapping[str, Scale]) -> None:
    gain = max(scale.gain for scale in scales.values())
    line = (
        f"Teachers say little by themselves: what they say is taught {gain:.2g} times as far from people's usual share "
        "of yes as it is believed (scale_gain)."
    )
    if gain > 1 and campaign.is_news(line):
        log.info("%s", line)


def _refuse_unlearned(campaign: Campaign, matrix: LabelMatrix) -> None:
    config, lineup = campaign.config, campaign.lineup
    keys = {"evaluation.identity": config.evaluation.identity, "self_training.identity": config.self_training.identity}
    asked = {key: lineup.identity(wanted, matrix.teachers) for key, wanted in keys.items()}
    refuse_unlearned(config, asked, learned(matrix, config.training))


def say_remarks(found: Sequence[Remark], campaign: str) -> None:
    """One line each: what the common scale puts right for information, what people should look at as a warning. Of many
    teachers of whom the same is said the others are counted."""
    by_kind: dict[str, list[Remark]] = {}
    for remark in found:
        by_kind.setdefault(remark.kind, []).append(remark)
    for some in by_kind.values():
        level = logging.INFO if some[0].mended else logging.WARNING
        for remark in some[:SHOWN]:
            log.log(level, "%s", remark)
        if len(some) > SHOWN:
            names = listed([remark.teacher for remark in some[SHOWN:]])
            what = some[0].said_of_many
            log.log(level, "%d more teachers %s: %s (t2t teachers health %s)", len(some) - SHOWN, what, names, campaign)


def next_rows(campaign: Campaign, commit: str, teachers: Sequence[str]) -> Coded:
    """`training_rows` of a campaign."""
    see_unseen = campaign.config.teachers_see_unseen
    return training_rows(campaign.lake, campaign.dataset, campaign.readable, commit, teachers, see_unseen)


def round_scales(campaign: Campaign, coded: Coded) -> dict[str, Scale]:
    """The map to the common scale of every identity whose labels a round trains on, but people's own.

    The campaign's students label as somebody: as people, whose scale is the common one, or as another identity.
    """
    asked, own = campaign.config.self_training.identity, campaign.lineup.own(coded.teachers)
    as_others = {name: campaign.lineup.identity(asked, coded.teachers) for name in own}
    return scales_of(coded, groups_of(campaign.readable, coded.sample_ids), as_others, campaign.config.gain)


def groups_of(readable: pa.Table, sample_ids: Sequence[str] | pa.Array) -> np.ndarray:
    """The group of each sample as a number, int64. Args: readable: columns sample_id and group."""
    groups = readable["group"].combine_chunks().dictionary_encode().indices.to_numpy()
    found: np.ndarray = groups[positions(strings(sample_ids), strings(readable["sample_id"].combine_chunks()))]
    return found.astype(np.int64)


def as_trained(
    matrix: LabelMatrix,
    method: str,
    scales: Mapping[str, Scale] | None = None,
    known: Callable[[LabelMatrix], tuple[Known, Frames]] | None = None,
) -> LabelMatrix:
    """The matrix that a method trains on, on the common scale: itself, or what a baseline makes of it (entry points
    `t2t.baselines`), or what a rival does, which learns from people first.

    Args:
        known: what a rival learns from, and samples' embeddings, for a raw matrix; other methods need none.
    """
    if method in METHODS:
        if known is None:
            raise T2TError(f"method: {method!r} learns from people's rows and embeddings, which are not at hand here.")
        return aggregate(matrix, make_rival(method, "method"), *known(matrix), method)
    matrix = matrix.scaled(scales or {}, taught=method == TEACHER2TASK)
    if method == TEACHER2TASK:
        return matrix
    baseline: LabelMatrix = plugins.make(
        "t2t.baselines", BASELINES, method, [matrix], "method", "method", ["save", "rows_by_teacher"]
    )
    return baseline


def _known(
    campaign: Campaign, start: RoundStart, scales: Mapping[str, Scale], matrix: LabelMatrix
) -> tuple[Known, Frames]:
    known, _ = known_of(campaign, start.commit, start.teachers, scales, matrix)
    return known, MatrixFrames(campaign, matrix)


def training_rows(
    lake: Lake, dataset: Dataset, readable: pa.Table, commit: str, teachers: Sequence[str], see_unseen: bool
) -> Coded:
    """Teachers' labels at a commit of the lake, as far as a round may train on them.

    Args:
        readable: the samples that have embeddings, columns sample_id and split.
        see_unseen: let teachers' (never humans') labels of unseen topics in.
    """
    tables = chain.from_iterable(_tables(lake, dataset, readable, commit, name) for name in teachers)
    samples = _ids(readable, "train", "unlabeled")
    return code(tables, samples, dataset.topics if see_unseen else dataset.taught, teachers)


def _ids(readable: pa.Table, *splits: str) -> pa.Array:
    return readable.filter(pc.is_in(readable["split"], value_set=pa.array(splits)))["sample_id"].combine_chunks()


def _tables(lake: Lake, dataset: Dataset, readable: pa.Table, commit: str, teacher: str) -> Iterator[pa.Table]:
    for table in label_tables(lake, commit, dataset.name, teacher):
        if is_people(teacher):
            # Human labels of the unlabeled split would be an accident of the annotation tool: that split has none.
            sample = codes(table["sample_id"], _ids(readable, "train"))
            table = table.filter(pa.array((sample >= 0) & (codes(table["topic"], dataset.seen) >= 0)))
        yield table
