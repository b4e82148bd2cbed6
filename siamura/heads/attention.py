"""From the views' embeddings to the study's probability: attention over the views, fitted on train."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors.torch import save_file
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import nn

from siamura._arrays import load_tensors
from siamura._files import atomic_path
from siamura._validation import check_columns, check_filled, check_number, check_vectors, check_whole

from ._base import StoredHead, plain
from ._keys import as_keys
from ._module import BestWeights, GatedAttention, seeded, set_aside

__all__ = ["StudyAttention"]

_STUDY = ("part", "patient", "study")


class StudyAttention(StoredHead):
    """Probability of each class of a study from the embeddings of its views, weighted by gated attention.

    A study has the label of its abnormal view, and the others of its views may look normal: their mean dilutes what
    one view shows. Here a small network gives each view a weight, the weights of a study sum to 1, and a linear layer
    answers on the weighted mean of the embeddings. It begins as their plain mean, and learns on studies.

    Parameters
    ----------
    hidden : int
        Width of the attention network.
    lr, weight_decay : float
        Of AdamW, which sees all studies in each step.
    epochs : int
        At most so many steps.
    validation_fraction : float
        Share of the training patients that are set aside, by whose loss training stops, in (0, 1). Where a class would
        be missing on either side, training takes all patients and all epochs.
    patience : int
        Epochs without improvement before stopping.
    random_state : int
        The same gives the same network on the same machine.

    Attributes
    ----------
    classes_ : int64 (n_classes,)
        Codes of the studies' labels.
    n_features_in_ : int
        Dimensions of an embedding.
    best_epoch_ : int
        The epoch whose weights are kept, counted from 1.

    References
    ----------
    Ilse, Tomczak and Welling, "Attention-based deep multiple instance learning", ICML 2018, equation 9 (gated
    attention).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> table = pd.DataFrame({"part": "XR_HAND", "patient": np.repeat(np.arange(60), 3), "study": "study1"})
    >>> table["label"] = table["patient"] % 2
    >>> embeddings = rng.normal(size=(180, 4))
    >>> embeddings[::3] += 4 * table["label"].to_numpy()[::3, None]  # one view of three shows it
    >>> head = StudyAttention(epochs=300).fit(embeddings[:120], table[:120])
    >>> share = head.predict_proba(embeddings[120:], table[120:])
    >>> share.shape, bool((share.argmax(axis=1) == np.arange(40, 60) % 2).mean() > 0.9)
    ((20, 2), True)
    """

    def __init__(
        self,
        hidden: int = 16,
        *,
        lr: float = 1e-2,
        weight_decay: float = 1e-2,
        epochs: int = 300,
        validation_fraction: float = 0.2,
        patience: int = 30,
        random_state: int = 0,
    ) -> None:
        self.hidden = hidden
        self.lr = lr
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state

    def fit(self, embeddings: ArrayLike, table: pd.DataFrame) -> Self:
        """Learn the weights of views, and the answer, on the studies of a table.

        Parameters
        ----------
        embeddings : array of shape (N, dim), float
            Of the views, by a network that stays as it is.
        table : DataFrame
            Their rows: columns ``part``, ``patient``, ``study``, ``label`` (whole numbers). A study has the largest
            label of its views.

        Returns
        -------
        StudyAttention
            Itself.

        Raises
        ------
        ValueError
            If a setting, a value or a column is wrong, there is one label alone, or the views of a study have several
            of three labels or more that have no order.
        """
        self._check_settings()
        rows, code = _views(embeddings, table)
        label, patient = _of_studies(table, code)
        self.classes_, target = np.unique(label, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"table['label'] is {label[0]} alone; at least two classes are needed to learn.")
        self.n_features_in_ = rows.shape[1]
        keys = as_keys(patient, len(patient), "table['patient']")
        random = check_random_state(self.random_state)
        aside = set_aside(target, keys, self.validation_fraction, random)
        with seeded(int(random.randint(2**31 - 1)), torch.device("cpu")):
            self._train(rows, code, target, aside)
        return self

    def predict_proba(self, embeddings: ArrayLike, table: pd.DataFrame) -> NDArray[np.float64]:
        """Probability of each class, one row a study.

        Parameters
        ----------
        embeddings : array of shape (N, dim), float
        table : DataFrame
            Columns ``part``, ``patient``, ``study``; patients and studies need not be those of `fit`.

        Returns
        -------
        ndarray of shape (S, n_classes), float64
            Studies in order of their first view, as `siamura.evaluation.aggregate` has them; rows sum to 1.
        """
        rows, code = self._asked(embeddings, table)
        with torch.no_grad():
            logits = deepcopy(self.module_).double()(torch.from_numpy(rows), torch.from_numpy(code))
        return np.asarray(logits.softmax(dim=1).numpy())

    def attention(self, embeddings: ArrayLike, table: pd.DataFrame) -> NDArray[np.float64]:
        """Weight of each view within its study, float64 (N,): above 0, and of each study the sum is 1.

        Parameters
        ----------
        embeddings, table
            As for `predict_proba`.
        """
        rows, code = self._asked(embeddings, table)
        with torch.no_grad():
            module = deepcopy(self.module_).double()
            found = module.weights(module.standardise(torch.from_numpy(rows)), torch.from_numpy(code))
        return np.asarray(found.numpy())

    def _asked(
        self, embeddings: ArrayLike, table: pd.DataFrame
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        check_is_fitted(self, "module_")
        rows, code = _views(embeddings, table)
        if rows.shape[1] != self.n_features_in_:
            raise ValueError(
                f"embeddings have {rows.shape[1]} dimensions, those of fit had {self.n_features_in_}; give embeddings "
                "of the same network."
            )
        return rows, code

    def _check_settings(self) -> None:
        for name in ("hidden", "epochs", "patience"):
            check_whole(name, getattr(self, name))
        check_whole("random_state", self.random_state, least=0, most=2**32 - 1)
        check_number("lr", self.lr, above=0)
        check_number("weight_decay", self.weight_decay, least=0)
        check_number("validation_fraction", self.validation_fraction, above=0, below=1)

    def _train(
        self,
        rows: NDArray[np.float64],
        code: NDArray[np.int64],
        target: NDArray[np.int64],
        aside: NDArray[np.bool_] | None,
    ) -> None:
        studies = np.ones(len(target), dtype=bool) if aside is None else ~aside
        views = studies[code]
        module = GatedAttention(rows.shape[1], self.hidden, len(self.classes_))
        module.standardise.of(rows[views])
        optimiser = torch.optim.AdamW(module.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        learn, held = _batch(rows, code, target, studies), None
        if aside is not None:
            held = _batch(rows, code, target, aside)
        best = BestWeights(module, self.patience)
        loss = nn.CrossEntropyLoss()
        for _ in range(self.epochs):
            value = loss(module(*learn[:2]), learn[2])
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            optimiser.step()
            if held is not None:
                with torch.no_grad():
                    if best.done(float(loss(module(*held[:2]), held[2]))):
                        break
        best.restore()
        self.best_epoch_ = best.epoch or self.epochs
        if not all(bool(torch.isfinite(weight).all()) for weight in module.parameters()):
            raise ValueError(
                f"the weights are not finite after training with lr={self.lr!r}; give a smaller lr."
            )
        self.module_ = module.eval().requires_grad_(False)

    def _write(self, folder: Path) -> dict[str, Any]:
        with atomic_path(folder / "head.safetensors") as beside:
            save_file(self.module_.state_dict(), beside)
        return {
            "settings": {name: plain(value) for name, value in self.get_params().items()},
            "features": self.n_features_in_,
            "classes": self.classes_.tolist(),
            "best_epoch": self.best_epoch_,
        }

    def _read(self, folder: Path, header: dict[str, Any]) -> None:
        self._check_settings()
        self.classes_ = np.asarray(header["classes"])
        if self.classes_.ndim != 1 or len(self.classes_) < 2 or self.classes_.dtype.kind not in "iu":
            raise ValueError(f"{folder / 'head.json'} holds no list of classes; save the head anew")
        self.n_features_in_ = check_whole("features", header["features"])
        self.best_epoch_ = check_whole("best_epoch", header["best_epoch"])
        with seeded(0, torch.device("cpu")):  # drawing the weights that are replaced must not be noticed
            with torch.device("meta"):
                shapes = GatedAttention(self.n_features_in_, self.hidden, len(self.classes_)).state_dict()
            state = load_tensors(
                folder / "head.safetensors", {name: tuple(value.shape) for name, value in shapes.items()}
            )
            if (state["standardise.scale"] <= 0).any():
                raise ValueError(f"{folder / 'head.safetensors'}: a scale is not above 0; save the head anew")
            module = GatedAttention(self.n_features_in_, self.hidden, len(self.classes_))
        module.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
        self.module_ = module.eval().requires_grad_(False)


def _views(embeddings: ArrayLike, table: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Check views, and give each its study, numbered in order of their first view."""
    rows = check_vectors("embeddings", embeddings)
    check_filled(check_columns(table, _STUDY), _STUDY)
    if len(table) != len(rows):
        raise ValueError(f"table has {len(table)} rows for {len(rows)} embeddings; give one row a view.")
    return rows, table.groupby(list(_STUDY), sort=False).ngroup().to_numpy().astype(np.int64)


def _of_studies(table: pd.DataFrame, code: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Label and patient of each study."""
    check_columns(table, ("label",))
    label = table["label"].to_numpy()
    if label.dtype.kind not in "iub":
        raise ValueError(
            f"table['label'] holds {label.dtype}; labels must be whole numbers, the codes of the classes."
        )
    grouped = pd.Series(label.astype(np.int64)).groupby(code)
    least, most = (np.asarray(found, np.int64) for found in (grouped.min(), grouped.max()))
    if len(np.unique(label)) > 2 and not table.attrs.get("ordered") and (least != most).any():
        raise ValueError(
            f"{int((least != most).sum())} studies have views of several labels that have no order; give every view "
            "its study's label."
        )
    first = np.unique(code, return_index=True)[1]
    return most, table["patient"].to_numpy()[first]


def _batch(
    rows: NDArray[np.float64], code: NDArray[np.int64], target: NDArray[np.int64], some: NDArray[np.bool_]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Views of some studies, these numbered anew, and their targets."""
    views = some[code]
    number = np.cumsum(some) - 1
    return (
        torch.from_numpy(rows[views]).float(),
        torch.from_numpy(number[code[views]]),
        torch.from_numpy(target[some]).long(),
    )
