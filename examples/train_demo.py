"""Make again what `siamura demo` ships: a small network trained on phantoms, its heads, 54 cases and three studies.

python examples/train_demo.py --out build/demo

Ten minutes on 2 cores. Its files, each with its SHA-256, are listed in manifest.json; with --out siamura/demo/data they
replace those of the package. Weights may differ in the last digits from one processor to another.

The batch norms' statistics are renewed after the training. That step was added after a look at the validation patients
(kappa 0.459 without it), so their kappa with it is a little too good.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import pandas as pd
import torch
import typer

import siamura
from siamura.cli import cli_errors
from siamura.experiments import Experiment, Run, finish_run, load_data, load_run, start_run
from siamura.experiments.folder import write_embeddings, write_json
from siamura.studies.phantoms import MARKER

SETTINGS = Experiment(
    trunk="mobilenet_v3_small",
    dim=64,
    size=128,
    views=1500,
    loss="triplet",
    steps=500,
    lr=2e-3,
    calibration_share=0.0,
    classify=0.0,  # on the loss alone; the batch norm of a classifier would have to be renewed as well
    seed=0,
)
CASES, SIDE = 54, 200  # training films that are shipped, and their longest side in pixels
KEPT = ("model", "knn", "mlp", "metrics.json", "history.csv", "table.md")


@cli_errors()
def main(
    out: Path = typer.Option(Path("build/demo"), help="Where the demo's files are written."),
    run: Path = typer.Option(Path("runs/demo"), help="The run folder; a finished one is used as it is."),
    steps: int = typer.Option(SETTINGS.steps, help="Steps of the training."),
    views: int = typer.Option(SETTINGS.views, help="Phantom views that are drawn for it."),
) -> None:
    settings = Experiment.from_dict({**SETTINGS.to_dict(), "steps": steps, "views": views})
    finished = (run / "metrics.json").is_file()
    done = load_run(run) if finished else train(settings, run)
    shutil.rmtree(out, ignore_errors=True)
    (out / "films").mkdir(parents=True)
    for name in KEPT:
        (shutil.copytree if (run / name).is_dir() else shutil.copy)(run / name, out / name)
    root = Path(done.config["data"]["name"])
    shutil.copy(root / MARKER, out / "films" / MARKER)
    vectors, table = done.embeddings()
    table["file"] = ["films/" + Path(path).relative_to(root).as_posix() for path in table["path"]]
    write_embeddings(out, vectors, table.assign(path=table["file"]))
    ask = studies_to_ask_about(done, table)
    for row in ask.itertuples():
        (out / row.file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(row.path, out / row.file)
    ship_cases(done, table, out)
    facts = {"name": "phantoms", "phantoms": True}
    config = {**done.config, "command": ["python", "examples/train_demo.py"], "kind": "embedding"}
    config["data"] = {**config["data"], **facts}
    config["versions"].pop("platform", None)
    write_json(out / "config.json", config)
    files = sorted(file for file in out.rglob("*") if file.is_file())
    manifest = {
        "data": "PHANTOMS, drawn by siamura: they say nothing about patients",
        "script": "examples/train_demo.py",
        "seed": settings.seed,
        "valid": done.metrics["valid"]["study"]["knn"],
        "ask": ask["file"].tolist(),
        "files": {f.relative_to(out).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in files},
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    size = sum(file.stat().st_size for file in files) / 1e6
    kappa = manifest["valid"]["kappa"]
    print(
        f"{out}: {len(files)} files, {size:.1f} MB; PHANTOMS, kappa {kappa:.3f} per study on held-out patients."
    )


def train(run: Experiment, out: Path) -> Run:
    """Train as `siamura train` does; then measure anew the batch norms' statistics, which lag behind in this trunk."""
    folder = start_run(run, out)
    pre = run.preprocess()
    data = load_data(run, pre, folder)
    train, valid = data.splits["train"], data.splits["valid"]
    batches = siamura.samplers.PKBatchSampler(
        train.labels, p=run.p, k=run.k, groups=train.patients, seed=run.seed
    )
    net = siamura.EmbeddingNet(run.trunk, run.dim, preprocess=pre, seed=run.seed)
    loss = siamura.losses.TripletLoss(run.margin)
    history = siamura.fit(net, train, batches, loss, out=folder, **run.training(valid))
    renew_statistics(net, train, batches)
    net.save_pretrained(folder / "model")
    embeddings = {"train": siamura.embed(net, train), "valid": siamura.embed(net, valid)}
    return finish_run(run, folder, data, history, embeddings, loss)


def renew_statistics(
    net: siamura.EmbeddingNet, train: siamura.RadiographDataset, batches: Iterable[Any]
) -> None:
    """Set the batch norms' means and variances to those of one pass over batches, without a change of weights."""
    views = (torch.stack([torch.as_tensor(train[int(i)][0]) for i in batch]) for batch in batches)
    torch.optim.swa_utils.update_bn(views, net)
    net.eval()


def studies_to_ask_about(done: Run, table: pd.DataFrame) -> pd.DataFrame:
    """Of the validation studies of two views the first that is rightly abnormal, rightly normal, and wrong.

    The first two are taken where the neighbours do not all agree, so that there is an interval to be seen.
    """
    vectors, _ = done.embeddings()
    scored = table.assign(probability=done.heads()["knn"].predict_proba(vectors)[:, 1])
    groups = scored[scored["split"] == "valid"].groupby(["patient", "study"], sort=True)
    studies = groups.agg(
        views=("file", "size"), label=("label", "first"), probability=("probability", "mean")
    )
    studies = studies[studies["views"] == 2]
    right = (studies["probability"] > 0.5) == (studies["label"] == 1)
    some = studies["probability"].between(0.05, 0.95)
    kinds = (right & some & (studies["label"] == 1), right & some & (studies["label"] == 0), ~right)
    names = [studies.index[kind.to_numpy()][0] for kind in kinds if kind.any()]
    return pd.concat([groups.get_group(name) for name in names])


def ship_cases(done: Run, table: pd.DataFrame, out: Path) -> None:
    """Write one film of each of the first training patients, half of them abnormal, small; and their embeddings."""
    train = table[table["split"] == "train"].drop_duplicates("patient")
    chosen = pd.concat([train[train["label"] == code].head(CASES // 2) for code in (1, 0)]).sort_index()
    for row in chosen.itertuples():
        image = siamura.read_image(row.path)
        scale = SIDE / max(image.shape)
        size = [max(1, round(side * scale)) for side in image.shape[::-1]]
        (out / row.file).parent.mkdir(parents=True, exist_ok=True)
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
        cv2.imwrite(str(out / row.file), small, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    shipped = chosen.assign(path=[str(out / file) for file in chosen["file"]]).reset_index(drop=True)
    net = done.network()
    views = siamura.RadiographDataset(shipped, net.preprocess, progress=False)
    (out / "cases").mkdir()
    vectors = siamura.embed(net, views, progress=False)
    write_embeddings(out / "cases", vectors, shipped.assign(path=shipped["file"]))


if __name__ == "__main__":
    typer.run(main)
