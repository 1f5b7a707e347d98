"""What requests cost: whole numbers of a trillionth of the currency, so that no rounding passes a budget."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from pydantic import Field

from t2t.core.config import Config
from t2t.core.errors import T2TError

# `t2t run --budget`: what all teachers of a work folder may have spent together, instead of their entries' budgets.
VARIABLE = "T2T_BUDGET"
# Units of one of the currency. A price of a million tokens, times MILLION, is one token's in units.
UNITS, MILLION = 10**12, 10**6
# Above it sums would not fit into 64 bits.
MOST = 1_000_000.0


class Price(Config):
    """What a million tokens cost, in the currency that the budget is in."""

    input: float = Field(ge=0, le=10_000, description="Of a million tokens of the question.")
    output: float = Field(ge=0, le=10_000, description="Of a million tokens of the answer.")

    def of(self, tokens: Tokens) -> int:
        """In units, rounded up a token."""
        return tokens.input * _units(self.input) + tokens.output * _units(self.output)


def _units(price: float) -> int:
    # (A product of floats may lie a hair above the whole number that is meant.)
    return math.ceil(round(price * MILLION, 3))


@dataclass(frozen=True)
class Tokens:
    """Of one request: the question's and the answer's."""

    input: int
    output: int


@dataclass(frozen=True)
class Cap:
    """What may be spent, in units: by one teacher (`whose`), or by all of the work folder together (None)."""

    most: int
    whose: str | None


def cap_of(teacher: str, budget: float | None) -> Cap | None:
    """The cap that holds for a teacher: T2T_BUDGET over all, else its entry's `budget`; None where there is neither.

    Raises T2TError where the variable is no amount.
    """
    written = os.environ.get(VARIABLE, "")
    if written:
        try:
            amount = float(written)
        except ValueError:
            amount = math.nan
        if not 0 <= amount <= MOST:
            raise T2TError(f"{VARIABLE}={written!r} is no amount of money from 0 to {MOST:,.0f}.")
        return Cap(int(amount * UNITS), None)
    return None if budget is None else Cap(int(budget * UNITS), teacher)


def written(units: int) -> str:
    """An amount for people; small ones keep two digits that say something."""
    amount = units / UNITS
    return f"{amount:,.2f}" if amount >= 1 or not units else f"{amount:.2g}" if amount >= 1e-4 else f"{amount:.1e}"
