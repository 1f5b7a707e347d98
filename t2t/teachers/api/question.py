"""A question as it is sent: messages, what they may cost, and the key under which its answer is kept."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from t2t.core.files import sha256
from t2t.teachers.api.money import Tokens

# Raised whenever the same entry would send other requests.
CODE_VERSION = 1
# Tokens that a server's chat template may add to a question, at most.
TEMPLATE = 200


class Pictures:
    """A clip's frames as JPEG in data URLs, made when the first question about it leaves; for many threads.

    content: what they are made of, as text: file, frames, size, quality. It stands in keys instead of the JPEG's bytes,
    so that an answered question needs no decoding, and another version of the JPEG library asks nothing again.
    """

    def __init__(self, content: str, count: int, read: Callable[[], np.ndarray], quality: int):
        self.content, self.count, self.quality = content, count, quality
        self._read = read
        self._lock = threading.Lock()
        self._urls: list[str] | None = None

    def urls(self) -> list[str]:
        """Raises Unreadable where the file cannot be decoded."""
        with self._lock:
            if self._urls is None:
                self._urls = [self._url(frame) for frame in self._read()]
            return self._urls

    def _url(self, frame: np.ndarray) -> str:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=self.quality)
        return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@dataclass(frozen=True)
class Question:
    """One request about one sample.

    topics: those that it is about, in order. draw: which of several equal questions it is. text: the user's words,
    behind the pictures. parameters: of the request, beside model and messages. image_tokens: the most tokens that one
    picture is counted as.
    """

    model: str
    system: str | None
    text: str
    pictures: Pictures | None
    detail: str | None
    topics: tuple[str, ...]
    parameters: dict[str, Any]
    draw: int
    image_tokens: int
    most_output: int

    @property
    def key(self) -> str:
        """SHA-256 of all that its answer depends on; not of where the server is, whose account pays, or when."""
        media = (self.pictures.content, self.detail) if self.pictures else None
        content = [CODE_VERSION, self.model, self.system, self.text, media, self.parameters, self.draw]
        return sha256(json.dumps(content, sort_keys=True))

    def messages(self) -> list[dict[str, Any]]:
        """Pictures first and the topic last, so that questions about one clip begin alike: servers keep prefixes."""
        parts: list[dict[str, Any]] = []
        for url in self.pictures.urls() if self.pictures else ():
            image = {"url": url} | ({"detail": self.detail} if self.detail else {})
            parts.append({"type": "image_url", "image_url": image})
        content: str | list[dict[str, Any]] = [*parts, {"type": "text", "text": self.text}] if parts else self.text
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": content}]

    @property
    def most(self) -> Tokens:
        """Tokens that it costs at most: no token of a text is shorter than a byte."""
        return Tokens(self._bytes + self._images + TEMPLATE, self.most_output)

    @property
    def about(self) -> Tokens:
        """Tokens that it costs by experience: four bytes of text make one."""
        return Tokens(self._bytes // 4 + self._images + 10, self.most_output)

    @property
    def least_input(self) -> int:
        """Tokens below which a server's count is not believed: no vocabulary's text has sixteen bytes a token."""
        return max(1, len(self.text.encode()) // 16)

    @property
    def _bytes(self) -> int:
        parameters = json.dumps(self.parameters, ensure_ascii=False)
        return len(((self.system or "") + self.text + parameters).encode())

    @property
    def _images(self) -> int:
        return self.pictures.count * self.image_tokens if self.pictures else 0


def numbered(topics: Sequence[str]) -> str:
    return "\n".join(f"{number}. {topic}" for number, topic in enumerate(topics, start=1))
