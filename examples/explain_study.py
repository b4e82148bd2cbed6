"""Explain every view of a study of a finished run: heat map, box, and what the score rests on.

python examples/finger_tfl.py && python examples/explain_study.py runs/finger_tfl
"""

from pathlib import Path

import typer

import siamura
from siamura.cli import cli_errors
from siamura.experiments import load_run
from siamura.report.tables import RESEARCH


@cli_errors()
def main(
    run: Path = typer.Argument(Path("runs/finger_tfl"), help="Folder of a finished run."),
    study: str = typer.Option("", help="PATIENT/STUDY; by default the surest of the validation studies."),
    method: str = typer.Option("layercam", help="As of siamura.explain: gradcam, smooth_gradcam, ..."),
    out: Path = typer.Option(Path("explained"), help="Folder for the figures."),
) -> None:
    done = load_run(run)
    net, head = done.network(), done.heads()["mlp"]
    embeddings, table = done.embeddings()
    table["probability"] = head.predict_proba(embeddings)[:, 1]
    table["name"] = table["patient"] + "/" + table["study"]
    studies = table[table["split"] == "valid"].groupby("name")["probability"].mean()
    views = table[table["name"] == (study or studies.idxmax())]
    if views.empty:
        raise typer.BadParameter(f"{study} is no study of this run; one is {studies.index[0]}.")
    what = "phantom, " if done.config["data"]["phantoms"] else ""
    out.mkdir(parents=True, exist_ok=True)
    for view in views.itertuples():
        seen = siamura.explain(net, view.path, head=head, method=method)
        file = out / f"{view.name.replace('/', '_')}_{Path(view.path).stem}.png"
        title = f"{what}{view.name}: abnormal {view.probability:.2f}"
        siamura.plots.heat_map(*seen.downscaled(), title=title, note=seen.description).savefig(file)
        print(f"{file}: label {view.label}, abnormal {view.probability:.2f}, boxes {seen.boxes.tolist()}")
    print(RESEARCH)


if __name__ == "__main__":
    typer.run(main)
