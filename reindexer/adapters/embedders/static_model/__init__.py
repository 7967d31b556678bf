"""The data of the embedder `static`, and whose it is: see its README."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
VECTORS = "vectors.npy"
VOCABULARY = "vocabulary.txt"
