"""The data of the embedder `static`; the README tells its origin and licence."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
VECTORS = "vectors.npy"
VOCABULARY = "vocabulary.txt"
