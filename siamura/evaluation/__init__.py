"""How good the answers are, and how sure one can be of that.

Every score comes with an interval from a bootstrap over patients: views and studies of one patient are not
independent, patients are.
"""

from .aggregation import aggregate
from .auditing import Audit, audit, audit_labels, audit_patients
from .baselines import baseline_scores, trivial_baselines, trivial_features
from .calibration import IsotonicCalibration, TemperatureScaling, calibrate, calibrator_from_dict
from .comparison import compare, delong, mcnemar, pairwise_kappa
from .curves import pr_curve, reliability, roc_curve
from .frozen import FrozenBaseline, compare_paired, frozen_baseline
from .intervals import bca_interval, bootstrap, interval, inverted_interval, patient_draws
from .metrics import METRICS, score_draws
from .multiclass import class_draws, one_vs_rest
from .near_duplicates import compare_pictures, near_duplicates
from .net_benefit import net_benefit
from .operating import fit_operating_point, out_of_fold_probability
from .operating_point import OperatingPoint
from .retrieval import embedding_quality
from .scores import evaluate
from .seeds import compare_seeds, mean_probability, seed_scores
from .study_rules import compare_study_rules
from .worklist import threshold_for_sensitivity, work_list, work_list_gain

__all__ = [
    "METRICS",
    "Audit",
    "FrozenBaseline",
    "IsotonicCalibration",
    "OperatingPoint",
    "TemperatureScaling",
    "aggregate",
    "audit",
    "audit_labels",
    "audit_patients",
    "baseline_scores",
    "bca_interval",
    "bootstrap",
    "calibrate",
    "calibrator_from_dict",
    "class_draws",
    "compare",
    "compare_paired",
    "compare_pictures",
    "compare_seeds",
    "compare_study_rules",
    "delong",
    "embedding_quality",
    "evaluate",
    "fit_operating_point",
    "frozen_baseline",
    "interval",
    "inverted_interval",
    "mcnemar",
    "mean_probability",
    "near_duplicates",
    "net_benefit",
    "one_vs_rest",
    "out_of_fold_probability",
    "pairwise_kappa",
    "patient_draws",
    "pr_curve",
    "reliability",
    "roc_curve",
    "score_draws",
    "seed_scores",
    "threshold_for_sensitivity",
    "trivial_baselines",
    "trivial_features",
    "work_list",
    "work_list_gain",
]
