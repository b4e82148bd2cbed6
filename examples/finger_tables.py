"""Run the whole grid of system A and set it beside its published Tables 5.1 to 5.12.

Eight runs: ResNet-50 and DenseNet-169, with and without CLAHE, triplet and triplet focal loss, 256 and 128
dimensions. A finished run is kept, so a stopped grid continues. The quick setting (64 px, 120 steps) takes under
20 minutes on 2 cores and says that the code works, not how well the methods do. On MURA:

    python examples/finger_tables.py --data MURA-v1.1 --full --weights imagenet --lr 1e-4
"""

from pathlib import Path

import typer

from siamura.experiments import Experiment, finger_grid, finger_tables, one_sentence, run_grid, tell


def main(
    data: str | None = typer.Option(None, help="MURA folder; without it phantoms are drawn and used."),
    part: str = typer.Option("XR_FINGER", help="Body part."),
    full: bool = typer.Option(False, "--full", help="224 px and 5,000 steps instead of the quick setting."),
    weights: str | None = typer.Option(None, help="imagenet, or a file."),
    lr: float = typer.Option(1e-3, help="Highest learning rate."),
    seed: int = typer.Option(0, help="Seed."),
    out: Path = typer.Option(
        Path("runs/finger_tables"), help="Folder of the run folders; kept runs are found there."
    ),
) -> None:
    tell()
    size, steps = (224, 5000) if full else (64, 120)
    with one_sentence():
        base = Experiment(
            data=data, part=part, weights=weights, lr=lr, seed=seed, size=size, steps=steps, views=600
        )
        text = finger_tables(run_grid(finger_grid(base), out))
    (out / "tables.md").write_text(text, encoding="utf-8")
    typer.echo(text)


main.__doc__ = __doc__

if __name__ == "__main__":
    typer.run(main)
