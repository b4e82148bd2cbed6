"""Find the earlier cases most like a view of a finished run, and draw what each pair shares.

python examples/finger_tfl.py && python examples/similar_cases.py runs/finger_tfl
"""

from pathlib import Path

import typer

from siamura import CaseIndex, plots
from siamura.cli import cli_errors
from siamura.experiments import load_run
from siamura.explanation import embed_image, shared_maps


@cli_errors()
def main(
    run: Path = typer.Argument(Path("runs/finger_tfl"), help="Folder of a finished run."),
    view: int = typer.Option(0, help="Number of the validation view that is asked for."),
    k: int = typer.Option(5, help="Cases to find."),
    out: Path = typer.Option(Path("similar_cases.png"), help="The figure."),
) -> None:
    done = load_run(run)
    net = done.network()
    embeddings, table = done.embeddings()
    train = (table["split"] == "train").to_numpy()
    file = run / "cases.db"
    index = (CaseIndex.open if file.exists() else CaseIndex.create)(file, model=net)
    index.add(embeddings[train], table[train])  # an image that is there is updated
    if not 0 <= view < (~train).sum():
        raise ValueError(f"view={view} must be from 0 to {(~train).sum() - 1}.")
    query = table[~train].iloc[view]
    cases = index.search(embed_image(net, query["path"]), k, exclude_patient=query["patient"])
    print(cases[["rank", "distance", "label", "patient", "study", "path"]].to_string(index=False))
    data = "phantoms" if done.experiment.data is None else done.experiment.data
    pairs = [
        (a.downscaled(400), b.downscaled(400)) for a, b in shared_maps(net, query["path"], cases["path"])
    ]
    figure = plots.similar_cases(
        pairs[0][1][0],
        [case[0] for case, _ in pairs],
        cases["distance"],
        cases["label"],
        case_maps=[case[1] for case, _ in pairs],
        image_maps=[image[1] for _, image in pairs],
        note=f"Similar cases ({data}).",
    )
    figure.savefig(out)


if __name__ == "__main__":
    typer.run(main)
