"""What people's rows weigh against students' in a self-training round (`self_training.human_weight`)."""

from __future__ import annotations

import logging

from t2t.campaign.campaign import Campaign
from t2t.campaign.evidence import heard, people_pairs
from t2t.data.labels import HUMAN
from t2t.evaluation.guidance import chances, human_weight
from t2t.training.baselines.base import LeftOut
from t2t.training.matrix import LabelMatrix
from t2t.training.yardsticks import Bench, people_alone

log = logging.getLogger("t2t")


def human_weight_of(campaign: Campaign, matrix: LabelMatrix) -> float | None:
    """The weight of people's rows of what they and students' have of a round's loss together: as given, or estimated on
    validation, by the last student that teaches it and what people's rows alone come to. None where the campaign asks
    for none, the round learns from no student or from no label of people, or nothing can be estimated.

    Args:
        matrix: the round's rows.
    """
    wanted, rows = campaign.config.self_training.human_weight, matrix.rows_by_teacher()
    own = [name for name in campaign.lineup.own(matrix.teachers) if rows[name]]
    if wanted is None or not own or not rows.get(HUMAN):
        return None
    if wanted != "auto":
        return wanted
    last = max(campaign.config.round_of(name) or 0 for name in own)
    seen = frozenset(campaign.dataset.seen)
    scored = campaign.scored_pairs(campaign.ledger.records()[last], "validation").of_topics(seen)
    held = heard(campaign, scored, {})
    try:
        alone = people_alone(
            Bench(train=heard(campaign, people_pairs(campaign), {}), validation=held, test=held, scales={})
        )
    except LeftOut as why:
        log.warning("self_training.human_weight: auto: not estimated, since %s.", why)
        return None
    found = human_weight(scored.target, chances(alone), scored.score)
    if found is not None:
        log.info("People's rows weigh %.2f of what they and students' weigh together, by round %d.", found, last)
    return found
