"""Groups and splits for samples whose file says nothing of either: by a stable hash, never by chance.

A group's lot depends on its name alone, so that a later import of more samples moves none of the earlier ones.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from t2t.core.errors import DataError, T2TError, nearest
from t2t.data.dataset import SPLITS
from t2t.data.formats.model import Sample

BY_HASH = ("train", "validation", "test")


@dataclass(frozen=True)
class Rule:
    """Where samples go whose file does not say: all into one `split`, or by the hash of their group in these shares of
    train, validation and test. group_by: what a group is, the file itself or the folder it lies in."""

    split: str = ""
    shares: tuple[float, ...] = (0.7, 0.1, 0.2)
    group_by: Literal["file", "folder"] = "file"

    @classmethod
    def of(cls, split: str, by_hash: str, group_by: str) -> Rule:
        """As the command line has it. Raises T2TError for what is no split or no shares."""
        if split and split not in SPLITS:
            raise T2TError(f"--split {split}: unknown.{nearest(split, SPLITS)}")
        if group_by not in ("file", "folder"):
            raise T2TError(f"--group-by {group_by}: unknown.{nearest(group_by, ('file', 'folder'))}")
        try:
            shares = tuple(float(part) for part in by_hash.split(","))
        except ValueError:
            shares = ()
        if len(shares) != len(BY_HASH) or not all(0 <= share <= 1 for share in shares) or abs(sum(shares) - 1) > 1e-6:
            raise T2TError(
                f"--split-by-hash {by_hash}: three shares of train, validation and test that add up to 1, such as "
                "0.7,0.1,0.2."
            )
        return cls(split, shares, "folder" if group_by == "folder" else "file")

    def drawn(self, group: str) -> str:
        """The split of a group by its hash."""
        lot = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big") / 2**64
        for split, end in zip(BY_HASH, (self.shares[0], self.shares[0] + self.shares[1]), strict=False):
            if lot < end:
                return split
        return next(split for split, share in reversed(list(zip(BY_HASH, self.shares, strict=True))) if share)


def place(
    source: Path,
    samples: Sequence[Sample],
    paths: Mapping[str, str],
    copies: Mapping[str, str],
    answered: Collection[str],
    before: Mapping[str, str],
    rule: Rule,
) -> list[str]:
    """Gives each sample a group and a split, where it has none.

    Args:
        source: the file that they come from, for errors. paths: as the table will have them, by sample.
        copies: the group of samples whose files are the same as others, byte for byte. answered: samples that people
        answered; a group without any is unlabeled. before: the split of each group that the dataset has already.

    Returns: sentences on what was decided.

    Raises DataError for a group whose samples are to be in two splits.
    """
    ungrouped = [sample for sample in samples if not sample.group]
    for sample in ungrouped:
        if rule.group_by == "folder":
            sample.group = PurePosixPath(paths[sample.id]).parent.as_posix()
        else:
            sample.group = copies.get(sample.id, sample.id)
    by_group: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_group[sample.group].append(sample)
    drawn = 0
    for group, members in by_group.items():
        said = {sample.split for sample in members if sample.split} | ({before[group]} if group in before else set())
        if len(said) > 1:
            raise DataError(
                f"{source}, {members[0].record}",
                f"group {group!r} is to be in two splits, {' and '.join(sorted(said))}; a group lies in one only. Mend "
                "that in the file.",
            )
        split = next(iter(said), "")
        if not split:
            drawn += len(members)
            split = rule.split or (
                rule.drawn(group) if any(sample.id in answered for sample in members) else "unlabeled"
            )
        for sample in members:
            sample.split = split
    return _told(rule, len(ungrouped), drawn)


def _told(rule: Rule, ungrouped: int, drawn: int) -> list[str]:
    told = []
    if ungrouped:
        what = "the folder it lies in" if rule.group_by == "folder" else "its own file (copies share one)"
        told.append(f"{ungrouped:,} samples have no group in there: each one's group is {what} (--group-by).")
    if drawn and rule.split:
        told.append(f"{drawn:,} samples have no split in there: all are {rule.split} (--split).")
    elif drawn:
        shares = ",".join(f"{share:g}" for share in rule.shares)
        told.append(
            f"{drawn:,} samples have no split in there: by a hash of their group, {shares} of them are train, "
            "validation, test, and groups that no person answered unlabeled (--split-by-hash, --split)."
        )
    return told
