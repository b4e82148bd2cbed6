"""The matrix of distances."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def pair_matrix(distance: Any, embeddings: Tensor, ref_emb: Tensor) -> Tensor:
    """Return the distance (or similarity) of every pair, (B, R), in the precision of the embeddings."""
    matrix: Tensor = distance(embeddings, ref_emb)
    return matrix
