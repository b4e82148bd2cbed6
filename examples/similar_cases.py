"""Find the earlier cases most like a view of a finished run, and draw what each pair shares.

python examples/finger_tfl.py && python examples/similar_cases.py runs/finger_tfl
"""

from pathlib import Path
from typing import Annotated

import typer

from siamura import CaseIndex, plots
from siamura.cli import cli_errors
from siamura.experiments import load_run
from siamura.explanation import embed_image, shared_maps


@cli_errors()
def main(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")] = Path("runs/finger_tfl"),
    k: Annotated[int, typer.Option(help="Cases to find.")] = 5, out: Path = Path("similar_cases.png"),
) -> None:  # fmt: skip
    done, file = load_run(run), run / "cases.db"
    net, (embeddings, table) = done.network(), done.embeddings()
    train = (table["split"] == "train").to_numpy()
    index = (CaseIndex.open if file.exists() else CaseIndex.create)(file, model=net)
    index.add(embeddings[train], table[train])  # an image that is there is updated
    query = table[~train].iloc[0]
    cases = index.search(embed_image(net, query["path"]), k, exclude_patient=query["patient"])
    print(cases[["rank", "distance", "label", "patient", "study", "path"]].to_string(index=False))
    maps = [(a.downscaled(400), b.downscaled(400)) for a, b in shared_maps(net, query["path"], cases["path"])]
    images, case_maps, image_maps = zip(*((a[0], a[1], b[1]) for a, b in maps), strict=True)
    data = "phantoms" if done.config["data"]["phantoms"] else done.config["data"]["name"]
    options = {"case_maps": case_maps, "image_maps": image_maps, "note": f"Similar cases ({data})."}
    plots.similar_cases(maps[0][1][0], images, cases["distance"], cases["label"], **options).savefig(out)


if __name__ == "__main__":
    typer.run(main)
