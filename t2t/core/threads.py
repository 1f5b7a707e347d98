"""Threads for the length of a `with`."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any


@contextmanager
def threads_of(number: int, *settings: Any) -> Iterator[ThreadPoolExecutor]:
    """So many threads. After an error, or an interrupt, what they have begun is waited for, and no more is done.

    Args:
        settings: further arguments of a ThreadPoolExecutor.
    """
    with ThreadPoolExecutor(number, *settings) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
