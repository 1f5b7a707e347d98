"""Kind `openai` and servers that are no good: a row that is right, or a line that says what to do."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from t2t.teachers.api import chat
from t2t.teachers.api.reading import read
from tests.helpers.documented import refused
from tests.helpers.openai_server import KEY, answer_to, fake_server
from tests.helpers.openai_teacher import NEEDS_PACKAGE, PRICE, labels, table, teacher

pytestmark = [NEEDS_PACKAGE, pytest.mark.usefixtures("quick")]
Answer = Callable[[dict[str, Any]], tuple[int, dict[str, str], bytes]]


@contextmanager
def server(answer: Answer) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Answers a POST with status, headers and body; the headers that came."""
    came: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

        def do_POST(self) -> None:
            came.append(dict(self.headers))
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            status, headers, body = answer(json.loads(raw))
            self.send_response(status)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(body)),
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=web.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{web.server_address[1]}/v1", came
    finally:
        web.shutdown()
        web.server_close()


def good(body: dict[str, Any]) -> bytes:
    return json.dumps(answer_to(body, "")[0]).encode()


def test_a_redirect_is_not_followed_so_that_neither_key_nor_question_leaves(tmp_path):
    samples = table(tmp_path)
    with server(lambda body: (200, {}, good(body))) as (other, came):
        for status in (302, 307):
            with server(lambda body, status=status: (status, {"Location": f"{other}/chat/completions"}, b"{}")) as (
                url,
                _,
            ):
                asked = teacher(tmp_path, samples, url, price=PRICE, budget=5)
                message = refused(lambda asked=asked: labels(asked, samples))
                assert f"sends us on to {other}/chat/completions ({status})" in message
                assert asked.kept.spent() == 0
        assert came == []


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        ("text/html; charset=utf-8", b"<html>Welcome</html>", "answers with a web page"),
        ("text/event-stream", b'data: {"choices": []}\n\ndata: [DONE]\n\n', "streams its answer"),
    ],
)
def test_what_is_no_answer_of_this_protocol_ends_at_once(tmp_path, kind, body, words):
    samples = table(tmp_path)
    with server(lambda _: (200, {"Content-Type": kind}, body)) as (url, came):
        assert words in refused(lambda: labels(teacher(tmp_path, samples, url, concurrency=1), samples))
        assert len(came) == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"{}", b'"x"', b'{"choices": []}', b'{"choices": [null]}', b"[" * 100_000, b"\xff\xfe"],
)
def test_a_body_that_is_no_completion_is_tried_again_and_then_told(tmp_path, body):
    samples = table(tmp_path)
    with server(lambda _: (200, {}, body)) as (url, came):
        asked = teacher(tmp_path, samples, url, retries=1, concurrency=1)
        assert "does not answer after 2 tries" in refused(lambda: labels(asked, samples))
        assert len(came) == 2


def test_a_body_without_end_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(chat, "MOST_BYTES", 10_000)
    samples = table(tmp_path)
    with server(lambda body: (200, {}, good(body)[:-1] + b" " * 20_000 + b"}")) as (url, _):
        asked = teacher(tmp_path, samples, url, retries=0)
        assert "more than 10,000 bytes" in refused(lambda: labels(asked, samples))
    monkeypatch.setattr(chat, "MOST_BYTES", 10**6)
    monkeypatch.setattr(chat, "WHOLE", 0)
    with server(lambda body: (200, {}, good(body))) as (url, _):
        asked = teacher(tmp_path, samples, url, retries=0)
        assert "not whole after 0 s" in refused(lambda: labels(asked, samples))


def test_retry_after_is_heard_as_seconds_and_as_a_date(tmp_path):
    samples, start = table(tmp_path, 2), time.monotonic()
    waits = ["1", format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)]

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        return (429, {"Retry-After": waits.pop(0)}, b"{}") if waits else (200, {}, good(body))

    with server(answer) as (url, came):
        assert len(labels(teacher(tmp_path, samples, url, concurrency=1), samples)) == 3
        assert len(came) == 5
    assert 2 <= time.monotonic() - start < 20


def body_of(content: Any, **choice: Any) -> bytes:
    message = {"role": "assistant", "content": content}
    return json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}]}).encode()


@pytest.mark.parametrize(
    ("content", "values"),
    [
        ('{"1": 80, "2": 20}', (0.8, 0.2)),
        ('```json\n{"1": 80, "2": 20}\n```', (0.8, 0.2)),
        ('{"1": "80", "2": "20%"}', (0.8, 0.2)),
        ('{"1": 80.0, "2": 0.0}', (0.8, 0.0)),
        ('{"1": 101, "2": 20}', (None, 0.2)),
        ('{"1": -1, "2": 20}', (None, 0.2)),
        ('{"1": true, "2": 20}', (None, 0.2)),
        ('{"1": null, "2": 20}', (None, 0.2)),
        ('{"1": 1e999, "2": 20}', (None, 0.2)),
        ('{"1": NaN, "2": 20}', (None, 0.2)),
        ('{"1": [80], "2": 20}', (None, 0.2)),
        ('{"2": 20}', (None, 0.2)),
        ('{"1": 80, "1": 10, "2": 20}', (None, 0.2)),
        ('{"1": 80, "1": 80, "2": 20}', (0.8, 0.2)),
        # Shares of one instead of hundred: nobody knows what a 1 beside them means.
        ('{"1": 0.85, "2": 1}', (None, None)),
        ('{"1": 1.0, "2": 0.0}', (None, 0.0)),
        ('{"1": "0.85", "2": 1}', (None, None)),
        ('{"1": "eighty", "2": 20}', (None, 0.2)),
        ('{"1": "80 %", "2": "\uff11\uff10"}', (0.8, None)),
        ('{"1": {"2": 7}}', (None, None)),
        ("[80, 20]", (None, None)),
        ("no", (None, None)),
        (None, (None, None)),
        ([{"type": "text", "text": "80"}], (None, None)),
    ],
)
def test_numbers_are_read_as_they_are_meant_or_not_at_all(content, values):
    assert read(body_of(content), "number", 2, ("yes",), ("no",)).values == values


def test_words_are_read_as_they_are_meant_or_not_at_all():
    for content, values in [
        ('{"1": "Yes", "2": "no."}', (1, 0)),
        ('{"1": "Yes", "1": "No", "2": "No"}', (None, 0)),
        ('{"1": true, "2": false}', (1, 0)),
        ('{"1": "Yesterday", "2": "not"}', (None, None)),
        ('{"1": 1, "2": 0}', (None, None)),
    ]:
        assert read(body_of(content), "hard", 2, ("yes",), ("no",)).values == values
    for content, value in [("Yes.", 1), ("**No**", 0), ("yes or no", None), ("Yes and no", None), ("No yes", None)]:
        assert read(body_of(content), "hard", 1, ("yes",), ("no",)).values == (value,), content


def test_logprobs_that_cannot_be_are_no_row():
    def listed(*tokens: tuple[Any, Any]) -> bytes:
        top = [{"token": token, "logprob": logprob} for token, logprob in tokens]
        return body_of("Yes", logprobs={"content": [{"token": "Yes", "logprob": -1, "top_logprobs": top}]})

    def value(*tokens: tuple[Any, Any]) -> float | None:
        return read(listed(*tokens), "logprobs", 1, ("yes",), ("no",)).values[0]

    assert value(("Yes", -0.5), ("No", -1.5)) == pytest.approx(0.7310586)
    assert value(("Yes", float("nan")), ("No", -1.5)) is None
    assert value(("Yes", -9999.0), ("No", -0.1)) == 0
    assert value(("Yes", "x"), ("No", -1.5)) is None
    # Probabilities that add up to more than one are none.
    assert value(("Yes", -0.1), ("No", -0.1)) is None
    assert value(("Yes", 3.0), ("No", -1.5)) is None
    # One token twice is counted once.
    assert value(("Yes", -1.0), ("Yes", -1.0), ("No", -1.0)) == pytest.approx(0.5)


@contextmanager
def foreign_certificate(folder: Path) -> Iterator[int]:
    """The port of a server whose certificate (cert.pem) it signed itself; it says 405."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")]), datetime.now(UTC)
    there = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    built = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1)).add_extension(
        there, False
    )
    pem = built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    (folder / "cert.pem").write_bytes(pem)
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

        def do_POST(self) -> None:
            self.send_error(405)

    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.handle_error = lambda *_: None  # type: ignore[method-assign]
    web.socket = context.wrap_socket(web.socket, server_side=True)
    threading.Thread(target=web.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield web.server_address[1]
    finally:
        web.shutdown()
        web.server_close()


def test_a_wrong_scheme_an_unknown_host_and_a_foreign_certificate_say_what_to_do(tmp_path, monkeypatch):
    samples = table(tmp_path, 2)
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with fake_server() as fake:
        url = fake.url.replace("http://", "https://")
        with foreign_certificate(tmp_path) as port:
            at = f"https://127.0.0.1:{port}/v1"
            assert "name its file in SSL_CERT_FILE" in refused(lambda: labels(teacher(tmp_path, samples, at), samples))
            # Once it is named, it is trusted.
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
            assert "405" in refused(lambda: labels(teacher(tmp_path, samples, at, retries=0), samples))
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nothing.pem"))
            assert "no connection can be made" in refused(lambda: labels(teacher(tmp_path, samples, at), samples))
            monkeypatch.delenv("SSL_CERT_FILE")
        assert "http:// and not https://" in refused(lambda: labels(teacher(tmp_path, samples, url), samples))
    missing = teacher(tmp_path, samples, "http://no-such-host.invalid/v1", retries=0)
    refused(lambda: labels(missing, samples))
    assert missing.kept.spent() == 0


def test_a_proxy_that_is_not_there_or_is_no_address_is_told(tmp_path, monkeypatch):
    samples = table(tmp_path, 2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
    asked = teacher(tmp_path, samples, "http://example.invalid/v1", retries=0, price=PRICE, budget=5)
    message = refused(lambda: labels(asked, samples))
    assert "ConnectError" in message
    assert asked.kept.spent() == 0
    monkeypatch.setenv("HTTP_PROXY", "not a proxy")
    assert "HTTP_PROXY" in refused(lambda: labels(teacher(tmp_path, samples, "http://example.invalid/v1"), samples))
    monkeypatch.setenv("HTTP_PROXY", "ftp://127.0.0.1")
    assert "no connection can be made" in refused(lambda: labels(teacher(tmp_path, samples, "http://x/v1"), samples))
    assert KEY not in message
