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
    },
)
