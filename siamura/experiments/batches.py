"""The batches of an experiment: what one stays within, and how many images of each class it holds."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from siamura.samplers import PKBatchSampler

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from .settings import Experiment

__all__ = ["batch_domains", "draw_batches", "drawn_classes", "images_of_each"]

_log = logging.getLogger(__name__)


def draw_batches(experiment: Experiment, table: pd.DataFrame) -> PKBatchSampler:
    """Make the sampler of an experiment for the views that its network trains on.

    Parameters
    ----------
    experiment : Experiment
    table : DataFrame
        Of these views: part, patient and label.

    Returns
    -------
    PKBatchSampler
        P labels and K images of each, or by ``class_balance`` more of a frequent class, within one part where every
        part has enough of each label.

    Raises
    ------
    ValueError
        If a class has too few views for a batch.

    Examples
    --------
    >>> import pandas as pd
    >>> from siamura.experiments import Experiment
    >>> table = pd.DataFrame({"label": [0, 0, 0, 0, 1, 1], "patient": list("abcdef"), "part": "XR_HAND"})
    >>> draw_batches(Experiment(k=2), table).k
    2
    """
    label = table["label"].to_numpy()
    domains, short = _domains(table, experiment.p, experiment.k)
    if short:
        _log.warning(
            "batches mix the parts: %s has fewer than %d views of a label, too few for batches of its own",
            ", ".join(short), experiment.k,
        )  # fmt: skip
    k, asked = _images(experiment, label, domains)
    if asked is not None:
        _log.warning(
            "each class has %d images in a batch: some part has fewer than the %s that the classes' shares ask for",
            experiment.k, ", ".join(map(str, asked.values())),
        )  # fmt: skip
    return PKBatchSampler(
        label, p=experiment.p, k=k, groups=table["patient"].to_numpy(), seed=experiment.seed, within=domains
    )


def drawn_classes(experiment: Experiment, table: pd.DataFrame) -> dict[int, int]:
    """Count the images of each class in the batches that `draw_batches` draws of these views."""
    label = table["label"].to_numpy()
    k = images_of_each(experiment, label, batch_domains(table, p=experiment.p, k=experiment.k))
    return k if isinstance(k, dict) else dict.fromkeys(np.unique(label).tolist(), k)


def images_of_each(
    experiment: Experiment, labels: npt.NDArray[np.int64], domains: npt.NDArray[Any] | None = None
) -> int | dict[int, int]:
    """Count the images of each class in a batch of P times K, by the experiment's ``class_balance``.

    Parameters
    ----------
    experiment : Experiment
    labels : int64 (N,)
        Of the views that the network trains on.
    domains : array (N,), optional
        What a batch stays within; each has to hold the images of a batch.

    Returns
    -------
    int or dict of int to int
        K, where the classes are alike; else the number of each class, at least 2, P times K in all.

    Raises
    ------
    ValueError
        If the setting asks for other numbers than K and the batch does not hold every class.

    Examples
    --------
    >>> from siamura.experiments import Experiment
    >>> labels = np.repeat([0, 1], [82, 18])
    >>> for balance in (0.0, 0.25, 1.0):
    ...     images_of_each(Experiment(class_balance=balance), labels)
    {0: 26, 1: 6}
    {0: 24, 1: 8}
    16
    """
    return _images(experiment, labels, domains)[0]


def _images(
    experiment: Experiment, labels: npt.NDArray[np.int64], domains: npt.NDArray[Any] | None
) -> tuple[int | dict[int, int], dict[int, int] | None]:
    """Count the images of each class; give too the numbers asked for, where some part cannot hold them."""
    balance, size = experiment.recipe()["class_balance"], experiment.p * experiment.k
    codes, counts = np.unique(labels, return_counts=True)
    if balance == 1:
        return experiment.k, None
    if len(codes) != experiment.p:
        if experiment.class_balance is None:
            return experiment.k, None
        raise ValueError(
            f"class_balance={balance}: only a batch that holds every class can hold more of one; the data have "
            f"{len(codes)} classes and p={experiment.p}. Give p={len(codes)}, or leave class_balance out."
        )
    wanted = size * (balance / len(codes) + (1 - balance) * counts / len(labels))
    count = np.maximum(np.floor(wanted).astype(np.int64), 2)
    while (missing := size - int(count.sum())) != 0:
        # One at a time: to the class that lacks most, or from the one that has most too many and can spare it.
        lack = wanted - count
        at = int(np.argmax(lack)) if missing > 0 else int(np.argmin(np.where(count > 2, lack, np.inf)))
        count[at] += np.sign(missing)
    found = {int(code): int(number) for code, number in zip(codes, count, strict=True)}
    parts = [labels] if domains is None else [labels[domains == name] for name in np.unique(domains)]
    if any((part == code).sum() < number for part in parts for code, number in found.items()):
        return experiment.k, found
    return found, None


def batch_domains(table: pd.DataFrame, *, p: int, k: int) -> npt.NDArray[np.str_] | None:
    """Give what a batch stays within: the part, where there are several and each has enough images of `p` labels.

    Returns
    -------
    array of str (N,), or None
        None where there is one part, or where a part lacks the labels for a batch of its own.
    """
    return _domains(table, p, k)[0]


def _domains(table: pd.DataFrame, p: int, k: int) -> tuple[npt.NDArray[np.str_] | None, list[str]]:
    """Give what a batch stays within, and the parts that have too few images for batches of their own."""
    if table["part"].nunique() < 2:
        return None, []
    views = table.groupby(["part", "label"]).size()
    labels = views[views >= k].groupby("part").size().reindex(table["part"].unique(), fill_value=0)
    short = sorted(set(views[views < k].index.get_level_values("part")) | set(labels[labels < p].index))
    return (None, short) if short else (table["part"].to_numpy(dtype=np.str_), [])
