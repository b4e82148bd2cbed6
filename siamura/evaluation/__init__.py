"""How good the answers are, and how sure one can be of that.

Every score comes with an interval from a bootstrap over patients: views and studies of one patient are not
independent, patients are.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "scores": ["evaluate"],
        "aggregation": ["aggregate"],
        "metrics": ["METRICS", "score_draws"],
        "intervals": ["interval", "patient_draws"],
        "comparison": ["compare", "delong", "mcnemar", "pairwise_kappa"],
        "calibration": ["IsotonicCalibration", "TemperatureScaling", "calibrate", "calibrator_from_dict"],
        "curves": ["pr_curve", "reliability", "roc_curve"],
        "worklist": ["threshold_for_sensitivity", "work_list", "work_list_gain"],
        "retrieval": ["embedding_quality"],
        "baselines": ["baseline_scores", "trivial_baselines", "trivial_features"],
    },
)
