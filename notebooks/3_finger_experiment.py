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
# # The finger experiment of system A, cell by cell
#
# Triplet focal loss on a Siamese network, on PHANTOMS; `siamura train` does all of this in one command. The sizes here
# take minutes on two cores. `make reproduce` takes DenseNet-169 and 400 steps.

# %%
# %matplotlib inline
import siamura

VIEWS, TRUNK, SIZE, STEPS = 240, "resnet18", 64, 60

root = siamura.make_phantoms("phantoms", views=VIEWS)  # or your MURA-v1.1 folder
table = siamura.read_studies(root, part="XR_FINGER")
train, valid = siamura.train_valid(table)
siamura.plots.class_counts(table, note="PHANTOMS")

# %% [markdown]
# Images become squares with CLAHE, once, and are kept in the cache.

# %%
pre = siamura.Preprocess(size=SIZE, clahe=siamura.CLAHE(clip_limit=2.0, tiles=(8, 8)))
data, data_valid = (siamura.RadiographDataset(t, pre, progress=False) for t in (train, valid))
data

# %% [markdown]
# A batch holds P labels and K images of each, each image of another patient where there are enough.

# %%
batches = siamura.samplers.PKBatchSampler(data.labels, p=2, k=8, groups=data.patients, seed=0)
net = siamura.EmbeddingNet(TRUNK, dim=64, preprocess=pre, seed=0)
loss = siamura.losses.TripletFocalLoss(margin=0.2, sigma=1.0)
history = siamura.fit(net, data, batches, loss, steps=STEPS, progress=False)
siamura.plots.loss_curves(history, note="PHANTOMS")

# %% [markdown]
# Embeddings, and two heads on them:

# %%
emb, emb_valid = (siamura.embed(net, part, progress=False) for part in (data, data_valid))
knn = siamura.KNNHead(k=15).fit(emb, data.labels, groups=data.patients)
mlp = siamura.MLPHead(random_state=0).fit(emb, data.labels)
scores = {
    name: siamura.evaluate(valid, head.predict_proba(emb_valid)[:, 1], level="study")
    for name, head in (("k-NN", knn), ("MLP", mlp))
}
scores["k-NN"].loc[["accuracy", "kappa", "auroc"]].round(3)  # PHANTOMS, 95 % intervals over patients

# %% [markdown]
# Read the interval before the value. The embedding, and where one radiograph's score comes from:

# %%
siamura.plots.embedding(emb_valid, data_valid.labels, method="pca", note="PHANTOMS")

# %%
seen = siamura.explain(net, valid["path"].iloc[0], head=mlp)
siamura.plots.heat_map(*seen.downscaled(), title="PHANTOM", note=seen.description)
