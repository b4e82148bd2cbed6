"""The figures of a run folder that show radiographs: none of them is chosen for its look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from siamura import plots
from siamura.explanation import choose_layers, feature_maps
from siamura.explanation.inputs import as_input
from siamura.pixels import CLAHE, read_image
from siamura.pixels.augmentation import Augmentation

from .gallery import Gallery

if TYPE_CHECKING:
    import numpy.typing as npt

    from siamura.heads import KNNHead
    from siamura.networks import Classifier
    from siamura.pixels import Preprocess, RadiographDataset

__all__ = ["choose_rows", "draw_augmentation", "draw_clahe", "draw_layers", "draw_neighbours"]

_FILMS = 3
_CASES = 5
_SIDE = 256  # pixels of an image in a figure
_VERSIONS = 6  # of an augmented image


def draw_neighbours(
    gallery: Gallery,
    splits: Mapping[str, RadiographDataset],
    embeddings: Mapping[str, npt.NDArray[np.float32]],
    head: KNNHead,
) -> None:
    """Find the training views nearest to the first validation view that is not of the first class."""
    train, valid = splits["train"], splits["valid"]
    named = gallery.classes
    labels = valid.table["label"].to_numpy()
    row = int(np.flatnonzero(labels > 0)[0])  # a split has two labels at least
    query = named[labels[row]]
    patient = str(valid.table["patient"].iloc[row])
    vector = embeddings["valid"][row : row + 1]
    distance, found = head.kneighbors(vector, k=min(_CASES, len(train)), groups=[patient])
    there = found[0] >= 0
    cases = train.table.iloc[found[0][there]]
    if not len(cases):
        return  # every training view is of the query's own patient
    prepared = _plain(valid.pre)
    figure = plots.neighbours(
        prepared(read_image(valid.table["path"].iloc[row])),
        [prepared(read_image(path)) for path in cases["path"]],
        distance[0][there],
        cases["label"].to_numpy(),
        query_label=int(labels[row]),
        names=named,
        captions=cases["patient"].astype(str).tolist(),
        note=f"Query: the first validation view of {query}, {patient}; its own patient's images are left out. "
        f"{gallery.note()}",
    )
    gallery.add(
        "neighbours",
        figure,
        f"The first validation view of {query}, of {patient}, and the {len(cases)} nearest to it in the embedding "
        f"among the training {gallery.kind} ({gallery.rests_on('train')}), its own patient's images left out; one "
        "example, so there is no interval.",
    )


def draw_clahe(gallery: Gallery, data: RadiographDataset) -> None:
    """Set views beside themselves with CLAHE, whether the run used it or not."""
    before = _plain(data.pre)
    after = replace(before, clahe=data.pre.clahe or CLAHE())
    limit, tiles = after.clahe.clip_limit, after.clahe.tiles  # type: ignore[union-attr]
    how = f"clip limit {limit:g}, {tiles[0]} x {tiles[1]} tiles"
    used = "as this run does" if data.pre.clahe else "which this run does not do"
    if data.pre.equalise:
        used += "; it equalises histograms instead"
    rows = data.table.iloc[choose_rows(data.table, _FILMS)]
    images = [read_image(path) for path in rows["path"]]
    figure = plots.clahe_pairs(
        [before(image) for image in images],
        [after(image) for image in images],
        titles=[gallery.classes[label] for label in rows["label"]],
        note=f"{gallery.note('valid')} Here {len(rows)} views of as many patients, {how}.",
    )
    gallery.add(
        "clahe",
        figure,
        f"{len(rows)} of the validation {gallery.kind}, of as many patients, before and after CLAHE ({how}), {used}; "
        "examples, so there is no interval.",
    )


def draw_augmentation(gallery: Gallery, data: RadiographDataset, preset: str, seed: int) -> None:
    """Set a training view beside augmented versions of it, as the network sees them."""
    row = choose_rows(data.table, 1)[0]
    batch = torch.from_numpy(np.stack([np.asarray(data.images[row])] * _VERSIONS))[:, None]
    versions = Augmentation.preset(preset, seed=seed)(batch).numpy()
    patient = data.table["patient"].iloc[row]
    gallery.add(
        "augmentation",
        plots.augmentation_sheet(
            np.asarray(data.images[row]),
            versions,
            note=f"A training view of {patient} as the network sees it, {data.pre.size} px; augmentation {preset!r}. "
            f"{gallery.note('train')}",
        ),
        f"One training view, of {patient}, as the network sees it, and {_VERSIONS} versions by the augmentation "
        f"{preset!r}, which is drawn anew for each of the {gallery.rests_on('train')} ({gallery.kind}) in each epoch; "
        "an example, so there is no interval.",
    )


def draw_layers(gallery: Gallery, data: RadiographDataset, net: Classifier) -> None:
    """Draw what layers of falling resolution put out for the first abnormal validation view."""
    row = int(np.flatnonzero(data.table["label"].to_numpy() == 1)[0])
    image = read_image(data.table["path"].iloc[row])
    x = as_input(net, data.pre(image))
    maps = {
        name.split("features.")[-1]: feature_maps(net, image, name, preprocess=data.pre)
        for name in choose_layers(net, x)
    }
    patient = data.table["patient"].iloc[row]
    gallery.add(
        "feature_maps",
        plots.feature_maps(
            maps,
            image=data.pre(image),
            note=f"First abnormal validation view, {patient}. {gallery.note('valid')}",
        ),
        f"What {len(maps)} layers put out for the first abnormal of the validation {gallery.kind}, of {patient}: the "
        "channels that vary most, each on its own scale; one example, so there is no interval.",
    )


def choose_rows(table: pd.DataFrame, count: int) -> list[int]:
    """Rows of as many patients, the classes in turn, in the table's order: none is chosen for its look."""
    firsts = table.reset_index(drop=True).drop_duplicates(["patient", "label"])
    waiting = [firsts.index[firsts["label"] == label].tolist() for label in sorted(set(table["label"]))]
    chosen: list[int] = []
    turn = 0
    while len(chosen) < count and any(waiting):
        turns = [waiting[(turn + more) % len(waiting)] for more in range(len(waiting))]
        row = next(kind for kind in turns if kind).pop(0)
        if table["patient"].iloc[row] not in set(table["patient"].iloc[chosen]):
            chosen.append(row)
            turn += 1
    return chosen


def _plain(pre: Preprocess) -> Preprocess:
    """Cut and resize as a run does, for the eye: no contrast is set."""
    return replace(pre, clahe=None, equalise=False, size=_SIDE)
