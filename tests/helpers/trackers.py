"""A tracker that only listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from t2t.integrations.mlflow.observer import MLflowObserver


class Told:
    """A tracker that keeps what it was told, in order.

    Args:
        finished: rounds that it has as finished from before.
    """

    def __init__(self, *finished: int) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._finished = set(finished)

    def __getattr__(self, name: str) -> Callable[..., str]:
        def tell(*arguments: Any) -> str:
            self.calls.append((name, *arguments))
            return "run"

        return tell

    def finished(self, k: int) -> bool:
        return k in self._finished or k in self.tags

    def whole(self, k: int) -> bool:
        return self.finished(k)

    def of(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of all calls of that name."""
        return [call[1:] for call in self.calls if call[0] == name]

    @property
    def tags(self) -> dict[int, dict[str, str]]:
        """The tags that each round was finished with."""
        return {call[0]: call[2] for call in self.of("finish_round")}

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables of the round that was told last."""
        tables: dict[str, pd.DataFrame] = self.of("log_round")[-1][3]
        return tables


def told(*finished: int) -> tuple[Told, MLflowObserver]:
    """Such a tracker, and the observer that tells it."""
    tracker = Told(*finished)
    return tracker, MLflowObserver(tracker)
