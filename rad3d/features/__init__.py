"""Image embeddings on disk: computed, imported, stored and read."""
