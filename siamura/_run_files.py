"""The files of a run folder that its predictions need: network, heads, embeddings, names of the classes."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from siamura._arrays import load_npz
from siamura._stored import naming_damage, read_json
from siamura.studies import classes_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from siamura.heads import KNNHead, MLPHead
    from siamura.networks import EmbeddingNet

__all__ = [
    "align_classes",
    "load_classes",
    "load_embeddings",
    "load_heads",
    "load_network",
    "refuse_several",
    "seed_folders",
]

_log = logging.getLogger(__name__)


def load_network(folder: str | os.PathLike[str]) -> EmbeddingNet:
    """Read the network of a run folder, in evaluation mode.

    Examples
    --------
    >>> import tempfile
    >>> from siamura import EmbeddingNet, Preprocess
    >>> folder = Path(tempfile.mkdtemp())
    >>> net = EmbeddingNet("squeezenet1_1", dim=8, preprocess=Preprocess(size=32))
    >>> _ = net.save_pretrained(folder / "model")
    >>> load_network(folder).training
    False
    """
    # Here, as reading a run's embeddings needs no torch.
    from siamura.networks import EmbeddingNet

    with naming_damage(Path(folder) / "model"):
        net = EmbeddingNet.from_pretrained(Path(folder) / "model").eval()
        if net.preprocess is None:
            raise ValueError("it was saved without its preprocessing")
    return net


def load_heads(folder: str | os.PathLike[str]) -> dict[str, KNNHead | MLPHead]:
    """Read the fitted heads of a run folder, by name.

    Examples
    --------
    >>> import tempfile
    >>> from siamura import KNNHead, MLPHead
    >>> folder, rows = Path(tempfile.mkdtemp()), np.eye(8, dtype=np.float32)
    >>> for name, head in (("knn", KNNHead(k=3)), ("mlp", MLPHead(epochs=1))):
    ...     _ = head.fit(rows, [0, 1] * 4).save(folder / name)
    >>> sorted(load_heads(folder))
    ['knn', 'mlp']
    """
    # Here, as they load scikit-learn, which reading a run's embeddings does without.
    from siamura.heads import KNNHead, MLPHead

    found: dict[str, KNNHead | MLPHead] = {}
    for name, kind in (("knn", KNNHead), ("mlp", MLPHead)):
        with naming_damage(Path(folder) / name):
            found[name] = kind.load(Path(folder) / name)
    return found


#: Columns of the table beside the embeddings.
_TEXTS = ("path", "part", "patient", "study", "split")


def load_embeddings(folder: str | os.PathLike[str]) -> tuple[npt.NDArray[np.float32], pd.DataFrame]:
    """Read the embeddings of a run folder, float32 (N, dim), and their rows as a study table.

    Examples
    --------
    .. code-block:: python

        vectors, table = load_embeddings("runs/first")
        len(vectors) == len(table), sorted(table["split"].unique())
        # (True, ['train', 'valid'])
    """
    path = Path(folder) / "embeddings.npz"
    with naming_damage(path):
        stored = load_npz(
            path,
            {"embedding": (None, None), **dict.fromkeys(("label", *_TEXTS), (None,))},
            optional=("part",),
            kinds={"embedding": "f", "label": "iu", **dict.fromkeys(_TEXTS, "U")},
        )
        if len({len(values) for values in stored.values()}) > 1:
            raise ValueError("its columns have different lengths")
    vectors = stored.pop("embedding").astype(np.float32, copy=False)
    text = [name for name, values in stored.items() if values.dtype.kind in "OU"]
    return vectors, pd.DataFrame(stored).astype(dict.fromkeys(text, "str"))


def load_classes(folder: str | os.PathLike[str], heads: Mapping[str, Any]) -> tuple[str, ...]:
    """The person's own names of a run's classes, in the order of the codes; of two the second is the positive one.

    Examples
    --------
    .. code-block:: python

        load_classes("runs/first", load_heads("runs/first"))
        # ('normal', 'abnormal')
    """
    path = Path(folder) / "config.json"
    number = max(2, len(next(iter(heads.values())).classes_))
    data = read_json(path).get("data") if path.is_file() else None
    named = data.get("classes") if isinstance(data, dict) else None
    if named is None:
        return ("normal", "abnormal") if number == 2 else tuple(map(str, range(number)))
    if not (isinstance(named, list) and len(named) == number and all(isinstance(n, str) for n in named)):
        raise ValueError(f"{path} is damaged (data.classes does not name the {number} classes of the heads).")
    return tuple(named)


def align_classes(table: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Give the labels of other radiographs the codes that a run has for the same names.

    Parameters
    ----------
    table : DataFrame
        Of `siamura.read_studies`.
    classes : sequence of str
        Of the run.

    Returns
    -------
    DataFrame
        The table with ``label`` in the run's codes. Of two classes on both sides the second is the positive one,
        whatever it is called.

    Raises
    ------
    ValueError
        If a label is none of the run's.

    Examples
    --------
    >>> table = pd.DataFrame({"label": [0, 1], "finding": ["cyst", "clean"]})
    >>> align_classes(table, ("clean", "cyst", "fracture"))["label"].tolist()
    [1, 0]
    """
    own = classes_of(table)
    if own == tuple(classes):
        return table
    code = {name.casefold(): number for number, name in enumerate(classes)}
    there = sorted({int(c) for c in table["label"].unique() if c >= 0})
    unknown = [own[c] for c in there if own[c].casefold() not in code]
    if unknown and len(own) == len(classes) == 2:
        _log.warning("label %r is taken for %r, and %r for %r", own[1], classes[1], own[0], classes[0])
        return table
    if unknown:
        raise ValueError(f"the label {unknown[0]!r} is none of the run's ({', '.join(classes)}).")
    found = table.assign(label=[code[own[c].casefold()] if c >= 0 else -1 for c in table["label"]])
    found.attrs = {**table.attrs, "classes": tuple(classes)}
    return found


def seed_folders(folder: str | os.PathLike[str]) -> list[Path]:
    """Find the run folders, one a seed, that `siamura.run_seeds` wrote below a folder; none below any other.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "config.json").write_text('{"kind": "seeds", "seeds": [0, 3]}')
    >>> [path.name for path in seed_folders(folder)]
    ['seed0', 'seed3']
    """
    try:
        held = read_json(Path(folder) / "config.json")
    except (OSError, ValueError):  # whoever reads the run itself says what is wrong with the file
        return []
    if held.get("kind") != "seeds":
        return []
    seeds = held.get("seeds")
    if not (isinstance(seeds, list) and seeds and all(type(seed) is int and seed >= 0 for seed in seeds)):
        raise ValueError(f"{Path(folder) / 'config.json'} is damaged (it names no seeds); run them again.")
    return [Path(folder) / f"seed{seed}" for seed in seeds]


def refuse_several(folder: str | os.PathLike[str]) -> None:
    """Raise `ValueError` where a folder holds several runs, one a seed, and one run is wanted."""
    if found := seed_folders(folder):
        raise ValueError(
            f"{folder} holds {len(found)} runs of one experiment, one a seed; give one of them: "
            f"{', '.join(str(path) for path in found)}."
        )
