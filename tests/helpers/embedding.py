"""One file's embeddings, as they would stand in a store."""

from __future__ import annotations

from pathlib import Path

from t2t.data.embeddings.config import EncoderConfig
from t2t.data.embeddings.decode import Unreadable
from t2t.data.embeddings.embed import decode_in_order
from t2t.data.embeddings.encoders import build_encoder
from t2t.data.embeddings.store import Embeddings


def embed_file(path: str | Path, config: EncoderConfig, device: str = "cpu") -> Embeddings:
    """The embeddings of one file, as a view of one sample; no store is used."""
    encoder = build_encoder(config, device)
    (clip,) = decode_in_order([str(path)], encoder)
    assert not isinstance(clip, Unreadable), clip
    return Embeddings.of([encoder.encode(clip)])
