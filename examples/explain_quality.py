"""Are a run's heat maps right? Measured on phantoms that it never saw, or on its validation views with --boxes.

Pointing game, box IoU, deletion and insertion, and the map after the weights are shuffled, each beside a baseline and
with a 95 % interval over patients. Some minutes on one core:

    python examples/finger_tfl.py && python examples/explain_quality.py runs/finger_tfl
"""

from pathlib import Path
from typing import Annotated

import typer

from siamura.cli import cli_errors, configure_logging
from siamura.experiments import explanation_figures, explanation_table, load_run


@cli_errors()
def main(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")] = Path("runs/finger_tfl"),
    boxes: Annotated[Path | None, typer.Option(help="The run's own: file, x0, y0, x1, y1.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the phantoms; not the run's.")] = 1001,
    views: Annotated[int, typer.Option(help="Phantoms to draw.")] = 300,
    method: Annotated[str, typer.Option(help="As of siamura.explain.")] = "layercam",
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs/explain_quality"),
) -> None:
    figures = explanation_figures(load_run(run), boxes=boxes, seed=seed, views=views, method=method)
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in figures.items():
        rows.to_csv(out / f"{name}.csv", index=False)
    (out / "tables.md").write_text(explanation_table(figures), encoding="utf-8")
    print(explanation_table(figures))


if __name__ == "__main__":
    configure_logging()
    typer.run(main)
