"""Accuracy on real bones: siamura's trainings beside frozen features, a classifier and plain scripts.

``python -m benchmarks.real_bones DATA WEIGHTS`` trains every method on FracAtlas with three seeds, measures on its
valid split, and prints the tables of docs/real_bones.md. DATA is a folder with ``films.csv`` (columns file, finding,
patient, study, region, hardware, split), the files that it names, and ``lesions.csv`` (file, x0, y0, x1, y1), which
the method ``boxes`` alone needs; WEIGHTS is timm's ``tf_efficientnet_lite0.safetensors``. Each training is kept in
``--out`` and not repeated. ``--device auto`` takes a GPU, where 30 trainings are minutes; on 2 cores they are hours,
``--methods`` and ``--seeds`` choose some.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import siamura
from siamura.evaluation import frozen_baseline
from siamura.evaluation.intervals import bootstrap
from siamura.evaluation.metrics import score_draws
from siamura.experiments import Experiment
from siamura.experiments.batches import draw_batches, drawn_classes
from siamura.experiments.building import build_loss, build_network
from siamura.heads import KNNHead, MLPHead
from siamura.networks import Classifier, EmbeddingNet
from siamura.pixels import Preprocess, RadiographDataset
from siamura.training import embed, fit_classifier, predict_proba
from siamura.training.embedding import forward_rows
from siamura.training.head_first import FrozenTrunk

from .plain_pml import embed_plain, train_plain

TRUNK = "tf_efficientnet_lite0"
METRICS = ("kappa", "auroc", "average_precision")
#: Methods in the order of the table: name in files, name in the table.
METHODS = {
    "frozen": "none: frozen features",
    "classifier": "cross-entropy classifier (siamura.fit_classifier)",
    "classifier448": "cross-entropy classifier at 448 px",
    "plain_entropy": "plain script, cross-entropy",
    "plain_hard": "plain script, PML batch hard",
    "plain_all": "plain script, PML all triplets",
    "default": "siamura, default with weights, 224 px",
    "boxes": "siamura, default, taught by the boxes of the training views",
    "steady": "siamura, default but no stochastic depth",
    "even": "siamura, no stochastic depth, 16 of each class in a batch",
    "long": "siamura, 448 px, 600 steps, else as the row above",
    "best": "siamura, best: 448 px, no stochastic depth",
    "large": "siamura, default at 448 px",
    "boxes448": "siamura, at 448 px, taught by the boxes of the training views",
}
#: Of these, siamura's trainings; and those of them that are set beside all others.
SIAMURA = ("default", "boxes", "steady", "even", "long", "best", "large", "boxes448")
COMPARED = ("default", "boxes", "best", "boxes448")
HEADS = {"knn": "k-NN", "head": "classifier or MLP", "logistic": "logistic regression"}


def read(data: Path, part: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The two splits of one region (``"all"``: of all, as one)."""
    table = siamura.read_studies(
        data / "films.csv", columns={"file": "path", "finding": "label"}, positive="fracture"
    )
    if part != "all":
        table = table[table["region"] == part].reset_index(drop=True)
    return siamura.train_valid(table)


def frozen(train: Any, valid: Any, settings: argparse.Namespace, seed: int) -> dict[str, Any]:
    """k-NN and logistic regression on pooled features."""
    net = FrozenTrunk(EmbeddingNet(f"timm:{TRUNK}", weights=settings.weights, preprocess=train.pre)).eval()
    x, v = (forward_rows(net, d, accelerator=settings.device)[0].flatten(1).numpy() for d in (train, valid))
    found = frozen_baseline(x, train.table, v, valid.table, draws=0, seed=seed)
    return {"knn": found.probability["k-NN"], "logistic": found.probability["logistic"]}


def classifier(train: Any, valid: Any, settings: argparse.Namespace, seed: int) -> dict[str, Any]:
    """The whole trunk by cross-entropy, as many steps and films."""
    net = Classifier(f"timm:{TRUNK}", weights=settings.weights, preprocess=train.pre, seed=seed)
    fit_classifier(
        net, train, batch_size=32, steps=settings.steps, lr=3e-4, augment="flip", keep_best=False,
        seed=seed, accelerator=settings.device, progress=False,
    )  # fmt: skip
    return {"head": predict_proba(net, valid, accelerator=settings.device, progress=False)}


def plain(train: Any, valid: Any, settings: argparse.Namespace, seed: int, mining: str) -> dict[str, Any]:
    """A plain script."""
    device = "cuda" if settings.device != "cpu" and torch.cuda.is_available() else "cpu"
    net = train_plain(
        _pixels(train), train.labels, trunk=TRUNK, weights=settings.weights, mining=mining, steps=settings.steps,
        seed=seed, device=device, half=device == "cuda",
    )  # fmt: skip
    if mining == "none":
        logits = torch.from_numpy(embed_plain(net, _pixels(valid), device))
        return {"head": logits.double().softmax(1)[:, 1].numpy()}
    x, v = (embed_plain(net, _pixels(d), device) for d in (train, valid))
    return by_heads(
        x, v, train, valid, MLPHead(random_state=seed).fit(x, train.labels, groups=train.patients)
    )


def joint(train: Any, valid: Any, settings: argparse.Namespace, seed: int, **more: Any) -> dict[str, Any]:
    """Siamura's training with weights given; `more` are settings of the experiment, files beside the films."""
    chosen: dict[str, Any] = {"size": train.pre.size, "steps": settings.steps, **more}
    boxes = None
    if "lesions" in more:
        chosen["lesions"] = str(settings.data / more["lesions"])
        boxes = siamura.studies.read_boxes(chosen["lesions"], train.table)
    experiment = Experiment(
        data="films", trunk=f"timm:{TRUNK}", weights=str(settings.weights), seed=seed, **chosen
    )
    net = build_network(experiment, train.pre, boxes=boxes)
    table = train.table.assign(part="all")  # batches mix the regions
    batches = draw_batches(experiment, table)
    options = experiment.training(boxes=boxes) | {"accelerator": settings.device, "progress": False}
    history = siamura.fit(net, train, batches, build_loss(experiment), **options)
    x, v = (embed(net, d, accelerator=settings.device, progress=False) for d in (train, valid))
    head = (
        MLPHead(random_state=seed).fit(x, train.labels, groups=train.patients)
        if net.neck is None
        else MLPHead.from_network(net, train.labels, drawn=drawn_classes(experiment, table))
    )
    rates = history["lr"].to_numpy()
    return {**by_heads(x, v, train, valid, head), "share": float(np.average(history["share"], weights=rates))}


def by_heads(x: Any, v: Any, train: Any, valid: Any, head: MLPHead) -> dict[str, Any]:
    """Probabilities on valid by k-NN and by a head."""
    knn = KNNHead(k=15).fit(x, train.labels, groups=train.patients)
    return {
        "knn": knn.predict_proba(v, groups=valid.patients)[:, 1],
        "head": head.predict_proba(v)[:, 1],
    }


def _pixels(data: Any) -> np.ndarray[Any, Any]:
    return np.asarray(data.images)


RUNS: Mapping[str, tuple[int, Callable[..., dict[str, Any]], dict[str, Any]]] = {
    "frozen": (224, frozen, {}),
    "classifier": (224, classifier, {}),
    "classifier448": (448, classifier, {}),
    "plain_entropy": (224, plain, {"mining": "none"}),
    "plain_hard": (224, plain, {"mining": "hard"}),
    "plain_all": (224, plain, {"mining": "all"}),
    "default": (224, joint, {}),
    "boxes": (224, joint, {"lesions": "lesions.csv"}),
    "steady": (224, joint, {"drop_path": 0.0}),
    "even": (224, joint, {"drop_path": 0.0, "class_balance": 1.0}),
    "long": (448, joint, {"drop_path": 0.0, "steps": 600, "class_balance": 1.0}),
    "best": (448, joint, {"drop_path": 0.0}),
    "large": (448, joint, {}),
    "boxes448": (448, joint, {"lesions": "lesions.csv"}),
}


def train_one(settings: argparse.Namespace, part: str, method: str, seed: int) -> None:
    """Train one method with one seed, if that is not done yet, and keep its answers on valid."""
    file = settings.out / f"{part}-{method}-{seed}.npz"
    if file.is_file():
        return
    size, how, more = RUNS[method]
    if settings.smoke:
        size, more = 64, {name: value for name, value in more.items() if name != "steps"}
    train, valid = (
        RadiographDataset(table, Preprocess(size), cache=settings.out / "cache")
        for table in read(settings.data, part)
    )
    started = time.perf_counter()
    answers = how(train, valid, settings, seed, **more)
    minutes = (time.perf_counter() - started) / 60
    np.savez(file.with_suffix(".tmp.npz"), minutes=minutes, **{k: np.asarray(v) for k, v in answers.items()})
    file.with_suffix(".tmp.npz").replace(file)
    print(f"{part} {method} seed {seed}: {minutes:.2f} min", flush=True)


def table_of(settings: argparse.Namespace, part: str) -> str:
    """Every method's figures: means over the seeds, with patient intervals, and differences to the best other one."""
    valid = read(settings.data, part)[1]
    label, patient = valid["label"].to_numpy(), pd.factorize(valid["patient"])[0]
    found: dict[tuple[str, str], list[Any]] = {}
    minutes: dict[str, list[float]] = {}
    for method in METHODS:
        for file in sorted(settings.out.glob(f"{part}-{method}-[0-9]*.npz")):
            with np.load(file) as held:
                minutes.setdefault(method, []).append(float(held["minutes"]))
                for head in HEADS:
                    if head in held:
                        found.setdefault((method, head), []).append(held[head])
    lines = [
        f"{part}: {len(valid)} views of {patient.max() + 1} patients, {label.mean():.0%} fractured.",
        "",
        "| training | read out by | seeds | kappa | AUROC | average precision | AUROC, spread over seeds | minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (method, head), answers in found.items():
        each = [float(score_draws(label, p, only=("auroc",))["auroc"][0]) for p in answers]
        spread = f"{min(each):.3f} to {max(each):.3f}" if len(each) > 1 else "–"
        took = minutes[method]
        mixed = max(took) > 3 * min(took)  # some on a GPU, some on a CPU
        mean = f"{min(took):.1f} to {max(took):.1f}" if mixed else f"{np.mean(took):.1f}"
        rows = [(answers, str(len(answers)), spread, mean)]
        if len(answers) > 2:
            total = "–" if mixed else f"{np.sum(took):.1f}"
            rows.append(([np.mean(answers, axis=0)], f"{len(answers)} together", "–", total))
        for given, seeds, spread, cost in rows:
            measured = _means(label, patient, given)
            cells = [
                f"{measured.value[m]:.3f} [{measured.low[m]:.3f}, {measured.high[m]:.3f}]" for m in METRICS
            ]
            lines.append(
                f"| {METHODS[method]} | {HEADS[head]} | {seeds} | {' | '.join(cells)} | {spread} | {cost} |"
            )
    lines += [
        "",
        "| siamura, its best read-out | beside | kappa | AUROC | average precision |",
        "|---|---|---|---|---|",
    ]
    for mine in (m for m in COMPARED if (m, "head") in found):
        for (method, head), answers in found.items():
            if method in SIAMURA:
                continue
            gap = _differences(label, patient, found[mine, "head"], answers)
            cells = [f"{gap.value[m]:+.3f} [{gap.low[m]:+.3f}, {gap.high[m]:+.3f}]" for m in METRICS]
            lines.append(f"| {METHODS[mine]} | {METHODS[method]}, {HEADS[head]} | {' | '.join(cells)} |")
    lines += ["", *probabilities_of(label, patient, found)]
    return "\n".join(lines)


def probabilities_of(label: Any, patient: Any, found: Mapping[tuple[str, str], list[Any]]) -> list[str]:
    """How far the probabilities are right as such: on the whole, and how sure they are; means over the seeds."""
    lines = [
        "| training | read out by | mean probability less share fractured | Brier score | slope of the logit |",
        "|---|---|---|---|---|",
    ]
    for (method, head), answers in found.items():
        fit = bootstrap(
            partial(_fit_of_probabilities, label, patient, answers), int(patient.max()) + 1, 2000, 0.95, 0,
            floor=-np.inf,
        )  # fmt: skip
        cells = [
            f"{fit.value[m]:{sign}.3f} [{fit.low[m]:{sign}.3f}, {fit.high[m]:{sign}.3f}]"
            for m, sign in (("gap", "+"), ("brier", ""), ("slope", ""))
        ]
        lines.append(f"| {METHODS[method]} | {HEADS[head]} | {' | '.join(cells)} |")
    return lines


def _fit_of_probabilities(label: Any, patient: Any, answers: list[Any], counts: Any) -> dict[str, Any]:
    weight = counts[:, patient]
    each: dict[str, list[Any]] = {"gap": [], "brier": [], "slope": []}
    for p in answers:
        each["gap"].append(weight @ (p - label) / weight.sum(axis=1))
        each["brier"].append(weight @ (p - label) ** 2 / weight.sum(axis=1))
        each["slope"].append(logit_slope(label, p, weight))
    return {name: np.mean(values, axis=0) for name, values in each.items()}


def logit_slope(label: Any, p: Any, weight: Any) -> Any:
    """Slope of a logistic regression of the labels on the logit of `p` (Cox 1958), for each row of weights (D, N).

    1 where the probabilities are as sure as they may be, below 1 where they are surer. Newton's method, in short steps.
    """
    logit = np.clip(p, 1e-3, 1 - 1e-3)
    x = np.log(logit / (1 - logit))
    a, b = np.zeros(len(weight)), np.ones(len(weight))
    for _ in range(60):
        fitted = 1 / (1 + np.exp(-np.clip(a[:, None] + b[:, None] * x, -30, 30)))
        left, curve = weight * (label - fitted), weight * fitted * (1 - fitted) + 1e-12
        g0, g1 = left.sum(axis=1), left @ x
        h00, h01, h11 = curve.sum(axis=1), curve @ x, curve @ x**2
        size = h00 * h11 - h01**2
        a = a + np.clip((h11 * g0 - h01 * g1) / size, -0.3, 0.3)
        b = b + np.clip((h00 * g1 - h01 * g0) / size, -0.1, 0.1)
    return b


def _scores(label: Any, patient: Any, answers: list[Any], counts: Any) -> dict[str, Any]:
    each = [score_draws(label, p, counts, groups=patient, only=METRICS) for p in answers]
    return {m: np.mean([s[m] for s in each], axis=0) for m in METRICS}


def _means(label: Any, patient: Any, answers: list[Any]) -> Any:
    return bootstrap(
        lambda counts: _scores(label, patient, answers, counts), int(patient.max()) + 1, 2000, 0.95, 0
    )


def _differences(label: Any, patient: Any, first: list[Any], second: list[Any]) -> Any:
    def gaps(counts: Any) -> dict[str, Any]:
        a, b = (_scores(label, patient, p, counts) for p in (first, second))
        return {m: a[m] - b[m] for m in METRICS}

    return bootstrap(gaps, int(patient.max()) + 1, 2000, 0.95, 0, floor=-np.inf)


def main() -> None:
    """Train what is missing, then print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_bones", description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--out", type=Path, default=Path("build/real_bones"))
    parser.add_argument("--parts", default="hand,all")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--smoke", action="store_true", help="64 px: shows that the code runs, measures nothing"
    )
    settings = parser.parse_args()
    settings.out.mkdir(parents=True, exist_ok=True)
    for seed in map(int, settings.seeds.split(",")):
        for method in settings.methods.split(","):
            for part in settings.parts.split(","):
                if method != "frozen" or seed == 0:  # nothing is drawn there
                    train_one(settings, part, method, seed)
    text = "\n\n".join(table_of(settings, part) for part in settings.parts.split(","))
    (settings.out / "tables.md").write_text(text + "\n", encoding="utf-8")
    (settings.out / "settings.json").write_text(json.dumps(vars(settings), default=str), encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
