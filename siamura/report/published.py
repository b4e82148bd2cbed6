"""The figures that the five systems and the MURA paper published, as printed there.

They were obtained with ImageNet weights on MURA, by other people. siamura prints them beside a measured run,
marked as published, and never as one of its own. Contradictions in the reports (an accuracy of 0.780 beside an
error of 0.249) are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

__all__ = ["PUBLISHED", "Published", "published"]

#: System B's top of each trunk, of `siamura.networks.TOPS`.
B_TOPS = {
    "resnet50": "b_resnet50",
    "efficientnet_b0": "mura",
    "vgg19": "b_vgg19",
    "densenet169": "b_densenet169",
}


@dataclass(frozen=True)
class Published:
    """One printed figure.

    Parameters
    ----------
    system : {"A", "B", "C", "D", "E", "MURA"}
        Which report it stands in.
    table : str
        Its number there, or a short name where it has none.
    metric : str
        ``accuracy``, ``error``, ``kappa``, ``loss``, ``precision``, ``recall`` or ``f1``.
    split : {"train", "valid", "test"}
        Which images it was measured on.
    value : float
        As printed.
    trunk, part, loss : str
        What was trained, on which body part, with which objective.
    dim : int or None
        Embedding dimensions; None for classifiers.
    clahe : bool or None
        Whether CLAHE was applied; None where the report does not say.
    note : str
        What else belongs to the figure.

    Examples
    --------
    >>> model, *radiologists = published(system="MURA", part="XR_FINGER")
    >>> model.value, [reader.value for reader in radiologists]
    (0.389, [0.304, 0.403, 0.41])
    >>> model.metric, model.split, model.trunk
    ('kappa', 'test', 'densenet169')
    """

    system: str
    table: str
    metric: str
    split: str
    value: float
    trunk: str
    part: str
    loss: str
    dim: int | None = None
    clahe: bool | None = None
    note: str = ""


def published(**wanted: object) -> list[Published]:
    """Select the printed figures whose fields equal what is given.

    Parameters
    ----------
    **wanted
        Names of `Published`'s fields and the value each must have.

    Returns
    -------
    list of Published
        In the order of the reports; empty where nothing was printed.

    Raises
    ------
    ValueError
        If a name is no field of `Published`.

    Examples
    --------
    >>> [figure.value for figure in published(table="5.12", dim=128)]
    [0.408, 0.374]
    """
    known = {field.name for field in fields(Published)}
    if unknown := sorted(set(wanted) - known):
        raise ValueError(
            f"published figures have no field {unknown[0]!r}; they have {', '.join(sorted(known))}."
        )
    return [f for f in PUBLISHED if all(getattr(f, name) == value for name, value in wanted.items())]


def _system_a() -> Iterator[Published]:
    # (loss table, trunk, CLAHE, training loss): rows loss, accuracy, error, kappa; each (256 train, valid, 128 ...)
    blocks = (
        ("5.1", "resnet50", False, "triplet",
         (0.206, 0.201, 0.1937, 0.1858), (0.635, 0.496, 0.678, 0.668),
         (0.364, 0.503, 0.362, 0.331), (0.053, 0.082, 0.093, 0.333)),
        ("5.1", "densenet169", False, "triplet",
         (0.0777, 0.2072, 0.0750, 0.1911), (0.929, 0.722, 0.946, 0.744),
         (0.069, 0.277, 0.053, 0.255), (0.851, 0.449, 0.887, 0.491)),
        ("5.5", "densenet169", True, "triplet",
         (0.087, 0.208, 0.066, 0.188), (0.9375, 0.780, 0.9508, 0.752),
         (0.062, 0.249, 0.048, 0.264), (0.868, 0.504, 0.896, 0.476)),
        ("5.9", "densenet169", None, "triplet_focal",
         (0.020, 0.0401, 0.024, 0.0402), (0.746, 0.679, 0.719, 0.692),
         (0.264, 0.321, 0.274, 0.3210), (0.403, 0.374, 0.408, 0.374)),
    )  # fmt: skip
    for first, trunk, clahe, loss, *rows in blocks:
        for offset, (metric, row) in enumerate(
            zip(("loss", "accuracy", "error", "kappa"), rows, strict=True)
        ):
            table = f"5.{int(first.split('.')[1]) + offset}"
            for (dim, split), value in zip(
                ((256, "train"), (256, "valid"), (128, "train"), (128, "valid")), row, strict=True
            ):
                yield Published("A", table, metric, split, value, trunk, "XR_FINGER", loss, dim, clahe)


def _system_b() -> Iterator[Published]:
    for trunk, train, valid in (
        ("resnet50", 0.5970, 0.5297),
        ("efficientnet_b0", 0.5960, 0.5236),
        ("vgg19", 0.6726, 0.6537),
        ("densenet169", 0.748939, 0.733418),
    ):
        for split, value in (("train", train), ("valid", valid)):
            yield Published("B", "frozen", "accuracy", split, value, trunk, "all", "bce", note="best epoch")
    for split, value in (("train", 0.8117), ("valid", 0.7851)):
        yield Published(
            "B", "fine-tuned", "accuracy", split, value, "densenet169", "all", "bce", note="epoch 20"
        )
    yield Published(
        "B", "fine-tuned", "accuracy", "valid", 0.7970, "densenet169", "all", "bce", note="epoch 18, best"
    )


def _system_c() -> Iterator[Published]:
    for value, note in ((0.7986, "epoch 5, best"), (0.7500, "epoch 30")):
        yield Published(
            "C", "frozen", "accuracy", "valid", value, "inception_v3", "XR_HUMERUS", "bce", note=note
        )


def _system_d() -> Iterator[Published]:
    trunks = ("vgg16", "resnet50", "densenet169", "inception_v3", "timm:nasnetalarge")
    rows = {
        "XR_WRIST": ".72/.73/.70 .72/.73/.70 .77/.78/.75 .76/.78/.75 .74/.75/.71",
        "XR_FOREARM": ".64/.65/.58 .60/.61/.54 .70/.74/.69 .72/.76/.70 .70/.73/.67",
        "XR_FINGER": ".62/.65/.60 .65/.70/.65 .69/.75/.67 .65/.70/.67 .65/.69/.63",
        "XR_HAND": ".63/.54/.49 .62/.63/.65 .72/.64/.57 .70/.73/.70 .74/.64/.57",
        "XR_SHOULDER": ".62/.69/.62 .62/.63/.65 .73/.76/.75 .73/.76/.75 .67/.69/.70",
        "XR_ELBOW": ".73/.77/.73 .62/.60/.49 .74/.78/.72 .74/.77/.72 .71/.74/.68",
        "XR_HUMERUS": ".64/.64/.67 .59/.59/.62 .79/.81/.81 .83/.82/.82 .73/.74/.75",
    }
    for part, row in rows.items():
        for trunk, cell in zip(trunks, row.split(), strict=True):
            for metric, value in zip(("precision", "recall", "f1"), cell.split("/"), strict=True):
                yield Published("D", "per part", metric, "valid", float(value), trunk, part, "bce")
    baseline = (("negative", (0.53, 0.55, 0.54)), ("positive", (0.75, 0.73, 0.74)))
    for label, values in baseline:
        for metric, figure in zip(("precision", "recall", "f1"), values, strict=True):
            yield Published(
                "D", "baseline", metric, "valid", figure, "vgg16", "XR_HUMERUS", "bce", note=label
            )
    yield Published("D", "baseline", "accuracy", "valid", 0.67, "vgg16", "XR_HUMERUS", "bce")


def _system_e() -> Iterator[Published]:
    for value, note in ((0.79, "about"), (0.85, "about, after tuning")):
        yield Published(
            "E", "humerus", "accuracy", "valid", value, "densenet121", "XR_HUMERUS", "bce", note=note
        )


def _mura() -> Iterator[Published]:
    for part, model, readers in (
        ("all", 0.705, (0.731, 0.763, 0.778)),
        ("XR_FINGER", 0.389, (0.304, 0.403, 0.410)),
    ):
        yield Published("MURA", "kappa", "kappa", "test", model, "densenet169", part, "bce", note="model")
        for number, value in enumerate(readers, start=1):
            yield Published(
                "MURA", "kappa", "kappa", "test", value, "", part, "", note=f"radiologist {number}"
            )


PUBLISHED: tuple[Published, ...] = (
    *_system_a(),
    *_system_b(),
    *_system_c(),
    *_system_d(),
    *_system_e(),
    *_mura(),
)
