"""Explain every view of a study of a finished run: heat map, box, and what the score rests on.

python examples/finger_tfl.py && python examples/explain_study.py runs/finger_tfl
"""

from pathlib import Path
from typing import Annotated

import typer

import siamura
from siamura.cli import cli_errors
from siamura.experiments import load_run


@cli_errors()
def main(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")] = Path("runs/finger_tfl"),
    study: Annotated[str, typer.Option(help="PATIENT/STUDY; by default the surest one.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for the figures.")] = Path("explained"),
) -> None:
    done = load_run(run)
    net, head, (embeddings, table) = done.network(), done.heads()["mlp"], done.embeddings()
    table["probability"] = head.predict_proba(embeddings)[:, 1]
    table["name"] = table["patient"] + "/" + table["study"]
    studies = table[table["split"] == "valid"].groupby("name")["probability"].mean()
    out.mkdir(parents=True, exist_ok=True)
    for view in table[table["name"] == (study or studies.idxmax())].itertuples():
        seen = siamura.explain(net, view.path, head=head, method="layercam")
        file = out / f"{view.name.replace('/', '_')}_{Path(view.path).stem}.png"
        title = f"{'phantom ' * done.config['data']['phantoms']}{view.name}: abnormal {view.probability:.2f}"
        siamura.plots.heat_map(*seen.downscaled(), title=title, note=seen.description).savefig(file)
        print(f"{file}: label {view.label}, abnormal {view.probability:.2f}, boxes {seen.boxes.tolist()}")
    print("siamura is for research, not for diagnosis.")


if __name__ == "__main__":
    typer.run(main)
