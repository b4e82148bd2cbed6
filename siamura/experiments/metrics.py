"""From embeddings to figures: both heads, both levels, both splits, in one nested dictionary."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pandas as pd
import torch

from siamura.evaluation import embedding_quality, evaluate
from siamura.heads import KNNHead, MLPHead
from siamura.samplers import PKBatchSampler

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    from pytorch_metric_learning.losses import BaseMetricLossFunction

    from siamura.heads.distance_limit import DistanceLimit
    from siamura.networks import EmbeddingNet

_log = logging.getLogger(__name__)

__all__ = [
    "by_group",
    "by_part",
    "embedding_loss",
    "fit_heads",
    "measure",
    "plain",
    "probabilities",
    "quality",
    "sources",
    "summary",
    "unlike_views",
]

LEVELS: tuple[Literal["view"], Literal["study"]] = ("view", "study")


def fit_heads(
    embeddings: npt.NDArray[np.float32],
    table: pd.DataFrame,
    *,
    neighbours: int,
    seed: int,
    net: EmbeddingNet | None = None,
    drawn: Mapping[int, int] | None = None,
) -> dict[str, KNNHead | MLPHead]:
    """Fit the k-NN and the MLP head on the training views; the MLP is the classifier of `net`, where it learnt one.

    `drawn` is how many images of each class the batches of that training held.
    """
    _log.info("fitting the heads, then measuring with intervals over patients")
    label, patient = table["label"].to_numpy(), table["patient"].to_numpy()
    knn = KNNHead(k=min(neighbours, len(table) - 1)).fit(embeddings, label, groups=patient)
    if net is not None and net.neck is not None:
        return {"knn": knn, "mlp": MLPHead.from_network(net, label, drawn=drawn)}
    return {"knn": knn, "mlp": MLPHead(random_state=seed).fit(embeddings, label, groups=patient)}


def sources(heads: Mapping[str, KNNHead | MLPHead]) -> dict[str, str]:
    """What each head was made from: of rows, or by the network itself, as an MLP is that learnt beside the embedding.

    Examples
    --------
    >>> sources({"mlp": MLPHead()})
    {'mlp': 'rows'}
    """
    return {name: getattr(head, "source_", "rows") for name, head in heads.items()}


def probabilities(
    heads: Mapping[str, KNNHead | MLPHead], embeddings: npt.NDArray[np.float32], table: pd.DataFrame
) -> dict[str, npt.NDArray[np.float64]]:
    """Probabilities by each head, float64: of two classes that of abnormal (N,), of more that of each (N, C).

    In the k-NN a patient's own images never vote.
    """
    found = {
        "knn": heads["knn"].predict_proba(embeddings, groups=table["patient"].to_numpy()),
        "mlp": heads["mlp"].predict_proba(embeddings),
    }
    return {name: p[:, 1] if p.shape[1] == 2 else p for name, p in found.items()}


def summary(frame: pd.DataFrame) -> dict[str, Any]:
    """One head's figures as plain values, their intervals under ``interval``, what they rest on beside them."""
    values: dict[str, Any] = {str(name): plain(value) for name, value in frame["value"].items()}
    bounds = frame[["low", "high"]].dropna()
    values["interval"] = {str(name): [float(row.low), float(row.high)] for name, row in bounds.iterrows()}
    for name in ("views", "studies", "patients", "draws", "degenerate"):
        if name in frame.attrs:
            values[name] = frame.attrs[name]
    return values


def unlike_views(
    limit: DistanceLimit,
    head: KNNHead,
    embeddings: npt.NDArray[np.float32],
    table: pd.DataFrame,
    odd: npt.NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """The views of a split that lie beyond the distance limit or are `odd` by their features, the farthest first."""
    distance = head.kneighbors(embeddings, k=limit.k)[0][:, -1]
    far = np.flatnonzero((distance > limit.limit) | (False if odd is None else odd))
    far = far[np.argsort(-distance[far], kind="stable")]
    rows = table.iloc[far][["path", "patient", "study"]].assign(distance=distance[far])
    return {
        "k": limit.k, "limit": limit.limit, "share": limit.share, "views": len(table), "number": len(far),
        "first": rows.head(_MOST_UNLIKE).to_dict("records"),
    }  # fmt: skip


_MOST_UNLIKE = 50  # rows that metrics.json and the report hold


def by_part(frame: pd.DataFrame) -> dict[str, Any]:
    """Figures of ``evaluate(..., by="part")``: over all parts, and of each under ``parts``."""
    found = {}
    for part, about in frame.attrs["each"].items():
        own = cast("pd.DataFrame", frame.loc[part])
        own.attrs = about  # else each part would rest on all patients
        found[part] = summary(own)
    return {**found.pop("all"), "parts": found}


def measure(
    table: pd.DataFrame,
    by_head: Mapping[str, npt.NDArray[np.float64]],
    *,
    classes: Sequence[str],
    ordered: bool,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Figures of one split: ``{level: {head: {metric: value}}}``, with 95 % intervals over patients.

    Where there are several parts, a head also has those of each under ``parts``.
    """
    several = table["part"].nunique() > 1
    found: dict[str, dict[str, Any]] = {}
    for level in LEVELS:
        found[level] = {}
        for head, probability in by_head.items():
            frame = evaluate(
                table, probability, level=level, by="part" if several else None, classes=classes,
                ordered=ordered, seed=seed,
            )  # fmt: skip
            found[level][head] = by_part(frame) if several else summary(frame)
    return found


#: Columns by which a run is scored apart, where they are there: how an image was made, and whose it is.
GROUPS = (
    "region", "hardware", "view", "laterality", "sex", "site", "hospital", "scanner", "manufacturer", "modality",
)  # fmt: skip


def by_group(
    table: pd.DataFrame,
    by_head: Mapping[str, npt.NDArray[np.float64]],
    *,
    classes: Sequence[str],
    ordered: bool,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Figures per study by the values of each column of `GROUPS` that has several.

    Returns
    -------
    dict
        ``{column: {"heads": {head: {value: scores}}, "small": {value: sentence}, "missing": views}}``; a study whose
        views have several values counts once in each.
    """
    found: dict[str, dict[str, Any]] = {}
    for column in GROUPS:
        if column not in table or not 2 <= table[column].nunique() <= _MOST_GROUPS:
            continue
        rows = table.assign(**{column: table[column].map(_as_text, na_action="ignore")})
        heads: dict[str, Any] = {}
        for head, probability in by_head.items():
            frame = evaluate(
                rows, probability, level="study", by=column, classes=classes, ordered=ordered, seed=seed
            )
            small = frame.attrs["small"]
            scores = by_part(frame)
            heads[head] = scores["parts"]
        found[column] = {"heads": heads, "small": dict(small), "missing": int(rows[column].isna().sum())}
    return found


_MOST_GROUPS = 12


def _as_text(value: Any) -> str:
    """A value as a person reads it: 1.0 is 1."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def quality(embeddings: npt.NDArray[np.float32], table: pd.DataFrame, *, seed: int) -> dict[str, Any]:
    """Retrieval, spread and distances of an embedding, a query's own patient left out."""
    return summary(embedding_quality(embeddings, table["label"], table["patient"], seed=seed))


def embedding_loss(
    loss: BaseMetricLossFunction,
    embeddings: npt.NDArray[np.float32],
    table: pd.DataFrame,
    *,
    p: int,
    k: int,
    seed: int,
    batches: int = 50,
) -> float | None:
    """Mean training loss over PK batches of finished embeddings; None where the split has too few views of a label."""
    label = table["label"].to_numpy()
    _, views = np.unique(label, return_counts=True)
    if len(views) < p or (k := min(k, int(np.sort(views)[-p:].min()))) < 2:
        return None
    keep = np.isin(label, np.unique(label)[views >= k])  # of more labels than p, those with enough views
    label, table, embeddings = label[keep], table[keep], embeddings[keep]
    sampler = PKBatchSampler(label, p=p, k=k, groups=table["patient"].to_numpy(), seed=seed)
    vectors, labels = torch.tensor(embeddings), torch.tensor(label)
    with torch.no_grad():
        values = [
            float(loss(vectors[batch], labels[batch]))
            for batch, _ in zip(sampler, range(batches), strict=False)
        ]
    return plain(np.mean(values))


def plain(value: Any) -> float | None:
    """A number as JSON keeps it: None for what is undefined."""
    number = float(value)
    return number if math.isfinite(number) else None
