"""Which loss? Every loss on two trunks and two widths, and a supervised classifier, on the same images.

A finished run is kept, so a stopped comparison continues. Sixty-six runs take two hours on 2 cores; `--seeds 0` takes a
third of that. Without `--data` phantoms are drawn and used, which says nothing about patients. On your own:

    python examples/loss_table.py --data MURA-v1.1 --part XR_WRIST
"""

from pathlib import Path
from typing import Annotated

import typer

from siamura.cli import cli_errors, configure_logging
from siamura.cli.arguments import Columns, Data, Out, Part, Positive, Weights
from siamura.experiments import Experiment, compared, loss_grid, loss_table, run_grid


@cli_errors()
def main(
    data: Data = None, columns: Columns = None, positive: Positive = None, part: Part = "XR_FINGER",
    weights: Weights = None, out: Out = Path("runs/loss_table"),
    size: Annotated[int, typer.Option(help="Side of the square, in pixels.")] = 96,
    steps: Annotated[int, typer.Option(help="Batches to train on.")] = 200,
    seeds: Annotated[str, typer.Option(help="Seeds, comma-separated.")] = "0,1,2",
) -> None:  # fmt: skip
    base = Experiment(
        data=data, columns=columns, positive=positive, part=part, weights=weights, size=size, steps=steps, k=8,
        calibration_share=0.0,
    )  # fmt: skip
    runs = run_grid(loss_grid(base, seeds=[int(seed) for seed in seeds.split(",")]), out)
    compared(runs).to_csv(out / "cells.csv", index=False)
    (out / "tables.md").write_text(text := loss_table(runs), encoding="utf-8")
    print(text)


if __name__ == "__main__":
    configure_logging()
    typer.run(main)
