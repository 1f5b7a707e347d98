"""What a teacher's answers were like, in numbers for people; and whether its model answers the question at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from t2t.core.errors import T2TError, listed
from t2t.teachers.api.reading import Reading
from t2t.teachers.api.sending import Counts

# The probability of yes and no together, at the middle question: below it the model says something else.
REFUSE, WARN = 0.2, 0.5
# Questions from which on that is judged; and the share of censored answers that is much.
ENOUGH, CENSORED = 10, 0.05
# What is said of answers without a confidence.
FAULTS = {
    "refused": "the model refused to answer {} questions, which have no row",
    "unreadable": "{} answers could not be read, or only in part",
    "cut": "{} answers ended at their longest length (max_tokens) before they could be read",
}


@dataclass
class Tally:
    """Of all answers that a teacher read since it was built."""

    counts: Counts = field(default_factory=Counts)
    masses: list[float] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    models: set[str] = field(default_factory=set)
    censored: int = 0
    unreadable_files: int = 0
    without_text: int = 0
    cut_texts: int = 0

    def note(self, reading: Reading) -> None:
        if reading.fault:
            self.faults[reading.fault] = self.faults.get(reading.fault, 0) + 1
        if reading.mass is not None:
            self.masses.append(reading.mass)
        if reading.model:
            self.models.add(reading.model)
        self.censored += reading.censored

    def judge(self, teacher: str) -> None:
        """Raises T2TError where the model says neither yes nor no, mostly."""
        if len(self.masses) >= ENOUGH and (middle := median(self.masses)) < REFUSE:
            raise T2TError(
                f"Teacher {teacher!r}: its model does not answer the question: yes and no together have a probability "
                f"of {middle:.2g} at the first token, in the middle of {len(self.masses):,} answers. Look at `prompt` "
                "and `answers`, or turn the model's thinking off (extra_body)."
            )

    def remarks(self) -> list[str]:
        """A sentence each."""
        counts, found = self.counts, []
        if counts.sent or counts.kept:
            found.append(f"{counts.sent:,} requests sent, {counts.kept:,} answers were kept from before.")
        if counts.batches:
            found.append(f"{counts.batches:,} batch files were sent.")
        if counts.missing:
            found.append(
                f"{counts.missing:,} requests have no line in their batch's files: they are booked at their highest "
                "price, and were asked again."
            )
        if counts.again:
            found.append(f"{counts.again:,} requests failed and were sent again.")
        if counts.lost:
            found.append(
                f"{counts.lost:,} requests failed after they were sent: they are booked at their highest price."
            )
        if counts.guessed:
            found.append(
                f"{counts.guessed:,} answers came without a count of tokens that can be true: they are booked at their "
                "highest price."
            )
        found += [f"{FAULTS[name].format(f'{number:,}').capitalize()}." for name, number in sorted(self.faults.items())]
        if self.masses and (middle := median(self.masses)) < WARN:
            found.append(f"Yes and no together have a probability of only {middle:.2f}, in the middle of all answers.")
        if silent := sum(mass == 0 for mass in self.masses):
            found.append(f"{silent:,} answers list neither a yes nor a no, and have no row.")
        if self.censored:
            share = self.censored / len(self.masses)
            much = ": that is much, look at `answers` and `top_logprobs`" if share > CENSORED else ""
            found.append(
                f"{self.censored:,} of {len(self.masses):,} answers ({share:.1%}) do not list both yes and no: they "
                f"have the middle of what is possible{much}."
            )
        if len(self.models) > 1:
            found.append(f"The server answered as {len(self.models)} models: {listed(sorted(self.models), 5)}.")
        if self.unreadable_files:
            found.append(f"{self.unreadable_files:,} files could not be decoded, and have no row.")
        if self.without_text:
            found.append(f"{self.without_text:,} samples have no text in these columns, and no row.")
        if self.cut_texts:
            found.append(f"{self.cut_texts:,} texts were cut at `column_chars`.")
        return found
