"""A value and how sure it is, without the libraries that measure it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, SkipValidation


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval; NaN where there is nothing to measure."""

    value: float
    low: float = float("nan")
    high: float = float("nan")

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def _read(value: Any) -> Any:
    # JSON has no NaN.
    nan = float("nan")
    return Interval(**{k: nan if v is None else v for k, v in value.items()}) if isinstance(value, dict) else value


# An interval in a model that is written as JSON.
JsonInterval = Annotated[Interval, SkipValidation(), BeforeValidator(_read)]
