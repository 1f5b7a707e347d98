"""A Ray cluster: the one that RAY_ADDRESS names, or a local one for the length of a step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from t2t.core.errors import T2TError, chain, one_line

# What travels through a local cluster's object store is small; more than this goes to disk.
STORE_BYTES = 1 << 30


@contextmanager
def cluster() -> Iterator[Any]:
    """Yields the module `ray`, connected. What the caller has connected already stays so.

    Raises T2TError when ray is not installed, or no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise T2TError(
            "`engine: ray` needs the package ray, which is not installed. Install it: pip install 'ray[data,train]'. "
            "Or set engine: local."
        ) from None
    if ray.is_initialized():
        yield ray
        return
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    address = os.environ.get("RAY_ADDRESS")
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=STORE_BYTES,
                _node_ip_address="127.0.0.1",
                **quiet,
            )
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise T2TError(
            f"RAY_ADDRESS: no Ray cluster answers at {address}: {one_line(error, 200)}. Start it, correct the "
            "variable, or unset it."
            if address
            else f"A local Ray cluster does not start: {one_line(error, 200)}. Or set engine: local."
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def explained(error: BaseException, what: str) -> T2TError:
    """Words for what went wrong on a cluster: the engine's own where they are at its bottom."""
    for link in chain(error):
        for cause in (link, getattr(link, "cause", None)):
            if isinstance(cause, T2TError):
                return cause
    # Errors come with the remote traceback in their text, the error itself in its last line.
    lines = [line for line in str(error).splitlines() if line.strip()]
    return T2TError(f"{what} failed on the Ray cluster: {one_line(lines[-1] if lines else repr(error))}")
