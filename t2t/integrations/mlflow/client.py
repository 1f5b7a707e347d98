"""MLflow's client for a network that loses answers: what can be repeated is, and what makes something is looked for
before it is made a second time."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from t2t.core.errors import FULL, T2TError, explain, interrupted, one_line
from t2t.core.host import shown
from t2t.integrations.mlflow.store import load_mlflow

log = logging.getLogger("t2t")

T = TypeVar("T")

# Seconds before each repeat: two minutes in all, in which a server can be started anew.
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 60.0)
# How MLflow tells of what passes: a request without an answer, a server that is busy or goes down, a database that is
# locked or whose connection broke.
PASSING = re.compile(
    r"failed with (timeout )?exception|(error|status) code:? (429|5\d\d)|too many \d+ error responses|"
    r"database is locked|connection[^.]*(refused|reset|closed|aborted|lost|timed out)|terminating connection|"
    r"gone away|shutting down|timed out",
    re.IGNORECASE,
)
# What MLflow says of a run, an experiment or a model that somebody deleted.
DELETED = re.compile(r"must be in the 'active' state|lifecycle_stage|deleted", re.IGNORECASE)
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


class Gone(T2TError):
    """Somebody deleted what was to be read or written to."""


class Client:
    """An `MlflowClient` whose calls are repeated while MLflow is out of reach for a while.

    Every method may be called here that can be repeated without harm. What makes something goes through `make`.

    Raises T2TError in one line where MLflow does not take a call, `Gone` where somebody deleted what it is about.
    """

    def __init__(self, client: Any, uri: str):
        self._client, self._uri = client, uri
        # Once it has been waited for in vain, nobody waits a second time: an error is on its way to the user.
        self._away = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(self._client, name)

        def call(*arguments: Any, **keywords: Any) -> Any:
            return self._repeated(name, lambda: function(*arguments, **keywords), lambda: None)

        return call

    def make(self, name: str, *arguments: Any, look: Callable[[], T | None], **keywords: Any) -> T:
        """Calls a method that makes something. Where its answer is lost, what it made is looked for first.

        Args:
            look: finds what is made, in whatever form the caller wants it; None where it is not there yet.
        """
        function = self.__dict__.get(name) or getattr(self._client, name)
        return self._repeated(name, lambda: function(*arguments, **keywords), look)

    def _repeated(self, name: str, call: Callable[[], T], look: Callable[[], T | None]) -> T:
        for pause in (None,) if self._away else (*PAUSES, None):
            try:
                with _no_retries():
                    answer = call()
                self._away = False
                return answer
            except (load_mlflow().MlflowException, OSError) as error:
                if interrupted(error):
                    raise
                passing = _passes(error)
                if passing and pause is not None:
                    time.sleep(pause)
                made = look()
                if made is not None:
                    return made
                if pause is None or not passing:
                    self._away = passing
                    raise self._told(name, error) from error
                log.warning("MLflow did not answer (%s); asked again.", name)
        raise AssertionError

    def _told(self, name: str, error: Exception) -> Exception:
        where = f"MLflow at {shown(self._uri)}"
        if _is_gone(error):
            return Gone(f"{where} no longer has what {name} is about: {one_line(error, 200)}")
        if _passes(error):
            return T2TError(
                f"{where} does not answer ({name}): {one_line(error, 200)} Start the same command again when it does: "
                "it goes on where it stopped."
            )
        full = explain(error)
        if full is not None:
            return full
        return T2TError(f"{where} refuses {name}: {one_line(error, 300)}")


def _is_gone(error: Exception) -> bool:
    code = getattr(error, "error_code", "")
    return code == "RESOURCE_DOES_NOT_EXIST" or (
        code in ("INVALID_PARAMETER_VALUE", "INVALID_STATE") and DELETED.search(str(error)) is not None
    )


def _passes(error: Exception) -> bool:
    text = str(error)
    if any(word in text for word in FULL):
        return False
    if isinstance(error, OSError):
        return type(error).__module__.startswith(("requests", "urllib3")) or isinstance(error, ConnectionError)
    return getattr(error, "error_code", "") == "REQUEST_LIMIT_EXCEEDED" or PASSING.search(text) is not None


@contextmanager
def _no_retries() -> Iterator[None]:
    """MLflow would repeat requests by itself, those too that make something: it then has two."""
    before = os.environ.get(RETRIES)
    os.environ[RETRIES] = "0"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(RETRIES, None)
        else:
            os.environ[RETRIES] = before
