"""What turns embeddings into probabilities: k nearest neighbours, a small network, attention over views.

The first two are scikit-learn classifiers, so they stand in a ``Pipeline``, in ``cross_val_score`` and in
``GridSearchCV``. Importing this package loads neither faiss nor torch; the head that needs one does.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from .attention import StudyAttention as StudyAttention
    from .knn import KNNHead as KNNHead
    from .mlp import MLPHead as MLPHead

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "attention": ["StudyAttention"],
        "knn": ["KNNHead"],
        "mlp": ["MLPHead"],
    },
)
