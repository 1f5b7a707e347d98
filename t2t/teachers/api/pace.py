"""How fast requests leave: so many at once as the server bears, so many a minute as the entry allows."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# Seconds: the first wait of a request that failed, and the longest one that is drawn.
FIRST, LONGEST = 1.0, 60.0


class Pace:
    """Slots that grow by one for as many answers as there are slots, and are halved when the server says `too many`;
    and starts that lie apart so that no minute has more requests or tokens than allowed.

    most: requests at once, at most. requests, tokens: a minute; None: no limit.
    """

    def __init__(self, most: int, requests: float | None = None, tokens: float | None = None):
        self.most, self.requests, self.tokens = most, requests, tokens
        self.slots = float(min(most, 4))
        self._busy = 0
        self._next = self._halved = 0.0
        self._changed = threading.Condition()

    def enter(self, tokens: int, stopped: Callable[[], bool]) -> bool:
        """Waits for a slot and for its time; false where it was `stopped` meanwhile."""
        with self._changed:
            while not stopped():
                wait = self._next - time.monotonic()
                if self._busy < max(1, int(self.slots)) and wait <= 0:
                    self._busy += 1
                    apart = [60 / self.requests] if self.requests else []
                    apart += [tokens * 60 / self.tokens] if self.tokens else []
                    self._next = max(self._next, time.monotonic() - 1) + max(apart, default=0)
                    return True
                self._changed.wait(min(max(wait, 0.01), 0.5))
        return False

    def leave(self, answered: bool) -> None:
        with self._changed:
            self._busy -= 1
            if answered:
                self.slots = min(self.most, self.slots + 1 / self.slots)
            self._changed.notify_all()

    def too_many(self, seconds: float) -> None:
        """Halves the slots, once for all requests of one moment, and sends nothing for some seconds."""
        with self._changed:
            now = time.monotonic()
            if now - self._halved > 1:
                self.slots, self._halved = max(1.0, self.slots / 2), now
            self._next = max(self._next, now + seconds)


def backoff(attempt: int) -> float:
    """Seconds until the next try, drawn from 0 to a bound that doubles ("full jitter"): many clients never come back
    together."""
    return random.uniform(0, min(LONGEST, FIRST * 2**attempt))


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """The seconds that a server asks to wait: `retry-after-ms`, `Retry-After` (seconds or a date), or the time until
    its limits are reset where one is used up; None where it says nothing that can be read."""
    with suppress(KeyError, ValueError):
        return max(0.0, float(headers["retry-after-ms"]) / 1000)
    written = headers.get("retry-after", "")
    with suppress(ValueError):
        return max(0.0, float(written))
    with suppress(ValueError, TypeError):
        date = parsedate_to_datetime(written)
        return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    waits = [
        _duration(headers.get(f"x-ratelimit-reset-{what}", ""))
        for what in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{what}") == "0"
    ]
    return max((wait for wait in waits if wait is not None), default=None)


def _duration(written: str) -> float | None:
    """`6m0s`, `1.5s`, `20ms`, `1h2m3s` as seconds."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|h|m|s)", written)
    if not parts or "".join(number + unit for number, unit in parts) != written:
        return None
    return sum(float(number) * {"h": 3600, "m": 60, "s": 1, "ms": 0.001}[unit] for number, unit in parts)
