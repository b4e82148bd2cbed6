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
# # Your own CSV, and DICOM
#
# Here the radiographs are PHANTOMS, laid out as a person would have them. Put the path of your own table in their
# place.

# %%
# %matplotlib inline
import pandas as pd

import siamura

root = siamura.make_phantoms("phantoms", views=120, parts=("XR_HAND",))
films = siamura.read_mura(root)
own = pd.DataFrame(
    {
        "file": films["path"],
        "finding": films["label"].map({0: "normal", 1: "fracture"}),
        "person": films["patient"],
        "region": "Hand",
    }
)
own.to_csv("films.csv", index=False)
own.head(3)

# %% [markdown]
# One function reads it. Say which column is which, and which label is the positive one.

# %%
table = siamura.read_studies(
    "films.csv",
    columns={"file": "path", "finding": "label", "person": "patient", "region": "part"},
    positive="fracture",
)
table.attrs["source"]

# %%
siamura.studies.describe(table)

# %%
siamura.studies.problems(table)  # missing or doubtful files; none here

# %% [markdown]
# Train and valid by patients: nobody is in both.

# %%
train, valid = siamura.train_valid(table, seed=0)
print(valid.attrs["split"]["sentence"])

# %% [markdown]
# What the network will see, before and after CLAHE:

# %%
pre = siamura.Preprocess(size=96, clahe=siamura.CLAHE(clip_limit=2.0, tiles=(8, 8)))
images = [siamura.read_image(path) for path in train["path"][:2]]
plain = siamura.Preprocess(size=96)
siamura.plots.clahe_pairs([plain(i) for i in images], [pre(i) for i in images], note="PHANTOMS")

# %% [markdown]
# ## DICOM
#
# A folder of DICOM files is read the same way (`pip install "siamura[dicom]"`): the window is applied, MONOCHROME1 is
# inverted, and names of persons are replaced by salted hashes. Labels come from a table of your own. One file is
# written here to have something to read.

# %%
from pathlib import Path

import pydicom
from pydicom.uid import ExplicitVRLittleEndian

made = pydicom.Dataset()
made.file_meta = pydicom.dataset.FileMetaDataset()
made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.99.1.1"
made.Modality, made.PatientID, made.StudyInstanceUID, made.BodyPartExamined = (
    "DX",
    "p1",
    "1.2.840.99.1",
    "HAND",
)
made.set_pixel_data(images[0], "MONOCHROME2", 8)
Path("archive").mkdir(exist_ok=True)
made.save_as("archive/film.dcm", enforce_file_format=True)

# %%
siamura.studies.read_dicom_folder("archive", salt="a secret of yours")

# %%
siamura.read_image("archive/film.dcm").shape
