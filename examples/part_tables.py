"""Systems B and D: trunks compared on all parts, and one model per part, beside their published tables.

A finished model is kept, so a stopped grid continues. The quick setting (64 px, from scratch, no NASNet) takes under
20 minutes on 2 cores and says that the code works, not how well the methods do. On MURA, with the extra [timm]:

    python examples/part_tables.py --data MURA-v1.1 --full --weights imagenet
"""

from pathlib import Path

import typer

from siamura.cli import cli_errors, configure_logging
from siamura.cli.arguments import Columns, Data, Full, Out, Positive, Seed, Weights
from siamura.experiments import ClassifierExperiment, classifier_tables, part_grid, run_grid, trunk_grid


@cli_errors()
def main(
    data: Data = None, columns: Columns = None, positive: Positive = None, full: Full = False,
    weights: Weights = None, seed: Seed = 0, out: Out = Path("runs/part_tables"),
) -> None:  # fmt: skip
    size, epochs, augment = (224, 10, "keras") if full else (64, 6, "none")
    base = ClassifierExperiment(
        data=data, columns=columns, positive=positive, weights=weights, seed=seed, size=size, epochs=epochs,
        augment=augment, views=120, calibration_share=0.0,
    )  # fmt: skip
    runs = run_grid({**trunk_grid(base), **part_grid(base, nasnet=full)}, out)
    text = classifier_tables(runs, "BD", "Systems B and D")
    (out / "tables.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    configure_logging()
    typer.run(main)
