"""Run the whole grid of system A and set it beside its published Tables 5.1 to 5.12.

Eight runs: ResNet-50 and DenseNet-169, with and without CLAHE, triplet and triplet focal loss, 256 and 128
dimensions. A finished run is kept, so a stopped grid continues. The quick setting (64 px, 120 steps) takes under
20 minutes on 2 cores and says that the code works, not how well the methods do. On MURA:

    python examples/finger_tables.py --data MURA-v1.1 --full --weights imagenet
"""

from pathlib import Path

import typer

from siamura.cli import cli_errors, configure_logging
from siamura.cli.arguments import Columns, Data, Full, Out, Part, Positive, Seed, Weights
from siamura.experiments import Experiment, finger_grid, finger_tables, run_grid


@cli_errors()
def main(
    data: Data = None, columns: Columns = None, positive: Positive = None, part: Part = "XR_FINGER",
    full: Full = False, weights: Weights = None, seed: Seed = 0, out: Out = Path("runs/finger_tables"),
) -> None:  # fmt: skip
    size, steps, lr = (224, 5000, 1e-4) if full else (64, 120, 1e-3)
    base = Experiment(
        data=data, columns=columns, positive=positive, part=part, weights=weights, size=size, steps=steps, lr=lr,
        seed=seed, views=600, calibration_share=0.0,
    )  # fmt: skip
    text = finger_tables(run_grid(finger_grid(base), out))
    (out / "tables.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    configure_logging()
    typer.run(main)
