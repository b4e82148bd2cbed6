"""What a heat map is a map of: each target turns a network's outputs (B, dim) into scores (B,)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "CentroidSimilarity",
    "Difference",
    "HeadLogit",
    "Logit",
    "NearestSimilarity",
    "Similarity",
    "Target",
]

Target: TypeAlias = "Callable[[Tensor], Tensor]"
"""Any function of the outputs (B, dim) that gives scores (B,) and can be differentiated."""


class Logit:
    """One output of a classifier.

    Parameters
    ----------
    index : int
        Which.

    Examples
    --------
    >>> Logit(1)(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [2.0, 4.0]
    """

    def __init__(self, index: int) -> None:
        self.index = index

    def __call__(self, output: Tensor) -> Tensor:
        """Take the output's scores (B,)."""
        return output[:, self.index]

    def __repr__(self) -> str:
        return f"output {self.index}"


class HeadLogit:
    """How far a head's logit of one class stands above that of all others.

    Of two classes it is the log-odds of the head's probability, so what adds to it adds to the probability.

    Parameters
    ----------
    head : MLPHead or Module
        Fitted; or embeddings (B, dim) to logits (B, classes), (B, 1) or (B,).
    label : int
        The class; 1 is abnormal. A single logit counts for class 1.

    Examples
    --------
    >>> HeadLogit(torch.nn.Identity())(torch.tensor([[1.0, 3.0]])).tolist()
    [2.0]
    """

    def __init__(self, head: Any, label: int = 1) -> None:
        module = getattr(head, "module", head)
        if not isinstance(module, torch.nn.Module):
            raise ValueError(
                f"head={type(head).__name__} has no network to differentiate; use an MLPHead, or explain similarities "
                "(CentroidSimilarity, NearestSimilarity, Difference)."
            )
        self.module, self.label = module, label
        classes = getattr(head, "classes_", None)
        known = None if classes is None else np.asarray(classes).tolist()
        if known is not None and label not in known:
            raise ValueError(
                f"label={label!r} is no class of the head; it knows {', '.join(map(repr, known))}."
            )
        self._index = label if known is None else known.index(label)

    def __call__(self, embeddings: Tensor) -> Tensor:
        """Score embeddings (B, dim), as (B,)."""
        weight = next(iter(self.module.parameters()), embeddings)
        logits: Tensor = self.module(embeddings.to(weight.device))  # the head stays where it is
        if logits.ndim == 1 or logits.shape[1] == 1:
            return logits.reshape(-1) * (1.0 if self.label == 1 else -1.0)
        others = [i for i in range(logits.shape[1]) if i != self._index]
        return logits[:, self._index] - logits[:, others].logsumexp(dim=1)

    def __repr__(self) -> str:
        return f"log-odds of label {self.label}"


class Similarity:
    """Cosine similarity to one embedding: what makes this image look like that one.

    Parameters
    ----------
    reference : array (dim,)
    name : str
        What the reference is, for titles.

    Examples
    --------
    >>> Similarity([1.0, 0.0])(torch.tensor([[2.0, 0.0], [0.0, 1.0]])).tolist()
    [1.0, 0.0]
    """

    def __init__(self, reference: ArrayLike | Tensor, name: str = "the reference") -> None:
        given = torch.as_tensor(reference, dtype=torch.float32).detach()
        if given.ndim > 1 and given.shape[0] != 1:
            raise ValueError(f"reference has shape {tuple(given.shape)}; give one embedding (dim,).")
        self.reference = given.reshape(1, -1)
        self.name = name
        if not torch.isfinite(self.reference).all() or not self.reference.any():
            raise ValueError("reference is zero or not finite; give one embedding (dim,).")

    def __call__(self, embeddings: Tensor) -> Tensor:
        """Score embeddings (B, dim), as (B,)."""
        if (
            embeddings.shape[-1] != self.reference.shape[1]
        ):  # one number would be compared with every dimension
            raise ValueError(
                f"reference has {self.reference.shape[1]} dimensions, and the model gives {embeddings.shape[-1]}; "
                "embed it with this model."
            )
        return F.cosine_similarity(embeddings, self.reference.to(embeddings), dim=1)

    def __repr__(self) -> str:
        return f"similarity to {self.name}"


class CentroidSimilarity(Similarity):
    """Cosine similarity to the mean of a class.

    Parameters
    ----------
    embeddings : array (n, dim)
    labels : array (n,)
    label : int
        The class.

    Examples
    --------
    >>> target = CentroidSimilarity([[1.0, 0.0], [0.0, 1.0]], [0, 1], label=1)
    >>> target(torch.tensor([[0.0, 5.0]])).tolist()
    [1.0]
    """

    def __init__(self, embeddings: ArrayLike, labels: ArrayLike, label: int = 1) -> None:
        super().__init__(_of_class(embeddings, labels, label).mean(0), f"the mean of label {label}")


class NearestSimilarity:
    """Mean cosine similarity to the k nearest cases of a class: the soft form of a k-NN vote.

    Parameters
    ----------
    embeddings : array (n, dim)
    labels : array (n,)
    label : int
        The class.
    k : int

    Examples
    --------
    >>> NearestSimilarity([[1.0, 0.0], [0.0, 1.0]], [1, 1], k=1)(torch.tensor([[0.0, 5.0]])).tolist()
    [1.0]
    """

    def __init__(self, embeddings: ArrayLike, labels: ArrayLike, label: int = 1, k: int = 5) -> None:
        self.cases = F.normalize(_of_class(embeddings, labels, label), dim=1)
        if k < 1:
            raise ValueError(f"k={k} must be at least 1.")
        self.k, self.label = min(k, len(self.cases)), label

    def __call__(self, embeddings: Tensor) -> Tensor:
        """Score embeddings (B, dim), as (B,)."""
        similar = F.normalize(embeddings, dim=1) @ self.cases.to(embeddings).T
        return similar.topk(self.k, dim=1).values.mean(dim=1)

    def __repr__(self) -> str:
        return f"similarity to the {self.k} nearest of label {self.label}"


class Difference:
    """One target minus another: what makes the image like the first and unlike the second.

    Parameters
    ----------
    first, second : Target

    Examples
    --------
    >>> Difference(Logit(1), Logit(0))(torch.tensor([[1.0, 4.0]])).tolist()
    [3.0]
    """

    def __init__(self, first: Target, second: Target) -> None:
        self.first, self.second = first, second

    def __call__(self, output: Tensor) -> Tensor:
        """Score outputs (B, dim), as (B,)."""
        return self.first(output) - self.second(output)

    def __repr__(self) -> str:
        return f"{self.first!r}, less {self.second!r}"


def _of_class(embeddings: ArrayLike, labels: ArrayLike | Sequence[int], label: int) -> Tensor:
    vectors = torch.as_tensor(embeddings, dtype=torch.float32).detach()
    known = np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels).reshape(-1)
    chosen = torch.from_numpy(np.asarray(known == label))
    if vectors.ndim != 2 or len(chosen) != len(vectors):
        raise ValueError(
            f"embeddings has shape {tuple(vectors.shape)} for {len(chosen)} labels; (n, dim) is needed."
        )
    if not chosen.any():
        raise ValueError(f"labels has no {label}; there is no such case to compare with.")
    if not torch.isfinite(vectors[chosen]).all():
        raise ValueError(
            f"embeddings holds NaN or infinity among the cases of label {label}; leave those out."
        )
    return vectors[chosen]
