"""All that siamura.losses takes from pytorch-metric-learning, in one place."""

from pytorch_metric_learning.distances import CosineSimilarity, DotProductSimilarity, LpDistance
from pytorch_metric_learning.losses import CrossBatchMemory as PMLCrossBatchMemory
from pytorch_metric_learning.losses.base_metric_loss_function import BaseMetricLossFunction
from pytorch_metric_learning.reducers import (
    AvgNonZeroReducer,
    MeanReducer,
    MultipleReducers,
    SumReducer,
)
from pytorch_metric_learning.utils.distributed import DistributedLossWrapper
from pytorch_metric_learning.utils.loss_and_miner_utils import (
    convert_to_triplets,
    get_random_triplet_indices,
)

__all__ = [
    "AvgNonZeroReducer",
    "BaseMetricLossFunction",
    "CosineSimilarity",
    "DistributedLossWrapper",
    "DotProductSimilarity",
    "LpDistance",
    "MeanReducer",
    "MultipleReducers",
    "PMLCrossBatchMemory",
    "SumReducer",
    "convert_to_triplets",
    "get_random_triplet_indices",
]
