"""The pairs worth asking people next: gathered from the champion, the teachers' labels and what people said so far."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa

from t2t.campaign.best import Best
from t2t.campaign.campaign import Campaign
from t2t.campaign.steps.rows import groups_of, round_scales, training_rows
from t2t.commands.annotate.choose import Caps, Likeliest, Pool, choose, disputed, draw, uncertainty
from t2t.commands.annotate.wanted import Wanted
from t2t.commands.health import reopen
from t2t.commands.predict import open_scorer
from t2t.core.errors import T2TError, listed
from t2t.core.progress import progress
from t2t.core.workspace import Workspace
from t2t.data.coding import positions, strings
from t2t.data.labels import HUMAN, POSITIVE
from t2t.data.scales import apply_scales
from t2t.students.base import known_topics
from t2t.students.scorer import Scorer

log = logging.getLogger("t2t")

# A topic with fewer positive answers is short of them.
ENOUGH_POSITIVES = 20
# Pairs of one clip at most: what a person can answer who has seen it once.
PER_CLIP = 6
# Pairs that a pool holds, for each one that is wanted.
DEPTH = 20
# Confidences that are held at once.
CONFIDENCES = 1 << 22


@dataclass(frozen=True)
class Questions:
    """table: columns sample_id, topic, why, priority (0..1), modality, path, split, clip by clip. left: pairs that
    nobody has answered, these included."""

    campaign: str
    round: int
    wanted: Wanted
    table: pd.DataFrame
    left: int


def questions(workspace: Workspace, campaign: str, wanted: Wanted) -> Questions:
    """The pairs to ask. Raises T2TError for what cannot be asked, before the student is loaded."""
    best = Best.of(workspace, campaign)
    opened = reopen(workspace, campaign)
    splits, topics = wanted.checked().splits, wanted.of(opened.dataset)
    place = _Place(best, opened, splits, topics)
    if not len(place.ids) or len(place.answered) == len(place.ids) * len(topics):
        raise T2TError(
            f"There is no pair left to ask: people have answered every one of {len(topics)} topics for "
            f"{len(place.ids)} clips of {' and '.join(splits)}."
        )
    # Of what is measured by, none may be chosen by what a student says.
    share = 1.0 if wanted.measures else wanted.random
    random = draw(len(place.ids), len(topics), round(share * wanted.pairs), place.answered, wanted.seed)
    pools = [] if len(random) == wanted.pairs else [*place.by_student(wanted.pairs), place.by_teachers(wanted.pairs)]
    if not any(map(len, pools)):  # nobody has said anything of these topics
        random = draw(len(place.ids), len(topics), wanted.pairs, place.answered, wanted.seed)
    caps = Caps.of(wanted.pairs, len(topics), PER_CLIP)
    chosen = choose(random, pools, place.groups, wanted.pairs, caps)
    left = len(place.ids) * len(topics) - len(place.answered)
    return Questions(campaign, best.record.round, wanted, _table(place, chosen), left)


class _Place:
    """The clips that may be asked about, and what is known of them.

    ids: their names, file order. groups: int [N]. answered: keys (clip * topics + topic) of pairs that people answered,
    int64, sorted.
    """

    def __init__(self, best: Best, opened: Campaign, splits: Sequence[str], topics: tuple[str, ...]):
        self.best, self.opened, self.topics = best, opened, topics
        self.samples = opened.samples(*splits)
        self.ids = self.samples["sample_id"].combine_chunks()
        self.groups = groups_of(self.samples, self.ids)
        human = opened.dataset.human
        keys = self._keys(human["sample_id"], human["topic"])
        self.answered = np.unique(keys[keys >= 0])

    def _keys(self, samples: pa.ChunkedArray, topics: pa.ChunkedArray) -> np.ndarray:
        sample = positions(samples.combine_chunks(), self.ids).astype(np.int64)
        topic = positions(topics.combine_chunks(), strings(self.topics)).astype(np.int64)
        return np.where((sample < 0) | (topic < 0), -1, sample * len(self.topics) + topic)

    @cached_property
    def short(self) -> np.ndarray:
        """How short of positive answers each topic is, float [M], 0 (enough) to 1 (none), over the split `train`."""
        human = self.opened.dataset.human.to_pandas()
        train = set(self.opened.dataset.sample_ids("train"))
        positive = human["topic"][(human["confidence"] >= POSITIVE) & human["sample_id"].isin(train)].value_counts()
        return np.clip(1 - positive.reindex(self.topics, fill_value=0).to_numpy() / ENOUGH_POSITIVES, 0, 1)

    def by_student(self, pairs: int) -> list[Pool]:
        """The pairs that the champion is uncertain of, and the likeliest ones of topics that are short of positives."""
        scorer, topics, where = open_scorer(self.best), len(self.topics), self.opened.positions(self.ids)
        score = self._scored_by(scorer)
        levels = self.best.thresholds().of(self.topics)
        rare = np.flatnonzero(self.short > 0)
        each = max(PER_CLIP, -(-pairs // max(len(rare), 1)))
        uncertain, likely = Pool.empty("uncertain"), Likeliest(each, len(rare))
        block = int(max(1, min(4096, CONFIDENCES // topics)))
        with progress("Looking for pairs", len(where), "samples") as advance:
            for start in range(0, len(where), block):
                here = where[start : start + block]
                confidence = score(here)
                first, last = np.searchsorted(self.answered, [start * topics, (start + len(here)) * topics])
                known = self.answered[first:last] - start * topics
                priority = np.where(confidence < 0, np.float32(-1), uncertainty(confidence, levels))
                priority.reshape(-1)[known], confidence.reshape(-1)[known] = -1, -1
                # Of what is no better than the last of a full pool none would stay.
                worst = uncertain.priority[-1] if len(uncertain) == DEPTH * pairs else -1
                uncertain = (uncertain + Pool.of("uncertain", priority, start, worst)).best(DEPTH * pairs)
                likely.add(confidence[:, rare], start)
                advance(len(here))
        return [uncertain, likely.pool(rare, self.short[rare])]

    def _scored_by(self, scorer: Scorer) -> Callable[[np.ndarray], np.ndarray]:
        """Of clips, by their positions, the champion's confidences, float32 [block, topics]; -1 for topics that it
        cannot be asked about."""
        student, embeddings = scorer.student, self.opened.embedded.embeddings
        known = known_topics(student, self.topics)
        columns = [self.topics.index(topic) for topic in known]
        texts = student.encode_topics(known, scorer.identity) if known else None
        if strange := [topic for topic in self.topics if topic not in set(known)]:
            what = "such pairs are drawn, or taken where teachers dispute"
            log.info("The champion knows nothing of %s: %s.", listed(strange, 3), what)

        def score(here: np.ndarray) -> np.ndarray:
            confidence = np.full((len(here), len(self.topics)), -1, np.float32)
            if known:
                confidence[:, columns] = student.score(embeddings, here, known, texts, scorer.identity)
            return confidence

        return score

    def by_teachers(self, pairs: int) -> Pool:
        """The pairs whose teachers lie furthest apart, on the common scale."""
        opened = self.opened
        head = opened.lake.resolve("main")
        outside, dataset = opened.lineup.outside(head), opened.dataset
        names = [HUMAN, *outside]
        # With the unseen topics' rows as far as the campaign learns from them, as its own scales are found.
        see_unseen = opened.config.teachers_see_unseen
        coded = training_rows(opened.lake, dataset, opened.readable, head, names, see_unseen)
        scales = round_scales(opened, coded)
        confidence = apply_scales(coded.confidence, coded.teacher, {names.index(name): s for name, s in scales.items()})
        sample = positions(strings(coded.sample_ids), self.ids)[coded.sample]
        topic = positions(strings(coded.topics), strings(self.topics))[coded.topic]
        kept = (coded.teacher > 0) & (sample >= 0) & (topic >= 0)
        found = disputed(sample[kept], topic[kept], confidence[kept], len(self.topics), self.answered)
        return found.best(DEPTH * pairs)


def _table(place: _Place, chosen: Sequence[Pool]) -> pd.DataFrame:
    sample = np.concatenate([pool.sample for pool in chosen])
    rows = place.samples.take(pa.array(sample))
    table = pd.DataFrame({name: rows[name].to_pylist() for name in ("sample_id", "modality", "path", "split")})
    table["topic"] = [place.topics[topic] for pool in chosen for topic in pool.topic]
    table["why"] = [pool.why for pool in chosen for _ in range(len(pool))]
    table["priority"] = np.concatenate([pool.priority for pool in chosen]).round(4)
    # Clip by clip, the clip with most to say first; within it a fixed order, which tells nothing.
    table["clip"] = table.groupby("sample_id")["priority"].transform("sum")
    order = table.sort_values(["clip", "sample_id", "topic"], ascending=[False, True, True], kind="stable")
    return order.drop(columns="clip").reset_index(drop=True)
