"""Is a heat map right? Pointing game, box IoU, deletion and insertion, and a map that must change with the weights."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from .boxes import box_iou, centre_box
from .explaining import Explanation, as_input, explain
from .targets import HeadLogit, Target
from .watching import undisturbed

if TYPE_CHECKING:
    from siamura.pixels import Preprocess

__all__ = ["faithfulness", "hits", "localisation", "perturbation_curves", "randomised_weights", "summary"]


def hits(point: tuple[float, float] | None, boxes: ArrayLike, tolerance: float = 0.0) -> bool:
    """Say whether a point lies in one of the boxes: one round of the pointing game.

    Parameters
    ----------
    point : (x, y) or None
        None never hits.
    boxes : (n, 4)
        x0, y0, x1, y1.
    tolerance : float
        Pixels by which each box is widened.

    References
    ----------
    Zhang et al., "Top-down neural attention by excitation backprop", ECCV 2016, section 4.1.

    Examples
    --------
    >>> hits((3, 3), [[0, 0, 4, 4]]), hits((5, 3), [[0, 0, 4, 4]]), hits((5, 3), [[0, 0, 4, 4]], tolerance=2)
    (True, False, True)
    """
    if point is None:
        return False
    x0, y0, x1, y1 = np.asarray(boxes, dtype=np.float64).reshape(-1, 4).T
    x, y = point
    t = tolerance
    return bool(((x0 - t <= x) & (x <= x1 + t) & (y0 - t <= y) & (y <= y1 + t)).any())


def localisation(
    model: nn.Module,
    table: pd.DataFrame,
    lesions: pd.DataFrame | str | os.PathLike[str],
    target: Target | None = None,
    *,
    tolerance: float = 0.0,
    progress: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """Explain views whose lesions have known places, beside a baseline that looks at nothing.

    The baseline points at the image's middle, and its box is the explanation's own box moved there: only the
    place differs. (Where there is no box, it is as large as the first lesion.)

    Parameters
    ----------
    model : Module
    table : DataFrame
        Views, as `siamura.read_mura` gives them; those without a lesion are left out. Keep the ones that the model
        finds, for the pointing game on positives found.
    lesions : path or DataFrame
        ``lesions.csv`` of `siamura.make_phantoms`: path (from the CSV's folder), x0, y0, x1, y1 in the file's
        pixels, one row a lesion. Or the same as a table, whose paths are those of `table`.
    target : callable, optional
    tolerance : float
        Pixels by which a lesion's box is widened for the pointing game.
    progress : bool
        Show a bar.
    **options
        For `explain`: head, method, layer, ...

    Returns
    -------
    DataFrame
        One row a view: path, patient, hit, iou, centre_hit, centre_iou, score. Hand it to `summary`.
    """
    from tqdm.auto import tqdm

    if not isinstance(lesions, pd.DataFrame):
        folder = Path(lesions).parent
        lesions = pd.read_csv(lesions)
        lesions["path"] = [str(folder / path) for path in lesions["path"]]
    lacking = {"path", "x0", "y0", "x1", "y1"} - set(lesions)
    if lacking:
        raise ValueError(f"lesions lacks the column {sorted(lacking)[0]!r}; it needs path, x0, y0, x1, y1.")
    places = {
        os.path.abspath(str(path)): rows[["x0", "y0", "x1", "y1"]].to_numpy(np.float64)
        for path, rows in lesions.groupby("path")
    }
    views = table[table["path"].map(os.path.abspath).isin(places)]
    found = []
    for row in tqdm(views.itertuples(), total=len(views), desc="explain", disable=not progress):
        seen = explain(model, row.path, target, **options)
        true = places[os.path.abspath(row.path)]
        height, width = seen.image.shape
        box = seen.boxes[:1] if len(seen.boxes) else true[:1]
        middle = centre_box(height, width, (box[0, 2] - box[0, 0], box[0, 3] - box[0, 1]))
        found.append(
            {
                "path": row.path,
                "patient": row.patient,
                "hit": float(hits(seen.peak, true, tolerance)),
                "iou": float(box_iou(seen.boxes, true).max(initial=0.0)),
                "centre_hit": float(hits((width / 2, height / 2), true, tolerance)),
                "centre_iou": float(box_iou(middle, true).max(initial=0.0)),
                "score": seen.score,
            }
        )
    columns = ["path", "patient", "hit", "iou", "centre_hit", "centre_iou", "score"]
    return pd.DataFrame(found, columns=columns)


def summary(
    views: pd.DataFrame,
    columns: Sequence[str] | None = None,
    *,
    against: dict[str, str] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Means over views, with 95 % intervals from drawing patients.

    Parameters
    ----------
    views : DataFrame
        One row a view: ``patient``, and figures.
    columns : sequence of str, optional
        Which; by default every column of floats.
    against : dict of str to str, optional
        Differences wanted, as column to baseline. By default ``x`` against ``centre_x`` wherever both are there.
    draws : int
        Bootstrap draws of patients.
    seed : int

    Returns
    -------
    DataFrame
        Index ``metric``; value, low, high. Its ``attrs`` tell views, patients and draws.

    Examples
    --------
    >>> views = pd.DataFrame({"patient": ["a", "a", "b"], "hit": [1.0, 1.0, 0.0], "centre_hit": 0.0})
    >>> summary(views)["value"].round(2).to_dict()
    {'hit': 0.67, 'centre_hit': 0.0, 'hit - centre_hit': 0.67}
    """
    if not len(views):
        raise ValueError("views is empty; no view has a lesion of known place, or none was found.")
    chosen = list(views.select_dtypes("float").columns) if columns is None else list(columns)
    if against is None:
        against = {name: f"centre_{name}" for name in chosen if f"centre_{name}" in chosen}
    figures = {name: views[name].to_numpy(np.float64) for name in chosen}
    for name, other in against.items():
        figures[f"{name} - {other}"] = figures[name] - figures[other]
    values = np.stack(list(figures.values()))
    codes, patients = pd.factorize(views["patient"])
    sums = np.stack([np.bincount(codes, weights=row, minlength=len(patients)) for row in values])
    counts = np.bincount(codes, minlength=len(patients))
    drawn = np.random.default_rng(seed).multinomial(
        len(patients), np.full(len(patients), 1 / len(patients)), size=draws
    )
    means = (drawn @ sums.T) / (drawn @ counts)[:, None]
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    out = pd.DataFrame(
        {"value": values.mean(axis=1), "low": low, "high": high}, index=pd.Index(list(figures), name="metric")
    )
    out.attrs.update(views=len(views), patients=len(patients), draws=draws)
    return out


def perturbation_curves(
    model: nn.Module, seen: Explanation, target: Target, *, steps: int = 20, batch_size: int = 16
) -> pd.DataFrame:
    """Delete pixels from the warmest to the coldest, and insert them in that order, and follow the score.

    The image is deleted into, and inserted into, a blurred copy of itself. A map that shows what the score rests
    on makes deletion fall early and insertion rise early. The same is done by distance from the middle.

    Parameters
    ----------
    model : Module
    seen : Explanation
        Of this model and target.
    target : callable
    steps : int
    batch_size : int

    Returns
    -------
    DataFrame
        share (of the pixels), deletion, insertion, centre_deletion, centre_insertion: scores.

    References
    ----------
    Petsiuk, Das and Saenko, "RISE", BMVC 2018, section 4.2.
    """
    import cv2

    if steps < 1:
        raise ValueError(f"steps={steps} must be at least 1.")
    square = seen.square
    side = square.shape[0]
    blurred = cv2.GaussianBlur(square, (0, 0), side / 10)
    (u0, v0, u1, v1) = seen.geometry.target
    content = np.zeros((side, side), dtype=bool)
    content[v0:v1, u0:u1] = True  # the padding holds nothing to delete
    heat = cv2.resize(seen.raw, (side, side), interpolation=cv2.INTER_LINEAR)
    grid = np.arange(side) + 0.5
    middle = -np.hypot(grid[None] - (u0 + u1) / 2, grid[:, None] - (v0 + v1) / 2)
    shares = np.linspace(0, 1, steps + 1)
    out = {"share": shares}
    for name, order in (("", heat), ("centre_", middle)):
        ranks = np.full((side, side), np.inf)
        # Ties (a map's zeros) go by distance from the middle, not by the order of the rows.
        ranks[content] = np.lexsort((-middle[content], -order[content])).argsort() / content.sum()
        deleted = [np.where(ranks < share, blurred, square) for share in shares]
        inserted = [np.where(ranks < share, square, blurred) for share in shares]
        scores = _scores(model, [*deleted, *inserted], target, batch_size)
        out[f"{name}deletion"], out[f"{name}insertion"] = scores[: steps + 1], scores[steps + 1 :]
    return pd.DataFrame(out)


def faithfulness(
    model: nn.Module,
    table: pd.DataFrame,
    target: Target | None = None,
    *,
    steps: int = 20,
    progress: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """Areas under the deletion and insertion curves of each view, beside deleting from the middle outwards.

    Each curve is scaled so that the whole image is 1 and the blurred one 0; views where the blurred image scores
    no lower are left out.

    Parameters
    ----------
    model : Module
    table : DataFrame
        path, patient.
    target : callable, optional
        By default the log-odds of ``head=``.
    steps, progress
    **options
        For `explain`.

    Returns
    -------
    DataFrame
        path, patient, deletion (low is good), insertion (high is good), centre_deletion, centre_insertion. Hand it
        to `summary`.
    """
    from tqdm.auto import tqdm

    names = ["deletion", "insertion", "centre_deletion", "centre_insertion"]
    head = options.get("head")
    score = target if target is not None or head is None else HeadLogit(head)
    found = []
    for row in tqdm(table.itertuples(), total=len(table), desc="delete and insert", disable=not progress):
        seen = explain(model, row.path, target, **options)
        assert score is not None  # explain refuses where there is neither target nor head
        curves = perturbation_curves(model, seen, score, steps=steps)
        whole, nothing = curves["deletion"].iloc[0], curves["deletion"].iloc[-1]
        if whole > nothing:
            scaled = (curves[names] - nothing) / (whole - nothing)
            areas = np.trapezoid(scaled.to_numpy(), curves["share"].to_numpy(), axis=0)
            found.append({"path": row.path, "patient": row.patient, **dict(zip(names, areas, strict=True))})
    return pd.DataFrame(found, columns=["path", "patient", *names])


def randomised_weights(
    model: nn.Module,
    image: NDArray[np.uint8],
    target: Target | None = None,
    *,
    stages: Sequence[str] | None = None,
    seed: int = 0,
    preprocess: Preprocess | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Shuffle the weights from the top down, and compare each map with the trained network's.

    A map that stays as it was shows the image, not what the network learned.

    Parameters
    ----------
    model : Module
        Left as it is; a copy is shuffled.
    image : uint8 (H, W)
    target : callable, optional
    stages : sequence of str, optional
        Modules by name, from the top down, each shuffled beside those before it. By default the last layer with
        weights, then the upper half of such layers, then all.
    seed : int
    preprocess, **options
        For `explain`.

    Returns
    -------
    DataFrame
        stage, correlation (Spearman's, of the maps' cells; 0 where a map is constant).

    References
    ----------
    Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018, section 3.
    """
    from scipy.stats import spearmanr

    trained = explain(model, image, target, preprocess=preprocess, **options)
    options["layer"] = trained.layers  # the same places, whatever the copy would choose
    shuffled = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for stage, modules in _stages(shuffled, stages):
        with torch.no_grad():
            for module in modules:
                for weight in module.parameters(recurse=False):
                    order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
                    weight.copy_(weight.flatten()[order].view_as(weight))
        other = explain(shuffled, image, target, preprocess=preprocess, **options)
        a, b = trained.raw.ravel(), other.raw.ravel()
        constant = np.ptp(a) == 0 or np.ptp(b) == 0
        found.append({"stage": stage, "correlation": 0.0 if constant else float(spearmanr(a, b).statistic)})
    return pd.DataFrame(found)


def _stages(model: nn.Module, names: Sequence[str] | None) -> Iterator[tuple[str, list[nn.Module]]]:
    weighty = [
        (name, module)
        for name, module in model.named_modules()
        if next(iter(module.parameters(recurse=False)), None) is not None
    ][::-1]
    if names is None:
        half = max(1, len(weighty) // 2)
        yield "last layer", [weighty[0][1]]
        yield "upper half", [module for _, module in weighty[1:half]]
        yield "all", [module for _, module in weighty[half:]]
        return
    for name in names:
        modules = [module for other, module in weighty if other == name or other.startswith(f"{name}.")]
        if not modules:
            raise ValueError(f"stages names {name!r}, which holds no weights; see model.named_modules().")
        yield name, modules


def _scores(
    model: nn.Module, squares: Sequence[NDArray[np.uint8]], target: Target, batch_size: int
) -> NDArray[np.float64]:
    found = []
    with undisturbed(model), torch.no_grad():
        for low in range(0, len(squares), batch_size):
            batch = torch.cat([as_input(model, square) for square in squares[low : low + batch_size]])
            found.append(target(model(batch)).double().cpu().numpy())
    return np.concatenate(found)
