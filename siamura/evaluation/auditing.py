"""Labels, images and patients that contradict their neighbours: what to look at again in a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.stats import norm

from siamura._validation import check_columns, check_filled, check_per_row, check_vectors, check_whole
from siamura.neighbours import Neighbours

from .near_duplicates import near_duplicates

__all__ = ["Audit", "audit", "audit_labels", "audit_patients"]

_K = (5, 10, 15, 25, 40, 60)
_SHOWN = 4  # neighbours that are named beside an image


@dataclass(frozen=True)
class Audit:
    """What `audit` found; rows are numbers of the table's rows.

    Attributes
    ----------
    labels : DataFrame
        Every labelled image, the least probable label first; of `audit_labels`.
    duplicates : DataFrame
        Pairs of images compared as pictures; of `siamura.evaluation.near_duplicates`.
    patients : DataFrame
        Patients that look like two, and pairs that look like one; of `audit_patients`.
    facts : dict
        What the lists rest on: ``labels``, ``duplicates``, ``patients``, each a dict.

    Examples
    --------
    >>> table = pd.DataFrame({"patient": ["a", "b", "c", "d"], "study": "s", "part": "p", "label": [0, 0, 1, 1]})
    >>> audit([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0], [1.0, 0.1]], table, k=1).facts["labels"]["patients"]
    4
    """

    labels: pd.DataFrame
    duplicates: pd.DataFrame
    patients: pd.DataFrame
    facts: dict[str, dict[str, Any]]


def audit(
    embeddings: ArrayLike,
    table: pd.DataFrame,
    read: Callable[[int], NDArray[np.uint8] | None] | None = None,
    *,
    k: int | None = None,
    seed: int = 0,
) -> Audit:
    """List labels that contradict their neighbourhood, near-duplicates, and patients that look like two or like one.

    Parameters
    ----------
    embeddings : array of shape (N, dim)
        Of a network that did not learn these labels by heart: a frozen one, or one that was trained on other patients.
    table : DataFrame
        ``patient``, ``label`` (codes; -1 for none), ``part`` and ``study``; ``split`` where there is one.
    read : callable, optional
        From a row's number to the image, uint8 (H, W), or None where it cannot be read; without it no pictures are
        compared.
    k : int, optional
        Neighbours that vote; see `audit_labels`.
    seed : int
        Of the pairs from which the threshold of near-duplicates is taken.

    Returns
    -------
    Audit

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> label = np.arange(200) % 2
    >>> table = pd.DataFrame({"patient": np.arange(200).astype(str), "study": "s", "part": "XR_HAND", "label": label})
    >>> vectors = np.eye(2)[label] + rng.normal(0, 0.1, (200, 2))
    >>> table.loc[7, "label"] = 0  # it was 1
    >>> found = audit(vectors, table)
    >>> found.labels[["row", "label", "suggested"]].iloc[0].tolist()
    [7, 0, 1]
    """
    check_filled(check_columns(table, ("patient", "label", "part", "study")), ("patient", "part", "study"))
    if len(table) != len(np.asarray(embeddings)):
        raise ValueError(
            f"embeddings has {len(np.asarray(embeddings))} rows and table {len(table)}; give one each."
        )
    labels, about = audit_labels(embeddings, table["label"], table["patient"], k=k)
    pairs, compared = pd.DataFrame(), dict[str, float]()
    if read is not None:
        pairs, compared = near_duplicates(embeddings, table, read, seed=seed)
    same = pairs[pairs["duplicate"]][["row", "other"]].to_numpy() if len(pairs) else None
    patients, measured = audit_patients(embeddings, table, same)
    return Audit(labels, pairs, patients, {"labels": about, "duplicates": compared, "patients": measured})


def audit_labels(
    embeddings: ArrayLike, labels: ArrayLike, patients: ArrayLike, *, k: int | None = None
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Rank images by how improbable their label is, given the labels of their neighbours of other patients.

    Of the k nearest images of other patients, a share votes for each class; the share is drawn towards the share that
    the class has among the images of all other patients, with the weight of one neighbour, so that no label is
    impossible. What is ranked is the probability of the given label, with the classes as frequent as they are: if a
    label was exchanged for another with one chance for every image, this is the order in which exchanged ones are found
    fastest. With ten normal images to one fracture it lists those called fractured before those called normal; of each
    class separately, `rank_in_class` says the order.

    Parameters
    ----------
    embeddings : array of shape (N, dim)
        Compared by their cosine, after their mean was taken away.
    labels : int, shape (N,)
        Codes; images with -1 neither vote nor are listed.
    patients : array of shape (N,)
    k : int, optional
        Neighbours that vote; by default the one of 5, 10, 15, 25, 40, 60 under which the given labels are most
        probable.

    Returns
    -------
    ranked : DataFrame
        ``row``, ``label``, ``suggested`` (the most probable), ``probability`` (of the given label), ``votes`` (how many
        of the k have the given label), ``rank_in_class``, ``neighbours`` (the rows of the nearest four).
    facts : dict
        ``k``, ``images``, ``patients``, ``log_loss``, and ``prior_log_loss`` of the classes' shares alone: where the
        first is not clearly lower, the embeddings know little of the labels, and neither does the list.

    Examples
    --------
    >>> vectors = [[0.0, 1.0], [0.1, 1.0], [0.2, 1.0], [1.0, 0.0], [1.0, 0.1], [1.0, 0.2]]
    >>> ranked, facts = audit_labels(vectors, [0, 0, 1, 1, 1, 1], ["a", "b", "c", "d", "e", "f"], k=2)
    >>> ranked[["row", "label", "suggested", "votes"]].iloc[0].tolist()
    [2, 1, 0, 0]
    """
    vectors = check_vectors("embeddings", embeddings, least=2)
    label = check_per_row("labels", labels, len(vectors))
    rows = np.flatnonzero(label >= 0)
    codes, label = np.unique(label[rows], return_inverse=True)
    own = pd.factorize(check_per_row("patients", patients, len(vectors))[rows])[0]
    if len(codes) < 2 or len(np.unique(own)) < 2:
        raise ValueError("labels: one class, or one patient; the vote of others needs two of each.")
    near = _nearest(vectors[rows], own, max(_K) if k is None else check_whole("k", k))
    votes = label[near]  # of missing ones (-1) any, struck out below
    one = np.eye(len(codes))
    total, mine = one[label].sum(axis=0), np.zeros((own.max() + 1, len(codes)))
    np.add.at(mine, own, one[label])
    prior = total - mine[own]
    prior /= prior.sum(axis=1, keepdims=True)

    def vote(k: int) -> NDArray[np.float64]:
        cast = (one[votes[:, :k]] * (near[:, :k, None] >= 0)).sum(axis=1)
        return np.asarray((cast + prior) / (cast.sum(axis=1, keepdims=True) + 1))

    def loss(probability: NDArray[np.float64]) -> float:
        given = probability[np.arange(len(label)), label]
        return float(-np.log(np.maximum(given, 1e-12)).mean())

    tried = [each for each in _K if each < len(label)] or [1]
    k = min(tried, key=lambda each: loss(vote(each))) if k is None else k
    probability = vote(k)
    given = probability[np.arange(len(label)), label]
    found = pd.DataFrame({
        "row": rows, "label": codes[label], "suggested": codes[probability.argmax(axis=1)], "probability": given,
        "votes": ((votes[:, :k] == label[:, None]) & (near[:, :k] >= 0)).sum(axis=1),
        "neighbours": [[int(rows[j]) for j in each if j >= 0] for each in near[:, :_SHOWN]],
    })  # fmt: skip
    found["rank_in_class"] = found.groupby("label")["probability"].rank(method="first").astype(int)
    facts = {
        "k": int(k), "images": len(rows), "patients": len(np.unique(own)), "log_loss": loss(probability),
        "prior_log_loss": loss(prior),
    }  # fmt: skip
    return found.sort_values("probability", kind="stable", ignore_index=True), facts


def audit_patients(
    embeddings: ArrayLike, table: pd.DataFrame, same: NDArray[np.int64] | None = None
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """List patients whose images are far apart, and pairs of patients whose images are near, within a body part.

    Two that look like one: each is the other's nearest patient, and much nearer than the second nearest. The score is
    the ratio of these distances (a patient's distance to another: the mean over her images of the distance to the
    nearest image of the other). One that looks like two: her studies (or images, of one study), parted at the widest
    gap, are farther apart than the nearest other patient. The logarithms of all patients' ratios have a median
    and a median absolute deviation; `unusual` are those beyond what one patient in all of them would reach by chance.

    Two views of one hand differ as much as two hands: both lists are weak evidence, meant to be looked through.

    Parameters
    ----------
    embeddings : array of shape (N, dim)
    table : DataFrame
        ``patient``, ``part``, ``study``.
    same : int (n, 2), optional
        Pairs of rows that are near-duplicates, which are listed as such; the first of each pair is left out here.

    Returns
    -------
    patients : DataFrame
        ``kind`` ("two like one", "one like two"), ``part``, ``patient``, ``other``, ``images``, ``ratio``, ``unusual``,
        ``rows`` (of the images to look at: two each); the most unusual first.
    facts : dict
        For each kind ``compared``, and the ``limit`` of the ratio.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> vectors = rng.normal(size=(20, 8)).repeat(2, axis=0) + 0.1 * rng.normal(size=(40, 8))
    >>> table = pd.DataFrame({"patient": np.arange(40) // 2, "study": "s", "part": "XR_HAND"})
    >>> table.loc[1, "patient"] = 99  # patient 0 under a second number
    >>> found, facts = audit_patients(vectors, table)
    >>> found["kind"][0], int(found["patient"][0]), int(found["other"][0]), bool(found["unusual"][0])
    ('two like one', 0, 99, True)
    """
    vectors = check_vectors("embeddings", embeddings, least=2)
    keep = np.ones(len(vectors), bool)
    if same is not None and len(same):
        keep[same[:, 0]] = False
    found: list[dict[str, Any]] = []
    for part in table["part"].unique():
        rows = np.flatnonzero((table["part"] == part).to_numpy() & keep)
        own, names = pd.factorize(table["patient"].to_numpy()[rows])
        if len(names) < 3:
            continue
        unit = _unit(vectors[rows])
        far, near = Neighbours(unit, own).search(unit, min(30, len(rows)), groups=own)
        members = [np.flatnonzero(own == code) for code in range(len(names))]
        best: list[tuple[int, float, int, int]] = []  # the nearest patient, the ratio, an image of each
        for images in members:
            among = {int(code) for code in own[near[images][near[images] >= 0]]}
            reach = np.where(near[images] >= 0, far[images], np.nan)
            least = {}
            for code in among:
                distance = np.where((own[near[images]] == code) & (near[images] >= 0), reach, np.nan)
                # An image that has none of hers among its 30 nearest: as far as the last of these.
                least[code] = float(
                    np.fmin(np.fmin.reduce(distance, axis=1), np.nanmax(reach, axis=1)).mean()
                )
            order = sorted(least, key=least.__getitem__)
            first = order[0]
            ratio = least[first] / max(least[order[1]], 1e-12) if len(order) > 1 else 1.0
            i, j = np.argwhere(own[near[images]] == first)[0]
            best.append((first, ratio, int(images[i]), int(near[images[i], j])))
        for code, (other, ratio, mine, theirs) in enumerate(best):
            if code < other and best[other][0] == code:
                found.append({"kind": "two like one", "part": part, "patient": names[code], "other": names[other],
                              "images": len(members[code]) + len(members[other]),
                              "ratio": float(np.sqrt(ratio * best[other][1])),
                              "rows": [int(rows[mine]), int(rows[theirs])]})  # fmt: skip
        study = pd.factorize(table["study"].to_numpy()[rows])[0]
        for code, images in enumerate(members):
            if len(images) > 1 and (split := _widest(unit[images], study[images])) is not None:
                gap, a, b = split
                ratio = gap / max(float(far[images, 0].mean()), 1e-12)
                found.append({"kind": "one like two", "part": part, "patient": names[code], "other": "",
                              "images": len(images), "ratio": ratio,
                              "rows": [int(rows[images[a]]), int(rows[images[b]])]})  # fmt: skip
    columns = ["kind", "part", "patient", "other", "images", "ratio", "unusual", "rows"]
    made, facts = pd.DataFrame(found, columns=columns), dict[str, Any]()
    made["unusual"] = False
    for kind, sign in (("two like one", -1.0), ("one like two", 1.0)):
        those = (made["kind"] == kind).to_numpy()
        ratio = sign * np.log(np.maximum(made.loc[those, "ratio"].to_numpy(np.float64), 1e-12))
        if len(ratio):
            middle = float(np.median(ratio))
            limit = middle + 1.4826 * float(np.median(np.abs(ratio - middle))) * norm.isf(
                1 / max(2, len(ratio))
            )
            made.loc[those, "unusual"] = ratio > limit
            made.loc[those, "_order"] = ratio - limit
            facts[kind] = {"compared": len(ratio), "limit": float(np.exp(sign * limit))}
    if len(made):
        made = made.sort_values("_order", ascending=False, ignore_index=True).drop(columns="_order")
    return made, facts


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    """Vectors of length 1 about their mean: what all images share tells nothing."""
    centred = vectors - vectors.mean(axis=0)
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12), np.float32)


def _nearest(vectors: NDArray[np.float64], own: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    unit = _unit(vectors)
    return Neighbours(unit, own).search(unit, min(k, len(unit)), groups=own)[1]


def _widest(unit: NDArray[np.float32], study: NDArray[np.int64]) -> tuple[float, int, int] | None:
    """The widest gap between two groups of images (their studies, or any where there is one study), and its ends."""
    far = np.linalg.norm(unit[:, None].astype(np.float64) - unit[None], axis=-1)
    if len(np.unique(study)) > 1:
        parts = [study == code for code in np.unique(study)]
    else:
        group = fcluster(linkage(unit, "single"), 2, "maxclust")
        parts = [group == 1]
    best: tuple[float, int, int] | None = None
    for inside in parts:
        if inside.all():
            continue
        a, b = np.flatnonzero(inside), np.flatnonzero(~inside)
        block = far[np.ix_(a, b)]
        i, j = np.unravel_index(block.argmin(), block.shape)
        if best is None or block[i, j] > best[0]:
            best = (float(block[i, j]), int(a[i]), int(b[j]))
    return best
