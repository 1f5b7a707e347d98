"""A service as the other side: `GET /describe` and `POST /label`, bounded in time and bytes, without a redirect."""

from __future__ import annotations

import http.client
import ipaddress
import ssl
import time
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from t2t.core.errors import one_line
from t2t.teachers.protocol.messages import LONGEST, Again, Answer, Fault, Handshake, Question, read_handshake

# Statuses after which another try may help.
PASSING = {408, 425, 429, 500, 502, 503, 504}
# The longest time that a service may ask to be left alone.
WAIT = 60.0
CHUNK = 1 << 16


def read_url(text: str) -> SplitResult:
    """Raises ValueError for what is no http or https URL, or has a password in it."""
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("write a URL that begins with http:// or https:// and names a host")
    if url.username or url.password:
        raise ValueError("no name or password in the URL; name a variable in `authorization` instead")
    if url.query or url.fragment:
        raise ValueError("no ? or # in the URL: /describe and /label are put behind it")
    if not text.isascii() or any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("letters, digits and marks of ASCII only")
    _ = url.port
    return url


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass
class Service:
    """Whom to ask, and what it may take: seconds for a request, megabytes sent and answered.

    authorization: the header's value, shown to nobody.
    """

    url: str
    timeout: float = 600
    start_timeout: float = 30
    request_megabytes: int = 64
    answer_megabytes: int = 64
    authorization: str | None = None

    def hello(self) -> Handshake:
        return read_handshake(self.call("GET", "/describe", None, LONGEST, self.start_timeout))

    def ask(self, question: Question) -> Answer:
        answer = Answer(question, self.answer_megabytes << 20)
        body = self.call("POST", "/label", question.line(), answer.left, self.timeout)
        lines = body.split(b"\n")
        for number, line in enumerate(lines):
            if answer.done and line.strip():
                raise Fault(f"request {question.number}, line {number + 1}: more after `done`.")
            if line.strip():
                answer.take(line)
        if not answer.done:
            raise Again(f"its answer to request {question.number} ends without `done`.")
        return answer

    def call(self, method: str, path: str, body: bytes | None, most: int, seconds: float) -> bytes:
        """The body of an answer with status 200. Raises Fault or Again for any other."""
        until = time.monotonic() + seconds
        if body is not None and len(body) > self.request_megabytes << 20:
            raise Fault(
                f"a request of {len(body) >> 20:,} MB, more than request_megabytes ({self.request_megabytes}) allows. "
                "Lower batch_samples."
            )
        url = read_url(self.url)
        where = f"{method} {self.url.rstrip('/')}{path}"
        headers = {"Accept": "application/x-ndjson, application/json", "User-Agent": "t2t"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self.authorization is not None:
            headers["Authorization"] = self.authorization
        assert url.hostname is not None
        if url.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                url.hostname, url.port, timeout=seconds, context=ssl.create_default_context()
            )
        else:
            connection = http.client.HTTPConnection(url.hostname, url.port, timeout=seconds)
        try:
            connection.request(method, url.path.rstrip("/") + path, body, headers)
            if connection.sock is not None:
                connection.sock.settimeout(max(0.01, until - time.monotonic()))
            response = connection.getresponse()
            found = self._read(connection, response, most, until, where)
            self._status(response, found, where)
            return found
        except TimeoutError:
            raise Again(f"{where} took longer than {seconds:g} seconds.") from None
        except ssl.SSLCertVerificationError as error:
            raise Fault(f"{where}: its certificate is not trusted ({one_line(error.verify_message, 100)}).") from None
        except (OSError, http.client.HTTPException) as error:
            raise Again(f"{where}: {one_line(error, 150) or type(error).__name__}.") from None
        finally:
            connection.close()

    def _read(
        self,
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
        most: int,
        until: float,
        where: str,
    ) -> bytes:
        """All of a body, in pieces, so that neither its length nor its slowness has no end."""
        pieces: list[bytes] = []
        length = 0
        while True:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if connection.sock is not None:
                connection.sock.settimeout(left)
            data = response.read1(CHUNK)
            if not data:
                if response.length:
                    raise http.client.IncompleteRead(b"", response.length)
                return b"".join(pieces)
            length += len(data)
            if length > most:
                raise Fault(f"{where}: an answer of more than {most:,} bytes (answer_megabytes).")
            pieces.append(data)

    def _status(self, response: http.client.HTTPResponse, body: bytes, where: str) -> None:
        status = response.status
        if status == 200:
            return
        text = one_line(body[:400].decode("utf-8", "replace"), 200)
        if self.authorization:
            text = text.replace(self.authorization, "***")
        if 300 <= status < 400:
            to = one_line(response.getheader("Location", "nowhere"), 150)
            raise Fault(
                f"{where}: status {status}, it sends on to {to}, and redirects are not followed. Write the "
                "last address as `url`."
            )
        if status in PASSING:
            _leave_alone(response.getheader("Retry-After"))
            raise Again(f"{where}: status {status}: {text}")
        hint = " Name the variable that holds the header in `authorization`." if status in (401, 403) else ""
        raise Fault(f"{where}: status {status}: {text.rstrip('.')}.{hint}")


def _leave_alone(seconds: str | None) -> None:
    """As long as the service wants, within reason; a date is passed over, the usual pause follows anyway."""
    if seconds is not None and seconds.isdecimal() and len(seconds) < 6:
        time.sleep(min(WAIT, int(seconds)))
