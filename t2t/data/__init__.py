"""What people bring: datasets, videos and their embeddings, labels, pairs."""
