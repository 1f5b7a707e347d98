"""From video files to embeddings: decode, encode, store."""

from t2t.media.embed import Embedded, TooManyUnreadable, embed, embed_file, embed_samples, probe
from t2t.media.store import Embeddings, EmbeddingStore

__all__ = [
    "Embedded",
    "EmbeddingStore",
    "Embeddings",
    "TooManyUnreadable",
    "embed",
    "embed_file",
    "embed_samples",
    "probe",
]
