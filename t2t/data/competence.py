"""What each annotator is worth: how far the others agree, and what the models say of them. For people to look at."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from t2t.core.errors import listed
from t2t.data.annotations import counted, mean_answer
from t2t.data.consensus import Answers, dawid_skene, has_crowdkit, mace
from t2t.data.dataset import Dataset
from t2t.data.labels import POSITIVE

# Answers up to which MACE is asked without being told to: 100,000 take a second or two.
QUICKLY = 100_000
# 95 %.
Z = 1.96
# Answers from which somebody is looked at, and of the others' yes and no each.
LOOKED_AT, OF_EACH = 20, 5
# Youden's J below which, its interval's upper end, answers have hardly to do with the others'; below its negative they
# are the opposite.
UNLIKE = 0.25
# Share of one answer from which somebody is one-sided, if chance does not explain it (four standard errors).
ONE_SIDED, ERRORS = 0.95, 4.0
# How much more or less often a model may say yes than the mean does.
SHIFTED = 2.0


def answers_of(dataset: Dataset) -> Answers | None:
    """The answers that count; None where a dataset has fewer than two annotators."""
    if dataset.answers is None:
        return None
    answers = Answers.of(counted(dataset.answers, dataset.left_out))
    return answers if len(answers.annotators) > 1 else None


def competence(answers: Answers, with_mace: bool | None = None) -> pd.DataFrame:
    """`agreement`, and what the models say of each annotator.

    Args:
        with_mace: ask MACE, which needs crowd-kit; None: where that is installed and the answers are few.

    Returns: further columns sensitivity and specificity, by Dawid-Skene, of the answers given; competence, by MACE.
        They are shares, NaN of whom nobody can check, and where MACE was not asked.
    """
    errors = dawid_skene(answers).errors
    assert errors is not None
    given = errors[:, :2] / errors[:, :2].sum(axis=1, keepdims=True)
    asked = with_mace if with_mace is not None else has_crowdkit() and answers.answered.sum() <= QUICKLY
    worth = mace(answers).competence if asked else None
    table = agreement(answers).assign(
        sensitivity=given[:, 1, 1],
        specificity=given[:, 0, 0],
        competence=np.full(len(answers.annotators), np.nan) if worth is None else worth,
    )
    return table.sort_values("annotator", ignore_index=True)


def agreement(answers: Answers) -> pd.DataFrame:
    """One row an annotator, in the order of `answers.annotators`.

    Returns: the columns annotator, answers, unanswered, yes (share of the answers), shared (answers on pairs that
        others answered too), agreement with the majority of the others on these (a tie is half), low and high (95 %,
        Wilson), youden (of the others' yes the share called yes, less that of their no; NaN without both), its error.
        All are shares, 0 to 1, but youden, -1 to 1.
    """
    people, rows = len(answers.annotators), np.flatnonzero(answers.answered)
    who, pair, yes = answers.annotator[rows], answers.pair[rows], answers.yes[rows]

    def per(weight: np.ndarray | None = None) -> np.ndarray:
        return np.bincount(who, weight, people).astype(np.float64)

    said, said_yes = (np.bincount(pair, weight, answers.pairs) for weight in (None, yes))
    others = said[pair] - 1
    share = (said_yes[pair] - yes) / np.maximum(others, 1)
    majority = np.where(share == POSITIVE, 0.5, share > POSITIVE)
    shared = per(others > 0)
    agreed = _share(per((others > 0) * (1 - np.abs(majority - yes))), shared)
    low, high = _wilson(agreed, shared)
    youden, error = _youden(who, yes, np.where(others > 0, majority, 0.5), people)
    return pd.DataFrame(
        {
            "annotator": answers.annotators,
            "answers": per().astype(np.int64),
            "unanswered": np.bincount(answers.annotator, minlength=people) - per().astype(np.int64),
            "yes": _share(per(yes), per()),
            "shared": shared.astype(np.int64),
            "agreement": agreed,
            "low": low,
            "high": high,
            "youden": youden,
            "error": error,
        }
    )


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    shares: np.ndarray = np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
    return shares


def _wilson(share: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of shares of n."""
    n = np.maximum(n, 1)
    middle, half = share + Z**2 / (2 * n), Z * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return (middle - half) / (1 + Z**2 / n), (middle + half) / (1 + Z**2 / n)


def _youden(who: np.ndarray, yes: np.ndarray, majority: np.ndarray, people: int) -> tuple[np.ndarray, np.ndarray]:
    """Youden's J of each annotator against the majority of the others, where it is no tie, and its standard error."""
    parts = []
    for truth in (1.0, 0.0):
        of = who[majority == truth]
        n = np.bincount(of, minlength=people)
        rate = _share(np.bincount(of, yes[majority == truth], people), n)
        # With one of each added, so that few are never sure.
        smooth = (np.nan_to_num(rate) * n + 1) / (n + 2)
        parts.append((np.where(n >= OF_EACH, rate, np.nan), smooth * (1 - smooth) / np.maximum(n, 1)))
    (sensitivity, one), (false, other) = parts
    return sensitivity - false, np.sqrt(one + other)


def people_remarks(dataset: Dataset) -> list[str]:
    """What is odd about a dataset's annotators, a sentence each."""
    answers = answers_of(dataset)
    if answers is None or not answers.answered.any():
        return []
    table = agreement(answers).sort_values("annotator")
    table = table[table["answers"] >= LOOKED_AT]
    base = float(answers.yes[answers.answered].mean())
    return [*_unlike(table), *_always(table, base), *_one_sided(table, base), *_shifted(dataset)]


def _unlike(table: pd.DataFrame) -> Iterator[str]:
    for row in table[table["youden"] + Z * table["error"] < UNLIKE].to_dict("records"):
        how = "say the opposite of" if row["youden"] + Z * row["error"] < -UNLIKE else "have hardly to do with"
        yield (
            f"Annotator {row['annotator']}: the answers {how} those of the others: agreement with their majority is "
            f"{row['agreement']:.0%} on {row['shared']:,} shared pairs, where yes and no alike are what counts "
            f"(Youden's J {row['youden']:.2f}). Look at them, or take them out (t2t teachers retract)."
        )


def _always(table: pd.DataFrame, base: float) -> Iterator[str]:
    for row in table.to_dict("records"):
        if row["yes"] in (0.0, 1.0) and (base if row["yes"] else 1 - base) ** row["answers"] < 1e-3:
            yield (
                f"Annotator {row['annotator']} always answers {'yes' if row['yes'] else 'no'} ({row['answers']:,} "
                f"answers; all annotators together say yes to {base:.0%})."
            )


def _one_sided(table: pd.DataFrame, base: float) -> Iterator[str]:
    error = np.sqrt(base * (1 - base) / table["answers"])
    found = table[table["yes"].between(ONE_SIDED, 1, "left") & (table["yes"] - base > ERRORS * error)]
    for row in found.to_dict("records"):
        yield (
            f"Annotator {row['annotator']} is one-sided: {row['yes']:.0%} of {row['answers']:,} answers are yes; all "
            f"annotators together say yes to {base:.0%}."
        )
    silent = table[(table["yes"] >= ONE_SIDED) & (table["yes"] - base > ERRORS * error) & (table["unanswered"] == 0)]
    if len(silent):
        yield (
            f"What these were shown and did not answer is not known ({listed(silent['annotator'].tolist())}): a model "
            "of their errors goes wrong without it. Write a row with an empty relevance for each such pair, and "
            "`people: {unanswered: abstain}` in the dataset's file."
        )


def _shifted(dataset: Dataset) -> Iterator[str]:
    """A model that found something else in the answers than yes and no says one of them much more often."""
    how = dataset.config.people.combine
    if how == "mean" or dataset.answers is None:
        return
    mean = mean_answer(counted(dataset.answers, dataset.left_out))
    before, now = (float((part["confidence"].to_numpy() > POSITIVE).mean()) for part in (mean, dataset.human))
    if now > SHIFTED * before or before > SHIFTED * now:
        yield (
            f"{how} calls {now:.1%} of the pairs positive, where the mean of people's answers calls {before:.1%}: look "
            "at a few of them before you believe it, or take `combine: mean`."
        )
