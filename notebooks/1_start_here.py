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
# # Start here
#
# A study read by the network that comes with siamura: no training, no network connection. It was trained on PHANTOMS,
# radiographs that siamura draws, and says nothing about patients. siamura is for research, not for diagnosis.

# %%
# %matplotlib inline
import siamura

demo = siamura.load_demo()
demo

# %% [markdown]
# Three studies can be asked about. The first one was drawn as abnormal.

# %%
demo.studies

# %%
answer = demo.read()
print(answer.sentence)
answer.cases[["rank", "distance", "finding", "patient", "study"]]

# %% [markdown]
# The same as a picture: the views, where the score comes from, the probability with its interval, the nearest cases.

# %%
demo.draw()

# %% [markdown]
# The steps one by one. An image becomes a vector, and vectors become probabilities:

# %%
image = siamura.read_image(demo.films[0])
vector = demo.predictor.embed([image])
demo.predictor.answers(demo.predictor.probability(vector))  # PHANTOMS

# %%
seen = siamura.explain(demo.predictor.net, image, head=demo.predictor.heads["mlp"])
siamura.plots.heat_map(*seen.downscaled(), title="PHANTOM", note=seen.description)

# %% [markdown]
# How good is it? On phantom patients that it has not seen, with 95 % intervals over patients:

# %%
figures = demo.facts["valid"]
figures["kappa"], figures["interval"]["kappa"], figures["patients"]
