"""Systems C and E: InceptionV3 and DenseNet-121 on the humerus, beside their published figures.

The quick setting (80 px, from scratch) takes minutes on 2 cores and says that the code works. On MURA:

    python examples/humerus.py --data MURA-v1.1 --full --weights imagenet
"""

from dataclasses import replace
from pathlib import Path

import typer

from siamura.cli import cli_errors, configure_logging
from siamura.cli.arguments import Columns, Data, Full, Out, Positive, Seed, Weights
from siamura.experiments import ClassifierExperiment, classifier_tables, run_grid, system_c, system_e


@cli_errors()
def main(
    data: Data = None, columns: Columns = None, positive: Positive = None, full: Full = False,
    weights: Weights = None, seed: Seed = 0, out: Out = Path("runs/humerus"),
) -> None:  # fmt: skip
    own = {"data": data, "columns": columns, "positive": positive}
    own |= {"calibration_share": 0.0}  # the published systems trained on every training patient
    base = ClassifierExperiment(**own, weights=weights, seed=seed, size=80, epochs=14, views=800)
    c, e = system_c(base), system_e(base)
    if full:
        c, e = replace(c, size=150, epochs=30), replace(e, size=224, epochs=40)
    runs = run_grid({"C-inception_v3": c, "E-densenet121": e}, out)
    text = classifier_tables(runs, "CE", "Systems C and E")
    (out / "tables.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    configure_logging()
    typer.run(main)
