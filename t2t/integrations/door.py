"""The door of every server that t2t starts or describes: who may come in, checked before the server sees a request.

A server on loopback can be reached by every program of the machine, and by every web page that somebody opens on it:
a page may send requests to 127.0.0.1, and with a name of its own that it lets point there (DNS rebinding) it may read
the answers. So three things are asked, in this order:

    the name    `Host` is one of the server's own                                             else 403
    the page    `Origin`, where a browser sends one, is the server itself, and what a browser
                fetches for another site (`Sec-Fetch-Site`) is refused                        else 403
    the login   `Authorization: Basic` with the login, on all paths but those of health       else 401

It is made of the standard library alone, since the images of servers (infra/Dockerfile) have nothing else of t2t.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
HOSTS = "T2T_SERVER_HOSTS"  # names, with commas between them, that a server may be called by besides loopback's
LOGIN, LOGIN_FILE = "T2T_SERVER_LOGIN", "T2T_SERVER_LOGIN_FILE"  # `user:password`, or the file that it is in
SHORTEST = 16  # characters of a password


class Door:
    """Middleware (ASGI) around a server's application.

    Args:
        app: the application.
        hosts: names that `Host` may have, each with any port; loopback's are always among them.
        login: `user:password`; None: the application asks for one itself.
        free: paths that need no login: those of health checks.
    """

    def __init__(self, app: App, hosts: Iterable[str] = (), login: str | None = None, free: Iterable[str] = ()):
        self.app = app
        self.hosts = frozenset(host.lower() for host in (*LOOPBACK, *hosts))
        self.login = None if login is None else login.encode()
        self.free = frozenset(free)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal = self.refusal(str(scope.get("method", "GET")), str(scope["path"]), headers_of(scope))
        if refusal is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted, which is a 403
        else:
            await refuse(send, *refusal)

    def refusal(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Status and reason, where a request may not come in; the headers' names are in small letters."""
        host = headers.get("host", "")
        if path in self.free and method == "GET":
            return None  # a prober calls a container by its number
        if re.sub(r":\d+$", "", host.lower()) not in self.hosts:
            return 403, f"This server is not called {host[:100]!r}. Names of its own are set by {HOSTS}."
        origin = headers.get("origin")
        if origin is not None and not same_origin(origin, host):
            return 403, f"Requests of pages from {origin[:100]!r} are refused."
        site = headers.get("sec-fetch-site", "none")
        how = method, headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")
        opened = how == ("GET", "navigate", "document")  # a link that a person follows
        if site not in ("none", "same-origin") and not opened:
            return 403, "Requests that a page of another site makes are refused."
        if self.login is not None and not self.knows(headers.get("authorization", "")):
            return 401, "A login is needed."
        return None

    def knows(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        try:
            login = base64.b64decode(given.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        return scheme.lower() == "basic" and hmac.compare_digest(login, self.login or b"")


def headers_of(scope: Scope) -> dict[str, str]:
    """A request's headers. Of one that came twice both stand there, which no comparison lets pass."""
    found: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name, text = raw.decode("latin-1").lower(), value.decode("latin-1")
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def same_origin(origin: str, host: str) -> bool:
    """Whether a page of `origin` is the server's that was called `host`. TLS may end at a proxy before it."""
    try:
        parts = urlsplit(origin)
    except ValueError:  # such as a bracket that does not close
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


async def refuse(send: Send, status: int, reason: str) -> None:
    """Answers with a line of text."""
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="t2t", charset="UTF-8"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": f"{reason}\n".encode()})


def hosts_of(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The names in T2T_SERVER_HOSTS."""
    return [name for name in (part.strip() for part in environment.get(HOSTS, "").split(",")) if name]


# The login


class NoLogin(Exception):
    """A server without a login, or with one that is none."""


def login_of(folder: Path) -> str:
    """The login of the servers of a work folder: in its file `login`, which is made at the first use."""
    path = Path(folder) / "login"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")  # a thread's own
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(f"t2t:{secrets.token_hex(24)}\n")
        try:
            os.link(new, path)  # whole, and whoever is first has made it
        except FileExistsError:
            pass
        finally:
            new.unlink()
    path.chmod(0o600)
    return checked(path.read_text(), str(path))


def login_from(environment: Mapping[str, str] = os.environ) -> str:
    """A server's login: what T2T_SERVER_LOGIN_FILE names, or T2T_SERVER_LOGIN. Raises NoLogin."""
    file, given = environment.get(LOGIN_FILE), environment.get(LOGIN)
    if file:
        try:
            return checked(Path(file).read_text(), f"{LOGIN_FILE}={file}")
        except OSError as error:
            raise NoLogin(f"{LOGIN_FILE}={file}: {error.strerror}.") from None
    if given is None:
        raise NoLogin(
            f"This server has no login, and would answer whoever reaches it. Set {LOGIN}=<user>:<password> (`make up` "
            f"writes one to work/services/env.sh: `. work/services/env.sh`), or {LOGIN_FILE} to a file that has one."
        )
    return checked(given, LOGIN)


def checked(text: str, place: str) -> str:
    """The login in a text. Raises NoLogin, without the password."""
    login = text.strip()
    user, _, password = login.partition(":")
    if not user or len(password) < SHORTEST or not login.isascii() or not login.isprintable():
        raise NoLogin(f"{place} is no login: it is <user>:<password>, the password {SHORTEST} characters at least.")
    return login


def basic(login: str) -> str:
    """A login as the header `Authorization` has it."""
    return f"Basic {base64.b64encode(login.encode()).decode()}"
