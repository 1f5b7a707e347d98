"""Several people's answers on one pair become one: their mean, or the posterior of a model of how each one answers.

Dawid and Skene's model is computed here and not by crowd-kit, whose matrix of errors is square: an abstention is then a
truth as well, and on the votes of WRENCH's youtube accuracy is 79.6 where 83.2 is right (52.8 where abstentions are
dropped); besides a million answers take it 12 seconds and this 1.4. Without abstentions both agree, which a test holds.
MACE is crowd-kit's (17 seconds for a million).
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from t2t.core.errors import T2TError
from t2t.data.labels import POSITIVE

# What an answer can be to the models: no, yes, none.
VALUES = 3
# Rounds of expectation and maximisation at most, and the change of a probability below which they end.
ROUNDS, ENOUGH = 500, 1e-7
# Answers of the usual annotator that each one begins with, for each truth: few answers of one's own say little.
USUAL = 2.0
LEAST = 1e-10
SEED = 0
# Of what is kept on disk: another one where the same answers come to something else.
VERSIONS = {"dawid-skene": 1, "mace": 2}
NAMES = ("sample_id", "topic", "annotator")


@dataclass(frozen=True)
class Answers:
    """Who said what; one row an answer, in the file's order.

    sample_ids, topics: of each distinct pair, in the order in which their samples come. annotators: names.
    pair: int64 [rows], positions among the pairs. annotator: int64 [rows], positions in `annotators`.
    relevance: float64 [rows], 0..1, NaN where somebody was shown the pair and did not answer.
    """

    sample_ids: pa.Array
    topics: pa.Array
    annotators: tuple[str, ...]
    pair: np.ndarray
    annotator: np.ndarray
    relevance: np.ndarray

    @classmethod
    def of(cls, table: pa.Table) -> Answers:
        """Args: table: columns sample_id, topic, annotator, relevance (null where unanswered)."""
        sample, topic, who = (table[name].combine_chunks().dictionary_encode() for name in NAMES)
        sample_code, topic_code = (part.indices.to_numpy().astype(np.int64) for part in (sample, topic))
        keys, pair = np.unique(sample_code * max(len(topic.dictionary), 1) + topic_code, return_inverse=True)
        at_sample, at_topic = np.divmod(keys, max(len(topic.dictionary), 1))
        return cls(
            sample.dictionary.take(pa.array(at_sample)),
            topic.dictionary.take(pa.array(at_topic)),
            tuple(who.dictionary.to_pylist()),
            pair.astype(np.int64),
            who.indices.to_numpy().astype(np.int64),
            table["relevance"].to_numpy().astype(np.float64),
        )

    @property
    def pairs(self) -> int:
        return len(self.sample_ids)

    @cached_property
    def answered(self) -> np.ndarray:
        """Whether a row has an answer, bool [rows]."""
        return ~np.isnan(self.relevance)

    @cached_property
    def yes(self) -> np.ndarray:
        """Whether a row says yes (0.5 or more), bool [rows]; never where it has no answer."""
        return self.relevance >= POSITIVE


@dataclass(frozen=True)
class Consensus:
    """What people say together, and what they are worth.

    yes: float64 [pairs], the probability that the truth is yes; NaN where nobody said anything. competence: float64
    [annotators]: for MACE, how often somebody answers because they know; None for Dawid-Skene. habits: float64
    [annotators, 2], how often somebody who does not know says no and yes; None for Dawid-Skene. errors: float64
    [annotators, 3, 2], how often an annotator says no, yes and nothing where the truth is no and yes; None for MACE.
    All are NaN for whom nobody can check. share: of checked pairs, those whose truth is yes; NaN where there are none.
    """

    yes: np.ndarray
    competence: np.ndarray | None = None
    errors: np.ndarray | None = None
    habits: np.ndarray | None = None
    share: float = float("nan")


def posterior(answers: Answers, how: str) -> pa.Table:
    """Columns sample_id, topic, confidence (float32): the probability of yes by `dawid-skene` or `mace`, for the pairs
    that anybody answered.

    Answers are yes from 0.5 on: of graded ones the models know no more.
    """
    found = dawid_skene(answers) if how == "dawid-skene" else mace(answers)
    said = np.zeros(answers.pairs, bool)
    said[answers.pair[answers.answered]] = True
    kept = np.flatnonzero(said)
    return pa.table(
        {
            "sample_id": answers.sample_ids.take(pa.array(kept)),
            "topic": answers.topics.take(pa.array(kept)),
            "confidence": pa.array(found.yes[kept].astype(np.float32)),
        }
    )


def dawid_skene(answers: Answers, usual: float = USUAL) -> Consensus:
    """Dawid and Skene's model (1979) of yes and no, with no answer as a third thing that people can say.

    The errors of an annotator are of all topics together, learned where several were asked the same, and begin with
    those of all annotators (`usual` answers of each truth), so that somebody with three answers is not believed, or
    disbelieved, for them. It begins with the share of yes among the answers on a pair, and has no chance in it. Who was
    never asked what somebody else was is taken at their word, since nobody can say how far to believe them.
    """
    yes, (rows, several) = _mean(answers, answers.relevance), _checked(answers)
    errors = np.full((len(answers.annotators), VALUES, 2), np.nan)
    if not len(rows):
        return Consensus(yes, errors=errors)
    people, who = np.unique(answers.annotator[rows], return_inverse=True)
    pairs, pair = np.unique(answers.pair[rows], return_inverse=True)
    cell = who * VALUES + np.where(answers.answered, answers.yes.astype(np.int64), 2)[rows]
    truth = _mean(answers, answers.yes)[pairs]
    truth[np.isnan(truth)] = np.nanmean(truth)
    for _ in range(ROUNDS):
        before = truth
        found = _errors(cell[several], truth[pair[several]], len(people), usual)
        ratio = np.log(found[:, :, 1]) - np.log(found[:, :, 0])
        share = np.clip(truth.mean(), LEAST, 1 - LEAST)
        evidence = np.bincount(pair, ratio.reshape(-1)[cell], len(pairs)) + np.log(share) - np.log1p(-share)
        truth = 1 / (1 + np.exp(-np.clip(evidence, -500, 500)))
        if np.abs(truth - before).max() < ENOUGH:
            break
    yes[pairs], errors[people] = truth, _errors(cell[several], truth[pair[several]], len(people), usual)
    return Consensus(yes, errors=errors, share=float(truth.mean()))


def _mean(answers: Answers, values: np.ndarray) -> np.ndarray:
    """The mean of the answers on each pair, float64 [pairs], NaN where there are none. Args: values: [rows]."""
    pair = answers.pair[answers.answered]
    said, total = (np.bincount(pair, of, answers.pairs) for of in (None, values[answers.answered]))
    means: np.ndarray = np.where(said > 0, total / np.maximum(said, 1), np.nan)
    return means


def _checked(answers: Answers, of: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The rows of annotators who share a pair with anybody, int64, and of each whether it is of such a pair, bool.

    Args:
        of: bool [rows], the rows that count; all where None.
    """
    counts = np.ones(len(answers.pair), bool) if of is None else of
    several = (np.bincount(answers.pair[counts], minlength=answers.pairs)[answers.pair] > 1) & counts
    known = np.bincount(answers.annotator[several], minlength=len(answers.annotators)) > 0
    rows = np.flatnonzero(known[answers.annotator] & counts)
    return rows, several[rows]


def _errors(cell: np.ndarray, yes: np.ndarray, people: int, usual: float) -> np.ndarray:
    """How often each annotator says each value where the truth is no and yes, float64 [annotators, 3, 2].

    Args:
        cell: int64 [rows], annotator x 3 + value. yes: float64 [rows], the truth of each row's pair.
    """
    counts = [np.bincount(cell, weight, people * VALUES).reshape(people, VALUES) for weight in (1 - yes, yes)]
    table = np.stack(counts, axis=2)
    if usual:
        everybody = table.sum(axis=0, keepdims=True)
        table = table + usual * everybody / np.maximum(everybody.sum(axis=1, keepdims=True), LEAST)
    table = np.maximum(table, LEAST)
    shares: np.ndarray = table / table.sum(axis=1, keepdims=True)
    return shares


def mace(answers: Answers) -> Consensus:
    """MACE (Hovy and others, 2013) by crowd-kit: an annotator knows the truth, or answers by a habit of theirs.

    No answer is left out: the habit takes care of one-sided annotators, and on WRENCH's youtube an abstention that is
    an answer costs accuracy (78.9 for 81.7). One start is enough: those of crowd-kit draw the same numbers. Who shares
    no pair with anybody is taken at their word.

    Raises T2TError where crowd-kit is not installed.
    """
    need_crowdkit()
    from crowdkit.aggregation import MACE

    yes, (rows, _) = _mean(answers, answers.relevance), _checked(answers, answers.answered)
    competence = np.full(len(answers.annotators), np.nan)
    habits = np.full((len(answers.annotators), 2), np.nan)
    if not len(rows):
        return Consensus(yes, competence=competence, habits=habits)
    # crowd-kit numbers workers and labels as they appear, and counts them in the order of their names: both have to be
    # one order, or the habits of one are another's (measured: somebody who knows in 0 of 100 came to 17).
    workers, worker = _as_they_appear(answers.annotator[rows])
    labels, label = _as_they_appear(answers.yes[rows].astype(np.int64))
    frame = pa.table({"task": answers.pair[rows], "worker": worker, "label": label}).to_pandas()
    model = MACE(n_restarts=1, random_state=SEED)
    shares = model.fit_predict_proba(frame).reindex(columns=range(len(labels)))
    chance = dict(zip(labels.tolist(), (shares[at] for at in range(len(labels))), strict=True))
    one, no = (chance.get(value, 0.0 * shares[0]) for value in (1, 0))
    yes[shares.index.to_numpy()] = np.clip(one / (one + no), 0, 1)
    competence[workers] = model.spamming_[:, 1]
    habits[workers] = 0
    habits[np.ix_(workers, labels)] = model.thetas_
    return Consensus(yes, competence=competence, habits=habits, share=0.5)


def _as_they_appear(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values in the order in which they come first, and each one's position among them."""
    distinct, first, index = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return distinct[order], rank[index]


def has_crowdkit() -> bool:
    return importlib.util.find_spec("crowdkit") is not None


def need_crowdkit() -> None:
    """Raises T2TError where crowd-kit is not installed; imports nothing."""
    if not has_crowdkit():
        raise T2TError(
            "`people: {combine: mace}` needs crowd-kit, which is not installed: pip install 'teacher2task[people]', or "
            "take `combine: dawid-skene`, which needs nothing."
        )
