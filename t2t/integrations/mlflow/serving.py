"""A checkpoint as a model that MLflow serves: `mlflow models serve -m models:/t2t-<campaign>@champion`.

No pickle: the `MLmodel` file beside the checkpoint's own names this module, and MLflow calls `_load_pyfunc` on the
folder. A request's rows hold a video's path or an embedding, topics, and the identity to answer as, where it is not
the campaign's own choice; what comes back are confidences.

Over HTTP the server asks for a login, T2T_SERVER_LOGIN, which `make up` makes (`t2t.integrations.mlflow.scoring`). How
many rows and topics a request may have, and how long a topic is, is bounded here, for Python as well: a text costs time
and memory by its length, and topics by their number.

A path comes from whoever can reach the server, so it must lie under the folder that `T2T_SERVE_ROOT` names. Without
that variable the model answers for embeddings only. The frame encoder is the one in the checkpoint's config.json; its
weights are read where the campaign had them, or where `T2T_SERVE_WEIGHTS` says. Decoding a video may take 20 seconds,
or what `T2T_SERVE_SECONDS` says.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from t2t.core.errors import T2TError, one_line
from t2t.core.files import sha256_file
from t2t.core.host import find_device
from t2t.data.embeddings.config import DistilledConfig, TimmConfig
from t2t.data.embeddings.decode import Unreadable
from t2t.data.embeddings.embed import decode_in_order
from t2t.data.embeddings.encoders import FrameEncoder, build_encoder, encoded, refuse_not_finite
from t2t.data.embeddings.limits import Limits
from t2t.data.embeddings.store import Embeddings
from t2t.data.labels import HUMAN
from t2t.integrations.mlflow.scoring import came_in, install
from t2t.students.base import check_topics
from t2t.students.checkpoint import carried, load, read_encoder

log = logging.getLogger("t2t")

ROOT, WEIGHTS, SECONDS = "T2T_SERVE_ROOT", "T2T_SERVE_WEIGHTS", "T2T_SERVE_SECONDS"
# Seconds that decoding one video of a request may take, unless T2T_SERVE_SECONDS says otherwise.
VIDEO_SECONDS = 20.0
# Attention over a clip's frames grows with their square, and a client chooses how many it sends.
MOST_FRAMES = 1024
MOST_ROWS = 1000  # of a request
MOST_VIDEOS = 64  # files of a request: one request decodes at a time
MOST_TOPICS = 1000  # of a row
MOST_PAIRS = 100_000  # rows times their topics
MOST_TEXTS = 5000  # different topics of a request: each is encoded once
MOST_CHARACTERS = 1000  # of a topic
MOST_LETTERS = 500_000  # of all different topics: reading a million takes two seconds


def _load_pyfunc(folder: str, model_config: Mapping[str, Any] | None = None) -> Served:
    """What MLflow calls to load a model of this module."""
    return Served(Path(folder), model_config or {}, over_http=install())


class Served:
    """A student that answers requests.

    Args:
        folder: a checkpoint.
        config: `identity` and `encoder_weights_sha256`, as `write_model` puts them into MLmodel; both may be missing.
        over_http: whether it answers only what came through the server's door.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], over_http: bool = False):
        self.folder, self.over_http = folder, over_http
        self.device = find_device()
        self.student = load(folder, self.device)
        self.identity = str(config.get("identity", HUMAN))
        self.weights_sha256: str | None = config.get("encoder_weights_sha256")
        self.root = os.environ.get(ROOT) or None
        self.limits = video_limits(os.environ.get(SECONDS))
        # The server answers requests in threads; encoding uses all cores for one of them already.
        self._lock = threading.Lock()
        if self.root is None:
            log.warning("%s is not set: this model answers for embeddings, not for videos.", ROOT)

    def predict(self, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Confidences, one row for each row asked.

        Args:
            model_input: columns `video` (a path under T2T_SERVE_ROOT) or `embedding` (float [frames, dim], as the
                checkpoint's frame encoder makes it), `topics` (a list of texts), and `identity` (optional).

        Returns: columns `confidences` (0..1, in the order of the topics), `topics`, `identity`.

        Raises MlflowException (400 over HTTP) that says what is wrong with which row.
        """
        try:
            if self.over_http and not came_in.get():
                # Another version of MLflow, which makes its application in another way.
                raise T2TError("this server has no door: it cannot be served with this version of MLflow.")
            return pd.DataFrame(self.answer(model_input.to_dict("records")))
        except T2TError as error:
            from mlflow.exceptions import MlflowException

            raise MlflowException.invalid_parameter_value(str(error)) from None

    def answer(self, rows: Sequence[Mapping[Any, Any]]) -> list[dict[str, Any]]:
        """`predict` on plain rows. Raises T2TError."""
        if not 1 <= len(rows) <= MOST_ROWS:
            raise T2TError(f"a request has 1 to {MOST_ROWS:,} rows; this one has {len(rows):,}.")
        asked = [self._asked(number, row) for number, row in enumerate(rows)]
        pairs = sum(len(topics) for _, topics in asked)
        if pairs > MOST_PAIRS:
            raise T2TError(f"a request has {MOST_PAIRS:,} pairs of a row and a topic at most; this one has {pairs:,}.")
        texts = {topic for _, topics in asked for topic in topics}
        if len(texts) > MOST_TEXTS:
            raise T2TError(f"a request has {MOST_TEXTS:,} different topics at most; this one has {len(texts):,}.")
        letters = sum(map(len, texts))
        if letters > MOST_LETTERS:
            raise T2TError(f"a request's different topics have {MOST_LETTERS:,} characters at most, not {letters:,}.")
        clips = self._clips(rows)
        # Each topic is encoded once for all rows that ask as one identity, whatever else they ask for.
        alike: dict[str, list[int]] = {}
        for number, (identity, _) in enumerate(asked):
            alike.setdefault(identity, []).append(number)
        scores: dict[int, list[float]] = {}
        for identity, numbers in alike.items():
            places = {topic: place for place, topic in enumerate({t: None for n in numbers for t in asked[n][1]})}
            embeddings = Embeddings.of([clips[number] for number in numbers])
            confidences = self.student.predict(embeddings, np.arange(len(numbers)), tuple(places), identity)
            for number, found in zip(numbers, confidences.astype(float), strict=True):
                scores[number] = found[[places[topic] for topic in asked[number][1]]].tolist()
        return [
            {"confidences": scores[number], "topics": list(topics), "identity": identity}
            for number, (identity, topics) in enumerate(asked)
        ]

    def _asked(self, number: int, row: Mapping[Any, Any]) -> tuple[str, tuple[str, ...]]:
        identity, topics = row.get("identity"), row.get("topics")
        identity = self.identity if _missing(identity) else identity
        if not isinstance(identity, str):
            raise T2TError(f"row {number}: identity is a teacher's id, not {one_line(repr(identity), 60)}.")
        if len(identity) > MOST_CHARACTERS:
            raise T2TError(f"row {number}: an identity has {MOST_CHARACTERS:,} characters at most.")
        if not isinstance(topics, list | tuple | np.ndarray) or not len(topics):
            raise T2TError(f"row {number}: topics is a list of one text or more.")
        if len(topics) > MOST_TOPICS:
            raise T2TError(f"row {number}: a row has {MOST_TOPICS:,} topics at most; this one has {len(topics):,}.")
        if any(not isinstance(topic, str) or not topic.strip() for topic in topics):
            raise T2TError(f"row {number}: a topic is a text that is not empty.")
        longest = max(map(len, topics))
        if longest > MOST_CHARACTERS:
            raise T2TError(
                f"row {number}: a topic has {MOST_CHARACTERS:,} characters at most; one here has {longest:,}."
            )
        if not _writable(identity, *topics):
            raise T2TError(f"row {number}: half a character (a surrogate, U+D800 to U+DFFF) is no text.")
        try:
            self.student.token_ids([identity])
            check_topics(self.student, topics)
        except T2TError as error:
            raise T2TError(f"row {number}: {error}") from None
        return identity, tuple(str(topic) for topic in topics)

    def _clips(self, rows: Sequence[Mapping[Any, Any]]) -> list[np.ndarray]:
        """Each row's frame embeddings, float16 [frames, dim]. A video that is asked about twice is decoded once."""
        given: list[np.ndarray | Path] = []
        for number, row in enumerate(rows):
            video, embedding = row.get("video"), row.get("embedding")
            if _missing(video) == _missing(embedding):
                raise T2TError(f"row {number}: give either a video or an embedding.")
            try:
                given.append(allowed(video, self.root) if _missing(embedding) else self._checked(embedding))
            except T2TError as error:
                raise T2TError(f"row {number}: {error}") from None
        numbers = {item: number for number, item in enumerate(given) if isinstance(item, Path)}
        if len(numbers) > MOST_VIDEOS:
            raise T2TError(f"a request has {MOST_VIDEOS} different videos at most; this one has {len(numbers)}.")
        videos = self._encode(numbers)
        return [videos[item] if isinstance(item, Path) else item for item in given]

    def _checked(self, embedding: Any) -> np.ndarray:
        try:
            clip = np.array([np.asarray(frame, dtype=np.float64) for frame in embedding], dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            raise T2TError("an embedding is a list of frames, each a list of as many numbers.") from None
        dim = self.student.input_dim
        if clip.ndim != 2 or clip.shape[1] != dim or not 1 <= len(clip) <= MOST_FRAMES:
            shape = "x".join(map(str, clip.shape))
            raise T2TError(f"an embedding has 1 to {MOST_FRAMES:,} frames of {dim:,} numbers; this one is {shape}.")
        with np.errstate(over="ignore"):
            half = clip.astype(np.float16)  # the precision that students are trained on
        if not np.isfinite(half).all():
            raise T2TError("an embedding's numbers are finite and within float16 (65,504 at most).")
        return half

    def _encode(self, numbers: Mapping[Path, int]) -> dict[Path, np.ndarray]:
        """Frame embeddings of videos; `numbers` are their rows, for messages."""
        if not numbers:
            return {}
        embeddings = {}
        with self._lock:
            encoder = self.encoder
        # Decoded outside of the lock, and by one half of the cores: whatever one client's videos are, and whether it
        # still waits for them, others are answered meanwhile.
        workers = max(1, (os.cpu_count() or 1) // 2)
        with closing(decode_in_order(list(map(str, numbers)), encoder, workers, self.limits)) as clips:
            for path, clip in zip(numbers, clips, strict=True):
                if isinstance(clip, Unreadable):
                    raise T2TError(f"row {numbers[path]}: {path.name}: {clip}.")
                with self._lock:
                    embeddings[path] = encoded(encoder, clip)
                refuse_not_finite(encoder, path.name, embeddings[path])
        return embeddings

    @cached_property
    def encoder(self) -> FrameEncoder:
        """The frame encoder that the student was trained behind. Raises T2TError where its weights are not here."""
        config = read_encoder(self.folder)
        if isinstance(config, TimmConfig) and config.weights is not None and carried(self.folder) is None:
            path = find_weights(config.weights, os.environ.get(WEIGHTS), self.weights_sha256)
            config = config.model_copy(update={"weights": str(path)})
        elif isinstance(config, DistilledConfig) and (where := os.environ.get(WEIGHTS)):
            inner = Path(where) / config.name
            config = config.model_copy(update={"folder": str(inner if inner.is_dir() else where)})
        encoder = build_encoder(config, self.device)
        if encoder.dim != self.student.input_dim:
            raise T2TError(
                f"The frame encoder gives {encoder.dim:,} numbers a frame, and the student was trained on "
                f"{self.student.input_dim:,}: these are not the weights or the model of its campaign."
            )
        return encoder


def video_limits(seconds: str | None) -> Limits:
    """What a client's video may cost: a minute of a dataset's patience is too much for who waits for an answer.

    Raises T2TError where T2T_SERVE_SECONDS is no number of seconds.
    """
    try:
        return Limits(seconds=float(seconds or VIDEO_SECONDS))
    except ValueError:
        raise T2TError(
            f"{SECONDS} is {one_line(repr(seconds), 60)}; write the seconds that decoding a video may take."
        ) from None


def _writable(*texts: str) -> bool:
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


def _missing(value: Any) -> bool:
    """JSON's null, as a table has it."""
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def allowed(video: Any, root: str | None) -> Path:
    """The file that a client asks about; relative paths are taken below `root`.

    Symbolic links are followed first, so that none leads out. Raises T2TError, which tells of nothing outside the root.
    """
    if root is None:
        raise T2TError(
            f"this server takes embeddings only. To let it read videos, start it with {ROOT} set to the folder that "
            "they may be read from."
        )
    if not isinstance(video, str) or not video:
        raise T2TError(f"video is a path, not {one_line(repr(video), 60)}.")
    base = Path(root).resolve()
    try:
        path = (base / video).resolve()
        inside, there = path.is_relative_to(base), path.is_file()
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, links in a circle
        inside = there = False
    if not inside:
        raise T2TError(f"video {one_line(repr(video), 200)} is not below the folder that this server reads from.")
    if not there:
        raise T2TError(f"video {one_line(repr(video), 200)}: no such file.")
    return path


def find_weights(written: str, where: str | None, digest: str | None) -> Path:
    """The frame encoder's weights on this machine.

    Args:
        written: the path in the checkpoint's config.json, from the machine that trained.
        where: the value of T2T_SERVE_WEIGHTS: the file, or a folder with a file of the same name.
        digest: the file's SHA-256 when the checkpoint was logged; None where it is not known.

    Raises T2TError where there is no such file, or it has other content.
    """
    name = Path(written).name
    path = Path(where) if where else Path(written)
    if where and path.is_dir():
        path /= name
    if not path.is_file():
        raise T2TError(
            f"the frame encoder's weights ({name}) are not on this machine. Start the server with {WEIGHTS} set to "
            "that file or its folder, or send embeddings."
        )
    if digest is not None and sha256_file(path) != digest:
        raise T2TError(
            f"the frame encoder's weights ({name}) are other ones than the student was trained behind (their SHA-256 "
            f"differs). Set {WEIGHTS} to the right file, or send embeddings."
        )
    return path
