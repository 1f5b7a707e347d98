"""From video files to embeddings: decode, encode, store."""
