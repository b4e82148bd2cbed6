from .callbacks import Averaging, CollapseWarning, CollapseWatch
from .classifier import fit_classifier, study_weights
from .embedding import embed
from .ensembles import Ensemble, train_ensemble
from .metric import fit
from .prediction import predict_proba

__all__ = [
    "Averaging",
    "CollapseWarning",
    "CollapseWatch",
    "Ensemble",
    "embed",
    "fit",
    "fit_classifier",
    "predict_proba",
    "study_weights",
    "train_ensemble",
]
