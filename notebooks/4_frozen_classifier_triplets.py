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
# # Frozen features, a classifier and triplets compared
#
# The same radiographs, the same trunk, three ways. Here the trunk starts at random, since no weights are fetched, and
# the radiographs are PHANTOMS: take `weights="imagenet"` or a file, and your own images, for an answer that means
# something.

# %%
# %matplotlib inline
import pandas as pd

import siamura
from siamura import evaluation
from siamura.networks import Classifier
from siamura.training import fit_classifier, predict_proba

VIEWS, TRUNK, SIZE, STEPS, WEIGHTS = 240, "resnet18", 64, 60, None

table = siamura.read_studies(siamura.make_phantoms("phantoms", views=VIEWS), part="XR_FINGER")
train, valid = siamura.train_valid(table)
pre = siamura.Preprocess(size=SIZE, clahe=siamura.CLAHE(clip_limit=2.0, tiles=(8, 8)))
data, data_valid = (siamura.RadiographDataset(t, pre, progress=False) for t in (train, valid))

# %% [markdown]
# ## 1. Frozen features
#
# What the trunk gives without training: nearest neighbours of other patients, and logistic regression.

# %%
frozen = siamura.EmbeddingNet(TRUNK, dim=64, weights=WEIGHTS, preprocess=pre, seed=0)
features, features_valid = (siamura.embed(frozen, part, progress=False) for part in (data, data_valid))
baseline = evaluation.frozen_baseline(features, data.table, features_valid, data_valid.table)
baseline.scores["value"].xs("auroc", level="metric")

# %% [markdown]
# ## 2. A classifier

# %%
classifier = Classifier(TRUNK, "mura", weights=WEIGHTS)
fit_classifier(classifier, data, steps=STEPS, batch_size=16, augment="flip", progress=False)
by_classifier = predict_proba(classifier, data_valid, progress=False)

# %% [markdown]
# ## 3. Triplets

# %%
net = siamura.EmbeddingNet(TRUNK, dim=64, weights=WEIGHTS, preprocess=pre, seed=0)
batches = siamura.samplers.PKBatchSampler(data.labels, p=2, k=8, groups=data.patients, seed=0)
siamura.fit(
    net, data, batches, siamura.losses.TripletLoss(margin=0.2), steps=STEPS, augment="flip", progress=False
)
emb, emb_valid = (siamura.embed(net, part, progress=False) for part in (data, data_valid))
head = siamura.KNNHead(k=15).fit(emb, data.labels)
by_triplets = head.predict_proba(emb_valid)[:, 1]

# %% [markdown]
# ## Compared
#
# Each with its interval over patients, and the difference paired by patients: where its interval holds 0, nothing shows
# that one is better.

# %%
ways = {"classifier": by_classifier, "triplets": by_triplets}
pd.concat(
    {name: siamura.evaluate(valid, p, level="study").loc[["kappa", "auroc"]] for name, p in ways.items()}
)

# %%
evaluation.compare(valid, by_triplets, by_classifier, level="study").loc[["kappa", "auroc"]]  # PHANTOMS

# %%
evaluation.compare_paired(valid, by_triplets, baseline.probability, metrics=["auroc"])

# %% [markdown]
# The embedding of the validation radiographs that the triplets made:

# %%
siamura.plots.embedding(emb_valid, data_valid.labels, method="pca", note="PHANTOMS")
