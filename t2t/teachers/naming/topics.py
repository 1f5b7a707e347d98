"""Which topic a text means: by its name, by a table of aliases, or by the nearest embedding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa

from t2t.core.errors import T2TError, listed
from t2t.data.columns import refuse
from t2t.data.source import SourceFile
from t2t.data.tables import read_table, refuse_unknown
from t2t.teachers.naming.texts import Named, plain

# How a text was mapped, in the order in which it is tried. `nothing`: it says that nothing fits. `cut`: its end is
# missing, so that it may mean another thing. `unmapped`: no topic is meant.
Way = Literal["name", "alias", "nearest", "nothing", "cut", "unmapped"]
# Texts to unit vectors, float64 [N, dim].
Embed = Callable[[Sequence[str]], np.ndarray]


class Topics:
    """The topics of a dataset, to be recognised in texts.

    Args:
        teacher: its id, for messages. aliases: a CSV or Parquet file with the columns text and topic.
        nothing: how a model says that no topic fits. embed, threshold: for the nearest topic by the cosine of its
            embedding with the text's, where that is at least `threshold`; None for no such search.

    Raises T2TError where two topics are the same as texts and no alias says which one is meant; DataError for an alias
    of an unknown topic, one that stands twice, or one that is another topic's own name.
    """

    def __init__(
        self,
        topics: Sequence[str],
        teacher: str,
        aliases: SourceFile | None = None,
        nothing: Sequence[str] = (),
        embed: Embed | None = None,
        threshold: float = 1.0,
    ):
        self.topics, self.threshold, self._embed = tuple(topics), threshold, embed
        self.nothing = {plain(text) for text in nothing}
        groups: dict[str, list[str]] = {}
        for topic in topics:
            groups.setdefault(plain(topic), []).append(topic)
        self.by_name = {text: group[0] for text, group in groups.items() if len(group) == 1}
        self.by_alias = self._aliases(aliases, topics) if aliases is not None else {}
        for text, group in groups.items():
            if len(group) > 1 and text not in self.by_alias:
                raise T2TError(
                    f"Teacher {teacher!r}: a model's text cannot tell the topics "
                    f"{listed([repr(topic) for topic in group], 5)} apart: they differ in capitals, punctuation or "
                    f"articles only. Say in `aliases` which one {text!r} means."
                )
        self._nearest: dict[str, str | None] = {}
        self._embedded: np.ndarray | None = None

    def _aliases(self, source: SourceFile, topics: Sequence[str]) -> Mapping[str, str]:
        table = read_table(source, {"text": pa.string(), "topic": pa.string()})
        refuse_unknown(source.path, table, "topic", topics, "topic")
        texts, meant = table["text"].to_pylist(), table["topic"].to_pylist()
        keys = [plain(text) for text in texts]
        first = {key: row for row, key in reversed(list(enumerate(keys)))}
        refuse(
            source.path,
            "text",
            np.array([first[key] != row for row, key in enumerate(keys)], bool),
            lambda row: (
                f"{texts[row]!r} stands twice (capitals, punctuation and articles do not count); each text may stand "
                "once."
            ),
        )
        refuse(
            source.path,
            "text",
            np.array([self.by_name.get(key, topic) != topic for key, topic in zip(keys, meant, strict=True)], bool),
            lambda row: (
                f"{texts[row]!r} is the name of the topic {self.by_name[keys[row]]!r}, and cannot stand for "
                f"{meant[row]!r}."
            ),
        )
        return dict(zip(keys, meant, strict=True))

    def of(self, name: Named) -> tuple[str | None, Way]:
        """The topic that a text means, or None; and how that was found."""
        if name.cut:
            return None, "cut"
        text = plain(name.text)
        if text in self.by_name:
            return self.by_name[text], "name"
        if text in self.by_alias:
            return self.by_alias[text], "alias"
        if text in self.nothing:
            return None, "nothing"
        if self._embed is not None and (topic := self._near(name.text, self._embed)) is not None:
            return topic, "nearest"
        return None, "unmapped"

    def _near(self, text: str, embed: Embed) -> str | None:
        """The nearest topic. Each text is embedded by itself, so that its numbers do not depend on others."""
        if text not in self._nearest:
            if self._embedded is None:
                self._embedded = np.concatenate([embed([topic]) for topic in self.topics])
            cosine = self._embedded @ embed([text])[0]
            best = int(cosine.argmax())
            self._nearest[text] = self.topics[best] if cosine[best] >= self.threshold else None
        return self._nearest[text]
