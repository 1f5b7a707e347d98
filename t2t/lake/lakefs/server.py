"""Talking to a lakeFS server: where it is, how long to wait for it, and what its refusals mean.

Every request of the SDK goes through one connection pool, which gets a timeout and loses its own retries: all
repeating is done by `Server.call`, because only the caller knows how to see whether a lost answer meant a lost request.
"""

from __future__ import annotations

import http
import logging
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import lakefs
import urllib3
import yaml
from lakefs.exceptions import LakeFSException, NoAuthenticationFound, ServerException

from t2t.core.errors import T2TError

log = logging.getLogger("t2t")
T = TypeVar("T")

# Seconds for connecting (and for each piece of an upload), and for an answer to begin: big merges take their time.
TIMEOUT = urllib3.Timeout(connect=20, read=180)
ONCE = urllib3.Retry(total=None, connect=0, read=0, status=0, other=0, redirect=3)
QUIET = 2.0
WAYS = (
    "Set LAKECTL_SERVER_ENDPOINT_URL, LAKECTL_CREDENTIALS_ACCESS_KEY_ID and LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY, "
    "or write them to ~/.lakectl.yaml with `lakectl config`."
)


class Unreachable(T2TError):
    """lakeFS did not answer, for longer than one is willing to wait."""


class Refused(T2TError):
    """lakeFS answered, and said no: `status` is HTTP's, `reason` the server's own words."""

    def __init__(self, host: str, status: int | None, reason: str):
        super().__init__(f"lakeFS at {host} refused (status {status}): {reason}")
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Patience:
    """How long one request is repeated: `seconds` in total, with waits that double from `first` to `longest`."""

    seconds: float = 180.0
    first: float = 0.1
    longest: float = 10.0


class Server:
    """A lakeFS server and the keys to it, from lakeFS's own variables or `~/.lakectl.yaml`.

    Raises T2TError when these say nothing or nothing usable.
    """

    def __init__(self, patience: Patience = Patience()):
        self.patience = patience
        self.client = _client()
        pool = self.client.sdk_client.objects_api.api_client.rest_client.pool_manager
        pool.request = partial(_request, pool.request)
        # Without the scheme's user information, if somebody put some there.
        self.host = self.client.config.host.rsplit("@", 1)[-1].removesuffix("/api/v1")
        self._told = False

    def call(self, request: Callable[[], T], landed: Callable[[], T | None] | None = None) -> T:
        """Makes a request, again and again while the server is not there or too busy.

        Args:
            landed: for requests that must not be made twice: looks whether an earlier attempt, whose answer got lost,
                has done it, and returns what it would have returned.

        Raises:
            Refused: the server understood, and will not.
            Unreachable: the patience is spent.
        """
        wait, since = self.patience.first, None
        while True:
            try:
                result = landed() if since is not None and landed is not None else None
                result = request() if result is None else result
            except (LakeFSException, urllib3.exceptions.HTTPError, ConnectionError, TimeoutError) as error:
                reason = _passing(error)
                if reason is None:
                    raise self._refusal(error) from None
                since = since or time.monotonic()
                self._pause(reason, wait, time.monotonic() - since)
                wait = min(wait * 2, self.patience.longest)
            else:
                if self._told:
                    log.warning("lakeFS at %s answers again.", self.host)
                self._told = False
                return result

    def _pause(self, reason: str, wait: float, down: float) -> None:
        if down >= self.patience.seconds:
            raise Unreachable(
                f"lakeFS at {self.host} has not done its work for {self.patience.seconds:.0f} seconds ({reason}). "
                "Start it, and run the same command again: it goes on where it stopped."
            )
        if down >= QUIET and not self._told:
            log.warning("lakeFS at %s: %s. Trying again for %.0f seconds.", self.host, reason, self.patience.seconds)
            self._told = True
        # Jitter: writers that were refused together do not come back together.
        time.sleep(min(random.uniform(wait / 2, wait), max(0.0, self.patience.seconds - down)))

    def _refusal(self, error: Exception) -> T2TError:
        status = getattr(error, "status_code", None)
        if status == http.HTTPStatus.UNAUTHORIZED:
            return T2TError(f"lakeFS at {self.host} does not accept the keys. {WAYS}")
        if status == http.HTTPStatus.FORBIDDEN:
            return T2TError(f"lakeFS at {self.host} does not allow it to these keys: {_words(error)}")
        return Refused(self.host, status, _words(error))


def _request(request: Callable[..., Any], method: str, url: str, **options: Any) -> Any:
    """The pool's own `request`, with a timeout where the SDK sets none, and without urllib3's retries."""
    options["timeout"] = options.get("timeout") or TIMEOUT
    return request(method=method, url=url, retries=ONCE, **options)


def _client() -> lakefs.Client:
    path = Path(os.environ.get("LAKECTL_CONFIG_FILE") or Path.home() / ".lakectl.yaml")
    try:
        # The SDK reads this file with a loader that can run code: what a safe one refuses never gets there.
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise T2TError(f"{path}: not a lakectl configuration. {WAYS}")
    except FileNotFoundError:
        content = {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        # The parser's own message would quote the line, which may be the secret's.
        raise T2TError(f"{path}: cannot be read as YAML. {WAYS}") from None
    server = content.get("server")
    endpoint = os.environ.get("LAKECTL_SERVER_ENDPOINT_URL") or (server or {}).get("endpoint_url")
    if not endpoint:
        raise T2TError(f"The endpoint of lakeFS is not known. {WAYS}")
    try:
        return lakefs.Client()
    except NoAuthenticationFound:
        raise T2TError(f"The keys to lakeFS at {endpoint} are not known. {WAYS}") from None
    except (LakeFSException, TypeError, ValueError, KeyError, AttributeError) as error:
        raise T2TError(f"lakeFS's settings cannot be used ({type(error).__name__}). {WAYS}") from None


def _passing(error: Exception) -> str | None:
    """Why a request may succeed later, in words; None when it will not."""
    if isinstance(error, urllib3.exceptions.HTTPError):
        cause = getattr(error, "reason", None)
        if isinstance(error, urllib3.exceptions.LocationValueError) or isinstance(cause, urllib3.exceptions.SSLError):
            return None
        return f"no answer ({type(cause or error).__name__})"
    if isinstance(error, ServerException):
        status = error.status_code
        if status in (408, 429, 502, 503, 504):
            return f"too busy (status {status})"
        if status == 500:
            return f"status 500, {_words(error)}"
        # A branch that another writer moved meanwhile. A hook that refused says more than this.
        if status == 412 and _words(error).lower() == "precondition failed":
            return "status 412, another writer was faster"
        return None
    return None if isinstance(error, LakeFSException) else f"no answer ({type(error).__name__})"


def _words(error: Exception) -> str:
    body = getattr(error, "body", None)
    message = body.get("message") if isinstance(body, dict) else None
    return str(message or getattr(error, "reason", None) or error or type(error).__name__)
