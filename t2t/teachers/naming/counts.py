"""How a model's texts were mapped, in numbers for people, and the table of proposed topics."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from t2t.core.errors import listed, one_line
from t2t.core.files import atomic_file
from t2t.teachers.naming.texts import Named, plain
from t2t.teachers.naming.topics import Way

# Samples that are named beside a proposed topic, and proposed topics that a sentence names.
EXAMPLES, TOLD = 3, 5
COLUMNS = ("text", "samples", "confidence", "examples")
WORDS: dict[Way, str] = {
    "name": "by a topic's name",
    "alias": "by an alias",
    "nearest": "by the nearest embedding",
    "nothing": "say that nothing fits",
    "cut": "are cut off",
    "unmapped": "stand for no topic",
}


@dataclass
class Proposed:
    """A text that stands for no topic. samples: how many have it; confidence: the sum of theirs."""

    spellings: Counter[str] = field(default_factory=Counter)
    samples: int = 0
    confidence: float = 0.0
    examples: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """As it is written most often."""
        return min(self.spellings, key=lambda text: (-self.spellings[text], text))


@dataclass
class Counts:
    """Of all answers about a dataset. A sample counts once, whatever was asked how often."""

    topics: set[str] = field(default_factory=set)
    samples: set[str] = field(default_factory=set)
    ways: Counter[Way] = field(default_factory=Counter)
    silent: int = 0
    proposed: dict[str, Proposed] = field(default_factory=dict)

    def add(self, sample_id: str, found: list[tuple[Named, str | None, Way]]) -> None:
        """One sample's texts, with what became of each."""
        if sample_id in self.samples:
            return
        self.samples.add(sample_id)
        self.silent += not found
        best: dict[str, tuple[str, float]] = {}
        for name, topic, way in found:
            self.ways[way] += 1
            if topic is not None:
                self.topics.add(topic)
            elif way in ("cut", "unmapped"):
                # (What is cut off may mean another thing, and is no other text's equal.)
                text = one_line(name.text, 200) + ("..." if way == "cut" else "")
                key = text if way == "cut" else plain(name.text)
                if key not in best or best[key][1] < name.confidence:
                    best[key] = (text, name.confidence)
        for key, (text, confidence) in best.items():
            entry = self.proposed.setdefault(key, Proposed())
            entry.spellings[text] += 1
            entry.samples += 1
            entry.confidence += confidence
            entry.examples = sorted([*entry.examples, sample_id])[:EXAMPLES]

    def _ordered(self) -> list[Proposed]:
        return sorted(self.proposed.values(), key=lambda entry: (-entry.samples, entry.text))

    def write(self, file: Path) -> None:
        """The table of proposed topics, the most frequent first; none where there is nothing to say."""
        if not self.proposed and not file.is_file():
            return
        with atomic_file(file) as temporary, open(temporary, "w", encoding="utf-8", newline="") as opened:
            rows = csv.writer(opened, lineterminator="\n")
            rows.writerow(COLUMNS)
            for entry in self._ordered():
                mean = entry.confidence / entry.samples
                rows.writerow([entry.text, entry.samples, f"{mean:.4f}", "; ".join(entry.examples)])

    def remarks(self, topics: int, file: Path) -> list[str]:
        """A sentence each. topics: of the dataset. file: the table of proposed topics."""
        if not self.samples:
            return []
        ways = ", ".join(f"{self.ways[way]:,} {words}" for way, words in WORDS.items() if self.ways[way])
        found = [f"{len(self.samples):,} answers name {self.ways.total():,} texts: {ways or 'none'}."]
        if self.silent:
            found.append(f"{self.silent:,} answers name nothing at all.")
        if self.ways["cut"]:
            found.append(f"{self.ways['cut']:,} texts end at max_new_tokens, and are not taken for a topic.")
        if len(self.topics) < topics:
            found.append(f"{topics - len(self.topics):,} of {topics:,} topics are never named.")
        if self.proposed:
            shown = [
                f"{entry.text!r} ({entry.samples:,} samples, such as {entry.examples[0]})" for entry in self._ordered()
            ]
            found.append(f"{len(shown):,} proposed topics, all in {file}: {listed(shown, TOLD)}.")
        return found
