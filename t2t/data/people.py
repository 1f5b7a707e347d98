"""People who annotate: what a dataset's file says of them, and the identity that each one has beside `human`.

An annotator's name is data: it may be in any script, `other`, a path, or longer than a file's name may be. The identity
made of it is a name that people can type and that no two annotators share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from t2t.core.config import Config
from t2t.core.errors import DataError, one_line
from t2t.data.columns import first_row
from t2t.data.labels import ANNOTATOR
from t2t.data.tables import plain_text, refuse_bad_names

# Annotators with few rows share this one.
OTHER = f"{ANNOTATOR}other"
# Bytes (UTF-8) of a name that is an identity as it stands: encoded, a folder of the lake, it stays below 255.
LONGEST = 64
# Bytes of a longer one that are kept, before `~` and the beginning of its hash.
KEPT = 48


class PeopleConfig(Config):
    """Who annotates: whether each one is an identity, and how their answers become `human`."""

    identities: bool = Field(
        False, description="Whether each annotator is an identity (human/NAME) that students learn beside `human`."
    )
    combine: Literal["mean", "dawid-skene", "mace"] = Field(
        "mean",
        description="How the answers of several people on one pair become `human`: their mean; or the probability of "
        "yes after Dawid and Skene, or by MACE (extra `people`), which learn how far each annotator can be believed.",
    )
    least: int = Field(
        50,
        ge=1,
        le=1_000_000,
        description="Rows to train on that an annotator needs for an identity; those with fewer share human/other.",
    )
    unanswered: Literal["refuse", "abstain"] = Field(
        "refuse",
        description="What an empty relevance is: a mistake; or that the annotator was shown the pair and did not "
        "answer, which Dawid-Skene learns from and the others leave out.",
    )


def identity_of(annotator: str) -> str:
    """The identity that is an annotator's own, whatever rows there are: `human/` and the name.

    A name that is too long, or that means somebody else (`other`), is cut and ends in `~` and eight digits of its hash.
    """
    size = len(annotator.encode())
    if size <= LONGEST and f"{ANNOTATOR}{annotator}" != OTHER:
        return f"{ANNOTATOR}{annotator}"
    start = annotator.encode()[:KEPT].decode(errors="ignore").rstrip()
    return f"{ANNOTATOR}{start}~{hashlib.sha256(annotator.encode()).hexdigest()[:8]}"


def identities(rows: Mapping[str, int], least: int) -> dict[str, str | None]:
    """Of each annotator the identity that their rows are trained under: their own, or `human/other`; None without rows.

    Args:
        rows: those of each annotator that may be trained on. least: rows from which somebody has an identity.
    """
    return {name: None if not count else identity_of(name) if count >= least else OTHER for name, count in rows.items()}


def refuse_alike(path: Path, table: pa.Table) -> None:
    """Raises DataError for an annotator's name that nobody could tell from another one, or with a control character or
    blanks at its ends: each of the two would get a part of the rows."""
    refuse_bad_names(path, table, "annotator")
    seen: dict[str, str] = {}
    owners: dict[str, str] = {}
    for name in pc.unique(table["annotator"]).to_pylist():
        plain, own = plain_text(name), identity_of(name)
        if (other := seen.setdefault(plain, name)) != name:
            fault = f"differs from {other!r} in spaces or Unicode form only; keep one of them"
        elif (other := owners.setdefault(own, name)) != name:
            fault = f"would be {own!r}, which is {other!r}; rename one of them"
        else:
            continue
        row = first_row(path, int(pc.index(table["annotator"], name).as_py()))
        raise DataError(path, f"annotator {one_line(repr(name), 100)} {fault}.", row, "annotator")


def left_out(annotators: Iterable[str], grouped: Mapping[str, str | None], marked: Collection[str]) -> list[str]:
    """The annotators whose answers do not count, since they, or the identity that they share, were retracted.

    Args:
        grouped: as `identities` gives it. marked: the retracted identities.
    """
    return [name for name in annotators if identity_of(name) in marked or grouped.get(name) in marked]
