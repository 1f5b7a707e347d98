"""Getting one object from another machine through fsspec, within limits."""

from __future__ import annotations

import random
import time
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from t2t.core.errors import chain, one_line
from t2t.data.remote.addresses import RemoteConfig, refused_address, shown

PIECE = 1 << 20
# Seconds to connect, and between two pieces.
CONNECT, STALLED = 30, 60
# The first wait between attempts, and the longest.
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
# What a server says for now; everything else of 400 and above is its answer.
FOR_NOW = (408, 425, 429, 500, 502, 503, 504)


class Unreachable(OSError):
    """A remote file that cannot be had; the message is a short plain reason without the address. final: whether that is
    its machine's answer, and not that it gives none."""

    def __init__(self, reason: str, final: bool = True):
        super().__init__(reason)
        self.final = final


class _Refused(Exception):
    """Not worth another attempt."""


class Source:
    """The files of one scheme.

    Args:
        scheme: `https`, `http`, `s3` or `gs`.
    """

    def __init__(self, scheme: str, config: RemoteConfig):
        self.scheme, self.config = scheme, config

    @cached_property
    def _files(self) -> Any:
        import fsspec

        if self.scheme not in ("http", "https"):
            return fsspec.filesystem(self.scheme, skip_instance_cache=True)
        return fsspec.filesystem(
            self.scheme, skip_instance_cache=True, block_size=0, get_client=self._client, use_listings_cache=False
        )

    async def _client(self, loop: Any = None, **_: Any) -> Any:
        """A session that asks public addresses only, and leaves neither host nor encryption by a redirect."""
        import aiohttp

        private = self.config.private

        class Resolver(aiohttp.ThreadedResolver):
            async def resolve(self, host: str, *arguments: Any, **options: Any) -> Any:
                found = await super().resolve(host, *arguments, **options)
                for address in found:
                    if refused_address(host, address["host"], private):
                        raise _Refused(f"{host} has the private address {address['host']}")
                return found

        async def redirected(_: Any, context: Any, told: Any) -> None:
            target = urlsplit(urljoin(str(told.url), told.response.headers.get("Location", "")))
            if (target.scheme, target.netloc) != (told.url.scheme, told.url.raw_authority):
                raise _Refused(f"it is redirected to another place ({one_line(target.netloc.rpartition('@')[2], 100)})")

        trace = aiohttp.TraceConfig()
        trace.on_request_redirect.append(redirected)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=Resolver()),
            timeout=aiohttp.ClientTimeout(self.config.seconds, sock_connect=CONNECT, sock_read=STALLED),
            headers={"Accept-Encoding": "identity"},
            trace_configs=[trace],
        )

    def state(self, uri: str) -> tuple[int | None, str]:
        """Size in bytes, where it is told, and what changes with the content: ETag and time, as far as they are told.

        Raises Unreachable.
        """
        return self._patiently(uri, lambda: self._state(uri))

    def _state(self, uri: str) -> tuple[int | None, str]:
        # s3fs keeps what it was told; here it is to be what is there now.
        self._files.invalidate_cache()
        about = self._files.info(uri)
        size = about.get("size")
        tags = (about.get(key) for key in ("ETag", "etag", "md5Hash", "Last-Modified", "LastModified", "mtime"))
        return None if size is None else int(size), " ".join(str(tag) for tag in tags if tag)

    def get(self, uri: str, target: Path) -> tuple[int | None, str]:
        """Writes the file's content to `target`; returns its state. Raises Unreachable."""
        return self._patiently(uri, lambda: self._get(uri, target))

    def _get(self, uri: str, target: Path) -> tuple[int | None, str]:
        most, until = self.config.megabytes << 20, time.monotonic() + self.config.seconds
        state = self._state(uri)
        if state[0] is not None and state[0] > most:
            raise self._too_large()
        written = 0
        with self._files.open(uri, "rb") as file, open(target, "wb") as out:
            while piece := file.read(PIECE):
                written += len(piece)
                if written > most:
                    raise self._too_large()
                if time.monotonic() > until:
                    raise _Refused(f"more than {self.config.seconds:g} s (remote.seconds in the dataset's YAML file)")
                out.write(piece)
        if state[0] not in (None, written):
            raise OSError(f"{written:,} bytes came of {state[0]:,}")
        return state

    def _too_large(self) -> _Refused:
        return _Refused(f"more than {self.config.megabytes:,} MB (remote.megabytes in the dataset's YAML file)")

    def _patiently(self, uri: str, ask: Any) -> Any:
        for attempt in range(1, self.config.attempts + 1):
            try:
                return ask()
            except Exception as error:
                final, reason = _told(error, uri)
                if final or attempt == self.config.attempts:
                    raise Unreachable(reason, final) from None
                # Full jitter, so that many who were refused together do not come back together.
                time.sleep(random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2**attempt)))
        raise AssertionError("at least one attempt")


def _told(error: BaseException, uri: str) -> tuple[bool, str]:
    """Whether an error is an answer that stays, and its words, in which no secret of the address is."""
    links = chain(error)
    for link in links:
        if isinstance(link, _Refused):
            return True, str(link)
    for link in links:
        status = getattr(link, "status", None) or getattr(link, "code", None)
        if isinstance(status, int) and status >= 400:
            return status not in FOR_NOW, f"its server says {status}"
    for link in reversed(links):
        if isinstance(link, PermissionError):
            return True, "access is denied; credentials come from the environment"
        if type(link).__name__ in ("NoCredentialsError", "NoCredentialProviders"):
            return True, "no credentials; they come from the environment"
        if isinstance(link, TimeoutError):
            return False, "its server does not answer in time"
    innermost = links[-1]
    if isinstance(innermost, FileNotFoundError):
        return True, "no such file"
    return False, one_line(str(innermost).replace(uri, shown(uri)), 200) or type(innermost).__name__
