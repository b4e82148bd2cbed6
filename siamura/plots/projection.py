"""Embeddings in the plane."""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from siamura._validation import check_choice, check_vectors

Method = Literal["umap", "pca", "tsne"]
METHODS = {"umap": "UMAP", "pca": "PCA", "tsne": "t-SNE"}
Plane = NDArray[np.float64]
log = logging.getLogger(__name__)

_FEW = 10  # different rows below which copies are laid out by PCA
_SMALL = 1e-4


def project(
    embeddings: ArrayLike, method: Method = "umap", seed: int = 0, valid: ArrayLike | None = None
) -> tuple[Plane, Plane | None]:
    """Lay embeddings out in the plane.

    Parameters
    ----------
    embeddings : array of shape (N, dim)
        At least 3 rows, all finite. Where fewer than 10 of them differ and others are their copies, PCA lays
        them out whatever the method, and a warning says so.
    method : {"umap", "pca", "tsne"}
        UMAP and PCA are fitted on `embeddings` and then place `valid`. t-SNE can place no new point, so it
        lays out both together.
    seed : int
        The same seed gives the same plane on the same machine.
    valid : array of shape (M, dim), optional
        Further embeddings, the validation views say; M may be 0.

    Returns
    -------
    plane : ndarray of shape (N, 2)
    valid_plane : ndarray of shape (M, 2), or None
        None where `valid` is None.

    Raises
    ------
    ValueError
        If a value is not finite, or shapes do not go together.

    References
    ----------
    McInnes, Healy and Melville, "UMAP", arXiv 1802.03426. van der Maaten and Hinton, "Visualizing data using
    t-SNE", JMLR 2008.

    Examples
    --------
    >>> vectors = np.random.default_rng(0).normal(size=(20, 8))
    >>> plane, placed = project(vectors, "pca", valid=vectors[:3])
    >>> plane.shape, bool(np.allclose(plane[:3], placed))
    ((20, 2), True)
    """
    check_choice("method", method, METHODS)
    x = check_vectors("embeddings", embeddings, least=3, least_dim=2)
    v = None
    if valid is not None:
        v = np.asarray(valid, dtype=np.float64)
        v = v.reshape(0, x.shape[1]) if v.size == 0 else check_vectors("valid", v, least_dim=2)
        if v.shape[1] != x.shape[1]:
            raise ValueError(
                f"valid has {v.shape[1]} dimensions and embeddings {x.shape[1]}; they must agree"
            )
    x, v, scale = _scaled(x, v)
    distinct = len(np.unique(x.astype(np.float32), axis=0))
    if method != "pca" and distinct < min(len(x), _FEW):
        # Rows that are all alike are a division by zero in native code, and few points have no neighbourhoods.
        log.warning(
            "%s has only %d different rows among %d: laid out by PCA instead of %s; is the network collapsed?",
            "embeddings",
            distinct,
            len(x),
            METHODS[method],
        )
        method = "pca"
    if method == "tsne":
        both = _tsne(x if v is None else np.concatenate([x, v]), seed)
        return both[: len(x)], None if v is None else both[len(x) :]
    model = _umap(len(x), seed) if method == "umap" else _pca()
    # numba gives OpenMP all cores and leaves it so: training after a plot would round otherwise than before it.
    with warnings.catch_warnings(), threadpool_limits(limits=None):
        # A seed makes UMAP run on one core, and it warns that it does; few points give a graph in pieces.
        warnings.filterwarnings("ignore", category=UserWarning, module="umap")
        warnings.filterwarnings("ignore", category=UserWarning, module="sklearn")
        warnings.filterwarnings("ignore", "invalid value encountered in divide", RuntimeWarning, "sklearn")
        plane = np.asarray(model.fit_transform(x), dtype=np.float64)
        placed = None
        if v is not None:
            placed = np.asarray(model.transform(v) if len(v) else np.empty((0, 2)), dtype=np.float64)
    if method == "pca":
        plane, placed = plane * scale, None if placed is None else placed * scale
    return plane, placed


def _scaled(x: Plane, v: Plane | None) -> tuple[Plane, Plane | None, float]:
    """Bring rows into what float32 holds, where they are not: UMAP and t-SNE work in it. Also the factor back."""
    both = x if v is None else np.concatenate([x, v])
    largest = float(np.abs(both).max())
    if largest == 0:
        return x, v, 1.0
    both = both / largest
    centre = both[: len(x)].mean(axis=0)
    spread = float(np.abs(both - centre).max())
    if spread == 0 or (_SMALL < largest * spread < 1 / _SMALL and spread > _SMALL):
        return x, v, 1.0
    both = (both - centre) / spread
    factor = largest * spread  # beyond what can be squared and drawn, the plane stays in units of the spread
    factor = factor if factor < 1e100 else 1.0
    return both[: len(x)], None if v is None else both[len(x) :], factor


def _pca() -> Any:
    from sklearn.decomposition import PCA  # here, as scikit-learn takes a second to load

    return PCA(n_components=2, svd_solver="full")


def _umap(count: int, seed: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # says that TensorFlow is not there
        import umap  # here, as it takes seconds to load

    _keep_compiled(umap)
    return umap.UMAP(
        n_neighbors=min(15, count - 1),
        random_state=seed,
        transform_seed=seed,
        n_jobs=1,
        # The spectral start needs more points than its eigenvectors.
        init="spectral" if count > 10 else "random",
    )


def _keep_compiled(umap: Any) -> None:
    """Let numba keep UMAP's machine code on disk: UMAP does not ask for it, and compiles for 20 s in every process."""
    for module in (umap.umap_, umap.utils):
        for function in vars(module).values():
            if hasattr(function, "enable_caching") and not function.signatures:
                with contextlib.suppress(RuntimeError):  # no folder that numba may write to
                    function.enable_caching()


def _tsne(x: Plane, seed: int) -> Plane:
    from sklearn.manifold import TSNE  # here, as scikit-learn takes a second to load

    perplexity = min(30.0, (len(x) - 1) / 3)
    model = TSNE(perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed, n_jobs=1)
    with threadpool_limits(limits=1):  # several threads add up in another order each time
        return np.asarray(model.fit_transform(x), dtype=np.float64)
