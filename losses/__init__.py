"""Metric-learning losses, exact and fast."""
