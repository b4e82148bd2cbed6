"""Reproduce the finger experiment: triplet focal loss on a Siamese DenseNet-169 (system A).

Without --data it draws phantoms, which show that the pipeline works and nothing about patients. On MURA:

    python examples/finger_tfl.py --data MURA-v1.1 --size 224 --steps 5000 --weights imagenet --lr 1e-4
"""

from pathlib import Path

import typer

import siamura
from siamura.cli import settings_command
from siamura.experiments import Experiment, Run, build_network, draw_batches, finish_run, load_data, start_run


# System A trained on every training patient; --calibration-share 0.2 holds some back for the operating point.
@settings_command(Experiment(loss="triplet_focal", calibration_share=0.0), out="runs/finger_tfl")
def main(run: Experiment, out: Path, *, overwrite: bool, resume: bool) -> Run:
    folder = start_run(run, out, overwrite=overwrite, resume=resume)
    pre = run.preprocess()  # size, CLAHE
    data = load_data(run, pre, folder)  # studies read, checked, split by patient, preprocessed
    train, valid = data.splits["train"], data.splits["valid"]
    batches = draw_batches(
        run, train.table
    )  # P labels, K images of each; with weights more of the frequent class
    net = build_network(run, pre, boxes=data.boxes)  # an EmbeddingNet; with weights half frozen
    loss = siamura.losses.TripletFocalLoss(run.margin, sigma=run.sigma)
    options = run.training(valid, data.boxes)
    history = siamura.fit(net, train, batches, loss, out=folder, resume=resume, **options)
    embeddings = {split: siamura.embed(net, views) for split, views in data.splits.items()}
    return finish_run(run, folder, data, history, embeddings, loss)  # heads, figures, table, page


if __name__ == "__main__":
    typer.run(main)
