"""Speed of siamura beside peers, measured in the same run: ``python -m benchmarks``."""
