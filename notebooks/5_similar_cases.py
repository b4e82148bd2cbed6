# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Similar cases
#
# A radiologist who doubts a score asks for precedents. The network and the cases here are those of the demo: PHANTOMS.

# %%
# %matplotlib inline
from pathlib import Path

import siamura
from siamura.explanation import embed_image, shared_maps

demo = siamura.load_demo()
net = demo.predictor.net
demo.cases

# %%
query = demo.table.iloc[0]
found = demo.cases.search(embed_image(net, query["path"]), k=4, exclude_patient=query["patient"])
found[["rank", "distance", "label", "patient", "study"]]

# %% [markdown]
# What each pair shares: what of the case looks like the image, and what of the image looks like the case.

# %%
pairs = [(a.downscaled(300), b.downscaled(300)) for a, b in shared_maps(net, query["path"], found["path"])]
siamura.plots.similar_cases(
    pairs[0][1][0],
    [case[0] for case, _ in pairs],
    found["distance"],
    found["label"],
    case_maps=[case[1] for case, _ in pairs],
    image_maps=[image[1] for _, image in pairs],
    note="PHANTOMS",
)

# %% [markdown]
# ## An index of your own
#
# One SQLite file, or PostgreSQL by URL. Whatever columns the table has can be asked for.

# %%
Path("own.db").unlink(missing_ok=True)
index = siamura.CaseIndex.create("own.db", model=net)
cases = demo.cases.table.assign(age=range(20, 20 + len(demo.cases)))
index.add(demo.cases.embeddings(), cases)
index.search(embed_image(net, query["path"]), k=3, where={"age": (40, 60)})[
    ["rank", "distance", "age", "label"]
]

# %% [markdown]
# A whole study at once: its views together, and studies as the answer.

# %%
views = demo.views()
vectors = demo.predictor.embed([siamura.read_image(path) for path in views["path"]])
index.search(vectors, k=3, studies="mean")[["rank", "distance", "patient", "study", "views"]]

# %% [markdown]
# Consent withdrawn: a patient's cases are overwritten.

# %%
index.delete(patient=cases["patient"].iloc[0]), len(index)
