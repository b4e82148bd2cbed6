"""A small network on embeddings, trained by torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors.torch import save_file
from sklearn.utils import check_random_state, compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from siamura._arrays import load_tensors
from siamura._files import atomic_path
from siamura._validation import check_choice, check_flag, check_number, check_whole

from ._base import Head, plain
from ._keys import as_keys
from ._module import BestWeights, Standardise, network, seeded, set_aside, state_shapes


class MLPHead(Head):
    """Probability of each class from a small fully connected network.

    Trained with cross-entropy and AdamW. With early stopping some patients are set aside; training ends when
    their loss has not improved for `patience` epochs, and the best weights are kept.

    Parameters
    ----------
    hidden : sequence of int
        Width of each hidden layer; empty for logistic regression.
    dropout : float
        Share of hidden units dropped while training, in [0, 1).
    lr, weight_decay : float
        Of AdamW.
    epochs : int
        At most so many passes over the rows.
    batch_size : int
        Rows a step.
    class_weight : None, "balanced", or dict of class to float
        Weight of each class in the loss. "balanced": as if all classes were equally frequent.
    early_stopping : bool
        Set `validation_fraction` of the patients (of the rows, without groups) aside and stop by their loss.
        Where a class would be missing on either side, training runs on all rows for all epochs.
    validation_fraction : float
        In (0, 1).
    patience : int
        Epochs without improvement before stopping.
    device : str
        A torch device: "cpu", "cuda", "cuda:1", or "auto".
    random_state : int, RandomState or None
        An integer gives the same network on the same machine every time.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    module_ : torch.nn.Module
        Embeddings (N, dim) to logits (N, n_classes), in evaluation mode, differentiable; also as `module`.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    validation_loss_curve_ : list of float
        Loss of the rows set aside after each epoch; empty without them.
    best_epoch_ : int
        The epoch whose weights are kept, counted from 1.
    source_ : {"rows", "network"}
        What it was made from: `fit`, or `from_network`.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 4))
    >>> y = np.where(X[:, 0] > 0, "abnormal", "normal")
    >>> head = MLPHead(hidden=(16,), epochs=60, lr=1e-2).fit(X, y)
    >>> bool(head.score(X, y) > 0.9)
    True
    >>> import torch
    >>> emb = torch.zeros(1, 4, requires_grad=True)
    >>> head.module(emb)[0, 0].backward()  # an explanation passes through it
    >>> emb.grad.shape
    torch.Size([1, 4])
    """

    def __init__(
        self,
        hidden: Sequence[int] = (64,),
        *,
        dropout: float = 0.1,
        lr: float = 3e-3,
        weight_decay: float = 1e-3,
        epochs: int = 200,
        batch_size: int = 128,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        early_stopping: bool = True,
        validation_fraction: float = 0.15,
        patience: int = 15,
        device: str = "cpu",
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.hidden = hidden
        self.dropout = dropout
        self.lr = lr
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.batch_size = batch_size
        self.class_weight = class_weight
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.device = device
        self.random_state = random_state

    @property
    def module(self) -> nn.Sequential:
        """The fitted network: embeddings (N, dim) to logits (N, n_classes)."""
        check_is_fitted(self, "module_")
        fitted: nn.Sequential = self.module_
        return fitted

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Train the network.

        Parameters
        ----------
        X : array of shape (N, dim), float
        y : array of shape (N,)
        groups : array of shape (N,), optional
            The patient of each row: the rows set aside for early stopping are then of other patients.

        Returns
        -------
        MLPHead
            Itself.

        Raises
        ------
        ValueError
            Where a setting is out of its range, or training left no finite weights.
        """
        self._check_settings()
        rows, labels = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        self.source_ = "rows"
        keys = None if groups is None else as_keys(groups, len(rows), "groups")
        random = check_random_state(self.random_state)
        aside = set_aside(codes, keys, self.validation_fraction, random) if self.early_stopping else None
        weight = compute_class_weight(self.class_weight, classes=self.classes_, y=labels)
        device = self._torch_device()
        with seeded(int(random.randint(2**31 - 1)), device):
            self._train(rows, codes, aside, weight, device)
        return self

    @classmethod
    def from_network(
        cls,
        net: Any,
        labels: ArrayLike,
        *,
        balanced: bool = True,
        drawn: Mapping[int, int] | None = None,
    ) -> Self:
        """Take the classifier that a network learnt beside its embedding, as a head without hidden layers.

        Parameters
        ----------
        net : EmbeddingNet
            Trained by ``fit(..., classify=...)``.
        labels : array of shape (N,), int
            Codes 0 to C - 1 of the training rows: how frequent the classes are.
        balanced : bool
            Whether training drew as many images of each class, as `PKBatchSampler` does. The logits then get the
            logarithm of each class's share added (Saerens et al., "Adjusting the outputs of a classifier to new a
            priori probabilities", 2002), so that the probabilities are those of classes as frequent as in `labels`.
        drawn : mapping of int to int, optional
            How many images of each class a batch held, where it was not as many of each (``k`` of `PKBatchSampler`):
            the logits get the logarithm of the ratio of both shares.

        Returns
        -------
        MLPHead

        Raises
        ------
        ValueError
            If the network has no classifier, or a label is none of its classes; if `drawn` lacks a class of `labels`,
            or is given with ``balanced=False``.

        Examples
        --------
        >>> import numpy as np
        >>> from siamura.networks import EmbeddingNet
        >>> net = EmbeddingNet("squeezenet1_1", dim=4, classes=2)
        >>> head = MLPHead.from_network(net, [0, 0, 0, 1])
        >>> even = MLPHead.from_network(net, [0, 0, 0, 1], balanced=False).predict_proba(np.eye(4))
        >>> odds = head.predict_proba(np.eye(4))[:, 1] / head.predict_proba(np.eye(4))[:, 0]
        >>> np.allclose(odds, even[:, 1] / even[:, 0] / 3)
        True
        """
        neck = getattr(net, "neck", None)
        if neck is None:
            raise ValueError(f"{type(net).__name__} has no classifier; train it by fit(..., classify=1.0).")
        codes, classes = np.asarray(labels), int(neck.dense.out_features)
        if (
            codes.ndim != 1
            or codes.dtype.kind not in "iu"
            or not len(codes)
            or not (0 <= codes.min() <= codes.max() < classes)
        ):
            raise ValueError(
                f"labels holds {np.unique(codes)[:5]}; give the codes of the training rows, 0 to {classes - 1}."
            )
        there, count = np.unique(codes, return_counts=True)
        if drawn is not None:
            if not balanced:
                raise ValueError(
                    "drawn is given, and balanced=False leaves the classifier as it learnt; give one."
                )
            for code in there.tolist():
                check_whole(f"drawn[{code}]", drawn.get(code))
        mean, scale, weight, bias = (values.detach().cpu() for values in neck.affine())
        head = cls(hidden=(), early_stopping=False)
        head.classes_ = there
        head.n_features_in_ = len(mean)
        with seeded(0, torch.device("cpu")):
            module = network(len(mean), (), len(there), head.dropout)
        weight, bias = weight[there], bias[there]
        if balanced:
            seen = np.array([1 if drawn is None else drawn[code] for code in there.tolist()])
            bias = bias + torch.from_numpy(np.log(count / len(codes) * seen.sum() / seen)).to(bias)
        module.load_state_dict({"0.mean": mean, "0.scale": scale, "1.weight": weight, "1.bias": bias})
        head.module_ = module.eval().requires_grad_(False)
        head.loss_curve_, head.validation_loss_curve_, head.best_epoch_ = [], [], 0
        head.source_ = "network"
        return head

    def _check_settings(self) -> None:
        if np.ndim(self.hidden) != 1:
            raise ValueError(f"hidden={self.hidden!r} must hold one width a layer, as in (64,).")
        for width in self.hidden:
            check_whole("a width of hidden", width)
        check_number("dropout", self.dropout, least=0, below=1)
        check_number("validation_fraction", self.validation_fraction, above=0, below=1)
        for name in ("epochs", "batch_size", "patience"):
            check_whole(name, getattr(self, name))
        if not isinstance(self.class_weight, Mapping | str | None):
            raise ValueError(
                f"class_weight={self.class_weight!r} must be None, 'balanced' or a mapping of class to number."
            )
        check_flag("early_stopping", self.early_stopping)
        check_number("lr", self.lr, above=0)
        check_number("weight_decay", self.weight_decay, least=0)

    def _torch_device(self) -> torch.device:
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
            torch.zeros(1, device=device).cpu()
        except (RuntimeError, AssertionError, TypeError) as error:  # each kind of device has its own
            raise ValueError(
                f"device={self.device!r} cannot be used ({str(error).splitlines()[0]:.120}); give 'cpu', 'auto', or a "
                "device of torch that this machine has, such as 'cuda'."
            ) from error
        return device

    def _train(
        self,
        rows: NDArray[np.float64],
        codes: NDArray[Any],
        aside: NDArray[np.bool_] | None,
        weight: NDArray[np.float64],
        device: torch.device,
    ) -> None:
        module = network(rows.shape[1], self.hidden, len(self.classes_), self.dropout)
        training = slice(None) if aside is None else ~aside
        standardise = module[0]
        assert isinstance(standardise, Standardise)
        standardise.of(rows[training])
        module.to(device)
        x = torch.from_numpy(rows[training]).float().to(device)
        y = torch.from_numpy(codes[training]).long().to(device)
        held = None
        if aside is not None:
            held = (
                torch.from_numpy(rows[aside]).float().to(device),
                torch.from_numpy(codes[aside]).long().to(device),
            )
        loss = nn.CrossEntropyLoss(torch.from_numpy(weight).float().to(device))
        optimiser = torch.optim.AdamW(module.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        self.loss_curve_: list[float] = []
        self.validation_loss_curve_: list[float] = []
        self.best_epoch_ = 0
        best = BestWeights(module, self.patience)
        for epoch in range(1, self.epochs + 1):
            module.train()
            total = torch.zeros((), device=device)
            for batch in torch.split(torch.randperm(len(x)).to(device), int(self.batch_size)):
                value = loss(module(x[batch]), y[batch])
                optimiser.zero_grad(set_to_none=True)
                value.backward()
                optimiser.step()
                total += value.detach() * len(batch)
            self.loss_curve_.append(float(total) / len(x))
            if held is None:
                self.best_epoch_ = epoch
                continue
            module.eval()
            with torch.no_grad():
                self.validation_loss_curve_.append(float(loss(module(held[0]), held[1])))
            stop = best.done(self.validation_loss_curve_[-1])
            self.best_epoch_ = best.epoch
            if stop:
                break
        best.restore()
        if not all(bool(torch.isfinite(weight).all()) for weight in module.parameters()):
            raise ValueError(
                f"the weights are not finite after training with lr={self.lr!r}; give a smaller lr"
            )
        self.module_ = module.cpu().eval().requires_grad_(False)

    def predict_proba(self, X: ArrayLike, groups: ArrayLike | None = None) -> NDArray[np.float64]:
        """Softmax of the logits.

        Parameters
        ----------
        X : array of shape (N, dim), float
        groups : array of shape (N,), optional
            Taken so that both heads are called alike; a network holds no patient's rows, so nothing changes.

        Returns
        -------
        ndarray of shape (N, n_classes), float64
            Rows sum to 1.
        """
        check_is_fitted(self, "module_")
        rows = validate_data(self, X, dtype=np.float64, reset=False)
        # In float64 a row's answer does not depend on the rows beside it.
        double = deepcopy(self.module_).double()
        with torch.no_grad():
            return np.asarray(double(torch.from_numpy(rows)).softmax(dim=1).numpy())

    def _write(self, folder: Path) -> dict[str, Any]:
        settings = {name: plain(value) for name, value in self.get_params().items()}
        settings["hidden"] = [int(width) for width in self.hidden]
        if not isinstance(settings["random_state"], int):
            settings["random_state"] = None
        if isinstance(settings["class_weight"], dict):
            pairs = settings["class_weight"].items()
            settings["class_weight"] = [[plain(key), float(value)] for key, value in pairs]
        with atomic_path(folder / "head.safetensors") as beside:
            save_file(self.module_.state_dict(), beside)
        return {
            "settings": settings,
            "features": self.n_features_in_,
            "classes": as_keys(self.classes_, len(self.classes_), "classes").tolist(),
            "loss_curve": self.loss_curve_,
            "validation_loss_curve": self.validation_loss_curve_,
            "best_epoch": self.best_epoch_,
            "source": self.source_,
        }

    def _read(self, folder: Path, header: dict[str, Any]) -> None:
        self.hidden = tuple(self.hidden)
        pairs: Any = self.class_weight
        if isinstance(pairs, list):
            self.class_weight = dict(pairs)
        self._check_settings()
        self.classes_ = np.asarray(header["classes"])
        if self.classes_.ndim != 1 or len(self.classes_) < 1 or self.classes_.dtype.kind not in "biufU":
            raise ValueError(f"{folder / 'head.json'} holds no list of classes; save the head anew")
        self.n_features_in_ = check_whole("features", header["features"])
        self.loss_curve_ = [float(value) for value in header["loss_curve"]]
        self.validation_loss_curve_ = [float(value) for value in header["validation_loss_curve"]]
        self.best_epoch_ = check_whole("best_epoch", header["best_epoch"], least=0)
        self.source_ = check_choice("source", header.get("source", "rows"), ("rows", "network"))
        shapes = state_shapes(self.n_features_in_, self.hidden, len(self.classes_))
        state = load_tensors(folder / "head.safetensors", shapes)
        if (state["0.scale"] <= 0).any():
            raise ValueError(f"{folder / 'head.safetensors'}: a scale is not above 0; save the head anew")
        with seeded(0, torch.device("cpu")):  # drawing the weights that are replaced must not be noticed
            module = network(self.n_features_in_, self.hidden, len(self.classes_), self.dropout)
        module.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
        self.module_ = module.eval().requires_grad_(False)
