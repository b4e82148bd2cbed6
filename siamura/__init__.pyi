from . import evaluation, explanation, losses, networks, pixels, plots, samplers, studies, training
from .demo import load_demo
from .evaluation import evaluate
from .experiments import Experiment, run, run_seeds
from .explanation import explain
from .heads import KNNHead, MLPHead
from .index import CaseIndex
from .inference import Predictor
from .networks import EmbeddingNet
from .pixels import CLAHE, Preprocess, RadiographDataset, read_image
from .studies import (
    make_phantoms,
    read_folders,
    read_mura,
    read_studies,
    read_table,
    split_patients,
    train_valid,
)
from .training import embed, fit

__version__: str

__all__ = [
    "CLAHE",
    "CaseIndex",
    "EmbeddingNet",
    "Experiment",
    "KNNHead",
    "MLPHead",
    "Predictor",
    "Preprocess",
    "RadiographDataset",
    "embed",
    "evaluate",
    "evaluation",
    "explain",
    "explanation",
    "fit",
    "load_demo",
    "losses",
    "make_phantoms",
    "networks",
    "pixels",
    "plots",
    "read_folders",
    "read_image",
    "read_mura",
    "read_studies",
    "read_table",
    "run",
    "run_seeds",
    "samplers",
    "split_patients",
    "studies",
    "train_valid",
    "training",
]
