"""Batch samplers for metric learning."""

from .pk import PKBatchSampler

__all__ = ["PKBatchSampler"]
