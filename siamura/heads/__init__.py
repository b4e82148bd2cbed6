"""What turns embeddings into probabilities: k nearest neighbours and a small network.

Both heads are scikit-learn classifiers, so they stand in a ``Pipeline``, in ``cross_val_score`` and in
``GridSearchCV``. Importing this package loads neither faiss nor torch; the head that needs one does.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from .knn import KNNHead as KNNHead
    from .mlp import MLPHead as MLPHead

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "knn": ["KNNHead"],
        "mlp": ["MLPHead"],
    },
)
